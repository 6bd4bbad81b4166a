"""Answering many waits with one answer: who is in, who is left out and why, and what became of each. Pure.

A batch is the waits that somebody has seen, never "all that match by then". What is unlike the others comes first,
then the soonest deadline; it is sent one by one, each with an operation id of its own, to waits that are still what
was seen. The console and `helmr wait answer --all` have this in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from helmr.errors import HelmrError, OutcomeUnknown, SchemaMismatch, Unavailable
from helmr.forms import schema_hash
from helmr.models import WaitInfo, WaitStatus
from helmr.outliers import outliers

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
    is_unlike: bool = False
    """It asks for something else than the batch answers."""


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
        if why := _why_unlike(wait, first):
            left_out.append(LeftOut(wait, why, is_unlike=True))
        elif why := _why_not(wait, len(taken)):
            left_out.append(LeftOut(wait, why))
        else:
            taken.append(wait)
    unlike = outliers(taken)
    items = [Item(wait, unlike=unlike.get(wait.id, "")) for wait in taken]
    items.sort(key=lambda item: not item.unlike)
    return Batch(tuple(items), tuple(left_out))


def changed(seen: WaitInfo, now: WaitInfo) -> str:
    """Why a wait is no longer the one that was seen, so that the answer is not sent; empty if it is.

    Args:
        seen: As it was shown.
        now: As it is when its answer would leave.
    """
    if now.status is not WaitStatus.PENDING:
        by = f" by {now.resolved_by.label}" if now.resolved_by is not None else ""
        return f"{now.status.value.replace('_', ' ')} meanwhile{by}"
    if now.assignee != seen.assignee:
        return f"given to {now.assignee or 'nobody in particular'} meanwhile"
    return ""


def came_of(error: HelmrError) -> Progress:
    """What has become of an answer that was not accepted: perhaps stored, to be sent again, or of no use."""
    if isinstance(error, OutcomeUnknown):
        return Progress.UNKNOWN
    return Progress.FAILED if isinstance(error, Unavailable | SchemaMismatch) else Progress.SKIPPED


def meets_all(error: HelmrError) -> bool:
    """Whether the other answers of the batch would be refused for the same reason: they share data and schema."""
    return isinstance(error, SchemaMismatch)


def _why_unlike(wait: WaitInfo, first: WaitInfo | None) -> str:
    if wait.status is not WaitStatus.PENDING or first is None:
        return ""
    if (wait.kind, wait.stream) != (first.kind, first.stream):
        return f"another stream ({wait.stream or wait.kind.value})"
    other = schema_hash(wait.json_schema) != schema_hash(first.json_schema)
    return "another schema" if other else ""


def _why_not(wait: WaitInfo, taken: int) -> str:
    if wait.status is not WaitStatus.PENDING:
        return f"no longer pending: {wait.status.value}"
    return f"over the limit of {BATCH_MAX}" if taken >= BATCH_MAX else ""


def _order(wait: WaitInfo) -> tuple[bool, float, str]:
    ends_at = wait.ends_at
    return (ends_at is None, ends_at.timestamp() if ends_at else 0.0, wait.id)
