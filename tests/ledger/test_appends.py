"""Few rows are written in another form than many; what is stored is the same."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import duckdb
import pytest

from helmr_runtime.ledger.tables.appends import ENTRIES, VALUES_MAX
from helmr_runtime.ledger.tables.engine import AT_ONCE, MANY
from helmr_runtime.ledger.tables.schema import make


@pytest.mark.parametrize("count", [0, 1, VALUES_MAX, VALUES_MAX + 1, MANY - 1, MANY, AT_ONCE + 1])
@pytest.mark.parametrize("has_none", [False, True])
def test_every_value_of_an_entry_is_stored_as_it_is(count: int, has_none: bool) -> None:
    rows = [
        (
            number + 2**40,
            UUID(int=number),
            number,
            datetime(2026, 1, 2, 3, 4, 5, number, tzinfo=UTC),
            "note.added",
            None if has_none else UUID(int=7),
            None if has_none and number % 2 else number,
            '{"type":"runtime"}',
            """{"text":"it's \\u0000 $1 ? 'quoted' ☃"}""" * (number % 9),
            bytes([0, 255, number % 256]),
        )
        for number in range(1, count + 1)
    ]
    connection = duckdb.connect()
    make(connection)
    connection.execute("SET TimeZone = 'UTC'")
    ENTRIES.execute(connection, rows)
    stored = connection.execute("SELECT * FROM entries ORDER BY feed_offset").fetchall()
    connection.close()
    assert stored == rows
