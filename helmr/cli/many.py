"""Doing the same to many things: they are shown, the person confirms, and each is done and reported.

`helmr run retry --all` is one: the next attempt of each run that failed or is blocked, of sessions that a filter finds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from helmr import filters
from helmr.cli import describe, listing, printing
from helmr.cli.app import ExitCode, exit_code, worst
from helmr.errors import HelmrError, UsageError
from helmr.models import RunStatus
from helmr.review import batches
from helmr.review.batches import Progress

if TYPE_CHECKING:
    from pydantic import BaseModel

    from helmr.client import Client
    from helmr.models import RunInfo, SessionInfo


T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

MANY_MAX = 200
"""So many at a time: someone is to read them."""


def first(fetch: listing.Fetch[M], passes: Callable[[M], bool] | None = None) -> list[M]:
    """The first `MANY_MAX` of a list; a note says if there are more."""
    found, cursor = listing.read(fetch, listing.Wanted(limit=MANY_MAX, passes=passes))
    if cursor is not None:
        printing.note(
            f"there are more: these are the first {len(found)}, say it again for the rest"
        )
    return found


@dataclass(frozen=True, slots=True)
class Target(Generic[T]):
    """One of them.

    Attributes:
        thing: What it is done to.
        ids: What names it in a JSON line.
        text: What it is called in a line; text of a session.
        facts: More of a JSON line of the preview.
    """

    thing: T
    ids: dict[str, str]
    text: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one: nothing was done if `skipped` says why."""

    detail: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAsked:
    """How the options say that it is done.

    Attributes:
        hold_s: How long it can be taken back after it was confirmed.
    """

    preview: bool
    yes: bool
    json: bool
    hold_s: float = 0.0


def do(
    targets: Sequence[Target[T]],
    act: Callable[[T], Done],
    *,
    show: Callable[[], None],
    verb: str,
    asked: BulkAsked,
) -> ExitCode:
    """Show them, ask, and do it to one after the other; the code is that of the worst.

    Args:
        act: Does it to one, and says what came of it.
        show: Shows all of them to a person.
        verb: What is done, as in `retry 3 runs`.

    Raises:
        UsageError: There is no one to ask.
        KeyboardInterrupt: Ctrl-C; what is not done yet is not done.
    """
    if not targets:
        printing.note(f"nothing to {verb}")
        return ExitCode.OK
    if asked.preview and asked.json:
        for one in targets:
            _line(one, Progress.PLANNED, "", json=True, more=one.facts)
        return ExitCode.OK
    if asked.preview:
        show()
        return ExitCode.OK
    if not asked.yes and not _confirmed(len(targets), show, verb, json=asked.json):
        return ExitCode.OK
    if asked.hold_s:
        try:
            printing.note(f"begins in {asked.hold_s:g} s; Ctrl-C takes all of it back")
            time.sleep(asked.hold_s)
        except KeyboardInterrupt:
            printing.note("taken back, nothing was done")
            raise
    return _do_all(targets, act, json=asked.json)


def _do_all(targets: Sequence[Target[T]], act: Callable[[T], Done], *, json: bool) -> ExitCode:
    codes: list[ExitCode] = []
    done = 0
    try:
        for one in targets:
            more: dict[str, Any] = {}
            try:
                came = act(one.thing)
                progress = Progress.SKIPPED if came.skipped else Progress.ACCEPTED
                codes += [ExitCode.CONFLICT] if came.skipped else []
                detail = came.detail
            except HelmrError as error:
                progress, detail = batches.came_of(error), printing.error_text(error)
                more = {"error": error.code}
                codes.append(exit_code(error))
            _line(one, progress, detail, json=json, more=more)
            done += progress is Progress.ACCEPTED
    finally:
        printing.note(f"{done} of {len(targets)} done")
    return worst(codes)


def _confirmed(count: int, show: Callable[[], None], verb: str, *, json: bool) -> bool:
    """Show them and have their number typed, as no one does by mistake.

    Raises:
        UsageError: There is no one to ask.
    """
    if json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            f"no one can be asked whether to {verb} them",
            hint="Look with --preview, then say --yes.",
        )
    show()
    printing.write(f"Type {count} to {verb} as many; anything else does nothing.")
    if sys.stdin.readline().strip() == str(count):
        return True
    printing.note("nothing was done")
    return False


def _line(
    one: Target[T], progress: Progress, detail: str, *, json: bool, more: dict[str, Any]
) -> None:
    if json:
        told = {"detail": detail} if detail else {}
        printing.write_json({**one.ids, "progress": progress.name.lower(), **told, **more})
    else:
        word = "done" if progress is Progress.ACCEPTED else progress.value
        printing.write_line(f"{word}: {one.text}{f' · {detail}' if detail else ''}")


RETRYABLE = (RunStatus.FAILED, RunStatus.BLOCKED)
FAILED = "is:failed"
"""What is meant without a filter."""


def retry_every(client: Client, words: str | None, asked: BulkAsked) -> ExitCode:
    """Find the runs, show them, ask, retry each that is still as it was.

    Raises:
        BadFilter: The filter can't be read.
        UsageError: No one can be asked.
    """
    wanted = filters.parse(words or FAILED, filters.SESSION_FIELDS)

    is_meant = listing.session_passes(wanted)

    def passes(one: SessionInfo) -> bool:
        return is_meant(one) and one.run_status in RETRYABLE

    sessions = first(listing.pushing(client.sessions.page, wanted), passes)
    runs = [run for one in sessions if (run := _newest(client, one.id)).status in RETRYABLE]

    def retry(seen: RunInfo) -> Done:
        there = _newest(client, seen.session_id)
        if there.id != seen.id or there.status not in RETRYABLE or there.attempt != seen.attempt:
            return Done(f"{there.id} is {there.status} meanwhile", skipped=True)
        return Done(f"attempt {client.runs.retry(seen.id).attempt}")

    def show() -> None:
        printing.table(describe.RUN_COLUMNS, [describe.run_row(one) for one in runs])

    return do([_target(one) for one in runs], retry, show=show, verb="retry", asked=asked)


def _newest(client: Client, session_id: str) -> RunInfo:
    return client.runs.page(session_id=session_id, limit=1).items[0]


def _target(one: RunInfo) -> Target[RunInfo]:
    why = one.error.text if one.error is not None else ""
    return Target(
        one,
        {"run_id": one.id, "session_id": one.session_id},
        f"{one.id} {one.task}",
        {"task": one.task, "status": one.status.value, "attempt": one.attempt, "why": why},
    )
