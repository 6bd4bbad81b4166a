"""`helmr console`: the operator console."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr.cli import extras
from helmr.cli.app import Cli, command

ReadOnly = Annotated[bool, typer.Option("--read-only", help="Look only; nothing can be sent.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="Signs that every terminal has.")]
Theme = Annotated[
    str | None,
    typer.Option("--theme", metavar="NAME", help="Colours, e.g. helmr-light or helmr-contrast."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Say what gateway and terminal there are, and end.")
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
) -> None:
    """Open the console: see every open wait and answer it."""
    with extras.needed("console"):
        from helmr_console.start import main
    code = main(
        endpoint=cli.endpoint(),
        on_behalf_of=cli.on_behalf_of,
        read_only=read_only,
        ascii_only=ascii_only,
        theme=theme,
        check=check,
    )
    raise typer.Exit(code)
