"""Outcomes of answers, what follows from them, and how two answers differ. Pure.

The words say what a person can do next (S-18, S-25, S-41). What was typed stays: only an outcome that is done closes a
form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from helmr.errors import (
    HelmrError,
    NotAllowed,
    NotFound,
    OperationConflict,
    OutcomeUnknown,
    RunNotRetryable,
    SchemaMismatch,
    SessionTerminal,
    TokenCancelled,
    TokenCompleted,
    TokenExpired,
    Unavailable,
    WaitClaimed,
    WaitResolved,
    WaitTimedOut,
)
from helmr.models import (
    AnswerReceipt,
    ClaimInfo,
    PrincipalInfo,
    TokenAnswerReceipt,
    VoteReceipt,
    WaitInfo,
    WaitStatus,
)
from helmr.person.forms import Form, pretty, redacted
from helmr.person.review import words
from helmr.person.review.words import diff, summary, who
from helmr.wire.safe_text import one_line, plain


class Result(StrEnum):
    """The kinds of outcome; the value is the word shown first."""

    ACCEPTED = "Accepted"
    REPEATED = "Already accepted"
    VOTED = "Vote recorded"
    RESOLVED = "Not sent: already answered"
    TIMED_OUT = "Not sent: the deadline passed"
    CLAIMED = "Not sent: someone else has claimed it"
    MISFIT = "Not sent: the data does not fit"
    DENIED = "Not sent: not allowed"
    GONE = "Not sent: not there any more"
    CONFLICT = "Not sent"
    UNKNOWN = "Outcome unknown"
    UNAVAILABLE = "Not sent: the gateway is not there"


ASKED_NO_MORE = frozenset(
    (
        Result.ACCEPTED,
        Result.REPEATED,
        Result.VOTED,
        Result.RESOLVED,
        Result.TIMED_OUT,
        Result.GONE,
        Result.DENIED,
    )
)
"""Results after which asking this person again can't help."""


@dataclass(frozen=True, slots=True)
class After:
    """Effects of an outcome, wherever the answer was given.

    Attributes:
        keeps_draft: The draft is kept, not discarded.
        keeps_operation: The draft says under which operation it was tried, so that the next try is the same one.
        asks_again: The wait is asked again in this review.
        shows_theirs: Another's answer was first: it is shown beside this one.
    """

    keeps_draft: bool
    keeps_operation: bool
    asks_again: bool
    shows_theirs: bool


@dataclass(frozen=True, slots=True)
class AnswerOutcome:
    """The result, what to say about it, and field problems by path."""

    result: Result
    lines: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    theirs: Any = None
    """The answer that won, if another was first and it is known."""

    @property
    def is_done(self) -> bool:
        """True if the ledger has the answer."""
        return self.result in (Result.ACCEPTED, Result.REPEATED, Result.VOTED)

    @property
    def is_final(self) -> bool:
        """True if sending this again to this wait can't help."""
        return self.result in (Result.RESOLVED, Result.TIMED_OUT, Result.GONE)

    @property
    def is_open(self) -> bool:
        """True if the answer may have been accepted: a retry must be the same operation (S-61)."""
        return self.result in (Result.UNKNOWN, Result.UNAVAILABLE)

    @property
    def after(self) -> After:
        """Next steps for the answer and its draft."""
        return After(
            keeps_draft=not self.is_done,
            keeps_operation=self.is_open,
            asks_again=self.result not in ASKED_NO_MORE,
            shows_theirs=self.result is Result.RESOLVED,
        )

    @property
    def role(self) -> str:
        """The colour that repeats the result."""
        if self.is_done:
            return "success"
        return "warning" if self.is_open else "error"


def of_receipt(receipt: AnswerReceipt) -> AnswerOutcome:
    """Return the outcome of an answer that the gateway accepted."""
    if isinstance(receipt, TokenAnswerReceipt):
        repeated = receipt.outcome == "already_completed"
        return AnswerOutcome(
            Result.REPEATED if repeated else Result.ACCEPTED,
            (f"token {receipt.token_id} completed",),
        )
    if isinstance(receipt, VoteReceipt):
        more = receipt.need - receipt.have
        others = "1 more person must" if more == 1 else f"{more} more people must"
        return AnswerOutcome(
            Result.VOTED, (f"{receipt.have} of {receipt.need} agree; {others} answer the same",)
        )
    where = f"record {receipt.seq} on {one_line(receipt.stream, 60)}"
    effects = {
        "fulfilled": "the wait is fulfilled and the run goes on",
        "buffered": "buffered: the next wait that matches takes it",
        "late": "late: the wait it was for has timed out; buffered",
        "unmatched": "unmatched: a wait is open for another correlation id; buffered",
    }
    result = Result.REPEATED if receipt.duplicate else Result.ACCEPTED
    return AnswerOutcome(result, (where, effects[receipt.outcome.value]))


def claim_of(error: WaitClaimed) -> ClaimInfo | None:
    """The claim that was in the way, if the gateway says whose."""
    try:
        return ClaimInfo.model_validate(error.facts.get("claim"))
    except ValidationError:
        return None


