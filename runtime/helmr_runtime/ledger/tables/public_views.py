"""Views and limits of SQL queries: one SELECT over `sessions, runs, waits, records, entries, tokens` (docs/sql.md).

These are temporary views of the query's own connection, made again whenever the file is opened: their columns are
this code's, whatever release wrote the file, and they hide the tables of the same names. Hashes of secrets never
stand in them: not as columns, and taken out of the bodies that hold them.

Ids are TypeIDs as everywhere else; a column `…_key` is the same id as a UUID, which costs nothing to read and
joins and groups ten times faster (making a TypeID's text takes about 1.2 µs a row).

The engine's own parser parses the query, and we walk its tree: every table must be one of the views or a CTE of the
query, every function one that computes from its arguments. The engine then executes the same text. A second line of
defence is the engine's own: a read-only transaction, no files, no extensions,
locked settings (`helmr_runtime.ledger.log.database`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from helmr.errors import BadQuery
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


Connection = duckdb.DuckDBPyConnection

TABLE_FUNCTIONS = frozenset(("range", "generate_series", "unnest", "json_each", "json_tree"))
"""Functions that give rows out of their arguments; all others read files, settings, the catalog or, as `histogram`
does, whichever table they are given by name."""

HARMLESS_VOLATILE = frozenset(("random", "gen_random_uuid", "uuid", "uuidv4", "uuidv7"))
"""Volatile, but no more than that; what else the engine calls volatile touches state or waits."""

NAMELESS = frozenset(
    ("unnest", "coalesce", "case", "grouping", "grouping_id", "try", "columns", "exists", "any")
)
"""Forms of the grammar that the tree shows as functions and the catalog does not list."""

REFUSED = frozenset(
    (
        # What the runtime is and how it is set up.
        "current_setting", "getvariable", "getenv", "in_search_path", "txid_current", "version",
        "parse_duckdb_log_message", "current_catalog", "current_database", "current_query", "current_role",
        "current_schema", "current_schemas", "current_user", "session_user", "user", "get_block_size",
        "col_description", "obj_description", "shobj_description", "format_type",
        # Plans and texts of statements.
        "json_serialize_sql", "json_serialize_plan", "json_deserialize_sql",
        # One call may make gigabytes out of a number, in memory that no limit counts, and can't be interrupted.
        "repeat", "lpad", "rpad", "printf", "format", "bar", "list_resize", "array_resize", "bitstring",
    )
)  # fmt: skip
"""Functions that compute from more than their arguments, or too much from them."""

REFUSED_AS_SCALARS = frozenset(("range", "generate_series"))
"""As table functions they stream; as scalars they make one list, however long."""

_REFUSED_FAMILIES = re.compile(r"^(pg_(?!size_pretty$|typeof$)|has_|inet_)")

_PARAMETER_HINT = "Write values into the text; a query takes no parameters."
VIEWS_HINT = f"Queries read the views {', '.join(VIEWS)}: see docs/sql.md."
FORMS_HINT = "A query is one SELECT; see docs/sql.md for what it may hold."

_TABLES = frozenset(
    (
        "BASE_TABLE",
        "SUBQUERY",
        "JOIN",
        "TABLE_FUNCTION",
        "EMPTY",
        "EMPTY_FROM",
        "EXPRESSION_LIST",
        "PIVOT",
    )
)
_NODES = frozenset(("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"))

Node = dict[str, Any]


class Guard:
    """Checks the queries of one connection; asks once what the engine has."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._relations = _relations(connection)
        self._functions = _functions(connection)

    def check(self, sql: str) -> None:
        """Return if the text is a query that may run.

        Raises:
            BadQuery: Says what is wrong, and where to look.
        """
        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise refused_by_engine(error) from error
        if not statements:
            raise BadQuery("the query is empty", hint=FORMS_HINT)
        if len(statements) > 1:
            raise BadQuery(f"give one statement, not {len(statements)}", hint=FORMS_HINT)
        try:
            kind = statements[0].type
        except ValueError as error:  # a kind that the engine's Python does not know
            raise BadQuery("this is refused: a query only reads", hint=FORMS_HINT) from error
        if kind == duckdb.StatementType.MULTI:
            raise BadQuery("PIVOT is refused without IN, which names its columns", hint=FORMS_HINT)
        if kind != duckdb.StatementType.SELECT:
            raise BadQuery(f"{kind.name} is refused: a query only reads", hint=FORMS_HINT)
        self._check_tree(_tree(self._connection, sql))

    def _check_tree(self, tree: Node) -> None:
        ctes = {name for node, _ in _nodes(tree) for name in _cte_names(node)}
        for name in sorted(ctes & self._relations):
            # Outside its scope such a name would mean the relation itself.
            raise BadQuery(f"a CTE can't be named {name!r} here", hint="Give it another name.")
        for node, makes_rows in _nodes(tree):
            if "function_name" in node:
                _check_function(node, TABLE_FUNCTIONS if makes_rows else self._functions)
            else:
                _check_node(node, ctes)


