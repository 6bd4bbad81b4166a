"""What processes cost: CPU of whole trees, memory, and starting and ending servers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import psutil

END_S = 30.0


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree(roots: Iterable[int]) -> Iterator[psutil.Process]:
    """The processes and everything below them."""
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            yield process
            yield from process.children(recursive=True)


def cpu_by_process(roots: Iterable[int]) -> dict[tuple[int, float], float]:
    """CPU seconds so far of each process of the trees, by pid and start."""
    found = {}
    for process in tree(roots):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid, process.create_time()] = times.user + times.system
    return found


def pss_bytes(roots: Iterable[int]) -> int:
    """Memory of the trees, shared pages divided among those that share them."""
    total = 0
    for process in tree(roots):
        with contextlib.suppress(psutil.Error):
            total += int(process.memory_full_info().pss)
    return total


class Meter:
    """CPU of the servers and of this process between `__init__` and `stop`.

    What a process used that ended meanwhile is not counted: servers keep theirs for a whole case.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = list(roots)
        self._before = cpu_by_process(self._roots)
        self._load_s = time.process_time()
        self._began_s = time.perf_counter()

    def stop(self, roots: Iterable[int] | None = None) -> tuple[float, float, float]:
        """Seconds gone by, the servers' CPU, this process's CPU.

        Args:
            roots: The servers, where they are not those of the beginning any more.
        """
        elapsed_s = time.perf_counter() - self._began_s
        load_s = time.process_time() - self._load_s
        after = cpu_by_process(self._roots if roots is None else roots)
        server_s = sum(used - self._before.get(key, 0.0) for key, used in after.items())
        return elapsed_s, server_s, load_s


@contextlib.contextmanager
def on_cores(cores: Iterable[int] | None) -> Iterator[None]:
    """Have this thread, and what it starts, on these cores for a while; None changes nothing."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """One server process, its output in a file."""

    cores: ClassVar[frozenset[int] | None] = None
    """Where all of them run; None is everywhere."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        *,
        environment: Mapping[str, str],
        cwd: Path,
        user: str | None = None,
    ) -> None:
        with log.open("ab") as output, on_cores(self.cores):
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environment),
                stdout=output,
                stderr=output,
                user=user,
                group=user,
                extra_groups=[] if user is not None else None,
            )
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """Raise if it has ended, with the end of what it said."""
        if self.process.poll() is not None:
            said = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.process.args!r} ended: {said}")

    def stop(self) -> None:
        """End it, in the end by force, and whatever of its tree outlives it."""
        below = list(tree([self.pid]))[1:]
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        _, left = psutil.wait_procs(below, timeout=1.0)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
