"""/v1/runs: list, read, cancel, retry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from helmr.models import NoFields, Page, RunInfo, RunJournal, RunsQuery
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import CallerDep, RunId, ServiceDep, json_response

router = APIRouter(tags=["runs"])

NO_FIELDS = NoFields()


@router.get("/v1/runs", response_model=Page[RunInfo], responses=documented(400))
async def list_runs(query: Annotated[RunsQuery, Query()], service: ServiceDep) -> Response:
    """List runs, newest first."""
    return json_response(await service.runs.list(query))


@router.get("/v1/runs/{run_id}", response_model=RunInfo, responses=documented(400, 404))
async def get_run(run_id: RunId, service: ServiceDep) -> Response:
    """Get a run."""
    return json_response(await service.runs.get(run_id))


@router.get(
    "/v1/runs/{run_id}/journal", response_model=RunJournal, responses=documented(400, 404, 409)
)
async def get_journal(run_id: RunId, service: ServiceDep) -> Response:
    """Get all that a replay of a session's newest run follows, payloads in the clear."""
    return json_response(await service.runs.journal(run_id))


@router.post(
    "/v1/runs/{run_id}/cancel",
    response_model=RunInfo,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def cancel_run(
    run_id: RunId, caller: CallerDep, service: ServiceDep, body: NoFields = NO_FIELDS
) -> Response:
    """Cancel a run. Cancelling one that has ended changes nothing."""
    return json_response(await service.runs.cancel(caller, run_id))


@router.post(
    "/v1/runs/{run_id}/retry",
    response_model=RunInfo,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def retry_run(
    run_id: RunId, caller: CallerDep, service: ServiceDep, body: NoFields = NO_FIELDS
) -> Response:
    """Start the next attempt of a session's newest run, failed or blocked."""
    return json_response(await service.runs.retry(caller, run_id))
