"""The views that SQL queries see: `sessions, runs, waits, records, entries, tokens` (docs/sql.md).

They are temporary views of the query's own connection, made again whenever the file is opened: their columns are
this code's, whatever release wrote the file, and they hide the tables of the same names. Hashes of secrets never
stand in them: not as columns, and taken out of the bodies that hold them.

Ids are TypeIDs as everywhere else; a column `…_key` is the same id as a UUID, which costs nothing to read and
joins and groups ten times faster (making a TypeID's text takes about 1.2 µs a row).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from helmr_runtime.core.entries import EntryKind
from helmr_runtime.ledger.tables.table import WAITS, NounTable, column_of

VIEWS = ("sessions", "runs", "waits", "records", "entries", "tokens")
"""The views by name, as documented."""

LATE = ("sessions", "runs", "waits", "tokens")
"""Views of tables that are written a while after what they show; the others read the entries themselves."""

MACROS = ("uuid_of", "typeid_of")
"""Functions of our own that a query may call."""

SECRET_BODIES: Mapping[EntryKind, Sequence[str]] = {
    EntryKind.TOKEN_CREATED: ("callback_hash", "public_token_hash", "verify"),
    EntryKind.PUBLIC_TOKEN_CREATED: ("secret_hash",),
    EntryKind.API_KEY_CREATED: ("secret_hash",),
}
"""Keys that are taken out of an entry's body: hashes of secrets, and a provider's sealed signing secret."""

SEALED_KEYS = ("enc", "sealed")
"""What an encrypted body holds besides its part in the clear (`helmr_runtime.security.payloads`)."""

_IS_ENCRYPTED = """starts_with(body, '{"enc":')"""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, as TypeIDs use it."""

_PAIRS = "".join(high + low for high in _ALPHABET for low in _ALPHABET)
_LOW_60 = 2**60 - 1


def _pair(number: str) -> str:
    """Two characters of an id, for ten bits of it."""
    return f"substr('{_PAIRS}', ({number})::INTEGER * 2 + 1, 2)"


def _typeid_macro() -> str:
    """26 characters: the top 8 bits in two, then twice 60 bits in twelve. Pairs are looked up in one text; two
    divisions of 128 bits a row instead of thirteen."""
    high = f"((id::UHUGEINT >> 60) & {_LOW_60})::UBIGINT"
    low = f"(id::UHUGEINT & {_LOW_60})::UBIGINT"
    pairs = [_pair("(id::UHUGEINT >> 120)::UBIGINT")]
    pairs += [
        _pair(f"({half} >> {shift}) & 1023") for half in (high, low) for shift in range(50, -1, -10)
    ]
    text = f"concat(prefix, '_', {', '.join(pairs)})"
    return f"CREATE OR REPLACE TEMP MACRO typeid_of(prefix, id) AS CASE WHEN id IS NULL THEN NULL ELSE {text} END"


def _uuid_macro() -> str:
    """The UUID of an id's text; NULL if it has not the length of one."""
    digits = [
        f"((strpos('{_ALPHABET}', substr(typeid, -{place + 1}, 1)) - 1)::UHUGEINT << {5 * place})"
        for place in range(25)
    ]
    # The 26th holds the top three bits; shifted as the others it could not overflow, but must stay below 8.
    digits.append(f"((strpos('{_ALPHABET}', substr(typeid, -26, 1)) - 1)::UHUGEINT << 125)")
    number = " + ".join(digits)
    return (
        "CREATE OR REPLACE TEMP MACRO uuid_of(typeid) AS "
        f"CASE WHEN length(typeid) >= 26 THEN ({number})::UUID END"
    )


def _principal(column: str) -> str:
    """A principal's four parts."""
    parts = ("type", "id", "name")
    shown = [f"json_extract_string({column}, '$.{part}') AS principal_{part}" for part in parts]
    return ", ".join([*shown, f"json_extract_string({column}, '$.on_behalf_of') AS on_behalf_of"])


def _body() -> str:
    """A body as it is stored, without what is secret; of an encrypted one the part in the clear."""
    cases = " ".join(
        f"WHEN kind = '{kind.value}' THEN json_merge_patch(body, '{_patch(keys)}')::VARCHAR"
        for kind, keys in SECRET_BODIES.items()
    )
    clear = f"WHEN {_IS_ENCRYPTED} THEN json_merge_patch(body, '{_patch(())}')::VARCHAR"
    return f"CASE {cases} {clear} ELSE body END"


def _patch(keys: Sequence[str]) -> str:
    return "{" + ",".join(f'"{key}":null' for key in (*keys, *SEALED_KEYS)) + "}"


