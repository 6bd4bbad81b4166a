"""/v1/schedules: make, list, read, pause, resume, run, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from helmr.models import (
    NoFields,
    Page,
    ScheduleInfo,
    ScheduleReceipt,
    ScheduleRequest,
    StartReceipt,
)
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import CallerDep, ListQuery, ScheduleName, ServiceDep, json_response

router = APIRouter(tags=["schedules"])

NO_FIELDS = NoFields()


@router.post(
    "/v1/schedules",
    status_code=201,
    response_model=ScheduleInfo,
    responses=documented(400, 404, 409, 413, 415, 422, 429),
)
async def create_schedule(
    body: ScheduleRequest, caller: CallerDep, service: ServiceDep
) -> Response:
    """Make a schedule, which starts sessions of a task by the clock. Its due times count from now."""
    return json_response(await service.schedules.create(caller, body), 201)


@router.get("/v1/schedules", response_model=Page[ScheduleInfo], responses=documented(400))
async def list_schedules(query: Annotated[ListQuery, Query()], service: ServiceDep) -> Response:
    """List schedules by name, those of the code and those that were made."""
    return json_response(await service.schedules.list(**query.model_dump()))


@router.get("/v1/schedules/{schedule}", response_model=ScheduleInfo, responses=documented(400, 404))
async def get_schedule(schedule: ScheduleName, service: ServiceDep) -> Response:
    """Get a schedule."""
    return json_response(await service.schedules.get(schedule))


@router.post(
    "/v1/schedules/{schedule}/pause",
    response_model=ScheduleInfo,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def pause_schedule(
    schedule: ScheduleName, caller: CallerDep, service: ServiceDep, body: NoFields = NO_FIELDS
) -> Response:
    """Pause a schedule. Pausing again changes nothing."""
    return json_response(await service.schedules.set_paused(caller, schedule, True))


@router.post(
    "/v1/schedules/{schedule}/resume",
    response_model=ScheduleInfo,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def resume_schedule(
    schedule: ScheduleName, caller: CallerDep, service: ServiceDep, body: NoFields = NO_FIELDS
) -> Response:
    """Go on with a paused schedule; what was due meanwhile was not missed."""
    return json_response(await service.schedules.set_paused(caller, schedule, False))


@router.post(
    "/v1/schedules/{schedule}/run",
    status_code=201,
    response_model=StartReceipt,
    responses=documented(400, 404, 409, 413, 415, 422, 429),
)
async def run_schedule(
    schedule: ScheduleName, caller: CallerDep, service: ServiceDep, body: NoFields = NO_FIELDS
) -> Response:
    """Start a session as the schedule does, now. Its due times stay as they are."""
    return json_response(await service.schedules.run(caller, schedule), 201)


@router.delete(
    "/v1/schedules/{schedule}",
    response_model=ScheduleReceipt,
    responses=documented(400, 404, 409, 429),
)
async def delete_schedule(
    schedule: ScheduleName, caller: CallerDep, service: ServiceDep
) -> Response:
    """Delete a schedule that no code declares; the sessions that it started stay."""
    return json_response(await service.schedules.delete(caller, schedule))
