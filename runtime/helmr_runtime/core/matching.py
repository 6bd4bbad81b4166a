"""Which record a wait takes (S-23): exact, case-sensitive, lowest sequence first."""

from __future__ import annotations

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


def first_match(state: SessionState, stream: str, correlation_id: str | None) -> InputRecord | None:
    """The unconsumed record that a wait on this stream takes now."""
    for record in state.unconsumed.get(stream, ()):
        if correlation_id is None or record.correlation_id == correlation_id:
            return record
    return None


def normal_correlation_id(value: str | None) -> str | None:
    """Trimmed; an empty one is none."""
    trimmed = value.strip() if value is not None else ""
    if len(trimmed) > CORRELATION_ID_MAX:
        raise BadRequest(f"a correlation id has at most {CORRELATION_ID_MAX} characters")
    return trimmed or None
