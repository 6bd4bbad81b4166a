"""/v1/backup: the whole ledger as a file."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import ServiceDep

router = APIRouter(tags=["backup"])

MEDIA_TYPE = "application/jsonl"


@router.get(
    "/v1/backup",
    response_class=Response,
    responses={
        200: {
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
            "description": "A backup: JSON lines, the last a check of the whole",
        },
        **documented(503),
    },
)
async def read_backup(service: ServiceDep) -> Response:
    """Copy the ledger at the feed offset that it has now, for `helmr restore`; the master keys are not in it."""
    pieces = await service.backups.stream()
    return StreamingResponse(
        pieces,
        media_type=MEDIA_TYPE,
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": 'attachment; filename="helmr.backup"',
        },
    )