def _columns(table: NounTable[Any]) -> str:
    """A noun's columns in order, under their fields' names: of an id its text, and itself as `…_key`."""
    shown = []
    for one in table.fields:
        name = column_of(one)
        if one.column.id_of is not None:
            key = one.name.removesuffix("_id") + "_key"
            shown += [f"typeid_of('{one.column.id_of}', {name}) AS {one.name}", f"{name} AS {key}"]
        else:
            shown.append(f"{name}::VARCHAR AS {name}" if one.column.words else name)
    return ", ".join(shown)


def _views(base: str) -> dict[str, str]:
    """Each view's SELECT over the tables, which `base` qualifies."""
    return {
        "sessions": f"""
            SELECT typeid_of('ses', session) AS session_id, session AS session_key, task, external_id,
                status::VARCHAR AS status, activity::VARCHAR AS activity, tags, metadata,
                typeid_of('run', run) AS run_id, run AS run_key, typeid_of('wait', wait) AS wait_id,
                wait AS wait_key, next_seq - 1 AS entry_count, created_at, updated_at, created_offset,
                last_offset, typeid_of('ses', origin) AS forked_from, origin AS forked_from_key,
                origin_seq AS forked_from_seq, typeid_of('ses', parent) AS parent_id,
                parent AS parent_key, typeid_of('run', parent_run) AS parent_run_id,
                parent_op
            FROM {base}.sessions""",
        "runs": f"""
            SELECT typeid_of('run', run) AS run_id, run AS run_key, typeid_of('ses', session) AS session_id,
                session AS session_key, task, status::VARCHAR AS status, attempt, created_at, retry_at,
                ended_at, created_offset, outcome_offset
            FROM {base}.runs""",
        "waits": f"SELECT {_columns(WAITS)} FROM {base}.waits",
        "records": f"""
            SELECT json_extract_string(body, '$.record_id') AS record_id,
                typeid_of('ses', session) AS session_id, session AS session_key,
                typeid_of('run', run) AS run_id, run AS run_key,
                CASE kind WHEN 'input.accepted' THEN 'input' ELSE 'output' END AS direction,
                json_extract_string(body, '$.stream') AS stream,
                CAST(json_extract(body, '$.stream_seq') AS INTEGER) AS stream_seq,
                json_extract(body, '$.data')::VARCHAR AS data,
                json_extract_string(body, '$.correlation_id') AS correlation_id,
                json_extract_string(body, '$.outcome') AS outcome, {_principal("principal")},
                recorded_at AS created_at, seq, feed_offset, {_IS_ENCRYPTED} AS is_encrypted
            FROM {base}.entries WHERE kind IN ('input.accepted', 'output.appended')""",
        "entries": f"""
            SELECT feed_offset, CASE WHEN session <> '{"0" * 8}-0000-0000-0000-{"0" * 12}'
                    THEN typeid_of('ses', session) END AS session_id,
                session AS session_key, seq, recorded_at, kind, typeid_of('run', run) AS run_id,
                run AS run_key, op, {_principal("principal")}, {_body()} AS body,
                {_IS_ENCRYPTED} AS is_encrypted
            FROM {base}.entries""",
        "tokens": f"""
            SELECT typeid_of('tok', token) AS token_id, token AS token_key,
                CASE WHEN session <> '{"0" * 8}-0000-0000-0000-{"0" * 12}'
                    THEN typeid_of('ses', session) END AS session_id,
                session AS session_key, tags, has_schema, status::VARCHAR AS status, created_at,
                expires_at, ended_at, created_offset, nullif(ended_offset, 0) AS ended_offset
            FROM {base}.tokens WHERE parent IS NULL""",
    }  # fmt: skip


def make_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views in this connection, for it alone."""
    ((database,),) = connection.execute("SELECT current_database()").fetchall()
    name = str(database).replace('"', '""')
    # Qualified: inside a temporary view `main` is the temporary schema.
    base = f'"{name}".main'
    connection.execute(_typeid_macro())
    connection.execute(_uuid_macro())
    for view, select in _views(base).items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {select}")


def reads_late(sql: str) -> bool:
    """The text may read a view of `LATE`: SQL can't name one without writing its name out."""
    text = sql.casefold()
    return any(view in text for view in LATE)


def columns_of(connection: duckdb.DuckDBPyConnection, view: str) -> list[tuple[str, str]]:
    """A view's columns and their types, in order."""
    assert view in VIEWS
    relation = connection.sql(f"SELECT * FROM {view} LIMIT 0")
    return [(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
