"""The newest run of a session, its journal and its wait from question to end, as entries leave them (S-53). Pure.

A replay walks the journal: entries are added as they are folded, and ops that the next attempt repeats are set aside
(S-5). Only `SessionState.apply` changes a run, and `checkpoint` restores it. Outside systems recognize a repeated step
by its step key.

Of a wait:

- The question hash names the question as a person sees it: two waits with the same hash asked the same, of the same
  task (S-70…S-74).
- An escalation's steps stand in `wait.opened`. Each entry after which another step is next, or the same at another
  time, says so (`times`): the ledger knows when to look at a parked session, and need not know at what (S-82).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from helmr.models import AnswerMode, RunStatus
from helmr.wait_details import WaitDetails, question_hash, recorded
from helmr.wire.schema import schema_digest
from helmr_runtime.core.answerers import ANYONE, Answerers, with_starters
from helmr_runtime.core.entries import LINK, Entry, EntryKind, Principal, from_iso, iso
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.tokens import TokenQuestion

_WHO = tuple(one.name for one in fields(Answerers))
_who_of: Callable[[object], tuple[Any, ...]] = attrgetter(*_WHO)
_ANYONES = _who_of(ANYONE)

ASKS_PEOPLE = frozenset({"input", "token"})
"""Kinds of waits that someone can answer."""


def record_parts(
    task: str,
    session_tags: Sequence[str],
    ask: WaitRequest,
    question: TokenQuestion | None,
    starters: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the keys of `wait.opened` that hold question and assignee; unset ones are left out.

    Args:
        session_tags: The session's tags. They never change, so lists of waits need not read sessions.
        ask: The code's request.
        question: The awaited token's question; fills in what the code left out.
        starters: The people who started the session, its ancestors, and its run.
    """
    if ask.wait_kind not in ASKS_PEOPLE:
        return {}
    said = _said(ask.details, question)
    found = recorded(said)
    if said.not_by:
        found["not_by"] = with_starters(said.not_by, starters)
    if ask.trace_id is not None:
        found["trace_id"] = ask.trace_id
    if session_tags:
        found["session_tags"] = list(session_tags)
    found["question_hash"] = question_hash(
        task, ask.stream or ask.wait_kind, ask.correlation_id, said, said.shown_digest
    )
    return found


def _said(details: WaitDetails, question: TokenQuestion | None) -> WaitDetails:
    """The wait's own words, the token's where it has none."""
    if question is None:
        return details
    digest = details.shown_digest
    if digest is None and question.schema is not None:
        digest = schema_digest(question.schema)
    return replace(
        details,
        subject=details.subject if details.subject is not None else question.subject,
        body=details.body if details.body is not None else question.body,
        shown_digest=digest,
        initial=details.initial if details.initial is not None else question.initial,
        evidence=details.evidence if details.evidence is not None else question.evidence,
        # A wait with its own schema takes other answers: the token's default may not be among them.
        escalation=details.escalation or (question.escalation if details.schema is None else ()),
    )


def mode_of(principal: Principal, *, is_page: bool = False) -> str:
    """Return the channel of an answer by this principal (S-73).

    Args:
        principal: The principal that answered.
        is_page: The answer came through the page behind a callback URL.
    """
    if is_page or principal.type == LINK:
        return AnswerMode.LINK.value
    if principal.person is not None:
        return AnswerMode.PERSON.value
    return AnswerMode.PROGRAM.value


RESUME_LONG_S = 1.0
"""A longer resume is reported: a chat pays it for each message after a park."""

