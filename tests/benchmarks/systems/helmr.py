"""Helmr as `helmr up` starts it, over HTTP, with its default settings.

A reply is a record of an output stream that its caller follows; what waits and what has ended, one follower of the
whole feed says.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from helmr.client.discovery import read_credentials
from tests.benchmarks.processes import Server
from tests.benchmarks.systems.base import POLL_S, HttpSystem

TASKS = Path(__file__).parents[1] / "apps" / "helmr_bench_tasks.py"


class Helmr(HttpSystem):
    name = "helmr"

    def __init__(self) -> None:
        super().__init__()
        self._followers: list[asyncio.Task[None]] = []
        self._waiting: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._ended: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._replies: dict[str, asyncio.Queue[str]] = {}
        self._pool: dict[str, Any] = {}

    @classmethod
    def check(cls) -> None:
        """It is what is being worked on."""

    def settings(self) -> dict[str, str]:
        hosts = self._pool.get("hosts", {}).get("total")
        return {
            "version": version("helmr"),
            "started": "helmr up, default settings, over HTTP",
            "hosts": str(hosts),
            "on disk": f"DuckDB {version('duckdb')}: each commit is synced, there is no setting",
        }

    async def start(self, folder: Path) -> None:
        shutil.copy(TASKS, folder)
        data_dir = folder / "data"
        environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-m", "helmr.cli", "up", TASKS.name, "--port=0"]
        self.servers = [
            Server(
                [*command, f"--data-dir={data_dir}"],
                folder / "up.log",
                environment=environment,
                cwd=folder,
            )
        ]
        path = data_dir / "credentials.json"
        await self.answers(lambda: read_credentials(path))
        found = read_credentials(path)
        assert found is not None
        self.http.base_url = httpx.URL(found.url)
        self.http.headers["Authorization"] = f"Bearer {found.key}"
        await self.answers(f"{found.url}/readyz")
        self._pool = (await self.http.get("/readyz")).json()["pool"]
        connected = asyncio.Event()
        self._follow(self._follow_all(connected))
        await connected.wait()

    async def stop(self) -> None:
        for task in self._followers:
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await super().stop()

    async def begin_chat(self, turns: int) -> str:
        return await self._begin("bench-chat", turns)

    async def begin_busy(self, duration_s: float) -> str:
        return await self._begin("bench-busy", duration_s)

    async def _begin(self, task: str, payload: Any) -> str:
        answer = await self.post("/v1/sessions", {"task": task, "payload": payload})
        return str(answer.json()["session"]["id"])

    async def waits(self, session: str) -> None:
        await self._waiting[session].wait()

    async def send(self, session: str, turn: int, message: str) -> None:
        path = f"/v1/sessions/{session}/inputs/messages"
        await self.post(path, {"data": message})

    async def reply(self, session: str, turn: int) -> str:
        queue = self._replies.get(session)
        if queue is None:
            queue = self._replies[session] = asyncio.Queue()
            self._follow(self._follow_replies(session, queue))
        return await queue.get()

    async def ended(self, session: str) -> None:
        await self._ended[session].wait()

    async def parked(self) -> None:
        while (await self.http.get("/readyz")).json()["counts"]["sessions_held"]:
            await asyncio.sleep(POLL_S)

    def _follow(self, following: Any) -> None:
        self._followers.append(asyncio.ensure_future(following))

    async def _follow_all(self, connected: asyncio.Event) -> None:
        async for entry in self._events("/v1/events", connected):
            if entry["kind"] == "wait.opened":
                self._waiting[entry["session_id"]].set()
            elif entry["kind"] in ("run.succeeded", "run.failed", "run.blocked"):
                assert entry["kind"] == "run.succeeded", entry
                self._ended[entry["session_id"]].set()

    async def _follow_replies(self, session: str, queue: asyncio.Queue[str]) -> None:
        async for record in self._events(f"/v1/sessions/{session}/outputs/replies"):
            queue.put_nowait(record["data"])

    async def _events(
        self, path: str, connected: asyncio.Event | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        headers = {"Accept": "text/event-stream"}
        async with self.http.stream("GET", path, headers=headers) as answer:
            answer.raise_for_status()
            if connected is not None:
                connected.set()
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])
