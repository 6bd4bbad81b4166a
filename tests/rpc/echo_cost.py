"""What a call costs through Ray and as a frame: one process, asked both ways in turn for the same commit.

    python -m tests.rpc.echo_cost

The figures of one run are to be compared with one another; they are those of decision 0027.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import ray
import uvloop

from helmr_runtime.core.entries import Entry, EntryKind, Principal
from helmr_runtime.ports import Flush
from helmr_runtime.rpc.ray import NAMESPACE, RayCalls
from helmr_runtime.rpc.socket_calls import Sockets
from helmr_runtime.rpc.sockets import SocketServer, socket_path

NAME = "helmr-echo"
ROUNDS = 5
CALLS = 400


class Host:
    """Answers with its argument, both ways."""

    async def call(self, method: str, /, *args: Any) -> Any:
        """Echo; or listen."""
        if method != "listen":
            return args[0]
        path = socket_path(args[0], NAME)
        assert path is not None
        self._server = SocketServer(path, name=NAME, version="1", handle=self.call)
        await self._server.start()
        return psutil.Process().pid


def commit() -> Flush:
    """A flush of three entries, as an answer makes them."""
    body = {"record_id": "rec_" + "0" * 26, "stream": "answers", "data": {"note": "x" * 100}}
    who = Principal("api_key", "key_" + "0" * 26, "anna")
    made = datetime(2026, 1, 1, tzinfo=UTC)
    entries = tuple(
        Entry("ses_1", seq, made, EntryKind.INPUT_ACCEPTED, "run_1", 3, who, body, "{}", b"h" * 32)
        for seq in range(3)
    )
    return Flush(session_id="ses_1", epoch=1, first_seq=1, previous_hash=b"h", entries=entries)


async def measured(
    call: Callable[[], Awaitable[Any]], callers: int, processes: list[psutil.Process]
) -> tuple[float, float]:
    """Median latency and CPU of both processes, ms a call."""
    took: list[float] = []

    async def caller() -> None:
        for _ in range(CALLS // callers):
            began = time.perf_counter()
            await call()
            took.append(time.perf_counter() - began)

    before = sum(sum(one.cpu_times()[:2]) for one in processes)
    await asyncio.gather(*(caller() for _ in range(callers)))
    used = sum(sum(one.cpu_times()[:2]) for one in processes) - before
    return statistics.median(took) * 1e3, used / len(took) * 1e3


async def main(run_dir: str) -> None:
    """Print a line for each way and number of callers: the medians of the rounds."""
    through_ray = RayCalls()
    await through_ray.create(NAME, Host, options={"max_concurrency": 1_000})
    pid = await through_ray.call(NAME, "listen", run_dir)
    peer = await Sockets(run_dir, "1").peer(NAME)
    assert peer is not None
    flush = commit()
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "Ray": lambda: through_ray.call(NAME, "echo", flush),
        "frame": lambda: peer.call("echo", (flush,), {}),
    }
    processes = [psutil.Process(), psutil.Process(pid)]
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for callers in (1, 16):
            for way, call in ways.items():
                one = await measured(call, callers, processes)
                found.setdefault((way, callers), []).append(one)
    for (way, callers), rounds in sorted(found.items(), key=lambda item: item[0][1]):
        latency, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        sys.stdout.write(f"{way:6} {callers:3} callers  {latency:6.2f} ms  {cpu:6.2f} ms of CPU\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=1, include_dashboard=False, namespace=NAMESPACE, log_to_driver=False)
        uvloop.run(main(folder))
        ray.shutdown()
