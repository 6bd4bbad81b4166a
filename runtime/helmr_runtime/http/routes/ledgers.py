"""/v1/prune and /v1/ledger: what is done to the whole ledger of a runtime that works."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from starlette.responses import Response

from helmr.models import (
    CopyPage,
    CopyQuery,
    PruneReceipt,
    PruneRequest,
)
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import CallerDep, Query, ServiceDep, json_response
from helmr_runtime.ports.copies import CopyPosition

router = APIRouter(tags=["ledger"])


@router.post(
    "/v1/prune",
    response_model=PruneReceipt,
    responses=documented(400, 413, 415, 429, 503),
)
async def prune_sessions(caller: CallerDep, service: ServiceDep, body: PruneRequest) -> Response:
    """Remove sessions that are over and old enough, a page of them; repeat it until `is_last`."""
    return json_response(await service.copies.prune(caller, body))


@router.get("/v1/ledger/entries", response_model=CopyPage, responses=documented(400, 409, 503))
async def read_ledger_entries(
    service: ServiceDep, where: Annotated[CopyQuery, Query()]
) -> Response:
    """Read what a follower of the ledger lacks: entries as they are stored, in feed order, and their checkpoints."""
    position = CopyPosition(where.after, where.hash, where.nil_offset, where.nil_hash)
    pieces = await service.copies.page(position, where.wait_s, where.follower)
    return Response(pieces, media_type="application/json", headers={"Cache-Control": "no-store"})
