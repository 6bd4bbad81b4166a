"""`helmr run retry --all`: the next attempt of each run that failed or is blocked, of sessions that a filter finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr import filters
from helmr.cli import describe, many, printing
from helmr.cli.clock import now
from helmr.cli.filtering import pushing
from helmr.models import RunStatus

if TYPE_CHECKING:
    from helmr.cli.exit_codes import ExitCode
    from helmr.client import Client
    from helmr.models import RunInfo, SessionInfo

RETRYABLE = (RunStatus.FAILED, RunStatus.BLOCKED)
FAILED = "is:failed"
"""What is meant without a filter."""


def run(client: Client, words: str | None, asked: many.Asked) -> ExitCode:
    """Find the runs, show them, ask, retry each that is still as it was.

    Raises:
        BadFilter: The filter can't be read.
        UsageError: Nobody can be asked.
    """
    wanted = filters.parse(words or FAILED, filters.SESSION_FIELDS)

    def passes(one: SessionInfo) -> bool:
        is_meant = wanted.matches(filters.session_facts(one), now())
        return is_meant and one.run_status in RETRYABLE

    sessions = many.first(pushing(client.sessions.page, wanted), passes)
    runs = [run for one in sessions if (run := _newest(client, one.id)).status in RETRYABLE]

    def retry(seen: RunInfo) -> many.Done:
        there = _newest(client, seen.session_id)
        if there.id != seen.id or there.status not in RETRYABLE or there.attempt != seen.attempt:
            return many.Done(f"{there.id} is {there.status} meanwhile", skipped=True)
        return many.Done(f"attempt {client.runs.retry(seen.id).attempt}")

    def show() -> None:
        printing.table(describe.RUN_COLUMNS, [describe.run_row(one) for one in runs])

    return many.do([_target(one) for one in runs], retry, show=show, verb="retry", asked=asked)


def _newest(client: Client, session_id: str) -> RunInfo:
    return client.runs.page(session_id=session_id, limit=1).items[0]


def _target(one: RunInfo) -> many.Target[RunInfo]:
    why = one.error.text if one.error is not None else ""
    return many.Target(
        one,
        {"run_id": one.id, "session_id": one.session_id},
        f"{one.id} {one.task}",
        {"task": one.task, "status": one.status.value, "attempt": one.attempt, "why": why},
    )
