"""A ledger that is opened while its disk is full has lost nothing, and needs nothing but room."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from helmr.errors import StoreUnavailable
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.actor import LedgerActor
from tests.ledger.sessions import SMALL, begin
from tests.small_disk import fill, small_disk

pytestmark = pytest.mark.allows_blocking

OPENINGS = 50
"""Each takes some room for a line of its own; no more fit into what is left of the last page."""


async def test_an_opening_on_a_full_disk_says_to_make_room_until_there_is_some(
    tmp_path: Path, clock: FakeClock
) -> None:
    with small_disk(tmp_path / "disk") as folder:
        path = folder / "ledger.duckdb"

        async def opened() -> LedgerActor:
            ledger = LedgerActor(path, clock=clock, settings=SMALL)
            try:
                await ledger.open()
            except BaseException:
                await ledger.close()
                raise
            return ledger

        ledger = await opened()
        hand = await begin(ledger, clock)
        await ledger.close()
        ballast = fill(folder)
        refusals: list[StoreUnavailable] = []
        for _ in range(OPENINGS):
            try:
                ledger = await opened()
                await begin(ledger, clock)
            except StoreUnavailable as error:
                refusals.append(error)
            with suppress(StoreUnavailable):
                await ledger.close()
            if len(refusals) == 2:
                break
        for refused in refusals:
            told = f"{refused.message} {refused.hint}"
            assert "repair" not in told
            assert "backup" not in told
        assert any("Make room" in (refused.hint or "") for refused in refusals), refusals
        ballast.unlink()
        ledger = await opened()
        await ledger.load(hand.session_id, "slot-1")
        await ledger.close()
