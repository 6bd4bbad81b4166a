"""Recorded sessions once more, with other code or other answers, under the clock of `helmr.testing`.

One begins when the recorded run began, under its ids, so that `ctx.uuid` and `ctx.random` give the same. An answer that
is kept comes as long after its question as it did then: another timeout may miss it. Steps do not act: each gives what
was recorded for it, or what a stand-in makes of its arguments.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from helmr.errors import HelmrError, NotAnAnswerer, SchemaMismatch, UsageError
from helmr.experiments.direction import (
    EXECUTE,
    Budget,
    Direction,
    Spending,
    StandIn,
    is_models,
    said,
)
from helmr.experiments.operators import Answer, Asked, Operator, draws, is_restricted
from helmr.experiments.replays import QuestionRow, ReplayRow, Replays, StepRow
from helmr.experiments.results import Tell
from helmr.experiments.simulation import text_of, to_json
from helmr.models import RunStatus
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession
from helmr.testing.recorded import (
    Entry,
    PastAnswer,
    RecordedRun,
    Recording,
    RunOutcome,
    SessionState,
    StepOutcome,
    outcome_of,
    question_keys,
    read,
    runs_of,
    state_of,
    steps_of,
)
from helmr.testing.session import Author
from helmr.wire import ids

KEPT, INITIAL, TOKEN, VOTED = "kept", "initial", "token", "voted"
"""Source of an answer that is not an operator's; the stream of a token; the state of a vote that is not enough."""

log = logging.getLogger("helmr.experiments")

ASKING_S = 3_600.0
"""Time for executing steps, in seconds, for all of them between two waits."""

WAITS_MAX = 1_000
"""Questions per run that get an answer: operators may send code round for ever."""


@dataclass(frozen=True)
class Change:
    """Changes to recorded sessions.

    Attributes:
        task: The code.
        also: Further tasks.
        answers: `keep`: answered questions get the recorded answer; `compare`: operators are asked too.
        operators: Answer the other questions.
        steps: Stand-ins for steps, by their names.
        seed: Source of all chance.
        budget: Bounds of the steps that execute.
        agree: True if a recorded answer and a proposed one mean the same.
        runs: The newest run of each session, or all.
    """

    task: Task[..., Any]
    also: Sequence[Task[..., Any]]
    answers: Literal["keep", "ask", "compare"]
    operators: Sequence[Operator]
    steps: Mapping[str, StandIn]
    seed: int
    budget: Budget | None = None
    agree: Callable[[Any, Any], bool] | None = None
    runs: Literal["newest", "all"] = "newest"


@dataclass(frozen=True, slots=True)
class _Reply:
    at: datetime
    data: Any
    by: str | None
    """An operator's name; None for a kept answer."""
    author: Author


@dataclass(slots=True)
class _Question:
    """A wait for a person in the replay; its row collects the findings."""

    keys: frozenset[str]
    row: QuestionRow
    proposed: Any = None
    replies: list[_Reply] = field(default_factory=list)
    """Replies to come, in order."""
    operators: list[Operator] = field(default_factory=list)
    """Operators not asked yet, in the order of their lots."""

    def propose(self, data: Any, by: str | None) -> None:
        """Record the answer that the new code, or an operator, proposes."""
        self.proposed, self.row.proposed, self.row.proposed_by = data, text_of(data), by


