"""/v1/sessions: start, list, read, close, cancel, note, and their runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from helmr.models import (
    CloseRequest,
    EntryInfo,
    NoFields,
    NoteReceipt,
    NoteRequest,
    Page,
    RunInfo,
    RunRequest,
    RunsQuery,
    SessionInfo,
    SessionsQuery,
    StartReceipt,
    StartRequest,
)
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import (
    AfterQuery,
    CallerDep,
    ListQuery,
    ServiceDep,
    SessionId,
    json_response,
)

router = APIRouter(tags=["sessions"])

LIST_LEAVES_OUT = {"items": {"__all__": {"wait": {"body", "json_schema"}}}}
"""What a list of sessions leaves out of their waits."""

NO_FIELDS = NoFields()
RUN_AS_BEFORE = RunRequest()
CLOSE_IDLE = CloseRequest()


@router.post(
    "/v1/sessions",
    status_code=201,
    response_model=StartReceipt,
    responses={
        200: {"model": StartReceipt, "description": "It existed already"},
        **documented(400, 404, 409, 413, 415, 422, 429),
    },
)
async def start_session(body: StartRequest, caller: CallerDep, service: ServiceDep) -> Response:
    """Start a session and its first run.

    The id of an open session, or an idempotency key, with the same task and payload returns that
    session. With `result_timeout_s` the answer comes when the run waits, is blocked or has ended.
    """
    receipt = await service.sessions.start(caller, body)
    return json_response(receipt, 201 if receipt.created else 200)


@router.get("/v1/sessions", response_model=Page[SessionInfo], responses=documented(400))
async def list_sessions(query: Annotated[SessionsQuery, Query()], service: ServiceDep) -> Response:
    """List sessions, newest first."""
    page = await service.sessions.list(query)
    return json_response(page, exclude=LIST_LEAVES_OUT)


@router.get("/v1/sessions/{session_id}", response_model=SessionInfo, responses=documented(400, 404))
async def get_session(session_id: SessionId, service: ServiceDep) -> Response:
    """Get a session, with its active wait in full."""
    return json_response(await service.sessions.get(session_id))


@router.get(
    "/v1/sessions/{session_id}/transcript",
    response_model=Page[EntryInfo],
    responses=documented(400, 404),
)
async def read_transcript(
    session_id: SessionId, query: Annotated[AfterQuery, Query()], service: ServiceDep
) -> Response:
    """Read a session's entries by seq."""
    return json_response(await service.sessions.transcript(session_id, **query.model_dump()))


@router.get(
    "/v1/sessions/{session_id}/runs",
    response_model=Page[RunInfo],
    responses=documented(400, 404),
)
async def list_session_runs(
    session_id: SessionId, query: Annotated[ListQuery, Query()], service: ServiceDep
) -> Response:
    """List a session's runs, newest first."""
    await service.sessions.get(session_id)
    return json_response(await service.runs.list(RunsQuery(session_id=session_id, **dict(query))))


@router.post(
    "/v1/sessions/{session_id}/runs",
    status_code=201,
    response_model=RunInfo,
    responses=documented(400, 404, 409, 413, 415, 422, 429),
)
async def start_run(
    session_id: SessionId,
    caller: CallerDep,
    service: ServiceDep,
    body: RunRequest = RUN_AS_BEFORE,
) -> Response:
    """Start the next run of an open, idle session; without a payload with the newest run's."""
    return json_response(await service.sessions.start_run(caller, session_id, body), 201)


@router.post(
    "/v1/sessions/{session_id}/close",
    response_model=SessionInfo,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def close_session(
    session_id: SessionId,
    caller: CallerDep,
    service: ServiceDep,
    body: CloseRequest = CLOSE_IDLE,
) -> Response:
    """Close a session; with `end_input` also while its run waits for input."""
    return json_response(await service.sessions.close(caller, session_id, body))


@router.post(
    "/v1/sessions/{session_id}/cancel",
    response_model=SessionInfo,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def cancel_session(
    session_id: SessionId,
    caller: CallerDep,
    service: ServiceDep,
    body: NoFields = NO_FIELDS,
) -> Response:
    """Cancel a session, its run and what is open in it. Cancelling again succeeds."""
    return json_response(await service.sessions.cancel(caller, session_id))


@router.post(
    "/v1/sessions/{session_id}/notes",
    status_code=201,
    response_model=NoteReceipt,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def add_note(
    session_id: SessionId, body: NoteRequest, caller: CallerDep, service: ServiceDep
) -> Response:
    """Write a person's note into the transcript."""
    return json_response(await service.sessions.note(caller, session_id, body), 201)
