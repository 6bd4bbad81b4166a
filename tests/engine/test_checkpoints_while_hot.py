"""Checkpoints of a session that never parks: the first after many entries, each other when they have doubled."""

from __future__ import annotations

import pytest

from runtime.actors.committer import Committer
from runtime.clock import FakeClock
from runtime.core.entries import Draft, EntryKind, seal
from runtime.ports import CommitReply, Flush
from runtime.store.memory import MemoryLedger
from tests.store.sessions import ALICE, START_AT, running

FIRST = 8


async def test_checkpoints_are_taken_when_entries_have_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Committer, "CHECKPOINT_ENTRIES", FIRST)
    clock = FakeClock(START_AT)
    ledger = MemoryLedger(clock)
    hand = await running(ledger, clock)
    flushes: list[Flush] = []
    lost: list[CommitReply] = []

    async def keep(flush: Flush) -> None:
        flushes.append(flush)

    ledger.before_commit = keep
    seq, last_hash = hand.seq, hand.last_hash
    committer = Committer(
        ledger,
        session_id=hand.session_id,
        epoch=hand.epoch,
        last_seq=seq,
        last_hash=last_hash,
        checkpoint=hand.checkpoint,
        on_lost=lost.append,
    )
    for number in range(10 * FIRST):
        entry = seal(
            Draft(EntryKind.NOTE_ADDED, {"note_id": f"note_{number}"}, principal=ALICE),
            session_id=hand.session_id,
            seq=seq + 1,
            recorded_at=clock.now(),
            previous=last_hash,
            key=None,
        )
        seq, last_hash = hand.seq, hand.last_hash = entry.seq, entry.hash
        committer.add(entry)
        written = committer.durable(seq)
        committer.flush_now()
        assert await written
    begun = flushes[0].first_seq
    assert [f.first_seq - begun + 1 for f in flushes if f.checkpoint is not None] == [
        FIRST,
        2 * FIRST,
        4 * FIRST,
        8 * FIRST,
    ]
    assert not lost
