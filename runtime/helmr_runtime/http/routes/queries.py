"""/v1/query: SQL over the public views."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from starlette.responses import Response

from helmr.models import QueryAnswer, QueryRequest
from helmr.query import ARROW_MEDIA_TYPE
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import ServiceDep, json_response

router = APIRouter(tags=["query"])

_BOTH: dict[int | str, dict[str, Any]] = {
    200: {"content": {ARROW_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post(
    "/v1/query",
    response_model=QueryAnswer,
    responses=_BOTH | documented(400, 413, 415, 422, 429),
)
async def run_query(
    body: QueryRequest,
    service: ServiceDep,
    accept: Annotated[
        str | None, Header(description="With the Arrow type, the answer is an IPC stream.")
    ] = None,
) -> Response:
    """Run one SELECT over the views `sessions, runs, waits, records, entries, tokens`."""
    if accept is not None and ARROW_MEDIA_TYPE in accept.lower():
        stream = await service.queries.arrow(body.sql, limit=body.limit)
        return Response(stream, media_type=ARROW_MEDIA_TYPE)
    return json_response(await service.queries.rows(body.sql, limit=body.limit))
