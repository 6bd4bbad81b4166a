"""An answer on its way: filled, reviewed, pending with undo, sent. Pure; the caller says what time it is.

`Submission` is one operation, however often it is tried. `PendingSends` are confirmed answers that leave after a grace
time and can be taken back until then. Until it leaves, an answer is only there and in its draft: a process that ends
meanwhile has sent nothing, and a batch, which is one pending send, leaves as one or not at all.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from helmr.review.outcome import AnswerOutcome

READS_S = 0.3
"""No one reads a review in less: a key typed sooner was typed for something else."""


class SendPhase(StrEnum):
    """How far it is."""

    LOADING = "loading"
    FORM = "form"
    REVIEW = "review"
    SENDING = "sending"


class Press(StrEnum):
    """What the key that confirms does."""

    NOTHING = "nothing"
    REVIEW = "review"
    PEND = "pend"
    """It leaves after its grace time, unless it is taken back."""
    SEND = "send"


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
    """A try may have been accepted, and no one knows."""
    outcome: AnswerOutcome | None = None
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

    def press(self, *, has_undo: bool = False, is_review: bool = False) -> Press:
        """What the key that confirms does now.

        Args:
            has_undo: What is sent can be taken back for a while and need not be reviewed first. What was tried before
                has left already, so it is reviewed.
            is_review: What is filled in is a review itself.
        """
        if self.phase is SendPhase.REVIEW or (is_review and self.phase is SendPhase.FORM):
            return Press.SEND
        if self.phase is not SendPhase.FORM:
            return Press.NOTHING
        return Press.PEND if has_undo and not self.tried else Press.REVIEW

    def ended(self, outcome: AnswerOutcome) -> None:
        """This came back: what may have been accepted stays in review, all else is for the form again."""
        self.outcome, self.tried = outcome, outcome.is_open
        self.phase = SendPhase.REVIEW if outcome.is_open else SendPhase.FORM

    def broke(self) -> None:
        """The console failed while it was sent: no one knows."""
        self.phase, self.tried = SendPhase.REVIEW, True


T = TypeVar("T")

HOLD_S = 5.0
"""How long a person can take an answer back, unless they chose another time."""
HOLD_S_MAX = 60.0
"""Longer, and others who read the list take the wait for open."""


class PendingSends(Generic[T]):
    """What was confirmed and has not left, oldest first.

    Args:
        hold_s: How long each is held; 0 lets it leave at once.
    """

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self.hold_s = hold_s
        self._waiting: deque[tuple[float, T]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, item: T, now_s: float) -> None:
        """Confirmed now, by a monotonic clock."""
        self._waiting.append((now_s + self.hold_s, item))

    def take_back(self) -> T | None:
        """The one that was confirmed last: it does not leave."""
        return self._waiting.pop()[1] if self._waiting else None

    def take_due(self, now_s: float) -> T | None:
        """The oldest one whose time has come: it leaves now. None if there is none."""
        if self._waiting and self._waiting[0][0] <= now_s:
            return self._waiting.popleft()[1]
        return None

    def text(self, key: str, now_s: float) -> str:
        """`sends in 4 s · u takes it back`; empty if none is pending.

        Args:
            key: What takes it back.
        """
        left_s = self.left_s(now_s)
        if left_s is None:
            return ""
        more = f"{len(self)} pending, last " if len(self) > 1 else ""
        return f"{more}sends in {left_s:.0f} s · {key} takes it back"

    def let_go(self) -> None:
        """All of them are due: none can be taken back any more."""
        self._waiting = deque((-math.inf, item) for _, item in self._waiting)

    def leaves_in_s(self, now_s: float) -> float | None:
        """Seconds until the next one leaves, at least 0; None if nothing is held."""
        return max(0.0, self._waiting[0][0] - now_s) if self._waiting else None

    def left_s(self, now_s: float) -> float | None:
        """Seconds in which the last one can be taken back, at least 0; None if nothing is held."""
        return max(0.0, self._waiting[-1][0] - now_s) if self._waiting else None
