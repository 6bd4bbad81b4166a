"""Waits in groups, and figures about an inbox. Pure.

A group's heading is a row of the list like any other, with a key of its own, so that cursor, marks and merging need
know nothing of groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from statistics import median

from helmr.models import WaitInfo
from helmr.review import words

_HEAD = "group "


class By(StrEnum):
    """What waits are grouped by; the value is the word for it."""

    NOTHING = ""
    STREAM = "stream"
    TASK = "task"
    TAG = "tag"
    ASSIGNEE = "assignee"

    @property
    def next(self) -> By:
        """The one behind it, round and round."""
        found = tuple(By)
        return found[(found.index(self) + 1) % len(found)]


def head_of(name: str) -> str:
    """The key of a group's heading."""
    return f"{_HEAD}{name}"


def group_of(key: str) -> str | None:
    """The group whose heading has this key; None if it is that of a wait."""
    return key.removeprefix(_HEAD) if key.startswith(_HEAD) else None


def name_of(wait: WaitInfo, by: By) -> str:
    """The group of a wait; empty if it has none. Of several tags the first one counts."""
    found = {
        By.STREAM: wait.stream or wait.kind.value,
        By.TASK: wait.task,
        By.TAG: next(iter((*wait.tags, *wait.session_tags)), ""),
        By.ASSIGNEE: wait.assignee or "",
    }
    return found.get(by, "")


def in_groups(waits: Sequence[WaitInfo], by: By) -> dict[str, list[WaitInfo]]:
    """Groups by name, what has none last; in each the waits in the order given."""
    found: dict[str, list[WaitInfo]] = {}
    for wait in waits:
        found.setdefault(name_of(wait, by), []).append(wait)
    return dict(sorted(found.items(), key=lambda one: (not one[0], one[0].casefold(), one[0])))


def head_text(name: str, by: By, waits: Sequence[WaitInfo], now: datetime) -> str:
    """`stream approval: 4 waits, oldest 2h 10m`. The name is not made safe."""
    what = f"{by.value} {name}" if name else f"no {by.value}"
    if not waits:
        return f"{what}: nothing more"
    return f"{what}: {len(waits)} {'wait' if len(waits) == 1 else 'waits'}, oldest {_span(_ages(waits, now)[-1])}"


def figures(waits: Sequence[WaitInfo], now: datetime) -> list[str]:
    """How long the waits have been open: the oldest one, and one in the middle. Nothing without waits."""
    if not waits:
        return []
    ages = _ages(waits, now)
    return [f"oldest {_span(ages[-1])}", f"median {_span(median(ages))}"]


def _ages(waits: Sequence[WaitInfo], now: datetime) -> list[float]:
    return sorted((now - wait.opened_at).total_seconds() for wait in waits)


def _span(seconds: float) -> str:
    return words.span(max(0.0, seconds))
