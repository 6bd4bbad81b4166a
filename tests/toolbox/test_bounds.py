"""What commits beside a backup wait for, and what whole ledgers take (S-66…S-69)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import cast

import pytest

from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.duck.database import Database
from helmr_runtime.ledger.duck.ledger import DuckLedger
from helmr_runtime.ledger.duck.offline import Keys
from helmr_runtime.ledger.duck.open import open_ledger
from helmr_runtime.ports.copies import CopyPosition
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.service.backups import Backups
from tests.ledger.sessions import SMALL, start_of

pytestmark = pytest.mark.allows_blocking


async def test_no_commit_waits_for_a_page_that_the_database_has(
    path: Path, keys: Keys, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[int] = []
    merge = Database.merge

    def counted(self: Database) -> None:
        merged.append(self.merged_offset)
        merge(self)

    ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    monkeypatch.setattr("helmr_runtime.ledger.duck.copying.PAGE_ENTRIES", 40)
    monkeypatch.setattr("helmr_runtime.ledger.duck.copied_ledger.PAGE_ENTRIES", 40)
    monkeypatch.setattr(Database, "merge", counted)
    await _read(ledger)
    assert merged == [], "nothing was committed since the ledger was opened"
    head = ledger.index.head_offset
    await ledger.start(start_of())
    follower = await ledger.copied_page(CopyPosition())
    assert (merged, follower.copied.through) == ([], 40)
    assert follower.head == ledger.index.head_offset > head
    assert await _read(ledger) == ledger.index.head_offset
    assert merged == [head], "for the page with the newest entries"
    await ledger.close()


async def _read(ledger: DuckLedger) -> int:
    """A backup beside commits; how many entries it has."""
    pieces = [one async for one in await Backups(cast(LedgerClient, ledger), "0").stream()]
    return sum(piece.count(b'["e",') for piece in pieces)
