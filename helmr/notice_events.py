"""Which entries tell people of something: what notices say, and `helmr listen`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class EventName(StrEnum):
    """What a notice can tell. All but `wait.due_soon`, which the clock makes, are made of entries."""

    WAIT_OPENED = "wait.opened"
    WAIT_REMINDED = "wait.reminded"
    WAIT_DUE_SOON = "wait.due_soon"
    WAIT_ASSIGNED = "wait.assigned"
    WAIT_RESOLVED = "wait.resolved"
    WAIT_TIMED_OUT = "wait.timed_out"
    RUN_FAILED = "run.failed"
    RUN_BLOCKED = "run.blocked"


_TELLS: Mapping[str, EventName] = {
    "wait.opened": EventName.WAIT_OPENED,
    "wait.reminded": EventName.WAIT_REMINDED,
    "wait.assigned": EventName.WAIT_ASSIGNED,
    "wait.fulfilled": EventName.WAIT_RESOLVED,
    "wait.cancelled": EventName.WAIT_RESOLVED,
    "wait.timed_out": EventName.WAIT_TIMED_OUT,
    "run.failed": EventName.RUN_FAILED,
    "run.blocked": EventName.RUN_BLOCKED,
}
"""By kind of entry."""


def event_name(kind: str, body: Mapping[str, Any]) -> EventName | None:
    """The event of an entry, if it is one. A fork's copied entries are none: their originals were (S-86)."""
    return None if "copied_from" in body else _TELLS.get(kind)
