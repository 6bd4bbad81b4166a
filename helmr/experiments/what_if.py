"""Recorded sessions once more, with other code or other answers, under the clock of `helmr.testing`.

One begins when the recorded run began, under its ids, so that `ctx.uuid` and `ctx.random` give the same. An answer that
is kept comes as long after its question as it did then: another timeout may miss it. Steps do not act: each gives what
was recorded for it, or what a stand-in makes of its arguments.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from helmr import ids
from helmr.current import DurableRun, StepCall, current_run
from helmr.errors import RunParked, SchemaMismatch, UsageError
from helmr.experiments.operators import Answer, Asked, Operator, draws
from helmr.experiments.results import Tell, frame
from helmr.experiments.simulation import text_of, to_json
from helmr.models import RunStatus
from helmr.streams import Stream
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession
from helmr.testing.recorded import (
    Entry,
    HeldAnswer,
    RecordedRun,
    Recording,
    RunOutcome,
    SessionState,
    StepOutcome,
    newest_run,
    outcome_of,
    question_keys,
    read,
    state_of,
)

if TYPE_CHECKING:
    import polars


StandIn = Callable[..., Any]
"""Takes a step's arguments, and gives what the step would; sync or async."""


class NothingRecorded(RunParked):
    """The code calls a step whose outcome no one knows: its run can't go on."""


class Direction:
    """What the steps of one run give.

    Args:
        steps: The recorded outcomes by the step's name, in the order asked.
        stand_ins: By the step's name, instead of what is recorded.
    """

    def __init__(
        self, steps: Mapping[str, Sequence[StepOutcome]], stand_ins: Mapping[str, StandIn]
    ) -> None:
        self._steps = steps
        self._stand_ins = stand_ins
        self.problem: str | None = None
        """Why the run could not go on."""

    def over(self, task: Task[..., Any]) -> Task[..., Any]:
        """The task, so directed."""
        return _Directed(task, self)

    def outcome(self, name: str, number: int) -> StepOutcome | None:
        """Of the step's call with that number, from 0."""
        known = self._steps.get(name, ())
        return known[number] if number < len(known) else None

    def stand_in(self, name: str) -> StandIn | None:
        """What acts for the step."""
        return self._stand_ins.get(name)

    def unknown(self, name: str, number: int) -> NothingRecorded:
        """Raise what this returns where a step has no outcome; code that catches it changes nothing."""
        problem = f"no outcome of step {name} is recorded for call {number + 1}"
        self.problem = self.problem or problem
        return NothingRecorded(problem)


class _Directed(Task[..., Any]):
    """A task whose steps are directed. Types and streams are those of the task."""

    def __init__(self, task: Task[..., Any], direction: Direction) -> None:
        _ = task.payload_codec, task.result_codec  # from here on they are among its attributes
        vars(self).update(vars(task))
        self._original = task

        async def function(*arguments: Any) -> Any:
            inner = current_run.get()
            assert inner is not None
            current_run.set(_DirectedRun(inner, direction))
            return await task.function(*arguments)

        self.function = function

    def _in_reach(self) -> Iterator[Stream[Any]]:
        return self._original._in_reach()


class _DirectedRun:
    """A run as its code sees it, in which steps do not act."""

    def __init__(self, inner: DurableRun, direction: Direction) -> None:
        self._inner = inner
        self._direction = direction
        self._calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def step(self, call: StepCall) -> Any:
        """A step that gives what it is directed to."""
        return await self._inner.step(self._directed(call))

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any]
    ) -> Any:
        """What was recorded; else the harness is asked, which knows the tokens that this run has made."""
        name = f"tokens.{method}"
        number = self._calls[name]
        self._calls[name] += 1
        outcome = self._direction.outcome(name, number)
        if outcome is None:
            return await self._inner.token_call(method, token_id, arguments)
        return await self._inner.step(_recorded(_as_it_is(name), outcome))

    def _directed(self, call: StepCall) -> StepCall:
        number = self._calls[call.name]
        self._calls[call.name] += 1
        stand_in = self._direction.stand_in(call.name)
        if stand_in is not None:
            return _standing_in(call, stand_in)
        outcome = self._direction.outcome(call.name, number)
        if outcome is None:
            raise self._direction.unknown(call.name, number)
        return _recorded(call, outcome)


def _recorded(call: StepCall, outcome: StepOutcome) -> StepCall:
    """The call with its recorded outcome as its body. A value is JSON already, and is read by the type declared now."""

    async def body() -> Any:
        if outcome.error is not None:
            raise _exception(outcome.error)
        return outcome.value

    return _acting(call, body, encode=lambda value: value)


