"""`helmr console`: the operator console."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr.cli import extras, next
from helmr.cli.app import Cli, command
from helmr.cli.filtering import Profile
from helmr.review.sending import HOLD_S

ReadOnly = Annotated[bool, typer.Option("--read-only", help="Look only; nothing can be sent.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="Signs that every terminal has.")]
Theme = Annotated[
    str | None,
    typer.Option("--theme", metavar="NAME", help="Colours, e.g. helmr-light or helmr-contrast."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Say what gateway and terminal there are, and end.")
]


Hold = Annotated[
    str | None,
    typer.Option(
        "--undo-for",
        metavar="DURATION",
        help="How long an answer can be taken back, 0 to 60s. 5s if not given.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "console")(console)


def console(
    cli: Cli,
    read_only: ReadOnly = False,
    ascii_only: Ascii = False,
    theme: Theme = None,
    check: Check = False,
    undo_for: Hold = None,
    profile: Profile = None,
) -> None:
    """Open the console: see every open wait and answer it."""
    hold_s = next.hold_seconds(undo_for, otherwise=HOLD_S)
    with extras.needed("console"):
        from helmr_console.start import main
    code = main(
        endpoint=cli.endpoint(),
        name=cli.at,
        on_behalf_of=cli.on_behalf_of,
        read_only=read_only,
        ascii_only=ascii_only,
        theme=theme,
        check=check,
        hold_s=hold_s,
        profile=profile,
    )
    raise typer.Exit(code)
