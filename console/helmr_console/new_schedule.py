"""The form of a schedule: its schema, what is wrong with what was entered, and when that would be due. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr.errors import BadDefinition, BadDuration
from helmr.models import TaskInfo, Timing
from helmr.models.limits import SCHEDULE_NAME_MAX
from helmr.models.schedules import SCHEDULE_NAME
from helmr.schedules import FIELDS, next_due, timing

SHOWN = 3
"""Times that are shown."""
LINE_MAX = 80
"""Of times and zone: what is longer is no line of a form, and none was seen."""


def schema(task: TaskInfo) -> dict[str, Any]:
    """What the form asks: name, times, and the payload as the task takes it."""
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
    """What the client is told of it: `when` as `cron` or `every`."""
    found = dict(data)
    when = str(found.pop("when", "")).strip()
    return {**found, "cron" if len(when.split()) == FIELDS else "every": when}


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What became of what was entered: what is wrong, by field, else when it is due next, soonest first."""

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
