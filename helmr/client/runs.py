"""`AsyncClient.runs`: find runs, wait for them, take them back (S-5, S-75)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

from helmr.client.calls import Feed, given, reads, task_id
from helmr.client.http import ClientPart, all_pages
from helmr.errors import UsageError
from helmr.models import EntryInfo, Page, RewindPreview, RunInfo, RunJournal, RunStatus
from helmr.tasks import AnyTask
from helmr.wire.durations import Duration, seconds
from helmr.wire.operations import (
    CANCEL_RUN,
    FOLLOW_SESSION,
    GET_JOURNAL,
    GET_RUN,
    LIST_RUNS,
    PREVIEW_REWIND,
    RETRY_RUN,
    REWIND_RUN,
)

RESULT_TIMEOUT_MAX_S = 60.0
"""Longest time in seconds that one start request stays open for the run's result."""

Until = Literal["ended", "stopped"]
"""`ended`: succeeded, failed or cancelled. `stopped`: also waiting or blocked, when someone must act."""

_STOPPED = frozenset((RunStatus.WAITING, RunStatus.BLOCKED))


def is_far_enough(run: RunInfo, until: Until) -> bool:
    """Return True when waiting for that status is over.

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
    """Return the end of the timeout on the monotonic clock."""
    return None if timeout is None else time.monotonic() + seconds(timeout, allow_zero=True)


def first_hold_s(ends_at_s: float | None) -> float:
    """Return the seconds that the start request itself may stay open for the result."""
    if ends_at_s is None:
        return RESULT_TIMEOUT_MAX_S
    return min(RESULT_TIMEOUT_MAX_S, max(0.0, ends_at_s - time.monotonic()))


class AsyncRuns(ClientPart):
    """Runs of all sessions."""

    async def get(self, run_id: str) -> RunInfo:
        """The run as it is now.

        Raises:
            RunNotFound: There is none with this id.
        """
        return await self._ask(GET_RUN, run_id)

    def list(
        self,
        *,
        session_id: str | None = None,
        task: str | AnyTask | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[RunInfo]:
        """Yield every matching run, newest first, page by page."""
        return all_pages(
            lambda cursor: self.page(
                session_id=session_id, task=task, status=status, limit=limit, cursor=cursor
            )
        )

    async def page(
        self,
        *,
        session_id: str | None = None,
        task: str | AnyTask | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[RunInfo]:
        """One page of `list`."""
        query = {"session_id": session_id, "task": task_id(task), "status": status}
        return await self._ask(LIST_RUNS, query={**query, "limit": limit, "cursor": cursor})

    async def journal(self, run_id: str) -> RunJournal:
        """Return all data that a replay of the run follows, for `helmr check`. Needs an admin key.

        Raises:
            RunNotNewest: Its session has begun another run since.
        """
        return await self._ask(GET_JOURNAL, run_id)

    async def cancel(
        self, run_id: str, *, attempt: int | None = None, operation_id: str | None = None
    ) -> RunInfo:
        """Cancel the run; cancelling an ended one has no effect (S-6).

        Args:
            run_id: The run.
            attempt: Act only if this is its newest attempt.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            SessionChanged: It has begun another attempt.
        """
        body = given({"attempt": attempt})
        return await self._ask(CANCEL_RUN, run_id, body=body, operation_id=operation_id)

    async def retry(
        self, run_id: str, *, attempt: int | None = None, operation_id: str | None = None
    ) -> RunInfo:
        """Start the run's next attempt, which replays what was recorded (S-5).

        Args:
            run_id: The run.
            attempt: Act only if this is the attempt that failed or is blocked, so that repeated calls, from any
                process, begin one attempt.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            RunNotRetryable: It is not the session's newest run, or neither failed nor blocked.
            SessionChanged: It has begun another attempt.
        """
        body = given({"attempt": attempt})
        return await self._ask(RETRY_RUN, run_id, body=body, operation_id=operation_id)

    async def preview_rewind(
        self,
        run_id: str,
        *,
        to_op: int | None = None,
        wait_id: str | None = None,
        keep_answers: bool = True,
        keep_children: bool = False,
    ) -> RewindPreview:
        """Preview a rewind of the run now: steps that run again, answers that are kept and asked again (S-76).

        Args:
            run_id: A session's newest run.
            to_op: The first op that is asked again, as the transcript numbers them.
            wait_id: Or a wait of the run.
            keep_answers: False asks every question after that op again.
            keep_children: True lets child sessions started after it continue.

        Raises:
            RunNotRewindable: It is not the session's newest run.
            OpNotFound: The run's journal has no such op.
            SessionTerminal: The session was closed or cancelled, and not by this run.
        """
        body = {**place(to_op, wait_id), **kept(keep_answers, keep_children)}
        return await self._ask(PREVIEW_REWIND, run_id, body=body)

    async def rewind(
        self, run_id: str, *, preview: RewindPreview, reason: str, operation_id: str | None = None
    ) -> RunInfo:
        """Rewind the run as previewed; its next attempt continues from there (S-75).

        Args:
            run_id: The preview's run.
            preview: The preview that someone checked.
            reason: Why, 1 to 500 characters; it stands in the transcript.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            SessionChanged: The rewind would differ by now; nothing was done. Preview it again.
        """
        body = {"to_op": preview.to_op, "reason": reason, **seen(preview)}
        return await self._ask(REWIND_RUN, run_id, body=body, operation_id=operation_id)

    async def wait(
        self, run_id: str, *, timeout: Duration | None = None, until: Until = "ended"
    ) -> RunInfo:
        """Return the run when it is far enough, or its state after `timeout`: check its `status`.

        Args:
            run_id: The run.
            timeout: None waits for ever.
            until: `ended`, or `stopped` for also waiting and blocked runs, which need someone to act.
        """
        ends_at_s = deadline_s(timeout)
        run = await self.get(run_id)
        return await until_far_enough(self, run, ends_at_s=ends_at_s, until=until)


async def until_far_enough(
    runs: AsyncRuns, run: RunInfo, *, ends_at_s: float | None, until: Until
) -> RunInfo:
    """Return the run once it is far enough, or its state at `ends_at_s` (monotonic)."""
    if is_far_enough(run, until):
        return run
    # Look at the run once per opened connection, for changes before it; the feed brings later ones.
    feed: Feed[EntryInfo] = Feed(path=FOLLOW_SESSION.at(run.session_id), item=reads(EntryInfo))
    found = runs._transport.follow(feed, deadline_s=ends_at_s)
    async with aclosing(found) as entries:
        async for entry in entries:
            if entry is None or may_change(entry, run.id):
                run = await runs.get(run.id)
                if is_far_enough(run, until):
                    break
    return run


# --- what corrections of runs and waits say ---------------------------------------------------------


def kept(keep_answers: bool, keep_children: bool) -> dict[str, Any]:
    """Return the options that say what a correction keeps."""
    return {"keep_answers": keep_answers, "keep_children": keep_children}


def seen(preview: RewindPreview) -> dict[str, Any]:
    """Return the fields that name the preview that someone checked."""
    return {"preview_hash": preview.hash, **kept(preview.keep_answers, preview.keep_children)}


def place(to_op: int | None, wait_id: str | None) -> dict[str, Any]:
    """Return the op or wait at which a correction begins."""
    named = {"to_op": to_op, "wait_id": wait_id}
    return {name: value for name, value in named.items() if value is not None}
