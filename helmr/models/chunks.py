"""What code emits to those who follow an output stream: seen, and not stored (S-90)."""

from __future__ import annotations

from typing import Any

from helmr.models.people import Wire


class ChunkInfo(Wire):
    """One value that code emitted. `op` is the step that it came from, None outside of steps."""

    stream: str
    op: int | None = None
    data: Any
    lost: int = 0
    """So many chunks of the stream just before it did not reach this follower, which was too slow."""


class ChunksEnd(Wire):
    """No more chunks come from there. What lasts is the step's outcome, and the records of the stream."""

    stream: str
    op: int | None = None
    outcome: str
    """`succeeded`, `failed`, `abandoned`, or `retried` or `died`, after which the step runs again from its start;
    outside of steps `next_entry` or `died`."""
    lost: int = 0
    """As `ChunkInfo.lost`."""
