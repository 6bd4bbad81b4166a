"""Every operation of the gateway as a function that makes its call: the only place that knows routes and shapes.

Sync and async clients differ in how they carry a call out, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from helmr import ids, wait_details
from helmr.client.calls import (
    READ_TIMEOUT_S,
    Call,
    Download,
    Feed,
    get_call,
    json_body,
    list_call,
    operation_or_new,
    post_call,
    reads,
)
from helmr.durations import Duration, seconds
from helmr.errors import SessionNotFound, UsageError
from helmr.labels import metadata_object, tag_list
from helmr.models import (
    QUERY_TIMEOUT_S,
    ChunkInfo,
    ChunksEnd,
    EntryInfo,
    Health,
    NoteReceipt,
    Page,
    QueryAnswer,
    RecordInfo,
    RunInfo,
    RunJournal,
    SendReceipt,
    SessionInfo,
    SessionStatus,
    StartReceipt,
    StreamInfo,
    TaskInfo,
)
from helmr.query import ARROW_MEDIA_TYPE, QueryResult, has_arrow
from helmr.tasks import AnyTask, Task

T = TypeVar("T")

RESULT_TIMEOUT_MAX_S = 60.0
"""Longest that one start request stays open for the run's result."""


UNSET: Any = wait_details.UNSET
"""An argument that was not given, where None is a value."""


def start(
    task: str | AnyTask,
    payload: Any,
    *,
    external_id: str | None,
    tags: Iterable[str],
    metadata: Mapping[str, Any] | None,
    idempotency_key: str | None,
    result_timeout: Duration | None,
    operation_id: str | None,
) -> Call[StartReceipt]:
    """POST /v1/sessions."""
    if isinstance(task, Task):
        payload = task.encode_payload(payload)
    parts: dict[str, Any] = {"task": task_id(task), "payload": payload}
    if external_id is not None:
        parts["external_id"] = external_id
    if given_tags := tag_list(tags):
        parts["tags"] = list(given_tags)
    if given_metadata := metadata_object(metadata):
        parts["metadata"] = given_metadata
    if idempotency_key is not None:
        parts["idempotency_key"] = idempotency_key
    held_s = 0.0
    if result_timeout is not None:
        held_s = seconds(result_timeout, maximum_s=RESULT_TIMEOUT_MAX_S, allow_zero=True)
        parts["result_timeout_s"] = held_s
    return Call(
        method="POST",
        path="/v1/sessions",
        reply=reads(StartReceipt),
        body=json_body(parts),
        operation_id=operation_or_new(operation_id),
        read_timeout_s=READ_TIMEOUT_S + held_s,
    )


def get_session(session_id: str) -> Call[SessionInfo]:
    """GET /v1/sessions/{id}."""
    return get_call(_session(session_id), SessionInfo)


def list_sessions(
    *,
    external_id: str | None = None,
    task: str | AnyTask | None = None,
    status: str | None = None,
    activity: str | None = None,
    tag: str | None = None,
    forked_from: str | None = None,
    parent: str | None = None,
    run_status: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[SessionInfo]]:
    """GET /v1/sessions."""
    for named in (forked_from, parent):
        if named is not None:
            check_session_id(named)
    given = {
        "external_id": external_id,
        "task": task_id(task),
        "status": status,
        "activity": activity,
        "tag": tag,
        "forked_from": forked_from,
        "parent": parent,
        "run_status": run_status,
    }
    return list_call("/v1/sessions", SessionInfo, given, limit=limit, cursor=cursor)


def send(
    session_id: str,
    stream: str,
    data: Any,
    *,
    correlation_id: str | None,
    idempotency_key: str | None,
    public_access_token: str | None,
    operation_id: str | None,
) -> Call[SendReceipt]:
    """POST /v1/sessions/{id}/inputs/{stream}."""
    parts: dict[str, Any] = {"data": data}
    if correlation_id is not None:
        parts["correlation_id"] = correlation_id
    if idempotency_key is not None:
        parts["idempotency_key"] = idempotency_key
    path = f"{_session(session_id)}/inputs/{_segment(stream)}"
    return post_call(path, SendReceipt, parts, operation_id, bearer=public_access_token)


