"""The index against a plain model, in ten thousand steps: who may write, who holds, what is due; crashes too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from helmr.errors import ExternalIdConflict
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import Draft
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports import Committed, Refused
from helmr_runtime.ports.ledger import FROM_START
from tests.budget import examples
from tests.ledger.sessions import START_AT, Hand, start_of

T = TypeVar("T")


@dataclass
class Plain:
    """What a plain reader of the rules would note of one session."""

    hand: Hand
    external_id: str | None
    payload: int
    held_by: str | None = None
    holding: int = 0
    """Which of the test's adoptions holds: counts loads."""
    status: str = "queued"
    wait: Draft | None = None
    deadline_at: datetime | None = None
    retry_at: datetime | None = None
    steps: list[int] = field(default_factory=list)
    is_open: bool = True


class IndexMachine(RuleBasedStateMachine):
    """Every rule is one call; every invariant is asked after each."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock(START_AT)
        self.ledger = MemoryLedger(self.clock)
        self.plain: list[Plain] = []
        self.zombies: list[Hand] = []

    def run(self, call: Awaitable[T]) -> T:
        """Run to the end, timers that are due included."""

        async def settled() -> T:
            reply = await call
            await asyncio.sleep(0)
            return reply

        return self.loop.run_until_complete(settled())

    def teardown(self) -> None:
        self.loop.close()

    # --- rules ----------------------------------------------------------------------------------

    @rule(target=sessions, external_id=st.sampled_from([None, "a", "b"]), payload=st.integers(0, 1))
    def start(self, external_id, payload):
        start = start_of(external_id=external_id, payload=payload)
        known = next(
            (p for p in self.plain if p.is_open and external_id and p.external_id == external_id),
            None,
        )
        if known is not None and known.payload != payload:
            with pytest.raises(ExternalIdConflict):
                self.run(self.ledger.start(start))
            return known
        started = self.run(self.ledger.start(start))
        assert started.created == (known is None)
        if known is not None:
            assert started.session_id == known.hand.session_id
            return known
        hand = Hand(self.ledger, self.clock, started.session_id, started.run_id)
        self.plain.append(Plain(hand, external_id, payload))
        return self.plain[-1]

    @rule(plain=sessions, holder=st.sampled_from(["slot-1", "slot-2", "claims-1"]))
    def adopt(self, plain, holder):
        if plain.held_by is not None:
            zombie = Hand(**{**plain.hand.__dict__, "entries": []})
            self.zombies.append(zombie)
        before = plain.hand.seq
        loaded = self.run(plain.hand.adopt(holder))
        plain.held_by = holder
        assert plain.hand.seq >= before
        assert loaded.epoch > 0

    @rule(plain=sessions)
    def abandon(self, plain):
        if plain.held_by is None:
            return
        self.zombies.append(Hand(**{**plain.hand.__dict__, "entries": []}))
        self.run(self.ledger.abandon(plain.hand.session_id, plain.hand.epoch))
        self._unheld(plain)

    @rule(
        plain=sessions, release=st.booleans(), checkpoint=st.booleans(), sends_twice=st.booleans()
    )
    def go_on(self, plain, release, checkpoint, sends_twice):
        """A slot runs a piece of the task."""
        if plain.held_by is None or not plain.is_open:
            return
        hand, drafts = plain.hand, []
        if plain.status == "queued":
            plain.status, plain.retry_at = "running", None
            drafts.append(hand.started())
        if plain.status == "running":
            drafts.append(hand.step())
            plain.steps.append(hand.op)
        elif plain.steps:
            drafts.append(hand.step_done(plain.steps.pop()))
        flush = hand.flush(*drafts, release=release, checkpoint=checkpoint)
        reply = self.run(self.ledger.commit(flush))
        assert isinstance(reply, Committed)
        if sends_twice and drafts:
            again = self.run(self.ledger.commit(flush))
            assert isinstance(again, Committed)
            assert again.first_feed_offset == reply.first_feed_offset
        if release:
            self._unheld(plain)

    @rule(
        plain=sessions, timeout_s=st.one_of(st.none(), st.integers(1, 100)), release=st.booleans()
    )
    def wait(self, plain, timeout_s, release):
        if plain.held_by is None or plain.status != "running" or not plain.is_open:
            return
        deadline = self.clock.now() + timedelta(seconds=timeout_s) if timeout_s else None
        plain.wait = plain.hand.wait(deadline_at=deadline)
        plain.deadline_at, plain.status = deadline, "waiting"
        self.run(plain.hand.stored(plain.wait, release=release))
        if release:
            self._unheld(plain)

    @rule(plain=sessions, hot=st.booleans())
    def answer(self, plain, hot):
        if plain.held_by is None or plain.wait is None:
            return
        plain.status = "running" if hot else "queued"
        outcome = plain.hand.fulfilled(plain.wait, following=plain.status)
        self.run(plain.hand.stored(plain.hand.accepted(1), outcome))
        plain.wait = plain.deadline_at = None

    @rule(plain=sessions, delay_s=st.integers(0, 50))
    def fail(self, plain, delay_s):
        if plain.held_by is None or plain.status != "running" or plain.steps:
            return
        plain.retry_at = self.clock.now() + timedelta(seconds=delay_s)
        plain.status = "queued"
        self.run(plain.hand.stored(plain.hand.attempt_failed(plain.retry_at)))

    @rule(plain=sessions)
    def end(self, plain):
        if plain.held_by is None or plain.status != "running" or plain.steps:
            return
        plain.status, plain.is_open = "succeeded", False
        self.run(plain.hand.stored(plain.hand.succeeded(), plain.hand.closed()))

    @rule(seconds=st.integers(0, 60))
    def pass_time(self, seconds):
        async def move() -> None:
            self.clock.move_to(self.clock.now() + timedelta(seconds=seconds))

        self.run(move())
        for plain in self.plain:
            if plain.held_by is None:
                self._time_out(plain)

    @rule()
    def zombie_writes(self):
        for zombie in self.zombies:
            # An entry of its own: the very entry that the new holder wrote at that seq, to the microsecond, would be
            # answered as stored, which is what a holder that lost only the answer must hear.
            flush = zombie.flush(zombie.step("of the zombie"), release=True)
            assert isinstance(self.run(self.ledger.commit(flush)), Refused)
        self.zombies.clear()

    @rule()
    def crash(self):
        self.ledger = self.ledger.restarted()
        for plain in self.plain:
            plain.hand.ledger = self.ledger
        for zombie in self.zombies:
            zombie.ledger = self.ledger

        async def settle() -> None:
            self.ledger._arm()

        with contextlib.suppress(StopIteration):
            self.run(settle())

    def _unheld(self, plain: Plain) -> None:
        plain.held_by = None
        self._time_out(plain)

    def _time_out(self, plain: Plain) -> None:
        if plain.deadline_at is not None and plain.deadline_at <= self.clock.now():
            plain.wait = plain.deadline_at = None
            plain.status = "queued"

    # --- invariants -----------------------------------------------------------------------------

    @invariant()
    def work_is_what_nobody_holds_and_can_run(self):
        expected = {
            plain.hand.session_id
            for plain in self.plain
            if plain.held_by is None
            and (
                (
                    plain.status == "queued"
                    and (plain.retry_at is None or plain.retry_at <= self.clock.now())
                )
                or plain.status == "running"
                or (plain.status == "waiting" and plain.steps)
            )
        }
        assert {
            item.session_id for item in self.ledger.index.work.since(FROM_START).added
        } == expected

    @invariant()
    def held_is_what_was_loaded_and_not_let_go(self):
        expected = {(p.hand.session_id, p.held_by) for p in self.plain if p.held_by is not None}
        assert {(h.session_id, h.holder) for h in self.ledger.index.holdings()} == expected

    @invariant()
    def every_wait_is_pending_or_over_as_noted(self):
        for plain in self.plain:
            head = self.ledger.index.heads[plain.hand.session_id]
            assert (head.wait.id if head.wait else None) == (
                plain.wait.body["wait_id"] if plain.wait else None
            )
            if plain.is_open:
                assert head.run_status == plain.status

    @invariant()
    def seqs_and_offsets_are_dense(self):
        entries = self.ledger.stored.entries
        assert [e.feed_offset for e in entries[-5:]] == list(
            range(max(1, len(entries) - 4), len(entries) + 1)
        )
        counts = self.ledger.index.counts()
        assert counts["open"] == sum(plain.is_open for plain in self.plain)
        assert counts["held"] == sum(
            plain.held_by is not None for plain in self.plain if plain.is_open
        )


IndexMachine.TestCase.settings = settings(
    max_examples=examples(200),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestIndexAgainstAPlainModel = pytest.mark.slow(IndexMachine.TestCase)
