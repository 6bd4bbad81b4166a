"""What a query may be: one SELECT over the public views, with functions that only compute.

The engine's own parser says what the text is, and its own tree of the statement is walked: every table must be one of
the views or a CTE of the query, every function one of those that compute from their arguments. What is executed is
the same text. Behind this stand the engine's own walls: a read-only transaction, no files, no extensions, locked
settings (`helmr_runtime.ledger.log.database`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from helmr.errors import BadQuery
from helmr_runtime.ledger.tables.public_views import MACROS, VIEWS

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
            raise BadQuery(f"one statement is taken, not {len(statements)}", hint=FORMS_HINT)
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
