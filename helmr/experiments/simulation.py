"""An experiment and its course, pure: events go in, due actions come out. No clock, no I/O, no loop.

Two drivers share it: one moves a fake clock from event to event, the other lives in real time beside a runtime.
Ties are broken by session and wait numbers, never by the order in which something was noticed.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random  # noqa: TID251 - seeded by name
from typing import Any

from pydantic import BaseModel, TypeAdapter

from helmr.errors import UsageError
from helmr.experiments.operators import (
    NO_DELAY,
    Answer,
    Asked,
    Delay,
    Operator,
    draws,
    is_restricted,
)
from helmr.tasks import Task
from helmr.wire.durations import Duration, seconds
from helmr.wire.people import answered_by, person_key

SESSIONS_MAX = 1_000_000


@dataclass(frozen=True)
class Case:
    """A session to start, as the payload function sees it.

    Attributes:
        session: Its number, from 0.
        random: Its chance.
    """

    session: int
    random: Random


@dataclass(frozen=True)
class Experiment:
    """Sessions of one task and the operators who answer their waits.

    Args:
        task: The task; its id is enough for a live runtime, the harness needs the task itself.
        sessions: Number of sessions.
        operators: The people who answer. A wait goes to one who is at work and free, by lot if there are several; one
            whose policy returns None leaves it to the others. With no one free it queues, oldest first.
        payload: JSON, a model, or a function of a `Case` that gives one.
        gap: Time from one session's start to the next one's.
        until: Time from the start to the end of the experiment, even if sessions still wait; None: until all have
            ended or nothing can happen any more.
        also: Further tasks that the harness needs.

    Raises:
        UsageError: One of them can't be.
    """

    task: Task[..., Any] | str
    sessions: int
    operators: Sequence[Operator]
    payload: Any | Callable[[Case], Any] = None
    gap: Delay = NO_DELAY
    until: Duration | None = None
    also: Sequence[Task[..., Any]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.task, Task | str):
            raise UsageError(f"task is neither a task nor an id: {self.task!r}")
        if type(self.sessions) is not int or not 1 <= self.sessions <= SESSIONS_MAX:
            raise UsageError(f"sessions must be 1 to {SESSIONS_MAX:,}, not {self.sessions!r}")
        if not _are_all(self.operators, Operator):
            raise UsageError("operators must be a sequence of Operator")
        if not _are_all(self.also, Task):
            raise UsageError("also must be a sequence of tasks")
        names = [one.name for one in self.operators]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"two operators are called {twice[0]}",
                hint="Random draws depend on the name: give each its own.",
            )
        if not isinstance(self.gap, Delay):
            raise UsageError(
                f"gap is not a Delay: {self.gap!r}",
                hint='Delay.fixed("1m"), Delay.exponential("5m")',
            )
        if self.until is not None:
            seconds(self.until)

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.task if isinstance(self.task, str) else self.task.id

    def payload_of(self, case: Case) -> Any:
        """The payload of one session, as JSON."""
        return to_json(self.payload(case) if callable(self.payload) else self.payload)


def _are_all(values: Any, kind: type) -> bool:
    return isinstance(values, Sequence) and all(isinstance(one, kind) for one in values)


def to_json(value: Any) -> Any:
    """A value as JSON: models and dataclasses by pydantic.

    Raises:
        UsageError: It has no JSON.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    try:
        return TypeAdapter(Any).dump_python(value, mode="json")
    except ValueError as error:
        raise UsageError(f"{value!r} is not JSON") from error


_ENDS = {
    "run.succeeded": "succeeded",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
    "run.blocked": "blocked",
    "session.cancelled": "cancelled",
}
_GOES_ON = {"run.created": "queued", "run.started": "running", "run.resumed": "running"}
_WAIT_ENDS = {
    "wait.fulfilled": "fulfilled",
    "wait.timed_out": "timed_out",
    "wait.cancelled": "cancelled",
}