def claimed_text(error: WaitClaimed, now: datetime) -> str:
    """`claimed by gus, 14m`; as the gateway says it where that is not known."""
    said = words.presence(claim_of(error), now)
    return f"claimed by {said}" if said else one_line(error.message, 300)


def of_error(
    error: HelmrError, *, now_wait: WaitInfo | None = None, now: datetime | None = None
) -> AnswerOutcome:
    """The gateway did not take it, or no one knows.

    Args:
        error: The error in place of a receipt.
        now_wait: The wait as it is now, if it could be asked for.
        now: By the gateway's clock: how much longer another's claim lasts is said then.
    """
    hint = (one_line(error.hint, 200),) if error.hint else ()
    said = (one_line(error.message, 300), *hint)
    if isinstance(error, OperationConflict):
        return AnswerOutcome(
            Result.RESOLVED,
            ("your first try was accepted; what you changed since was not sent",),
        )
    if isinstance(error, WaitResolved | TokenCompleted):
        return _resolved(error, now_wait)
    if isinstance(error, WaitTimedOut | TokenExpired):
        when = now_wait.deadline_at if now_wait else None
        at = f"at {words.stamp(when)}" if when else "before it arrived"
        return AnswerOutcome(
            Result.TIMED_OUT,
            (f"the wait ended {at}; nothing of the answer was stored", "the run has gone on"),
        )
    if isinstance(error, WaitClaimed):
        by = claimed_text(error, now) if now is not None else said[0]
        said = (by, "^s shows the answer again; sent then, it overrides")
        return AnswerOutcome(Result.CLAIMED, said)
    if isinstance(error, TokenCancelled | SessionTerminal):
        return AnswerOutcome(Result.GONE, said)
    if isinstance(error, SchemaMismatch):
        problems = {one["path"] or "$": one["message"] for one in error.errors}
        return AnswerOutcome(Result.MISFIT, said, problems)
    if isinstance(error, NotAllowed):
        return AnswerOutcome(Result.DENIED, said)
    if isinstance(error, NotFound):
        return AnswerOutcome(Result.GONE, said)
    if isinstance(error, OutcomeUnknown):
        return AnswerOutcome(
            Result.UNKNOWN, (*said, "sending again is safe: it is the same operation")
        )
    if isinstance(error, Unavailable):
        return AnswerOutcome(
            Result.UNAVAILABLE, (*said, "your text is kept; send again when it is back")
        )
    if isinstance(error, RunNotRetryable):
        return AnswerOutcome(Result.CONFLICT, said)
    return AnswerOutcome(Result.CONFLICT, said)


def _resolved(error: HelmrError, wait: WaitInfo | None) -> AnswerOutcome:
    facts = error.facts
    by = _principal(facts.get("resolved_by") or facts.get("completed_by"))
    if by is None and wait is not None:
        by = wait.resolved_by
    at = _moment(facts.get("resolved_at") or facts.get("completed_at"))
    if at is None and wait is not None:
        at = wait.resolved_at
    status = wait.status if wait is not None else WaitStatus.FULFILLED
    if status is WaitStatus.TIMED_OUT:
        said = words.ended(wait) if wait is not None else "timed out"
        return AnswerOutcome(
            Result.TIMED_OUT, (f"{said}{_at(at)}", "nothing of the answer was stored")
        )
    if status is WaitStatus.CANCELLED:
        return AnswerOutcome(
            Result.GONE, (f"the wait was cancelled{_at(at)}", "nothing was stored")
        )
    return AnswerOutcome(
        Result.RESOLVED,
        (f"answered by {who(by)}{_at(at)}", "nothing of your answer was stored; it is kept here"),
        theirs=facts.get("data"),
    )


def _at(moment: datetime | None) -> str:
    return f" at {words.clock(moment)} UTC" if moment else ""


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _principal(value: Any) -> PrincipalInfo | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        return None
    return PrincipalInfo.model_validate(dict(value))


TEXT_CELLS = 20_000


def against(form: Form, theirs: Any, yours: Any) -> list[str]:
    """Diff their answer against yours, a summary first, then a line each; without secrets."""
    found = diff(redacted(form, theirs), redacted(form, yours))
    lines = [one_line(f"{line.sign} {line.path or '$'}  {line.text}", 400) for line in found]
    return [f"theirs against yours: {summary(found)}", *lines]


def told(form: Form, wait: WaitInfo, theirs: Any, yours: Any) -> list[str]:
    """Return everything to tell a person whose answer lost.

    Args:
        form: Form of the wait; it knows which fields are secret.
        wait: The wait as it is now, answered.
        theirs: The answer that won.
        yours: The answer that was not accepted.
    """
    by = wait.resolved_by.label if wait.resolved_by is not None else "someone"
    at = f" at {wait.resolved_at:%Y-%m-%d %H:%M:%S} UTC" if wait.resolved_at is not None else ""
    answer = plain(pretty(redacted(form, theirs)), TEXT_CELLS).splitlines()
    return [
        f"answered by {one_line(by, 200)}{at}:",
        *(f"  {line}" for line in answer),
        *against(form, theirs, yours),
    ]
