"""Answering many waits with one answer: who is in, who is left out and why, and what became of each. Pure.

A batch is the waits that someone has seen, never "all that match by then". What is unlike the others comes first,
then the soonest deadline; it is sent one by one, each with an operation id of its own, to waits that are still what
was seen. The console and `helmr wait answer --all` have this in common.

A wait is unlike the others by arithmetic over what is on screen, and the reason stands beside it in words. It decides
nothing: those waits are only looked at first.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median
from typing import Any

from helmr.errors import HelmrError, OutcomeUnknown, SchemaMismatch, Unavailable
from helmr.models import BODY_DRAWN_CHARS, BULK_RUNS_MAX, WaitInfo, WaitStatus
from helmr.person.forms import schema_hash
from helmr.person.review import agreement

ALIKE_MIN = 3
"""Fewer waits than this have no common shape."""
MOST = 0.5
"""A value counts as common above this share of waits."""
SHARED = 0.8
"""A word in this share of the texts belongs to their shape."""
TIMES_LONGER = 3
LONGER_MIN = 200
TIMES_LARGER = 5

_WORD = re.compile(r"[^\W\d_]{2,}")
_NUMBER = re.compile(r"(?<![\w.])\d{1,15}(?:\.\d+)?(?![\w])")


def outliers(waits: Sequence[WaitInfo]) -> dict[str, str]:
    """Return the waits that are unlike the others, by id, with the reason. The texts are not made safe."""
    if len(waits) < ALIKE_MIN:
        return {}
    found: dict[str, str] = {}
    for judge in (_by_initial, _by_words, _by_length, _by_number):
        for wait_id, why in judge(waits).items():
            found.setdefault(wait_id, why)
    return found


def _by_initial(waits: Sequence[WaitInfo]) -> dict[str, str]:
    """The value that the form begins with; of objects the first field that differs."""
    found: dict[str, str] = {}
    values = [wait.initial for wait in waits]
    if all(isinstance(value, dict) for value in values):
        names = dict.fromkeys(name for value in values for name in value)
        for name in names:
            parts = {wait.id: _text(wait.initial, name) for wait in waits}
            for wait_id, (said, most) in _rare(parts).items():
                found.setdefault(wait_id, f"{name} begins with {said}, most with {most}")
        return found
    for wait_id, (said, most) in _rare({wait.id: _json(wait.initial) for wait in waits}).items():
        found[wait_id] = f"begins with {said}, most with {most}"
    return found


def _by_words(waits: Sequence[WaitInfo]) -> dict[str, str]:
    """A word that nearly all texts have and this one has not."""
    words = {
        wait.id: dict.fromkeys(word.casefold() for word in _WORD.findall(_says(wait)))
        for wait in waits
    }
    counts = Counter(word for said in words.values() for word in said)
    shape = [word for word, count in counts.items() if SHARED * len(waits) <= count < len(waits)]
    return {
        wait_id: f"lacks the word “{lacks[0]}”, which {counts[lacks[0]]} of {len(waits)} have"
        for wait_id, said in words.items()
        if (lacks := [word for word in shape if word not in said])
    }


def _by_length(waits: Sequence[WaitInfo]) -> dict[str, str]:
    lengths = {wait.id: len(wait.own_text) for wait in waits}
    usual = median(lengths.values())
    return {
        wait_id: f"its text has {length:,} characters, usual are {usual:,.0f}"
        for wait_id, length in lengths.items()
        if length > TIMES_LONGER * usual and length > usual + LONGER_MIN
    }


def _by_number(waits: Sequence[WaitInfo]) -> dict[str, str]:
    """A number that is far above those at its place in the others: an amount that is none of the usual ones.

    A place whose numbers lie far from each other, as those of tickets and orders may, has no usual one.
    """
    places: dict[tuple[str, int], dict[str, float]] = {}
    for wait in waits:
        for place, number in _numbers(wait).items():
            places.setdefault(place, {})[wait.id] = number
    found: dict[str, str] = {}
    for numbers in places.values():
        usual = median(numbers.values())
        near = [one for one in numbers.values() if usual <= TIMES_LARGER * one]
        near = [one for one in near if one <= TIMES_LARGER * usual]
        if usual <= 0 or len(numbers) <= MOST * len(waits) or len(near) < SHARED * len(numbers):
            continue
        for wait_id, number in numbers.items():
            if number > TIMES_LARGER * usual:
                found.setdefault(wait_id, f"holds {number:,g}, usual is {usual:,g}")
    return found


def _numbers(wait: WaitInfo) -> dict[tuple[str, int], float]:
    """The numbers of a wait by their places: in the question, the text, and each part of the initial value."""
    initial = wait.initial if isinstance(wait.initial, dict) else {"": wait.initial}
    texts = {"subject": wait.subject or "", "body": wait.own_text[:BODY_DRAWN_CHARS]}
    texts |= {f"initial {name}": _json(value) for name, value in initial.items()}
    return {
        (part, place): float(number)
        for part, text in texts.items()
        for place, number in enumerate(_NUMBER.findall(text))
    }


def _rare(parts: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the values that differ from those of most, each with what most say."""
    most, count = Counter(parts.values()).most_common(1)[0]
    if count <= MOST * len(parts):
        return {}
    return {key: (said, most) for key, said in parts.items() if said != most}


