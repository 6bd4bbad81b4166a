"""Restate's server, called through its ingress, and the tasks on its Python SDK behind Hypercorn; one process each.

A reply is a durable promise that its caller's call is attached to.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import aiohttp

from tests.programs.benchmarks.processes import Server, free_port
from tests.programs.benchmarks.systems.base import INBOX, POLL_S, START_S, HttpSystem, Missing

APPS = Path(__file__).parents[1] / "apps"
INSTALLED = Path(".bench/node_modules/.bin/restate-server")
"""Where the line of `check` puts it."""

INBOX_SQL = f"SELECT id FROM sys_invocation WHERE target_service_name = 'Chat' LIMIT {INBOX}"

SYNCED = {
    "RESTATE_BIFROST__LOCAL__ROCKSDB_DISABLE_WAL_FSYNC": "false",
    "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": "false",
}


class Restate(HttpSystem):
    name: ClassVar[str] = "restate"
    reasons: ClassVar[Mapping[str, str]] = {"j": "its command line sends nothing to a workflow"}

    @classmethod
    def check(cls) -> None:
        if restate_server() is None:
            raise Missing(
                "restate-server is missing: npm install --prefix .bench @restatedev/restate-server"
            )
        for module in ("restate", "hypercorn"):
            if find_spec(module) is None:
                raise Missing(f"{module} is missing: pip install 'helmr[bench]'")

    def settings(self) -> dict[str, str]:
        said = subprocess.run(
            [str(restate_server()), "--version"], capture_output=True, text=True, check=True
        )
        return {
            "version": said.stdout.strip(),
            "sdk": f"restate-sdk {version('restate-sdk')} on Hypercorn, one process",
            "on disk": "rocksdb-disable-wal-fsync = false, both logs",
        }

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path()
        self._ports: dict[str, int] = {}

    async def start(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {name: free_port() for name in ("ingress", "admin", "node", "service")}
        self.url = self._at("ingress")
        await self._up()
        await self._deployed()

    async def _deployed(self) -> None:
        """Register the tasks; their process may still be importing."""
        await self._in_time("/deployments", {"uri": self._at("service")})

    async def _in_time(self, path: str, content: object) -> Any:
        """What the admin API answers once it can: it says that it is healthy before its partitions are."""
        async with asyncio.timeout(START_S):
            while True:
                try:
                    return await self._admin(path, content)
                except aiohttp.ClientResponseError:
                    for server in self.servers:
                        server.check()
                    await asyncio.sleep(POLL_S)

    def _at(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    async def _up(self) -> None:
        self.servers = [
            Server(
                [str(restate_server()), "--no-logo", f"--base-dir={self._folder / 'restate'}"],
                self._folder / "restate.log",
                environment={
                    **os.environ,
                    **SYNCED,
                    "DO_NOT_TRACK": "1",
                    "RESTATE_LISTEN_MODE": "tcp",
                    "RESTATE_NODE_NAME": "bench",
                    "RESTATE_BIND_IP": "127.0.0.1",
                    "RESTATE_BIND_PORT": str(self._ports["node"]),
                    "RESTATE_ADVERTISED_HOST": "127.0.0.1",
                    "RESTATE_INGRESS__BIND_PORT": str(self._ports["ingress"]),
                    "RESTATE_ADMIN__BIND_PORT": str(self._ports["admin"]),
                    "RESTATE_LOG_FILTER": "warn",
                },
                cwd=self._folder,
            ),
            Server(
                [
                    *(sys.executable, "-m", "hypercorn"),
                    *("--bind", f"127.0.0.1:{self._ports['service']}"),
                    "restate_bench_app:app",
                ],
                self._folder / "service.log",
                environment=os.environ,
                cwd=APPS,
            ),
        ]
        await self.answers(f"{self._at('admin')}/health")
        await self.answers(f"{self._at('ingress')}/restate/health")

    async def restart(self) -> None:
        """The server and the tasks' process."""
        for server in self.servers:
            await asyncio.to_thread(server.stop)
        await self._up()

    async def inbox(self) -> int:
        answer = await self._in_time("/query", {"query": INBOX_SQL})
        return len(answer["rows"])

    async def _admin(self, path: str, content: object) -> Any:
        headers = {"Accept": "application/json"}
        async with self.http.post(
            self._at("admin") + path, json=content, headers=headers
        ) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def begin_chat(self, turns: int) -> str:
        return await self._begin("Chat", turns)

    async def begin_busy(self, duration_s: float) -> str:
        return await self._begin("Busy", duration_s)

    async def begin_steps(self) -> str:
        return await self._begin("Steps", 0)

    async def _begin(self, workflow: str, payload: float) -> str:
        session = f"{workflow}/{uuid4()}"
        await self.post(f"/{session}/run/send", payload)
        return session

    async def waits(self, session: str) -> None:
        await self._promised(session, "waits")

    async def send(self, session: str, turn: int, message: str) -> None:
        await self.post(f"/{session}/send", {"turn": str(turn), "message": message})

    async def reply(self, session: str, turn: int) -> str:
        return await self._promised(session, f"reply-{turn}")

    async def ended(self, session: str) -> None:
        await self.get(f"/restate/workflow/{session}/attach")

    async def _promised(self, session: str, name: str) -> str:
        return str(await self.post(f"/{session}/promised", name))


def restate_server() -> Path | None:
    """The program, on the path or where it was installed for this."""
    named = shutil.which("restate-server")
    if named is not None:
        return Path(named)
    return INSTALLED.resolve() if INSTALLED.exists() else None