WAY_OUT = (
    "ctx.continue_as begins a fresh journal, and a history reads back what was said (docs/chats.md)"
)
"""Hint for a run whose journal is too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """An escalation in progress.

    Attributes:
        steps: As in the body of `wait.opened`; a step's number is its index.
        opened_at: Start of the time of steps counted from the opening.
        assigned_at: Start of the time of steps counted from the newest assignment; None without an assignee.
        ends_at: The wait's deadline or its token's expiry; steps at or after it never fire.
        fired: The escalation steps that have fired, in that order.
    """

    steps: Sequence[Mapping[str, Any]]
    opened_at: datetime
    assigned_at: datetime | None
    ends_at: datetime | None
    fired: tuple[int, ...] = ()

    @classmethod
    def of(cls, opened: Mapping[str, Any]) -> Escalation | None:
        """Read the escalation of a `wait.opened`; None if it has none, or predates running escalations."""
        if "counted_at" not in opened:
            return None
        opened_at, ends_at = from_iso(opened["counted_at"]), opened.get("deadline_at")
        return cls(
            steps=opened["escalation"],
            opened_at=opened_at,
            assigned_at=opened_at if "assignee" in opened else None,
            ends_at=from_iso(ends_at) if ends_at is not None else None,
        )

    def time_of(self, number: int) -> datetime | None:
        """Return the time at which the step fires as things are; None if it has fired or won't."""
        step = self.steps[number]
        since = self.assigned_at if step["from"] == "assigned" else self.opened_at
        if number in self.fired or since is None:
            return None
        at = since + timedelta(seconds=step["after_s"])
        return at if self.ends_at is None or at < self.ends_at else None

    def next(self) -> tuple[datetime, int] | None:
        """Return time and number of the next step; of several at once, the first one declared."""
        times = ((self.time_of(number), number) for number in range(len(self.steps)))
        return min(((at, number) for at, number in times if at is not None), default=None)

    @property
    def next_at(self) -> datetime | None:
        """The time of the next escalation step."""
        found = self.next()
        return found[0] if found is not None else None

    @property
    def default_at(self) -> datetime | None:
        """The time of the default if every step before it fires in time; people cannot answer from then on."""
        escalated = self
        while (found := escalated.next()) is not None:
            at, number = found
            if self.steps[number]["do"] == "default":
                return at
            escalated = escalated.fires(number, at)
        return None

    def fires(self, number: int, at: datetime) -> Escalation:
        """The escalation once that escalation step has fired."""
        is_assignment = self.steps[number]["do"] == "assign"
        return replace(
            self,
            fired=(*self.fired, number),
            assigned_at=at if is_assignment else self.assigned_at,
        )

    def assigned(self, assignee: str | None, at: datetime) -> Escalation:
        """The escalation once someone has assigned the wait, or removed its assignee."""
        return replace(self, assigned_at=at if assignee is not None else None)

    def after(self, entry: Entry) -> Escalation:
        """The escalation once a `wait.reminded` or `wait.assigned` is written."""
        body = entry.body
        number = body.get("escalation_step")
        if number is not None:
            at = from_iso(body["counted_at"]) if "counted_at" in body else entry.recorded_at
            return self.fires(number, at)
        if entry.kind is EntryKind.WAIT_ASSIGNED and "counted_at" in body:
            return self.assigned(body.get("assignee"), from_iso(body["counted_at"]))
        return self

    def due(self, now: datetime) -> Iterator[tuple[int, Escalation]]:
        """Yield the steps that are due by now, in order, each with the escalation after it; a default is the last.

        Steps counted from an assignment that is made only now are not due.
        """
        escalated = self
        while (found := escalated.next()) is not None and found[0] <= now:
            number = found[1]
            escalated = escalated.fires(number, now)
            yield number, escalated
            if self.steps[number]["do"] == "default":
                return

    def times(self) -> dict[str, Any]:
        """Return an entry's keys about the next step, if any: `next_escalation`, `next_escalation_at`, `default_at`."""
        found = self.next()
        if found is None:
            return {}
        said = {"next_escalation": found[1], "next_escalation_at": iso(found[0])}
        default_at = self.default_at
        return said | ({"default_at": iso(default_at)} if default_at is not None else {})


