"""Rewinds, amendments and forks: what they would do, and doing it."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from helmr.models import (
    AmendPreviewRequest,
    AmendRequest,
    ForkRequest,
    RewindPreview,
    RewindPreviewRequest,
    RewindRequest,
    RunInfo,
    StartReceipt,
)
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import (
    CallerDep,
    RunId,
    ServiceDep,
    SessionId,
    WaitId,
    json_response,
)

router = APIRouter(tags=["corrections"])

DEFAULTS = AmendPreviewRequest()


@router.post(
    "/v1/runs/{run_id}/rewind/preview",
    response_model=RewindPreview,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def preview_rewind(
    run_id: RunId, body: RewindPreviewRequest, service: ServiceDep
) -> Response:
    """Say what taking a session's newest run back to an op would do. Changes nothing."""
    return json_response(await service.corrections.preview_rewind(run_id, body))


@router.post(
    "/v1/runs/{run_id}/rewind",
    response_model=RunInfo,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def rewind_run(
    run_id: RunId, body: RewindRequest, caller: CallerDep, service: ServiceDep
) -> Response:
    """Take a session's newest run back to an op, as its preview said."""
    return json_response(await service.corrections.rewind(caller, run_id, body))


@router.post(
    "/v1/waits/{wait_id}/amend/preview",
    response_model=RewindPreview,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def preview_amend(
    wait_id: WaitId, service: ServiceDep, body: AmendPreviewRequest = DEFAULTS
) -> Response:
    """Say what giving a resolved wait another answer would do. Changes nothing."""
    return json_response(await service.corrections.preview_amend(wait_id, body))


@router.post(
    "/v1/waits/{wait_id}/amend",
    response_model=RunInfo,
    responses=documented(400, 404, 409, 413, 415, 422, 429),
)
async def amend_wait(
    wait_id: WaitId, body: AmendRequest, caller: CallerDep, service: ServiceDep
) -> Response:
    """Give a resolved wait another answer: its run goes back to it and on with that."""
    return json_response(await service.corrections.amend(caller, wait_id, body))


@router.post(
    "/v1/sessions/{session_id}/fork",
    status_code=201,
    response_model=StartReceipt,
    responses=documented(400, 404, 409, 413, 415, 422, 429),
)
async def fork_session(
    session_id: SessionId, body: ForkRequest, caller: CallerDep, service: ServiceDep
) -> Response:
    """Start a session that begins with another's past up to an op."""
    receipt = await service.corrections.fork(caller, session_id, body)
    return json_response(receipt, 201)
