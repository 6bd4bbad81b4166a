"""The calls that say who sees to a wait: claims and assignments (S-72, S-81)."""

from __future__ import annotations

from typing import Any

from helmr import ids
from helmr.client.calls import Call, post_call
from helmr.durations import Duration, seconds
from helmr.models import AssignReceipt, ClaimReceipt


def claim(wait_id: str, *, expires_in: Duration | None, override_claim: bool) -> Call[ClaimReceipt]:
    """POST /v1/waits/{id}/claim."""
    parts: dict[str, Any] = {"override_claim": True} if override_claim else {}
    if expires_in is not None:
        parts["expires_in"] = seconds(expires_in)
    return post_call(f"{_wait(wait_id)}/claim", ClaimReceipt, parts, None)


def release(wait_id: str) -> Call[ClaimReceipt]:
    """POST /v1/waits/{id}/release."""
    return post_call(f"{_wait(wait_id)}/release", ClaimReceipt, None, None)


def assign(wait_id: str, assignee: str | None, *, operation_id: str | None) -> Call[AssignReceipt]:
    """POST /v1/waits/{id}/assign."""
    parts = {"assignee": assignee}
    return post_call(f"{_wait(wait_id)}/assign", AssignReceipt, parts, operation_id)


def _wait(wait_id: str) -> str:
    return f"/v1/waits/{ids.check_id(wait_id, ids.WAIT)}"
