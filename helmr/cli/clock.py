"""The command line's clock: only for showing how long ago and how long until, never for a decision."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The time, aware, UTC."""
    return datetime.now(UTC)  # noqa: TID251  # helmr_runtime.clock is not installed where only the CLI is
