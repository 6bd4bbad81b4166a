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

from helmr.person.review.outcome import AnswerOutcome

READS_S = 0.3
"""No one reads a review faster: an earlier key was meant for something else."""
SEES_S = 0.15
"""No one sees the choices faster: a key that chooses later was typed by someone who saw them."""
LOOKS_S = 0.05
"""A look for unread input may take this time, so it begins this much before `READS_S`: a key pressed then counts."""
REPEAT_S = 0.15
"""Two reads of a key closer than this are repeats of a held key."""
REPEATS_WITHIN_S = 0.7
"""The system starts to repeat a held key within this time."""


@dataclass(frozen=True, slots=True)
class ConfirmPress:
    """One press of a key that confirms, by a monotonic clock.

    Attributes:
        read_s: Time of reading. The key was typed then or, on a busy machine, earlier.
        is_again: The key read before it was the same.
        may_be_repeat: The key was not seen to be up between.
    """

    read_s: float
    is_again: bool = False
    may_be_repeat: bool = False


@dataclass(slots=True)
class HeldKey:
    """Tells presses of a confirming key from repeats while it is held down.

    The time of reading says little about the time of typing: a busy machine reads repeats late, and all at once. But
    a key read after a moment without unread input (`quiet`) was typed after that moment. So a key counts as up once
    input is empty `REPEATS_WITHIN_S` after it was read; the time alone is not enough.
    """

    key: str = ""
    """The last key read, repeats included."""
    read_s: float = -math.inf
    repeat_s: float = -math.inf
    """Time at which the last repeat was read."""
    up_s: float = -math.inf
    """A read from then on is a press; infinite while the key may be down."""

    def reads(self, key: str, read_s: float, *, confirms: bool) -> ConfirmPress | None:
        """Record a key; returns None for a confirming key that repeats because it is held down."""
        is_again, since_s = key == self.key, read_s - self.read_s
        may_be_repeat = is_again and read_s < self.up_s
        self.key, self.read_s = key, read_s
        self.up_s = math.inf if confirms else -math.inf
        if confirms and is_again and since_s < REPEAT_S:
            self.repeat_s = read_s
            return None
        return ConfirmPress(read_s, is_again, may_be_repeat)

    @property
    def looks_at_s(self) -> float | None:
        """Time to check for unread input; None if the key is known to be up."""
        return self.read_s + REPEATS_WITHIN_S if math.isinf(self.up_s) and self.up_s > 0 else None

    def quiet(self, now_s: float) -> None:
        """Record that no input is unread now."""
        if self.looks_at_s is not None and now_s >= self.looks_at_s:
            self.up_s = now_s

    def was_held(self, press: ConfirmPress) -> bool:
        """True if repeats followed this press; certain once `REPEAT_S` has passed and nothing is unread."""
        return self.repeat_s > press.read_s


class SendPhase(StrEnum):
    """Phases of an answer."""

    LOADING = "loading"
    FORM = "form"
    REVIEW = "review"
    SENDING = "sending"