@dataclass(frozen=True)
class Start:
    """A session to start."""

    session: int
    payload: Any


@dataclass(frozen=True)
class OperatorReply:
    """An operator's answer to send."""

    session: int
    session_id: str
    wait_id: str
    token_id: str | None
    operator: Operator
    data: Any
    restricted: bool = False
    """The wait is restricted: the operator answers as a person."""


_Due = tuple[datetime, int, int, int, str, Any]
"""Due time, kind, order among things of one instant, and an operator's answer."""


@dataclass(slots=True)
class SimulatedSession:
    """One session and its outcome."""

    session: int
    session_id: str | None = None
    status: str = "not_started"
    result: str | None = None
    error: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    waits: int = 0
    answered: int = 0
    timed_out: int = 0
    waited_s: float = 0.0

    @property
    def is_over(self) -> bool:
        """True if nothing more comes unless someone acts."""
        return self.status in ("succeeded", "failed", "cancelled", "blocked")


@dataclass(slots=True)
class SimulatedWait:
    """One wait and its outcome."""

    session: int
    number: int
    kind: str
    stream: str | None
    subject: str | None
    opened_at: datetime
    deadline_at: datetime | None
    status: str = "pending"
    ended_at: datetime | None = None
    waited_s: float | None = None
    operator: str | None = None
    taken_at: datetime | None = None
    answer: str | None = None
    assignee: str | None = None
    reminders: int = 0
    by_default: bool = False


@dataclass(slots=True, eq=False)
class _Open:
    """A wait that is not over."""

    wait_id: str
    token_id: str | None
    session_id: str
    row: SimulatedWait
    body: str | None
    correlation_id: str | None
    opened: Mapping[str, Any]
    """The body of its `wait.opened`."""
    asked_of: set[str] = field(default_factory=set)
    holders: dict[str, str] = field(default_factory=dict)
    """Operators who work on it, with their answers to come."""
    voted: int = 0
    """Votes for the leading answer."""
    escalations: bool = False
    """The wait's escalation has steps left."""

    @property
    def is_wanted(self) -> bool:
        """True if the wait takes one more operator: several where several must agree."""
        approvals: int = self.opened.get("approvals", 1)
        return len(self.holders) + self.voted < approvals

    @property
    def order(self) -> tuple[datetime, int, int]:
        return self.row.opened_at, self.row.session, self.row.number