def _says(wait: WaitInfo) -> str:
    return f"{wait.subject or ''}\n{wait.own_text[:BODY_DRAWN_CHARS]}"


def _text(initial: Mapping[str, Any], name: str) -> str:
    return _json(initial[name]) if name in initial else "nothing"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:199]}…"


BATCH_MAX = BULK_RUNS_MAX
"""Same bound as for runs that are retried, cancelled or closed at once."""


class Progress(StrEnum):
    """Progress of one answer; the value is the word shown."""

    PLANNED = "not sent yet"
    SENDING = "sending…"
    ACCEPTED = "accepted"
    SKIPPED = "skipped"
    FAILED = "not sent"
    UNKNOWN = "outcome unknown"
    STOPPED = "stopped before it"


@dataclass(frozen=True, slots=True)
class Item:
    """One wait of a batch."""

    wait: WaitInfo
    progress: Progress = Progress.PLANNED
    detail: str = ""
    unlike: str = ""
    """Difference from the others; empty if there is none."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A marked wait that is not in the batch."""

    wait: WaitInfo
    why: str
    is_unlike: bool = False
    """The wait asks something else than the batch answers."""


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """The plan, in the order of sending. All items share stream and schema."""

    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def stopped_at(self) -> int | None:
        """Index of the next item to send; None when there is none."""
        planned = (i for i, item in enumerate(self.items) if item.progress is Progress.PLANNED)
        return next(planned, None)

    def mark(self, index: int, progress: Progress, detail: str = "") -> AnswerBatch:
        """The batch with that item's progress set."""
        items = list(self.items)
        items[index] = replace(items[index], progress=progress, detail=detail)
        return replace(self, items=tuple(items))

    def without(self, index: int) -> AnswerBatch:
        """Return the batch with that item left out."""
        item = self.items[index]
        out = LeftOut(item.wait, "left out by you")
        return AnswerBatch((*self.items[:index], *self.items[index + 1 :]), (*self.left_out, out))

    def stop(self) -> AnswerBatch:
        """Return the batch with all unsent items stopped."""
        items = (
            replace(item, progress=Progress.STOPPED) if item.progress is Progress.PLANNED else item
            for item in self.items
        )
        return replace(self, items=tuple(items))

    @property
    def done(self) -> int:
        """Number of answers sent or skipped."""
        rest = (Progress.PLANNED, Progress.SENDING, Progress.STOPPED)
        return sum(item.progress not in rest for item in self.items)

    @property
    def accepted(self) -> int:
        """Number of answers accepted."""
        return sum(item.progress is Progress.ACCEPTED for item in self.items)

    def summary(self) -> str:
        """`2 of 3 done, 1 accepted, 1 skipped`."""
        count = {kind: sum(item.progress is kind for item in self.items) for kind in Progress}
        words = [
            f"{count[kind]} {word}"
            for kind, word in (
                (Progress.ACCEPTED, "accepted"),
                (Progress.SKIPPED, "skipped"),
                (Progress.FAILED, "not sent"),
                (Progress.UNKNOWN, "unknown"),
                (Progress.STOPPED, "stopped"),
            )
            if count[kind]
        ]
        return ", ".join([f"{self.done} of {len(self.items)} done", *words])


