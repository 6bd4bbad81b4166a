"""A heavy query runs beside answers: they keep their pace, and the query finishes or ends at its limit.

5,000,000 entries and two minutes on a real runtime, in `make perf`; every run looks at the ledger alone
(`tests/ledger/test_queries_beside_commits.py`).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable

import duckdb
import pytest

from helmr.client import AsyncClient
from helmr.errors import QueryBusy, QueryTimeout, QueryTooLarge
from tests.stack.live import LiveRuntime

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.allows_blocking]

RATE_PER_S = 50
SETTLE_S, SETTLE_MAX = 5.0, 24
CALM = 4
"""Times the median that a p99 takes while nothing else is going on."""
HEAVY = (
    # Every id as text, every body parsed, all of it sorted.
    "SELECT session_id, count(*) AS n, max(json_extract_string(body, '$.data')) AS longest, "
    "quantile_cont(seq, 0.5) AS middle FROM entries GROUP BY session_id ORDER BY n DESC, session_id",
    # More than any limit allows: it must end at one.
    "SELECT count(*) FROM entries a JOIN entries b ON a.seq = b.seq WHERE a.body < b.body",
)

_FILL = """
INSERT INTO entries
SELECT $1 + i, md5((hash(i) % 250000)::VARCHAR)::UUID, 1 + i // 250000,
    make_timestamptz(1772366400000000 + i * 1000), 'input.accepted', NULL, NULL,
    '{"type":"api_key","name":"user' || (i % 50) || '"}',
    '{"record_id":"r' || i || '","stream":"s","stream_seq":1,"data":"' || repeat('abc ', 25) || '"}',
    encode(md5(i::VARCHAR))
FROM range(1, $2 + 1) t(i)
"""


def fill(live: LiveRuntime, count: int) -> None:
    """Put entries of a quarter million other sessions into the file of a stopped runtime."""
    (path,) = live.data_dir.glob("*.duckdb")
    with duckdb.connect(str(path), config={"memory_limit": "1GB", "threads": "2"}) as connection:
        found = connection.execute("SELECT max(feed_offset) FROM entries").fetchone()
        assert found is not None
        for done in range(0, count, 500_000):
            connection.execute(_FILL, [found[0] + done, min(500_000, count - done)])
        connection.execute(
            "UPDATE meta SET number = (SELECT max(feed_offset) FROM entries) WHERE name = 'projected_offset'"
        )
        connection.execute("CHECKPOINT")


async def answers(client: AsyncClient, sessions: list[str], for_s: float) -> list[float]:
    """Seconds that each answer took from when it was due: one that waits its turn counts from then."""
    took: list[float] = []
    began = time.monotonic()

    async def send(number: int, due: float) -> None:
        handle = client.sessions.open(sessions[number % len(sessions)])
        await handle.input("messages").send(f"m{number}")
        took.append(time.monotonic() - due)

    async with asyncio.TaskGroup() as group:
        for number in range(int(for_s * RATE_PER_S)):
            due = began + number / RATE_PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(send(number, due))
    return sorted(took)


async def settle(client: AsyncClient, sessions: list[str]) -> None:
    """Answer until the disk has forgotten the filling, whose commits took up to a second behind it."""
    for _ in range(SETTLE_MAX):
        took = await answers(client, sessions, SETTLE_S)
        if percentile(took, 0.99) < CALM * percentile(took, 0.5):
            return


async def heavy(client: AsyncClient, for_s: float) -> list[str]:
    """Heavy queries one after the other for so long; how each ended."""
    ends: list[str] = []
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        for sql in HEAVY:
            began = time.monotonic()
            try:
                found = await client.query(sql)
            except (QueryTimeout, QueryTooLarge) as error:
                end = f"{error.code} ({error})"
            except QueryBusy:
                continue
            else:
                end = f"{len(found)} rows"
            ends.append(f"{end} after {time.monotonic() - began:.1f} s")
            if time.monotonic() >= until:
                break
    return ends


def percentile(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))]


async def measured(live: LiveRuntime, for_s: float) -> tuple[list[float], list[float], list[str]]:
    """Answers without and with heavy queries, and how these ended."""
    sessions = [live.begin("echo") for _ in range(3)]
    for session in sessions:
        live.waiting(session)
    found = live.credentials
    async with AsyncClient(url=found.url, key=found.key) as client:
        await client.query("SELECT 1")
        await settle(client, sessions)
        alone = await answers(client, sessions, for_s)
        beside, ends = await asyncio.gather(answers(client, sessions, for_s), heavy(client, for_s))
    return alone, beside, ends


def report(count: int, alone: list[float], beside: list[float], ends: list[str]) -> str:
    lines = [f"\n{count:,} entries, {RATE_PER_S} answers/s, two cores:"]
    for name, times in (("alone", alone), ("beside queries", beside)):
        shown = " ".join(
            f"{label} {percentile(times, share) * 1000:.1f} ms"
            for label, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        )
        lines.append(f"  {name}: {len(times)} answers, {shown}")
    lines.append(f"  p99 {percentile(beside, 0.99) / percentile(alone, 0.99):.2f} times")
    return "\n".join([*lines, *(f"  query: {end}" for end in ends)]) + "\n"


@pytest.mark.perf
@pytest.mark.timeout(900)
async def test_the_p99_of_answers_at_most_doubles_beside_a_heavy_query(
    make_runtime: Callable[..., LiveRuntime], capsys: pytest.CaptureFixture[str]
) -> None:
    live = make_runtime()
    live.begin("echo")
    await asyncio.to_thread(live.stop)
    await asyncio.to_thread(fill, live, 5_000_000)
    await asyncio.to_thread(os.sync)  # or the minute without queries pays for the filling
    await asyncio.to_thread(live.start)
    alone, beside, ends = await measured(live, 60.0)
    with capsys.disabled():
        sys.stdout.write(report(5_000_000, alone, beside, ends))
    assert len(alone) == len(beside) == 60 * RATE_PER_S
    assert percentile(beside, 0.99) <= 2 * percentile(alone, 0.99)
