"""The steps of a transcript and the attempts of a run. Pure.

`Steps` pairs each step's start and end and knows which steps still run. `attempts` splits a run into attempts with the
ops of their journals; `beside` compares two of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from helmr.models import EntryInfo
from helmr.person.review import words
from helmr.person.review.words import short_id, who
from helmr.wire.safe_text import one_line
from helmr_console.entry_lines import EntryLine, entry_line, session_named_in

_BEGINS = {
    "run.created": "",
    "run.retried": "retried",
    "run.attempt_failed": "failed, tried again",
    "run.rewound": "rewound",
}
"""Entries that begin an attempt, and the word for it."""
_ENDS = ("run.succeeded", "run.failed", "run.blocked", "run.cancelled")
_NAMELESS = ("wait_id", "step_key", "stream_seq", "deadline_at", "token_id", "kept_from")
"""Fields that differ between two executions of the same op."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt and the entries of its journal at its end, by op."""

    number: int
    how: str
    """The reason it began, in words; empty for the first."""
    ended: str
    """The run's end in this attempt; empty if it did not end."""
    ops: dict[int, tuple[EntryInfo, ...]]


@dataclass(frozen=True, slots=True)
class OpPair:
    """One op in two attempts.

    `sign`: a space where the second attempt reused the first one's result, `=` where the op ran again with the same
    result, `~` with another result, `-` and `+` where only the first or the second has the op.
    """

    op: int
    sign: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    """The lines of each attempt, one for each entry."""


def attempts(entries: Iterable[EntryInfo], run_id: str) -> list[Attempt]:
    """Return the attempts of a run, oldest first; `entries` must be in order of seq."""
    found: list[Attempt] = []
    journal: list[EntryInfo] = []
    number, how, ended = 1, "", ""
    answers: dict[object, object] = {}
    for entry in entries:
        body = entry.body
        if entry.kind == "input.accepted":
            answers[body.get("stream"), body.get("stream_seq")] = body.get("data")
        if entry.run_id != run_id:
            continue
        if entry.kind == "wait.fulfilled":
            said = answers.get((body.get("stream"), body.get("record_seq")), body.get("data"))
            entry = entry.model_copy(update={"body": {**body, "data": said}})
        if entry.kind in _BEGINS:
            if entry.kind != "run.created":
                found.append(Attempt(number, how, ended, _by_op(journal)))
                gone = _gone(entry, journal)
                journal = [one for one in journal if one.op not in gone]
            number, how, ended = _number(entry, number), _how(entry), ""
        elif entry.kind in _ENDS:
            ended = entry_line(entry).text
        elif entry.op is not None:
            journal.append(entry)
    return [*found, Attempt(number, how, ended, _by_op(journal))] if found or journal else []


def beside(first: Attempt, second: Attempt) -> list[OpPair]:
    """Pair two attempts of one run, op by op."""
    return [
        _pair(op, first.ops.get(op, ()), second.ops.get(op, ()))
        for op in sorted({*first.ops, *second.ops})
    ]


def summary(pairs: Sequence[OpPair]) -> str:
    """`4 kept, 1 again, 1 otherwise, 2 only before, 1 only after`, without the zeros."""
    words = {" ": "kept", "=": "again", "~": "otherwise", "-": "only before", "+": "only after"}
    counts = ((sum(pair.sign == sign for pair in pairs), word) for sign, word in words.items())
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "nothing was done"


def _pair(op: int, left: Sequence[EntryInfo], right: Sequence[EntryInfo]) -> OpPair:
    if not left or not right:
        sign = "+" if right else "-"
    elif [one.seq for one in left] == [one.seq for one in right]:
        sign = " "
    else:
        sign = "=" if _said(left) == _said(right) else "~"
    return OpPair(op, sign, _words(left), _words(right))


def _words(entries: Sequence[EntryInfo]) -> tuple[str, ...]:
    """`step draft_review started`, `done "ok"`."""
    words = entry_line(entries[0]).word if entries else ""
    texts = (entry_line(entry).text + _answer(entry) for entry in entries)
    return tuple(text if number else f"{words} {text}" for number, text in enumerate(texts))


