"""Schedules as calls; beside `operations`, whose rules hold here too."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from helmr.client.calls import Call, get_call, list_call, post_call
from helmr.client.operations import task_id
from helmr.durations import Duration, seconds
from helmr.errors import BadDefinition
from helmr.models import (
    SCHEDULE_NAME,
    SCHEDULE_NAME_MAX,
    Missed,
    Overlap,
    Page,
    ScheduleInfo,
    ScheduleReceipt,
    StartReceipt,
)
from helmr.tasks import AnyTask, Task


def create_schedule(
    name: str,
    task: str | AnyTask,
    payload: Any,
    *,
    cron: str | None,
    every: Duration | None,
    zone: str,
    missed: Missed,
    overlap: Overlap,
    operation_id: str | None,
) -> Call[ScheduleInfo]:
    """POST /v1/schedules."""
    if isinstance(task, Task):
        payload = task.encode_payload(payload)
    parts: dict[str, Any] = {
        "name": _name(name),
        "task": task_id(task),
        "payload": payload,
        "cron": cron,
        "every": seconds(every) if every is not None else None,
        "zone": zone,
        "missed": missed,
        "overlap": overlap,
    }
    call: Call[ScheduleInfo] = post_call("/v1/schedules", ScheduleInfo, parts, operation_id)
    return call


def get_schedule(name: str) -> Call[ScheduleInfo]:
    """GET /v1/schedules/{name}."""
    return get_call(_schedule(name), ScheduleInfo)


def list_schedules(
    *, limit: int | None = None, cursor: str | None = None
) -> Call[Page[ScheduleInfo]]:
    """GET /v1/schedules."""
    return list_call("/v1/schedules", ScheduleInfo, {}, limit=limit, cursor=cursor)


def pause_schedule(name: str, *, operation_id: str | None) -> Call[ScheduleInfo]:
    """POST /v1/schedules/{name}/pause."""
    path = f"{_schedule(name)}/pause"
    call: Call[ScheduleInfo] = post_call(path, ScheduleInfo, None, operation_id)
    return call


def resume_schedule(name: str, *, operation_id: str | None) -> Call[ScheduleInfo]:
    """POST /v1/schedules/{name}/resume."""
    path = f"{_schedule(name)}/resume"
    call: Call[ScheduleInfo] = post_call(path, ScheduleInfo, None, operation_id)
    return call


def run_schedule(name: str, *, operation_id: str | None) -> Call[StartReceipt]:
    """POST /v1/schedules/{name}/run."""
    path = f"{_schedule(name)}/run"
    call: Call[StartReceipt] = post_call(path, StartReceipt, None, operation_id)
    return call


def delete_schedule(name: str, *, operation_id: str | None) -> Call[ScheduleReceipt]:
    """DELETE /v1/schedules/{name}."""
    call: Call[ScheduleReceipt] = post_call(
        _schedule(name), ScheduleReceipt, None, operation_id, method="DELETE"
    )
    return call


def _schedule(name: str) -> str:
    return f"/v1/schedules/{quote(_name(name), safe='')}"


def _name(name: str) -> str:
    if len(name) > SCHEDULE_NAME_MAX or not re.fullmatch(SCHEDULE_NAME, name):
        raise BadDefinition(
            f"{name[:80]!r} is no name of a schedule",
            hint=f"Letters, digits and `._-`, at most {SCHEDULE_NAME_MAX}.",
        )
    return name
