"""What became of many retries. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helmr.models import SessionInfo
from helmr.review.outcome import AnswerOutcome, Result
from helmr.review.words import short_id

REFUSALS_SHOWN = 6


@dataclass(slots=True)
class SessionRetry:
    """One session whose run is to begin its next attempt."""

    session: SessionInfo
    operation_id: str
    outcome: AnswerOutcome | None = None

    def succeeded(self) -> None:
        """The gateway took it."""
        self.outcome = AnswerOutcome(Result.ACCEPTED)


def summary(retries: Sequence[SessionRetry]) -> AnswerOutcome:
    """All of them as one: done if none is left to be tried, with those that were refused by name."""
    tried = [(one.session, one.outcome) for one in retries if one.outcome is not None]
    done = sum(outcome.is_done for _, outcome in tried)
    open_ = next((outcome for _, outcome in tried if outcome.is_open), None)
    runs = f"{done} {'run begins' if done == 1 else 'runs begin'} the next attempt"
    if open_ is not None:
        left = len(retries) - sum(not outcome.is_open for _, outcome in tried)
        return AnswerOutcome(
            open_.result, (*open_.lines, runs, f"{left} not known or not tried yet")
        )
    refused = [
        f"{short_id(session.id)}: {'; '.join(outcome.lines) or outcome.result.value}"
        for session, outcome in tried
        if not outcome.is_done
    ]
    more = len(refused) - REFUSALS_SHOWN
    said = [*refused[:REFUSALS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    if done:
        tail = [f"{len(refused)} not: {'; '.join(said)}"] if refused else []
        return AnswerOutcome(Result.ACCEPTED, (runs, *tail))
    return AnswerOutcome(Result.CONFLICT, tuple(said))
