"""Heads: what the ledger does for each entry does not grow with what a session has written since its checkpoint."""

from __future__ import annotations

import time

from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.ledger.ledger import DuckLedger
from tests.ledger.sessions import Hand, running

LONG = 40_000
"""Entries behind a checkpoint: about a longest run's."""


async def commits_s(hand: Hand, duck: DuckLedger) -> float:
    """Processor time of this thread for a thousand entries in ten commits: the best of three tries."""
    times = []
    for _ in range(3):
        flushes = [
            hand.flush(*[hand.draft(EntryKind.NOTE_ADDED, note_id="note_1") for _ in range(100)])
            for _ in range(10)
        ]
        began = time.thread_time()
        for flush in flushes:
            await duck.commit(flush)
        times.append(time.thread_time() - began)
    return min(times)


async def test_a_long_tail_makes_commits_no_dearer(duck: DuckLedger, clock: FakeClock) -> None:
    hand = await running(duck, clock)
    short_s = await commits_s(hand, duck)
    for _ in range(LONG // 1000):
        await hand.stored(
            *[hand.draft(EntryKind.NOTE_ADDED, note_id="note_1") for _ in range(1000)]
        )
    assert len(duck.index.heads[hand.session_id].tail) > LONG
    long_s = await commits_s(hand, duck)
    assert long_s < 2 * short_s, f"{short_s:.3f} s and {long_s:.3f} s"
