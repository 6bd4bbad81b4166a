"""Durable time: sleep for months at no cost."""

from __future__ import annotations

from datetime import UTC, datetime

from helmr.current import WaitCall, durable_call, require_run
from helmr.errors import BadDuration
from helmr.wire.durations import Duration, seconds


@durable_call("timers.sleep()")
async def sleep(duration: Duration) -> None:
    """Return when `duration` has passed; the run parks meanwhile."""
    call = WaitCall(kind="timer", timeout_s=seconds(duration))
    await require_run("timers.sleep()").wait(call)


@durable_call("timers.until()")
async def until(moment: datetime) -> None:
    """Return at `moment`, at once if it has passed; the run parks meanwhile.

    Raises:
        BadDuration: The datetime has no time zone, or is more than ten years away.
    """
    if moment.tzinfo is None:
        raise BadDuration(
            f"{moment!r} has no time zone", hint="Use an aware datetime: datetime(…, tzinfo=UTC)."
        )
    call = WaitCall(kind="timer", until=moment.astimezone(UTC))
    await require_run("timers.until()").wait(call)
