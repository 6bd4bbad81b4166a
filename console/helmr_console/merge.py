"""A list that never moves under the operator.

`KeyedList` holds what is shown and what is known. Known rows change freely; shown rows change only by
`merge`, which keeps the row under the cursor. Rows already shown may be redrawn in place at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pending:
    """What a merge would change."""

    added: int = 0
    gone: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.gone)

    def text(self) -> str:
        """`2 new, 1 gone`; empty when there is nothing."""
        parts = [f"{self.added} new"] if self.added else []
        if self.gone:
            parts.append(f"{self.gone} gone")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Merge:
    """The outcome of a merge: the keys in order and where the cursor belongs."""

    keys: tuple[str, ...]
    cursor: str | None


@dataclass(slots=True)
class KeyedList:
    """Shown keys in order, and the target that the next merge makes of them."""

    shown: list[str] = field(default_factory=list)
    target: list[str] = field(default_factory=list)

    def offer(self, keys: Iterable[str]) -> Pending:
        """The list should be these keys in this order; returns what a merge would change."""
        self.target = list(dict.fromkeys(keys))
        return self.pending()

    def pending(self) -> Pending:
        """What a merge would change now; order alone is no change."""
        shown, target = set(self.shown), set(self.target)
        return Pending(len(target - shown), len(shown - target))

    def gone(self) -> set[str]:
        """Shown keys that the next merge takes away."""
        return set(self.shown) - set(self.target)

    def take_away(self, keys: Iterable[str], cursor: str | None) -> Merge:
        """These leave what is shown, now; nothing else changes."""
        gone = set(keys)
        before, self.shown = self.shown, [key for key in self.shown if key not in gone]
        return Merge(tuple(self.shown), anchor(before, self.shown, cursor))

    def merge(self, cursor: str | None) -> Merge:
        """Show the target. The cursor stays on its row; if that is gone, it goes to the next that was below."""
        before, self.shown = self.shown, list(self.target)
        return Merge(tuple(self.shown), anchor(before, self.shown, cursor))


def anchor(before: Sequence[str], after: Sequence[str], cursor: str | None) -> str | None:
    """The key the cursor belongs on: the same, else the next survivor below, else above, else the first."""
    kept = set(after)
    if cursor in kept:
        return cursor
    if cursor is not None and cursor in before:
        place = list(before).index(cursor)
        for key in [*before[place + 1 :], *reversed(before[:place])]:
            if key in kept:
                return key
    return after[0] if after else None
