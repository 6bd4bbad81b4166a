"""Something on its way out: how far it is, as which operation, and what became of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from helmr_console.outcome import Outcome

READS_S = 0.3
"""Nobody reads a review in less: a key typed sooner was typed for something else."""


class SendPhase(StrEnum):
    """How far it is."""

    LOADING = "loading"
    FORM = "form"
    REVIEW = "review"
    SENDING = "sending"


@dataclass(slots=True)
class Submission:
    """One operation, however often it is tried: what may have been accepted is sent again under the same id (S-61)."""

    operation_id: str
    phase: SendPhase = SendPhase.LOADING
    data: Any = None
    """What was reviewed, and nothing else is sent."""
    shown: str = "null"
    """Its JSON without secrets."""
    spelled: str = ""
    """The same with its texts as texts; empty where the JSON reads as well."""
    is_json: bool = False
    """The JSON is shown also where there is a text to read."""
    left_out: Sequence[tuple[str, str]] = ()
    """What is not sent because the task has a default for it: label and default."""
    tried: bool = False
    """A try may have been accepted, and nobody knows."""
    outcome: Outcome | None = None
    drawn_s: float | None = None
    """Since when what is sent can be read, by the monotonic clock; None while it is not drawn."""

    @property
    def is_reviewing(self) -> bool:
        """Whether the review is shown, not the form."""
        return self.phase in (SendPhase.REVIEW, SendPhase.SENDING)

    def resume(self, operation_id: str) -> None:
        """A try of an earlier time had no answer: the next is the same operation."""
        self.operation_id, self.tried = operation_id, True

    def review(
        self, data: Any, shown: str, left_out: Sequence[tuple[str, str]], *, spelled: str = ""
    ) -> None:
        """Show this before it is sent."""
        self.data, self.shown, self.left_out = data, shown, left_out
        self.spelled, self.is_json = spelled, False
        self.phase, self.drawn_s = SendPhase.REVIEW, None

    def is_readable(self, typed_s: float) -> bool:
        """Whether a key pressed then was pressed by one who can have read what it sends."""
        return self.drawn_s is not None and typed_s - self.drawn_s >= READS_S

    def ended(self, outcome: Outcome) -> None:
        """This came back: what may have been accepted stays in review, all else is for the form again."""
        self.outcome, self.tried = outcome, outcome.is_open
        self.phase = SendPhase.REVIEW if outcome.is_open else SendPhase.FORM

    def broke(self) -> None:
        """The console failed while it was sent: nobody knows."""
        self.phase, self.tried = SendPhase.REVIEW, True
