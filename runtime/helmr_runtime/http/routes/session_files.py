"""/v1/sessions/{id}/export and /v1/file-keys: a session as a file, and what its signature is checked by."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from helmr.models import FileKeyInfo, Page
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import ServiceDep, SessionId, json_response

router = APIRouter(tags=["session files"])

MEDIA_TYPE = "application/jsonl"


@router.get(
    "/v1/sessions/{session_id}/export",
    response_class=Response,
    responses={
        200: {
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
            "description": "A session file: JSON lines, the last a signature",
        },
        **documented(400, 404),
    },
)
async def export_session(session_id: SessionId, service: ServiceDep) -> Response:
    """Export a session with all payloads as a signed file."""
    pieces = await service.session_files.export(session_id)
    return StreamingResponse(
        pieces,
        media_type=MEDIA_TYPE,
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{session_id}.jsonl"',
        },
    )


@router.get("/v1/file-keys", response_model=Page[FileKeyInfo])
async def list_file_keys(service: ServiceDep) -> Response:
    """List the public keys by which session files of this runtime are verified, the newest first."""
    return json_response(await service.session_files.keys())
