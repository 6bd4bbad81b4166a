"""A sync that fails costs nothing acknowledged, and is over when syncing works again, readers or not (S-65).

After a failed sync DuckDB refuses everything; only a new instance of it works, and there is none while one connection
of the old one is open.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.tables.engine import ENGINE_ERROR
from tests.ledger import failing_sync
from tests.ledger.sessions import SMALL

ENDLESS = "SELECT max(a.range * b.range) FROM range(1000000) a, range(1000000) b"


def is_closed(path: Path) -> bool:
    """No instance of this process holds the file: one with other settings can open it."""
    try:
        duckdb.connect(str(path), config={"threads": "2"}).close()
    except duckdb.Error:
        return False
    return True


@pytest.mark.allows_blocking
def test_closing_ends_reads_and_leaves_no_instance(tmp_path: Path) -> None:
    database = Database(tmp_path / "ledger.duckdb", SMALL)
    database.open()
    ended: list[str] = []

    def read(statement: str) -> None:
        try:
            database.reading(lambda reader: reader.execute(statement).fetchall())
        except ENGINE_ERROR as error:
            ended.append(str(error))

    readers = [threading.Thread(target=read, args=(sql,)) for sql in ("SELECT 1", ENDLESS, ENDLESS)]
    for reader in readers:
        reader.start()
    readers[0].join()
    while database.reading_count < 2:
        time.sleep(0.01)
    assert not is_closed(database.path)
    database.close()
    for reader in readers:
        reader.join(10)
    assert len(ended) == 2
    assert all("Interrupted" in one for one in ended)
    assert is_closed(database.path)


@pytest.mark.allows_blocking
@pytest.mark.timeout(120)
async def test_a_sync_that_fails_is_over_when_it_works_again_under_reads(tmp_path: Path) -> None:
    library = failing_sync.library(tmp_path)
    if library is None:
        pytest.skip("no C compiler here")
    environ = {**os.environ, **library, "SYNC_ROUNDS": "4"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.ledger.syncing_child", str(tmp_path / "ledger.duckdb"),
        env=environ, stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    # Each round: refused while it fails, committed after; then all of the chain is there.
    assert out.decode().split() == ["refused", "committed"] * 4 + ["whole"]