def _standing_in(call: StepCall, stand_in: StandIn) -> StepCall:
    takes_any = bool(inspect.signature(stand_in).parameters)
    arguments = _arguments(call.call) if takes_any else ((), {})

    async def body() -> Any:
        args, keywords = arguments
        if inspect.iscoroutinefunction(stand_in):
            return await stand_in(*args, **keywords)
        return await asyncio.to_thread(stand_in, *args, **keywords)

    return _acting(call, body, encode=call.encode)


def _arguments(made: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Of a call, and of what it calls if that has some already."""
    if not isinstance(made, partial):
        return (), {}
    args, keywords = _arguments(made.func)
    return (*args, *made.args), {**keywords, **made.keywords}


def _acting(
    call: StepCall, body: Callable[[], Awaitable[Any]], *, encode: Callable[[Any], Any]
) -> StepCall:
    return replace(
        call, call=body, encode=encode, is_async=True, retries=0, timeout_s=None, loop="run"
    )


def _as_it_is(name: str) -> StepCall:
    return StepCall(
        name=name,
        call=lambda: None,
        is_async=True,
        encode=lambda value: value,
        decode=lambda value: value,
        retries=0,
        backoff_s=0.0,
        retry_on=(),
        timeout_s=None,
        loop="run",
    )


def _exception(error: Mapping[str, Any]) -> Exception:
    """An exception that reads as the recorded one did."""
    kind: type[Exception] = type(str(error["type"]) or "Exception", (Exception,), {})
    return kind(error["message"])


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
    """None where it was still under way, or no one knows what would have become of it."""
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
        """The pending wait's opening, if someone can answer it."""
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
    """Sessions are replayed one by one, so no one has several of them in hand.

    Raises:
        UsageError: One of them can do only so much at once, or two have one name.
    """
    for operator in operators:
        if not isinstance(operator, Operator):
            raise UsageError(f"operators must be a sequence of Operator, not of {operator!r}")
        if operator.at_once is not None:
            raise UsageError(
                f"at_once of {operator.name} has no effect here: each session is replayed alone",
                hint="An Experiment has queues.",
            )
    names = [operator.name for operator in operators]
    if len(set(names)) < len(names):
        raise UsageError(
            "two operators have one name",
            hint="Random draws depend on the name: give each its own.",
        )


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


REPLAY_TYPES = {
    "session": "Int64",
    "session_id": "String",
    "old_status": "String",
    "old_result": "String",
    "old_error": "String",
    "old_duration_s": "Float64",
    "status": "String",
    "result": "String",
    "error": "String",
    "duration_s": "Float64",
    "changed": "Boolean",
    "waits": "Int64",
    "kept": "Int64",
    "asked": "Int64",
    "timed_out": "Int64",
    "problem": "String",
}
"""Columns of `Replays.sessions()`, with polars types."""


class Replays:
    """What became of each session then and now.

    Args:
        rows: A row per session.
    """

    def __init__(self, rows: Iterable[ReplayRow]) -> None:
        self._rows = [asdict(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        changed = sum(row["changed"] is True for row in self._rows)
        return f"<Replays {len(self._rows)} sessions, {changed} changed>"

    def session_rows(self) -> list[dict[str, Any]]:
        """A dict per session, in the order given; needs no extra."""
        return [dict(row) for row in self._rows]

    def sessions(self) -> polars.DataFrame:
        """A row per session: `REPLAY_TYPES`. Results are JSON, spans seconds.

        Raises:
            MissingExtra: polars is not installed.
        """
        return frame(self._rows, REPLAY_TYPES)


def recorded_runs(sessions: Iterable[Recording], task_id: str) -> list[RecordedRun]:
    """The newest runs of these sessions.

    Raises:
        UsageError: One of them has none, or is of another task.
        SessionFileDamaged: A file is not as it was written.
    """
    runs = [newest_run(read(one)) for one in sessions]
    for one in runs:
        if one.session.task != task_id:
            raise UsageError(
                f"{one.session.id} is a session of the task {one.session.task}, not of {task_id}"
            )
    return runs


async def replay_all(runs: Sequence[RecordedRun], change: Change, *, tell: Tell) -> list[ReplayRow]:
    """Replay one after the other."""
    rows = []
    for number, recorded in enumerate(runs):
        rows.append(await WhatIf(number, recorded, change).replay())
        tell(number + 1)
    return rows
