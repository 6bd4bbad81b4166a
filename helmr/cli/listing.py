"""Lists: one page or all, only what `--filter` means, as a table, ids, CSV or JSON, once or as it changes."""

from __future__ import annotations

import csv
import io
import itertools
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, now
from helmr.errors import UsageError
from helmr.person import filters
from helmr.wire.safe_text import one_line

if TYPE_CHECKING:
    from pydantic import BaseModel

    from helmr.models import Page, SessionInfo, WaitInfo
    from helmr.person.review.personal import PersonalFiles

M = TypeVar("M", bound="BaseModel")

PAGES_SEARCHED_MAX = 100
"""A filter that hardly anything passes ends its search here, and says that there is more."""
PAGE_MAX = 200
"""Items of a page behind the first one, where a filter goes on looking."""
WATCH_EVERY_S = 2.0
ABOVE = "\x1b[H\x1b[2J"
"""Clears a terminal, with the cursor at its top."""


class ListForm(StrEnum):
    """Output formats of a list."""

    TABLE = "table"
    NAME = "name"
    CSV = "csv"


Output = Annotated[
    ListForm,
    typer.Option(
        "--output", "-o", help="`table`, `csv`, or `name`: only the ids or names, one per line."
    ),
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        help="Show it as it changes, until Ctrl-C; in a pipe, print a line for each change.",
    ),
]

Fetch = Callable[[str | None, int], "Page[M]"]
"""A page, from its cursor and with so many items at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTable(Generic[M]):
    """Layout of one kind of thing in a list.

    Attributes:
        columns: Headings; ours.
        row: Its cells; text of sessions.
        name: Returns the name of one.
        narrow: Its lines on a terminal that has no room for the table.
        nothing: The line to print for an empty list.
    """

    columns: Sequence[str]
    row: Callable[[M], Sequence[object]]
    name: Callable[[M], str] = lambda one: str(getattr(one, "id"))  # noqa: B009 - of any model
    narrow: Callable[[M], Iterable[str]] | None = None
    nothing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted(Generic[M]):
    """The part of a list that is wanted, and its output format.

    Attributes:
        passes: Only the items for which it is true; pages follow until there are `limit` of them.
        watch: Go on showing it.
    """

    limit: int = 50
    cursor: str | None = None
    every: bool = False
    json: bool = False
    output: ListForm = ListForm.TABLE
    watch: bool = False
    passes: Callable[[M], bool] | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.json and self.output is not ListForm.TABLE:
            raise UsageError("--json and --output name two forms", hint="Give one of them.")
        if self.watch and self.cursor is not None:
            raise UsageError("--watch shows a list from its beginning", hint="Leave --cursor out.")
        if self.watch and self.output is not ListForm.TABLE:
            raise UsageError("--watch prints a table or --json", hint="Leave --output out.")


def show(fetch: Fetch[M], table: ListTable[M], wanted: Wanted[M]) -> None:
    """Print the list, or watch it."""
    if wanted.watch:
        _watch(fetch, table, wanted)
        return
    items, cursor = read(fetch, wanted)
    if wanted.json:
        printing.write_json_list(items, cursor)
        return
    if wanted.output is ListForm.NAME:
        for one in items:
            printing.write_line(table.name(one))
    elif wanted.output is ListForm.CSV:
        _write_csv(table, items)
    else:
        _write_table(table, items, cursor)
    if cursor is not None:
        printing.note(f"There is more: --all, or --cursor {cursor}")


def read(fetch: Fetch[M], wanted: Wanted[M]) -> tuple[list[M], str | None]:
    """The items, and the cursor behind the last of them; None at the end of the list.

    Where more pass on a page than are wanted, that page is read once more up to the last of them, so that the cursor
    leaves none out.
    """
    passes = wanted.passes or (lambda one: True)
    items: list[M] = []
    cursor, size = wanted.cursor, wanted.limit
    for _ in itertools.count() if wanted.every else range(PAGES_SEARCHED_MAX):
        page = fetch(cursor, size)
        left = wanted.limit - len(items)
        places = [place for place, one in enumerate(page.items) if passes(one)]
        while not wanted.every and len(places) > left:
            page = fetch(cursor, places[left - 1] + 1)
            places = [place for place, one in enumerate(page.items) if passes(one)]
        items += [page.items[place] for place in places]
        cursor = page.next_cursor
        if cursor is None or (not wanted.every and len(items) >= wanted.limit):
            break
        if wanted.passes is None and not wanted.every:
            break  # a page that the runtime cut short is what one gets
        size = PAGE_MAX if wanted.passes is not None else wanted.limit
    return items, cursor


def _write_table(table: ListTable[M], items: list[M], cursor: str | None) -> None:
    is_seen = printing.is_terminal(sys.stdout)
    if items or not is_seen:
        narrow = table.narrow
        lines = None if narrow is None else lambda: (line for i in items for line in narrow(i))
        printing.table(table.columns, [table.row(item) for item in items], narrow=lines)
    if not items and cursor is None and (table.nothing is not None or is_seen):
        printing.note(table.nothing or "there are none")


def _write_csv(table: ListTable[M], items: list[M]) -> None:
    """Write the table's columns as CSV; a terminal gets safe text."""
    sink = io.StringIO()
    rows = csv.writer(sink, lineterminator="\n")
    rows.writerow(heading.lower().replace(" ", "_") for heading in table.columns)
    rows.writerows([_csv_cell(value) for value in table.row(item)] for item in items)
    is_seen = printing.is_terminal(sys.stdout)
    for line in sink.getvalue().splitlines() if is_seen else [sink.getvalue().removesuffix("\n")]:
        printing.write(one_line(line, None) if is_seen else line)


