"""The Ray way beside HTTP, in one process and in turns: `python -m tests.contract.overhead RESULT`; asked by stdin."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import ray

from helmr.client import AsyncClient

ROUNDS = 10
CALLS_A_ROUND = 30
SENDERS = 16
OPENED = 10


async def _times_ms(count: int, call: Callable[[], Awaitable[Any]]) -> list[float]:
    found = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        found.append((time.perf_counter() - began) * 1000)
    return found


class Side:
    """One way, with a session of its own that takes words."""

    def __init__(self, name: str, target: dict[str, Any]) -> None:
        self.name = name
        self.target = target
        self.times_ms: dict[str, list[float]] = {}

    async def begin(self) -> None:
        """Open a client and start the session."""
        self.client = AsyncClient(**self.target)
        started = await self.client.sessions.start("contract-echo", 0)
        self.session = self.client.sessions.open(started.id)
        await self._send()

    async def round(self) -> None:
        """A round of each measurement."""
        self._add("send", await _times_ms(CALLS_A_ROUND, self._send))
        self._add("get", await _times_ms(CALLS_A_ROUND, self.session.get))
        self._add("open", await _times_ms(OPENED // ROUNDS, self._open))
        began = time.perf_counter()
        await asyncio.gather(*(_times_ms(CALLS_A_ROUND // 3, self._send) for _ in range(SENDERS)))
        spent_s = time.perf_counter() - began
        self._add("sends_per_s", [SENDERS * (CALLS_A_ROUND // 3) / spent_s])

    async def _send(self) -> None:
        await self.session.input("words").send("x")

    async def _open(self) -> None:
        """A client from nothing to its first answer."""
        async with AsyncClient(**self.target) as client:
            await client.sessions.open(self.session.id).get()

    def _add(self, name: str, found: list[float]) -> None:
        self.times_ms.setdefault(name, []).extend(found)

    def medians(self) -> dict[str, float]:
        """Of everything that was measured."""
        return {name: statistics.median(found) for name, found in self.times_ms.items()}


async def measure(options: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The medians of both ways, which take turns."""
    http = Side("http", {"url": options["url"], "key": options["key"]})
    inside = Side("ray", {"url": "ray"})
    for side in (http, inside):
        await side.begin()
        await side.round()
        side.times_ms.clear()  # the first round warms up
    for number in range(ROUNDS):
        for side in (http, inside)[:: 1 if number % 2 else -1]:
            await side.round()
    for side in (http, inside):
        await side.client.close()
    return {side.name: side.medians() for side in (http, inside)}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    ray.init(address=given["address"], log_to_driver=False, configure_logging=False)
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(measure(given))))
