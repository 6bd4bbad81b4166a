"""The attempts of a run, each with the ops of its journal, and two of them beside each other. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from helmr.models import EntryInfo
from helmr.review.words import who
from helmr_console.entry_lines import entry_line

_BEGINS = {
    "run.created": "",
    "run.retried": "retried",
    "run.attempt_failed": "failed, tried again",
    "run.rewound": "rewound",
}
"""Entries that begin an attempt, and the word for it."""
_ENDS = ("run.succeeded", "run.failed", "run.blocked", "run.cancelled")
_NAMELESS = ("wait_id", "step_key", "stream_seq", "deadline_at", "token_id", "kept_from")
"""What differs between two doings of the same."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: how it began, and the entries of its journal at its end, by op."""

    number: int
    how: str
    """Why it began, in words; empty for the first."""
    ended: str
    """How the run ended in it, empty if it did not."""
    ops: dict[int, tuple[EntryInfo, ...]]


@dataclass(frozen=True, slots=True)
class OpPair:
    """One op in two attempts.

    `sign`: a space where the second took over what the first had done, `=` where it was done again and came out the
    same, `~` where it came out otherwise, `-` and `+` where only one of them has it.
    """

    op: int
    sign: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    """What each says of it, a line for each entry."""


def attempts(entries: Iterable[EntryInfo], run_id: str) -> list[Attempt]:
    """The attempts of a run, oldest first; the entries in order of seq."""
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
    """Two attempts of one run, op by op."""
    return [
        _pair(op, first.ops.get(op, ()), second.ops.get(op, ()))
        for op in sorted({*first.ops, *second.ops})
    ]


def summary(pairs: Sequence[OpPair]) -> str:
    """`4 kept, 1 again, 1 otherwise, 2 only before, 1 only after`; what there is none of is left out."""
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
    """What the entries of an op say, without what names them."""
    return [
        json.dumps(
            [entry.kind, {k: v for k, v in entry.body.items() if k not in _NAMELESS}],
            sort_keys=True,
        )
        for entry in entries
    ]


def _gone(entry: EntryInfo, journal: Sequence[EntryInfo]) -> set[int | None]:
    """The ops that this beginning takes out of the journal."""
    if entry.kind == "run.rewound":
        ops = entry.body.get("set_aside")
        return set(ops) if isinstance(ops, list) else set()
    return set(_failed(entry.body.get("failed_op"), journal))


def _failed(failed_op: object, journal: Sequence[EntryInfo]) -> Iterator[int | None]:
    """After a failure: the failed op, what was asked behind its outcome, and what the failure gave up (S-5)."""
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
