"""`helmr demo`: a session stops for a person, loses its process and then its whole runtime, and goes on.

Everything is real: a runtime of its own in a temporary folder, its processes killed by SIGKILL (they are named by pid
and start time, so that no other process is hit), the answer given by another process. Every stage has a bound;
whatever happens, no process is left. A runtime in one process has no host to kill, so that chapter is for Ray only.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import FrameType
from typing import TextIO, TypeVar

from helmr import platform
from helmr.cli import entry_lines
from helmr.client import Client
from helmr.client.discovery import find_runtime
from helmr.errors import HelmrError, Unavailable, UsageError
from helmr.examples.seed import Seeder
from helmr.hash_seed import remove_folder
from helmr.models import WaitInfo
from helmr.wire.safe_text import plain

BOLD, DIM, GREEN, CYAN, RED = "1", "2", "32", "1;36", "1;31"
INDENT = "   "


class Narrator:
    """Writes headings, commands, what they print, and claims that hold.

    Args:
        out: Stream for the story; stdout if not given.
        err: Stream for failures; stderr if not given.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._chapters = 0

    def title(self, text: str) -> None:
        """Print a title."""
        self._write(text, BOLD)

    def chapter(self, text: str) -> None:
        """The next thing that happens."""
        self._chapters += 1
        self._write("")
        self._write(f"{self._chapters}. {text}", CYAN)

    def command(self, text: str) -> None:
        """A command as a person would type it."""
        self._write(f"{INDENT}$ {text}", BOLD)

    def shown(self, text: str) -> None:
        """Print a command's output, or other text of several lines."""
        for line in text.rstrip("\n").split("\n"):
            self._write(f"{INDENT}{line}", DIM)

    def says(self, text: str) -> None:
        """A remark."""
        self._write(f"{INDENT}{text}")

    def holds(self, text: str) -> None:
        """Something that was checked."""
        self._write(f"{INDENT}✓ {text}", GREEN)

    def fails(self, message: str, hint: str | None = None) -> None:
        """Print the error that ends the story, and its hint on a line of its own."""
        self._write(f"helmr demo: {message}", RED, to=self._err)
        if hint:
            self._write(f"hint: {hint}", to=self._err)

    def _write(self, text: str, style: str | None = None, *, to: TextIO | None = None) -> None:
        out = to or self._out
        line = plain(text, None)
        if style is not None and line and _takes_colour(out):
            line = f"\x1b[{style}m{line}\x1b[0m"
        out.write(line + "\n")
        out.flush()


def _takes_colour(out: TextIO) -> bool:
    """Colour on a terminal, unless its user said otherwise. Source: no-color.org."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


T = TypeVar("T")

TASKS = "helmr.examples.publish_review"
LIVING_TASKS = tuple(f"helmr.examples.{name}" for name in ("publish_review", "chat", "release"))
TROUBLED_TASKS = "helmr.examples.troubled"
"""Their code kills its process, which a runtime in one process does not survive."""
PAYLOAD = "pull_request.opened.json"
PERSON = "Ada Lovelace"
ANSWER = '{"decision": "approve", "note": "Reads well."}'

READY_S = 120.0
"""Seconds from `helmr up` to a runtime that answers; imports take long on a small machine."""
COMMAND_S = 60.0
GONE_S = 15.0
"""Seconds from SIGKILL to the end of a process."""
END_S = 3.0
"""Seconds that processes may outlive their runtime: Ray's helpers notice its end late."""
STOP_S = 40.0
RESULT_S = 60.0
PAUSE_S = 0.1
"""Seconds between two looks at something that is about to be true."""
WIDTH = 116
"""Width of the shown transcript, in cells."""
LOG_LINES = 8

INTERRUPTED = 130
FAILED = 1