def opening(body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the keys about time that a `wait.opened` with an escalation has: the start of its count and its next
    step."""
    if not body.get("escalation"):
        return {}
    counted = {"counted_at": iso(now)}
    escalation = Escalation.of({**body, **counted})
    assert escalation is not None
    return counted | escalation.times()


@dataclass(slots=True)
class Wait:
    """The run's pending wait."""

    id: str
    run_id: str
    op: int
    kind: str
    deadline_at: datetime | None
    is_backoff: bool
    stream: str | None = None
    correlation_id: str | None = None
    token_id: str | None = None
    has_schema: bool = False
    """It has a JSON Schema of its own, which stands in its `wait.opened` (S-71)."""
    session_ids: tuple[str, ...] = ()
    """The children; the first to end resolves the wait (S-91)."""
    assignee: str | None = None
    """The assignee, as opened or as assigned since (S-72)."""
    escalation: Escalation | None = None
    """The escalation while no one answers, with its progress (S-82)."""
    answerers: tuple[str, ...] = ()
    not_by: tuple[str, ...] = ()
    approvals: int = 1
    refusals: tuple[Any, ...] = ()
    comments: tuple[str, ...] = ()
    signed: bool = False
    deputies: bool | None = None
    """These fields hold the wait's `Answerers` (S-112)."""
    votes: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Seq and proposal of each person's newest vote, by the person's id; the newest last (S-113). A deputy's vote
    stands under two ids, with one seq: theirs and the delegator's (S-142)."""

    @property
    def restriction(self) -> Answerers:
        """The wait's rule; exactly `ANYONE` for a wait without one."""
        said = _who_of(self)
        return ANYONE if said == _ANYONES else Answerers(**dict(zip(_WHO, said, strict=True)))

    @property
    def is_restricted(self) -> bool:
        """Only an answer by a person that it admits resolves it."""
        who = self.restriction
        return who is not ANYONE and who.is_restricted

    def standing(self, proposal: str | None = None) -> int:
        """Return the number of votes for that proposal, or for the newest vote's proposal."""
        newest = next(reversed(self.votes.values()), (0, ""))[1]
        return len({seq for seq, one in self.votes.values() if one == (proposal or newest)})

    @classmethod
    def opened(cls, entry: Entry, op: int) -> Wait:
        """Return the wait that a `wait.opened` begins; keys with the name of a field set it."""
        body = entry.body
        said: dict[str, Any] = {name: body[name] for name in _SAID_OF_WAITS if name in body}
        lists = {name: tuple(one) for name, one in said.items() if isinstance(one, list)}
        assert entry.run_id is not None
        return cls(
            id=body["wait_id"],
            run_id=entry.run_id,
            op=op,
            deadline_at=own_deadline(body),
            is_backoff=bool(body.get("backoff")),
            has_schema=body["kind"] == "input" and "schema" in body,
            escalation=Escalation.of(body),
            **{**said, **lists},
        )

    @property
    def due_at(self) -> datetime | None:
        """The next time that changes it: an escalation step, or its deadline."""
        next_at = self.escalation.next_at if self.escalation is not None else None
        return (
            self.deadline_at if next_at is None else next_at
        )  # an escalation step comes before the deadline

    @property
    def default_at(self) -> datetime | None:
        """The time at which its escalation's default answers it."""
        return self.escalation.default_at if self.escalation is not None else None

    def is_over(self, now: datetime) -> bool:
        """Its deadline has passed (S-14: at the deadline is after it)."""
        return self.deadline_at is not None and now >= self.deadline_at

    @property
    def awaits(self) -> tuple[str, ...]:
        """The token, or the child sessions; the first to end resolves it."""
        return (self.token_id,) if self.token_id is not None else self.session_ids

    @property
    def has_own_op(self) -> bool:
        """False for a step's backoff, which the code did not ask for."""
        return not self.is_backoff


_SAID_OF_WAITS = frozenset(one.name for one in fields(Wait)) - {
    "id",
    "run_id",
    "op",
    "deadline_at",
    "is_backoff",
    "has_schema",
    "escalation",
    "votes",
}
"""Fields that `wait.opened` holds under their own names."""


def own_deadline(opened: Mapping[str, Any]) -> datetime | None:
    """Return the time at which a wait times out by itself, from the body of its `wait.opened`.

    None if its deadline is its token's expiry: then only the token's end ends the wait, so that a completion before it
    can't lose to a timer (S-14, S-40).
    """
    deadline = opened.get("deadline_at")
    return from_iso(deadline) if deadline is not None and "deadline_of" not in opened else None


ACTIVE = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.BLOCKED})
"""Run statuses that are not an end (S-3)."""

