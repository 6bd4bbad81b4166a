"""The calls that list waits, answer one, and make links to it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from helmr import ids
from helmr.client.calls import (
    READ_TIMEOUT_S,
    Call,
    get_call,
    json_body,
    list_call,
    post_call,
    reads,
)
from helmr.client.operations import task_id
from helmr.durations import Duration, seconds
from helmr.models import (
    AnswerLinkInfo,
    AnswerLinkReceipt,
    Page,
    Rehearsal,
    SendReceipt,
    TokenAnswerReceipt,
    WaitInfo,
)
from helmr.tasks import AnyTask

REHEARSAL_S = 20.0
"""A rehearsal is answered after at most so long."""


def list_waits(
    *,
    status: str | None = None,
    kind: str | Iterable[str] | None = None,
    task: str | AnyTask | None = None,
    stream: str | None = None,
    session_id: str | None = None,
    priority: str | None = None,
    tag: str | None = None,
    assignee: str | None = None,
    batch_id: str | None = None,
    resolved_since: datetime | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[WaitInfo]]:
    """GET /v1/waits."""
    if session_id is not None:
        ids.check_id(session_id, ids.SESSION)
    given = {
        "status": status,
        "kind": kind if kind is None or isinstance(kind, str) else list(kind),
        "task": task_id(task),
        "stream": stream,
        "session_id": session_id,
        "priority": priority,
        "tag": tag,
        "assignee": assignee,
        "batch_id": batch_id,
        "resolved_since": resolved_since.isoformat() if resolved_since is not None else None,
    }
    return list_call("/v1/waits", WaitInfo, given, limit=limit, cursor=cursor)


def get_wait(wait_id: str) -> Call[WaitInfo]:
    """GET /v1/waits/{id}."""
    return get_call(_wait(wait_id), WaitInfo)


def answer_wait(
    wait_id: str,
    data: Any,
    *,
    override_claim: bool,
    batch_id: str | None,
    operation_id: str | None,
) -> Call[SendReceipt | TokenAnswerReceipt]:
    """POST /v1/waits/{id}/answer."""
    shape = SendReceipt | TokenAnswerReceipt
    parts = {"data": data, **({"override_claim": True} if override_claim else {})}
    if batch_id is not None:
        parts["batch_id"] = batch_id
    return post_call(f"{_wait(wait_id)}/answer", shape, parts, operation_id)


def create_link(
    wait_id: str, *, person: str, expires_in: Duration | None, operation_id: str | None
) -> Call[AnswerLinkReceipt]:
    """POST /v1/waits/{id}/links."""
    parts: dict[str, Any] = {"person": person}
    if expires_in is not None:
        parts["expires_in"] = seconds(expires_in)
    return post_call(f"{_wait(wait_id)}/links", AnswerLinkReceipt, parts, operation_id)


def list_links(wait_id: str) -> Call[Page[AnswerLinkInfo]]:
    """GET /v1/waits/{id}/links."""
    return get_call(f"{_wait(wait_id)}/links", Page[AnswerLinkInfo])


def revoke_link(wait_id: str, link_id: str, *, operation_id: str | None) -> Call[AnswerLinkInfo]:
    """DELETE /v1/waits/{id}/links/{id}."""
    path = f"{_wait(wait_id)}/links/{ids.check_id(link_id, ids.PUBLIC_TOKEN)}"
    return post_call(path, AnswerLinkInfo, None, operation_id, method="DELETE")


def rehearse_answer(wait_id: str, data: Any) -> Call[Rehearsal]:
    """POST /v1/waits/{id}/rehearse."""
    return Call(
        method="POST",
        path=f"{_wait(wait_id)}/rehearse",
        reply=reads(Rehearsal),
        body=json_body({"data": data}),
        read_timeout_s=READ_TIMEOUT_S + REHEARSAL_S,
        is_read=True,
    )


def _wait(wait_id: str) -> str:
    return f"/v1/waits/{ids.check_id(wait_id, ids.WAIT)}"
