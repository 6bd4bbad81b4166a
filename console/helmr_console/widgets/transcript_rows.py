"""Rows of a transcript: the entries that share one, its lines, and its text. Pure.

A step and its end share a row when adjacent; a folded stretch that a rewind set aside is one row. Below a row stand the
lines of an unfolded entry, and the output of a running step. A row consists of parts of text, each with its role.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from rich.cells import cell_len

from helmr.models import EntryInfo
from helmr.person.review import words
from helmr_console.attempts import Steps
from helmr_console.entry_lines import EntryLine
from helmr_console.set_aside import Rewinds
from helmr_console.widgets.lines import fit

Parts = list[tuple[str, str]]

FIXED_CELLS = 26
"""Cells of the signs, number, time and word."""
BY_FROM_WIDTH = 70


@dataclass(frozen=True, slots=True)
class Marks:
    """Signs before a row: cursor, mark, fold, and whether it is set aside."""

    sign: str = " "
    is_marked: bool = False
    fold: str = " "
    is_aside: bool = False


class Times(StrEnum):
    """Format of an entry's time."""

    CLOCK = "clock"
    AGE = "age"
    ELAPSED = "elapsed"


def time_text(
    times: Times, entry: EntryInfo, before: EntryInfo | None, now: Callable[[], datetime]
) -> str:
    """The time of an entry; `before` is the entry before it, if that is here."""
    if times is Times.CLOCK:
        return words.clock(entry.recorded_at)
    if times is Times.AGE:
        return words.span((now() - entry.recorded_at).total_seconds())
    if before is None:
        return "" if entry.seq > 1 else "0s"
    gap_s = (entry.recorded_at - before.recorded_at).total_seconds()
    return f"+{gap_s:.3f}s" if gap_s < 10 else f"+{words.span(gap_s)}"


def row(line: EntryLine, time: str, marks: Marks, width: int) -> Parts:
    """The row in at most `width` cells; the text gives way to person and duration."""
    by = f"  {line.by}" if line.by and width >= BY_FROM_WIDTH else ""
    by = fit(by, min(cell_len(by), width // 3))
    took = f"  {line.took}" if line.took else ""
    room = max(0, width - FIXED_CELLS - cell_len(by) - cell_len(took))
    text, text_role, word_role = line.text, "", line.role or "muted"
    if line.rule:
        text = f"── {text} "
        text += "─" * max(0, room - cell_len(text))
        text_role = "muted"
    elif line.role in ("error", "warning") or line.is_live:
        text_role = line.role
    if marks.is_aside:
        word_role = text_role = "muted"
    return [
        (marks.sign, "accent"),
        ("*" if marks.is_marked else " ", "strong"),
        (f"{line.seq:>5}", "muted"),
        (f"{marks.fold}{time:>8}{'~' if marks.is_aside else ' '}", "muted"),
        (f"{line.word:<8} ", word_role),
        (fit(text, room), text_role),
        (took, "muted"),
        (by, "muted" if marks.is_aside else "strong"),
    ]


class LineMap:
    """Maps entries to lines: one line each, except for unfolded entries and folded stretches.

    Args:
        below: Number of lines below an unfolded entry, or below a stretch, by its first entry.
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
        """First line of an entry; for a folded one, the line of its stretch."""
        place = bisect_right(self._firsts, seq) - 1
        if place < 0:
            return seq - 1
        _, last, lines = self._parts[place]
        start = self._starts[place]
        return start if seq <= last else start + lines + seq - last - 1

    def at_line(self, line: int) -> tuple[int, int]:
        """The entry on a line, and the line's distance from the entry's first: (seq, distance)."""
        place = bisect_right(self._starts, line) - 1
        if place < 0:
            return line + 1, 0
        first, last, lines = self._parts[place]
        below = line - self._starts[place]
        return (first, below) if below < lines else (last + 1 + below - lines, 0)

    def height(self, count: int) -> int:
        """Number of lines of the first `count` entries."""
        if not self._parts:
            return count
        _, last, lines = self._parts[-1]
        return self._starts[-1] + lines + max(0, count - last)

    def stretch_at(self, seq: int) -> tuple[int, int] | None:
        """The folded stretch that contains an entry; None if there is none."""
        place = bisect_right(self._stretch_firsts, seq) - 1
        if place < 0 or seq > self._stretches[place][1]:
            return None
        return self._stretches[place]

    def step(self, seq: int, by: int) -> int:
        """The seq `by` entries further; a folded stretch counts as one."""
        for _ in range(abs(by)):
            here = self.stretch_at(seq)
            if by > 0:
                seq = (here[1] if here is not None else seq) + 1
            else:
                seq = (here[0] if here is not None else seq) - 1
        return self.shown(seq)

    def shown(self, seq: int) -> int:
        """The entry whose line stands for this one: itself, or the first of its stretch."""
        here = self.stretch_at(seq)
        return here[0] if here is not None else seq


class TranscriptRows:
    """The rows of all known entries."""

    def __init__(self) -> None:
        self.map = LineMap()
        self.steps = Steps()
        self.rewinds = Rewinds()
        self.aside: list[tuple[int, int]] = []
        """Set-aside stretches that are folded."""
        self.unfolded: dict[int, list[str]] = {}
        self._live: dict[int, list[str]] = {}
        self._stretches: list[tuple[int, int]] = []

    def learn(self, entries: Sequence[EntryInfo]) -> bool:
        """Add these entries; return True if rows may have changed."""
        joined = self.steps.learn(entries)
        return self.rewinds.learn(entries) or joined

    def fold(self, held: Iterable[EntryInfo], *, folds_aside: bool) -> None:
        """Compute again which entries share a row."""
        self.aside = self.rewinds.stretches(held) if folds_aside else []
        steps = self.steps.rows()
        if self.aside:
            folded = LineMap(stretches=self.aside)
            outside = [one for one in steps if not any(map(folded.stretch_at, one))]
            steps = sorted([*self.aside, *outside])
        self._stretches = steps
        self.measure()

    def measure(self) -> None:
        """Compute the lines again after some came or went below rows."""
        below = {seq: len(self.below(seq)) for seq in {*self.unfolded, *self._live}}
        self.map = LineMap(below, self._stretches)

    def below(self, seq: int) -> list[str]:
        """The lines below a row."""
        return [*self.unfolded.get(seq, ()), *self._live.get(seq, ())]

    def is_live(self, seq: int, below: int) -> bool:
        """True if that line below a row is live output."""
        return below > len(self.unfolded.get(seq, ()))

    def say_live(self, lines: Mapping[int, list[str]]) -> None:
        """Set the live output of steps, by their start entries."""
        self._live = {self.map.shown(seq): said for seq, said in lines.items() if said}
        self.measure()

    def told(self, seq: int) -> int:
        """The entry that this row shows: for a step on one row, its end."""
        step = self.steps.at(seq)
        return seq + 1 if step is not None and step.is_one_row else seq

    def is_folded(self, seq: int) -> bool:
        """True for an entry in a folded, set-aside stretch."""
        return self.map.stretch_at(seq) in self.aside

    def beside(self, seq: int, by: int) -> int:
        """The first entry after this one's row (`by` > 0), or the last before it."""
        first, last = self.map.stretch_at(seq) or (seq, seq)
        return last + 1 if by > 0 else first - 1
