"""`helmr next`: the waits one after the other, on any terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import arguments, listing, nouns, printing
from helmr.cli.app import Cli, Filter, Profile, now
from helmr.errors import UsageError
from helmr.person.review.sending import HOLD_S, HOLD_S_MAX
from helmr.wire import durations

if TYPE_CHECKING:
    from helmr.cli.answering import List
    from helmr.client import Client
    from helmr.models import WaitInfo

Hold = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="How long an answer can be taken back, 0 to 60s. 5s if not given."
    ),
]


OverrideClaim = Annotated[
    bool,
    typer.Option(
        "--override-claim", help="Answer even if you see that someone else has claimed it."
    ),
]

_FIELDS = nouns.filter_options(
    nouns.WAIT.lists.query,
    {**nouns.WAIT.helps, "kind": "input or token; may be repeated."},
    {*nouns.WAIT.unasked, "status"},
)


def register_next(app: typer.Typer) -> None:
    """Add the command."""
    options = [
        *_FIELDS.values(),
        nouns.option("filter_", Filter),
        nouns.option("profile", Profile),
        nouns.option("undo_for", Hold),
        nouns.option("override_claim", OverrideClaim, False),
    ]
    nouns.add(
        app,
        "next",
        next_,
        "Go through open waits, earliest deadline first; a key answers, skips or edits each.",
        options,
        "helmr next --stream approval\nhelmr next --filter 'due<1h' --undo-for 10s\nhelmr next --filter mine",
    )


def next_(
    cli: Cli,
    *,
    filter_: str | None,
    profile: str | None,
    undo_for: str | None,
    override_claim: bool,
    **given: Any,
) -> None:
    """Ask the waits that a list with these options would show, without the snoozed ones."""
    wanted = listing.waits_filter(cli, filter_, profile)
    hold_s = hold_seconds(undo_for, otherwise=HOLD_S)
    require_terminal()
    with cli.client() as client:
        query = nouns.meant(client, {name: given[one.name] for name, one in _FIELDS.items()})

        def waits() -> Iterable[WaitInfo]:
            meant = listing.MeantWaits(cli, wanted)
            return filter(meant.asks, listing.all_waits(client.waits.page, **query))

        is_narrowed = bool(query) or bool(wanted)
        nothing = "no such wait" if is_narrowed else "nothing waits for people"
        ask(cli, client, waits, hold_s=hold_s, nothing=nothing, override_claim=override_claim)


def answer(cli: Cli, wait: str | None, undo_for: str | None, *, override_claim: bool) -> None:
    """Ask this wait, or all without the snoozed ones.

    Raises:
        UsageError: There is no terminal to ask on.
    """
    hold_s = hold_seconds(undo_for, otherwise=HOLD_S)
    require_terminal()
    with cli.client() as client:
        if wait is None:

            def waits() -> Iterable[WaitInfo]:
                snoozed = listing.own_files(cli).snoozes.read(now())
                found = listing.all_waits(client.waits.page)
                return (one for one in found if one.id not in snoozed)
        else:
            wait_id = arguments.wait(client, wait)

            def waits() -> Iterable[WaitInfo]:
                return [client.waits.get(wait_id)]

        ask(
            cli,
            client,
            waits,
            hold_s=hold_s,
            nothing="nothing waits for people",
            override_claim=override_claim,
            leaves_out=wait is None,
        )


def ask(
    cli: Cli,
    client: Client,
    waits: List,
    *,
    hold_s: float,
    nothing: str,
    override_claim: bool,
    leaves_out: bool = True,
) -> None:
    """Ask these waits on the terminal, with the drafts that the console keeps too.

    Waits for others are left out, unless `leaves_out` is false: then they are shown with the people who may answer.
    """
    from helmr.cli.answering import Answering, without_others

    left_out: set[str] = set()

    def asked() -> Iterable[WaitInfo]:
        return without_others(waits(), left_out) if leaves_out else waits()

    Answering(
        client,
        listing.own_files(cli),
        asked,
        me=cli.me(),
        hold_s=hold_s,
        override_claim=override_claim,
        nothing=nothing,
    ).run()
    if left_out:
        printing.note(f"{len(left_out)} left out: for others to answer, or you have voted")


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
            hint="Others see a wait as unanswered while its answer is pending; s skips a wait.",
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
