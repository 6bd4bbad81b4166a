"""`helmr demo`: see a session wait for a person, lose its runtime, and go on."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr.cli import extras, looks


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", cls=looks.Command)(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the demo's data directory.")] = False,
    console: Annotated[
        bool, typer.Option("--console", help="Seed sessions in every state and open the console.")
    ] = False,
) -> None:
    """Show the main thing on a runtime of its own: stop for a person, survive a kill, go on."""
    extras.check("runtime")
    if console:
        extras.check("console")
    from helmr.examples.demo import main

    raise typer.Exit(main([*(["--keep"] if keep else []), *(["--console"] if console else [])]))
