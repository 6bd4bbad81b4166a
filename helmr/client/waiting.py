"""When a run that somebody waits for has come far enough."""

from __future__ import annotations

import time
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Literal

from helmr.client import operations
from helmr.client.operations import RESULT_TIMEOUT_MAX_S
from helmr.durations import Duration, seconds
from helmr.errors import UsageError
from helmr.models import EntryInfo, RunInfo, RunStatus

if TYPE_CHECKING:
    from helmr.client.http import AsyncHttpTransport, HttpTransport

Until = Literal["ended", "stopped"]
"""`ended`: succeeded, failed or cancelled. `stopped`: also waiting or blocked, when somebody must act."""

_STOPPED = frozenset((RunStatus.WAITING, RunStatus.BLOCKED))


def is_far_enough(run: RunInfo, until: Until) -> bool:
    """True if nothing more is to be waited for.

    Raises:
        UsageError: There is no such `until`.
    """
    if until not in ("ended", "stopped"):
        raise UsageError(f"until is 'ended' or 'stopped', not {until!r}")
    return run.status.is_final or (until == "stopped" and run.status in _STOPPED)


def may_change(entry: EntryInfo, run_id: str) -> bool:
    """True if the entry may have changed the run's status."""
    return entry.run_id == run_id and entry.kind.startswith(("run.", "wait."))


def deadline_s(timeout: Duration | None) -> float | None:
    """When the timeout ends, on the monotonic clock."""
    return None if timeout is None else time.monotonic() + seconds(timeout, allow_zero=True)


def first_hold_s(ends_at_s: float | None) -> float:
    """How long the start request itself may stay open for the result."""
    if ends_at_s is None:
        return RESULT_TIMEOUT_MAX_S
    return min(RESULT_TIMEOUT_MAX_S, max(0.0, ends_at_s - time.monotonic()))


def wait(
    transport: HttpTransport, run: RunInfo, *, ends_at_s: float | None, until: Until
) -> RunInfo:
    """The run once it is far enough, or as it is at `ends_at_s` (monotonic)."""
    if is_far_enough(run, until):
        return run
    # Each opened connection looks at the run once: what happened before it is seen there, what comes after here.
    feed = operations.follow_session(run.session_id, after=None)
    entries = transport.follow(feed, deadline_s=ends_at_s)
    with closing(entries):
        for entry in entries:
            if entry is None or may_change(entry, run.id):
                run = transport.call(operations.get_run(run.id))
                if is_far_enough(run, until):
                    break
    return run


async def wait_async(
    transport: AsyncHttpTransport, run: RunInfo, *, ends_at_s: float | None, until: Until
) -> RunInfo:
    """As `wait`."""
    if is_far_enough(run, until):
        return run
    feed = operations.follow_session(run.session_id, after=None)
    entries = transport.follow(feed, deadline_s=ends_at_s)
    async with aclosing(entries):
        async for entry in entries:
            if entry is None or may_change(entry, run.id):
                run = await transport.call(operations.get_run(run.id))
                if is_far_enough(run, until):
                    break
    return run
