"""`helmr console`: the operator console."""

from __future__ import annotations

import typer

from helmr.cli import extras
from helmr.cli.app import Cli, command


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "console")(console)


def console(cli: Cli) -> None:
    """Open the console: see every open wait and answer it."""
    with extras.needed("console"):
        from console.app import main
    raise typer.Exit(main(endpoint=cli.endpoint(), on_behalf_of=cli.on_behalf_of))
