"""A state machine with crashes against a plain model of streams, waits and corrections.

S-11, S-22, S-24, S-25, S-53, S-75, S-78, S-79.

The model is written from the rules alone: lists that are searched from the front, no indexes, no fold.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from helmr.errors import (
    IdempotencyConflict,
    RunActive,
    SessionTerminal,
    WaitResolved,
    WaitTimedOut,
)
from helmr_runtime.core.commands import AmendWait, Deadline, RewindRun, TokenEnded
from helmr_runtime.core.corrections import plan_amendment, plan_rewind
from helmr_runtime.core.entries import EntryKind
from tests.core.builder import ALICE, Story, picture, seconds

EXAMPLES = 400
STEPS = 60
STEPS_MIN = 10_000

STREAMS = ["approval", "chat"]
CORRELATIONS = [None, "X", "Y"]


@dataclass
class ModelRecord:
    stream: str
    seq: int
    correlation: str | None
    consumed_by: int | None = None
    """Index of the wait that took it last; -1: an amendment that none has taken yet."""


@dataclass
class ModelWait:
    id: str
    run: str
    kind: str
    stream: str | None
    correlation: str | None
    deadline: datetime | None
    outcome: str = "pending"
    is_answered: bool = False
    is_given_up: bool = False
    is_aside: bool = False
    """A rewind took it back; no retry counts as one."""

    @property
    def question(self) -> tuple[Any, ...]:
        """What it asks: in this machine nothing else differs."""
        return self.kind, self.stream, self.correlation

    def would_take(self, record: ModelRecord) -> bool:
        if self.kind != "input" or self.stream != record.stream:
            return False
        return self.correlation is None or self.correlation == record.correlation


@dataclass
class Model:
    """Streams and waits as lists."""

    records: list[ModelRecord] = field(default_factory=list)
    waits: list[ModelWait] = field(default_factory=list)
    held: list[tuple[tuple[Any, ...], ModelRecord]] = field(default_factory=list)
    input_ended: bool = False
    is_closed: bool = False

    def pending(self) -> ModelWait | None:
        found = [w for w in self.waits if w.outcome == "pending"]
        assert len(found) <= 1
        return found[0] if found else None

    def time_out_if_due(self, now: datetime) -> None:
        wait = self.pending()
        if wait is not None and wait.deadline is not None and now >= wait.deadline:
            wait.outcome = "fulfilled" if wait.kind == "timer" else "timed_out"

    def send(self, stream: str, correlation: str | None, now: datetime, run: str | None) -> str:
        wait = self.pending()
        if wait is not None and wait.kind != "token":
            self.time_out_if_due(now)
        seq = 1 + len([r for r in self.records if r.stream == stream])
        record = ModelRecord(stream, seq, correlation)
        self.records.append(record)
        wait = self.pending()
        if wait is not None and wait.would_take(record):
            wait.outcome = "fulfilled"
            record.consumed_by = self.waits.index(wait)
            return "fulfilled"
        of_run = [w for w in self.waits if w.run == run and not w.is_aside and w.would_take(record)]
        if of_run and of_run[-1].outcome == "timed_out":
            return "late"
        if wait is not None and wait.kind == "input" and wait.stream == stream:
            return "unmatched"
        return "buffered"

    def open(self, wait: ModelWait) -> None:
        self.waits.append(wait)
        for place, (question, record) in enumerate(self.held):
            if question == wait.question:
                del self.held[place]
                record.consumed_by = self.waits.index(wait)
                wait.outcome = "fulfilled"
                wait.is_answered = True  # it never goes back to the stream
                return
        for record in self.records:
            if record.consumed_by is None and wait.would_take(record):
                record.consumed_by = self.waits.index(wait)
                wait.outcome = "fulfilled"
                return
        if wait.kind == "input" and self.input_ended:
            wait.outcome = "cancelled"

    def take_back(self, run: str, gone: set[str], left: set[str], *, keeps: bool) -> None:
        """Waits are set aside; what they took is held before what was held already, or nothing is."""
        taken: list[tuple[tuple[Any, ...], ModelRecord]] = []
        for index, wait in enumerate(self.waits):
            if wait.run != run:
                continue
            if wait.id in gone and wait.outcome == "pending":
                wait.outcome = "cancelled"
            elif wait.id in gone:
                taken += [(wait.question, r) for r in self.records if r.consumed_by == index]
            wait.is_aside = wait.id not in left
        self.held = [*taken, *self.held] if keeps else []


class Sessions(RuleBasedStateMachine):
    """One session, hot or at a desk, crashing at any point."""

    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.model = Model()
        self.receipts: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {}
        self.story.execute()

    # --- people ---------------------------------------------------------------------------------

    @rule(
        stream=st.sampled_from(STREAMS),
        correlation=st.sampled_from(CORRELATIONS),
        key=st.sampled_from([None, None, None, None, "k1", "k2"]),
        data=st.sampled_from([1, 1.0, "x"]),
    )
    def send(self, stream: str, correlation: str | None, key: str | None, data: Any) -> None:
        story = self.story
        known = self.receipts.get((stream, key)) if key is not None else None
        seq_before = story.state.seq
        try:
            receipt = dict(
                story.send(data, stream, correlation_id=correlation, idempotency_key=key)
            )
        except IdempotencyConflict:
            assert story.state.seq == seq_before
            assert known is not None
            assert known[0] != data
            self.seen["conflict"] += 1
            return
        except SessionTerminal:
            assert story.state.seq == seq_before
            assert known is None
            assert self.model.is_closed
            return
        if known is not None:
            self.seen["duplicate"] += 1
            assert receipt == {**known[1], "duplicate": True}
            assert known[0] == data  # 1.0 is 1
            return
        run = story.state.run  # also one that has ended
        expected = self.model.send(
            stream, correlation, story.context.now, run.id if run is not None else None
        )
        assert receipt["outcome"] == expected
        self.seen[expected] += 1
        assert receipt["seq"] == len([r for r in self.model.records if r.stream == stream])
        if key is not None:
            self.receipts[stream, key] = (data, receipt)

    @precondition(lambda self: self.model.waits)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        wait = self.some_wait(data)
        if wait.kind == "input" or wait.outcome != "pending":
            self.answer_one(wait)

    def answer_one(self, wait: ModelWait) -> None:
        try:
            receipt = self.story.answer("answer", wait.id)
        except WaitTimedOut:
            assert wait.outcome == "pending"
            assert wait.deadline is not None
            assert self.story.context.now >= wait.deadline
            wait.outcome = "timed_out"
            self.seen["answer too late"] += 1
        except WaitResolved:
            assert wait.outcome != "pending"
        else:
            assert wait.outcome == "pending"
            assert receipt["outcome"] == "fulfilled"
            seq = 1 + len([r for r in self.model.records if r.stream == wait.stream])
            assert wait.stream is not None
            self.model.records.append(
                ModelRecord(wait.stream, seq, wait.correlation, self.model.waits.index(wait))
            )
            wait.outcome = "fulfilled"
            wait.is_answered = True

    @rule(end_input=st.booleans(), dice=st.integers(0, 20))
    def close(self, end_input: bool, dice: int) -> None:
        if dice != 13:  # rare: little happens in a closed session
            return
        wait = self.model.pending()
        may = self.story.state.active_run is None or (
            end_input and wait is not None and wait.kind == "input"
        )
        try:
            self.story.close(end_input=end_input)
        except RunActive:
            assert not may
            assert not self.model.is_closed
            return
        assert may or self.model.is_closed
        if not self.model.is_closed:
            self.model.input_ended = end_input
            if wait is not None:
                wait.outcome = "cancelled"
        self.model.is_closed = True

    @rule(dice=st.integers(0, 6))
    def cancel_run(self, dice: int) -> None:
        if dice != 3:
            return
        is_active = self.story.state.active_run is not None
        self.story.cancel_run()
        self.end_waits(is_active)

    # --- time and the world -----------------------------------------------------------------------

    @rule(by=st.sampled_from([0, 0.000001, 1, 29, 30, 60]))
    def time_passes(self, by: float) -> None:
        self.story.now += seconds(by)

    @precondition(lambda self: self.model.waits)
    @rule(data=st.data())
    def deadline(self, data: st.DataObject) -> None:
        wait = self.some_wait(data)
        self.story.do(Deadline(principal=ALICE, wait_id=wait.id))
        if wait.outcome == "pending":
            self.model.time_out_if_due(self.story.context.now)

    @precondition(lambda self: any(w.kind == "token" for w in self.model.waits))
    @rule(data=st.data(), status=st.sampled_from(["completed", "expired", "cancelled"]))
    def token_ends(self, data: st.DataObject, status: str) -> None:
        wait = self.some_wait(data)
        if wait.kind != "token":
            return
        ended_at = self.story.context.now - seconds(data.draw(st.sampled_from([0, 10])))
        self.story.do(
            TokenEnded(
                principal=ALICE,
                wait_id=wait.id,
                token_id="tok_1",
                status=status,
                ended_at=ended_at,
                ended_by=ALICE,
            )
        )
        if wait.outcome != "pending":
            return
        if wait.deadline is not None and ended_at >= wait.deadline:
            wait.outcome = "timed_out"
        else:
            wait.outcome = {"completed": "fulfilled", "expired": "timed_out"}.get(
                status, "cancelled"
            )

    @rule()
    def crash(self) -> None:
        """Kill -9: what is left is the entries; receipts of keys are the ledger's."""
        self.story.state = self.story.refold()

    @rule()
    def park_and_adopt(self) -> None:
        keys = self.story.state.send_keys
        self.story.state = self.story.reload()
        self.story.state.send_keys = keys

    @rule(is_hot=st.booleans())
    def change_hands(self, is_hot: bool) -> None:
        self.story.is_hot = is_hot

    # --- the code ---------------------------------------------------------------------------------

    def go_on(self) -> bool:
        """Bring the code to where it can open a wait."""
        if self.story.state.active_run is None:
            if self.model.is_closed:
                return False
            self.story.start_run()
            self.model.held = []
        if self.story.state.activity.value == "queued":
            self.story.execute()
        return self.story.state.activity.value == "running"

    @rule(
        kind=st.sampled_from(["input", "input", "input", "token", "timer"]),
        stream=st.sampled_from(STREAMS),
        correlation=st.sampled_from(CORRELATIONS),
        timeout_s=st.sampled_from([None, 30, 60]),
    )
    def open_wait(
        self, kind: str, stream: str, correlation: str | None, timeout_s: float | None
    ) -> None:
        if self.go_on():
            self.open_one(
                kind, stream, correlation, (timeout_s or 30) if kind == "timer" else timeout_s
            )

    def open_one(
        self, kind: str, stream: str, correlation: str | None, timeout_s: float | None
    ) -> None:
        story = self.story
        is_input = kind == "input"
        entries = story.open_wait(
            story.run.op_max + 1,
            stream,
            kind=kind,
            correlation_id=correlation if is_input else None,
            timeout_s=timeout_s,
        )
        self.model.open(
            ModelWait(
                id=entries[0].body["wait_id"],
                run=story.run.id,
                kind=kind,
                stream=stream if is_input else None,
                correlation=correlation if is_input else None,
                deadline=story.context.now + seconds(timeout_s) if timeout_s is not None else None,
            )
        )

    @precondition(lambda self: self.story.state.unconsumed_count > 0)
    @rule(stream=st.sampled_from(STREAMS))
    def take_all(self, stream: str) -> None:
        """The code takes what is buffered and then waits for more."""
        for _ in range(1 + len(self.story.state.unconsumed.get(stream, ()))):
            if self.model.pending() is None and self.go_on():
                self.open_one("input", stream, None, 60)

    @rule(
        stream=st.sampled_from(STREAMS),
        asked=st.sampled_from(CORRELATIONS),
        sent=st.sampled_from(CORRELATIONS),
        after=st.sampled_from([0, 59, 60, 61]),
    )
    def talk(self, stream: str, asked: str | None, sent: str | None, after: float) -> None:
        """The code waits for an answer; one comes, the right or another one, in time or not."""
        for _ in range(1 + len(self.story.state.unconsumed.get(stream, ()))):
            if self.model.pending() is None and self.go_on():
                self.open_one("input", stream, asked, 60)
        self.time_passes(after)
        self.send(stream, sent, None, "talk")

    @precondition(lambda self: self.model.pending() is not None)
    @rule(dice=st.integers(0, 6))
    def give_up(self, dice: int) -> None:
        if dice != 3:
            return
        wait = self.model.pending()
        assert wait is not None
        self.story.give_up(self.story.wait.op)
        wait.outcome = "cancelled"

    @precondition(lambda self: self.story.state.activity.value == "running")
    @rule(dice=st.integers(0, 2))
    def give_up_too_late(self, dice: int) -> None:
        """The code gives a wait up that was fulfilled before it had the record."""
        for record in self.model.records:
            if dice == 1 and self.give_up_taken(record):
                return

    @rule(stream=st.sampled_from(STREAMS), dice=st.integers(0, 6))
    def give_up_an_answer(self, stream: str, dice: int) -> None:
        """The code waits, a person answers, and the code had given the wait up."""
        if dice != 3 or self.model.pending() is not None or not self.go_on():
            return
        self.open_one("input", stream, None, None)
        wait = self.model.pending()
        if wait is None:
            return
        self.answer_one(wait)
        if self.story.state.activity.value == "running":
            assert self.give_up_taken(self.model.records[-1])

    def give_up_taken(self, record: ModelRecord) -> bool:
        """Give up the wait that took a record, if the run that runs had opened it."""
        run = self.story.run
        ops = {e.body["wait_id"]: e.op for e in run.journal if e.kind is EntryKind.WAIT_OPENED}
        is_taken = record.consumed_by is not None and record.consumed_by >= 0
        wait = self.model.waits[record.consumed_by or 0] if is_taken else None
        if wait is None or wait.run != run.id or wait.is_given_up:
            return False
        op = ops.get(wait.id)
        if op is None:  # set aside by a retry
            return False
        self.story.give_up(op)
        self.story.give_up(op)  # a second time changes nothing
        wait.is_given_up = True
        if wait.is_answered:
            self.seen["answer kept"] += 1
        else:
            record.consumed_by = None
            self.seen["given back"] += 1
        return True

    @precondition(lambda self: self.story.state.activity.value in ("running", "waiting"))
    @rule(how=st.sampled_from(["succeed", "fail"]), dice=st.integers(0, 6))
    def end(self, how: str, dice: int) -> None:
        if dice != 3:
            return
        getattr(self.story, how)()
        self.end_waits(True)

    @precondition(lambda self: self.story.run.status.value == "failed" and not self.model.is_closed)
    @rule()
    def retry(self) -> None:
        self.story.retry()

    # --- corrections ------------------------------------------------------------------------------

    @precondition(lambda self: self.story.run.journal and not self.model.is_closed)
    @rule(data=st.data(), keeps=st.booleans(), dice=st.integers(0, 3))
    def rewind(self, data: st.DataObject, keeps: bool, dice: int) -> None:
        if dice != 2:
            return
        story, run = self.story, self.story.run
        to_op = data.draw(st.sampled_from(sorted({e.op for e in run.journal if e.op is not None})))
        plan = plan_rewind(story.state, run, to_op, keep_answers=keeps)
        gone = self.waits_of(set(plan.set_aside))
        story.do(
            RewindRun(
                principal=ALICE,
                run_id=run.id,
                to_op=to_op,
                reason="wrong",
                seen=plan.hash,
                keep_answers=keeps,
            )
        )
        self.model.take_back(run.id, gone, self.waits_of(None), keeps=keeps)
        self.seen["rewound"] += 1
        self.seen["held"] += bool(self.model.held)

    @precondition(lambda self: self.story.run.journal and not self.model.is_closed)
    @rule(data=st.data(), dice=st.integers(0, 2))
    def amend(self, data: st.DataObject, dice: int) -> None:
        story, run = self.story, self.story.run
        here = self.waits_of(None)
        found = [
            w
            for w in self.model.waits
            if w.id in here and w.kind == "input" and w.outcome in ("fulfilled", "timed_out")
        ]
        if dice != 1 or not found:
            return
        wait = data.draw(st.sampled_from(found))
        plan = plan_amendment(story.state, run, wait.id)
        gone = self.waits_of(set(plan.set_aside))
        story.do(
            AmendWait(
                principal=ALICE,
                run_id=run.id,
                wait_id=wait.id,
                record_id=story.new("rec"),
                data="amended",
                reason="wrong",
                seen=plan.hash,
            )
        )
        old = [r for r in self.model.records if r.consumed_by == self.model.waits.index(wait)]
        self.model.take_back(run.id, gone, self.waits_of(None), keeps=True)
        held = [one for one in self.model.held if one[1] not in old]
        assert wait.stream is not None
        seq = 1 + len([r for r in self.model.records if r.stream == wait.stream])
        record = ModelRecord(wait.stream, seq, wait.correlation, -1)
        self.model.records.append(record)
        self.model.held = [(wait.question, record), *held]
        self.seen["amended"] += 1

    def waits_of(self, ops: set[int] | None) -> set[str]:
        """Ids of the waits in the run's journal, of these ops."""
        return {
            e.body["wait_id"]
            for e in self.story.run.journal
            if e.kind is EntryKind.WAIT_OPENED and (ops is None or e.op in ops)
        }

    # --- what must hold ---------------------------------------------------------------------------

    def some_wait(self, data: st.DataObject) -> ModelWait:
        """The pending wait half of the time, else any."""
        pending = self.model.pending()
        if pending is not None and data.draw(st.booleans()):
            return pending
        return data.draw(st.sampled_from(self.model.waits))

    def end_waits(self, is_active: bool) -> None:
        wait = self.model.pending()
        if is_active and wait is not None:
            wait.outcome = "cancelled"

    @invariant()
    def steps_are_counted(self) -> None:
        self.seen["steps"] += 1

    @invariant()
    def the_pending_wait_is_the_models(self) -> None:
        wait, modelled = self.story.state.wait, self.model.pending()
        assert (wait.id if wait else None) == (modelled.id if modelled else None)

    @invariant()
    def unconsumed_records_are_the_models_in_order(self) -> None:
        for stream in STREAMS:
            held = [r.seq for r in self.story.state.unconsumed.get(stream, ())]
            of_stream = [r for r in self.model.records if r.stream == stream]
            assert held == [r.seq for r in of_stream if r.consumed_by is None]
            assert [r.seq for r in of_stream] == list(range(1, len(of_stream) + 1))
        assert self.story.state.unconsumed_count == len(
            [r for r in self.model.records if r.consumed_by is None]
        )

    def teardown(self) -> None:
        story, model = self.story, self.model
        kinds = {
            EntryKind.WAIT_FULFILLED: "fulfilled",
            EntryKind.WAIT_TIMED_OUT: "timed_out",
            EntryKind.WAIT_CANCELLED: "cancelled",
        }
        outcomes: dict[str, str] = {}
        consumed: dict[tuple[str, int], str] = {}
        for entry in story.entries:
            if entry.kind in kinds:
                assert entry.body["wait_id"] not in outcomes, "S-11: left pending twice"
                outcomes[entry.body["wait_id"]] = kinds[entry.kind]
            if "record_seq" in entry.body:
                key = entry.body["stream"], entry.body["record_seq"]
                if entry.kind is EntryKind.INPUT_RETURNED:
                    assert consumed.pop(key) == entry.body["wait_id"]
                elif "kept_from" in entry.body:
                    assert consumed.get(key, entry.body["kept_from"]) == entry.body["kept_from"]
                    consumed[key] = entry.body["wait_id"]
                    self.seen["kept"] += 1
                else:
                    assert key not in consumed, "S-24: consumed twice"
                    consumed[key] = entry.body["wait_id"]
        assert outcomes == {w.id: w.outcome for w in model.waits if w.outcome != "pending"}
        assert consumed == {
            (r.stream, r.seq): model.waits[r.consumed_by].id
            for r in model.records
            if r.consumed_by is not None and r.consumed_by >= 0
        }
        folded = picture(story.state)
        assert folded == picture(story.refold())
        assert folded == picture(story.reload())
        assert [e.seq for e in story.entries] == list(range(1, story.state.seq + 1))


def test_sessions_keep_to_the_model_over_ten_thousand_steps():
    Sessions.seen.clear()
    run_state_machine_as_test(
        Sessions,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None),
    )
    seen = Sessions.seen
    assert seen["steps"] >= STEPS_MIN
    rare = ["fulfilled", "buffered", "late", "unmatched", "duplicate", "conflict"]
    rare += ["given back", "answer kept", "rewound", "held", "kept", "amended"]
    assert [name for name in rare if not seen[name]] == []
