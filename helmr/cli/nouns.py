"""Builds commands from the table of operations: lists with their options, and commands about one thing.

A list's options are the fields of its query (`helmr.models.queries`); what stands here is how its noun looks and how
one is named. `helmr.cli.describe` shows what an operation answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin

import typer

from helmr.cli import arguments, describe, listing
from helmr.cli.app import (
    All,
    Cli,
    Cursor,
    Filter,
    Json,
    Limit,
    Profile,
    command,
)
from helmr.cli.listing import MeantWaits, pushing, session_passes, waits_filter
from helmr.models.queries import SESSION_IDS, ListQuery
from helmr.person import filters
from helmr.wire import ids
from helmr.wire.operations import (
    LIST_API_KEYS,
    LIST_DELEGATIONS,
    LIST_PEOPLE,
    LIST_PUBLIC_TOKENS,
    LIST_RUNS,
    LIST_SESSIONS,
    LIST_TOKENS,
    LIST_WAITS,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from helmr.client import Client
    from helmr.models import Page, SessionInfo, WaitInfo
    from helmr.wire.operation import Operation

M = TypeVar("M", bound="BaseModel")

KEYWORD = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True)
class ListFilter(Generic[M]):
    """A parsed `--filter`.

    Attributes:
        wanted: The filter.
        passes: Returns True for an item that the filter matches.
        pushes: The gateway filters by what it can, too.
    """

    wanted: filters.Filter
    passes: Callable[[M], bool]
    pushes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun(Generic[M]):
    """A kind of thing that commands list and name.

    Attributes:
        lists: The operation that lists them.
        table: Layout of the list.
        argument: Command-line argument that names one.
        find: Returns the id for such an argument.
        narrow: Reads `--filter` and `--profile`; a list without it has no such options.
        profiles: True if the list has `--profile`.
        watches: True if the list has `--watch`.
        helps: Help of an option, by the field of the query; its values for any other.
        unasked: Fields of the query that are no options.
        none_such: The line for an empty list that is filtered.
    """

    lists: Operation[Page[M]]
    table: listing.ListTable[M]
    argument: Any
    find: Callable[[Client, str], str] = lambda _, name: name
    narrow: Callable[[Cli, str | None, str | None], ListFilter[M]] | None = None
    profiles: bool = False
    watches: bool = False
    helps: Mapping[str, str] = field(default_factory=dict)
    unasked: frozenset[str] = frozenset()
    none_such: str | None = None


def add_list(
    app: typer.Typer,
    noun: Noun[Any],
    help_text: str,
    *,
    name: str = "list",
    examples: str | None = None,
) -> None:
    """Give a group the command `list`, or one of another name."""
    fields = filter_options(noun.lists.query, noun.helps, noun.unasked)
    options = [
        *fields.values(),
        *([option("filter_", Filter)] if noun.narrow is not None else []),
        *([option("profile", Profile)] if noun.profiles else []),
        option("limit", Limit, 50),
        option("cursor", Cursor),
        option("every", All, False),
        option("output", listing.Output, listing.ListForm.TABLE),
        *([option("watch", listing.Watch, False)] if noun.watches else []),
        option("json", Json, False),
    ]

    def list_(
        cli: Cli, *, filter_: str | None = None, profile: str | None = None, **given: Any
    ) -> None:
        asked = {name: given.pop(option.name) for name, option in fields.items()}
        narrowed = noun.narrow(cli, filter_, profile) if noun.narrow is not None else None
        is_narrowed = narrowed is not None and bool(narrowed.wanted)
        with cli.client(is_patient=given.get("watch", False)) as client:
            query = meant(client, asked)

            def page(**more: Any) -> Page[Any]:
                return ask(client, noun.lists, query={**more, **query})

            table = noun.table
            if noun.none_such is not None and (query or is_narrowed):
                table = replace(table, nothing=noun.none_such)
            listing.show(
                pushing(page, narrowed.wanted)
                if narrowed is not None and narrowed.pushes
                else lambda cursor, limit: page(cursor=cursor, limit=limit),
                table,
                listing.Wanted(
                    **given, passes=narrowed.passes if is_narrowed and narrowed else None
                ),
            )

    add(app, name, list_, help_text, options, examples)


def add_call(
    app: typer.Typer,
    noun: Noun[Any],
    name: str,
    row: Operation[Any],
    help_text: str,
    *,
    examples: str | None = None,
) -> None:
    """Give a group a command that makes a call about one thing, and shows what it answers."""

    def called(cli: Cli, *, thing: str, json: bool) -> None:
        with cli.client() as client:
            found = ask(client, row, noun.find(client, thing))
        describe.show(found, json)

    thing = inspect.Parameter("thing", KEYWORD, annotation=noun.argument)
    add(app, name, called, help_text, [thing, option("json", Json, False)], examples)


def add(
    app: typer.Typer,
    name: str,
    function: Callable[..., None],
    help_text: str,
    options: list[inspect.Parameter],
    examples: str | None = None,
) -> None:
    """Give a group a command whose options are put together; its function takes them after the `Cli`, by name."""
    cli = inspect.Parameter("cli", inspect.Parameter.POSITIONAL_ONLY, annotation=Cli)
    function.__doc__ = help_text
    function.__signature__ = inspect.Signature([cli, *options])  # type: ignore[attr-defined]  # what `command` reads
    command(app, name, examples=examples)(function)


def ask(client: Client, row: Operation[M], *ids: str, **parts: Any) -> M:
    """Call an operation and return its answer; takes the arguments of `helmr.client.calls.call`."""
    from helmr.client.sync import ask

    return ask(client, row, *ids, **parts)


# --- options of a list ------------------------------------------------------------------------------

METAVARS = {"external_id": "ID", "assignee": "NAME", **dict.fromkeys(SESSION_IDS, "SESSION")}
"""Placeholder for the value of an option, by the field of the query; its name for any other."""


OFFERS: Mapping[str, arguments.Complete] = {
    **dict.fromkeys(SESSION_IDS, arguments.sessions),
    "task": arguments.tasks,
    "stream": arguments.streams,
    "assignee": arguments.people,
}
"""Shell completion of an option's value, by the field of the query."""


