"""A wait from its question to its end: what `wait.opened` says, and how its escalation runs. Pure.

- The question hash names what a person was shown: two waits with the same hash asked the same, of the same
  task (S-70…S-74).
- An escalation's steps stand in `wait.opened`. Each entry after which another step is next, or the same at another
  time, says so (`times`): the ledger knows when to look at a parked session, and need not know at what (S-82).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from helmr.models import AnswerMode
from helmr.schema import schema_digest
from helmr.wait_details import WaitDetails, recorded
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, Principal, from_iso, iso
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.tokens import TokenQuestion

ASKS_PEOPLE = frozenset({"input", "token"})
"""Kinds of waits that someone can answer."""

QUESTION_HASH_CHARS = 32
LINK = "link"
"""The type of the principal that answered through an answer link."""


def record_parts(
    task: str, session_tags: Sequence[str], ask: WaitRequest, question: TokenQuestion | None
) -> dict[str, Any]:
    """The keys of `wait.opened` that say what is asked, and whom it concerns; what is not said is left out.

    Args:
        task: The session's.
        session_tags: The session's, which never change: so no list of waits has to look at sessions.
        ask: What the code asked.
        question: What the awaited token says, for what the code did not say itself.
    """
    if ask.wait_kind not in ASKS_PEOPLE:
        return {}
    said = _said(ask.details, question)
    found = recorded(said)
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
        # A wait with a schema of its own takes other answers: the token's default may be none of them.
        escalation=details.escalation or (question.escalation if details.schema is None else ()),
    )


def question_hash(
    task: str,
    stream: str,
    correlation_id: str | None,
    details: WaitDetails,
    schema_digest: str | None,
) -> str:
    """Names what the person was shown (S-70); not which token carries it."""
    parts = [task, stream, correlation_id, details.subject, details.body, schema_digest]
    return jsontext.same_data_hash(parts)[:QUESTION_HASH_CHARS]


def mode_of(principal: Principal, *, is_page: bool = False) -> str:
    """How an answer by this principal came (S-73).

    Args:
        principal: Who answered.
        is_page: Through the page behind a callback URL.
    """
    if is_page or principal.type == LINK:
        return AnswerMode.LINK.value
    if principal.on_behalf_of is not None:
        return AnswerMode.PERSON.value
    return AnswerMode.PROGRAM.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """An escalation that is being run.

    Attributes:
        steps: As in the body of `wait.opened`; one that is named by number is `escalation_steps[number]`.
        opened_at: What escalation steps are counted from.
        assigned_at: What escalation steps from the newest assignment are counted from; None while the wait concerns
            no one.
        ends_at: The wait's deadline, its token's expiry too; what would come then or later never does.
        fired: The escalation steps that have fired, in that order.
    """

    steps: Sequence[Mapping[str, Any]]
    opened_at: datetime
    assigned_at: datetime | None
    ends_at: datetime | None
    fired: tuple[int, ...] = ()

    @classmethod
    def of(cls, opened: Mapping[str, Any]) -> Escalation | None:
        """The escalation in the body of a `wait.opened`; None if it has none, or is of before they were run."""
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
        """When the escalation step fires, as things are; None if it has fired or won't."""
        step = self.steps[number]
        since = self.assigned_at if step["from"] == "assigned" else self.opened_at
        if number in self.fired or since is None:
            return None
        at = since + timedelta(seconds=step["after_s"])
        return at if self.ends_at is None or at < self.ends_at else None

    def next(self) -> tuple[datetime, int] | None:
        """When which escalation step is next; of several at once the first that was written."""
        times = ((self.time_of(number), number) for number in range(len(self.steps)))
        return min(((at, number) for at, number in times if at is not None), default=None)

    @property
    def next_at(self) -> datetime | None:
        """When the next escalation step fires."""
        found = self.next()
        return found[0] if found is not None else None

    @property
    def default_at(self) -> datetime | None:
        """When the default answers if every escalation step before it comes in time: no one can then."""
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
        """The escalation once someone has assigned the wait, or taken it from whom it concerned."""
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
        """The escalation steps that have come by now, in order, each with the escalation as it is then; the default is
        the last.

        One that is counted from an assignment that has only come now has not come.
        """
        escalated = self
        while (found := escalated.next()) is not None and found[0] <= now:
            number = found[1]
            escalated = escalated.fires(number, now)
            yield number, escalated
            if self.steps[number]["do"] == "default":
                return

    def times(self) -> dict[str, Any]:
        """What an entry says of what comes next: `next_escalation`, `next_escalation_at`, `default_at`, as far as there
        is any."""
        found = self.next()
        if found is None:
            return {}
        said = {"next_escalation": found[1], "next_escalation_at": iso(found[0])}
        default_at = self.default_at
        return said | ({"default_at": iso(default_at)} if default_at is not None else {})


def opening(body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What a `wait.opened` with that body says beside its escalation, if any: since when it counts, and what is
    next."""
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
    stream: str | None
    correlation_id: str | None
    token_id: str | None
    deadline_at: datetime | None
    is_backoff: bool
    has_schema: bool = False
    """It has a JSON Schema of its own, which stands in its `wait.opened` (S-71)."""
    session_ids: tuple[str, ...] = ()
    """The children of which it awaits the first to end (S-91)."""
    assignee: str | None = None
    """Whom it concerns: as opened, or as assigned since (S-72)."""
    escalation: Escalation | None = None
    """What is to happen while no one answers, as far as it has not (S-82)."""

    @property
    def due_at(self) -> datetime | None:
        """When time next does something to it: an escalation step, or its deadline."""
        next_at = self.escalation.next_at if self.escalation is not None else None
        return (
            self.deadline_at if next_at is None else next_at
        )  # an escalation step comes before the deadline

    @property
    def default_at(self) -> datetime | None:
        """When its escalation's default answers it."""
        return self.escalation.default_at if self.escalation is not None else None

    def is_over(self, now: datetime) -> bool:
        """Its deadline has passed (S-14: at the deadline is after it)."""
        return self.deadline_at is not None and now >= self.deadline_at

    @property
    def awaits(self) -> tuple[str, ...]:
        """The token, or the child sessions, of which the first to end resolves it."""
        return (self.token_id,) if self.token_id is not None else self.session_ids

    @property
    def has_own_op(self) -> bool:
        """False for a step's backoff, which the code did not ask for."""
        return not self.is_backoff


def own_deadline(opened: Mapping[str, Any]) -> datetime | None:
    """When a wait times out by itself, from the body of its `wait.opened`.

    None if its deadline is its token's expiry: then the end of the token ends the wait, and nothing else does, so that
    a completion before it can't lose against a timer (S-14, S-40).
    """
    deadline = opened.get("deadline_at")
    return from_iso(deadline) if deadline is not None and "deadline_of" not in opened else None
