"""The steps of a transcript: which two entries are a step's start and end, how long it took, what still runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from helmr.models import EntryInfo
from helmr.review import words
from helmr.review.words import short_id
from helmr.safe_text import one_line
from helmr_console.entry_lines import EntryLine, entry_line, session_named_in

STARTED = "step.started"
OUTCOMES = ("step.succeeded", "step.failed", "step.abandoned")
_STOPS = (
    "run.succeeded",
    "run.failed",
    "run.cancelled",
    "run.blocked",
    "run.attempt_failed",
    "run.actor_died",
    "run.rewound",
    "run.retried",
)
"""Entries of a run behind which none of the steps that ran before it runs any more."""

Op = tuple[str | None, int]


@dataclass(frozen=True, slots=True)
class StepSpan:
    """A step that started. `end` is the entry of its outcome, if that is known."""

    name: str
    start: EntryInfo
    end: EntryInfo | None = None

    @property
    def took_s(self) -> float | None:
        """How long it took; None while that is not known."""
        if self.end is None:
            return None
        return max(0.0, (self.end.recorded_at - self.start.recorded_at).total_seconds())

    @property
    def is_one_row(self) -> bool:
        """Its end stands right behind its start."""
        return self.end is not None and self.end.seq == self.start.seq + 1


def took_text(seconds: float) -> str:
    """`12 ms`, `1.2 s`, `3m`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else words.span(seconds)


@dataclass(slots=True)
class Steps:
    """The steps of one session, as far as its entries are known."""

    _by_start: dict[int, StepSpan] = field(default_factory=dict)
    _starts: dict[Op, list[int]] = field(default_factory=dict)
    """Seqs of the starts of an op; it starts again in a later attempt."""
    _ends: dict[Op, dict[int, EntryInfo]] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    """Seqs of starts whose end is not known."""
    _stops: dict[str | None, int] = field(default_factory=dict)
    """By run, the newest entry that stopped what ran."""

    def learn(self, entries: Iterable[EntryInfo]) -> bool:
        """Take what these entries tell; whether rows became one by it."""
        joined = False
        for entry in entries:
            if entry.kind in _STOPS:
                before = self._stops.get(entry.run_id, 0)
                self._stops[entry.run_id] = max(before, entry.seq)
            if entry.op is None:
                continue
            op = entry.run_id, entry.op
            if entry.kind == STARTED and entry.seq not in self._by_start:
                name = str(entry.body.get("name", ""))
                self._by_start[entry.seq] = StepSpan(name, entry)
                self._open.add(entry.seq)
                self._starts.setdefault(op, []).append(entry.seq)
            elif entry.kind in OUTCOMES:
                self._ends.setdefault(op, {})[entry.seq] = entry
            else:
                continue
            joined |= self._join(op)
        return joined

    def at(self, seq: int) -> StepSpan | None:
        """The step that started with this entry."""
        return self._by_start.get(seq)

    def of_end(self, entry: EntryInfo) -> StepSpan | None:
        """The step that ended with this entry."""
        if entry.kind not in OUTCOMES or entry.op is None:
            return None
        starts = self._starts.get((entry.run_id, entry.op), ())
        found = (self._by_start[seq] for seq in starts)
        return next(
            (one for one in found if one.end is not None and one.end.seq == entry.seq), None
        )

    def may_run(self, step: StepSpan) -> bool:
        """Nothing that is known says that it has ended."""
        return step.end is None and self._stops.get(step.start.run_id, 0) < step.start.seq

    def running(self, op: int | None) -> StepSpan | None:
        """The newest step with this op that may run."""
        opened = (self._by_start[seq] for seq in self._open)
        found = [one for one in opened if one.start.op == op and self.may_run(one)]
        return max(found, key=lambda one: one.start.seq, default=None)

    def rows(self) -> list[tuple[int, int]]:
        """First and last seq of the steps that take one row, in order."""
        return sorted((seq, seq + 1) for seq, step in self._by_start.items() if step.is_one_row)

    def _join(self, op: Op) -> bool:
        """Give each start of an op the first outcome behind it and before its next start."""
        starts, joined = sorted(self._starts.get(op, ())), False
        for place, seq in enumerate(starts):
            until = starts[place + 1] if place + 1 < len(starts) else None
            ends = [
                end
                for end in self._ends.get(op, {})
                if end > seq and (until is None or end < until)
            ]
            step = self._by_start[seq]
            now = replace(step, end=self._ends[op][min(ends)] if ends else None)
            if now != step:
                # A page that came later may hold a nearer end, or the start of another try.
                self._by_start[seq] = now
                joined |= now.is_one_row or step.is_one_row
            if ends:
                self._open.discard(seq)
            else:
                self._open.add(seq)
        return joined


def step_line(
    steps: Steps, entry: EntryInfo, runs: Callable[[int], bool], now: Callable[[], datetime]
) -> EntryLine:
    """An entry on one line; that of a step's start says what came of it, or for how long it has run.

    Args:
        runs: Whether a step that may run, by the seq of its start, does so now.
        now: The time.
    """
    line, step = entry_line(entry), steps.at(entry.seq)
    if step is None:
        ended = steps.of_end(entry)
        if ended is None or ended.took_s is None:
            return line
        return replace(line, text=f"{_safe_name(ended)}  {line.text}", took=took_text(ended.took_s))
    if step.end is not None and step.is_one_row and step.took_s is not None:
        end = entry_line(step.end)
        child = session_named_in(step.end)
        what = end.text if child is None else f"{short_id(child)}, o opens it"
        text = f"{_safe_name(step).removeprefix('sessions.start ')}  {what}"
        return replace(end, seq=entry.seq, text=text, took=took_text(step.took_s))
    if steps.may_run(step) and runs(entry.seq):
        for_s = max(0.0, (now() - entry.recorded_at).total_seconds())
        text = f"{_safe_name(step)}  runs"
        return replace(line, text=text, role="accent", took=words.span(for_s), is_live=True)
    return line


def _safe_name(step: StepSpan) -> str:
    return one_line(step.name, 80)
