"""A real runtime for tests: `helmr up` as a user starts it, its processes by pid, and ways to hurt them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from helmr.client import Client, Retry
from helmr.client.discovery import read_credentials
from helmr.errors import HelmrError
from helmr.hash_seed import VARIABLE as SEED
from helmr.models import Credentials
from helmr_runtime.faults import VARIABLE
from tests.preloaded import PRELOAD
from tests.warm import Warm, starts_with_more

T = TypeVar("T")

TASKS = Path(__file__).with_name("stack_tasks.py")
ROOT = Path(__file__).parents[2]
CLI = "helmr.cli"
START_S = 90.0
STOP_S = 20.0
TRANSPORT = os.environ.get("HELMR_TEST_TRANSPORT", "sockets")
"""How the actors of every runtime here call each other; `make test-all` runs the fault tests with `ray` too."""

RETRY = Retry(total_s=15.0)
"""Of its clients: a test may kill the runtime and call it all the same, within the time that a test may take."""

POLL_S, POLL_MAX_S, POLL_GROWS = 0.05, 0.2, 1.15
"""Each look costs gateway and ledger some 10 ms: what takes long is looked at more and more seldom."""


def until(
    ask: Callable[[], T | None],
    *,
    within_s: float,
    what: str,
    seen: Callable[[], object] = lambda: "",
) -> T:
    """The first true answer.

    Args:
        seen: What else the failure says, asked for then.

    Raises:
        AssertionError: There was none in time.
    """
    ending, pause_s = time.monotonic() + within_s, POLL_S
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < ending, f"{what}: not within {within_s} s; {seen()}"
        time.sleep(pause_s)
        pause_s = min(pause_s * POLL_GROWS, POLL_MAX_S)


class LiveRuntime:
    """One `helmr up` over a folder.

    Args:
        folder: For everything it leaves.
        tasks: The task file; a copy of it is started.
        also: More task files.
        beside: Modules that they import.
        modules: More task modules, of this checkout, by their dotted names.
        environ: Of its processes, besides this one's. One in a process of its own gets a hash seed, so that it need not
            start a second time with that of its data directory; an empty one takes that back.
        python: The interpreter that it runs in, if not this one.
        is_cold: Python starts it, also in one process; else that is forked (`tests/warm.py`), unless `environ` has
            something loaded at the start.
        program: The module that is started as `helmr`, by Python if it is another one.
        arguments: More of `helmr up`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tasks: Path = TASKS,
        also: Sequence[Path] = (),
        beside: Sequence[Path] = (),
        modules: Sequence[str] = (),
        hosts: int = 1,
        sessions_per_host: int = 50,
        host_memory: str | None = None,
        linger: str = "30s",
        port: int = 0,
        in_process: bool = False,
        environ: Mapping[str, str] | None = None,
        python: str = sys.executable,
        arguments: Sequence[str] = (),
        is_cold: bool = False,
        program: str = CLI,
    ) -> None:
        self.folder = folder
        self._python = python
        self._environ = {**({SEED: "1"} if in_process else {}), **(environ or {})}
        self.is_in_process = in_process
        as_usual = python == sys.executable and self._environ.get(SEED) == "1"
        at_start = PRELOAD in self._environ or starts_with_more(self._environ)
        self._program = program
        is_cold |= program != CLI
        self._is_warm = in_process and as_usual and not at_start and not is_cold
        self.data_dir = folder / ".helmr"
        self.faults = folder / "faults"
        self.faults.mkdir(exist_ok=True)
        self.tasks = folder / tasks.name
        for path in (tasks, *also, *beside):
            shutil.copy(path, folder / path.name)
        self._arguments = [
            self.tasks.name,
            *(path.name for path in also),
            *modules,
            f"--port={port}",
            f"--data-dir={self.data_dir}",
            f"--hosts={hosts}",
            f"--sessions-per-host={sessions_per_host}",
            f"--linger={linger}",
            f"--transport={TRANSPORT}",
            *([f"--host-memory={host_memory}"] if host_memory is not None else []),
            *(["--in-process"] if in_process else []),
            *arguments,
        ]
        self._has_modules = bool(modules)
        self._process: subprocess.Popen[bytes] | Warm | None = None
        self._client: Client | None = None
        self.marks = folder / "marks"
        self.marks.mkdir(exist_ok=True)
        self.idle_at_start: list[str] = []
        """Ray workers that did nothing when the whole pool was there; of `shared`."""

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> LiveRuntime:
        """Start it and wait until it is ready."""
        self.launch()
        until(self._is_ready, within_s=START_S, what="ready")
        return self

    def launch(self) -> subprocess.Popen[bytes] | Warm:
        """Start it and do not wait; its process."""
        (self.data_dir / "credentials.json").unlink(missing_ok=True)
        self._forget_client()  # of a runtime that has ended: it would ask that one's port for a minute
        environment = {
            **os.environ,
            VARIABLE: str(self.faults),
            "HELMR_TEST_MARKS": str(self.marks),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            **self._environ,
        }
        if self._has_modules:
            paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        words = ["up", *self._arguments]
        with (self.folder / "up.log").open("ab") as log, Path(os.devnull).open() as nothing:
            if self._is_warm:
                files = nothing.fileno(), log.fileno(), log.fileno()
                self._process = Warm(words, env=environment, files=files, cwd=self.folder)
            else:
                self._process = subprocess.Popen(
                    [self._python, "-m", self._program, *words],
                    cwd=self.folder,
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
        return self._process

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "up.log").read_text()
        try:
            return self.client.health().ready
        except (HelmrError, OSError):
            self._forget_client()
            return False

    @property
    def credentials(self) -> Credentials:
        """What local programs find."""
        found = read_credentials(self.data_dir / "credentials.json")
        if found is None:
            raise OSError("no credentials yet")
        return found

    @property
    def client(self) -> Client:
        """A client of it."""
        if self._client is None:
            found = self.credentials
            self._client = Client(url=found.url, key=found.key, retry=RETRY)
        return self._client

    def _forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_S)
        self._process = None
        self._forget_client()

    def kill_all(self) -> None:
        """kill -9 of every process at once."""
        pids = self.pids()
        for pid in pids:
            kill(pid)
        assert self._process is not None
        self._process.wait(STOP_S)
        until(lambda: not any(is_alive(p) for p in pids), within_s=STOP_S, what="all dead")
        self._process = None
        self._forget_client()

    def ended_with(self, said: str) -> None:
        """Wait until it has ended by itself, having said why."""
        assert self._process is not None
        code = self._process.wait(START_S)
        written = (self.folder / "up.log").read_text()
        last = written[written.rfind("Ray runs on") :]
        assert code != 0, f"it ended well: {last}"
        assert said in last, last
        self._process = None
        self._forget_client()

    # --- processes ------------------------------------------------------------------------------

    def pids(self) -> list[int]:
        """The supervisor and everything below it."""
        assert self._process is not None
        return [self._process.pid, *descendants(self._process.pid)]

    def hosts(self) -> list[dict[str, Any]]:
        """The hosts, as the directory sees them."""
        return list(self.client.health().pool["host_list"])

    def live_sessions(self) -> int:
        """How many sessions are in memory."""
        return int(self.client.health().pool["sessions"]["live"])

    def idle_workers(self) -> list[str]:
        """Ray workers that do nothing, or are about to become actors."""
        return [one for one in map(command, self.pids()) if "ray::IDLE" in one]

    def holder(self, session_id: str) -> dict[str, Any] | None:
        """The host that holds a session."""
        return next((one for one in self.hosts() if session_id in one["session_ids"]), None)

    def pid_of(self, kind: str) -> int:
        """The process of ledger, directory or gateway."""
        found = self.pids_of(kind)
        assert found, f"no process writes helmr-{kind}.log"
        return found[0]

    def pids_of(self, kind: str) -> list[int]:
        """As `pid_of`; none while another one is started."""
        return self._pids_writing(f"helmr-{kind}.log")

    def host_pids(self) -> list[int]:
        """The processes of hosts, as the machine shows them."""
        return self._pids_writing("helmr-host-*.log")

    def _pids_writing(self, logs: str) -> list[int]:
        folder = self.data_dir / "logs"
        return [pid for pid in descendants(self.pids()[0]) if _has_open(pid, folder, logs)]

    def pid_running(self, program: str) -> int | None:
        """The process of a program of this name, of Ray's."""
        found = (pid for pid in self.pids() if Path(command(pid).split(" ")[0]).name == program)
        return next(found, None)

    # --- shorthand ------------------------------------------------------------------------------

    def begin(self, task: str, payload: Any = None) -> str:
        """Start a session; its id."""
        return self.client.sessions.start(task, payload).session.id

    def waiting(self, session_id: str, *, within_s: float = 30.0) -> Any:
        """The session's pending wait, once there is one."""
        return until(
            lambda: self.client.sessions.open(session_id).get().wait,
            within_s=within_s,
            what=f"{session_id} waits",
            seen=lambda: self.seen_of(session_id),
        )

    def seen_of(self, session_id: str) -> str:
        """What a test that waited for a session in vain says of it: its runs, newest entries, the hosts, log lines."""
        runs = [run.model_dump_json() for run in self.client.runs.list(session_id=session_id)]
        entries = [entry.model_dump_json() for entry in self.transcript(session_id)[-20:]]
        logs = (path.read_text(errors="replace") for path in (self.data_dir / "logs").glob("*.log"))
        lines = [line[:400] for text in logs for line in text.splitlines()[-15:]]
        return "\n".join(["its state:", *runs, *entries, *map(str, self.hosts()), *lines])

    def newest_run(self, session_id: str) -> Any:
        """The session's newest run."""
        return next(iter(self.client.runs.list(session_id=session_id)))

    def ended(self, session_id: str, *, within_s: float = 60.0) -> Any:
        """The session's newest run, once it has ended or is blocked."""

        def final() -> Any:
            run = self.newest_run(session_id)
            return run if run.status.is_final or run.status == "blocked" else None

        return until(
            final,
            within_s=within_s,
            what=f"{session_id} ends",
            seen=lambda: self.seen_of(session_id),
        )

    def transcript(self, session_id: str) -> list[Any]:
        """All its entries."""
        return list(self.client.sessions.open(session_id).transcript())

    def marked(self, name: str) -> int:
        """How often task code did this to the world."""
        path = self.marks / name
        return len(path.read_text()) if path.exists() else 0

    def lines(self, name: str) -> list[str]:
        """What task code wrote there, one mark a line."""
        path = self.marks / name
        return path.read_text().splitlines() if path.exists() else []

    def allow(self, name: str) -> None:
        """Let task code that waits for this go on."""
        (self.marks / f"{name}-go").touch()


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def command(pid: int) -> str:
    """What a process calls itself; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(root: int) -> list[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found: list[int] = []
    queue = [root]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def _has_open(pid: int, folder: Path, pattern: str) -> bool:
    """One of the files of that folder whose names are like that."""
    try:
        opened = [one.readlink() for one in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(one.parent == folder and one.match(pattern) for one in opened)