def refused_by_engine(error: duckdb.Error) -> BadQuery:
    """The engine can't read or run the text."""
    text = str(error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return BadQuery(" ".join(lines[:2])[:500] if lines else type(error).__name__, hint=VIEWS_HINT)


def _tree(connection: Connection, sql: str) -> Node:
    ((text,),) = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchall()
    try:
        tree: Node = json.loads(text)
    except RecursionError as error:
        raise BadQuery("the query nests too deeply", hint=FORMS_HINT) from error
    if tree.get("error"):
        raise BadQuery(
            str(tree.get("error_message", "the query can't be read"))[:500], hint=FORMS_HINT
        )
    return tree


def _nodes(tree: Any) -> Iterator[tuple[Node, bool]]:
    """Every object of the tree, and whether it is the function of a table function.

    Without recursion: a text of 64 KiB may nest deeply.
    """
    waiting = [(tree, False)]
    while waiting:
        item, makes_rows = waiting.pop()
        if isinstance(item, dict):
            yield item, makes_rows
            is_call = item.get("type") == "TABLE_FUNCTION"
            waiting += [(value, is_call and key == "function") for key, value in item.items()]
        elif isinstance(item, list):
            waiting += [(value, False) for value in item]


def _cte_names(node: Node) -> Iterator[str]:
    cte_map = node.get("cte_map")
    if isinstance(cte_map, dict):
        for item in cte_map.get("map", ()):
            yield str(item["key"]).lower()
    if node.get("type") in ("RECURSIVE_CTE_NODE", "CTE_NODE") and "cte_name" in node:
        yield str(node["cte_name"]).lower()


def _check_node(node: Node, ctes: set[str]) -> None:
    kind = node.get("type")
    if "class" in node:
        if node["class"] == "PARAMETER":
            raise BadQuery("the query has a parameter", hint=_PARAMETER_HINT)
    elif isinstance(kind, str) and kind.endswith("_NODE") and kind not in _NODES:
        raise BadQuery(
            f"{kind.removesuffix('_NODE')} is refused: a query only reads", hint=FORMS_HINT
        )
    elif "sample" in node and "alias" in node:
        # Only tables have both.
        if kind not in _TABLES:
            raise BadQuery(f"{str(kind).removesuffix('_REF')} is refused here", hint=VIEWS_HINT)
        if kind == "BASE_TABLE":
            _check_table(node, ctes)


def _check_table(node: Node, ctes: set[str]) -> None:
    name = str(node["table_name"])
    path = [part for part in (node.get("catalog_name"), node.get("schema_name"), name) if part]
    if len(path) > 1 or (name.lower() not in VIEWS and name.lower() not in ctes):
        raise BadQuery(f"there is no view {'.'.join(path)!r}", hint=VIEWS_HINT)
    if node.get("at_clause") is not None:
        raise BadQuery("AT is refused here", hint=FORMS_HINT)


def _check_function(node: Node, allowed: frozenset[str]) -> None:
    name = str(node["function_name"]).lower()
    if node.get("schema") or node.get("catalog") or name not in allowed:
        raise BadQuery(
            f"the function {name!r} is not for queries",
            hint="Functions that compute from their arguments are; see docs/sql.md.",
        )


def _relations(connection: Connection) -> frozenset[str]:
    """Every table and view there is, but for the public ones."""
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views()"
    ).fetchall()
    return frozenset(str(row[0]).lower() for row in found) - set(VIEWS)


def _functions(connection: Connection) -> frozenset[str]:
    """The functions that compute from their arguments alone."""
    found = connection.execute(
        "SELECT DISTINCT lower(function_name), stability = 'VOLATILE' OR has_side_effects "
        "FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'window', 'macro')"
    ).fetchall()
    names = {name for name, is_volatile in found if not is_volatile or name in HARMLESS_VOLATILE}
    names = {name for name in names if not _REFUSED_FAMILIES.match(name)}
    return frozenset((names | NAMELESS | set(MACROS)) - REFUSED - REFUSED_AS_SCALARS)
