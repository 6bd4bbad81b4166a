"""The end of what a run of tests has started, once its process is gone, however it ended.

Fixtures end what they start. But a run that is broken off has no time for that, and one that is killed runs nothing
more. So each process of pytest, also each worker's, starts a process that watches it by a pipe: the kernel closes its
writing end with the last that the process does. What was started has a random word of that process in its environment,
or descends from what has it. It gets SIGTERM, at which a runtime ends its Ray and PostgreSQL its own processes, and
SIGKILL if it stays.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from helmr.platform import PROC
from helmr_runtime.process.processes import OsProcess, is_running, kill, process

VARIABLE = "HELMR_TEST_RUNS"
"""The words of all processes of pytest above; a worker's has that of the one that shares out the files before it."""
WATCHES = "HELMR_TEST_WATCHES"
"""What watches, and ends what is its own."""

ENDS_WITHIN_S = 20.0
"""So long what gets SIGTERM may take to end what is its own."""
ROUND_S = 0.1


class Watched:
    """A process of pytest, this one, and the pipe by which it is watched."""

    def __init__(self) -> None:
        self.word = secrets.token_hex(8)
        words = filter(None, [os.environ.get(VARIABLE), self.word])
        os.environ[VARIABLE] = " ".join(words)
        reading, self._pipe = os.pipe()
        os.set_inheritable(reading, True)
        # Isolated; without that word, and with another one by which those of other processes leave it alone. It
        # outlives this process: `Popen` would warn of that.
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", __file__, str(reading), self.word],
            {WATCHES: "1"},
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
        )
        os.close(reading)

    def remove_later(self, folder: Path) -> None:
        """Have a folder removed after the end of this process, if it is still there then."""
        os.write(self._pipe, f"{folder}\n".encode())


@cache
def watched() -> Watched:
    """This process, watched from the first call on."""
    return Watched()


def folder(prefix: str, *, within: str | None = None) -> Path:
    """A new temporary folder, which is gone after the end of this process, whoever was to remove it."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    watched().remove_later(made)
    return made


# --- the watching process ---------------------------------------------------------------------------


def end(word: str) -> None:
    """Return when nothing runs that was started under that word."""
    known, asked = set[OsProcess](), set[OsProcess]()
    kills_at = time.monotonic() + ENDS_WITHIN_S
    empty_looks = 0
    while empty_looks < 2:  # one look may miss a process that is just being started by another
        parents = dict(_parents())
        known |= set(started_under(word, parents))
        known |= {one for one in _below(known, parents) if not _variables(one, WATCHES)}
        alive = {one for one in known if is_running(one)}
        empty_looks = 0 if alive else empty_looks + 1
        pids = {one.pid for one in alive}
        for one in alive:
            if time.monotonic() > kills_at:
                kill(one)
            elif one not in asked and parents.get(one) not in pids:
                _ask(one)
                asked.add(one)
        time.sleep(ROUND_S)


def started_under(word: str, among: Iterable[OsProcess] | None = None) -> Iterator[OsProcess]:
    """The processes that show that word."""
    return (one for one in (dict(_parents()) if among is None else among) if _has(one, word))


def _parents() -> Iterator[tuple[OsProcess, int]]:
    """Each process but this one, with its parent's pid."""
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        one = process(int(entry.name))
        try:
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if one is not None:
            yield one, int(fields[1])


def _has(one: OsProcess, word: str) -> bool:
    return any(word in words.split() for words in _variables(one, VARIABLE))


def _variables(one: OsProcess, name: str) -> list[str]:
    """What it was given by that name; nothing if it has ended, or has written its title over it."""
    try:
        environ = (PROC / str(one.pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return []
    return [line.partition("=")[2] for line in environ.split("\0") if line.startswith(f"{name}=")]


def _below(known: set[OsProcess], parents: dict[OsProcess, int]) -> Iterator[OsProcess]:
    """Descendants; what writes its title over its environment, as Ray's workers do, shows no word."""
    pids, grows = {one.pid for one in known if is_running(one)}, True
    while grows:
        found = [one for one, parent in parents.items() if parent in pids and one.pid not in pids]
        yield from found
        pids |= {one.pid for one in found}
        grows = bool(found)


def _ask(one: OsProcess) -> None:
    try:
        descriptor = os.pidfd_open(one.pid)
    except OSError:
        return
    try:
        if is_running(one):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    except OSError:
        return
    finally:
        os.close(descriptor)


def main(pipe: int, word: str) -> None:
    """Wait for the end of the process that is watched."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    folders = b""
    while piece := os.read(pipe, 65_536):
        folders += piece
    end(word)
    for folder in folders.decode().splitlines():
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