def plan(marked: Sequence[WaitInfo], lead: str | None, *, me: str | None = None) -> AnswerBatch:
    """Select the waits that share kind, stream and schema with `lead`, and leave out those that others answer.

    Outliers come first, then the earliest deadline.

    Args:
        marked: Waits in full (with their schema).
        lead: The wait whose schema decides; without it the one with the soonest deadline.
        me: The person who answers, by name at the gateway.
    """
    ordered = sorted(marked, key=_order)
    first = next((wait for wait in ordered if wait.id == lead), ordered[0] if ordered else None)
    taken: list[WaitInfo] = []
    left_out: list[LeftOut] = []
    for wait in ordered:
        if why := _why_unlike(wait, first):
            left_out.append(LeftOut(wait, why, is_unlike=True))
        elif why := _why_not(wait, len(taken), me):
            left_out.append(LeftOut(wait, why))
        else:
            taken.append(wait)
    unlike = outliers(taken)
    items = [Item(wait, unlike=unlike.get(wait.id, "")) for wait in taken]
    items.sort(key=lambda item: not item.unlike)
    return AnswerBatch(tuple(items), tuple(left_out))


def changed(seen: WaitInfo, now: WaitInfo) -> str:
    """Explain why a wait has changed since it was seen, so that no answer is sent; empty if it has not.

    Args:
        seen: The wait as shown.
        now: The wait as it is just before the send.
    """
    if not now.takes_answers:
        by = f" by {now.resolved_by.label}" if now.resolved_by is not None else ""
        return f"{(now.resolving or now.status).value.replace('_', ' ')} meanwhile{by}"
    if now.assignee != seen.assignee:
        return f"given to {now.assignee or 'no one in particular'} meanwhile"
    return ""


def came_of(error: HelmrError) -> Progress:
    """Classify an answer that was not accepted: perhaps stored, to be sent again, or of no use."""
    if isinstance(error, OutcomeUnknown):
        return Progress.UNKNOWN
    return Progress.FAILED if isinstance(error, Unavailable | SchemaMismatch) else Progress.SKIPPED


def meets_all(error: HelmrError) -> bool:
    """True if the batch's other answers would fail for the same reason: they share data and schema."""
    return isinstance(error, SchemaMismatch)


def _why_unlike(wait: WaitInfo, first: WaitInfo | None) -> str:
    if wait.status is not WaitStatus.PENDING or first is None:
        return ""
    if (wait.kind, wait.stream) != (first.kind, first.stream):
        return f"another stream ({wait.stream or wait.kind.value})"
    other = schema_hash(wait.json_schema) != schema_hash(first.json_schema)
    return "another schema" if other else ""


def _why_not(wait: WaitInfo, taken: int, me: str | None) -> str:
    if wait.status is not WaitStatus.PENDING:
        return f"no longer pending: {wait.status.value}"
    if why := agreement.why_not(wait, me):
        return why
    return f"over the limit of {BATCH_MAX:,}" if taken >= BATCH_MAX else ""


def _order(wait: WaitInfo) -> tuple[bool, float, str]:
    ends_at = wait.ends_at
    return (ends_at is None, ends_at.timestamp() if ends_at else 0.0, wait.id)
