"""Restate's server, called through its ingress, and the tasks on its Python SDK behind Hypercorn; one process each.

A reply is a durable promise that its caller's call is attached to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import httpx

from tests.benchmarks.processes import Server, free_port
from tests.benchmarks.systems.base import HttpSystem, Missing

APPS = Path(__file__).parents[1] / "apps"
INSTALLED = Path(".bench/node_modules/.bin/restate-server")
"""Where the line of `check` puts it."""

SYNCED = {
    "RESTATE_BIFROST__LOCAL__ROCKSDB_DISABLE_WAL_FSYNC": "false",
    "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": "false",
}


class Restate(HttpSystem):
    name: ClassVar[str] = "restate"

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

    async def start(self, folder: Path) -> None:
        ingress, admin, node, service = (free_port() for _ in range(4))
        self.servers = [
            Server(
                [str(restate_server()), "--no-logo", f"--base-dir={folder / 'restate'}"],
                folder / "restate.log",
                environment={
                    **os.environ,
                    **SYNCED,
                    "DO_NOT_TRACK": "1",
                    "RESTATE_LISTEN_MODE": "tcp",
                    "RESTATE_NODE_NAME": "bench",
                    "RESTATE_BIND_IP": "127.0.0.1",
                    "RESTATE_BIND_PORT": str(node),
                    "RESTATE_ADVERTISED_HOST": "127.0.0.1",
                    "RESTATE_INGRESS__BIND_PORT": str(ingress),
                    "RESTATE_ADMIN__BIND_PORT": str(admin),
                    "RESTATE_LOG_FILTER": "warn",
                },
                cwd=folder,
            ),
            Server(
                [
                    *(sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{service}"),
                    "restate_bench_app:app",
                ],
                folder / "service.log",
                environment=os.environ,
                cwd=APPS,
            ),
        ]
        await self.answers(f"http://127.0.0.1:{admin}/health")
        await self.answers(f"http://127.0.0.1:{ingress}/restate/health")
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            answer = await client.post(
                f"http://127.0.0.1:{admin}/deployments",
                json={"uri": f"http://127.0.0.1:{service}"},
            )
            answer.raise_for_status()
        self.http.base_url = f"http://127.0.0.1:{ingress}"

    async def begin_chat(self, turns: int) -> str:
        return await self._begin("Chat", turns)

    async def begin_busy(self, duration_s: float) -> str:
        return await self._begin("Busy", duration_s)

    async def _begin(self, workflow: str, payload: float) -> str:
        session = f"{workflow}/{uuid4()}"
        await self.post(f"/{session}/run/send", payload)
        return session

    async def waits(self, session: str) -> None:
        await self._promised(session, "waits")

    async def send(self, session: str, turn: int, message: str) -> None:
        body = {"turn": str(turn), "message": message}
        await self.post(f"/{session}/send", body)

    async def reply(self, session: str, turn: int) -> str:
        return await self._promised(session, f"reply-{turn}")

    async def ended(self, session: str) -> None:
        answer = await self.http.get(f"/restate/workflow/{session}/attach")
        answer.raise_for_status()

    async def _promised(self, session: str, name: str) -> str:
        answer = await self.post(f"/{session}/promised", name)
        return str(answer.json())


def restate_server() -> Path | None:
    """The program, on the path or where it was installed for this."""
    named = shutil.which("restate-server")
    if named is not None:
        return Path(named)
    return INSTALLED.resolve() if INSTALLED.exists() else None
