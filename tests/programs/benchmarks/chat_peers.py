"""The chat of Pydantic AI with DBOS on PostgreSQL and with Temporal: `python -m tests.programs.benchmarks.chat_peers`.

What `chats.py` does with Helmr: a line for each size, of a turn's bytes and what it takes, and of what the first turn
of a process takes besides, which executes the chat so far again. docs/chats.md shows its numbers.
"""

from __future__ import annotations

import abc
import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import psutil

from tests.programs.benchmarks.processes import Server, free_port, tree
from tests.programs.benchmarks.systems.base import POLL_S, START_S, Missing
from tests.programs.benchmarks.systems.dbos import DbosOnPostgres

ROOT = Path(__file__).parents[3]
APPS = "tests.programs.benchmarks.apps"
HOT = 8
"""Turns of each size that are measured; before the first of them the process is started again."""


class Peer(abc.ABC):
    """A system with one chat."""

    app: ClassVar[str]

    @classmethod
    @abc.abstractmethod
    def check(cls) -> None:
        """Raise `Missing` if it can't be started here."""

    @abc.abstractmethod
    async def start(self, folder: Path) -> str:
        """Start its server; where that is."""

    @abc.abstractmethod
    def roots(self) -> list[int]:
        """The server's processes."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """End it."""

    @abc.abstractmethod
    async def stored(self, told: dict[str, Any]) -> int:
        """Bytes that are stored of the chat, after a process has told what it did."""


class DbosPeer(Peer):
    app = "dbos_chat_app"

    def __init__(self) -> None:
        self._system = DbosOnPostgres()
        self._url = ""

    @classmethod
    def check(cls) -> None:
        DbosOnPostgres.check()

    async def start(self, folder: Path) -> str:
        self._url = await self._system.database(folder)
        return self._url

    def roots(self) -> list[int]:
        return self._system.roots()

    async def stop(self) -> None:
        await self._system.stop()

    async def stored(self, told: dict[str, Any]) -> int:
        return await asyncio.to_thread(self._stored)

    def _stored(self) -> int:
        """Of all rows, as PostgreSQL keeps them."""
        import psycopg

        where = self._url.replace("+psycopg", "")
        with psycopg.connect(where, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'dbos'"
            ).fetchall()
            sizes = [
                connection.execute(
                    f'SELECT coalesce(sum(pg_column_size(t)), 0) FROM dbos."{name}" t'
                ).fetchone()
                for (name,) in tables
            ]
        return sum(int(row[0]) for row in sizes if row is not None)


class TemporalPeer(Peer):
    app = "temporal_chat_app"

    def __init__(self) -> None:
        self._servers: list[Server] = []

    @classmethod
    def check(cls) -> None:
        if find_spec("temporalio") is None or temporal_command() is None:
            raise Missing("temporalio or its server is missing: pip install 'helmr[bench]'")

    async def start(self, folder: Path) -> str:
        """Its development server, whose database is a file of SQLite."""
        port = free_port()
        command = [str(temporal_command()), "server", "start-dev", "--headless"]
        where = [f"--port={port}", f"--db-filename={folder / 'temporal.db'}", "--log-level=error"]
        log = folder / "temporal.log"
        server = Server([*command, *where], log, environment=os.environ, cwd=folder)
        self._servers.append(server)
        async with asyncio.timeout(START_S):
            while not await listens(port):
                server.check()
                await asyncio.sleep(POLL_S)
        return f"127.0.0.1:{port}"

    def roots(self) -> list[int]:
        return [server.pid for server in self._servers]

    async def stop(self) -> None:
        for server in self._servers:
            await asyncio.to_thread(server.stop)

    async def stored(self, told: dict[str, Any]) -> int:
        return int(told["bytes"])


def temporal_command() -> str | None:
    """Temporal's command line, which a wheel brings beside Python."""
    beside = Path(sys.executable).with_name("temporal")
    return str(beside) if beside.exists() else shutil.which("temporal")


async def listens(port: int) -> bool:
    """Whether anything does on that port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def server_cpu_s(roots: list[int]) -> float:
    """CPU seconds of the servers so far, with those of their processes that have ended."""
    times = []
    for process in tree(roots):
        with suppress(psutil.NoSuchProcess):  # then its parent has its times
            times.append(process.cpu_times())
    ended = [psutil.Process(root).cpu_times() for root in roots]
    live_s = sum(one.user + one.system for one in times)
    return float(live_s + sum(one.children_user + one.children_system for one in ended))


async def turns(app: str, where: str, first: int, last: int) -> dict[str, Any]:
    """What a process of its own tells that does these turns."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{APPS}.{app}", where, str(first), str(last)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{app} ended with {process.returncode} in turns {first} to {last}")
    told: dict[str, Any] = json.loads(output.splitlines()[-1])
    return told


async def measure(peer: Peer, sizes: list[int]) -> None:
    """All sizes, one after the other, of one chat."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            where = await peer.start(Path(folder))
            done = 0
            for size in sizes:
                begun = size - HOT
                before = await peer.stored(await turns(peer.app, where, done + 1, begun))
                began_s = server_cpu_s(peer.roots())
                told = await turns(peer.app, where, begun + 1, size)
                server_s = server_cpu_s(peer.roots()) - began_s
                after, done = await peer.stored(told), size
                resumed, *hot = told["turns"]
                walls, cpus = zip(*hot, strict=True)
                found = {
                    "bytes": (after - before) // HOT,
                    "hot": (round(statistics.median(walls)), round(statistics.mean(cpus))),
                    "resume": tuple(
                        round(a - statistics.mean(b))
                        for a, b in zip(resumed, (walls, cpus), strict=True)
                    ),
                    "server": round(1000 * server_s / HOT),
                    "runs": told.get("runs"),
                }
                sys.stdout.write(f"{peer.app} at turn {size}: {found}\n")
                sys.stdout.flush()
        finally:
            await peer.stop()


PEERS = {"dbos": DbosPeer, "temporal": TemporalPeer}


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peers", nargs="*", default=list(PEERS))
    parser.add_argument("--turns", default="10,50,200,400")
    asked = parser.parse_args()
    for name in asked.peers:
        PEERS[name].check()
        asyncio.run(measure(PEERS[name](), [int(size) for size in asked.turns.split(",")]))


if __name__ == "__main__":
    main()
