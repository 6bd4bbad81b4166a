"""`helmr next`: the waits one after the other, on any terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr import durations, filters
from helmr.cli import finding
from helmr.cli.app import Cli, Filter, Profile, command, now, waits_filter
from helmr.errors import UsageError
from helmr.review.sending import HOLD_S, HOLD_S_MAX

if TYPE_CHECKING:
    from helmr.cli.answering import List
    from helmr.client import Client
    from helmr.models import Page, WaitInfo
    from helmr.review.personal import Snoozes

PAGES_MAX = 25
"""So many pages of the list are read: 5,000 waits."""

Hold = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="How long an answer can be taken back, 0 to 60s. 5s if not given."
    ),
]


def register_next(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "next",
        examples="helmr next --stream approval\nhelmr next --filter 'due<1h' --undo-for 10s\nhelmr next --filter mine",
    )(next_)


def next_(
    cli: Cli,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="input or token; may be repeated.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK")] = None,
    stream: Annotated[str | None, typer.Option(metavar="STREAM")] = None,
    session: Annotated[str | None, typer.Option(metavar="SESSION")] = None,
    priority: Annotated[
        str | None, typer.Option(metavar="PRIORITY", help="low, normal or high")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Of the wait or of its session.")
    ] = None,
    assignee: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    filter_: Filter = None,
    profile: Profile = None,
    undo_for: Hold = None,
    override_claim: Annotated[
        bool,
        typer.Option(
            "--override-claim", help="Answer even if you see that someone else has claimed it."
        ),
    ] = False,
) -> None:
    """Ask one wait after the other, soonest end first; a key answers, skips or edits each."""
    wanted = waits_filter(cli, filter_, profile)
    hold_s = hold_seconds(undo_for, otherwise=HOLD_S)
    require_terminal()
    with cli.client() as client:
        pushed: dict[str, Any] = {
            "kind": kind,
            "task": task,
            "stream": stream,
            "session_id": finding.session(client, session) if session is not None else None,
            "priority": priority,
            "tag": tag,
            "assignee": assignee,
        }

        def waits() -> Iterable[WaitInfo]:
            found = all_pages(lambda cursor: client.waits.page(limit=200, cursor=cursor, **pushed))
            me, snoozed = cli.on_behalf_of, snoozes().read(now())
            begun = drafted(wanted)
            return (
                one
                for one in found
                if (one.id not in snoozed or wanted.says("snoozed"))
                and wanted.matches(
                    filters.wait_facts(
                        one, now(), me, snoozed=one.id in snoozed, drafted=one.id in begun
                    ),
                    now(),
                )
            )

        is_narrowed = any(pushed.values()) or bool(wanted)
        nothing = "no such wait" if is_narrowed else "nothing waits for people"
        ask(cli, client, waits, hold_s=hold_s, nothing=nothing, override_claim=override_claim)


def answer(cli: Cli, wait: str | None, undo_for: str | None, *, override_claim: bool) -> None:
    """Ask this wait, or all that there are but those snoozed.

    Raises:
        UsageError: There is no terminal to ask on.
    """
    hold_s = hold_seconds(undo_for, otherwise=HOLD_S)
    require_terminal()
    with cli.client() as client:
        if wait is None:

            def waits() -> Iterable[WaitInfo]:
                snoozed = snoozes().read(now())
                found = all_pages(lambda cursor: client.waits.page(limit=200, cursor=cursor))
                return (one for one in found if one.id not in snoozed)
        else:
            wait_id = finding.wait(client, wait)

            def waits() -> Iterable[WaitInfo]:
                return [client.waits.get(wait_id)]

        nothing = "nothing waits for people"
        ask(cli, client, waits, hold_s=hold_s, nothing=nothing, override_claim=override_claim)


def snoozes() -> Snoozes:
    """What this user snoozed, in the console too."""
    from helmr.profiles import state_folder
    from helmr.review.personal import Snoozes

    return Snoozes(state_folder(os.environ) / "snoozed")


def drafted(wanted: filters.Filter) -> frozenset[str]:
    """The waits to which an answer was begun on this machine, if the filter asks for them."""
    from helmr.profiles import state_folder
    from helmr.review.personal import DraftStore

    folder = state_folder(os.environ) / "drafts"
    return DraftStore(folder).wait_ids() if wanted.says("draft") else frozenset()


def all_pages(page: Callable[[str | None], Page[WaitInfo]]) -> Iterator[WaitInfo]:
    """The waits of these pages, `PAGES_MAX` at most."""
    cursor = None
    for _ in range(PAGES_MAX):
        found = page(cursor)
        yield from found.items
        cursor = found.next_cursor
        if cursor is None:
            return


def ask(
    cli: Cli, client: Client, waits: List, *, hold_s: float, nothing: str, override_claim: bool
) -> None:
    """Ask these waits on the terminal, with the drafts that the console keeps too."""
    from helmr.cli.answering import Answering
    from helmr.profiles import state_folder
    from helmr.review.personal import PersonalFiles

    person = cli.on_behalf_of or os.environ.get("USER") or ""
    Answering(
        client,
        PersonalFiles.within(state_folder(os.environ), person),
        waits,
        me=cli.on_behalf_of,
        hold_s=hold_s,
        override_claim=override_claim,
        nothing=nothing,
    ).run()


def hold_seconds(text: str | None, *, otherwise: float) -> float:
    """Seconds that an answer is held.

    Raises:
        UsageError: No such time, or more than `HOLD_S_MAX`.
    """
    if text is None:
        return otherwise
    found_s = durations.seconds(text, allow_zero=True)
    if found_s > HOLD_S_MAX:
        raise UsageError(
            f"--undo-for: {text} is more than {HOLD_S_MAX:g}s",
            hint="Others see a wait as unanswered while its answer is held; s skips a wait.",
        )
    return found_s


def require_terminal() -> None:
    """Return if a person can be asked here.

    Raises:
        UsageError: No one can.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "this asks a person, and there is no terminal",
            hint="`helmr wait list` and `helmr wait answer WAIT --data JSON` are for programs.",
        )
