"""`--filter` and `--profile`: which waits are meant, by words or by the name of a filter that somebody keeps."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from helmr import filters
from helmr.cli.app import Cli
from helmr.errors import UsageError

Filter = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="WORDS",
        help="As in the console, e.g. 'stream:approval due<1h', or a name: mine, unassigned, own ones.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="Whose saved filters; see console.toml."),
]


def waits_filter(cli: Cli, text: str | None, profile: str | None) -> filters.Filter:
    """The filter that these options say.

    Raises:
        BadFilter: It can't be read.
        UsageError: There is no such profile, or the filter needs to know who looks, and nothing says it.
    """
    from helmr.profiles import read_profile

    given = text or ""
    if given or profile is not None:
        given = read_profile(os.environ, profile).meant(given)
    wanted = filters.parse(given, filters.WAIT_FIELDS)
    if wanted.asks_who and cli.on_behalf_of is None:
        raise UsageError("is:mine needs to know who you are", hint="--on-behalf-of NAME")
    return wanted