class DemoFailed(HelmrError):
    """Something that the demo shows did not come true."""

    code = "demo_failed"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if everything it claims was seen to be true."""
    parser = argparse.ArgumentParser(prog="helmr demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the data directory")
    parser.add_argument("--console", action="store_true", help="open a console on seeded sessions")
    parser.add_argument("--in-process", action="store_true", help="a runtime without Ray")
    given = parser.parse_args(list(argv or ()))
    keep = given.keep
    narrator = Narrator()
    folder = Path(tempfile.mkdtemp(prefix="helmr-demo-"))
    tasks = tasks_of(console=given.console, in_process=given.in_process)
    demo = Demo(narrator, folder, tasks=tasks, in_process=given.in_process)
    try:
        if given.console:
            needs_terminal(os.environ)
        with _ended_by_signals():
            if given.console:
                demo.live()
            else:
                demo.play()
            demo.stop()
    except KeyboardInterrupt:
        demo.clean_up()
        narrator.fails("interrupted; the runtime was ended")
        return INTERRUPTED
    except (HelmrError, OSError, subprocess.SubprocessError) as error:
        log = demo.log_tail()
        demo.clean_up()
        message = error.message if isinstance(error, HelmrError) else str(error)
        narrator.fails(message, getattr(error, "hint", None))
        if log:
            narrator.fails(f"the runtime's last words:\n{log}")
        return error.exit_code if isinstance(error, HelmrError) else FAILED
    finally:
        demo.clean_up()
        if keep:
            narrator.says("")
            narrator.says(f"The data is kept in {demo.data_dir}. Look at it again with")
            narrator.command(f"helmr {shlex.join(demo.up_arguments)}")
        else:
            remove_folder(folder)
    return 0


def tasks_of(*, console: bool, in_process: bool) -> tuple[str, ...]:
    """The task modules of the runtime that is shown."""
    if not console:
        return (TASKS,)
    return LIVING_TASKS if in_process else (*LIVING_TASKS, TROUBLED_TASKS)


def needs_terminal(environ: Mapping[str, str]) -> None:
    """Say before anything starts that there is no terminal for the console, not a minute later.

    Raises:
        UsageError: There is none, or it can't move its cursor.
    """
    streams = (sys.stdin, sys.stdout, sys.stderr)  # Textual draws on stderr
    if not all(one.isatty() for one in streams) or environ.get("TERM") == "dumb":
        raise UsageError(
            "the console needs a terminal that can move its cursor, also as stderr",
            hint="`helmr demo` without --console shows the runtime in plain lines.",
        )


class Demo:
    """The story, and the runtime that it is about.

    Args:
        narrator: Prints the story.
        folder: Folder for everything; the caller removes it.
        tasks: The task modules of the runtime.
        in_process: True to run without Ray, all in one process.
    """

    def __init__(
        self,
        narrator: Narrator,
        folder: Path,
        *,
        tasks: Sequence[str] = (TASKS,),
        in_process: bool = False,
    ) -> None:
        self._tell = narrator
        self._in_process = in_process
        self._folder = folder
        self.data_dir = folder / "data"
        form = ["--in-process"] if in_process else []
        self.up_arguments = ["up", *tasks, "--data-dir", str(self.data_dir), *form]
        self._log = folder / "up.log"
        self._up: subprocess.Popen[bytes] | None = None
        self._seen: set[DemoProcess] = set()
        # A runtime of its own: none of the user's is meant, and no pointer of this one is left at home.
        hidden = ("HELMR_URL", "HELMR_API_KEY")
        self._environ = {k: v for k, v in os.environ.items() if k not in hidden}
        self._environ["XDG_STATE_HOME"] = str(folder / "state")

    # --- the story ------------------------------------------------------------------------------

    def play(self) -> None:
        """Tell it from the first start to the last entry."""
        tell = self._tell
        tell.title("A task stops for a person. Everything is killed. It goes on.")

        tell.chapter("Start a runtime with the example task publish-review")
        self._start_runtime()

        tell.chapter("Start a session on a real GitHub webhook payload")
        session_id, wait = self._start_session()

        tell.chapter("It waits for a person")
        self._run("session", "get", session_id)

        if not self._in_process:
            tell.chapter("Kill the process that runs the session")
            self._kill_host(session_id, wait)

        tell.chapter("Kill the whole runtime")
        self._kill_runtime()

        tell.chapter("Start again on the same data")
        self._start_runtime()
        self._same_wait(session_id, wait)

        tell.chapter("Answer from another process")
        self._run("wait", "answer", wait.id, "--data", ANSWER, "--on-behalf-of", PERSON)

        tell.chapter("The run went on behind its wait")
        self._result(session_id, wait)

        tell.chapter("The transcript: everything that happened, and who did it")
        self._transcript(session_id)

    def live(self) -> None:
        """Seed a runtime with sessions in every state and open the console on it."""
        tell = self._tell
        tell.title("A runtime with sessions in every state, and the operator's console")
        tell.chapter("Start a runtime with the example tasks")
        self._start_runtime()
        tell.chapter("Start sessions that wait, run, fail and end")
        self._seed()
        tell.chapter("Open the console; q leaves it")
        self._open_console()

    def _seed(self) -> None:
        """Seed one session of each state; a state that fails is named, and the others follow."""
        tell = self._tell
        with self._client() as client:
            seeder = Seeder(client)
            for state in seeder.states(1):
                tell.says((state.__doc__ or state.__name__).partition("\n")[0])
                try:
                    seeder.make(state)
                except HelmrError as error:
                    self._still_runs()
                    tell.fails(f"that one is missing: {error.message}", error.hint)
            counts = sorted(seeder.seeded.counts.items())
        tell.says(", ".join(f"{count} {state}" for state, count in counts))

    def _open_console(self) -> None:
        arguments = ["--data-dir", str(self.data_dir), "console"]
        self._tell.command(f"helmr {shlex.join(arguments)}")
        code = subprocess.run(
            [sys.executable, "-m", "helmr.cli", *arguments], env=self._environ, check=False
        ).returncode
        self._still_runs()
        if code != 0:
            log = _tail(self._folder / "state" / "helmr" / "console" / "console.log")
            if log:
                self._tell.fails(f"the console's last words:\n{log}")
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise DemoFailed(
                f"the console {how}",
                hint="What it said stands above; `helmr console --check` tells what the terminal can do.",
            )

    def _still_runs(self) -> None:
        assert self._up is not None
        code = self._up.poll()
        if code is not None:
            raise DemoFailed(f"the runtime has ended with code {code}")

    def _client(self) -> Client:
        """Return a client by this runtime's own URL: HELMR_URL would go before the data directory."""
        endpoint = find_runtime(data_dir=self.data_dir, environ=self._environ)
        return Client(url=endpoint.url, key=endpoint.key)

    def _start_runtime(self) -> None:
        arguments = [*self.up_arguments, "--port", "0"]
        # One host to kill and one to take over; what no one needs here only costs time.
        hosts = [] if self._in_process else ["--hosts", "2"]
        self._tell.command(f"helmr {shlex.join(arguments)}")
        began_at_s = time.monotonic()
        with self._log.open("ab") as log:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "helmr.cli", *arguments, *hosts],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the demo, and the demo ends the runtime
            )
        url = self._until(self._ready_url, READY_S, "the runtime is not ready")
        self._tell.says(f"ready on {url} after {time.monotonic() - began_at_s:.1f} s")

    def _ready_url(self) -> str | None:
        assert self._up is not None
        code = self._up.poll()
        if code is not None:
            raise DemoFailed(f"the runtime ended with code {code} before it was ready")
        try:
            with self._client() as client:
                return client.endpoint.url if client.health().ready else None
        except Unavailable:
            return None

    def _start_session(self) -> tuple[str, WaitInfo]:
        with as_file(files("helmr") / "examples" / "data" / PAYLOAD) as path:
            shown = ["session", "start", "publish-review", "--payload", f"@{path.name}"]
            given = [*shown[:-1], f"@{path}", "--wait", "30s", "--json"]
            self._tell.command(f"helmr {shlex.join(shown)}")
            receipt = json.loads(self._cli(*given))
        session_id = receipt["session"]["id"]
        with self._client() as client:
            wait = client.sessions.open(session_id).get().wait
        if wait is None:
            raise DemoFailed(f"{session_id} does not wait; its run is {receipt['run']['status']}")
        self._tell.says(f"{session_id} runs, and has stopped at {wait.id}")
        return session_id, wait

    def _kill_host(self, session_id: str, wait: WaitInfo) -> None:
        def host() -> int | None:
            with self._client() as client:
                hosts = client.health().pool.get("host_list", [])
            return next((one["pid"] for one in hosts if session_id in one["session_ids"]), None)

        pid = self._until(host, COMMAND_S, "no process holds the session")
        self._tell.command(f"kill -9 {pid}")
        started = started_at(pid)
        if started is None or kill([DemoProcess(pid, started)], within_s=GONE_S):
            raise DemoFailed(f"the process {pid} could not be killed")
        self._tell.holds(f"process {pid} is gone")
        self._same_wait(session_id, wait)

    def _kill_runtime(self) -> None:
        everyone = self._processes()
        pids = " ".join(str(one.pid) for one in everyone)
        self._tell.command(f"kill -9 {pids}")
        left = kill(everyone, within_s=GONE_S)
        assert self._up is not None
        self._up.wait(GONE_S)
        if left:
            raise DemoFailed(f"{len(left)} processes could not be killed")
        size = (self.data_dir / "ledger.duckdb").stat().st_size
        gone = f"{len(everyone)} processes are" if len(everyone) > 1 else f"process {pids} is"
        self._tell.holds(f"{gone} gone; what is left is on disk ({size} bytes)")

    def _same_wait(self, session_id: str, wait: WaitInfo) -> None:
        with self._client() as client:
            found = client.sessions.open(session_id).get().wait
        if found is None or (found.id, found.deadline_at) != (wait.id, wait.deadline_at):
            raise DemoFailed(f"{session_id} no longer waits at {wait.id}")
        self._tell.holds(f"{wait.id} is still open, with the same deadline")

    def _result(self, session_id: str, wait: WaitInfo) -> None:
        with self._client() as client:
            run = client.runs.wait(wait.run_id, timeout=RESULT_S)
            entries = list(client.sessions.open(session_id).transcript())
        if run.status != "succeeded":
            why = run.error.message if run.error else "no result"
            raise DemoFailed(f"{run.id} is {run.status}: {why}")
        self._tell.says(f"result: {json.dumps(run.result)}")
        steps = [e.body["name"] for e in entries if e.kind == "step.started"]
        if len(steps) != len(set(steps)):
            raise DemoFailed(f"a step ran twice: {', '.join(steps)}")
        self._tell.holds(f"each step ran once: {', '.join(steps)}")

    def _transcript(self, session_id: str) -> None:
        self._tell.command(f"helmr session transcript {session_id}")
        with self._client() as client:
            entries = list(client.sessions.open(session_id).transcript())
        self._tell.shown(
            "\n".join(line for entry in entries for line in entry_lines.lines(entry, WIDTH))
        )
        answers = [e for e in entries if e.kind == "input.accepted"]
        if [a.principal.on_behalf_of for a in answers] != [PERSON]:
            raise DemoFailed("the transcript does not say who answered")
        self._tell.holds(
            f"entry {answers[0].seq} is the answer, given by {entry_lines.acted(answers[0].principal)}"
        )

    def stop(self) -> None:
        """End the runtime as a person does."""
        self._tell.chapter("Stop")
        everyone = self._processes()
        self._run("down")
        assert self._up is not None
        self._up.wait(STOP_S)
        slow = self._until_gone(everyone)
        if slow:
            self._tell.says(f"{len(slow)} helper processes were slow to end and are killed")
        if kill(slow, within_s=GONE_S):
            raise DemoFailed("processes are left that could not be killed")
        self._tell.holds("no process is left")

    # --- the runtime ----------------------------------------------------------------------------

    def clean_up(self) -> None:
        """End whatever still runs; says nothing and may be called again."""
        if self._up is not None and self._up.poll() is None:
            everyone = self._processes()
            self._up.terminate()
            try:
                self._up.wait(STOP_S)
            except subprocess.TimeoutExpired:
                kill(everyone, within_s=GONE_S)
                self._up.wait(GONE_S)
        kill(alive(self._seen), within_s=GONE_S)

    def log_tail(self) -> str:
        """The last lines that the runtime wrote."""
        return _tail(self._log)

    def _processes(self) -> list[DemoProcess]:
        """Return all processes of the runtime: the recorded ones, and its supervisor's descendants."""
        found = set(recorded(self.data_dir))
        if self._up is not None and self._up.poll() is None:
            found |= set(family(self._up.pid))
        living = alive(found)
        self._seen |= set(living)
        return sorted(living, key=lambda one: one.pid)

    def _until_gone(self, everyone: Sequence[DemoProcess]) -> list[DemoProcess]:
        ends_at_s = time.monotonic() + END_S
        while (left := alive(everyone)) and time.monotonic() < ends_at_s:
            time.sleep(PAUSE_S)
        return left

    # --- commands -------------------------------------------------------------------------------

    def _run(self, *arguments: str) -> None:
        """Run a command of the command line in a process of its own, and show what it prints."""
        self._tell.command(f"helmr {shlex.join(arguments)}")
        self._tell.shown(self._cli(*arguments))

    def _cli(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "helmr.cli", "--data-dir", str(self.data_dir), *arguments],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode != 0:
            why = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise DemoFailed(f"helmr {arguments[0]} ended with code {done.returncode}: {why}")
        return done.stdout

    def _until(self, look: Callable[[], T | None], within_s: float, otherwise: str) -> T:
        """The first thing that `look` finds."""
        ends_at_s = time.monotonic() + within_s
        while time.monotonic() < ends_at_s:
            found = look()
            if found is not None:
                return found
            time.sleep(PAUSE_S)
        raise DemoFailed(f"{otherwise} after {within_s:.0f} s")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: with everything it has started."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tail(log: Path) -> str:
    """The last lines of a log; empty if there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""


RECORD = "processes.json"
"""Record of the processes of a running `helmr up`, in its data directory."""


@dataclass(frozen=True, slots=True)
class DemoProcess:
    """A process; `started` tells it from a later one of that pid (`helmr.platform.look`)."""

    pid: int
    started: int


def recorded(data_dir: Path) -> list[DemoProcess]:
    """Read the runtime's record of its processes, supervisor first; empty if there is no record."""
    try:
        record = json.loads((data_dir / RECORD).read_text())
        named = [record["supervisor"], *record["processes"]]
        return [DemoProcess(int(pid), int(started)) for pid, started in named]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def family(pid: int) -> list[DemoProcess]:
    """The process and all its descendants, as they are now."""
    parents = platform.parents()
    members = {pid} if pid in parents else set()
    while more := {child for child, parent in parents.items() if parent in members} - members:
        members |= more
    started = ((member, started_at(member)) for member in sorted(members))
    return [DemoProcess(member, start) for member, start in started if start is not None]


def started_at(pid: int) -> int | None:
    """Return the process's start time; None if it has ended."""
    found = platform.look(pid)
    return found[1] if found is not None and found[0] not in platform.ENDED else None


def alive(processes: Iterable[DemoProcess]) -> list[DemoProcess]:
    """Return the processes that still run."""
    return [one for one in processes if started_at(one.pid) == one.started]


def kill(processes: Iterable[DemoProcess], *, within_s: float) -> list[DemoProcess]:
    """kill -9 each of them, all before the first is waited for; returns those that are left after that time."""
    everyone = list(processes)
    for one in everyone:
        platform.send_signal(one.pid, signal.SIGKILL, started=one.started)
    ends_at_s = time.monotonic() + within_s
    for one in everyone:
        left_s = max(0.0, ends_at_s - time.monotonic())
        platform.await_end(one.pid, started=one.started, within_s=left_s)
    return alive(everyone)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