def _answer(entry: EntryInfo) -> str:
    data = entry.body.get("data") if entry.kind == "wait.fulfilled" else None
    return "" if data is None else f": {json.dumps(data, ensure_ascii=False)}"


def _said(entries: Sequence[EntryInfo]) -> list[str]:
    """The content of an op's entries, without ids and positions."""
    return [
        json.dumps(
            [entry.kind, {k: v for k, v in entry.body.items() if k not in _NAMELESS}],
            sort_keys=True,
        )
        for entry in entries
    ]


def _gone(entry: EntryInfo, journal: Sequence[EntryInfo]) -> set[int | None]:
    """The ops that this entry, which begins an attempt, removes from the journal."""
    if entry.kind == "run.rewound":
        ops = entry.body.get("set_aside")
        return set(ops) if isinstance(ops, list) else set()
    return set(_failed(entry.body.get("failed_op"), journal))


def _failed(failed_op: object, journal: Sequence[EntryInfo]) -> Iterator[int | None]:
    """Yield the ops that a failure removes: the failed one, those begun after it, those it abandoned (S-5)."""
    outcomes = [one.seq for one in journal if failed_op in (None, one.op) and not _is_given_up(one)]
    if not outcomes:
        return
    end, opened = max(outcomes), dict[int | None, int]()
    for one in journal:
        opened.setdefault(one.op, one.seq)
        if _is_given_up(one) and one.seq > end:
            yield one.op
    yield from (op for op, seq in opened.items() if op == failed_op or seq > end)


def _is_given_up(entry: EntryInfo) -> bool:
    return entry.body.get("reason") == "task"


def _by_op(journal: Iterable[EntryInfo]) -> dict[int, tuple[EntryInfo, ...]]:
    found: dict[int, tuple[EntryInfo, ...]] = {}
    for entry in journal:
        if entry.op is not None and entry.kind != "patch.marked":
            found[entry.op] = (*found.get(entry.op, ()), entry)
    return found


def _number(entry: EntryInfo, before: int) -> int:
    named = entry.body.get("next_attempt" if entry.kind == "run.attempt_failed" else "attempt")
    return named if isinstance(named, int) else before + (entry.kind != "run.created")


def _how(entry: EntryInfo) -> str:
    words = _BEGINS[entry.kind]
    if entry.kind == "run.rewound":
        return f"{words} by {who(entry.principal)}: {entry.body.get('reason', '')}"
    return words


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
"""Entries of a run that end every step that was running."""

Op = tuple[str | None, int]


@dataclass(frozen=True, slots=True)
class StepSpan:
    """A step that started. `end` is the entry of its outcome, if that is known."""

    name: str
    start: EntryInfo
    end: EntryInfo | None = None

    @property
    def took_s(self) -> float | None:
        """Duration in seconds; None until the end is known."""
        if self.end is None:
            return None
        return max(0.0, (self.end.recorded_at - self.start.recorded_at).total_seconds())

    @property
    def is_one_row(self) -> bool:
        """True when its end follows directly on its start."""
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
    """By run, the newest entry that stopped its steps."""

    def learn(self, entries: Iterable[EntryInfo]) -> bool:
        """Add these entries; return True if two rows became one."""
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
        """True unless a known entry has ended the step."""
        return step.end is None and self._stops.get(step.start.run_id, 0) < step.start.seq

    def running(self, op: int | None) -> StepSpan | None:
        """The newest step with this op that may run."""
        opened = (self._by_start[seq] for seq in self._open)
        found = [one for one in opened if one.start.op == op and self.may_run(one)]
        return max(found, key=lambda one: one.start.seq, default=None)

    def rows(self) -> list[tuple[int, int]]:
        """First and last seq of each step that takes one row, in order."""
        return sorted((seq, seq + 1) for seq, step in self._by_start.items() if step.is_one_row)

    def _join(self, op: Op) -> bool:
        """Pair each start of an op with the first outcome before its next start."""
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
                # A later page may hold a nearer end, or the start of another try.
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
    """An entry on one line; a step's start also shows its outcome, or how long it has been running.

    Args:
        runs: True if the step that started at this seq is running now; called only for steps that may run.
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