def _values(kind: Any) -> Callable[[str], list[str]] | None:
    """Return the shell completion of an enum's values; None for other types."""
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return None
    words = [str(one.value) for one in kind]
    return lambda incomplete: [one for one in words if one.startswith(incomplete)]


def filter_options(
    query: type[BaseModel] | None, helps: Mapping[str, str], unasked: Iterable[str]
) -> dict[str, inspect.Parameter]:
    """The options that a list's query gives its command, by field."""
    assert query is not None
    names = [one for one in query.model_fields if one not in ListQuery.model_fields]
    return {
        name: _filter_option(name, query.model_fields[name].annotation, helps.get(name))
        for name in names
        if name not in unasked
    }


def _filter_option(name: str, shape: Any, help_text: str | None) -> inspect.Parameter:
    kinds = [one for one in get_args(shape) if one is not type(None)] or [shape]
    if help_text is None and isinstance(kinds[0], type) and issubclass(kinds[0], Enum):
        *others, last = (str(one.value) for one in kinds[0])
        help_text = f"{', '.join(others)} or {last}"
    if shape is bool:
        flag = typer.Option(f"--{name.replace('_', '-')}", help=help_text)
        return option(name, Annotated[bool, flag], False)
    said = typer.Option(
        metavar=METAVARS.get(name, name.upper()),
        help=help_text,
        autocompletion=_values(kinds[0]) or OFFERS.get(name),
    )
    is_list = list in (get_origin(shape), *map(get_origin, kinds))
    shown: Any = list[str] if is_list else str
    return option(name.replace("session_id", "session"), Annotated[shown | None, said])


