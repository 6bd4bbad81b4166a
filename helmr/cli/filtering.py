"""`--filter` and `--profile`: which waits are meant, by words or by the name of a filter that somebody keeps."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from helmr import filters
from helmr.cli.app import Cli
from helmr.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from helmr.models import Page

M = TypeVar("M", bound="BaseModel")

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


def pushing(
    page: Callable[..., Page[M]], wanted: filters.Filter
) -> Callable[[str | None, int], Page[M]]:
    """Pages with what the filter says asked of the gateway.

    The gateway finds texts only as they are spelt, and a filter whatever their case: where nothing is found, they are
    looked for here.
    """
    pushed: dict[str, Any] = wanted.pushed()

    def fetch(cursor: str | None, count: int) -> Page[M]:
        nonlocal pushed
        found = page(**pushed, cursor=cursor, limit=count)
        exact = wanted.pushed(texts=False)
        if cursor is None and not found.items and found.next_cursor is None and pushed != exact:
            pushed = exact
            return page(**pushed, cursor=cursor, limit=count)
        return found

    return fetch
