"""Tables of the nouns (`helmr_runtime.core.nouns`): their DDL, their rows written and read, from the declarations.

Rows go in and out by position, in the order of a noun's fields, by code that is made of the declaration once, as that
of dataclasses is: a call per row, none per column. Times come out as microseconds (`rows`), under `…_us`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

import duckdb

from helmr_runtime.core.nouns import (
    Changes,
    NounField,
    PublicTokenRow,
    RunRow,
    SessionRow,
    TokenRow,
    WaitRow,
    fields_of,
)
from helmr_runtime.core.people import Person
from helmr_runtime.ledger.index.features import FactTable
from helmr_runtime.ledger.index.keys import ApiKey
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.engine import BatchStatement

R = TypeVar("R")

_TYPES: Mapping[type, str] = {
    str: "VARCHAR",
    int: "BIGINT",
    bool: "BOOLEAN",
    UUID: "UUID",
    datetime: "TIMESTAMPTZ",
}


def column_of(field: NounField) -> str:
    """The name of a field's column."""
    return field.column.name or field.name


def type_of(field: NounField) -> str:
    """The type of a field's column."""
    column = field.column
    if column.id_of is not None:
        return "UUID"
    if column.words is not None:
        return column.words[0]
    return "INTEGER" if column.is_small else _TYPES[field.kind]


class NounTable(Generic[R]):
    """The table of one noun.

    Args:
        name: The table's.
        noun: Whose fields are its columns.
        view: The view that its rows are read from.
    """

    def __init__(self, name: str, noun: type[R], view: str) -> None:
        self.name = name
        self.noun = noun
        self.view = view
        self.fields = fields_of(noun)
        self.key = next((field for field in self.fields if field.column.is_key), None)
        self.row: Callable[[R], engine.Row] = self._compiled("row: ({})", self._written)
        """A row as it goes in."""
        self.read: Callable[[engine.Row], R] = self._compiled("row: noun({})", self._read)
        """A row of the view as the noun."""
        self._updates: dict[tuple[str, ...], BatchStatement] = {}

    @property
    def statements(self) -> tuple[str, str]:
        """SQL that creates the table, and SQL that creates its view."""
        columns = ", ".join(
            f"{column_of(one)} {type_of(one)}"
            + (" PRIMARY KEY" if one.column.is_key else "" if one.is_optional else " NOT NULL")
            for one in self.fields
        )
        shown = ", ".join(_shown(one) for one in self.fields)
        return (
            f"CREATE TABLE {self.name} ({columns})",
            f"CREATE VIEW {self.view} AS SELECT {shown} FROM {self.name}",  # noqa: S608 - names of our own
        )

    def insert(self, connection: duckdb.DuckDBPyConnection, found: Iterable[R]) -> None:
        """Add rows, in the open transaction."""
        self._insert.execute(connection, [self.row(one) for one in found])

    def replace(
        self, connection: duckdb.DuckDBPyConnection, names: Sequence[str], found: Iterable[R]
    ) -> None:
        """Write the rows of these again, by the first column; a name without a row has none then.

        A noun without a key has its rows taken out before.
        """
        if self.key is not None:
            self.put(connection, found)
            return
        name = column_of(self.fields[0])
        connection.execute(
            f"DELETE FROM {self.name} WHERE {name} IN (SELECT unnest($1::VARCHAR[]))",  # noqa: S608 - names of our own
            [list(names)],
        )
        self.insert(connection, found)

    def put(self, connection: duckdb.DuckDBPyConnection, found: Iterable[R]) -> None:
        """Add rows, in the open transaction; of those that are there what changes is written again."""
        self._put.execute(connection, [self.row(one) for one in found])

    def update(self, connection: duckdb.DuckDBPyConnection, changes: Mapping[str, Changes]) -> None:
        """Change rows by id, in the open transaction: a statement for all that change in the same fields."""
        groups: dict[tuple[str, ...], list[engine.Row]] = {}
        for identity, change in changes.items():
            group = groups.setdefault(tuple(change), [])
            group.append((engine.uuid_of(identity), *self._values(change)))
        for names, group in groups.items():
            self._update_of(names).execute(connection, group)

    def _values(self, change: Changes) -> Iterable[Any]:
        for name, value in change.items():
            yield engine.uuid_or_none(value) if name in self._ids else value

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(one.name for one in self.fields if one.column.id_of is not None)

    @cached_property
    def _insert(self) -> BatchStatement:
        return self._inserting("")

    @cached_property
    def _put(self) -> BatchStatement:
        assert self.key is not None
        changed = [column_of(one) for one in self.fields if one.column.changes]
        sets = ", ".join(f"{name} = excluded.{name}" for name in changed)
        then = f"UPDATE SET {sets}" if sets else "NOTHING"
        return self._inserting(f" ON CONFLICT ({column_of(self.key)}) DO {then}")

    def _inserting(self, conflict: str) -> BatchStatement:
        names = ", ".join(column_of(one) for one in self.fields)
        declared = ", ".join(f"{column_of(one)} {type_of(one)}" for one in self.fields)
        return BatchStatement(f"INSERT INTO {self.name} ({names}) {{rows}}{conflict}", declared)

    def _update_of(self, names: tuple[str, ...]) -> BatchStatement:
        if names not in self._updates:
            by_name = {one.name: one for one in self.fields}
            changed = [by_name[name] for name in names]
            assert self.key is not None
            assert all(one.column.changes for one in changed), names
            sets = ", ".join(f"{column_of(one)} = u.{column_of(one)}" for one in changed)
            key = column_of(self.key)
            self._updates[names] = BatchStatement(
                f"UPDATE {self.name} SET {sets} FROM ({{rows}}) AS u WHERE {self.name}.{key} = u.{key}",  # noqa: S608 - the same
                ", ".join(f"{column_of(one)} {type_of(one)}" for one in (self.key, *changed)),
            )
        return self._updates[names]

    def _compiled(self, form: str, part: Callable[[int, NounField], str]) -> Any:
        body = form.format(", ".join(part(at, one) for at, one in enumerate(self.fields)))
        names = {"noun": self.noun, **vars(engine)}
        return eval(f"lambda {body}", names)  # noqa: S307 - made of the declarations above and nothing else

    @staticmethod
    def _written(at: int, field: NounField) -> str:
        value = f"row.{field.name}"
        if field.column.id_of is None:
            return value
        return f"uuid_or_none({value})" if field.is_optional else f"uuid_of({value})"

    @staticmethod
    def _read(at: int, field: NounField) -> str:
        value, prefix = f"row[{at}]", field.column.id_of
        if prefix is not None:
            made = f"id_of({prefix!r}, {value})"
        elif field.kind is datetime:
            made = f"time_of({value})"
        else:
            return value
        return f"({made} if {value} is not None else None)" if field.is_optional else made


