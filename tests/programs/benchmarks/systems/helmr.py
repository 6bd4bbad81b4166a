"""Helmr as `helmr up` starts it, over HTTP, with its default settings; and the same in one process, without Ray.

A reply is a record of an output stream that its caller follows; what waits and what has ended, one follower of the
whole feed says.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import quantiles
from typing import Any, ClassVar

from helmr.client.discovery import read_credentials
from helmr_runtime.ledger.log.stores import open_objects
from tests.ledger.store_servers import Seaweed, seaweed_program
from tests.programs.benchmarks.processes import Server
from tests.programs.benchmarks.systems.base import INBOX, POLL_S, HttpSystem, Missing
from tests.programs.benchmarks.systems.clusters import check_postgres, started_cluster

TASKS = Path(__file__).parents[1] / "apps" / "helmr_bench_tasks.py"
LOG_IS_ELSEWHERE = "its ledger is made in a file only"
PUTS, PUT_BYTES = 200, 1_500


class Helmr(HttpSystem):
    name: ClassVar[str] = "helmr"
    parks: ClassVar[bool] = True
    held_max: ClassVar[int] = 1_000_000
    arguments: ClassVar[Sequence[str]] = ()
    """Of `helmr up`, beside those that give it a folder and a port of its own."""
    python: ClassVar[str] = sys.executable
    """Runs it: that of another checkout for an earlier commit."""
    commit: ClassVar[str] = ""
    """That earlier commit."""

    def __init__(self, tasks: Path = TASKS) -> None:
        super().__init__()
        self.folder = Path()
        self._tasks = tasks
        self._followers: list[asyncio.Task[None]] = []
        self._waiting: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._ended: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._replies: dict[str, asyncio.Queue[str]] = {}
        self._pool: dict[str, Any] = {}
        self.log: Sequence[str] = ()
        """Where its log is, as `helmr up` is told that."""

    @classmethod
    def check(cls) -> None:
        """It is what is being worked on."""

    @property
    def data_dir(self) -> Path:
        """Where its sessions are stored."""
        return self.folder / "data"

    def settings(self) -> dict[str, str]:
        hosts = self._pool.get("hosts", {}).get("total")
        options = " ".join(self.arguments) or "default settings"
        return {
            "version": self.commit or version("helmr"),
            "started": f"helmr up, {options}, over HTTP",
            "hosts": str(hosts),
            "on disk": f"DuckDB {version('duckdb')}: each commit is synced, there is no setting",
        }

    async def start(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(self._tasks, folder)
        await self.up()
        self._pool = (await self.get("/readyz"))["pool"]
        connected = asyncio.Event()
        self._follow(self._follow_all(connected))
        await connected.wait()

    async def up(self) -> None:
        """Start its processes, and return when it is ready."""
        path = self.data_dir / "credentials.json"
        path.unlink(missing_ok=True)
        self.servers.append(self._server())
        await self.answers(lambda: read_credentials(path))
        found = read_credentials(path)
        assert found is not None
        self.url = found.url
        self.headers = {"Authorization": f"Bearer {found.key}"}
        await self.answers(f"{self.url}/readyz")

    def _environment(self) -> dict[str, str]:
        # By PYTHONPATH an earlier commit would import what is here.
        left_out = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
        return {
            **{name: value for name, value in os.environ.items() if name not in left_out},
            "XDG_STATE_HOME": str(self.folder / "state"),
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }

    def _server(self) -> Server:
        command = [self.python, "-m", "helmr.cli", "up", self._tasks.name, "--port=0"]
        return Server(
            [*command, f"--data-dir={self.data_dir}", *self.arguments, *self.log],
            self.folder / "up.log",
            environment=self._environment(),
            cwd=self.folder,
        )

    async def stop(self) -> None:
        await self.unfollow()
        await super().stop()

    async def unfollow(self) -> None:
        """End what follows, as when its connections are lost."""
        for task in self._followers:
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        self._followers.clear()
        self._replies.clear()

    async def begin_chat(self, turns: int) -> str:
        return await self.begin("bench-chat", turns)

    async def begin_busy(self, duration_s: float) -> str:
        return await self.begin("bench-busy", duration_s)

    async def begin_steps(self) -> str:
        return await self.begin("bench-steps", 0)

    async def begin(self, task: str, payload: Any) -> str:
        """Start a session."""
        answer = await self.post("/v1/sessions", {"task": task, "payload": payload})
        return str(answer["session"]["id"])

    async def waits(self, session: str) -> None:
        await self._waiting[session].wait()

    async def send(self, session: str, turn: int, message: str) -> None:
        await self.post(f"/v1/sessions/{session}/inputs/messages", {"data": message})

    async def reply(self, session: str, turn: int) -> str:
        queue = self._replies.get(session)
        if queue is None:
            queue = self._replies[session] = asyncio.Queue()
            self._follow(self._follow_replies(session, queue))
        return await queue.get()

    async def ended(self, session: str) -> None:
        await self._ended[session].wait()

    async def parked(self) -> None:
        while (await self.get("/readyz"))["counts"]["sessions_held"]:
            await asyncio.sleep(POLL_S)

    async def hold(self, count: int) -> str:
        """One is started, and the others written like it, by the code that writes them for a runtime."""
        from tests.programs.benchmarks.scale.build import Pattern, add, open_at

        session = await self.begin_chat(1)
        await self.waits(session)
        pattern = Pattern.of(await self.transcript(session))
        await self.parked()
        await self.stop()
        ledger = await open_at(self.data_dir)
        await add(ledger, pattern, count - 1)
        await ledger.close()
        await self.start(self.folder)
        return session

    async def transcript(self, session: str) -> Sequence[dict[str, Any]]:
        """All of a session's entries."""
        lines: list[dict[str, Any]] = []
        while True:
            after = lines[-1]["seq"] if lines else 0
            page = await self.get(f"/v1/sessions/{session}/transcript?after={after}&limit=200")
            lines += page["items"]
            if page["next_cursor"] is None:
                return lines

    async def restart(self) -> None:
        await self.unfollow()
        await asyncio.to_thread(self.servers.pop().stop)
        await self.up()

    async def inbox(self) -> int:
        return len((await self.get(f"/v1/waits?limit={INBOX}"))["items"])

    async def send_by_command(self, session: str, message: str) -> None:
        command = ("input", "send", session, "messages", "--data", json.dumps(message))
        done = await asyncio.create_subprocess_exec(
            *(self.python, "-m", "helmr.cli", *command, f"--data-dir={self.data_dir}"),
            stdout=asyncio.subprocess.DEVNULL,
            env=self._environment(),
            cwd=self.folder,
        )
        assert await done.wait() == 0

    def _follow(self, following: Coroutine[Any, Any, None]) -> None:
        self._followers.append(asyncio.create_task(following))

    async def _follow_all(self, connected: asyncio.Event) -> None:
        async for line in self.lines("/v1/events", connected):
            self.heard(json.loads(line))

    def heard(self, entry: dict[str, Any]) -> None:
        """Take in an entry of the feed."""
        if entry["kind"] == "wait.opened":
            self._waiting[entry["session_id"]].set()
        elif entry["kind"] in ("run.succeeded", "run.failed", "run.blocked"):
            assert entry["kind"] == "run.succeeded", entry
            self._ended[entry["session_id"]].set()

    async def _follow_replies(self, session: str, queue: asyncio.Queue[str]) -> None:
        async for line in self.lines(f"/v1/sessions/{session}/outputs/replies"):
            queue.put_nowait(json.loads(line)["data"])