def list_inputs(
    session_id: str,
    stream: str,
    *,
    after: int | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[RecordInfo]]:
    """GET /v1/sessions/{id}/inputs/{stream}."""
    path = f"{_session(session_id)}/inputs/{_segment(stream)}"
    return list_call(path, RecordInfo, {"after": after}, limit=limit, cursor=cursor)


def read_output(
    session_id: str,
    stream: str,
    *,
    after: int | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    public_access_token: str | None = None,
) -> Call[Page[RecordInfo]]:
    """GET /v1/sessions/{id}/outputs/{stream}."""
    path = f"{_session(session_id)}/outputs/{_segment(stream)}"
    given = {"after": after}
    return list_call(
        path, RecordInfo, given, limit=limit, cursor=cursor, bearer=public_access_token
    )


def follow_output(
    session_id: str, stream: str, *, after: int | None, public_access_token: str | None = None
) -> Feed[RecordInfo]:
    """GET /v1/sessions/{id}/outputs/{stream} as an event stream; the ids are the records' seqs."""
    path = f"{_session(session_id)}/outputs/{_segment(stream)}"
    return Feed(path=path, item=reads(RecordInfo), after=after or 0, bearer=public_access_token)


def follow_chunks(
    session_id: str, stream: str, *, after: int | None, public_access_token: str | None = None
) -> Feed[RecordInfo | ChunkInfo | ChunksEnd]:
    """GET /v1/sessions/{id}/outputs/{stream}?chunks=true as an event stream."""
    return Feed(
        path=f"{_session(session_id)}/outputs/{_segment(stream)}",
        item=reads(RecordInfo),
        params=(("chunks", "true"),),
        after=after or 0,
        bearer=public_access_token,
        beside={"chunk": reads(ChunkInfo), "chunks.end": reads(ChunksEnd)},
    )


def read_transcript(
    session_id: str,
    *,
    after: int | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[EntryInfo]]:
    """GET /v1/sessions/{id}/transcript."""
    path = f"{_session(session_id)}/transcript"
    return list_call(path, EntryInfo, {"after": after}, limit=limit, cursor=cursor)


def export_session(session_id: str) -> Download:
    """GET /v1/sessions/{id}/export."""
    return Download(path=f"{_session(session_id)}/export", media_type="application/jsonl")


def follow_session(session_id: str, *, after: int | None) -> Feed[EntryInfo]:
    """GET /v1/sessions/{id}/events; the ids are feed offsets."""
    return Feed(path=f"{_session(session_id)}/events", item=reads(EntryInfo), after=after)


def follow_all(*, after: int | None) -> Feed[EntryInfo]:
    """GET /v1/events; the ids are feed offsets."""
    return Feed(path="/v1/events", item=reads(EntryInfo), after=after)


def close_session(
    session_id: str, *, end_input: bool, operation_id: str | None
) -> Call[SessionInfo]:
    """POST /v1/sessions/{id}/close."""
    parts = {"end_input": end_input}
    return post_call(f"{_session(session_id)}/close", SessionInfo, parts, operation_id)


def cancel_session(session_id: str, *, operation_id: str | None) -> Call[SessionInfo]:
    """POST /v1/sessions/{id}/cancel."""
    return post_call(f"{_session(session_id)}/cancel", SessionInfo, None, operation_id)


def add_note(session_id: str, text: str, *, operation_id: str | None) -> Call[NoteReceipt]:
    """POST /v1/sessions/{id}/notes."""
    return post_call(f"{_session(session_id)}/notes", NoteReceipt, {"text": text}, operation_id)


def start_run(session_id: str, payload: Any, *, operation_id: str | None) -> Call[RunInfo]:
    """POST /v1/sessions/{id}/runs; without a payload the newest run's is used again."""
    parts = {} if payload is UNSET else {"payload": payload}
    return post_call(f"{_session(session_id)}/runs", RunInfo, parts, operation_id)


