"""One recorded session once more, with other code or other answers, under the clock of `helmr.testing`.

It begins when the recorded run began, under its ids, so that `ctx.uuid` and `ctx.random` give the same. An answer that
is kept comes so long after its question as it did then: another timeout may miss it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from helmr import ids
from helmr.errors import SchemaMismatch, UsageError
from helmr.experiments.chance import draws
from helmr.experiments.directed import Direction, StandIn
from helmr.experiments.experiment import to_json
from helmr.experiments.operators import Answer, Asked, Operator
from helmr.experiments.simulation import text_of
from helmr.models import RunStatus
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession
from helmr.testing.recorded import (
    Entry,
    HeldAnswer,
    RecordedRun,
    RunOutcome,
    SessionState,
    outcome_of,
    question_keys,
    state_of,
)

WAITS_MAX = 1_000
"""Code that has asked so often is answered no more: its operators may send it round for ever."""


@dataclass(frozen=True)
class Change:
    """What is changed about recorded sessions.

    Attributes:
        task: The code.
        also: Further tasks.
        keeps: Questions that were answered then get that answer.
        operators: Who answers the others.
        steps: Stand-ins for steps, by their names.
        seed: What all chance comes from.
    """

    task: Task[..., Any]
    also: Sequence[Task[..., Any]]
    keeps: bool
    operators: Sequence[Operator]
    steps: Mapping[str, StandIn]
    seed: int


@dataclass(slots=True)
class ReplayRow:
    """What became of one session then and now."""

    session: int
    session_id: str
    old_status: str
    old_result: str | None
    old_error: str | None
    old_duration_s: float | None
    status: str = "unknown"
    result: str | None = None
    error: str | None = None
    duration_s: float | None = None
    changed: bool | None = None
    """None where it was still under way, or nobody knows what would have become of it."""
    waits: int = 0
    kept: int = 0
    asked: int = 0
    timed_out: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Reply:
    at: datetime
    data: Any
    is_kept: bool


class WhatIf:
    """One session.

    Args:
        number: Its number, from 0.
        recorded: What was recorded of it.
        change: What is changed.
    """

    def __init__(self, number: int, recorded: RecordedRun, change: Change) -> None:
        self._recorded = recorded
        self._change = change
        self._direction = Direction(recorded.steps, change.steps)
        self._left = list(recorded.answers)
        self._names: Counter[str] = Counter()
        status, result, error = _told(recorded.outcome)
        self.row = ReplayRow(
            session=number,
            session_id=recorded.session.id,
            old_status=status,
            old_result=result,
            old_error=error,
            old_duration_s=_between_s(recorded.run.created_at, recorded.outcome.ended_at),
        )

    async def replay(self) -> ReplayRow:
        """Run it to its end, or to where nothing comes any more."""
        run, state = self._recorded.run, self._recorded.state
        task = self._direction.over(self._change.task)
        harness = Harness(task, *self._change.also, start_at=run.created_at, new_id=self._new_id)
        async with harness:
            try:
                session = await harness.start(
                    task,
                    run.payload,
                    external_id=state.external_id,
                    tags=tuple(state.tags),
                    metadata=state.metadata,
                )
            except SchemaMismatch as error:
                self.row.problem = f"the payload no longer fits: {error.message}"
                return self.row
            await self._to_the_end(harness, session)
            self._tell(await session.transcript())
        return self.row

    def _new_id(self, prefix: str) -> str:
        """The recorded ids for the session and its run, then ones that follow from them."""
        self._names[prefix] += 1
        known = {ids.SESSION: self._recorded.session.id, ids.RUN: self._recorded.run.id}
        if self._names[prefix] == 1 and prefix in known:
            return known[prefix]
        return ids.new_id(prefix)

    # --- as time passes ---------------------------------------------------------------------------

    async def _to_the_end(self, harness: Harness, session: HarnessSession) -> None:
        clock = harness.clock
        replies: dict[str | None, _Reply | None] = {}
        while self._direction.problem is None:
            await harness.settle()
            state = await session.state()
            if not self._is_under_way(state):
                return
            due = clock.next_at
            opened = await self._question(session, state)
            wait_id = opened.body["wait_id"] if opened is not None else None
            if opened is not None and wait_id not in replies:
                replies[wait_id] = self._reply_to(opened)
            reply = replies.get(wait_id)
            if opened is not None and reply is not None and (due is None or reply.at < due):
                clock.move_to(reply.at)
                if not await self._give(harness, session, opened, reply):
                    replies[wait_id] = self._asked(opened)
            elif due is not None:
                clock.move_to(due)
            else:
                return

    def _is_under_way(self, state: SessionState) -> bool:
        run = state.run
        return (
            run is not None
            and run.id == self._recorded.run.id
            and run.is_active
            and run.status is not RunStatus.BLOCKED
            and self.row.waits < WAITS_MAX
        )

    async def _question(self, session: HarnessSession, state: SessionState) -> Entry | None:
        """The pending wait's opening, if somebody can answer it."""
        wait = state.wait
        if wait is None or wait.kind not in ("input", "token"):
            return None
        entries = await session.transcript()
        return next(
            e for e in reversed(entries) if e.kind == "wait.opened" and e.body["wait_id"] == wait.id
        )

    # --- answers ------------------------------------------------------------------------------------

    def _reply_to(self, opened: Entry) -> _Reply | None:
        self.row.waits += 1
        held = self._held(opened)
        if held is not None:
            return _Reply(opened.recorded_at + timedelta(seconds=held.after_s), held.data, True)
        return self._asked(opened)

    def _held(self, opened: Entry) -> HeldAnswer | None:
        if not self._change.keeps:
            return None
        stream = self._change.task.streams().get(str(opened.body.get("stream")))
        schema = stream.codec.json_schema() if stream is not None else None
        keys = question_keys(self._change.task.id, opened.body, schema)
        held = next((one for one in self._left if one.keys & keys), None)
        if held is not None:
            self._left.remove(held)
        return held

    def _asked(self, opened: Entry) -> _Reply | None:
        """What the first operator answers who has an answer, by lot."""
        seed, session, number = self._change.seed, self.row.session, self.row.waits
        operators = list(self._change.operators)
        draws(seed, "lot", session, number).shuffle(operators)
        body, now = opened.body, opened.recorded_at
        deadline = body.get("deadline_at")
        assignee = body.get("assignee")
        for operator in operators:
            if not operator.is_asked(assignee):
                continue
            place = (operator.name, session, number)
            answer = operator.policy(
                Asked(
                    session=session,
                    number=number,
                    payload=self._recorded.run.payload,
                    task=self._change.task.id,
                    kind=body["kind"],
                    stream=body.get("stream"),
                    correlation_id=body.get("correlation_id"),
                    subject=body.get("subject"),
                    body=body.get("body"),
                    opened_at=now,
                    deadline_at=datetime.fromisoformat(deadline) if deadline else None,
                    random=draws(seed, "policy", *place),
                    assignee=assignee,
                )
            )
            if answer is None:
                continue
            data = to_json(answer.data if isinstance(answer, Answer) else answer)
            delay_s = operator.delay.sample_s(draws(seed, "delay", *place))
            hours = operator.hours
            at = (
                hours.after(now, delay_s) if hours is not None else now + timedelta(seconds=delay_s)
            )
            return _Reply(at, data, False)
        return None

    async def _give(
        self, harness: Harness, session: HarnessSession, opened: Entry, reply: _Reply
    ) -> bool:
        """Answer; false if a kept answer does not fit what is asked now."""
        token_id = opened.body.get("token_id")
        try:
            if token_id is not None:
                await harness.complete_token(token_id, reply.data)
            else:
                await session.answer(reply.data, wait_id=opened.body["wait_id"])
        except SchemaMismatch:
            if not reply.is_kept:
                raise
            return False
        self.row.kept += reply.is_kept
        self.row.asked += not reply.is_kept
        return True

    # --- what became of it ----------------------------------------------------------------------------

    def _tell(self, entries: Sequence[Entry]) -> None:
        row, run_id = self.row, self._recorded.run.id
        own = [entry for entry in entries if entry.run_id == run_id]
        timed_out = {e.body["wait_id"] for e in own if e.kind == "wait.timed_out"}
        opened = [
            e.body for e in own if e.kind == "wait.opened" and e.body["kind"] in ("input", "token")
        ]
        row.timed_out = sum(body["wait_id"] in timed_out for body in opened)
        row.problem = self._direction.problem
        if row.waits >= WAITS_MAX:
            row.problem = f"it has asked {WAITS_MAX} times"
        if row.problem is not None:
            return
        run = state_of(self._recorded.session.id, entries[: own[-1].seq]).run
        assert run is not None
        outcome = outcome_of(run.status, own)
        row.status, row.result, row.error = _told(outcome)
        row.duration_s = _between_s(self._recorded.run.created_at, outcome.ended_at)
        if self._recorded.outcome.ended_at is not None:
            row.changed = (row.old_status, row.old_result) != (row.status, row.result)


def check_operators(operators: Sequence[Operator]) -> None:
    """Sessions are replayed one by one, so nobody has several of them in hand.

    Raises:
        UsageError: One of them can do only so much at once, or two have one name.
    """
    for operator in operators:
        if not isinstance(operator, Operator):
            raise UsageError(f"operators must be a sequence of Operator, not of {operator!r}")
        if operator.at_once is not None:
            raise UsageError(
                f"at_once of {operator.name} says nothing here: each session is replayed alone",
                hint="An Experiment has queues.",
            )
    names = [operator.name for operator in operators]
    if len(set(names)) < len(names):
        raise UsageError("two operators have one name", hint="Chance goes by name.")


def _told(outcome: RunOutcome) -> tuple[str, str | None, str | None]:
    """Status, result and error as they stand in a row."""
    status, error = outcome.status.value, None
    if outcome.error is not None:
        kind = next(
            (outcome.error[k] for k in ("type", "code", "reason") if outcome.error.get(k)), ""
        )
        error = f"{kind}: {outcome.error.get('message', '')}"
    result = text_of(outcome.result) if outcome.status is RunStatus.SUCCEEDED else None
    return status, result, error


def _between_s(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start is not None and end is not None else None