STEP_OUTCOMES = frozenset({EntryKind.STEP_SUCCEEDED, EntryKind.STEP_FAILED})
WAIT_OUTCOMES = frozenset(
    {EntryKind.WAIT_FULFILLED, EntryKind.WAIT_TIMED_OUT, EntryKind.WAIT_CANCELLED}
)
INSTANT = frozenset(
    {
        EntryKind.OUTPUT_APPENDED,
        EntryKind.CLOCK_READ,
        EntryKind.PEEK_READ,
        EntryKind.HISTORY_READ,
        EntryKind.TOKEN_CREATED,
        EntryKind.PUBLIC_TOKEN_CREATED,
    }
)
"""Ops whose one entry is both opening and outcome. A public token that a client made has no op."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the journal that an earlier checkpoint holds: `journal[first:count]`, the last of it at `last_seq`.

    `offset` and `seq` are that checkpoint's: feed offset and seq of the last entry that it covers.
    """

    offset: int
    seq: int
    first: int
    count: int
    last_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerToKeep:
    """An answer that a rewind keeps for a wait that asks the same (S-78): a record, or a token wait's own data.

    Attributes:
        question_hash: The question hash of a wait that may take it.
        wait_id: The wait, set aside, that had it.
        op: The op of an amended wait of release 0.1.0, which has no question hash: that op's next wait may take it.
    """

    question_hash: str
    wait_id: str
    stream: str | None = None
    record_id: str | None = None
    record_seq: int | None = None
    data: Any = None
    mode: str | None = None
    op: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the parts that are known, always with a token wait's data."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        is_token = self.stream is None
        return {k: v for k, v in parts.items() if v is not None or (k == "data" and is_token)}


