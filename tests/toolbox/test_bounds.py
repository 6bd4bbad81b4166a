"""What commits beside a backup wait for, and what whole ledgers take (S-66…S-69)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest

from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.service.exports import Backups
from tests.ledger.sessions import SMALL, start_of
from tests.toolbox.bounds.__main__ import ADDED_MAX_MS, VERIFY_MAX_S
from tests.toolbox.bounds.commits import Compared, beside_backup, beside_pruning
from tests.toolbox.bounds.ledgers import built
from tests.toolbox.bounds.verifying import verified

pytestmark = pytest.mark.allows_blocking


async def test_no_commit_waits_for_a_page_that_the_database_has(
    path: Path, keys: LedgerKeys, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[int] = []
    merge = Database.merge

    def counted(self: Database) -> None:
        merged.append(self.merged_offset)
        merge(self)

    ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    monkeypatch.setattr("helmr_runtime.ledger.tables.reads.PAGE_ENTRIES", 40)
    monkeypatch.setattr("helmr_runtime.ledger.copied_ledger.PAGE_ENTRIES", 40)
    monkeypatch.setattr(Database, "merge", counted)
    await _read(ledger)
    assert merged == [], "nothing was committed since the ledger was opened"
    head = ledger.index.head_offset
    await ledger.start(start_of())
    page = await ledger.copied_rows(0, ledger.index.head_offset)
    assert merged == []
    assert 0 < page.through <= 40 < head < ledger.index.head_offset
    assert await _read(ledger) == ledger.index.head_offset
    assert merged == [head], "for the page with the newest entries"
    await ledger.close()


async def _read(ledger: DuckLedger) -> int:
    """A backup beside commits; how many entries it has."""
    pieces = [one async for one in await Backups(cast(LedgerClient, ledger), "0").stream()]
    return sum(piece.count(b'["e",') for piece in pieces)


# --- on a quiet machine -------------------------------------------------------------------------------


@pytest.mark.perf
async def test_a_million_entries_are_verified_in_half_a_minute(tmp_path: Path) -> None:
    found = verified(await built(tmp_path, 1_000_000))
    assert found.entries > 990_000
    assert found.took_s < VERIFY_MAX_S


@pytest.mark.perf
@pytest.mark.parametrize("measure", [beside_backup, beside_pruning])
async def test_no_commit_waits_over_100_ms_more(
    tmp_path: Path, measure: Callable[[Path, int], Awaitable[Compared]]
) -> None:
    found = await measure(await built(tmp_path, 300_000), 10)
    assert found.done > 10
    assert found.added_ms <= ADDED_MAX_MS, found
