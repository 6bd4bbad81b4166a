"""The table of a feature's things: rows are written again by their key, or taken out before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import duckdb
import pytest

from helmr_runtime.core.nouns import CHANGES, NounColumn
from helmr_runtime.ledger.tables.table import NounTable


@dataclass(frozen=True, slots=True)
class MarbleRow:
    """A thing that is written once."""

    name: Annotated[str, NounColumn("marble", is_key=True)]
    written_offset: int


@dataclass(frozen=True, slots=True)
class CountedRow:
    """A thing of which something changes."""

    name: Annotated[str, NounColumn("counted", is_key=True)]
    written_offset: int
    seen: Annotated[int, CHANGES]


@pytest.mark.parametrize(
    ("noun", "first", "again"),
    [(MarbleRow, ("red", 7), ("red", 7)), (CountedRow, ("red", 7, 1), ("red", 7, 2))],
    ids=["nothing changes", "a field changes"],
)
def test_a_row_with_a_key_is_written_again_as_far_as_it_changes(
    noun: type, first: tuple[object, ...], again: tuple[object, ...]
) -> None:
    table: NounTable[Any] = NounTable("things", noun, "thing_rows")
    with duckdb.connect() as connection:
        for statement in table.statements:
            connection.execute(statement)
        for row in (first, again):
            table.replace(connection, ["red"], [noun(*row)])
        rows = connection.execute("SELECT * FROM thing_rows").fetchall()
    assert rows == [again]