class HelmrInProcess(Helmr):
    name: ClassVar[str] = "helmr-in-process"
    arguments: ClassVar[Sequence[str]] = ("--in-process",)


class HelmrOnPostgres(HelmrInProcess):
    """Its log in a PostgreSQL of its own, which is set as that of DBOS is."""

    name: ClassVar[str] = "helmr-postgres"
    reasons: ClassVar[Mapping[str, str]] = {"h": LOG_IS_ELSEWHERE}

    def __init__(self, tasks: Path = TASKS) -> None:
        super().__init__(tasks)
        self._shown: dict[str, str] = {}

    @classmethod
    def check(cls) -> None:
        check_postgres()
        if find_spec("psycopg") is None:
            raise Missing("psycopg is missing: pip install 'helmr[postgres]'")

    def settings(self) -> dict[str, str]:
        return {**super().settings(), "on disk": "each commit is a row", **self._shown}

    async def start(self, folder: Path) -> None:
        where, self._shown = await started_cluster(self, folder)
        self.log = (f"--log=postgresql://bench@/bench{where}",)
        await super().start(folder)


class HelmrOnBucket(HelmrInProcess):
    """Its log in a bucket of a SeaweedFS on this machine."""

    name: ClassVar[str] = "helmr-bucket"
    reasons: ClassVar[Mapping[str, str]] = {"h": LOG_IS_ELSEWHERE}

    def __init__(self, tasks: Path = TASKS) -> None:
        super().__init__(tasks)
        self._bucket: Seaweed | None = None
        self._put_ms = ""

    @classmethod
    def check(cls) -> None:
        if seaweed_program() is None:
            raise Missing("SeaweedFS is missing: make .venv/.stamp-servers")

    def settings(self) -> dict[str, str]:
        said = {"on disk": "each commit is an object", "a PUT by itself": self._put_ms}
        return {**super().settings(), **said}

    async def start(self, folder: Path) -> None:
        self._bucket = bucket = Seaweed(folder / "weed")
        await asyncio.to_thread(bucket.start)
        self.log = (f"--log={bucket.url('log')}",)
        self._put_ms = await asyncio.to_thread(_put_ms, bucket.url("probe"))
        await super().start(folder)

    async def stop(self) -> None:
        await super().stop()
        if self._bucket is not None:
            await asyncio.to_thread(self._bucket.kill)
            self._bucket = None


def _put_ms(url: str) -> str:
    """How long one takes of a usual commit's size, half of them and nine of ten."""
    objects, times_s = open_objects(url), list[float]()
    for number in range(PUTS):
        began_s = time.perf_counter()
        objects.create(f"{number:06}", bytes(PUT_BYTES))
        times_s.append(time.perf_counter() - began_s)
    objects.close()
    cut = quantiles(times_s, n=10)
    return f"{cut[4] * 1000:.1f} ms, nine of ten within {cut[8] * 1000:.1f} ms"
