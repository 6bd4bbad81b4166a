"""`helmr login`, `logout` and `whoami` sign a person in at the runtime, out, and say who it takes them for."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from helmr.cli import describe, printing
from helmr.cli.app import Cli, Json, command
from helmr.wire.safe_text import one_line


def register_sign_in(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "login", examples="helmr login --url https://helmr.example.com --device")(login)
    command(app, "logout")(logout)
    command(app, "whoami")(whoami)


def login(
    cli: Cli,
    device: Annotated[
        bool, typer.Option("--device", help="With a browser of another machine, by a code.")
    ] = False,
) -> None:
    """Sign in at the runtime's issuer; commands, console and programs of this user are then you."""
    from helmr.client import find_runtime
    from helmr.client.discovery import normal_url
    from helmr.client.sign_in import IssuerFlow, KeptTokens, sign_in

    found = find_runtime(url=cli.url, data_dir=cli.data_dir)
    url = normal_url(found.url)

    def run(flow: IssuerFlow) -> KeptTokens:
        return flow.by_device(url, _tell_device) if device else flow.by_browser(url, _show_page)

    with cli.client() as client:
        sign_in(os.environ, url, client.people.sign_in(), run)
    whoami(cli)


def _tell_device(page: str, code: str) -> None:
    printing.note(
        f"Open {one_line(page, None)} in a browser and check the code {one_line(code, 40)}."
    )


def _show_page(page: str) -> None:
    import webbrowser

    if not webbrowser.open(page):
        printing.note("No browser opened here: open this page on this machine, or use --device.")
    printing.note(one_line(page, None))


def logout(cli: Cli) -> None:
    """Forget your sign-in at the runtime, here and at the issuer."""
    from helmr.client import find_runtime
    from helmr.client.discovery import normal_url
    from helmr.client.sign_in import sign_out

    url = normal_url(find_runtime(url=cli.url, data_dir=cli.data_dir).url)
    was_there = sign_out(os.environ, url)
    printing.write(f"signed out of {url}" if was_there else f"no one was signed in at {url}")


def whoami(cli: Cli, json: Json = False) -> None:
    """Say who you are to the runtime, and what you may do."""
    with cli.client() as client:
        found = client.people.whoami()
    describe.show(found, json)
