"""The calls that put a session right: rewinds, amendments and forks (S-75…S-79, S-86)."""

from __future__ import annotations

from typing import Any

from helmr import ids
from helmr.client.calls import Call, json_body, post_call, reads
from helmr.client.operations import UNSET, check_session_id
from helmr.models import RewindPreview, RunInfo, StartReceipt


def preview_rewind(
    run_id: str,
    *,
    to_op: int | None,
    wait_id: str | None,
    keep_answers: bool,
    keep_children: bool,
) -> Call[RewindPreview]:
    """POST /v1/runs/{id}/rewind/preview."""
    kept = {"keep_answers": keep_answers, "keep_children": keep_children}
    parts = {**_place(to_op, wait_id), **kept}
    return _preview(f"{_run(run_id)}/rewind/preview", parts)


def rewind(
    run_id: str, preview: RewindPreview, *, reason: str, operation_id: str | None
) -> Call[RunInfo]:
    """POST /v1/runs/{id}/rewind."""
    parts = {"to_op": preview.to_op, "reason": reason, **_seen(preview)}
    return post_call(f"{_run(run_id)}/rewind", RunInfo, parts, operation_id)


def preview_amend(wait_id: str, *, keep_answers: bool, keep_children: bool) -> Call[RewindPreview]:
    """POST /v1/waits/{id}/amend/preview."""
    parts = {"keep_answers": keep_answers, "keep_children": keep_children}
    return _preview(f"{_wait(wait_id)}/amend/preview", parts)


def amend(
    wait_id: str, data: Any, preview: RewindPreview, *, reason: str, operation_id: str | None
) -> Call[RunInfo]:
    """POST /v1/waits/{id}/amend."""
    parts = {"data": data, "reason": reason, **_seen(preview)}
    return post_call(f"{_wait(wait_id)}/amend", RunInfo, parts, operation_id)


def fork(
    session_id: str,
    *,
    to_op: int | None,
    wait_id: str | None,
    reason: str,
    answer: Any,
    operation_id: str | None,
) -> Call[StartReceipt]:
    """POST /v1/sessions/{id}/fork."""
    parts = {**_place(to_op, wait_id), "reason": reason}
    if answer is not UNSET:
        parts["answer"] = answer
    path = f"/v1/sessions/{check_session_id(session_id)}/fork"
    return post_call(path, StartReceipt, parts, operation_id)


def _preview(path: str, parts: dict[str, Any]) -> Call[RewindPreview]:
    return Call(
        method="POST", path=path, reply=reads(RewindPreview), body=json_body(parts), is_read=True
    )


def _seen(preview: RewindPreview) -> dict[str, Any]:
    return {
        "preview_hash": preview.hash,
        "keep_answers": preview.keep_answers,
        "keep_children": preview.keep_children,
    }


def _place(to_op: int | None, wait_id: str | None) -> dict[str, Any]:
    named = {"to_op": to_op, "wait_id": wait_id}
    return {name: value for name, value in named.items() if value is not None}


def _run(run_id: str) -> str:
    return f"/v1/runs/{ids.check_id(run_id, ids.RUN)}"


def _wait(wait_id: str) -> str:
    return f"/v1/waits/{ids.check_id(wait_id, ids.WAIT)}"
