"""A ledger is made as a whole or made again; one whose database is gone is not made (S-52, S-63)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from helmr.errors import LedgerBehind
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.log.files import LOG_SUFFIX, MARK_SUFFIX, WAL_SUFFIX
from helmr_runtime.ledger.log.merging import SUFFIX
from helmr_runtime.ledger.open import open_ledger
from tests.ledger.sessions import SMALL, running
from tests.ledger.test_restart import killed

pytestmark = pytest.mark.allows_blocking


@pytest.mark.parametrize("left", [b"", bytes(12_288), b"half of a header"])
async def test_what_a_loss_of_power_left_of_its_making_is_made_again(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, left: bytes
) -> None:
    for suffix, data in (
        ("", left),
        (WAL_SUFFIX, b"torn"),
        (LOG_SUFFIX, bytes(100)),
        (SUFFIX, b""),
    ):
        file = path.with_name(path.name + suffix)
        file.write_bytes(data)
        file.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        ledger = await open_ledger(path, clock=clock, settings=SMALL)
    assert "begun again" in caplog.text
    hand = await running(ledger, clock)
    await ledger.close()
    assert not path.with_name(path.name + SUFFIX).exists()
    again = await open_ledger(path, clock=clock, settings=SMALL)
    assert await again.verify_chain(hand.session_id) == hand.seq
    await again.close()


async def test_nothing_is_begun_again_of_a_ledger_that_was_acknowledged(
    path: Path, clock: FakeClock, tmp_path: Path
) -> None:
    """Whoever puts that file there: the head mark says that something was."""
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    await ledger.close()
    path.with_name(path.name + SUFFIX).touch(0o600)
    again = await open_ledger(path, clock=clock, settings=SMALL)
    assert await again.verify_chain(hand.session_id) == hand.seq
    await again.close()


@pytest.mark.parametrize("gone", [(), (MARK_SUFFIX,), (MARK_SUFFIX, WAL_SUFFIX)])
async def test_a_ledger_whose_database_is_gone_is_refused_and_none_is_made(
    path: Path, clock: FakeClock, tmp_path: Path, gone: tuple[str, ...]
) -> None:
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    await running(ledger, clock)
    copy = killed(path, tmp_path / "killed")
    await ledger.close()
    for suffix in ("", *gone):
        copy.with_name(copy.name + suffix).unlink()
    left = {file.name: file.read_bytes() for file in copy.parent.iterdir()}
    for _ in range(2):
        with pytest.raises(LedgerBehind, match="is gone") as caught:
            await open_ledger(copy, clock=clock, settings=SMALL)
        assert caught.value.hint
    after = {f.name: f.read_bytes() for f in copy.parent.iterdir() if not f.name.endswith(".lock")}
    assert after == left
