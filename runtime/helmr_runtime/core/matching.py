"""Which record a wait takes (S-23): exact, case-sensitive, lowest sequence first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helmr.errors import BadRequest
from helmr.models import CORRELATION_ID_MAX
from helmr_runtime.core.run import Wait
from helmr_runtime.core.state import InputRecord, SessionState


def takes(wait: Wait, stream: str, correlation_id: str | None) -> bool:
    """True if this input wait takes a record of that stream and correlation id.

    A wait without a correlation id takes any record.
    """
    return (
        wait.kind == "input"
        and wait.stream == stream
        and wait.correlation_id in (None, correlation_id)
    )


def first_match(
    state: SessionState,
    stream: str,
    correlation_id: str | None,
    fits: Callable[[Any], bool] = lambda data: True,
) -> InputRecord | None:
    """The unconsumed record that a wait on this stream takes now.

    Args:
        state: The session.
        stream: The wait's.
        correlation_id: The wait's.
        fits: Whether data fits the wait's own schema (S-71).
    """
    for record in state.unconsumed.get(stream, ()):
        is_for_it = correlation_id is None or record.correlation_id == correlation_id
        if is_for_it and fits(record.data):
            return record
    return None


def normal_correlation_id(value: str | None) -> str | None:
    """Trimmed; an empty one is none."""
    trimmed = value.strip() if value is not None else ""
    if len(trimmed) > CORRELATION_ID_MAX:
        raise BadRequest(f"a correlation id has at most {CORRELATION_ID_MAX} characters")
    return trimmed or None