def list_session_runs(
    session_id: str, *, limit: int | None = None, cursor: str | None = None
) -> Call[Page[RunInfo]]:
    """GET /v1/sessions/{id}/runs."""
    return list_call(f"{_session(session_id)}/runs", RunInfo, {}, limit=limit, cursor=cursor)


def list_runs(
    *,
    session_id: str | None = None,
    task: str | AnyTask | None = None,
    status: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[RunInfo]]:
    """GET /v1/runs."""
    if session_id is not None:
        ids.check_id(session_id, ids.SESSION)
    given = {"session_id": session_id, "task": task_id(task), "status": status}
    return list_call("/v1/runs", RunInfo, given, limit=limit, cursor=cursor)


def get_run(run_id: str) -> Call[RunInfo]:
    """GET /v1/runs/{id}."""
    return get_call(_run(run_id), RunInfo)


def run_journal(run_id: str) -> Call[RunJournal]:
    """GET /v1/runs/{id}/journal."""
    return get_call(f"{_run(run_id)}/journal", RunJournal)


def cancel_run(run_id: str, *, operation_id: str | None) -> Call[RunInfo]:
    """POST /v1/runs/{id}/cancel."""
    return post_call(f"{_run(run_id)}/cancel", RunInfo, None, operation_id)


def retry_run(run_id: str, *, operation_id: str | None) -> Call[RunInfo]:
    """POST /v1/runs/{id}/retry."""
    return post_call(f"{_run(run_id)}/retry", RunInfo, None, operation_id)


def list_tasks(*, limit: int | None = None, cursor: str | None = None) -> Call[Page[TaskInfo]]:
    """GET /v1/tasks."""
    return list_call("/v1/tasks", TaskInfo, {}, limit=limit, cursor=cursor)


def list_streams(*, limit: int | None = None, cursor: str | None = None) -> Call[Page[StreamInfo]]:
    """GET /v1/streams."""
    return list_call("/v1/streams", StreamInfo, {}, limit=limit, cursor=cursor)


def query(sql: str, *, limit: int | None) -> Call[QueryResult]:
    """POST /v1/query; as Arrow if pyarrow is there to read it."""
    parts: dict[str, Any] = {"sql": sql}
    if limit is not None:
        parts["limit"] = limit
    return Call(
        method="POST",
        path="/v1/query",
        reply=reads(QueryAnswer),
        body=json_body(parts),
        read_timeout_s=READ_TIMEOUT_S + QUERY_TIMEOUT_S,
        accept=ARROW_MEDIA_TYPE if has_arrow() else "application/json",
        read=QueryResult.read,
        is_read=True,
    )


def health() -> Call[Health]:
    """GET /readyz, which says what is wrong with status 503."""
    return Call(method="GET", path="/readyz", reply=reads(Health), also_ok=(503,))


# --- parts of operations --------------------------------------------------------------------------


def task_id(task: str | AnyTask | None) -> str | None:
    return task.id if isinstance(task, Task) else task


def check_session_id(value: str) -> str:
    """The id, if it is a session's; BadId if it is none."""
    return ids.check_id(value, ids.SESSION)


def pick_session(page: Page[SessionInfo], external_id: str) -> SessionInfo:
    """The session that an external id names: the open one, else the newest (S-2)."""
    if not page.items:
        raise SessionNotFound(f"no session has the external id {external_id!r}")
    is_open = (one for one in page.items if one.status is SessionStatus.OPEN)
    return next(is_open, max(page.items, key=lambda one: one.created_at))


def _session(value: str) -> str:
    return f"/v1/sessions/{check_session_id(value)}"


def _run(run_id: str) -> str:
    return f"/v1/runs/{ids.check_id(run_id, ids.RUN)}"


def _segment(name: str) -> str:
    if name in ("", ".", ".."):
        raise UsageError(f"{name!r} is not a stream name")
    return quote(name, safe="")
