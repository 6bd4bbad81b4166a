"""`helmr limit` lists what limits let through, and what waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import arguments, describe, listing, nouns
from helmr.cli.app import group
from helmr.wire.durations import spell
from helmr.wire.operations import LIST_LIMITS

if TYPE_CHECKING:
    from helmr.models import LimitInfo


def limit_row(one: LimitInfo) -> tuple[object, ...]:
    """Cells of a limit: what it has given of how many, and who waits."""
    in_use = f"{one.in_use} of {one.at_once}" if one.at_once is not None else str(one.in_use)
    begun = None
    if one.begun is not None and one.within_s is not None:
        begun = f"{one.begun} of {one.per} in {spell(one.within_s)}"
    since = describe.time_text(one.oldest_at)
    return (one.name, in_use, begun, one.waiting, since, describe.time_text(one.closed_until))


LIMIT = nouns.Noun(
    lists=LIST_LIMITS,
    table=listing.ListTable(
        columns=("NAME", "IN USE", "BEGUN", "WAITING", "SINCE", "CLOSED UNTIL"),
        row=limit_row,
        name=lambda one: one.name,
        nothing="nothing is limited; [limits.NAME] in helmr.toml or a Limit in code limits steps and tasks",
    ),
    argument=Annotated[
        str,
        typer.Argument(metavar="NAME", help="The limit's name.", autocompletion=arguments.limits),
    ],
    watches=True,
)

app = group("See what limits let through, and what waits for them.")
nouns.add_list(
    app,
    LIMIT,
    "List the limits that steps and tasks share, with what is in use and what waits.",
    examples="helmr limit list\nhelmr limit list --watch",
)
