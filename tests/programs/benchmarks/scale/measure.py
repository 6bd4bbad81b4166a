"""What is measured of a runtime over a ledger of some size."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from tests.programs.benchmarks.measures import percentile
from tests.programs.benchmarks.scale.build import Pattern, add, open_at
from tests.programs.benchmarks.scale.patterns import AtScale

PAGES = 20
FILTERS = {
    "inbox of a task": "/v1/waits?task=scale-review",
    "inbox of a stream": "/v1/waits?stream=decisions",
    "inbox of a session": "/v1/waits?session_id={session}",
    "sessions": "/v1/sessions",
    "sessions by tag": "/v1/sessions?tag=scale",
    "sessions that wait": "/v1/sessions?activity=waiting",
    "runs that wait": "/v1/runs?status=waiting",
}
WARM = 5
START_MAX_S = 90.0
BUILD_MIN_PER_S = 500.0
"""Entries; so that sessions whose deadline is near are built and served before it, also on a busy machine."""
DUE_MAX_S = 120.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What the ledger's process holds once it has opened the file.

    Attributes:
        own_bytes: Unshared memory of the process without the engine's buffers.
        engine_bytes: The engine's buffers: pages of the file that it keeps as long as there is room.
        open_s: How long opening took.
    """

    own_bytes: int
    engine_bytes: int
    open_s: float


@dataclass(frozen=True, slots=True)
class Served:
    """What one start of a runtime showed. Times in seconds and milliseconds, as named."""

    ready_s: float
    first_inbox_ms: float
    inbox_ms: float
    filters_ms: dict[str, float]
    resume_ms: list[float]


def memory(data_dir: Path) -> Memory:
    """Of a process that does nothing but open the ledger."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs.benchmarks.scale.opened", str(data_dir)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    return Memory(**json.loads(done.stdout))


async def serve(folder: Path, *, resumes: int) -> Served:
    """Start a runtime over the folder's ledger, read its inbox and lists, answer waits one after the other."""
    system = AtScale()
    began_s = time.perf_counter()
    try:
        await system.start(folder)
        ready_s = time.perf_counter() - began_s
        first_ms = await _ms(system.inbox)
        inbox_ms = median([await _ms(system.inbox) for _ in range(PAGES)])
        waits = await _waits(system, resumes + WARM)
        session = waits[0][1] if waits else "ses_00000000000000000000000000"
        filters = {
            name: await _ms(lambda path=path: system.get(path.format(session=session)), WARM)  # type: ignore[misc]
            for name, path in FILTERS.items()
            if waits or "{session}" not in path
        }
        resume_ms = [await _ms(lambda one=one: _answer(system, *one)) for one in waits]  # type: ignore[misc]
        return Served(ready_s, first_ms, inbox_ms, filters, resume_ms[WARM:])
    finally:
        await system.stop()


async def _ms(ask: Callable[[], Awaitable[object]], times: int = 1) -> float:
    """How long it takes; the median of several."""
    found = []
    for _ in range(times):
        began_s = time.perf_counter()
        await ask()
        found.append((time.perf_counter() - began_s) * 1e3)
    return median(found)


async def _waits(system: AtScale, count: int) -> list[tuple[str, str]]:
    """So many pending waits, each with its session."""
    found: list[tuple[str, str]] = []
    cursor = ""
    while len(found) < count:
        page = await system.get(f"/v1/waits?limit=200{cursor}")
        found += [(one["id"], one["session_id"]) for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    return found[:count]


async def _answer(system: AtScale, wait_id: str, session_id: str) -> None:
    """Answer a wait, and see what its parked session goes on to say."""
    await system.post(f"/v1/waits/{wait_id}/answer", {"data": "publish"})
    await system.outputs[session_id].wait()


async def due_at_once(folder: Path, pattern: Pattern, count: int) -> float:
    """Have so many sessions whose deadlines are the same: seconds from then until all have timed out on disk."""
    data_dir = folder / "data"
    data_dir.mkdir()
    margin_s = START_MAX_S + count * pattern.entries / BUILD_MIN_PER_S
    due_at = datetime.now(UTC) + timedelta(seconds=margin_s)
    ledger = await open_at(data_dir)
    await add(ledger, pattern, count, lambda number: due_at)
    await ledger.close()
    system = AtScale()
    all_over = asyncio.Event()
    try:
        await system.start(folder)
        if datetime.now(UTC) > due_at:
            raise RuntimeError("it was ready only behind the deadline; the machine is too busy")
        system.on_entry = lambda: all_over.set() if system.timed_out >= count else None
        await asyncio.wait_for(all_over.wait(), margin_s + DUE_MAX_S)
        return (datetime.now(UTC) - due_at).total_seconds()
    finally:
        await system.stop()


def p50_p99(values: list[float]) -> tuple[float, float]:
    """Of one start."""
    return percentile(values, 0.5), percentile(values, 0.99)
