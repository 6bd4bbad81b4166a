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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from helmr.cli.start import main
from helmr.client import calls
from helmr.hash_seed import VARIABLE as SEED
from helmr.profiles import state_folder
from helmr_runtime import faults

AT_STARTS = "sitecustomize.py"
"""What Python imports when it starts, wherever PYTHONPATH has it."""

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


def starts_with_more(env: Mapping[str, str]) -> bool:
    """Python would import something of the test's before all else, so that a fork is not what a start is."""
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    return any(Path(path, AT_STARTS).exists() for path in paths if path)


def run(
    *words: str,
    env: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    within_s: float = 60.0,
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
    calls.KNOWN = calls.KnownGenerations(state_folder(env).parent / calls.FILE)
    main()


def _opened(file: int) -> Any:
    by_line = 1 if file == 2 or os.isatty(file) else -1
    errors = "backslashreplace" if file == 2 else "strict"
    mode = "w" if file else "r"
    return open(file, mode, buffering=by_line, errors=errors, closefd=False)
