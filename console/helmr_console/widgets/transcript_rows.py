"""Which entries of a transcript share a row, and how many lines each row has. Pure.

A step and its end are one row where they stand side by side; what rewinds have set aside is one where it is folded.
Below a row stand the lines of an unfolded entry, and what a step says while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from helmr.models import EntryInfo
from helmr_console.set_aside import Rewinds
from helmr_console.steps import Steps
from helmr_console.widgets.line_map import LineMap


class TranscriptRows:
    """The rows, as far as entries are known."""

    def __init__(self) -> None:
        self.map = LineMap()
        self.steps = Steps()
        self.rewinds = Rewinds()
        self.aside: list[tuple[int, int]] = []
        """Stretches that are set aside and folded."""
        self.unfolded: dict[int, list[str]] = {}
        self._live: dict[int, list[str]] = {}
        self._stretches: list[tuple[int, int]] = []

    def learn(self, entries: Sequence[EntryInfo]) -> bool:
        """Take what these entries tell; whether rows may be others by it."""
        joined = self.steps.learn(entries)
        return self.rewinds.learn(entries) or joined

    def fold(self, held: Iterable[EntryInfo], *, folds_aside: bool) -> None:
        """Say anew which entries share a row."""
        self.aside = self.rewinds.stretches(held) if folds_aside else []
        steps = self.steps.rows()
        if self.aside:
            folded = LineMap(stretches=self.aside)
            outside = [one for one in steps if not any(map(folded.stretch_at, one))]
            steps = sorted([*self.aside, *outside])
        self._stretches = steps
        self.measure()

    def measure(self) -> None:
        """Lines below rows have come or gone."""
        below = {seq: len(self.below(seq)) for seq in {*self.unfolded, *self._live}}
        self.map = LineMap(below, self._stretches)

    def below(self, seq: int) -> list[str]:
        """The lines below a row."""
        return [*self.unfolded.get(seq, ()), *self._live.get(seq, ())]

    def is_live(self, seq: int, below: int) -> bool:
        """Whether that line below a row is of a step that runs."""
        return below > len(self.unfolded.get(seq, ()))

    def say_live(self, lines: Mapping[int, list[str]]) -> None:
        """What steps say while they run, by the entry that they started with."""
        self._live = {self.map.shown(seq): said for seq, said in lines.items() if said}
        self.measure()

    def told(self, seq: int) -> int:
        """The entry that the row of this one is about: of a step that has ended, its end."""
        step = self.steps.at(seq)
        return seq + 1 if step is not None and step.is_one_row else seq

    def is_folded(self, seq: int) -> bool:
        """It stands for a stretch that is set aside."""
        return self.map.stretch_at(seq) in self.aside

    def beside(self, seq: int, by: int) -> int:
        """The first entry behind the row of this one, or the last before it."""
        first, last = self.map.stretch_at(seq) or (seq, seq)
        return last + 1 if by > 0 else first - 1
