"""What is done to a runtime while its history is taken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.histories.history import Call, Kind, Outcome
from tests.stack.live import LiveRuntime, command, kill

PARTS = ("gateway", "directory", "ledger")
HOST_NAME = "ray::SharedHost"
CALM_S = (0.5, 3.0)
"""Between two faults."""
PAUSE_S = (0.3, 4.0)
DISK_MB = 192
FULL_S = 2.0


class Wire:
    """A relay before the gateway, whose connections can be cut; finds a gateway that was started again.

    Args:
        live: The runtime behind it.
    """

    def __init__(self, live: LiveRuntime) -> None:
        self._live = live
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> int:
        """Reset every connection, whatever is on it."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.transport.abort()
        return len(writers)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            address = urlsplit(self._live.credentials.url)
            there, back = await asyncio.open_connection(address.hostname, address.port)
            pair = {writer, back}
            self._writers |= pair
            await asyncio.wait(
                [
                    asyncio.ensure_future(self._carry(reader, back)),
                    asyncio.ensure_future(self._carry(there, writer)),
                ]
            )
            self._writers -= pair
            back.close()
        writer.close()

    @staticmethod
    async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A file system of its own that can be filled; None where this user may not mount one."""
    with tempfile.TemporaryDirectory(prefix="hh-") as folder:
        mounted = os.geteuid() == 0 and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder],
            capture_output=True,
            check=False,
        ).returncode  # fmt: skip
        try:
            yield Path(folder) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", "-l", folder], check=True)


class Nemesis:
    """Does one fault after the other.

    Args:
        live: Whom it is done to.
        wire: What clients reach it by.
        disk: A file system that holds its data and nothing else; None if there is none.
        sync_fails: The file that makes syncing fail while it is there; None if it can't be made to.
        seed: Of what is drawn.
        calls: The history, which faults are part of.
    """

    def __init__(
        self,
        live: LiveRuntime,
        wire: Wire,
        seed: int,
        calls: list[Call],
        *,
        disk: Path | None,
        sync_fails: Path | None,
    ) -> None:
        self._live = live
        self._wire = wire
        self._disk = disk
        self._sync_fails = sync_fails
        self._random = random.Random(f"{seed}-nemesis")
        self._calls = calls
        self.done: Counter[str] = Counter()

    async def act(self, is_over: Callable[[], bool]) -> None:
        """Until it is over."""
        faults: list[Callable[[], Awaitable[str]]] = [
            self._kill, self._kill, self._pause, self._pause, self._cut, self._fail, self._kill_all,
        ]  # fmt: skip
        if self._disk is not None:
            faults.append(self._fill)
        if self._sync_fails is not None:
            faults.append(self._fail_to_sync)
        while not is_over():
            await asyncio.sleep(self._random.uniform(*CALM_S))
            began_ns = time.monotonic_ns()
            what = await self._random.choice(faults)()
            self.done[what] += 1
            self._calls.append(
                Call(
                    client=-1, kind=Kind.FAULT, target=what, began_ns=began_ns,
                    ended_ns=time.monotonic_ns(), outcome=Outcome.OK,
                )
            )  # fmt: skip

    def _someone(self) -> tuple[str, int] | None:
        """A part of the runtime and its process, if it has one now."""
        kind = self._random.choice((*PARTS, "host"))
        try:
            if kind != "host":
                return kind, self._live.pid_of(kind)
            hosts = [pid for pid in self._live.pids() if HOST_NAME in command(pid)]
            return kind, self._random.choice(hosts)
        except (AssertionError, IndexError):
            return None

    async def _kill(self) -> str:
        found = await asyncio.to_thread(self._someone)
        if found is None:
            return "nothing there to hit"
        kill(found[1])
        return f"kill {found[0]}"

    async def _pause(self) -> str:
        found = await asyncio.to_thread(self._someone)
        if found is None:
            return "nothing there to hit"
        kill(found[1], signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(*PAUSE_S))
        kill(found[1], signal.SIGCONT)
        return f"pause {found[0]}"

    async def _cut(self) -> str:
        self._wire.cut()
        return "cut connections"

    async def _fail(self) -> str:
        (self._live.faults / "ledger.before_write").write_text("fail")
        return "fail a write"

    async def _kill_all(self) -> str:
        await asyncio.to_thread(self._live.kill_all)
        await asyncio.to_thread(self._live.start)
        return "kill everything, start again"

    async def _fill(self) -> str:
        assert self._disk is not None
        file = self._disk / "filler"

        def fill() -> None:
            with file.open("wb", buffering=0) as raw, contextlib.suppress(OSError):
                while True:
                    raw.write(b"x" * 1_048_576)

        await asyncio.to_thread(fill)
        await asyncio.sleep(FULL_S)
        file.unlink()
        return "disk full"

    async def _fail_to_sync(self) -> str:
        assert self._sync_fails is not None
        self._sync_fails.touch()
        await asyncio.sleep(self._random.uniform(*PAUSE_S))
        self._sync_fails.unlink()
        return "sync fails"
