"""Streams on the wire carry records, which are stored, and chunks, which are live only (S-90)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from helmr.models.common import PrincipalInfo, Wire


class RecordInfo(Wire):
    """One item on a stream. `consumed_by` is the wait that took an input record."""

    id: str
    stream: str
    seq: int
    data: Any
    correlation_id: str | None = None
    consumed_by: str | None = None
    principal: PrincipalInfo
    created_at: datetime


class ChunkInfo(Wire):
    """One value that code emitted. `op` is the step that it came from, None outside of steps."""

    stream: str
    op: int | None = None
    data: Any
    lost: int = 0
    """Number of chunks lost just before it, because this follower was too slow."""


class ChunksEnd(Wire):
    """The end of the chunks from a step or from outside of steps. The step's outcome and the stream's records last."""

    stream: str
    op: int | None = None
    outcome: str
    """`succeeded`, `failed`, `abandoned`, or `retried` or `died`, after which the step runs again from its start;
    outside of steps `next_entry` or `died`."""
    lost: int = 0
    """Same as `ChunkInfo.lost`."""
