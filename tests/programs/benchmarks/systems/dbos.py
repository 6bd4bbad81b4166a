"""DBOS behind FastAPI, as its documentation shows, on PostgreSQL and on SQLite; one process.

A reply is an event of the workflow that its caller waits for.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from tests.programs.benchmarks.processes import Server, free_port
from tests.programs.benchmarks.systems.base import HttpSystem, Missing
from tests.programs.benchmarks.systems.clusters import check_postgres, started_cluster

APP = Path(__file__).parents[1] / "apps" / "dbos_bench_app.py"
NO_COMMAND = "has no command that sends"


class Dbos(HttpSystem):
    """What both have in common."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path()
        self._database = ""

    async def start(self, folder: Path) -> None:
        self._folder = folder
        self._database = await self.database(folder)
        await self._serve()

    async def database(self, folder: Path) -> str:
        """The URL of its system database, which is ready."""
        raise NotImplementedError

    async def _serve(self) -> None:
        port = free_port()
        self.servers.append(
            Server(
                [sys.executable, str(APP), str(port), self._database],
                self._folder / "dbos.log",
                environment=os.environ,
                cwd=self._folder,
            )
        )
        self.url = f"http://127.0.0.1:{port}"
        await self.answers(f"{self.url}/ready")

    async def begin_chat(self, turns: int) -> str:
        return await self._begin("/chats", {"turns": turns})

    async def begin_busy(self, duration_s: float) -> str:
        return await self._begin("/busy", {"duration_s": duration_s})

    async def begin_steps(self) -> str:
        return await self._begin("/steps", {})

    async def _begin(self, path: str, body: dict[str, float]) -> str:
        return str((await self.post(path, body))["id"])

    async def waits(self, session: str) -> None:
        await self._event(session, "waits")

    async def send(self, session: str, turn: int, message: str) -> None:
        await self.post(f"/sessions/{session}/messages", {"message": message})

    async def reply(self, session: str, turn: int) -> str:
        return str(await self._event(session, f"reply-{turn}"))

    async def ended(self, session: str) -> None:
        await self._event(session, "reply-0")

    async def restart(self) -> None:
        """The app; its database is up all the time, as it would be."""
        await asyncio.to_thread(self.servers.pop().stop)
        await self._serve()

    async def inbox(self) -> int:
        return int((await self.get("/inbox"))["count"])

    async def _event(self, session: str, name: str) -> object:
        return (await self.get(f"/sessions/{session}/events/{name}"))["value"]


class DbosOnPostgres(Dbos):
    name: ClassVar[str] = "dbos-postgres"
    reasons: ClassVar[Mapping[str, str]] = {"j": NO_COMMAND}

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[str, str] = {}

    @classmethod
    def check(cls) -> None:
        _check_dbos()
        check_postgres()

    def settings(self) -> dict[str, str]:
        return {"version": version("dbos"), "in front": "FastAPI, one process", **self._shown}

    async def database(self, folder: Path) -> str:
        where, self._shown = await started_cluster(self, folder)
        return f"postgresql+psycopg://bench@/bench{where}"


class DbosOnSqlite(Dbos):
    name: ClassVar[str] = "dbos-sqlite"
    pace: ClassVar[int] = 10
    reasons: ClassVar[Mapping[str, str]] = {
        "i": "looks for messages once a second as it comes: 1,000 turns take 17 minutes",
        "j": NO_COMMAND,
    }

    @classmethod
    def check(cls) -> None:
        _check_dbos()

    def settings(self) -> dict[str, str]:
        return {
            "version": version("dbos"),
            "in front": "FastAPI, one process",
            "on disk": "SQLite as DBOS sets it",
        }

    async def database(self, folder: Path) -> str:
        return f"sqlite:///{folder / 'dbos.sqlite'}"


def _check_dbos() -> None:
    for module in ("dbos", "psycopg"):
        if find_spec(module) is None:
            raise Missing(f"{module} is missing: pip install 'helmr[bench]'")
