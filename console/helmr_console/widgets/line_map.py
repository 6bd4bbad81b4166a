"""Which lines the entries of a transcript stand on, when some take several and some stretches only one. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping


class LineMap:
    """Entries by seq, one line each, but for unfolded entries and folded stretches.

    Args:
        below: How many lines an unfolded entry has below its own; so has a stretch, by its first entry.
        stretches: First and last seq of entries that share one line, in order, none within another.
    """

    def __init__(
        self,
        below: Mapping[int, int] | None = None,
        stretches: Iterable[tuple[int, int]] = (),
    ) -> None:
        self._stretches = list(stretches)
        self._stretch_firsts = [first for first, _ in self._stretches]
        below = below or {}
        parts = [(first, last, 1 + below.get(first, 0)) for first, last in self._stretches]
        parts += [
            (seq, seq, 1 + lines) for seq, lines in below.items() if self.stretch_at(seq) is None
        ]
        self._parts = sorted(parts)
        self._firsts = [first for first, _, _ in self._parts]
        self._starts: list[int] = []
        saved = 0
        for first, last, lines in self._parts:
            self._starts.append(first - 1 - saved)
            saved += last - first + 1 - lines

    def line_of(self, seq: int) -> int:
        """The line that an entry begins on; of a folded one, that of its stretch."""
        place = bisect_right(self._firsts, seq) - 1
        if place < 0:
            return seq - 1
        _, last, lines = self._parts[place]
        start = self._starts[place]
        return start if seq <= last else start + lines + seq - last - 1

    def at_line(self, line: int) -> tuple[int, int]:
        """Which entry is on a line, and how many lines below its first: (seq, 0 for the first)."""
        place = bisect_right(self._starts, line) - 1
        if place < 0:
            return line + 1, 0
        first, last, lines = self._parts[place]
        below = line - self._starts[place]
        return (first, below) if below < lines else (last + 1 + below - lines, 0)

    def height(self, count: int) -> int:
        """How many lines so many entries take."""
        if not self._parts:
            return count
        _, last, lines = self._parts[-1]
        return self._starts[-1] + lines + max(0, count - last)

    def stretch_at(self, seq: int) -> tuple[int, int] | None:
        """The folded stretch that an entry is in."""
        place = bisect_right(self._stretch_firsts, seq) - 1
        if place < 0 or seq > self._stretches[place][1]:
            return None
        return self._stretches[place]

    def step(self, seq: int, by: int) -> int:
        """The seq so many entries further; a folded stretch counts as one."""
        for _ in range(abs(by)):
            here = self.stretch_at(seq)
            if by > 0:
                seq = (here[1] if here is not None else seq) + 1
            else:
                seq = (here[0] if here is not None else seq) - 1
        return self.shown(seq)

    def shown(self, seq: int) -> int:
        """The entry whose line shows for this one: itself, or the first of its stretch."""
        here = self.stretch_at(seq)
        return here[0] if here is not None else seq
