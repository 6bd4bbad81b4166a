"""What became of something sent, in words an operator can act on (S-18, S-25, S-41). Pure.

Whatever it is, the operator's text stays: only `done` outcomes close a form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from helmr.errors import (
    HelmrError,
    NotAllowed,
    NotFound,
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
from helmr.models import PrincipalInfo, SendReceipt, TokenAnswerReceipt, WaitInfo, WaitStatus
from helmr.safe_text import one_line
from helmr_console import countdown
from helmr_console.views import who


class Result(StrEnum):
    """The kinds of outcome; the value is the word shown first."""

    ACCEPTED = "Accepted"
    REPEATED = "Already accepted"
    RESOLVED = "Not sent: already answered"
    TIMED_OUT = "Not sent: the deadline passed"
    CLAIMED = "Not sent: another is at it"
    MISFIT = "Not sent: the data does not fit"
    DENIED = "Not sent: not allowed"
    GONE = "Not sent: not there any more"
    CONFLICT = "Not sent"
    UNKNOWN = "Outcome unknown"
    UNAVAILABLE = "Not sent: the gateway is not there"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result, what to say about it, and field problems by path."""

    result: Result
    lines: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    theirs: Any = None
    """The answer that won, when another was first and it is known."""

    @property
    def is_done(self) -> bool:
        """What was sent is in the ledger."""
        return self.result in (Result.ACCEPTED, Result.REPEATED)

    @property
    def is_final(self) -> bool:
        """Sending this again to this wait can't help."""
        return self.result in (Result.RESOLVED, Result.TIMED_OUT, Result.GONE)

    @property
    def is_open(self) -> bool:
        """It may have been accepted: sending again must be the same operation (S-61)."""
        return self.result in (Result.UNKNOWN, Result.UNAVAILABLE)

    @property
    def role(self) -> str:
        """The colour that repeats it."""
        if self.is_done:
            return "success"
        return "warning" if self.is_open else "error"


def of_receipt(receipt: SendReceipt | TokenAnswerReceipt) -> Outcome:
    """The gateway took it."""
    if isinstance(receipt, TokenAnswerReceipt):
        repeated = receipt.outcome == "already_completed"
        return Outcome(
            Result.REPEATED if repeated else Result.ACCEPTED,
            (f"token {receipt.token_id} completed",),
        )
    where = f"record {receipt.seq} on {one_line(receipt.stream, 60)}"
    effects = {
        "fulfilled": "the wait is fulfilled and the run goes on",
        "buffered": "buffered: the next wait that matches takes it",
        "late": "late: the wait it was for has timed out; buffered",
        "unmatched": "unmatched: a wait is open for another correlation id; buffered",
    }
    result = Result.REPEATED if receipt.duplicate else Result.ACCEPTED
    return Outcome(result, (where, effects[receipt.outcome.value]))


def of_error(error: HelmrError, *, now_wait: WaitInfo | None = None) -> Outcome:
    """The gateway did not take it, or nobody knows.

    Args:
        now_wait: The wait as it is now, if it could be asked for.
    """
    hint = (one_line(error.hint, 200),) if error.hint else ()
    said = (one_line(error.message, 300), *hint)
    if isinstance(error, WaitResolved | TokenCompleted):
        return _resolved(error, now_wait)
    if isinstance(error, WaitTimedOut | TokenExpired):
        when = now_wait.deadline_at if now_wait else None
        at = f"at {countdown.stamp(when)}" if when else "before it arrived"
        return Outcome(
            Result.TIMED_OUT,
            (f"the wait ended {at}; nothing of the answer was stored", "the run has gone on"),
        )
    if isinstance(error, WaitClaimed):
        said = (one_line(error.message, 300), "^s shows the answer again; sent then, it overrides")
        return Outcome(Result.CLAIMED, said)
    if isinstance(error, TokenCancelled | SessionTerminal):
        return Outcome(Result.GONE, said)
    if isinstance(error, SchemaMismatch):
        problems = {one["path"] or "$": one["message"] for one in error.errors}
        return Outcome(Result.MISFIT, said, problems)
    if isinstance(error, NotAllowed):
        return Outcome(Result.DENIED, said)
    if isinstance(error, NotFound):
        return Outcome(Result.GONE, said)
    if isinstance(error, OutcomeUnknown):
        return Outcome(Result.UNKNOWN, (*said, "sending again is safe: it is the same operation"))
    if isinstance(error, Unavailable):
        return Outcome(Result.UNAVAILABLE, (*said, "your text is kept; send again when it is back"))
    if isinstance(error, RunNotRetryable):
        return Outcome(Result.CONFLICT, said)
    return Outcome(Result.CONFLICT, said)


def _resolved(error: HelmrError, wait: WaitInfo | None) -> Outcome:
    facts = error.facts
    by = _principal(facts.get("resolved_by") or facts.get("completed_by"))
    if by is None and wait is not None:
        by = wait.resolved_by
    at = _moment(facts.get("resolved_at") or facts.get("completed_at"))
    if at is None and wait is not None:
        at = wait.resolved_at
    status = wait.status if wait is not None else WaitStatus.FULFILLED
    if status is WaitStatus.TIMED_OUT:
        return Outcome(
            Result.TIMED_OUT, (f"timed out{_at(at)}", "nothing of the answer was stored")
        )
    if status is WaitStatus.CANCELLED:
        return Outcome(Result.GONE, (f"the wait was cancelled{_at(at)}", "nothing was stored"))
    return Outcome(
        Result.RESOLVED,
        (f"answered by {who(by)}{_at(at)}", "nothing of your answer was stored; it is kept here"),
        theirs=facts.get("data"),
    )


def _at(moment: datetime | None) -> str:
    return f" at {countdown.clock(moment)} UTC" if moment else ""


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _principal(value: Any) -> PrincipalInfo | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        return None
    return PrincipalInfo.model_validate(dict(value))