def option(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """An option of a command whose options are put together."""
    return inspect.Parameter(name, KEYWORD, default=default, annotation=annotation)


def meant(client: Client, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query for the given options of a list; a part of a session's id becomes the whole."""
    query = {name: one for name, one in asked.items() if one is not None and one is not False}
    for name in SESSION_IDS & query.keys():
        query[name] = arguments.session(client, query[name])
    return query


# --- the nouns --------------------------------------------------------------------------------------


def _sessions_narrowed(cli: Cli, words: str | None, _: str | None) -> ListFilter[SessionInfo]:
    wanted = filters.parse(words or "", filters.SESSION_FIELDS)
    return ListFilter(wanted, session_passes(wanted), pushes=True)


def _waits_narrowed(cli: Cli, words: str | None, profile: str | None) -> ListFilter[WaitInfo]:
    wanted = waits_filter(cli, words, profile)
    return ListFilter(wanted, MeantWaits(cli, wanted).holds)


SESSION = Noun(
    lists=LIST_SESSIONS,
    table=listing.ListTable(columns=describe.SESSION_COLUMNS, row=describe.session_row),
    argument=arguments.Session,
    find=arguments.session,
    narrow=_sessions_narrowed,
    watches=True,
    helps={"parent": "Only children of this session."},
    unasked=frozenset({"forked_from", "run_status"}),
)
RUN = Noun(
    lists=LIST_RUNS,
    table=listing.ListTable(columns=describe.RUN_COLUMNS, row=describe.run_row),
    argument=arguments.Run,
    find=arguments.run,
    watches=True,
)
WAIT = Noun(
    lists=LIST_WAITS,
    table=listing.ListTable(
        columns=describe.WAIT_COLUMNS,
        row=describe.wait_row,
        narrow=describe.wait_lines,
        nothing="nothing waits for people",
    ),
    none_such="no such wait",
    argument=arguments.Wait,
    find=arguments.wait,
    narrow=_waits_narrowed,
    profiles=True,
    watches=True,
    helps={
        "status": "pending if not given",
        "kind": "input, token or timer; may be repeated.",
        "tag": "Of the wait or of its session.",
        "mine": "Assigned to you or your groups, or answered by one of these.",
        "can_answer": "You may answer it, and have not.",
    },
    unasked=frozenset(
        {"batch_id", "resolved_since", "concerns", "answerable_by", "voter", "answered_by"}
    ),
)
TOKEN = Noun(
    lists=LIST_TOKENS,
    table=listing.ListTable(columns=describe.TOKEN_COLUMNS, row=describe.token_row),
    argument=arguments.Token,
    find=arguments.token,
)
PUBLIC_TOKEN = Noun(
    lists=LIST_PUBLIC_TOKENS,
    table=listing.ListTable(columns=describe.PUBLIC_TOKEN_COLUMNS, row=describe.public_token_row),
    argument=arguments.PublicToken,
    find=arguments.public_token,
)
KEY = Noun(
    lists=LIST_API_KEYS,
    table=listing.ListTable(columns=describe.KEY_COLUMNS, row=describe.key_row),
    argument=arguments.Key,
    find=arguments.key,
)
PERSON_NAME = typer.Argument(
    metavar="PERSON", help="A person's id or e-mail.", autocompletion=arguments.people
)
PERSON = Noun(
    lists=LIST_PEOPLE,
    table=listing.ListTable(
        columns=describe.PERSON_COLUMNS,
        row=describe.person_row,
        nothing="the runtime knows no people; [people.NAME] in its helmr.toml names them",
    ),
    argument=Annotated[str, PERSON_NAME],
)
DELEGATION = Noun(
    lists=LIST_DELEGATIONS,
    table=listing.ListTable(
        columns=describe.DELEGATION_COLUMNS, row=describe.delegation_row, nothing="no one is away"
    ),
    argument=Annotated[str, arguments.argument("DELEGATION")],
    find=arguments.finder(ids.DELEGATION, "delegation", LIST_DELEGATIONS),
)
