"""Checkpoints of a session that never parks: the first after many entries, each other when its run's have doubled."""

from __future__ import annotations

from itertools import pairwise

import pytest

from helmr import TaskContext, streams, task
from helmr.testing import Harness
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import Draft, EntryKind
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports import Committed, Flush
from helmr_runtime.ports.ledger import restore
from helmr_runtime.session.committer import EntryWriter, FlushQueue
from tests.ledger.sessions import ALICE, START_AT, running

FIRST = 8

messages = streams.input("messages", schema=str)


@task
async def starts_over(payload: int, ctx: TaskContext) -> None:
    await messages.wait()
    await ctx.continue_as(payload + 1)


async def test_checkpoints_are_taken_when_entries_have_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FlushQueue, "CHECKPOINT_ENTRIES", FIRST)
    clock = FakeClock(START_AT)
    ledger = MemoryLedger(clock)
    hand = await running(ledger, clock)
    loaded = await ledger.load(hand.session_id, "another")
    state = restore(hand.session_id, loaded)
    writer = EntryWriter(loaded)
    queue = FlushQueue(state, loaded.epoch, writer, unsaved_count=0, offsets={})
    flushes: list[Flush] = []
    for number in range(10 * FIRST):
        note = Draft(EntryKind.NOTE_ADDED, {"note_id": f"note_{number}"}, principal=ALICE)
        [entry] = writer.entries(state, [note], clock.now())
        queue.buffer.append(entry)
        state.apply(entry)
        if state.run is not None:
            state.run.journal.append(entry)  # the longer it is, the more a checkpoint holds
        flush = queue.next()
        flushes.append(flush)
        reply = await ledger.commit(flush)
        assert isinstance(reply, Committed)
        queue.stored(flush, reply)
    begun = flushes[0].first_seq
    assert [f.first_seq - begun + 1 for f in flushes if f.checkpoint is not None] == [
        FIRST,
        2 * FIRST,
        4 * FIRST,
        8 * FIRST,
    ]


async def test_a_session_whose_runs_are_short_is_saved_as_often_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an adoption after a crash must read does not grow with the session's age."""
    monkeypatch.setattr(FlushQueue, "CHECKPOINT_ENTRIES", FIRST)
    flushes: list[Flush] = []

    async def keep(flush: Flush) -> None:
        flushes.append(flush)

    async with Harness(starts_over) as h:
        session = await h.start(starts_over, 0)
        h.ledger.before_commit = keep
        for _ in range(40):
            await session.send("messages", "go on")
        h.ledger.before_commit = None
        loaded = await h.ledger.load(session.id, "another")
    saved = [f.entries[-1].seq for f in flushes if f.checkpoint is not None]
    assert flushes[-1].entries[-1].seq > 20 * FIRST
    # What one flush holds is not parted.
    longest = max(len(f.entries) for f in flushes)
    gaps = [after - before for before, after in pairwise(saved)]
    assert max(gaps) < FIRST + longest
    assert len(loaded.entries) < FIRST + longest
