"""Answering many waits with one form: who is in, who is left out and why, and what became of each.

A batch is what was marked and seen, never "all that match". What is unlike the others comes first, then the soonest
deadline; it is sent one by one, each with an operation id of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from helmr.forms import schema_hash
from helmr.models import WaitInfo, WaitStatus
from helmr_console.outliers import outliers

BATCH_MAX = 200


class Progress(StrEnum):
    """What became of one answer; the value is the word shown."""

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
    """In what it is unlike the others; empty if it is not."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A marked wait that is not in the batch."""

    wait: WaitInfo
    why: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The plan, in the order of sending. All items share stream and schema."""

    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def stopped_at(self) -> int | None:
        """Index of the next item to send; None when there is none."""
        planned = (i for i, item in enumerate(self.items) if item.progress is Progress.PLANNED)
        return next(planned, None)

    def mark(self, index: int, progress: Progress, detail: str = "") -> Batch:
        """The batch with that item's progress set."""
        items = list(self.items)
        items[index] = replace(items[index], progress=progress, detail=detail)
        return replace(self, items=tuple(items))

    def without(self, index: int) -> Batch:
        """The batch without that item, which is left out."""
        item = self.items[index]
        out = LeftOut(item.wait, "left out by you")
        return Batch((*self.items[:index], *self.items[index + 1 :]), (*self.left_out, out))

    def stop(self) -> Batch:
        """No more is sent."""
        items = (
            replace(item, progress=Progress.STOPPED) if item.progress is Progress.PLANNED else item
            for item in self.items
        )
        return replace(self, items=tuple(items))

    def summary(self) -> str:
        """`2 of 3 done, 1 accepted, 1 skipped`."""
        count = {kind: sum(item.progress is kind for item in self.items) for kind in Progress}
        rest = (Progress.PLANNED, Progress.SENDING, Progress.STOPPED)
        done = len(self.items) - sum(count[kind] for kind in rest)
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
        return ", ".join([f"{done} of {len(self.items)} done", *words])


def plan(marked: Sequence[WaitInfo], lead: str | None) -> Batch:
    """Who is answered: the waits that share kind, stream and schema with `lead`.

    Those that are unlike the others come first, then the soonest deadline.

    Args:
        marked: Waits in full (with their schema).
        lead: The wait whose schema decides; without it the one with the soonest deadline.
    """
    ordered = sorted(marked, key=_order)
    first = next((wait for wait in ordered if wait.id == lead), ordered[0] if ordered else None)
    taken: list[WaitInfo] = []
    left_out: list[LeftOut] = []
    for wait in ordered:
        why = _why_not(wait, first, len(taken))
        if why:
            left_out.append(LeftOut(wait, why))
        else:
            taken.append(wait)
    unlike = outliers(taken)
    items = [Item(wait, unlike=unlike.get(wait.id, "")) for wait in taken]
    items.sort(key=lambda item: not item.unlike)
    return Batch(tuple(items), tuple(left_out))


def _why_not(wait: WaitInfo, first: WaitInfo | None, taken: int) -> str:
    if wait.status is not WaitStatus.PENDING:
        return f"no longer pending: {wait.status.value}"
    if first is not None and (wait.kind, wait.stream) != (first.kind, first.stream):
        return f"another stream ({wait.stream or wait.kind.value})"
    if first is not None and schema_hash(wait.json_schema) != schema_hash(first.json_schema):
        return "another schema"
    return f"over the limit of {BATCH_MAX}" if taken >= BATCH_MAX else ""


def _order(wait: WaitInfo) -> tuple[bool, float, str]:
    deadline = wait.deadline_at
    return (deadline is None, deadline.timestamp() if deadline else 0.0, wait.id)
