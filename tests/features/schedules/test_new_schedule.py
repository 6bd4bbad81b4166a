"""The form of a schedule: what it asks, what is wrong with what was entered, when it is due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from helmr.models import TaskInfo
from helmr.person.forms import Kind, form_of
from helmr_console.features.schedules.views import look, parts, schema

pytestmark = pytest.mark.allows_blocking
NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
PAYLOAD = {
    "type": "object",
    "properties": {"to": {"$ref": "#/$defs/Address"}},
    "required": ["to"],
    "$defs": {"Address": {"type": "object", "properties": {"street": {"type": "string"}}}},
}


def task(payload: Any) -> TaskInfo:
    return TaskInfo(id="sweep", module="tasks", payload_schema=payload)


def test_the_payload_is_asked_as_its_task_takes_it_also_by_definitions() -> None:
    form = form_of(schema(task(PAYLOAD)))
    keys = {one.key: one.kind for one in form.leaves()}
    assert keys["payload.to.street"] is Kind.TEXT
    assert list(keys)[:2] == ["name", "when"]
    assert "payload" not in schema(task({"type": "null"}))["required"]
    assert "payload" not in schema(task(True))["required"]


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"when": "0 3 * *"}, "when", "neither a duration"),
        ({"when": "soon"}, "when", "neither a duration"),
        ({"when": "0.5s"}, "when", "less than a second"),
        ({"when": "0 0 30 2 *"}, "when", "not a cron expression"),
        ({"when": "0 3 * * *", "zone": "Mars"}, "zone", "time zone"),
        ({"when": "1h", "zone": "Europe/Berlin"}, "zone", "time zone"),
        ({"when": "1h", "missed": "all", "overlap": "skip"}, "overlap", "beside each other"),
    ],
)
def test_what_is_no_schedule_is_said_at_its_field(given: Any, field: str, said: str) -> None:
    looked = look(given, NOW)
    assert list(looked.problems) == [field]
    assert said in looked.problems[field]
    assert not looked.times


def test_the_next_times_are_those_of_the_zone() -> None:
    looked = look({"when": "0 3 * * mon-fri", "zone": "Europe/Berlin"}, NOW)
    assert [at.isoformat() for at in looked.times] == [
        f"2026-11-{day}T02:00:00+00:00" for day in (25, 26, 27)
    ]
    assert look(None, NOW).times == ()


def test_a_duration_and_the_fields_of_cron_are_told_apart() -> None:
    assert parts({"name": "a", "when": " 15m "}) == {"name": "a", "every": "15m"}
    assert parts({"when": "*/5 * * * *"}) == {"cron": "*/5 * * * *"}