class WhatIf:
    """Replays one run.

    Args:
        number: Number of its session, from 0.
        recorded: The recorded run.
        change: The changes to it.
        spending: Shared account of the steps that execute.
    """

    def __init__(
        self, number: int, recorded: RecordedRun, change: Change, spending: Spending
    ) -> None:
        self._recorded = recorded
        self._change = change
        self._direction = Direction(number, recorded.steps, change.steps, spending)
        later = change.runs == "all" and recorded.number > 1
        self._place = (number, f"run {recorded.number}") if later else (number,)
        """In the names of all chance."""
        self._left = list(recorded.answers)
        self._names: Counter[str] = Counter()
        self._asked_of: dict[str, _Question] = {}
        """Questions by their waits."""
        self.steps: list[StepRow] = []
        status, result, error = _told(recorded.outcome)
        self.row = ReplayRow(
            session=number,
            session_id=recorded.session.id,
            run=recorded.number,
            old_status=status,
            old_result=result,
            old_error=error,
            old_duration_s=_between_s(recorded.run.created_at, recorded.outcome.ended_at),
        )

    async def replay(self) -> bool:
        """Run to the end, or until nothing more comes; False if the budget ended first."""
        run = self._recorded.run
        task = self._direction.over(self._change.task, run.id)
        harness = Harness(
            task,
            *self._change.also,
            replay_always=False,
            start_at=run.created_at,
            new_id=self._new_id,
        )
        harness.is_strict = False
        if EXECUTE in self._change.steps.values():
            harness.settle_s = ASKING_S
        async with harness:
            try:
                session = await self._begun(harness, task)
            except SchemaMismatch as error:
                self.row.problem = f"the payload no longer fits: {error.message}"
                return True
            await self._to_the_end(harness, session)
            if self._direction.is_over_budget:
                return False
            self._tell(await session.transcript())
        return True

    async def _begun(self, harness: Harness, task: Task[..., Any]) -> HarnessSession:
        """Start the session with its recorded input; a later run gets all entries before it."""
        recorded = self._recorded
        run, state = recorded.run, recorded.state
        if recorded.number == 1:
            return await harness.start(
                task,
                run.payload,
                external_id=state.external_id,
                tags=tuple(state.tags),
                metadata=state.metadata,
            )
        task.encode_payload(run.payload)
        harness.ledger.take_over([_alone(entry) for entry in recorded.before])
        await harness.settle()
        return HarnessSession(harness, recorded.session.id)

    def fail(self, error: Exception) -> None:
        """Record that this run can't be replayed; the others can."""
        told = error.message if isinstance(error, HelmrError) else str(error)
        self.row.problem = f"{type(error).__name__}: {told}"

    @property
    def questions(self) -> list[QuestionRow]:
        """Rows of the questions asked, each beside the answer recorded then."""
        asked = list(self._asked_of.values())
        found = references(
            [one.keys for one in asked], [one.row.stream for one in asked], self._recorded.answers
        )
        for one, (reference, is_same) in zip(asked, found, strict=True):
            if reference is None:
                continue
            one.row.old_answer, one.row.same_question = text_of(reference.data), is_same
            if one.row.proposed is not None:
                agree = self._change.agree or _is_equal
                one.row.agrees = bool(agree(reference.data, one.proposed))
        return [one.row for one in asked]

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
        while self._direction.problem is None:
            await harness.settle()
            state = await session.state()
            if not self._is_under_way(state):
                return
            due = clock.next_at
            opened = await self._opened(session, state)
            reply = self._next_reply(opened, clock.now()) if opened is not None else None
            if opened is not None and reply is not None and (due is None or reply.at < due):
                clock.move_to(max(reply.at, clock.now()))
                await self._give(harness, session, opened, reply)
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

    async def _opened(self, session: HarnessSession, state: SessionState) -> Entry | None:
        """Return the entry that opened the pending wait, if people or tokens answer it."""
        wait = state.wait
        if wait is None or wait.kind not in ("input", "token"):
            return None
        entries = await session.transcript()
        return next(
            e for e in reversed(entries) if e.kind == "wait.opened" and e.body["wait_id"] == wait.id
        )

    # --- answers ------------------------------------------------------------------------------------

    def _next_reply(self, opened: Entry, now: datetime) -> _Reply | None:
        """Return the next reply; without one, operators are asked as long as there are some."""
        question = self._asked_of.get(opened.body["wait_id"])
        if question is None:
            question = self._asked_of[opened.body["wait_id"]] = self._question(opened)
        if not question.replies and (reply := self._asked(opened, question, now)) is not None:
            question.replies.append(reply)
        return question.replies[0] if question.replies else None

    def _question(self, opened: Entry) -> _Question:
        self.row.waits += 1
        body = opened.body
        stream = self._change.task.streams().get(str(body.get("stream")))
        schema = stream.codec.json_schema() if stream is not None else None
        question = _Question(
            question_keys(self._change.task.id, body, schema),
            QuestionRow(
                session=self.row.session,
                session_id=self.row.session_id,
                run=self.row.run,
                number=self.row.waits,
                stream=body.get("stream") if body.get("token_id") is None else TOKEN,
                subject=body.get("subject"),
            ),
            operators=list(self._change.operators),
        )
        draws(self._change.seed, "lot", *self._place, self.row.waits).shuffle(question.operators)
        held = self._held(question) if self._change.answers != "ask" else None
        is_asked = held is None or self._change.answers == "compare"
        several = body.get("approvals", 1) if held is None else 1
        for _ in range(several if is_asked else 0):
            if (reply := self._asked(opened, question, opened.recorded_at)) is not None:
                question.replies.append(reply)
        if question.replies:
            question.propose(question.replies[0].data, question.replies[0].by)
        elif body.get("initial") is not None:
            question.propose(body["initial"], INITIAL)
        if held is not None:
            at = opened.recorded_at
            question.replies = [
                _Reply(at + timedelta(seconds=one.after_s), one.data, None, one.author)
                for one in held.given
            ]
        question.replies.sort(key=lambda one: one.at)
        return question

    def _held(self, question: _Question) -> PastAnswer | None:
        held = next((one for one in self._left if one.keys & question.keys), None)
        if held is not None:
            self._left.remove(held)
        return held

    def _asked(self, opened: Entry, question: _Question, now: datetime) -> _Reply | None:
        """Return the answer of the next operator who has one, drawn by lot; each is asked once."""
        body, number = opened.body, question.row.number
        deadline = body.get("deadline_at")
        assignee = body.get("assignee")
        while question.operators:
            operator = question.operators.pop(0)
            if not operator.is_asked(assignee) or not operator.may_answer(body):
                continue
            place = (operator.name, *self._place, number)
            answer = operator.policy(
                Asked(
                    session=self.row.session,
                    number=number,
                    payload=self._recorded.run.payload,
                    task=self._change.task.id,
                    kind=body["kind"],
                    stream=body.get("stream"),
                    correlation_id=body.get("correlation_id"),
                    subject=body.get("subject"),
                    body=body.get("body"),
                    opened_at=opened.recorded_at,
                    deadline_at=datetime.fromisoformat(deadline) if deadline else None,
                    random=draws(self._change.seed, "policy", *place),
                    assignee=assignee,
                )
            )
            if answer is None:
                continue
            data = to_json(answer.data if isinstance(answer, Answer) else answer)
            delay_s = operator.delay.sample_s(draws(self._change.seed, "delay", *place))
            hours = operator.hours
            at = (
                hours.after(now, delay_s) if hours is not None else now + timedelta(seconds=delay_s)
            )
            author = Author.of(operator.known_as, operator.groups)
            return _Reply(at, data, operator.name, author)
        return None

    async def _give(
        self, harness: Harness, session: HarnessSession, opened: Entry, reply: _Reply
    ) -> None:
        """Answer; a kept answer that does not fit what is asked now, or that its people may not give, is passed by."""
        token_id, wait_id = opened.body.get("token_id"), opened.body["wait_id"]
        question = self._asked_of[wait_id]
        question.replies.remove(reply)
        row, author = question.row, reply.author
        if not is_restricted(opened.body):
            author = replace(author, override_reason=None) if reply.by is None else Author.of(None)
        try:
            if token_id is not None:
                await harness.complete_token(token_id, reply.data)
            else:
                given = await session.answer_as(author, reply.data, wait_id)
                if given["outcome"] == VOTED:
                    return
        except (SchemaMismatch, NotAnAnswerer) as error:
            if reply.by is not None:
                raise
            row.problem = f"the recorded answer is not taken: {error.message}"
            return
        self.row.kept += reply.by is None
        self.row.asked += reply.by is not None
        row.answer, row.by = text_of(reply.data), reply.by or KEPT

    # --- what became of it ----------------------------------------------------------------------------

    def _tell(self, entries: Sequence[Entry]) -> None:
        row, run_id = self.row, self._recorded.run.id
        own = [entry for entry in entries if entry.run_id == run_id]
        timed_out = {e.body["wait_id"] for e in own if e.kind == "wait.timed_out"}
        opened = [
            e.body for e in own if e.kind == "wait.opened" and e.body["kind"] in ("input", "token")
        ]
        row.timed_out = sum(body["wait_id"] in timed_out for body in opened)
        run = state_of(self._recorded.session.id, entries[: own[-1].seq]).run
        assert run is not None
        self.steps = self._step_rows(steps_of(run))
        row.executed = len(self._direction.costs)
        row.cost = self._direction.cost
        row.problem = self._direction.problem
        if row.waits >= WAITS_MAX:
            row.problem = f"it has asked {WAITS_MAX} times"
        if row.problem is not None:
            return
        outcome = outcome_of(run.status, own)
        row.status, row.result, row.error = _told(outcome)
        row.duration_s = _between_s(self._recorded.run.created_at, outcome.ended_at)
        if self._recorded.outcome.ended_at is not None:
            row.changed = (row.old_status, row.old_result) != (row.status, row.result)
            row.changed = row.changed or (None if row.not_asked else False)

    def _step_rows(self, found: Mapping[str, Sequence[StepOutcome]]) -> list[StepRow]:
        """Each call then and now; those that were not made any more come last."""
        old, sources = self._recorded.steps, self._direction.sources
        calls = dict.fromkeys([*sources, *((n, i) for n in old for i in range(len(old[n])))])
        rows = []
        for name, number in calls:
            was, now = (_at(one.get(name, ()), number) for one in (old, found))
            source = sources.get((name, number))
            row = StepRow(
                session=self.row.session,
                session_id=self.row.session_id,
                run=self.row.run,
                step=name,
                number=number + 1,
                source=source,
            )
            (row.old_answer, row.old_error), (row.answer, row.error) = _said(was), _said(now)
            if source == "recorded":
                self.row.not_asked += was is not None and is_models(name, was)
            elif was is not None and now is not None:
                row.changed = (row.old_answer, row.old_error) != (row.answer, row.error)
            rows.append(row)
        return rows