class Press(StrEnum):
    """Effects of the confirming key."""

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
    """The reviewed answer; nothing else is sent."""
    shown: str = "null"
    """JSON of the answer without secrets."""
    spelled: str = ""
    """The same with its texts in plain; empty where JSON reads as well."""
    is_json: bool = False
    """Show the JSON even where there is a text to read."""
    left_out: Sequence[tuple[str, str]] = ()
    """Label and default of each field that is not sent because the task has a default."""
    tried: bool = False
    """An earlier try may have been accepted."""
    outcome: AnswerOutcome | None = None
    drawn_s: float | None = None
    """Time at which the review was drawn, by the monotonic clock; None while it is not."""
    quiet_s: float | None = None
    """Keys read from this time on were typed by someone who had time to read; None until then."""
    seen_s: float | None = None
    """Keys read from this time on were typed by someone who had time to see the choices; None until then."""
    chosen_s: float | None = None
    """Time at which the key that completed the choice was read; None if none was."""

    @property
    def is_reviewing(self) -> bool:
        """True if the review is shown, not the form."""
        return self.phase in (SendPhase.REVIEW, SendPhase.SENDING)

    def resume(self, operation_id: str) -> None:
        """Continue an operation whose earlier try had no answer."""
        self.operation_id, self.tried = operation_id, True

    def review(
        self, data: Any, shown: str, left_out: Sequence[tuple[str, str]], *, spelled: str = ""
    ) -> None:
        """Show this review before it is sent."""
        self.data, self.shown, self.left_out = data, shown, left_out
        self.spelled, self.is_json = spelled, False
        self.phase = SendPhase.REVIEW
        self.is_to_draw()

    def is_to_draw(self) -> None:
        """Mark the screen as stale: the text to read before sending is not drawn yet."""
        self.drawn_s = self.quiet_s = self.seen_s = self.chosen_s = None

    def quiet(self, now_s: float) -> None:
        """Record that no input is unread now: if the review could be read by now, keys count from now on.

        A look that ended up to `LOOKS_S` too early counts as well, for keys read from `READS_S` on: they were typed
        after the look, and by someone who saw the review for nearly as long.
        """
        if self.drawn_s is None:
            return
        if self.seen_s is None and now_s - self.drawn_s >= SEES_S:
            self.seen_s = now_s
        if self.quiet_s is None and now_s - self.drawn_s >= READS_S - LOOKS_S:
            self.quiet_s = max(now_s, self.drawn_s + READS_S)

    def chose(self, read_s: float) -> None:
        """Record a key that completed the choice."""
        self.chosen_s = read_s

    def is_readable(self, read_s: float) -> bool:
        """True if the person who typed the key had time to read what it sends.

        A busy machine reads keys late: a key read `READS_S` after the drawing may have been typed before it. A choice
        made after the drawing counts as reading; keys typed ahead can't both choose and confirm.
        """
        if self.quiet_s is not None and read_s >= self.quiet_s:
            return True
        if self.seen_s is None or self.chosen_s is None:
            return False
        return self.seen_s <= self.chosen_s < read_s

    def takes(self, press: ConfirmPress, *, is_one_of_many: bool) -> bool:
        """True if this press may send the answer.

        Args:
            is_one_of_many: The key just confirmed another form; no repeat of that press may confirm this one.
        """
        return self.is_readable(press.read_s) and not (is_one_of_many and press.may_be_repeat)

    def press(self, *, has_undo: bool = False, is_review: bool = False) -> Press:
        """Return the effect of the confirming key now.

        Args:
            has_undo: The answer can be taken back for a while, so it needs no review unless it was tried before.
            is_review: The form is itself a review.
        """
        if self.phase is SendPhase.REVIEW or (is_review and self.phase is SendPhase.FORM):
            return Press.SEND
        if self.phase is not SendPhase.FORM:
            return Press.NOTHING
        return Press.PEND if has_undo and not self.tried else Press.REVIEW

    def ended(self, outcome: AnswerOutcome) -> None:
        """Take the outcome: an answer that may have been accepted stays in review, any other returns to the form."""
        self.outcome, self.tried = outcome, outcome.is_open
        self.phase = SendPhase.REVIEW if outcome.is_open else SendPhase.FORM

    def broke(self) -> None:
        """Record that the console failed during the send, so the outcome is unknown."""
        self.phase, self.tried = SendPhase.REVIEW, True


T = TypeVar("T")

HOLD_S = 5.0
"""Default time in which a person can take an answer back, in seconds."""
HOLD_S_MAX = 60.0
"""Any longer, and people who read the list would take the wait for open."""


class PendingSends(Generic[T]):
    """Answers confirmed and not yet sent, oldest first.

    Args:
        hold_s: Seconds that each is held; 0 sends it at once.
    """

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self.hold_s = hold_s
        self._waiting: deque[tuple[float, T]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, item: T, now_s: float) -> None:
        """Add a confirmed answer; `now_s` is of a monotonic clock."""
        self._waiting.append((now_s + self.hold_s, item))

    def take_back(self) -> T | None:
        """Take back the answer confirmed last; None if none is pending."""
        return self._waiting.pop()[1] if self._waiting else None

    def take_due(self, now_s: float) -> T | None:
        """Remove and return the oldest answer that is due; None if none is."""
        if self._waiting and self._waiting[0][0] <= now_s:
            return self._waiting.popleft()[1]
        return None

    def text(self, key: str, now_s: float) -> str:
        """`sends in 4 s · u takes it back`; empty if none is pending.

        Args:
            key: The key that takes it back.
        """
        left_s = self.left_s(now_s)
        if left_s is None:
            return ""
        more = f"{len(self)} pending, last " if len(self) > 1 else ""
        return f"{more}sends in {left_s:.0f} s · {key} takes it back"

    def let_go(self) -> None:
        """Make all of them due: none can be taken back any more."""
        self._waiting = deque((-math.inf, item) for _, item in self._waiting)

    def leaves_in_s(self, now_s: float) -> float | None:
        """Seconds until the next one leaves, at least 0; None if nothing is held."""
        return max(0.0, self._waiting[0][0] - now_s) if self._waiting else None

    def left_s(self, now_s: float) -> float | None:
        """Seconds in which the last one can be taken back, at least 0; None if nothing is held."""
        return max(0.0, self._waiting[-1][0] - now_s) if self._waiting else None
