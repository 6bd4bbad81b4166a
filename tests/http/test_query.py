"""SQL over the public views, through the real route over a real DuckDB ledger."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import duckdb
import pytest
import pytest_asyncio

from helmr.errors import BadQuery, MissingExtra
from helmr.wire.query import ARROW_MEDIA_TYPE, QueryResult
from helmr_runtime.ledger.tables.public_views import VIEWS
from tests.longer import long_but
from tests.service.stack import Stack, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A runtime with one session that waits, for all tests of the module.

    Its queries do not step back: beside tests that compute, one would have a sixtieth of a core.
    """
    stack = Stack(tmp_path_factory.mktemp("query"))
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("helmr_runtime.ledger.query.NICENESS", 0)
            await stack.start()
            await stack.started(external_id="pr-7", tags=["a"])
            yield stack
    finally:
        await stack.stop()


async def asked(stack: Stack, sql: str, **parts: Any) -> dict[str, Any]:
    """The answer of a query that runs."""
    response = await stack.http.post("/v1/query", json={"sql": sql, **parts})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def value(stack: Stack, sql: str) -> Any:
    """The one value of a query."""
    return (await asked(stack, sql))["rows"][0][0]


REFUSED = {
    # It writes.
    "insert": ("INSERT INTO sessions VALUES (1)", "INSERT is refused"),
    "update": ("UPDATE entries SET body = '{}'", "UPDATE is refused"),
    "delete": ("DELETE FROM waits", "DELETE is refused"),
    "delete in a CTE": ("WITH gone AS (DELETE FROM sessions RETURNING *) SELECT * FROM gone", "DELETE_QUERY"),
    "insert in a CTE": ("WITH x AS (INSERT INTO main.meta VALUES ('a', 1) RETURNING *) SELECT 1", "refused"),
    "create": ("CREATE TABLE t (a INTEGER)", "CREATE is refused"),
    "create temp": ("CREATE TEMP VIEW sessions AS SELECT 1", "CREATE is refused"),
    "drop": ("DROP VIEW sessions", "DROP is refused"),
    "begin": ("BEGIN TRANSACTION", "TRANSACTION is refused"),
    "commit": ("COMMIT", "TRANSACTION is refused"),
    "checkpoint": ("CHECKPOINT", "refused"),
    "prepare": ("PREPARE p AS SELECT 1", "PREPARE is refused"),
    "call": ("CALL checkpoint()", "CALL is refused"),
    "explain analyze": ("EXPLAIN ANALYZE SELECT 1", "EXPLAIN is refused"),
    # It attaches.
    "attach": ("ATTACH ':memory:' AS other", "ATTACH is refused"),
    "detach": ("DETACH helmr", "DETACH is refused"),
    "use": ("USE memory", "refused"),
    # It reads or writes files.
    "file by name": ("FROM '/etc/passwd'", "there is no view"),
    "csv": ("SELECT * FROM read_csv('/etc/passwd')", "'read_csv' is not for queries"),
    "text": ("SELECT * FROM read_text('/etc/passwd')", "'read_text' is not for queries"),
    "parquet": ("SELECT * FROM parquet_scan('x.parquet')", "'parquet_scan' is not for queries"),
    "glob": ("SELECT * FROM glob('/etc/*')", "'glob' is not for queries"),
    "file in a subquery": ("SELECT (SELECT count(*) FROM read_blob('/etc/passwd'))", "'read_blob'"),
    "file in values": ("VALUES ((SELECT content FROM read_text('/etc/passwd')))", "'read_text'"),
    "copy out": ("COPY sessions TO '/tmp/x.csv'", "COPY is refused"),
    "export": ("EXPORT DATABASE '/tmp/x'", "EXPORT is refused"),
    # It installs.
    "install": ("INSTALL httpfs", "LOAD is refused"),
    "load": ("LOAD httpfs", "LOAD is refused"),
    "update extensions": ("UPDATE EXTENSIONS", "this is refused"),
    # It sets or reads settings.
    "set": ("SET threads = 64", "SET is refused"),
    "set global": ("SET GLOBAL enable_external_access = true", "SET is refused"),
    "pragma": ("PRAGMA database_list", "PRAGMA is refused"),
    "read a setting": ("SELECT current_setting('memory_limit')", "'current_setting' is not for queries"),
    "settings": ("SELECT * FROM duckdb_settings()", "'duckdb_settings' is not for queries"),
    "secrets": ("SELECT * FROM duckdb_secrets()", "'duckdb_secrets' is not for queries"),
    "which secret": ("SELECT * FROM which_secret('a', 'b')", "'which_secret'"),
    "environment": ("SELECT getenv('HOME')", "'getenv' is not for queries"),
    "variable": ("SELECT getvariable('x')", "'getvariable'"),
    # It looks at the catalog.
    "tables": ("SHOW TABLES", "SHOW is refused"),
    "describe": ("DESCRIBE sessions", "SHOW is refused"),
    "functions": ("SELECT * FROM duckdb_functions()", "'duckdb_functions'"),
    "information schema": ("SELECT * FROM information_schema.tables", "there is no view"),
    "pg_catalog": ("SELECT * FROM pg_catalog.pg_class", "there is no view"),
    "view text": ("SELECT pg_get_viewdef(1)", "'pg_get_viewdef'"),
    # It reads a table behind the views.
    "base table": ("SELECT * FROM main.entries", "there is no view 'main.entries'"),
    "base table with database": ("SELECT * FROM helmr.main.entries", "there is no view"),
    "keys": ("SELECT secret_hash FROM api_keys", "there is no view 'api_keys'"),
    "rows of tokens": ("SELECT callback_hash FROM token_rows", "there is no view 'token_rows'"),
    "base table by a CTE's name": (
        "SELECT * FROM (WITH api_keys AS (SELECT 1) SELECT 1), api_keys", "can't be named 'api_keys'",
    ),
    "base table in a macro": ("FROM histogram(api_keys, secret_hash)", "'histogram' is not for queries"),
    "bodies as they are stored": ("FROM histogram(helmr.main.entries, body)", "'histogram' is not"),
    "types of the catalog": ("SELECT format_type(1, 2)", "'format_type' is not for queries"),
    "base table by its name as text": ("SELECT * FROM query_table('api_keys')", "'query_table'"),
    "query as text": ("SELECT * FROM query('SELECT * FROM main.api_keys')", "'query' is not"),
    "serialized": ("SELECT * FROM json_execute_serialized_sql('{}')", "'json_execute_serialized_sql'"),
    "the past of a table": ("SELECT * FROM entries AT (VERSION => 1)", "AT is refused"),
    "qualified function": ("SELECT system.main.abs(1)", "'abs' is not for queries"),
    # It is not one statement, or none.
    "two statements": ("SELECT 1; SELECT 2", "give one statement, not 2"),
    "second one behind a comment": ("SELECT 1 /* ; */; DROP TABLE entries", "give one statement"),
    "no statement": ("-- nothing", "empty"),
    "no SQL": ("selec 1", "syntax error"),
    "parameter": ("SELECT $1", "parameter"),
    # It acts on the runtime, or makes gigabytes in one call that can't be interrupted.
    "sleep": ("SELECT sleep_ms(100000)", "'sleep_ms'"),
    "log": ("SELECT write_log('x')", "'write_log'"),
    "sequence": ("SELECT nextval('x')", "'nextval'"),
    "repeat": ("SELECT length(repeat('a', 4000000000))", "'repeat' is not for queries"),
    "pad": ("SELECT lpad('a', 2000000000, 'b')", "'lpad'"),
    "long list": ("SELECT len(range(1000000000))", "'range' is not for queries"),
    # It can't be bound.
    "pivot over what there is": ("PIVOT entries ON kind USING count(*)", "PIVOT is refused without IN"),
    "no such column": ("SELECT nope FROM sessions", "nope"),
    "no such view": ("SELECT * FROM nope", "there is no view 'nope'"),
    "bad cast": ("SELECT 'a'::INTEGER", "Could not convert"),
    # No result holds its values as they are.
    "unsigned 128 bits": ("SELECT 340282366920938463463374607431768211455::UHUGEINT", "UHUGEINT"),
    "bits in a list": ("SELECT [{'a': '101'::BIT}] AS x", "column 'x' has a type that no result can hold: BIT"),
    "time with a zone": ("SELECT '12:30:00+02'::TIMETZ AS t", "TIME WITH TIME ZONE"),
    "variant": ("SELECT 5::VARIANT", "VARIANT"),
    "infinite time": ("SELECT 'infinity'::TIMESTAMPTZ", "the years 1 to 9999"),
    "date before Christ": ("SELECT [DATE '0044-03-15 (BC)']", "the years 1 to 9999"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_what_a_query_may_not_is_refused_with_one_clear_error(
    stack: Stack, name: str
) -> None:
    sql, words = REFUSED[name]
    response = await stack.http.post("/v1/query", json={"sql": sql})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "bad_query"), problem
    assert words in problem["detail"]
    assert problem["hint"]
    assert "\n" not in problem["detail"]


ENDED = {
    "runs for ever": (
        "SELECT count(*) FROM range(100000000000) t(i) WHERE hash(i) % 7 = 3", "query_timeout", "after 0.5 s",
    ),
    "recurs for ever": (
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
        "query_timeout", "after 0.5 s",
    ),
    "sorts a billion rows": (
        "SELECT i FROM range(1000000000) t(i) ORDER BY hash(i)", "query_too_large", "500 MB",
    ),
    "returns too many bytes": (
        "SELECT md5(i::VARCHAR) || md5(i::VARCHAR) || md5(i::VARCHAR) || md5(i::VARCHAR) || "
        "md5(i::VARCHAR) || md5(i::VARCHAR) || md5(i::VARCHAR) || md5(i::VARCHAR) || "
        "md5(i::VARCHAR) || md5(i::VARCHAR) || md5(i::VARCHAR) || md5(i::VARCHAR) "
        "FROM range(1000000000) t(i)", "query_too_large", "32 MiB",
    ),
    "gathers too much": ("SELECT len(list(i)) FROM range(2000000000) t(i)", "query_too_large", "500 MB"),
}  # fmt: skip


@long_but(1, "name", sorted(ENDED))
async def test_what_goes_too_far_is_ended_with_one_clear_error(
    stack: Stack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql, code, words = ENDED[name]
    if code == "query_timeout":
        monkeypatch.setattr("helmr_runtime.ledger.ledger.QUERY_TIMEOUT_S", 0.5)
    response = await stack.http.post("/v1/query", json={"sql": sql, "limit": 100_000})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, code), problem
    assert words in problem["detail"]
    assert problem["hint"]
    monkeypatch.undo()  # the next one has its whole time on a busy machine
    # The next one runs at once, and the writer never noticed.
    assert await value(stack, "SELECT count(*) > 0 FROM entries")
    assert (await stack.started())["created"]


@pytest.mark.long
async def test_queries_that_are_ended_again_and_again_leave_nothing_behind(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = (
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
    )
    ends = set()
    for number in range(30):
        monkeypatch.setattr("helmr_runtime.ledger.ledger.QUERY_TIMEOUT_S", 0.01 + number / 300)
        response = await stack.http.post("/v1/query", json={"sql": endless})
        ends.add((response.status_code, response.json()["code"]))
    assert ends == {(422, "query_timeout")}
    monkeypatch.undo()
    assert await value(stack, "SELECT 1") == 1


async def test_an_interrupt_that_hits_the_rollback_does_not_keep_the_transaction(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helmr_runtime.ledger import query as module

    hits = 3

    class Interrupted:
        """The connection, whose first rollbacks are interrupted."""

        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def rollback(self) -> None:
            nonlocal hits
            if hits:
                hits -= 1
                raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")
            self._connection.rollback()

    real = module._rollback
    monkeypatch.setattr(
        module, "_rollback", lambda connection: real(cast(Any, Interrupted(connection)))
    )
    assert await value(stack, "SELECT 1") == 1
    assert hits == 0
    assert await value(stack, "SELECT 2") == 2


@pytest.mark.long  # tests/cli/test_query.py has a cut result
async def test_a_billion_rows_are_cut_at_the_limit_and_say_so(stack: Stack) -> None:
    found = await asked(stack, "SELECT * FROM range(1000000000)", limit=3)
    assert (found["rows"], found["truncated"]) == ([[0], [1], [2]], True)
    exactly = await asked(stack, "SELECT * FROM range(3)", limit=3)
    assert (exactly["rows"], exactly["truncated"]) == ([[0], [1], [2]], False)


async def test_what_was_acknowledged_is_seen_at_once(stack: Stack) -> None:
    for number in range(3):
        started = await stack.started(external_id=f"seen-{number}")
        session_id = started["session"]["id"]
        sql = (
            "SELECT s.activity, w.status FROM sessions s JOIN waits w USING (session_key) "
            f"WHERE s.session_id = '{session_id}'"
        )
        assert (await asked(stack, sql))["rows"] == [["waiting", "pending"]]
        await stack.http.post(f"/v1/sessions/{session_id}/cancel")
        assert (await asked(stack, sql))["rows"] == [["idle", "cancelled"]]


async def test_ids_are_those_of_every_other_answer(stack: Stack) -> None:
    listed = (await stack.http.get("/v1/sessions", params={"limit": 200})).json()["items"]
    found = await asked(
        stack, "SELECT session_id, run_id, wait_id, tags, entry_count FROM sessions"
    )
    assert {row[0] for row in found["rows"]} == {one["id"] for one in listed}
    one = next(item for item in listed if item["external_id"] == "pr-7")
    row = next(row for row in found["rows"] if row[0] == one["id"])
    assert (row[2], json.loads(row[3])) == (one["wait"]["id"], ["a"])
    assert await value(
        stack,
        f"SELECT session_key = uuid_of('{one['id']}') FROM sessions WHERE external_id = 'pr-7'",
    )
    assert await value(
        stack, "SELECT typeid_of('ses', session_key) = session_id FROM sessions LIMIT 1"
    )
    entries = (await stack.http.get(f"/v1/sessions/{one['id']}/transcript")).json()["items"]
    story = await asked(
        stack,
        "SELECT seq, feed_offset, kind, run_id, op, principal_type, recorded_at, body FROM entries "
        f"WHERE session_key = uuid_of('{one['id']}') ORDER BY seq",
    )
    assert [
        [
            e["seq"],
            e["feed_offset"],
            e["kind"],
            e["run_id"],
            e["op"],
            e["principal"]["type"],
            e["recorded_at"],
            e["body"],
        ]
        for e in entries
    ] == [[*row[:7], json.loads(row[7])] for row in story["rows"]]


async def test_no_hash_of_a_secret_is_in_any_view(stack: Stack) -> None:
    token = (await stack.http.post("/v1/tokens", json={"tags": ["t"]})).json()
    key = (await stack.http.post("/v1/api-keys", json={"role": "viewer", "name": "v"})).json()
    await stack.started(task="by-link", payload={"title": "News"})
    assert token["id"]
    assert key["id"]
    ledger = stack.ledger._ledger
    assert ledger is not None

    def hashes(reader: Any) -> list[str]:
        found = reader.execute(
            "SELECT callback_hash FROM tokens UNION SELECT secret_hash FROM public_tokens "
            "UNION SELECT secret_hash FROM api_keys"
        ).fetchall()
        return [row[0] for row in found]

    secret = await ledger.read_tables(hashes)
    assert len(secret) >= 5
    seen = ""
    for view in VIEWS:
        seen += json.dumps(await asked(stack, f"SELECT * FROM {view}"))
    assert "token.created" in seen
    assert "api_key.created" in seen
    assert [one for one in secret if one in seen] == []
    for word in ("callback_hash", "secret_hash", "public_token_hash", "sealed"):
        assert word not in seen


async def test_a_histogram_is_made_by_the_aggregate(stack: Stack) -> None:
    found = await value(stack, "SELECT histogram(task) FROM sessions WHERE task = 'review'")
    assert found[0][0] == "review"


async def test_rows_are_the_same_as_json_and_as_arrow(stack: Stack) -> None:
    sql = """
    SELECT 1 AS small, 12345678901234567890123::HUGEINT AS huge, 1.5::DECIMAL(10, 2) AS decimal,
        0.1 + 0.2::DOUBLE AS float,
        'NaN'::DOUBLE AS nan, true AS yes, NULL AS nothing, 'é' AS text, TIMESTAMPTZ '2026-03-01 12:00:00+00' AS moment,
        TIMESTAMP '2026-03-01 12:00:00.5' AS local, DATE '2026-03-01' AS day, [1, NULL] AS list, {'a': 1} AS struct,
        MAP {'k': 1} AS map, '\\xAB'::BLOB AS bytes, '00000000-0000-0000-0000-000000000001'::UUID AS uuid,
        INTERVAL 90 MINUTE AS span, sum(3) AS total
    """
    as_json = await asked(stack, sql)
    response = await stack.http.post(
        "/v1/query", json={"sql": sql}, headers={"Accept": ARROW_MEDIA_TYPE}
    )
    assert response.headers["content-type"] == ARROW_MEDIA_TYPE
    as_arrow = QueryResult.read(ARROW_MEDIA_TYPE, response.content)
    assert [list(row) for row in as_arrow.values()] == as_json["rows"]
    assert [column.model_dump() for column in as_arrow.columns] == as_json["columns"]
    row = as_arrow.rows()[0]
    assert (row["huge"], row["decimal"], row["total"]) == (12345678901234567890123, 1.5, 3)
    assert (row["nan"], row["nothing"], row["bytes"]) == (None, None, "ab")
    assert (row["moment"], row["local"], row["day"]) == (
        "2026-03-01T12:00:00.000000Z", "2026-03-01T12:00:00.500000", "2026-03-01",
    )  # fmt: skip
    assert row["span"] == "01:30:00"
    assert as_arrow.arrow().num_rows == 1


VALUES = (
    "INTERVAL '-14 months -3 days -3.5 seconds'", "[INTERVAL 1 MONTH]", "TIMESTAMPTZ '2024-01-01 10:00:00.5+02'",
    "TIMESTAMP '2024-01-01 10:00:00'", "TIMESTAMP_NS '2024-01-01 10:00:00.123456789'", "TIMESTAMP_S '1969-01-01'",
    "{'at': TIMESTAMP '2024-01-01'}", "DATE '9999-12-31'", "[DATE '2024-02-29', NULL]", "TIME '10:00:00.5'",
    "TIME '10:00:00'", "12345678901234567890123::HUGEINT", "1.50::DECIMAL(5, 2)", "1.00::DECIMAL(5, 2)",
    "[12345678901234567890.12::DECIMAL(38, 2)]", "'NaN'::DOUBLE", "['-inf'::DOUBLE]", "0.1::FLOAT", "0.1 + 0.2::DOUBLE",
    "1.0::DOUBLE", "1e300::DOUBLE", "5::UBIGINT", "true", "NULL", "''", "'é\n\"' || chr(0)", "'x'::ENUM('x', 'y')",
    "'00000000-0000-0000-0000-000000000001'::UUID", "'a\\xAB\\x5C\"'::BLOB", "['a'::BLOB]",
    "'{\"a\": [1,  2]}'::JSON", "{'j': '[1,  2]'::JSON}", "['[1,  2]'::JSON]", "MAP {'a': 1, 'b': NULL}",
    "MAP {DATE '2024-01-01': '{ }'::JSON}", "MAP {[1]: 1.50::DECIMAL(5, 2)}", "MAP {}", "NULL::MAP(INTEGER, DATE)",
    "union_value(k := 1)", "union_value(k := [DATE '2024-01-01'])", "[union_value(k := 1.5::DECIMAL(5, 2))]",
    "row(1, DATE '2024-01-01')", "array_value(1, 2)", "[[1], NULL]", "{'a': 1, 'A \"': {'b': NULL}}", "[]",
    "NULL::STRUCT(a DATE)", "NULL::DECIMAL(5, 2)", "TIME_NS '10:00:00.123456789'",
)  # fmt: skip
"""A value of each engine type that a result can hold, at the top and inside of others."""


def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's process as where only the extra `local` is installed."""
    monkeypatch.setattr("helmr_runtime.ledger.query.has_arrow", lambda: False)


async def test_rows_are_the_same_where_pyarrow_is_not_installed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = f"SELECT {', '.join(VALUES)}, 1 AS a, 2 AS a ; -- ; and more"
    expected = await asked(stack, sql)
    views = {view: await asked(stack, f"SELECT * FROM {view} ORDER BY ALL") for view in VIEWS}
    without_pyarrow(monkeypatch)
    found = await asked(stack, sql)
    for value, wanted, got in zip(
        [*VALUES, "a", "a"], expected["rows"][0], found["rows"][0], strict=True
    ):
        assert got == wanted, value
        assert type(got) is type(wanted), value
    assert found["columns"] == expected["columns"]
    for view in VIEWS:
        again = await asked(stack, f"SELECT * FROM {view} ORDER BY ALL")
        assert {**again, "elapsed_s": 0} == {**views[view], "elapsed_s": 0}, view


async def test_an_order_a_cut_and_a_wide_row_leave_without_pyarrow(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pyarrow(monkeypatch)
    found = await asked(stack, "FROM range(10000) ORDER BY 1 DESC", limit=5_000)
    assert (found["rows"], found["truncated"]) == ([[n] for n in range(9_999, 4_999, -1)], True)
    found = await asked(stack, "SELECT 1 WHERE false")
    assert (found["rows"], found["truncated"]) == ([], False)
    found = await asked(stack, f"SELECT {', '.join(map(str, range(1_000)))}")
    assert found["rows"] == [list(range(1_000))]


@pytest.mark.parametrize("has_pyarrow", [True, False])
@pytest.mark.parametrize("row", [0, 90_000])
async def test_a_value_that_does_not_fit_is_told_also_behind_the_first_rows(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, has_pyarrow: bool, row: int
) -> None:
    """Behind the first batch, Arrow's stream tells of it and not the engine."""
    if not has_pyarrow:
        without_pyarrow(monkeypatch)
    failing = f"CASE WHEN i = {row} THEN 'x' ELSE '1' END"
    sql = f"SELECT CAST({failing} AS INTEGER) FROM range(100000) t(i)"
    response = await stack.http.post("/v1/query", json={"sql": sql, "limit": 100_000})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "bad_query"), problem
    assert "Could not convert string 'x' to INT32" in problem["detail"]


WITHOUT_PYARROW = ("infinite time", "date before Christ", "bits in a list", "bad cast", "insert")


@pytest.mark.parametrize("name", WITHOUT_PYARROW)
async def test_what_a_query_may_not_is_refused_without_pyarrow_too(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    without_pyarrow(monkeypatch)
    sql, words = REFUSED[name]
    response = await stack.http.post("/v1/query", json={"sql": sql})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "bad_query"), problem
    assert words in problem["detail"]


async def test_a_result_without_pyarrow_is_ended_at_its_limit_too(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pyarrow(monkeypatch)
    sql, code, words = ENDED["returns too many bytes"]
    response = await stack.http.post("/v1/query", json={"sql": sql, "limit": 100_000})
    assert (response.status_code, response.json()["code"]) == (422, code), response.text
    assert words in response.json()["detail"]


async def test_what_needs_pyarrow_where_the_runtime_is_names_the_extra(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pyarrow(monkeypatch)
    response = await stack.http.post("/v1/query", json={"sql": "SELECT [MAP {1: 2}] AS maps"})
    assert response.status_code == 422
    assert "'maps' has a map inside another value" in response.json()["detail"]
    assert "helmr[sql]" in response.json()["hint"]
    response = await stack.http.post(
        "/v1/query", json={"sql": "SELECT 1 AS n"}, headers={"Accept": ARROW_MEDIA_TYPE}
    )
    result = QueryResult.read(response.headers["content-type"], response.content)
    assert result.rows() == [{"n": 1}]
    for table in (result.arrow, result.polars, result.pandas):
        with pytest.raises(MissingExtra, match="where the runtime is installed") as caught:
            table()
        assert "helmr[sql]" in str(caught.value.hint)


async def in_arrow(stack: Stack, sql: str) -> QueryResult:
    """The result, as a client with pyarrow gets it."""
    response = await stack.http.post(
        "/v1/query", json={"sql": sql}, headers={"Accept": ARROW_MEDIA_TYPE}
    )
    return QueryResult.read(ARROW_MEDIA_TYPE, response.content)


async def test_columns_of_one_name_are_told_apart(stack: Stack) -> None:
    result = await in_arrow(stack, "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a, 5 AS b")
    assert result.rows() == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4, "b": 5}]
    assert result.polars().columns == result.arrow().column_names == list(result.rows()[0])
    joined = await in_arrow(
        stack, "SELECT * FROM sessions s JOIN waits w ON w.session_key = s.session_key"
    )
    assert {"session_id", "session_id_1"} < joined.rows()[0].keys()
    wide = await in_arrow(stack, f"SELECT {', '.join(['1 AS a'] * 7_000)}")
    assert len(wide.rows()[0]) == 7_000


async def test_an_interval_is_as_sql_writes_it(stack: Stack) -> None:
    spans = (
        "1 year 2 days 3 hours", "-14 months", "-1 days", "0 days", "1 month -2 days", "100 hours",
        "-3 seconds 500 milliseconds", "1 microsecond",
    )  # fmt: skip
    pairs = ", ".join(f"(INTERVAL '{span}', (INTERVAL '{span}')::VARCHAR)" for span in spans)
    rows = (await asked(stack, f"VALUES {pairs}, (NULL, NULL)"))["rows"]
    assert [row[0] for row in rows] == [row[1] for row in rows]
    assert rows[0][0] == "1 year 2 days 03:00:00"


@pytest.mark.allows_blocking  # pandas looks a time zone up, in the caller's own program
async def test_an_interval_is_a_duration_in_a_frame(stack: Stack) -> None:
    result = await in_arrow(
        stack, "SELECT INTERVAL '1 day 2 seconds' AS span UNION ALL SELECT NULL ORDER BY span"
    )
    day = timedelta(days=1, seconds=2)
    assert result.polars()["span"].to_list() == [day, None]
    assert result.pandas()["span"][0] == day
    for sql in ("SELECT INTERVAL 1 MONTH AS span", "SELECT [INTERVAL 1 DAY] AS span"):
        with pytest.raises(BadQuery, match="'span' has intervals"):
            (await in_arrow(stack, sql)).polars()


async def test_a_date_that_json_has_not_is_refused_by_the_client_too(stack: Stack) -> None:
    result = await in_arrow(stack, "SELECT 'infinity'::DATE AS day")
    with pytest.raises(BadQuery, match="the years 1 to 9999"):
        result.rows()


@pytest.mark.allows_blocking  # pandas looks a time zone up, in the caller's own program
async def test_a_result_becomes_the_frames_that_people_know(stack: Stack) -> None:
    response = await stack.http.post(
        "/v1/query",
        json={
            "sql": "SELECT kind, count(*) AS n, max(recorded_at) AS last FROM entries GROUP BY kind ORDER BY kind"
        },
        headers={"Accept": ARROW_MEDIA_TYPE},
    )
    result = QueryResult.read(ARROW_MEDIA_TYPE, response.content)
    kinds = [row["kind"] for row in result]
    assert result.polars()["kind"].to_list() == kinds
    assert list(result.pandas()["kind"]) == kinds
    assert str(result.pandas()["last"].dt.tz) == "UTC"


@pytest.mark.parametrize("role", ["sender", "viewer"])
async def test_a_key_without_the_right_may_not_query(stack: Stack, role: str) -> None:
    made = await stack.http.post("/v1/api-keys", json={"role": role, "name": role})
    headers = {"Authorization": f"Bearer {made.json()['secret']}"}
    response = await stack.http.post("/v1/query", json={"sql": "SELECT 1"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (403, "role_denied")


async def test_one_query_runs_at_a_time_and_answers_go_on_beside_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr_runtime.ledger.ledger.QUERY_TIMEOUT_S", 3.0)
    endless = (
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
    )
    first = asyncio.create_task(stack.http.post("/v1/query", json={"sql": endless}))
    ledger = stack.ledger._ledger
    assert ledger is not None
    await until(lambda: ledger._queries._running is not None)
    second = await stack.http.post("/v1/query", json={"sql": "SELECT 1"})
    assert second.json()["code"] == "query_busy"
    assert second.headers["retry-after"] == "1"
    took = []
    while not first.done():
        began = time.monotonic()
        await stack.started()
        took.append(time.monotonic() - began)
    assert (await first).json()["code"] == "query_timeout"
    assert len(took) >= 3
    assert await value(stack, "SELECT 1") == 1


async def test_a_text_that_is_too_long_or_nests_too_deeply_is_refused(stack: Stack) -> None:
    long = await stack.http.post("/v1/query", json={"sql": "SELECT '" + "x" * 70_000 + "'"})
    assert (long.status_code, long.json()["code"]) == (400, "bad_request")
    deep = await stack.http.post(
        "/v1/query", json={"sql": "SELECT " + "(" * 5_000 + "1" + ")" * 5_000}
    )
    assert (deep.status_code, deep.json()["code"]) == (422, "bad_query")
    nested = "SELECT " + "(SELECT " * 300 + "1" + ")" * 300
    deep = await stack.http.post("/v1/query", json={"sql": nested})
    assert (deep.status_code, deep.json()["code"]) == (422, "bad_query")
    assert await value(stack, "SELECT 1") == 1