def references(
    asked: Sequence[frozenset[str]],
    streams: Sequence[str | None],
    answers: Sequence[PastAnswer],
) -> list[tuple[PastAnswer | None, bool | None]]:
    """For each question what a person answered to it: to the same words, or else next on the same stream.

    Args:
        asked: The questions' keys.
        streams: Stream of each question.
        answers: The recorded answers, in the order asked.
    """
    left = list(answers)
    found: list[tuple[PastAnswer | None, bool | None]] = [(None, None)] * len(asked)
    for is_same in (True, False):
        for place, (keys, stream) in enumerate(zip(asked, streams, strict=True)):
            if found[place][0] is not None:
                continue
            fits = (one for one in left if (one.keys & keys if is_same else one.stream == stream))
            one = next(fits, None)
            if one is not None:
                left.remove(one)
                if not one.is_default:
                    found[place] = one, is_same
    return found


def _is_equal(human: Any, proposed: Any) -> bool:
    return text_of(human) == text_of(proposed)


def _at(outcomes: Sequence[StepOutcome], number: int) -> StepOutcome | None:
    return outcomes[number] if number < len(outcomes) else None


def _said(outcome: StepOutcome | None) -> tuple[str | None, str | None]:
    """Return a step's answer and error, as cells of a row."""
    if outcome is None:
        return None, None
    if outcome.error is not None:
        return None, f"{outcome.error.get('type')}: {outcome.error.get('message', '')}"
    return text_of(said(outcome.value)), None


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
    """Return status, result and error, as cells of a row."""
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


