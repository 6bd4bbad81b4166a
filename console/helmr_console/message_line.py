"""What the console says for a moment on the second line of whatever is in front. Pure.

A receipt is about something that is no longer in front, so it stands beside it and never covers where the operator
is. Everything else is about the key that was pressed last, or failed behind the operator's back: it takes the line, a
refusal before a remark, and the next key takes it away. A key typed before a message could be read does not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """What kind of message."""

    RECEIPT = "receipt"
    INFORMATION = "information"
    WARNING = "warning"
    ERROR = "error"


STANDS_S = {
    Severity.RECEIPT: 5.0,
    Severity.INFORMATION: 5.0,
    Severity.WARNING: 8.0,
    Severity.ERROR: 12.0,
}
"""How long a message stands if no key takes it away."""
READ_S = {
    Severity.RECEIPT: 1.0,
    Severity.INFORMATION: 0.0,
    Severity.WARNING: 0.3,
    Severity.ERROR: 0.3,
}
"""A key typed within this time of it was typed before it could be read, and leaves it."""
_RANK = tuple(Severity)
HISTORY_MAX = 50


@dataclass(frozen=True, slots=True)
class LineMessage:
    """One message. The text is safe already.

    Attributes:
        until_s: By the console's clock.
        shown_s: By the clock of keys.
    """

    text: str
    severity: Severity
    until_s: float
    shown_s: float

    def is_read(self, typed_s: float) -> bool:
        """Whether it could be read before a key typed then."""
        return typed_s - self.shown_s >= READ_S[self.severity]


@dataclass(slots=True)
class MessageLine:
    """Messages and keys go in, what is to be shown comes out."""

    history: deque[LineMessage] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    _front: LineMessage | None = None
    _beside: LineMessage | None = None

    def say(self, text: str, severity: Severity, *, now_s: float, shown_s: float) -> None:
        """Say this, unless something graver stands there."""
        said = LineMessage(text, severity, now_s + STANDS_S[severity], shown_s)
        self.history.append(said)
        if severity is Severity.RECEIPT:
            self._beside = said
        elif (
            self._front is None or now_s >= self._front.until_s or _rank(said) >= _rank(self._front)
        ):
            self._front = said

    def key(self, typed_s: float) -> None:
        """A key was pressed: what could be read before it goes."""
        if self._front is not None and self._front.is_read(typed_s):
            self._front = None
        if self._beside is not None and self._beside.is_read(typed_s):
            self._beside = None

    def unsay(self, text: str) -> None:
        """If this stands there, no longer: it was of a form that is no longer in front."""
        if self._front is not None and self._front.text == text:
            self._front = None

    def clear(self) -> None:
        """Show no message."""
        self._front = self._beside = None

    def front(self, now_s: float) -> LineMessage | None:
        """What takes the line now."""
        return self._front if self._front is not None and now_s < self._front.until_s else None

    def beside(self, now_s: float) -> LineMessage | None:
        """The receipt that stands beside what is in front."""
        return self._beside if self._beside is not None and now_s < self._beside.until_s else None


def receipt_text(text: str) -> str:
    """A receipt in few words, `✓ tool held0`: the rest of it was for who waited for it."""
    accepted = "Accepted: "
    if text.startswith(accepted):
        text = text.removeprefix(accepted).partition("; ")[0]
    return f"✓ {text}"


def _rank(said: LineMessage) -> int:
    return _RANK.index(said.severity)
