"""Messages that stand for a moment on the second line of the screen in front. Pure.

A receipt is about something no longer in front, so it stands beside the line's content and never covers where the
operator is. Any other message is about the last key or a failure in the background: it takes the line, graver messages
first, and the next key removes it, unless that key was typed before the message could be read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """Kind of a message, in rising gravity."""

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
"""Seconds that a message stands if no key removes it."""
READ_S = {
    Severity.RECEIPT: 1.0,
    Severity.INFORMATION: 0.0,
    Severity.WARNING: 0.3,
    Severity.ERROR: 0.3,
}
"""Seconds to read a message; a key typed sooner leaves it."""
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
        """True if the operator could read the message before a key typed at `typed_s`."""
        return typed_s - self.shown_s >= READ_S[self.severity]


@dataclass(slots=True)
class MessageLine:
    """Decides from messages and keys what to show."""

    history: deque[LineMessage] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    _front: LineMessage | None = None
    _beside: LineMessage | None = None

    def say(self, text: str, severity: Severity, *, now_s: float, shown_s: float) -> None:
        """Show this, unless a graver message stands there."""
        said = LineMessage(text, severity, now_s + STANDS_S[severity], shown_s)
        self.history.append(said)
        if severity is Severity.RECEIPT:
            self._beside = said
        elif (
            self._front is None or now_s >= self._front.until_s or _rank(said) >= _rank(self._front)
        ):
            self._front = said

    def key(self, typed_s: float) -> None:
        """Remove the messages that could be read before this key."""
        if self._front is not None and self._front.is_read(typed_s):
            self._front = None
        if self._beside is not None and self._beside.is_read(typed_s):
            self._beside = None

    def unsay(self, text: str) -> None:
        """Remove this message if it stands there, when its form has left the front."""
        if self._front is not None and self._front.text == text:
            self._front = None

    def clear(self) -> None:
        """Show no message."""
        self._front = self._beside = None

    def front(self, now_s: float) -> LineMessage | None:
        """The message that takes the line now."""
        return self._front if self._front is not None and now_s < self._front.until_s else None

    def beside(self, now_s: float) -> LineMessage | None:
        """The receipt beside the line's content."""
        return self._beside if self._beside is not None and now_s < self._beside.until_s else None


def receipt_text(text: str) -> str:
    """A receipt in few words, `✓ tool held0`; the rest matters only while waiting for it."""
    accepted = "Accepted: "
    if text.startswith(accepted):
        text = text.removeprefix(accepted).partition("; ")[0]
    return f"✓ {text}"


def _rank(said: LineMessage) -> int:
    return _RANK.index(said.severity)
