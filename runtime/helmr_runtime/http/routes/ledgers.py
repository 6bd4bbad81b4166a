"""/v1/prune and /v1/ledger: what is done to the whole ledger of a runtime that works."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from helmr.models import (
    NOTICE_TARGET_NAME,
    NOTICE_TARGET_NAME_MAX,
    CopyPage,
    PruneReceipt,
    PruneRequest,
)
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import SEQ_MAX, CallerDep, Query, ServiceDep, json_response
from helmr_runtime.ports.copies import CopyPosition

router = APIRouter(tags=["ledger"])

HASH = r"^[0-9a-f]{64}$"
WAIT_MAX_S = 20.0
"""Longest that one call is held open."""


class CopyQuery(BaseModel):
    """Where a follower is."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0, le=SEQ_MAX, description="Feed offset of its last entry.")
    hash: str | None = Field(default=None, pattern=HASH, description="That entry's hash.")
    nil_offset: int = Field(
        default=0, ge=0, le=SEQ_MAX, description="Of its last entry of the nil session."
    )
    nil_hash: str | None = Field(default=None, pattern=HASH)
    wait_s: float = Field(default=0.0, ge=0, le=WAIT_MAX_S)
    follower: str | None = Field(
        default=None,
        max_length=NOTICE_TARGET_NAME_MAX,
        pattern=NOTICE_TARGET_NAME,
        description="By which `/readyz` and `/metrics` say how far it is.",
    )


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
