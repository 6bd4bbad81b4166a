"""`helmr demo`: see a session wait for a person, lose its runtime, and go on."""

from __future__ import annotations

import typer

from helmr.cli import extras


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo() -> None:
    """Show the main thing on a runtime of its own: stop for a person, survive a kill, go on."""
    with extras.needed("runtime"):
        from helmr.examples.demo import main

        raise typer.Exit(main())
