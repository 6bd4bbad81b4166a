"""`helmr query` and `helmr export` against a real gateway over a real ledger."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import polars
import pyarrow.parquet
import pytest

from helmr.cli import query as module
from helmr.cli.main import invoke
from helmr.client import AsyncClient, Client
from helmr.errors import BadQuery, MissingExtra
from helmr.wire.query import QueryResult
from tests.service.stack import Stack


@pytest.fixture
async def stack(
    tmp_path: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """A runtime with three sessions, as the one that HELMR_URL names."""
    stack = Stack(tmp_path / "data")
    try:
        await stack.start()
        for number in range(3):
            await stack.started(external_id=f"pr-{number}")
        monkeypatch.setenv("HELMR_URL", stack.url)
        monkeypatch.setenv("HELMR_API_KEY", stack.key)
        yield stack
    finally:
        await stack.stop()


@pytest.fixture
def said(capsysbinary: pytest.CaptureFixture[bytes]):
    """Run a command beside the loop that serves it."""

    async def run(*arguments: str) -> tuple[int, bytes, str]:
        code = await asyncio.to_thread(invoke, arguments)
        captured = capsysbinary.readouterr()
        return code, captured.out, captured.err.decode()

    return run


SQL = "SELECT external_id, status, [entry_count] AS entries FROM sessions ORDER BY external_id"


async def test_a_result_is_printed_as_table_csv_json_and_parquet(stack: Stack, said) -> None:
    code, out, err = await said("query", SQL)
    assert (code, err) == (0, "")
    assert out.decode().splitlines()[1].split()[:2] == ["pr-0", "open"]
    columns = "[1, NULL] AS l, {'a': NULL} AS s, 1 AS \"\x1b[31m\""
    _, out, _ = await said("query", f"SELECT {columns}")
    assert out.decode().splitlines() == [
        "l          s            ␛[31m",
        '[1, null]  {"a": null}  1',
    ]
    code, out, _ = await said("query", SQL, "--format", "csv")
    rows = list(csv.reader(io.StringIO(out.decode())))
    assert rows[0] == ["external_id", "status", "entries"]
    assert [row[0] for row in rows[1:]] == ["pr-0", "pr-1", "pr-2"]
    code, out, _ = await said("query", SQL, "--json")
    answer = json.loads(out)
    assert [row[0] for row in answer["rows"]] == ["pr-0", "pr-1", "pr-2"]
    assert answer["columns"][2] == {"name": "entries", "type": "INTEGER[]"}
    code, out, _ = await said("query", SQL, "--format", "parquet")
    table = pyarrow.parquet.read_table(io.BytesIO(out))
    assert table["external_id"].to_pylist() == ["pr-0", "pr-1", "pr-2"]


async def test_a_file_gets_what_its_name_says_and_only_when_whole(
    stack: Stack, said, tmp_path: Path
) -> None:
    for suffix in ("csv", "json", "parquet"):
        code, out, _ = await said("query", SQL, "--out", str(tmp_path / f"found.{suffix}"))
        assert (code, out) == (0, b"")
    assert polars.read_parquet(tmp_path / "found.parquet").height == 3
    before = (tmp_path / "found.csv").read_bytes()
    code, _, err = await said(
        "query", "SELECT nope FROM sessions", "--out", str(tmp_path / "found.csv")
    )
    assert code == 2
    assert err.startswith("helmr: Binder Error")
    assert (tmp_path / "found.csv").read_bytes() == before
    code, _, err = await said("query", SQL, "--out", str(tmp_path / "found.xlsx"))
    assert code == 2
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


async def test_what_is_no_file_is_written_into_and_a_link_stays_one(
    stack: Stack, said, tmp_path: Path
) -> None:
    pipe, real, link = tmp_path / "pipe", tmp_path / "real.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    real.write_text("before")
    link.symlink_to(real.name)
    reader = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    code, _, err = await said("query", "SELECT 1 AS n", "--format", "csv", "--out", str(pipe))
    assert (code, err) == (0, "")
    assert await asyncio.wait_for(reader, 10) == b"n\n1\n"
    assert pipe.is_fifo()
    code, _, _ = await said("query", "SELECT 1 AS n", "--out", str(link))
    assert (code, link.is_symlink(), real.read_text()) == (0, True, "n\n1\n")


@pytest.mark.long
def test_dev_stdout_is_written_into_also_if_it_is_a_file(tmp_path: Path) -> None:
    written = tmp_path / "out"
    program = (
        "from pathlib import Path; from helmr.cli.arguments import replacing\n"
        "with replacing(Path('/dev/stdout')) as file: file.write(b'rows')"
    )
    with written.open("wb") as out:
        inode = os.fstat(out.fileno()).st_ino
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, timeout=60)
    assert (written.stat().st_ino, written.read_bytes()) == (inode, b"rows")


async def test_what_parquet_can_not_hold_is_said(stack: Stack, said, tmp_path: Path) -> None:
    path = tmp_path / "found.parquet"
    code, _, _ = await said("query", "SELECT INTERVAL 90 MINUTE AS span", "--out", str(path))
    assert code == 0
    assert str(polars.read_parquet(path)["span"][0]) == "1:30:00"
    for sql in ("SELECT INTERVAL 1 MONTH", "SELECT union_value(n := 1)"):
        code, _, err = await said("query", sql, "--out", str(path))
        assert (code, "Traceback" in err) == (2, False)
        assert "VARCHAR" in err


async def test_a_cut_result_says_so_apart_from_the_output(stack: Stack, said) -> None:
    code, out, err = await said(
        "query", "SELECT * FROM range(10)", "--limit", "2", "--format", "csv"
    )
    assert (code, out) == (0, b"range\n0\n1\n")
    assert "cut after 2 rows" in err


@pytest.mark.long
async def test_a_range_is_exported_in_pieces(
    stack: Stack, said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXPORT_CHUNK_ROWS", 2)
    asked: list[str] = []
    real = Client.query

    def counted(self, sql: str, **parts) -> QueryResult:
        asked.append(sql)
        return real(self, sql, **parts)

    monkeypatch.setattr(Client, "query", counted)
    head = await stack.reads.feed_head()
    path = tmp_path / "all.parquet"
    code, _, err = await said("export", "--parquet", str(path))
    assert (code, f"{head} entries of feed offsets 1 to {head}" in err) == (0, True)
    assert len(asked) == 1 + (head + 1) // 2
    frame = polars.read_parquet(path)
    assert frame["feed_offset"].to_list() == list(range(1, head + 1))
    code, _, _ = await said("export", "--parquet", str(path), "--after", "3", "--through", "6")
    assert polars.read_parquet(path)["feed_offset"].to_list() == [4, 5, 6]
    code, _, _ = await said(
        "export", "--parquet", str(path), "--view", "records", "--since", "2000-01-01"
    )
    assert set(polars.read_parquet(path)["direction"].to_list()) == {"output"}
    # Nothing is there: a file with the columns and no rows.
    code, _, err = await said("export", "--parquet", str(path), "--until", "2000-01-01T00:00:00")
    assert (code, "0 entries are in the range" in err) == (0, True)
    assert polars.read_parquet(path).height == 0
    assert "body" in polars.read_parquet(path).columns


async def test_both_clients_query(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncClient() as client:
        by_arrow = await client.query(SQL)
        # As in a program that has only the base installation.
        monkeypatch.setattr("helmr.client.aio.has_arrow", lambda: False)
        by_json = await client.query(SQL)
        with pytest.raises(BadQuery):
            await client.query("DROP TABLE entries")
        cut = await client.query("SELECT * FROM range(10)", limit=4)
    assert by_arrow.rows() == by_json.rows()
    with pytest.raises(MissingExtra, match="where the runtime is installed"):
        by_json.polars()
    assert (len(cut), cut.truncated) == (4, True)
    with await asyncio.to_thread(Client) as blocking:
        assert (await asyncio.to_thread(blocking.query, SQL)).rows() == by_json.rows()


@pytest.mark.parametrize(
    ("method", "missing"), [("arrow", "pyarrow"), ("polars", "polars"), ("pandas", "pandas")]
)
def test_what_is_not_installed_is_named(
    method: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = QueryResult([], truncated=False, elapsed_s=0, rows=[])
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(MissingExtra, match=missing) as caught:
        getattr(result, method)()
    assert caught.value.hint == "pip install 'helmr[sql]'"
