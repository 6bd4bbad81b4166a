"""A runtime under steady work takes no more memory after a while, in none of its processes, and leaves no run behind.

What the database's engine keeps of its file is left out of the ledger's: it grows with the file until it is 1 GB.

Half a minute in `make test-all`; ten minutes in `make soak`, or as many seconds as `HELMR_GROWTH_S` says.
"""

from __future__ import annotations

import logging
import os
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack import host_tasks
from tests.stack.live import LiveRuntime, command, until

pytestmark = [pytest.mark.ray, pytest.mark.allows_blocking, pytest.mark.timeout(0)]

CALLERS = 6
LOOKS = 50
"""Of each process, over the whole run."""

SHARE = 0.1
SPARE_MB, SPARE_AT_FIRST_MB = 8.0, 24.0
"""What a process may have grown between the second fifth of the time and the last. In the first half minute the ledger
still fills what it keeps of ended sessions (2,000 of them at most): 15 to 19 MB at 30 sessions a second."""

WAL_MAX_MB = 32
"""The engine puts its log into the file when it has 16 MB. It refuses while a transaction that read is still open."""

SOAK_S = float(os.environ.get("HELMR_GROWTH_S", "600"))
log = logging.getLogger("helmr.tests")


@pytest.mark.parametrize(
    ("seconds", "spare_mb"),
    [
        pytest.param(30.0, SPARE_AT_FIRST_MB, marks=pytest.mark.long),
        pytest.param(SOAK_S, SPARE_MB, marks=pytest.mark.soak),
    ],
    ids=["short", "soak"],
)
def test_no_process_grows_and_no_run_is_left_behind(
    make_runtime: Callable[..., LiveRuntime], seconds: float, spare_mb: float
) -> None:
    live = make_runtime(tasks=Path(host_tasks.__file__), hosts=1, sessions_per_host=100)
    over = threading.Event()
    with ThreadPoolExecutor(CALLERS) as pool:
        calling = [pool.submit(begin_answer_and_end, live, over) for _ in range(CALLERS)]
        looks = look_for(live, seconds)
        over.set()
        stopped_at = time.monotonic()
        count = sum(one.result() for one in calling)
    until(lambda: not left_behind(live), within_s=60, what="no run is left")
    backlog_s = time.monotonic() - stopped_at
    log.info("%d sessions in %.0f s, the last ended %.1f s after", count, seconds, backlog_s)
    grown = []
    for name, sizes_mb in sorted(looks.items()):
        early, late = fifth(sizes_mb, 1), fifth(sizes_mb, 4)
        log.info("%s: %.0f MB in the second fifth, %.0f MB in the last", name, early, late)
        if late > early * (1 + SHARE) + spare_mb:
            grown.append(f"{name}: from {early:.0f} to {late:.0f} MB")
    wal_mb = live.client.health().ledger["wal_bytes"] / 2**20
    assert count > seconds
    assert grown == []
    assert wal_mb < WAL_MAX_MB


def begin_answer_and_end(live: LiveRuntime, over: threading.Event) -> int:
    """One session after the other; how many."""
    count = 0
    while not over.is_set():
        started = live.client.sessions.start("agent", 0.0).session
        session = live.client.sessions.open(started.id)
        wait = live.waiting(started.id, within_s=60)
        live.client.waits.answer(wait.id, "on")
        until(lambda one=session: one.get().activity == "idle", within_s=60, what="it ends")  # type: ignore[misc]
        session.close()
        count += 1
    return count


def left_behind(live: LiveRuntime) -> int:
    """Sessions that have not ended."""
    return int(live.client.health().counts["sessions_open"])


def look_for(live: LiveRuntime, seconds: float) -> dict[str, list[float]]:
    """By process, what it had each time; only of those that lived all the while."""
    looks: defaultdict[int, list[float]] = defaultdict(list)
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        of_file = live.pid_of("ledger"), live.client.health().ledger["engine_bytes"] / 2**20
        for pid in live.pids():
            size = pss_mb(pid)
            if size is not None:
                looks[pid].append(size - of_file[1] if pid == of_file[0] else size)
        time.sleep(seconds / LOOKS)
    most = max(map(len, looks.values()))
    names = {pid: name_of(live, pid) for pid, sizes in looks.items() if len(sizes) == most}
    times = Counter(names.values())
    return {
        name if times[name] == 1 else f"{name} {pid}": looks[pid] for pid, name in names.items()
    }


def pss_mb(pid: int) -> float | None:
    """Its share of memory, None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    found = [line.split()[1] for line in text.splitlines() if line.startswith("Pss:")]
    return int(found[0]) / 1024 if found else None


def name_of(live: LiveRuntime, pid: int) -> str:
    """What the process is: the log of its actor says it, or its command."""
    logs = live.data_dir / "logs"
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = descriptor.readlink()
            if target.parent == logs:
                return target.stem.removeprefix("helmr-")
    except OSError:
        return "ended"
    words = [Path(word).name for word in command(pid).split()]
    return next((word for word in words if not word.startswith(("python", "-"))), "process")


def fifth(sizes: Sequence[float], number: int) -> float:
    """The median of one fifth of the time, from 0."""
    step = len(sizes) // 5
    return statistics.median(sizes[number * step : (number + 1) * step])
