"""/v1/waits/{id}/claim, /release, /assign: who sees to a wait."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from helmr.models import AssignReceipt, AssignRequest, ClaimReceipt, ClaimRequest
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import CallerDep, ServiceDep, WaitId, json_response

router = APIRouter(tags=["waits"])

DEFAULTS = ClaimRequest()


@router.post(
    "/v1/waits/{wait_id}/claim",
    response_model=ClaimReceipt,
    responses=documented(400, 404, 409, 410, 413, 415, 429),
)
async def claim_wait(
    wait_id: WaitId, caller: CallerDep, service: ServiceDep, body: ClaimRequest = DEFAULTS
) -> Response:
    """Say that the caller is at this wait, or renew that: others don't answer it meanwhile. Stores nothing."""
    return json_response(await service.desk.claim(caller, wait_id, body))


@router.post(
    "/v1/waits/{wait_id}/release",
    response_model=ClaimReceipt,
    responses=documented(400, 404, 409, 410, 413, 415, 429),
)
async def release_wait(wait_id: WaitId, caller: CallerDep, service: ServiceDep) -> Response:
    """End the caller's claim of this wait."""
    return json_response(await service.desk.release(caller, wait_id))


@router.post(
    "/v1/waits/{wait_id}/assign",
    response_model=AssignReceipt,
    responses=documented(400, 404, 409, 410, 413, 415, 429),
)
async def assign_wait(
    wait_id: WaitId, body: AssignRequest, caller: CallerDep, service: ServiceDep
) -> Response:
    """Say whom this wait concerns from now on."""
    return json_response(await service.desk.assign(caller, wait_id, body))
