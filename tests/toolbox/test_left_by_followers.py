"""What 0.7 and earlier left of followers is read: a promoted ledger, a copy, a primary that met its successor (S-68).

The files are those that 0.7.0 wrote (`tests/fixtures/ledger_0_7_0`).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from helmr.errors import LedgerDamaged, LedgerSuperseded, UsageError
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import look_before_start, open_ledger
from helmr_runtime.ledger.tables.recovery import WHOLE_FROM
from helmr_runtime.ledger.tools.audit import audit
from helmr_runtime.ledger.tools.repair import repair
from helmr_runtime.security.keys import read_key_ring
from tests.fixtures.earlier import HERE
from tests.ledger.facts import create_token
from tests.ledger.sessions import SMALL, start_of
from tests.toolbox.conftest import keys_of_a_follower, left_by_a_follower

pytestmark = pytest.mark.allows_blocking

FOLDER = HERE / "ledger_0_7_0"
MADE: dict[str, Any] = json.loads((FOLDER / "made.json").read_text())
SESSIONS: dict[str, str] = MADE["sessions"]
NOW = datetime.fromisoformat(MADE["made_at"]) + timedelta(minutes=1)


@pytest.fixture
def keys(tmp_path: Path) -> LedgerKeys:
    return LedgerKeys(read_key_ring(keys_of_a_follower(tmp_path), {}))


async def opened(path: Path, keys: LedgerKeys) -> DuckLedger:
    look_before_start(path, keys.ring)
    return await open_ledger(path, clock=FakeClock(NOW), settings=SMALL, ring=keys.ring)


async def goes_on(path: Path, keys: LedgerKeys) -> DuckLedger:
    """The ledger, open: it has what the primary had then, and takes more."""
    ledger = await opened(path, keys)
    there = {one["id"] for one in (await ledger.list_sessions(limit=200))["items"]}
    assert there == {SESSIONS["over"], SESSIONS["waits"]}
    waits = await ledger.load(SESSIONS["waits"], "slot-1")
    assert waits.checkpoint is not None or waits.entries
    assert (await ledger.start(start_of())).created
    return ledger


def whole(path: Path, keys: LedgerKeys) -> None:
    with stored_ledger(path) as stored:
        audit(stored, keys, NOW)


async def test_a_promoted_ledger_opens_and_goes_on(tmp_path: Path, keys: LedgerKeys) -> None:
    path = left_by_a_follower(tmp_path, "promoted")
    whole(path, keys)
    ledger = await goes_on(path, keys)
    assert ledger.index.generation == 2
    (said,) = [
        one
        for one in await ledger.entries_after(MADE["head"], 100)
        if one.kind == "ledger.promoted"
    ]
    assert said.body == {"generation": 2, "after": MADE["head"], "reason": "a drill"}
    await ledger.close()
    whole(path, keys)


async def test_a_copy_is_opened_once_it_was_repaired(tmp_path: Path, keys: LedgerKeys) -> None:
    path = left_by_a_follower(tmp_path, "copy")
    with pytest.raises(UsageError, match="a follower's copy") as refused:
        look_before_start(path, keys.ring)
    assert "helmr repair" in (refused.value.hint or "")
    with pytest.raises(UsageError, match="a follower's copy"):
        await open_ledger(path, clock=FakeClock(NOW), settings=SMALL, ring=keys.ring)
    done = repair(path, keys, NOW)
    assert done.damage == "a follower's copy, which has no tables"
    assert (done.dropped_entries, done.checked.through) == (0, MADE["head"])
    assert done.kept is not None
    assert done.kept.exists()
    ledger = await goes_on(path, keys)
    await ledger.close()
    whole(path, keys)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        pytest.param("INSERT INTO meta VALUES ('whole_from', 1000)", UsageError, id="not whole"),
        pytest.param("DELETE FROM entries", UsageError, id="empty"),
        pytest.param(
            "UPDATE entries SET body = '{}' WHERE feed_offset = 3", LedgerDamaged, id="changed"
        ),
    ],
)
async def test_no_other_copy_is_made_a_ledger(
    changed: str, error: type[Exception], tmp_path: Path, keys: LedgerKeys
) -> None:
    path = left_by_a_follower(tmp_path, "copy")
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"DELETE FROM meta WHERE name = '{WHOLE_FROM}'")
        connection.execute(changed)
    with pytest.raises(error):
        repair(path, keys, NOW)
    with pytest.raises(UsageError, match="a follower's copy"):
        look_before_start(path, keys.ring)
    assert [one.name for one in path.parent.glob("*before-repair*")] == []


async def test_a_superseded_primary_is_read_and_acknowledges_nothing(
    tmp_path: Path, keys: LedgerKeys
) -> None:
    path = left_by_a_follower(tmp_path, "superseded")
    for _ in range(2):  # also when it was opened before
        ledger = await opened(path, keys)
        head = ledger.index.head_offset
        assert (await ledger.get_session(SESSIONS["lost"]))["id"] == SESSIONS["lost"]
        assert "superseded by its generation 2" in (await ledger.stats())["failure"]
        for refused in (
            ledger.start(start_of()),
            ledger.load(SESSIONS["waits"], "slot-1"),
            ledger.fact(create_token()),
        ):
            with pytest.raises(LedgerSuperseded) as said:
                await refused
            assert "of that runtime" in (said.value.hint or "")
        assert ledger.index.head_offset == head
        await ledger.close()
    with stored_ledger(path) as stored:
        assert stored.count() > MADE["head"]
