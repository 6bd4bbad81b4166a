"""Input and output streams of a session, and what can be followed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from helmr.models import Page, RecordInfo, SendReceipt, SendRequest
from helmr_runtime.core.public_tokens import check_read, check_send
from helmr_runtime.http import sse
from helmr_runtime.http.access import public_token_of
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import (
    AfterQuery,
    CallerDep,
    FollowQuery,
    LastEventId,
    OutputQuery,
    ServiceDep,
    SessionId,
    StreamName,
    json_response,
)
from helmr_runtime.service.following import Following

router = APIRouter(tags=["streams"])

EVENT_STREAM = {
    "description": "Server-sent events; the id is where to go on. A comment at least every 15 s.",
    "content": {sse.MEDIA_TYPE: {"schema": {"type": "string"}}},
}


@router.post(
    "/v1/sessions/{session_id}/inputs/{stream}",
    response_model=SendReceipt,
    responses=documented(400, 404, 409, 413, 415, 422, 429),
)
async def send_input(
    session_id: SessionId,
    stream: StreamName,
    body: SendRequest,
    caller: CallerDep,
    service: ServiceDep,
    request: Request,
) -> Response:
    """Send a record; the receipt says what it did."""
    token = public_token_of(request)
    if token is not None:
        correlation_id = check_send(token, session_id, stream, body.correlation_id)
        body = body.model_copy(update={"correlation_id": correlation_id})
    receipt = await service.sessions.send(
        caller,
        session_id,
        stream,
        body,
        public_token_id=token.id if token is not None else None,
    )
    return json_response(receipt)


@router.get(
    "/v1/sessions/{session_id}/inputs/{stream}",
    response_model=Page[RecordInfo],
    responses=documented(400, 404),
)
async def list_inputs(
    session_id: SessionId,
    stream: StreamName,
    query: Annotated[AfterQuery, Query()],
    service: ServiceDep,
) -> Response:
    """List an input stream's records by seq, consumed or not."""
    return json_response(await service.sessions.inputs(session_id, stream, **query.model_dump()))


@router.get(
    "/v1/sessions/{session_id}/outputs/{stream}",
    response_model=Page[RecordInfo],
    responses={
        200: {"content": EVENT_STREAM["content"], "description": "Records, or an event stream"},
        204: {"description": "Of an event stream: the session is over, and no record follows"},
        **documented(400, 404, 429),
    },
)
async def read_outputs(
    session_id: SessionId,
    stream: StreamName,
    query: Annotated[OutputQuery, Query()],
    service: ServiceDep,
    request: Request,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: LastEventId = None,
) -> Response:
    """Read an output stream's records by seq, or follow them with `Accept: text/event-stream`.

    Following begins after `after` or the Last-Event-ID, with the first record if there is neither. It ends when the
    session is over; who comes back is then told that nothing follows, and so comes no more. With `chunks=true` the
    events `chunk` and `chunks.end` come beside the records: what the code emits from now on, which is not stored.
    """
    token = public_token_of(request)
    if token is not None:
        check_read(token, session_id, stream)
    if sse.MEDIA_TYPE not in accept:
        page = await service.sessions.outputs(
            session_id, stream, **query.model_dump(exclude={"chunks"})
        )
        return json_response(page)
    after = sse.start_of(last_event_id, query.after) or 0
    following = await service.events.follow_output(session_id, stream, after, chunks=query.chunks)
    if following is None:
        return Response(status_code=204)
    return _stream(request, following)


@router.get(
    "/v1/sessions/{session_id}/events",
    response_class=Response,
    responses={200: EVENT_STREAM, **documented(400, 404, 429)},
)
async def follow_session(
    session_id: SessionId,
    query: Annotated[FollowQuery, Query()],
    service: ServiceDep,
    request: Request,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow a session's entries."""
    after = sse.start_of(last_event_id, query.after)
    return _stream(request, await service.events.follow_session(session_id, after))


@router.get(
    "/v1/events",
    response_class=Response,
    responses={200: EVENT_STREAM, **documented(400, 429)},
)
async def follow_all(
    query: Annotated[FollowQuery, Query()],
    service: ServiceDep,
    request: Request,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow the entries of all sessions."""
    after = sse.start_of(last_event_id, query.after)
    return _stream(request, await service.events.follow_all(after))


def _stream(request: Request, following: Following) -> Response:
    return sse.EventStream(following, keep_alive_s=request.app.settings.keep_alive_s)
