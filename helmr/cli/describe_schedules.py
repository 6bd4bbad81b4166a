"""How schedules look to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr.cli.describe import time_and_distance, time_text, value_text

if TYPE_CHECKING:
    from helmr.models import ScheduleInfo, ScheduleReceipt

COLUMNS = ("NAME", "STATUS", "WHEN", "NEXT DUE", "LAST DUE", "LAST", "TASK")

Fields = list[tuple[str, object]]


def row(one: ScheduleInfo) -> tuple[object, ...]:
    """Cells of `COLUMNS`."""
    return (
        one.name,
        one.status,
        one.when,
        time_text(one.next_due_at),
        time_text(one.last_due_at),
        one.last_outcome,
        one.task,
    )


def fields(one: ScheduleInfo) -> Fields:
    """A schedule in full."""
    return [
        ("schedule", one.name),
        ("status", one.status),
        ("task", one.task),
        ("when", one.when),
        ("next due", time_and_distance(one.next_due_at)),
        ("last due", time_and_distance(one.last_due_at)),
        ("last outcome", one.last_outcome),
        ("last session", one.last_session_id),
        ("missed times", one.missed),
        ("overlap", one.overlap),
        ("payload", value_text(one.payload)),
        ("declared in", one.declared_in),
        ("created", time_and_distance(one.created_at)),
    ]


def deleted_fields(one: ScheduleReceipt) -> Fields:
    """A schedule that is no more."""
    return [("deleted", one.name)]