def _csv_cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(part) for part in value)
    return "" if value is None else str(value)


def _watch(fetch: Fetch[M], table: ListTable[M], wanted: Wanted[M]) -> None:
    """Show the list again each time that it has changed, until Ctrl-C."""
    is_seen = printing.is_terminal(sys.stdout) and not wanted.json
    before: dict[str, M] | None = None
    while True:
        items, cursor = read(fetch, wanted)
        if is_seen:
            printing.write(
                f"{ABOVE}{now():%H:%M:%S} UTC, every {WATCH_EVERY_S:g} s; Ctrl-C ends it"
            )
            _write_table(table, items, cursor)
        else:
            found = {table.name(one): one for one in items}
            for change, one in changes(before or {}, found):
                _write_change(change, one, table, json=wanted.json)
            before = found
        time.sleep(WATCH_EVERY_S)


def changes(before: dict[str, M], after: dict[str, M]) -> list[tuple[str, M]]:
    """The changes to report: `gone` with what was last seen, `changed` and `new` in the list's order."""
    gone = [("gone", one) for name, one in before.items() if name not in after]
    there = [
        ("changed" if name in before else "new", one)
        for name, one in after.items()
        if before.get(name) != one
    ]
    return [*gone, *there]


def _write_change(change: str, one: M, table: ListTable[M], *, json: bool) -> None:
    if json:
        said: dict[str, Any] = {"change": change}
        printing.write_json({**said, "item": one.model_dump(mode="json", by_alias=True)})
        return
    cells = [text for value in table.row(one) if (text := printing.cell(value))]
    printing.write_line(printing.GAP.join([f"{change:<7}", *cells]))


# --- what --filter means ----------------------------------------------------------------------------


def waits_filter(cli: Cli, text: str | None, profile: str | None) -> filters.Filter:
    """The filter that these options say.

    Raises:
        BadFilter: It can't be read.
        UsageError: There is no such profile, or the filter needs to know who looks, and nothing says it.
    """
    from helmr.client.profiles import read_profile

    given = text or ""
    if given or profile is not None:
        given = read_profile(os.environ, profile).meant(given)
    wanted = filters.parse(given, filters.WAIT_FIELDS)
    if wanted.asks_who and cli.me() is None:
        raise UsageError("is:mine needs to know who you are", hint="--on-behalf-of NAME")
    return wanted


def pushing(
    page: Callable[..., Page[M]], wanted: filters.Filter
) -> Callable[[str | None, int], Page[M]]:
    """Return a reader of pages that lets the gateway filter as far as it can.

    The gateway matches texts by exact case, a filter ignores case: if the gateway finds nothing, the texts are matched
    here.
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


def session_passes(wanted: filters.Filter) -> Callable[[SessionInfo], bool]:
    """Return a predicate for sessions; it reads the clock at each call."""
    return lambda one: wanted.matches(filters.session_facts(one), now())


class MeantWaits:
    """Waits that a filter means to one person on this machine; that person's files are read on first use.

    Args:
        cli: Says on whose behalf it is looked.
        wanted: The filter.
    """

    def __init__(self, cli: Cli, wanted: filters.Filter) -> None:
        self.wanted = wanted
        self._cli = cli

    @cached_property
    def _snoozed(self) -> Collection[str]:
        return own_files(self._cli).snoozes.read(now())

    @cached_property
    def _begun(self) -> Collection[str]:
        return own_files(self._cli).drafts.wait_ids()

    @cached_property
    def _me(self) -> str | None:
        return self._cli.me() if self.wanted.asks_who else None

    def holds(self, wait: WaitInfo, at: datetime | None = None) -> bool:
        """True if the filter matches the wait, now or at that time."""
        at = at or now()
        facts = filters.wait_facts(
            wait,
            at,
            self._me,
            snoozed=self.wanted.says("snoozed") and wait.id in self._snoozed,
            drafted=self.wanted.says("draft") and wait.id in self._begun,
        )
        return self.wanted.matches(facts, at)

    def asks(self, wait: WaitInfo, at: datetime | None = None) -> bool:
        """True if the filter matches the wait and does not hide it; snoozed waits need a filter that names them."""
        is_hidden = not self.wanted.says("snoozed") and wait.id in self._snoozed
        return not is_hidden and self.holds(wait, at)


def own_files(cli: Cli) -> PersonalFiles:
    """Return the files that this person keeps on this machine; the console shares them.

    Raises:
        UsageError: The console's settings, which may name the person, can't be read.
    """
    from helmr.client.profiles import person, state_folder
    from helmr.person.review.personal import PersonalFiles

    return PersonalFiles.within(state_folder(os.environ), person(os.environ, cli.on_behalf_of))


WAIT_PAGES_MAX = 25
"""Pages read of the inbox: 5,000 waits."""


def all_waits(page: Callable[..., Page[WaitInfo]], **query: Any) -> Iterator[WaitInfo]:
    """The waits of these pages, `WAIT_PAGES_MAX` at most."""
    cursor = None
    for _ in range(WAIT_PAGES_MAX):
        found = page(limit=PAGE_MAX, cursor=cursor, **query)
        yield from found.items
        cursor = found.next_cursor
        if cursor is None:
            return