def _shown(field: NounField) -> str:
    name = column_of(field)
    if field.kind is not datetime:
        return name
    return f"epoch_us({name}) AS {name.removesuffix('_at')}_us"


SESSIONS = NounTable("sessions", SessionRow, "session_rows")
RUNS = NounTable("runs", RunRow, "run_rows")
WAITS = NounTable("waits", WaitRow, "wait_rows")
TOKENS = NounTable("tokens", TokenRow, "token_rows")
PUBLIC_TOKENS = NounTable("public_tokens", PublicTokenRow, "public_token_rows")
API_KEYS = NounTable("api_keys", ApiKey, "api_key_rows")
PEOPLE = NounTable("people", Person, "person_rows")


@cache
def table_of(facts: FactTable) -> NounTable[Any]:
    """The table of a feature's things."""
    return NounTable(facts.name, facts.noun, facts.view)


NOUNS: tuple[NounTable[Any], ...] = (
    SESSIONS,
    RUNS,
    WAITS,
    TOKENS,
    PUBLIC_TOKENS,
    API_KEYS,
    PEOPLE,
)


def word_types() -> Iterable[str]:
    """Yield the SQL that creates the enums of the nouns' columns."""
    words = {one.column.words for table in NOUNS for one in table.fields if one.column.words}
    for name, kind in sorted(words, key=lambda one: one[0]):
        members = ", ".join(f"'{member.value}'" for member in kind)
        yield f"CREATE TYPE {name} AS ENUM ({members})"