def recorded_runs(
    sessions: Iterable[Recording], task_id: str, *, newest: bool
) -> list[list[RecordedRun]]:
    """The runs of each of these sessions, or the newest of each.

    Raises:
        UsageError: One of them has none, or is of another task.
        SessionFileDamaged: A file is not as it was written.
    """
    found = [runs_of(read(one), newest=newest) for one in sessions]
    for one in (runs[0].session for runs in found):
        if one.task != task_id:
            raise UsageError(f"{one.id} is a session of the task {one.task}, not of {task_id}")
    return found


def _alone(entry: Entry) -> Entry:
    """Return the entry without a parent session: nothing in it leaves the session."""
    if entry.kind != "session.created":
        return entry
    body = {name: value for name, value in entry.body.items() if name != "parent"}
    return replace(entry, body=body)


async def replay_all(
    sessions: Sequence[Sequence[RecordedRun]], change: Change, *, tell: Tell
) -> Replays:
    """Replay one after the other, as far as the budget goes; a run that it cuts short is left out."""
    spending = Spending(change.budget)
    runs = [(number, one) for number, found in enumerate(sessions) for one in found]
    left_out = sum(found[0].number - 1 for found in sessions)
    if left_out:
        log.warning(
            'only the newest run of each session is replayed: %d earlier ones are left out (runs="all" takes them)',
            left_out,
        )
    told: list[WhatIf] = []
    stopped = None
    for done, (number, recorded) in enumerate(runs, 1):
        one = WhatIf(number, recorded, change, spending)
        try:
            is_whole = await one.replay()
        except Exception as error:  # whatever ails one of them: the others were paid for, too
            log.warning("%s can't be replayed", recorded.run.id, exc_info=True)
            one.fail(error)
            is_whole = True
        if is_whole:
            told.append(one)
        tell(done)
        if not is_whole or done < len(runs):
            stopped = spending.over(is_new=is_whole)
        if stopped is not None:
            what = "runs" if change.runs == "all" else "sessions"
            stopped = f"stopped after {len(told)} of {len(runs)} {what}: {stopped}"
            break
    return Replays(
        [one.row for one in told],
        [row for one in told for row in one.steps],
        [row for one in told for row in one.questions],
        stopped=stopped,
        spent=spending.money,
        left_out=left_out,
    )
