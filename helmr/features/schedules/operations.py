"""The operations of schedules."""

from __future__ import annotations

from helmr.errors import BadDefinition
from helmr.models import (
    SCHEDULE_NAME,
    SCHEDULE_NAME_MAX,
    ListQuery,
    NoFields,
    Page,
    ScheduleInfo,
    ScheduleReceipt,
    ScheduleRequest,
    StartReceipt,
)
from helmr.wire.operation import Operation, PathName, Repeat
from helmr.wire.roles import Need

SCHEDULE = PathName(
    "a schedule", SCHEDULE_NAME, SCHEDULE_NAME_MAX, "Letters, digits and `._-`", BadDefinition
)
NAMES = {"schedule": SCHEDULE}

# A table is read row by row.
# fmt: off

CREATE_SCHEDULE = Operation(
    "schedules.create", "POST /v1/schedules", Need.ADMINISTER,
    "Make a schedule, which starts sessions of a task by the clock. Its due times count from now.",
    description="`every` is seconds or `\"15m\"`.",
    body=ScheduleRequest, reply=ScheduleInfo, status=201, problems=(404, 409, 422), repeat=Repeat.ONCE)
LIST_SCHEDULES = Operation(
    "schedules.list", "GET /v1/schedules", Need.READ,
    "List schedules by name, those that code declares and those made by a call.",
    description="With `status` (`active`, `paused`, `gone`), `next_due_at`, `last_outcome`.",
    query=ListQuery, reply=Page[ScheduleInfo])
GET_SCHEDULE = Operation(
    "schedules.get", "GET /v1/schedules/{schedule}", Need.READ, "Get a schedule.",
    reply=ScheduleInfo, problems=(404,),
    names=NAMES)
PAUSE_SCHEDULE = Operation(
    "schedules.pause", "POST /v1/schedules/{schedule}/pause", Need.STEER,
    "Pause a schedule. Pausing again changes nothing.",
    body=NoFields, reply=ScheduleInfo, problems=(404, 409), repeat=Repeat.ONCE,
    names=NAMES)
RESUME_SCHEDULE = Operation(
    "schedules.resume", "POST /v1/schedules/{schedule}/resume", Need.STEER,
    "Resume a paused schedule; due times during the pause do not count as missed.",
    body=NoFields, reply=ScheduleInfo, problems=(404, 409), repeat=Repeat.ONCE,
    names=NAMES)
RUN_SCHEDULE = Operation(
    "schedules.run", "POST /v1/schedules/{schedule}/run", Need.STEER,
    "Start a session now, as the schedule does. Its due times stay as they are.",
    description="Answers 201 `{session, run, created}`; 409 `run_active` if its last session is still active, "
    "unless the schedule allows overlap.",
    body=NoFields, reply=StartReceipt, status=201, problems=(404, 409, 422), repeat=Repeat.ONCE,
    names=NAMES)
DELETE_SCHEDULE = Operation(
    "schedules.delete", "DELETE /v1/schedules/{schedule}", Need.ADMINISTER,
    "Delete a schedule that no code declares; the sessions that it started stay.",
    description="Answers `{name}`; 409 if code declares it.",
    reply=ScheduleReceipt, problems=(404, 409), repeat=Repeat.ONCE,
    names=NAMES)