@dataclass(slots=True)
class Run:
    """The session's newest run."""

    id: str
    task: str
    payload: Any
    created_seq: int
    created_at: datetime | None = None
    """None in a run whose checkpoint was written before it held this."""
    draws_from: str | None = None
    """In a fork, the origin's run, whose id seeds ids and random numbers (S-86)."""
    starters: tuple[str, ...] = ()
    """People who started it, or sent the record that did; empty before release 0.7.0, whose sessions hold them."""
    attempt: int = 1
    first_attempt: int = 1
    """First attempt since the newest rewind; the policy's retries count from it (S-75)."""
    status: RunStatus = RunStatus.QUEUED
    is_started: bool = False
    """This attempt has executed before (`run.started` was written)."""
    retry_at: datetime | None = None
    wait: Wait | None = None
    open_steps: set[int] = field(default_factory=set)
    journal: list[Entry] = field(default_factory=list)
    op_max: int = 0
    """Highest op number opened in this run."""
    crashes: int = 0
    is_cautious: bool = False
    """An actor died in this run without an outcome since: commit before code sees anything (S-3)."""
    closed_waits: dict[tuple[str, str | None], tuple[int, bool]] = field(default_factory=dict)
    """(stream, correlation id) → (seq of its newest resolution, whether that was a timeout); for `late` (S-25)."""
    failed_op: int | None = None
    tries: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Op of a step → (failed tries, retry_at of the last); of the journal."""
    given_up: set[int] = field(default_factory=set)
    """Ops that the code cancelled; of the journal."""
    held: list[AnswerToKeep] = field(default_factory=list)
    """Answers that rewinds kept and no wait has retaken, in the order in which waits take them."""
    keys: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    """Op → (number of its outcomes set aside by rewinds, name of the step set aside while open)."""
    pieces: tuple[Piece, ...] = ()
    """Places of the journal's beginning, in order; `checkpoint.save` names those still valid."""

    @property
    def is_active(self) -> bool:
        """The run has not ended."""
        return self.status in ACTIVE

    def status_after_wait(self, *, is_hot: bool) -> str:
        """Its status once its wait is resolved.

        Args:
            is_hot: The process that decides also runs the code, which then continues; otherwise the run is queued.
        """
        if self.status is RunStatus.BLOCKED:
            return RunStatus.BLOCKED.value
        return (RunStatus.RUNNING if is_hot else RunStatus.QUEUED).value

    @property
    def wait_schema(self) -> Any:
        """The pending wait's own JSON Schema (S-71); None if it has none."""
        if self.wait is None or not self.wait.has_schema:
            return None
        return self.opening_of(self.wait)["schema"]

    def opening_of(self, wait: Wait) -> Mapping[str, Any]:
        """The body of the pending wait's `wait.opened`."""
        opened = (
            e for e in reversed(self.journal) if e.op == wait.op and e.kind is EntryKind.WAIT_OPENED
        )
        return next(opened).body

    def step_name(self, op: int) -> str | None:
        """The name of the step that the journal has under that op; None if it has none."""
        started = (
            e for e in reversed(self.journal) if e.op == op and e.kind is EntryKind.STEP_STARTED
        )
        return next((e.body["name"] for e in started), None)

    def has_wait(self, wait_id: str) -> bool:
        """The journal has that wait."""
        return any(
            e.kind is EntryKind.WAIT_OPENED and e.body["wait_id"] == wait_id for e in self.journal
        )

    def index(self) -> None:
        """Derive `tries` and `given_up` from the journal."""
        self.tries, self.given_up = {}, set()
        for entry in self.journal:
            self._note(entry)

    def add(self, entry: Entry) -> None:
        """Append to the journal."""
        self.journal.append(entry)
        self._note(entry)
        if entry.op is not None:
            self.op_max = max(self.op_max, entry.op)

    def _note(self, entry: Entry) -> None:
        """Keep the indexes up with one entry of the journal."""
        if entry.op is None:
            return
        if entry.kind is EntryKind.STEP_TRY_FAILED:
            self.tries[entry.op] = (entry.body["try"], entry.body["retry_at"])
        elif entry.body.get("reason") == "task":
            self.given_up.add(entry.op)

    def forget(self, op: int) -> None:
        """Take an op out of the journal: the next attempt asks for it again.

        Marks of patches stay: ops behind them may stay too, and their code took the patch's way.
        """
        self.journal = [e for e in self.journal if e.op != op or e.kind is EntryKind.PATCH_MARKED]
        self.index()

    def outcome_seen(self) -> None:
        """Note an outcome: crashes are counted from zero again."""
        self.crashes = 0
        self.is_cautious = False

    def rewinds_of(self, op: int, step: str) -> int:
        """Return the number of rewinds that took back outcomes of a step of that name under this op (S-76)."""
        count, open_as = self.keys.get(op, (0, None))
        return count if open_as in (None, step) else count + 1

    def rewind(self, attempt: int, gone: set[int], held: Iterable[AnswerToKeep]) -> None:
        """Take ops out of the journal and begin the next attempt."""
        done = {e.op for e in self.journal if e.kind in STEP_OUTCOMES}
        for entry in self.journal:
            if entry.op in gone and entry.kind is EntryKind.STEP_STARTED and entry.op is not None:
                rewinds = self.rewinds_of(entry.op, entry.body["name"])
                is_done = entry.op in done
                self.keys[entry.op] = (rewinds + is_done, None if is_done else entry.body["name"])
        # Marks of patches stay, as in `forget`: ops before the rewind may have been asked on their way.
        self.journal = [
            e for e in self.journal if e.op not in gone or e.kind is EntryKind.PATCH_MARKED
        ]
        self.index()
        self.open_steps -= gone
        self.held = list(held)
        self.closed_waits = _closed_waits(self.journal)
        self.first_attempt = attempt
        self.next_attempt(attempt, None, has_failed=False)

    def begin_fork(self, held: Iterable[AnswerToKeep], unused: Container[str]) -> None:
        """Begin the fork's own part: ops open in the origin were not copied.

        `unused`: waits whose answers a rewind of the origin kept. Forks of 0.1.0 took them, and name none here.
        """
        self.held = [*held, *(one for one in self.held if one.wait_id not in unused)]
        self.status = RunStatus.QUEUED
        self.retry_at = None
        self.crashes = 0
        self.is_cautious = False

    def next_attempt(self, attempt: int, failed_op: int | None, *, has_failed: bool) -> None:
        """Begin the next attempt; after a failed one, the ops to repeat leave the journal."""
        self.attempt = attempt
        self.status = RunStatus.QUEUED if self.wait is None else RunStatus.WAITING
        self.is_started = False
        self.retry_at = None
        self.crashes = 0
        self.is_cautious = False
        self.failed_op = None
        if has_failed:
            self._set_aside(failed_op)

    def _set_aside(self, failed_op: int | None) -> None:
        """Drop the failed op and every op opened after its outcome from the journal (S-5).

        Ops that the code gave up after that outcome go too, or without a failed op those that it gave up at the very
        end: the exception cancelled them on its way out of the task, and an attempt that does not raise it cancels
        nothing.
        A mark of a patch stays if it was made before that outcome: ops that stay may follow it.
        """
        asked = [e for e in self.journal if e.kind is not EntryKind.PATCH_MARKED]
        outcomes = (e for e in asked if e.op == failed_op or failed_op is None)
        end_seq = max((e.seq for e in outcomes if e.body.get("reason") != "task"), default=None)
        if end_seq is None:
            return
        opened: dict[int, int] = {}
        gone: set[int] = set()
        for entry in asked:
            if entry.op is None:
                continue
            opened.setdefault(entry.op, entry.seq)
            if entry.body.get("reason") == "task" and entry.seq > end_seq:
                gone.add(entry.op)
        gone |= {op for op, seq in opened.items() if op == failed_op or seq > end_seq}
        self.journal = [
            e
            for e in self.journal
            if (e.seq < end_seq if e.kind is EntryKind.PATCH_MARKED else e.op not in gone)
        ]
        self.open_steps -= gone
        self.index()


