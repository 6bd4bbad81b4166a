"""`helmr console`, `helmr inbox-link` and `helmr demo`: programs that the command line starts."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from helmr.cli import next, printing
from helmr.cli.app import Cli, CommandWithExamples, Profile, command, now
from helmr.errors import UsageError
from helmr.person.inbox_link import inbox_link
from helmr.person.review.sending import HOLD_S
from helmr.version import check_extra, has_extra, needed

ReadOnly = Annotated[bool, typer.Option("--read-only", help="Look only; nothing can be sent.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw frames and signs in ASCII.")]
Theme = Annotated[
    str | None,
    typer.Option("--theme", metavar="NAME", help="Colours, e.g. helmr-light or helmr-contrast."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Say which gateway and terminal it finds, and end.")
]


Hold = Annotated[
    str | None,
    typer.Option(
        "--undo-for",
        metavar="DURATION",
        help="How long an answer can be taken back, 0 to 60s. 5s if not given.",
    ),
]


def register_console(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "console")(console)


def register_inbox_link(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "inbox-link")(inbox_link_)


def inbox_link_(cli: Cli) -> None:
    """Print a link that opens the inbox in a browser on this machine as the local admin: once, within ten minutes."""
    found = cli.endpoint()
    if found.key is None or urlsplit(found.url).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(
            "such a link opens a runtime on this machine, by its local admin key",
            hint="Run it on the runtime's machine, as its user, without --url.",
        )
    printing.write_line(inbox_link(found.url, found.key, now()))


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
    with needed("console"):
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


def register_demo(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", cls=CommandWithExamples)(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the demo's data directory.")] = False,
    console: Annotated[
        bool, typer.Option("--console", help="Seed sessions in every state and open the console.")
    ] = False,
    in_process: Annotated[
        bool | None,
        typer.Option(
            "--in-process/--ray",
            help="The form of its runtime. If neither is given, on Ray where that is installed, else in one process.",
        ),
    ] = None,
) -> None:
    """Show what Helmr does, on a runtime of its own: stop for a person, survive a kill, go on."""
    if in_process is None:
        in_process = not has_extra("runtime")
    check_extra("local" if in_process else "runtime")
    if console:
        check_extra("console")
    from helmr.examples.demo import main

    given = {"--keep": keep, "--console": console, "--in-process": in_process}
    raise typer.Exit(main([option for option, is_given in given.items() if is_given]))