class Simulation:
    """The course of one experiment under one seed.

    Args:
        experiment: The experiment.
        seed: Source of all chance.
        began_at: Time of the start.
    """

    def __init__(self, experiment: Experiment, *, seed: int, began_at: datetime) -> None:
        self._experiment = experiment
        self._seed = seed
        self.sessions = [SimulatedSession(number) for number in range(experiment.sessions)]
        self.waits: list[SimulatedWait] = []
        self._payloads: dict[int, Any] = {}
        self._numbers: dict[str, int] = {}
        self._open: dict[str, _Open] = {}
        self._queue: list[_Open] = []
        self._hands = {operator.name: 0 for operator in experiment.operators}
        self._due: list[_Due] = []
        self._wakes: set[datetime] = set()
        self._over = 0
        gap_at = began_at
        for number in range(experiment.sessions):
            heapq.heappush(self._due, (gap_at, 0, number, 0, "", None))
            gap_s = experiment.gap.sample_s(draws(seed, "gap", number))
            gap_at = _later(gap_at, gap_s, experiment.gap)

    # --- what is due ------------------------------------------------------------------------------

    @property
    def next_at(self) -> datetime | None:
        """Time at which something is due next; None if nothing is, unless something happens first."""
        while self._due and self._is_stale(self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    @property
    def over(self) -> int:
        """Number of sessions that have ended."""
        return self._over

    @property
    def is_over(self) -> bool:
        """True once every session has ended."""
        return self._over == len(self.sessions)

    @property
    def is_stuck(self) -> bool:
        """True if each session left waits, without a deadline, for an answer that no operator will give."""
        if self.next_at is not None:
            return False
        alive = sum(1 for row in self.sessions if not row.is_over)
        for_ever = sum(
            1
            for wait in self._open.values()
            if wait.row.deadline_at is None and not wait.holders and not wait.escalations
        )
        return alive == for_ever

    def _is_stale(self, item: _Due) -> bool:
        return isinstance(item[-1], OperatorReply) and item[-1].wait_id not in self._open

    def due(self, now: datetime) -> list[Start | OperatorReply]:
        """Pop the actions that are due by now, in order."""
        found: list[Start | OperatorReply] = []
        while (next_at := self.next_at) is not None and next_at <= now:
            _, kind, number, _, _, item = heapq.heappop(self._due)
            if kind == 0:
                case = Case(number, draws(self._seed, "payload", number))
                self._payloads[number] = self._experiment.payload_of(case)
                found.append(Start(number, self._payloads[number]))
            elif kind == 1:
                found.append(item)
            else:
                self._wakes.discard(next_at)
        self.hand_out(now)
        return found

    # --- what happened ----------------------------------------------------------------------------

    def started(self, number: int, session_id: str) -> None:
        """Record the id of a started session."""
        self._numbers[session_id] = number
        self.sessions[number].session_id = session_id

    def knows(self, session_id: str) -> bool:
        """True for a session of this experiment."""
        return session_id in self._numbers

    def has_ended(self, session_id: str) -> bool:
        """True if nothing more comes of that session unless someone acts."""
        return self.sessions[self._numbers[session_id]].is_over

    def saw(
        self,
        session_id: str,
        kind: str,
        body: Mapping[str, Any],
        *,
        recorded_at: datetime,
    ) -> None:
        """An entry of one of the sessions, in the order of its transcript; `hand_out` follows the last.

        Args:
            session_id: The session.
            kind: The entry's kind.
            body: Its body.
            recorded_at: Time of the entry.
        """
        row = self.sessions[self._numbers[session_id]]
        was_over = row.is_over
        if kind == "session.created":
            row.started_at = recorded_at
        elif kind == "wait.opened" and body["kind"] in ("input", "token"):
            row.status = "waiting"
            self._opened(row, body, recorded_at)
        elif kind in ("wait.reminded", "wait.assigned") and body["wait_id"] in self._open:
            self._told_again(self._open[body["wait_id"]], kind, body)
        elif kind == "wait.voted" and body["wait_id"] in self._open:
            self._voted(self._open[body["wait_id"]], body)
        elif kind in _WAIT_ENDS:
            self._wait_ended(row, body, _WAIT_ENDS[kind], recorded_at)
        elif kind in _GOES_ON:
            row.status, row.ended_at, row.result, row.error = _GOES_ON[kind], None, None, None
        elif kind in _ENDS and not row.is_over:
            self._ended(row, _ENDS[kind], body, recorded_at)
        self._over += int(row.is_over) - int(was_over)

    def _ended(
        self, row: SimulatedSession, status: str, body: Mapping[str, Any], recorded_at: datetime
    ) -> None:
        row.status, row.ended_at = status, recorded_at
        if row.started_at is not None:
            row.duration_s = (recorded_at - row.started_at).total_seconds()
        if status == "succeeded":
            row.result = text_of(body.get("result"))
        elif status == "failed":
            error = body["error"]
            row.error = f"{error.get('type') or error.get('code')}: {error.get('message', '')}"
        elif status == "blocked":
            row.error = f"{body.get('code')}: {body.get('message', '')}"

    def _opened(
        self, row: SimulatedSession, body: Mapping[str, Any], recorded_at: datetime
    ) -> None:
        row.waits += 1
        deadline = body.get("deadline_at")
        wait = SimulatedWait(
            session=row.session,
            number=row.waits,
            kind=str(body["kind"]),
            stream=body.get("stream"),
            subject=body.get("subject"),
            opened_at=recorded_at,
            deadline_at=datetime.fromisoformat(deadline) if deadline is not None else None,
            assignee=body.get("assignee"),
        )
        self.waits.append(wait)
        assert row.session_id is not None
        opened = _Open(
            str(body["wait_id"]),
            body.get("token_id"),
            row.session_id,
            wait,
            body.get("body"),
            body.get("correlation_id"),
            body,
            escalations=_escalations(body),
        )
        self._open[opened.wait_id] = opened
        self._enqueue(opened)
        if not any(one.may_answer(body) for one in self._experiment.operators):
            lists = body.get("answerers", ()), body.get("not_by", ())
            row.error = f"no operator may answer: it is answered {answered_by(*lists, body.get('approvals', 1))}"

    def _enqueue(self, opened: _Open) -> None:
        self._queue.append(opened)
        self._queue.sort(key=lambda one: one.order)

    def _told_again(self, opened: _Open, kind: str, body: Mapping[str, Any]) -> None:
        """Ask all operators again after a reminder, or the named one after an assignment; work on the wait goes on."""
        row, opened.escalations = opened.row, _escalations(body)
        if kind == "wait.reminded":
            row.reminders += 1
            opened.asked_of.clear()
        else:
            row.assignee = body.get("assignee")
            opened.asked_of.discard(row.assignee or "")
        if opened.is_wanted and opened not in self._queue:
            self._enqueue(opened)

    def _voted(self, opened: _Open, body: Mapping[str, Any]) -> None:
        """Record a vote; another operator is asked if the wait takes more."""
        opened.voted = body["have"]
        self._let_go(opened, self._called(body["person"]["id"]))

    def refused(self, reply: OperatorReply, why: str) -> None:
        """Record that a runtime refused an operator's answer: others may give one."""
        opened = self._open.get(reply.wait_id)
        if opened is not None:
            self.sessions[reply.session].error = f"{reply.operator.name}: {why}"
            self._let_go(opened, reply.operator.name)

    def _let_go(self, opened: _Open, operator: str | None) -> None:
        if operator is not None and opened.holders.pop(operator, None) is not None:
            self._hands[operator] -= 1
        opened.row.operator = next(iter(opened.holders), None)
        if opened.is_wanted and opened not in self._queue:
            self._enqueue(opened)

    def _called(self, person: str) -> str | None:
        """Return the operator who answers as this person; None if there is none."""
        found = (one for one in self._experiment.operators if one.known_as == person_key(person))
        return next((one.name for one in found), None)

    def _wait_ended(
        self, row: SimulatedSession, body: Mapping[str, Any], status: str, recorded_at: datetime
    ) -> None:
        opened = self._open.pop(str(body["wait_id"]), None)
        if opened is None:
            return
        wait = opened.row
        wait.status, wait.ended_at = status, recorded_at
        wait.waited_s = (recorded_at - wait.opened_at).total_seconds()
        wait.by_default = body.get("mode") == "default"
        # Where several work on it, the one whose answer it was.
        by = self._called(body["person"]["id"]) if "person" in body else None
        if by in opened.holders:
            wait.operator, wait.answer = by, opened.holders[by]
        if status != "fulfilled" or wait.by_default:
            wait.answer = None
        row.waited_s += wait.waited_s
        row.answered += status == "fulfilled"
        row.timed_out += status == "timed_out"
        row.status, row.error = "running", None
        if opened in self._queue:
            self._queue.remove(opened)
        for operator in opened.holders:
            self._hands[operator] -= 1

    # --- handing out ------------------------------------------------------------------------------

    def hand_out(self, now: datetime) -> None:
        """Give each queued wait to an operator, oldest first, while there is one with a hand free.

        Only once everything that happened by `now` was seen: which of two waits ended first in one instant must not
        decide who gets the other.
        """
        free = [one for one in self._experiment.operators if self._has_hand(one)]
        if not self._queue or not free:
            return
        at_work = [one for one in free if one.is_at_work(now)]
        for opened in tuple(self._queue):
            if not at_work:
                break
            self._offer(opened, at_work, now)
            at_work = [one for one in at_work if self._has_hand(one)]
        self._queue = [one for one in self._queue if self._may_be_taken(one)]
        if self._queue:
            self._wake_for_the_next_shift(free, now)

    def _may_be_taken(self, opened: _Open) -> bool:
        """True if an operator who may answer was not asked yet."""
        return any(self._is_asked(one, opened) for one in self._experiment.operators)

    def _is_asked(self, operator: Operator, opened: _Open) -> bool:
        is_new = operator.name not in opened.asked_of
        is_one = operator.is_asked(opened.row.assignee) and operator.may_answer(opened.opened)
        return is_new and is_one

    def _has_hand(self, operator: Operator) -> bool:
        return operator.at_once is None or self._hands[operator.name] < operator.at_once

    def _offer(self, opened: _Open, at_work: list[Operator], now: datetime) -> None:
        row = opened.row
        left = [one for one in at_work if self._is_asked(one, opened)]
        draws(self._seed, "lot", row.session, row.number).shuffle(left)
        for operator in left:
            opened.asked_of.add(operator.name)
            place: tuple[str | int, ...] = (operator.name, row.session, row.number)
            if row.reminders:
                place = (*place, "reminded", row.reminders)
            asked = Asked(
                session=row.session,
                number=row.number,
                payload=self._payloads[row.session],
                task=self._experiment.task_id,
                kind=row.kind,
                stream=row.stream,
                correlation_id=opened.correlation_id,
                subject=row.subject,
                body=opened.body,
                opened_at=row.opened_at,
                deadline_at=row.deadline_at,
                random=draws(self._seed, "policy", *place),
                assignee=row.assignee,
                reminders=row.reminders,
            )
            answer = operator.policy(asked)
            if answer is None:
                continue
            data = to_json(answer.data if isinstance(answer, Answer) else answer)
            delay_s = operator.delay.sample_s(draws(self._seed, "delay", *place))
            hours = operator.hours
            ends_at = _later(now, delay_s, operator.delay)
            if hours is not None:
                ends_at = hours.after(now, delay_s)
            reply = OperatorReply(
                row.session,
                opened.session_id,
                opened.wait_id,
                opened.token_id,
                operator,
                data,
                restricted=is_restricted(opened.opened),
            )
            heapq.heappush(self._due, (ends_at, 1, row.session, row.number, operator.name, reply))
            row.operator, row.taken_at, row.answer = operator.name, now, text_of(data)
            opened.holders[operator.name] = row.answer
            self._hands[operator.name] += 1
            if not opened.is_wanted:
                self._queue.remove(opened)
                return

    def _wake_for_the_next_shift(self, free: list[Operator], now: datetime) -> None:
        """Schedule a wake-up at the next start of a shift."""
        opens = [one.hours.next_open(now) for one in free if one.hours is not None]
        later = min((one for one in opens if one > now), default=None)
        if later is not None and later not in self._wakes:
            self._wakes.add(later)
            heapq.heappush(self._due, (later, 2, 0, 0, "", None))


def _escalations(body: Mapping[str, Any]) -> bool:
    """True if an entry with this body leaves a step of the wait's escalation to come."""
    return "next_escalation_at" in body or "default_at" in body


def _later(moment: datetime, by_s: float, drawn: Delay) -> datetime:
    try:
        return moment + timedelta(seconds=by_s)
    except OverflowError as error:
        raise UsageError(f"{drawn.name} drew {by_s:.3g} s, which ends after year 9999") from error


def text_of(value: Any) -> str:
    """JSON text that is the same for the same data."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