def _closed_waits(journal: Iterable[Entry]) -> dict[tuple[str, str | None], tuple[int, bool]]:
    """`Run.closed_waits` as these entries leave it."""
    opened: dict[int | None, Mapping[str, Any]] = {}
    found: dict[tuple[str, str | None], tuple[int, bool]] = {}
    for entry in journal:
        if entry.kind is EntryKind.WAIT_OPENED:
            opened[entry.op] = entry.body
        elif entry.kind in WAIT_OUTCOMES and opened.get(entry.op, {}).get("kind") == "input":
            question = opened[entry.op]
            if Answerers.of(question).is_restricted:
                continue
            key = question["stream"], question.get("correlation_id")
            found[key] = entry.seq, entry.kind is EntryKind.WAIT_TIMED_OUT
    return found


def step_key(session_id: str, run_id: str, op: int, *, rewinds: int = 0, name: str = "") -> str:
    """Return the key of a step of a run: stable over attempts and hosts, new when a rewind repeats an outcome.

    Without rewinds the key is that of release 0.1.0 (S-32, S-76).
    """
    text = f"{session_id}|{run_id}|{op}" + (f"|{rewinds}|{name}" if rewinds else "")
    return "stp_" + hashlib.sha256(text.encode()).hexdigest()[:32]
