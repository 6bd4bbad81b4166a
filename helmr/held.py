"""Answers on their way out that can still be taken back. Pure: whoever holds them says what time it is.

A confirmed answer leaves after a grace time, not before. Until then it is only here and in its draft: a process that
dies meanwhile has sent nothing, and a batch, which is held as one, leaves as one or not at all.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

HOLD_S = 5.0
"""How long a person can take an answer back, unless they chose another time."""
HOLD_S_MAX = 60.0
"""Longer, and whoever reads the list takes the wait for open."""


class Held(Generic[T]):
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

    def let_go(self) -> None:
        """All of them are due: nobody will take one back."""
        self._waiting = deque((-math.inf, item) for _, item in self._waiting)

    def leaves_in_s(self, now_s: float) -> float | None:
        """Seconds until the next one leaves, at least 0; None if nothing is held."""
        return max(0.0, self._waiting[0][0] - now_s) if self._waiting else None

    def left_s(self, now_s: float) -> float | None:
        """Seconds in which the last one can be taken back, at least 0; None if nothing is held."""
        return max(0.0, self._waiting[-1][0] - now_s) if self._waiting else None
