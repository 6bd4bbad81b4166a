"""A runtime as an object: for tests, notebooks and programs that bring their own.

It is `helmr up` in a process of its own, started and ended from here, and nothing less: the same
supervisor, the same Ray, the same HTTP.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from helmr.errors import Conflict, DataError, HelmrError, Unavailable, UsageError
from helmr.models import Credentials
from helmr_runtime.launchers import watchdog
from helmr_runtime.launchers.cluster import import_roots
from helmr_runtime.process import processes
from helmr_runtime.process.processes import OsProcess
from helmr_runtime.process.spec import DEFAULT_LINGER_S, LOOPBACK, SOCKETS

START_WITHIN_S = 150.0
"""Longer than the process itself takes before it gives up, or says how far a ledger that is carried over is."""
STOP_WITHIN_S = 20.0
POLL_S = 0.02
LOG_NAME = "up.log"
_BY_EXIT_CODE: dict[int, type[HelmrError]] = {
    2: UsageError,
    5: Conflict,
    6: Unavailable,
    7: DataError,
}


class RuntimeProcess:
    """A runtime that lives as long as its `with` block.

    `with RuntimeProcess.start(...) as runtime` blocks until it is ready, `async with` does not block the
    loop. `url` and `key` are what a client needs.
    """

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._options = dict(options)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._credentials: Credentials | None = None
        self.data_dir = Path(options["data_dir"])

    @classmethod
    def start(
        cls,
        *,
        data_dir: str | os.PathLike[str],
        tasks: Sequence[str],
        folder: str | os.PathLike[str] | None = None,
        hosts: int | None = None,
        sessions_per_host: int | None = None,
        host_memory_bytes: int | None = None,
        linger_s: float = DEFAULT_LINGER_S,
        host: str = LOOPBACK,
        port: int = 0,
        address: str | None = None,
        encrypts: bool | None = None,
        transport: str = SOCKETS,
        environment: Mapping[str, str] | None = None,
    ) -> RuntimeProcess:
        """A runtime that the `with` statement starts.

        Args:
            data_dir: Where sessions are stored; an existing one goes on.
            tasks: Task modules, dotted or as files, looked up from `folder`.
            encrypts: Whether new entries' payloads are encrypted; None as the data directory remembers.
            transport: How its actors call each other: `sockets` or `ray`.
            environment: Variables for its processes, on top of this one's.
        """
        options = {
            "tasks": list(tasks),
            "data_dir": str(Path(data_dir).absolute()),
            "folder": str(Path(folder or Path.cwd()).absolute()),
            "hosts": hosts,
            "sessions_per_host": sessions_per_host,
            "host_memory_bytes": host_memory_bytes,
            "linger_s": linger_s,
            "host": host,
            "port": port,
            "address": address,
            "encrypts": encrypts,
            "transport": transport,
        }
        return cls(options, environment or {})

    # --- what it is -----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """URL of the runtime."""
        return self._known.url

    @property
    def key(self) -> str:
        """Its local admin key."""
        return self._known.key

    @property
    def pid(self) -> int:
        """Pid of its supervisor."""
        return self._known.pid

    @property
    def _known(self) -> Credentials:
        if self._credentials is None:
            raise Unavailable("this runtime is not started", hint="Use it in a with statement.")
        return self._credentials

    def pids(self) -> dict[str, int]:
        """The pid of each actor that runs, by its name, and of the `supervisor`."""
        found = {"supervisor": self.pid}
        record = watchdog.read_record(self.data_dir)
        if record is None:
            return found
        alive = {one.pid for one in processes.marked(record.mark)}
        for path in (record.mark.run_dir / "statuses").glob("*.pid"):
            try:
                pid = int(path.read_text())
            except (OSError, ValueError):
                continue
            if pid in alive:
                found[path.stem] = pid
        return found

    def processes(self) -> tuple[OsProcess, ...]:
        """All processes of the runtime, Ray's included."""
        record = watchdog.read_record(self.data_dir)
        return tuple(processes.marked(record.mark)) if record is not None else ()

    def output(self) -> str:
        """Return the supervisor's output so far."""
        try:
            return (self.data_dir / LOG_NAME).read_text()
        except FileNotFoundError:
            return ""

    # --- life -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._launch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._launch)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    def stop(self, *, timeout_s: float = STOP_WITHIN_S) -> int | None:
        """End it as Ctrl-C does; sessions are parked. Its exit code, None if it was not running."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self._process = None
        return code

    def kill(self, *, timeout_s: float = STOP_WITHIN_S) -> None:
        """SIGKILL the supervisor, as a crash would, and wait until everything of it has ended.

        Raises:
            Unavailable: Something of it still runs after that time.
        """
        if self._process is None:
            return
        record = watchdog.read_record(self.data_dir)
        known = {*record.processes, *processes.marked(record.mark)} if record is not None else set()
        self._process.kill()
        self._process.wait()
        self._process = None
        deadline = time.monotonic() + timeout_s
        while left := [one for one in known if processes.is_running(one)]:
            if time.monotonic() >= deadline:
                names = ", ".join(f"{one.pid} ({processes.command(one)})" for one in left)
                raise Unavailable(f"processes outlive their supervisor: {names}")
            time.sleep(POLL_S)

    def _launch(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        reading, writing = os.pipe()
        command = [sys.executable, "-P", "-m", "helmr_runtime.launchers.supervisor"]
        environment = {**os.environ, **self._environment}
        if roots := import_roots():
            paths = [*roots, *filter(None, [environment.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        try:
            with (self.data_dir / LOG_NAME).open("wb") as log:
                self._process = subprocess.Popen(
                    [*command, json.dumps({**self._options, "ready_fd": writing})],
                    pass_fds=(writing,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,  # a Ctrl-C at the terminal is for the program first
                )
            os.close(writing)
            self._credentials = self._until_ready(reading)
        finally:
            os.close(reading)

    def _until_ready(self, reading: int) -> Credentials:
        assert self._process is not None
        said = ""
        while not (is_over := select.select([reading], [], [], START_WITHIN_S)[0]):
            before, said = said, self.output()
            if said == before:
                break
        if is_over:
            line = os.read(reading, 65_536)
            if line:
                return Credentials.model_validate_json(line)
            raise self._failed(self._process.wait())
        self.kill()
        raise Unavailable(f"the runtime was not ready within {START_WITHIN_S:.0f} s")

    def _failed(self, code: int) -> HelmrError:
        """The error that the supervisor has said last."""
        self._process = None
        message, hint = f"the runtime ended with exit code {code}", None
        for line in self.output().splitlines():
            if line.startswith("helmr: error: "):
                message = line.removeprefix("helmr: error: ")
            elif line.startswith("helmr: hint: "):
                hint = line.removeprefix("helmr: hint: ")
        return _BY_EXIT_CODE.get(code, Unavailable)(message, hint=hint)
