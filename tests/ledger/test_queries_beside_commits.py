"""A heavy query runs and commits go on: the short form of `make perf`'s measurement on a whole runtime."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyarrow import ipc

from helmr.errors import HelmrError, QueryBusy, QueryTimeout, QueryTooLarge
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import public_views
from tests.ledger.sessions import Hand, running
from tests.ledger.test_adoption_perf import scatter
from tests.longer import long_but
from tests.stack.test_query_load import HEAVY

ENTRIES = 200_000
COMMITS = 60
STUCK_S = 5.0
HANG_S = 30.0
BUSY = "while True: pass"
ENDLESS = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"


async def commits(hand: Hand) -> list[float]:
    """Seconds that each of some commits took, fifty of them a second."""
    took = []
    for _ in range(COMMITS):
        began = time.perf_counter()
        await hand.stored(hand.step(), hand.step_done())
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.02)
    return took


async def test_a_query_that_follows_another_at_once_is_not_refused(
    path: Path, clock: FakeClock
) -> None:
    """The one before is over; that it is, is noted a turn of the loop later."""
    ledger = await open_ledger(path, clock=clock)
    before: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    before.add_done_callback(ledger._queries._ended)
    ledger._queries._running = before
    try:
        with pytest.raises(QueryBusy):
            await ledger.query("SELECT 1", limit=1)
        before.set_result(b"")
        assert await ledger._queries.run("SELECT 1", rows_max=1, timeout_s=HANG_S)
        assert ledger._queries._running is None
    finally:
        await ledger.close()


async def test_a_query_that_does_not_leave_keeps_nobody_from_closing(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr_runtime.ledger.query.LEAVE_TIMEOUT_S", 0.1)
    monkeypatch.setattr("helmr_runtime.ledger.log.database.CLOSE_TIMEOUT_S", 0.1)
    ledger = await open_ledger(path, clock=clock)
    queries = ledger._database._query_connection
    assert queries is not None
    monkeypatch.setattr(Database, "interrupt_query", lambda self: None)
    try:
        with pytest.raises(QueryTimeout):
            await ledger.query(ENDLESS, limit=1, timeout_s=0.1)
        running = ledger._queries._running
        assert running is not None
        await ledger.close()
    finally:
        while ledger._queries._running is not None:
            with contextlib.suppress(duckdb.ConnectionException):  # closed a moment ago
                queries.interrupt()
            await asyncio.sleep(0.01)
    assert isinstance(running.exception(), QueryTimeout)
    # The file is whole, and free for who comes next.
    await (await open_ledger(path, clock=clock)).close()


async def rows(ledger: DuckLedger, sql: str) -> list[dict[str, Any]]:
    stream = await ledger.query(sql, limit=10, timeout_s=HANG_S)
    found: list[dict[str, Any]] = ipc.open_stream(stream).read_all().to_pylist()
    return found


@long_but(2, "view", public_views.VIEWS)
async def test_the_tables_are_written_first_for_who_reads_them(
    path, clock: FakeClock, view: str
) -> None:
    """The entries are there since their commit: a query of them holds no commit up."""
    ledger = await open_ledger(path, clock=clock)
    try:
        hand = await running(ledger, clock)
        await hand.stored(hand.wait())
        projector = ledger._group.projector
        assert projector.is_behind
        found = await rows(ledger, f'SELECT count(*) AS n FROM "{view.upper()}"')
        assert projector.is_behind == (view in ("entries", "records"))
        expected = {"entries": hand.seq, "sessions": 1, "runs": 1, "waits": 1}
        assert found == [{"n": expected.get(view, 0)}]
    finally:
        await ledger.close()


@pytest.mark.parametrize("view", public_views.VIEWS)
def test_a_view_is_late_if_it_reads_more_than_the_entries(view: str) -> None:
    tables = set(re.findall(r"\bbase\.(\w+)", public_views._views("base")[view]))
    assert tables == ({view} if view in public_views.LATE else {"entries"})


@long_but(1, "part", ["_typeid_macro", "_uuid_macro", "_views"])
async def test_a_query_ended_while_its_views_are_made_leaves_them_to_the_next(
    path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The first query of a file makes them, and may be at its limit by then."""
    ledger = await open_ledger(path, clock=clock)

    def ended(*_: Any) -> Any:
        raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")

    try:
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(public_views, part, ended)
            with pytest.raises(HelmrError):
                await ledger.query("SELECT 1 AS n", limit=1, timeout_s=HANG_S)
        for _ in range(2):
            assert await rows(ledger, "SELECT count(*) AS n FROM sessions") == [{"n": 0}]
    finally:
        await ledger.close()


@pytest.mark.long  # tests/http/test_query.py has queries beside answers
async def test_a_query_is_not_starved_on_a_full_machine(path: Path, clock: FakeClock) -> None:
    """An operator asks when much is going on: others' work takes most of the cores, never all."""
    ledger = await open_ledger(path, clock=clock)
    summing = "SELECT sum(n * n) AS n FROM range(10_000_000) AS r(n)"

    async def median_s() -> float:
        took = []
        for _ in range(3):
            began = time.perf_counter()
            await rows(ledger, summing)
            took.append(time.perf_counter() - began)
        return sorted(took)[1]

    burners: list[asyncio.subprocess.Process] = []
    try:
        alone = await median_s()
        while len(burners) <= len(os.sched_getaffinity(0)):
            burners.append(await asyncio.create_subprocess_exec(sys.executable, "-c", BUSY))
        await asyncio.sleep(0.5)
        beside = await median_s()
    finally:
        for burner in burners:
            burner.kill()
            await burner.wait()
        await ledger.close()
    # Five to eight times by the shares of the cores; over fifty where it gets only what others leave.
    assert beside < 30 * alone, (alone, beside)


@pytest.mark.long  # tests/http/test_query.py has answers beside one
async def test_commits_go_on_beside_a_query_at_its_limit(path, clock: FakeClock) -> None:
    ledger = await open_ledger(path, clock=clock)
    try:
        hand = await running(ledger, clock)
        await scatter(ledger, ENTRIES)
        alone = await commits(hand)
        for sql in HEAVY:
            query = asyncio.create_task(ledger.query(sql, limit=1_000, timeout_s=3.0))
            await asyncio.sleep(0.05)
            assert not query.done(), "the query is too light to be beside anything"
            beside = await commits(hand)
            # A guard against standing still; the ratio is measured by `make perf`.
            assert max(beside) < STUCK_S, (max(alone), max(beside))
            (ended,) = await asyncio.gather(query, return_exceptions=True)
            assert isinstance(ended, bytes | QueryTimeout | QueryTooLarge), ended
    finally:
        await ledger.close()
