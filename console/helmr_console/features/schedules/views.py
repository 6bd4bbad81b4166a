"""Schedules as rows and words, and the form of a new one. Pure.

The form has a schema, says what is wrong with what was entered, and when that would be due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from helmr.errors import BadDefinition, BadDuration
from helmr.models import SCHEDULE_NAME, SCHEDULE_NAME_MAX, ScheduleInfo, TaskInfo, Timing
from helmr.person.review import words
from helmr.wire.safe_text import one_line
from helmr.wire.timing import FIELDS, next_due, timing
from helmr_console.views import Cell, Row

OUTCOMES = {
    "started": "started",
    "missed": "missed: no runtime was up",
    "overlap": "skipped: the one before was active",
}
"""Words for the result of a due time."""
_SHORT = {
    "started": ("started", "success"),
    "missed": ("missed", "warning"),
    "overlap": ("overlap", "warning"),
}
_STATES = {"active": "", "paused": "warning", "gone": "error"}
_LAST = datetime.max.replace(tzinfo=UTC)


def by_due(one: ScheduleInfo) -> tuple[datetime, str]:
    """Sorts the next due first, what is not due last."""
    return (one.next_due_at or _LAST, one.name)


def row(one: ScheduleInfo, now: datetime) -> Row:
    """due, name, task, when, last outcome, how long ago."""
    due = words.due(one.next_due_at, now).text if one.status == "active" else one.status
    text, role = _SHORT.get(one.last_outcome or "", ("never", "muted"))
    ago = words.span((now - one.last_due_at).total_seconds()) if one.last_due_at else ""
    return (
        Cell(due, _STATES[one.status]),
        Cell(one_line(one.name, 100)),
        Cell(one_line(one.task, 100), "muted"),
        Cell(one_line(one.when, 200)),
        Cell(text, role),
        Cell(ago, "muted"),
    )


def pausing(one: ScheduleInfo) -> tuple[str, ...]:
    """The effect of a pause, or of its end."""
    if one.status == "active":
        return (
            f"start no session by {one.name} until it is resumed, also over restarts",
            "the times that pass meanwhile are not missed; sessions that it started go on",
        )
    return (
        f"go on with {one.name} at its next due time",
        "what was due meanwhile is not caught up with",
    )


def running_now(one: ScheduleInfo) -> tuple[str, ...]:
    """The effect of a run now."""
    texts = [f"start a session of {one_line(one.task, 100)} now", "its due times stay as they are"]
    if one.overlap == "skip":
        texts.append("refused while the session that it started last is active")
    return tuple(texts)


def deleting(one: ScheduleInfo) -> tuple[str, ...]:
    """The effect of a deletion."""
    return (
        f"end {one_line(one.name, 100)} for good: it starts no session any more",
        "sessions that it started stay, and go on",
    )


def line(found: Mapping[str, ScheduleInfo], now: datetime) -> tuple[str, str]:
    """All schedules in a few words, and the role of that."""
    if not found:
        return "none", ""
    next_due = min((one.next_due_at for one in found.values() if one.next_due_at), default=None)
    gone = sum(one.status == "gone" for one in found.values())
    paused = sum(one.status == "paused" for one in found.values())
    parts = [str(len(found)), *([f"{paused} paused"] if paused else [])]
    parts += [f"{gone} gone"] if gone else []
    parts += [f"next in {words.due(next_due, now).text}"] if next_due else []
    return ", ".join(parts), "warning" if gone else ""


SHOWN = 3
"""Times that are shown."""
LINE_MAX = 80
"""Of times and zone: what is longer is not a line of a form, and none was seen."""


def schema(task: TaskInfo) -> dict[str, Any]:
    """The form: name, times, and the payload as the task takes it."""
    payload = task.payload_schema
    hoisted: dict[str, Any] = {}
    if isinstance(payload, Mapping):
        hoisted = {word: payload[word] for word in ("$defs", "definitions") if word in payload}
        payload = {word: part for word, part in payload.items() if word not in hoisted}
    takes_anything = payload in (True, {}) or (
        isinstance(payload, Mapping) and payload.get("type") == "null"
    )
    return {
        **hoisted,
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "minLength": 1,
                "maxLength": SCHEDULE_NAME_MAX,
                "pattern": SCHEDULE_NAME,
            },
            "when": {
                "type": "string",
                "minLength": 1,
                "maxLength": LINE_MAX,
                "description": "15m, or minute hour day month weekday: 0 3 * * mon-fri",
            },
            "zone": {
                "type": "string",
                "maxLength": LINE_MAX,
                "default": "UTC",
                "description": "of the five fields",
            },
            "missed": {
                "enum": ["latest", "skip", "all"],
                "default": "latest",
                "description": "what becomes of times that pass while no runtime is up",
            },
            "overlap": {
                "enum": ["skip", "allow"],
                "default": "skip",
                "description": "whether one starts while the one before is active",
            },
            "payload": payload,
        },
        "required": ["name", "when", *([] if takes_anything else ["payload"])],
    }


def parts(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the client's call: `when` as `cron` or `every`."""
    found = dict(data)
    when = str(found.pop("when", "")).strip()
    return {**found, "cron" if len(when.split()) == FIELDS else "every": when}


@dataclass(frozen=True, slots=True)
class LookedAt:
    """Check what was entered: the problems by field, else the next due times, soonest first."""

    data: Any = None
    problems: Mapping[str, str] = field(default_factory=dict)
    times: Sequence[datetime] = ()


def look(data: Any, now: datetime) -> LookedAt:
    """Judge what was entered. It reads the zone's file."""
    if not isinstance(data, Mapping):
        return LookedAt()
    try:
        when = _timing(data)
    except BadDuration:
        said = "neither a duration (15m) nor five fields of cron (0 3 * * mon-fri)"
        return LookedAt(data, {"when": said})
    except BadDefinition as error:
        named = (name for name in ("zone", "overlap") if name in error.message)
        return LookedAt(data, {next(named, "when"): error.message})
    found = [now]
    while len(found) <= SHOWN and (at := next_due(when, found[-1])) is not None:
        found.append(at)
    return LookedAt(data, times=found[1:])


def _timing(data: Mapping[str, Any]) -> Timing:
    given = {name: part for name, part in parts(data).items() if name not in ("name", "payload")}
    return timing(**given)
