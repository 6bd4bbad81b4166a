"""Processes of `helmr`, forked from one that has imported it: a start costs 0.3 s of CPU where Python takes 1.2.

Each is a process of its own, with its pid, environment, folder, files and signals. Only its first second is not what a
user gets: the tests of that start Python.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Self

from helmr.cli.start import main
from helmr.hash_seed import VARIABLE as SEED
from helmr_runtime import faults

AT_STARTS = "sitecustomize.py"
"""What Python imports when it starts, wherever PYTHONPATH has it."""

WITHIN_S = 60.0
"""How long one that is to end by itself may take."""

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "tests.warm_modules"])


class Warm:
    """A running `helmr`, with what tests use of `subprocess.Popen`.

    Args:
        words: Of the command line, without `helmr`.
        files: Descriptors of its stdin, stdout and stderr.
        has_session: It leads a session of its own.
        has_terminal: That session's terminal is its stdin.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        files: Sequence[int],
        cwd: Path | None = None,
        has_session: bool = False,
        has_terminal: bool = False,
    ) -> None:
        assert not starts_with_more(env), f"a fork would not import {AT_STARTS}: have Python start"
        self.args = ["helmr", *words]
        given = [Connection(os.dup(file)) for file in files]
        here, there = FORKS.Pipe(duplex=False)
        given.append(there)
        places = dict(env), cwd or Path.cwd()
        self._process = FORKS.Process(
            target=_become, args=(self.args, *places, given, has_session, has_terminal)
        )
        before = os.environ.get(SEED)
        os.environ[SEED] = "1"  # of all of them: the first one starts what they are forked from
        try:
            self._process.start()
        finally:
            os.environ.pop(SEED)
            os.environ.update({SEED: before} if before is not None else {})
            for file in given:
                file.close()
        with here, suppress(EOFError):  # as `Popen` returns once the program has begun
            here.recv_bytes()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        self._process.join(timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """End it with SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Piped(Warm):
    """One behind pipes, with what tests use of a `subprocess.Popen` whose streams are pipes.

    Args:
        stdin: `subprocess.PIPE`, or None for a stdin with nothing in it.
        stdout: `subprocess.PIPE`, or an open file.
        stderr: As `stdout`.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int | None = None,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | IO[bytes] = subprocess.PIPE,
        cwd: Path | None = None,
    ) -> None:
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        with ExitStack() as its_own:

            def opened(file: int) -> int:
                its_own.callback(os.close, file)
                return file

            def written(to: int | IO[bytes]) -> tuple[int, IO[bytes] | None]:
                if not isinstance(to, int):
                    return to.fileno(), None
                assert to == subprocess.PIPE
                here, there = os.pipe()
                return opened(there), os.fdopen(here, "rb")

            if stdin is None:
                read = opened(os.open(os.devnull, os.O_RDONLY))
            else:
                assert stdin == subprocess.PIPE
                there, here = os.pipe()
                read, self.stdin = opened(there), os.fdopen(here, "wb")
            out, self.stdout = written(stdout)
            err, self.stderr = written(stderr)
            super().__init__(words, env=env, files=[read, out, err], cwd=cwd)

    def communicate(
        self, sent: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes, bytes]:
        """What it wrote to its pipes until it ended; its stdin gets what is sent, and ends.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        ends_at_s = time.monotonic() + (WITHIN_S if timeout is None else timeout)
        said: dict[str, bytes] = {}

        def read(name: str, pipe: IO[bytes]) -> None:
            with pipe:
                said[name] = pipe.read()

        def write(pipe: IO[bytes]) -> None:
            with suppress(BrokenPipeError), pipe:
                pipe.write(sent or b"")

        work = [partial(write, self.stdin)] if self.stdin is not None else []
        for name, pipe in (("out", self.stdout), ("err", self.stderr)):
            if pipe is not None:
                work.append(partial(read, name, pipe))
        threads = [threading.Thread(target=one, daemon=True) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends_at_s - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or WITHIN_S)
        self.wait(max(0.0, ends_at_s - time.monotonic()))
        return said.get("out", b""), said.get("err", b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.stdout, self.stderr, self.stdin):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self.wait(WITHIN_S)


class AwaitedWarm:
    """One, with what tests use of `asyncio.subprocess.Process`."""

    def __init__(self, process: Warm) -> None:
        self._process = process
        self.pid = process.pid
        self.send_signal = process.send_signal
        self.kill = process.kill

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await asyncio.to_thread(self._process.wait)


def seeded(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """With a hash seed, so that a runtime in one process need not start a second time with that of its folder."""
    return {**env, SEED: "1"}


def starts_with_more(env: Mapping[str, str]) -> bool:
    """Python would import something of the test's before all else, so that a fork is not what a start is."""
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    return any(Path(path, AT_STARTS).exists() for path in paths if path)


def run(
    *words: str,
    env: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    within_s: float = WITHIN_S,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does; it reads nothing."""
    with (
        Path(os.devnull).open() as nothing,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        one = Warm(words, env=env, files=[nothing.fileno(), out.fileno(), err.fileno()], cwd=cwd)
        try:
            code = one.wait(within_s)
        finally:
            one.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(one.args, code, out.read(), err.read())


def _become(
    argv: list[str],
    env: dict[str, str],
    cwd: Path,
    files: list[Connection],
    has_session: bool,
    has_terminal: bool,
) -> None:
    """Run the command in this process."""
    if has_session:
        os.setsid()
    begun = files.pop()
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
        file.close()
    if has_terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdin, sys.stdout, sys.stderr = _opened(0), _opened(1), _opened(2)
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    begun.send_bytes(b"1")
    begun.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    sys.orig_argv[:] = [
        sys.executable,
        "-m",
        "helmr.cli",
        *argv[1:],
    ]  # for what starts itself again
    sys.argv, sys.path[:] = argv, [str(cwd), *filter(None, [*paths, *sys.path])]
    # What modules read of the environment when they are imported.
    faults.on_point = faults.armed_by(env)
    try:
        main()
    finally:
        _flush()


def _flush() -> None:
    """As Python does at its end, also where a terminal is gone: `multiprocessing` would fail."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends


def _opened(file: int) -> Any:
    by_line = 1 if file == 2 or os.isatty(file) else -1
    errors = "backslashreplace" if file == 2 else "strict"
    mode = "w" if file else "r"
    return open(file, mode, buffering=by_line, errors=errors, closefd=False)
