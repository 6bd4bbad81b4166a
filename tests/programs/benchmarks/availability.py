"""The command behind `make availability`: how long after a fault the next answer is accepted.

A real `helmr up` is hurt again and again while callers send: to two sessions that are live all the time, in two hosts,
and, from the moment of the fault, one answer to a session that is parked. Told here is when the first of these three
had an answer accepted again, and when the last. With `--before PATH`, another checkout with an environment of its own,
both are hurt in turns, so that the figures are of one machine in one mood.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from helmr.client import Client, Retry
from helmr.errors import HelmrError
from tests.programs.benchmarks import report
from tests.programs.benchmarks.processes import free_port
from tests.stack.live import LiveRuntime, command, is_alive, kill, until

PARTS = ("gateway", "ledger", "directory", "host", "watchdog")
KINDS = (*(f"kill {one}" for one in PARTS), *(f"stop {one}" for one in PARTS), "kill all, up")
ALONE_KINDS = ("kill all, up", "stop all")
"""Of a runtime in one process."""

STOPPED_S = 8.0
"""A process that was stopped goes on after so long, if nobody has replaced it."""

WARM_S = 1.0
CALM_S = 2.0
PAUSE_S = 0.01
BACK_WITHIN_S = 60.0
ONCE = Retry(tries_max=1)


@dataclass(frozen=True, slots=True)
class Back:
    """What one fault cost.

    Attributes:
        first_s: From the fault until some session's answer was accepted.
        all_s: Until that of each was.
        cpu_s: Processor time that the process in its place had used by then; None where none came.
        ready_s: What `helmr up` took, where it was typed.
    """

    first_s: float
    all_s: float
    cpu_s: float | None
    ready_s: float | None


class Caller:
    """Sends to one session, again and again, each time something new.

    Args:
        send: Sends once; what it raises was no answer.
        once: Stop after the first that was accepted.
    """

    def __init__(self, send: Callable[[], object], *, once: bool = False) -> None:
        self._send = send
        self._once = once
        self._since_s = float("inf")
        self._is_over = False
        self.accepted_s: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """From now on an accepted answer counts, if it is sent from now on."""
        self._since_s = time.monotonic()

    def end(self) -> None:
        """Send no more."""
        self._is_over = True
        self._thread.join(BACK_WITHIN_S)

    def _run(self) -> None:
        while not self._is_over:
            if self._once and self._since_s == float("inf"):
                time.sleep(PAUSE_S)
                continue
            began_s = time.monotonic()
            try:
                self._send()
            except (HelmrError, OSError):
                time.sleep(PAUSE_S)
                continue
            if began_s >= self._since_s and self.accepted_s is None:
                self.accepted_s = time.monotonic()
                if self._once:
                    return
            time.sleep(PAUSE_S)


class Hurt:
    """A runtime that is hurt, and who calls it.

    Args:
        folder: For everything it leaves.
        python: The interpreter of the checkout that it is of.
        parked: Sessions to start that are to be parked.
    """

    def __init__(
        self, folder: Path, python: str, *, in_process: bool, parked: int, linger: str
    ) -> None:
        self._in_process = in_process
        self.live = LiveRuntime(
            folder,
            python=python,
            hosts=1 if in_process else 2,
            sessions_per_host=500,
            linger=linger,
            port=free_port(),
            in_process=in_process,
        )
        self._parked_count = parked
        self._parked: list[str] = []
        self._hot: list[str] = []

    def start(self) -> None:
        """With sessions that wait; those that are to park do so meanwhile."""
        self.live.start()
        self._settle()
        for _ in range(self._parked_count):
            session_id = self.live.begin("approve", {"name": "parked"})
            self._parked.append(self.live.waiting(session_id).id)
        self._hot = [self.live.begin("echo") for _ in range(2)]
        for session_id in self._hot:
            self.live.waiting(session_id)

    def until_parked(self) -> None:
        """Return when the only live sessions are those that are sent to."""
        until(lambda: self.live.live_sessions() <= len(self._hot), within_s=90, what="parked")

    def suffer(self, kind: str) -> Back:
        """One fault."""
        with self._calling() as callers:
            time.sleep(WARM_S)
            verb, _, part = kind.partition(" ")
            pid = None if part.startswith("all") else self._pid_of(part)
            ready_s = None
            began_s = time.monotonic()
            if pid is not None:
                kill(pid, signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
            elif verb == "stop":
                pid = self.live.pids()[0]
                kill(pid, signal.SIGSTOP)
            else:
                self.live.kill_all()
            for one in callers:
                one.begin()
            if pid is None:
                up_s = time.monotonic()
                self.live.start()
                ready_s = time.monotonic() - up_s
            elif verb == "stop":
                with suppress(AssertionError):
                    until(lambda: _all_accepted(callers), within_s=STOPPED_S, what="without it")
                kill(pid, signal.SIGCONT)
            until(
                lambda: _all_accepted(callers), within_s=BACK_WITHIN_S, what=f"answers after {kind}"
            )
            cpu_s = self._cpu_of(part, pid) if verb == "kill" and pid is not None else None
        self._settle()
        times = [one.accepted_s - began_s for one in callers if one.accepted_s is not None]
        return Back(min(times), max(times), cpu_s, ready_s)

    @contextmanager
    def _calling(self) -> Iterator[list[Caller]]:
        with ExitStack() as open_ones:

            def client() -> Client:
                found = self.live.credentials
                return open_ones.enter_context(Client(url=found.url, key=found.key, retry=ONCE))

            def sender(session_id: str) -> Callable[[], object]:
                stream = client().sessions.open(session_id).input("messages")
                return lambda: stream.send("x")

            callers = [Caller(sender(one)) for one in self._hot]
            if self._parked:
                wait_id, waits = self._parked.pop(), client().waits
                callers.append(
                    Caller(lambda: waits.answer(wait_id, {"decision": "approve"}), once=True)
                )
            try:
                yield callers
            finally:
                for one in callers:
                    one.end()

    def _pid_of(self, part: str) -> int:
        if part == "watchdog":
            return next(one for one in self.live.pids() if "launchers.watchdog" in command(one))
        if part != "host":
            return self.live.pid_of(part)
        holder = until(lambda: self.live.holder(self._hot[0]), within_s=20, what="it is held")
        return int(holder["pid"])

    def _cpu_of(self, part: str, killed: int) -> float | None:
        """Of the process in the place of the one that was killed."""
        try:
            pid = self._pid_of(part)
        except (AssertionError, StopIteration, HelmrError):
            return None
        return cpu_s(pid) if pid != killed else None

    def _settle(self) -> None:
        """Everything is there again, for a moment."""

        def is_whole() -> bool:
            with suppress(HelmrError, AssertionError, OSError):
                if self._in_process:
                    return self.live.client.health().ready
                pids = [self.live.pid_of(one) for one in ("gateway", "ledger", "directory")]
                hosts = self.live.hosts()
                return (
                    len(hosts) == 2
                    and all(one["pid"] for one in hosts)
                    and all(map(is_alive, pids))
                )
            return False

        until(is_whole, within_s=BACK_WITHIN_S, what="whole again")
        time.sleep(CALM_S)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, all threads."""
    total_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            total_ns += int((thread / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def _all_accepted(callers: Sequence[Caller]) -> bool:
    return all(one.accepted_s is not None for one in callers)


# --- the command ----------------------------------------------------------------------------------

Found = dict[tuple[str, str], list[Back]]
"""By kind of fault and checkout."""


def take(
    checkouts: dict[str, str],
    kinds: Sequence[str],
    *,
    rounds: int,
    in_process: bool,
    linger: str = "30s",
) -> Found:
    """Hurt a runtime of each checkout in turns; `checkouts` are interpreters by name."""
    found: Found = defaultdict(list)
    with ExitStack() as started:
        hurt: dict[str, Hurt] = {}
        for name, python in checkouts.items():
            # Ray's sockets need a short path.
            folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="av-")))
            one = hurt[name] = Hurt(
                folder, python, in_process=in_process, parked=rounds * len(kinds), linger=linger
            )
            started.callback(one.live.stop)
            one.start()
        for one in hurt.values():
            one.until_parked()
        for kind in kinds:
            for number in range(rounds):
                for name, one in hurt.items():
                    back = one.suffer(kind)
                    found[kind, name].append(back)
                    say(f"{kind}, {name}, {number + 1} of {rounds}: {back}")
    return found


def table(found: Found) -> str:
    """A line for each kind of fault and checkout."""
    titles = (
        "fault", "checkout", "next answer p50", "max", "all sessions p50", "max", "CPU of who came",
        "up",
    )  # fmt: skip
    lines = []
    for (kind, name), backs in found.items():
        firsts, alls = [one.first_s for one in backs], [one.all_s for one in backs]
        cpus = [one.cpu_s for one in backs if one.cpu_s is not None]
        ups = [one.ready_s for one in backs if one.ready_s is not None]
        lines.append(
            (kind, name, _s(median(firsts)), _s(max(firsts)), _s(median(alls)), _s(max(alls)),
             _s(median(cpus)) if cpus else "-", _s(median(ups)) if ups else "-")
        )  # fmt: skip
    return report.table(titles, lines)


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def say(text: str) -> None:
    """Progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both forms of a runtime, print and keep the tables."""
    parser = argparse.ArgumentParser("make availability", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=10, help="faults of each kind")
    parser.add_argument("--before", type=Path, help="another checkout, after `make venv` in it")
    parser.add_argument("--kinds", help="only these, with commas between them")
    parser.add_argument("--form", choices=("both", "processes", "in-process"), default="both")
    parser.add_argument("--out", type=Path, default=Path(".bench/results"))
    given = parser.parse_args(arguments)
    checkouts = {"now": sys.executable}
    if given.before is not None:
        python = given.before.resolve() / ".venv" / "bin" / "python"
        if not python.exists():
            parser.error(f"{python} is not there: make venv in {given.before}")
        checkouts = {"before": str(python), **checkouts}
    wanted = given.kinds.split(",") if given.kinds else None
    parts, content = [], {}
    for form, all_kinds in (("processes", KINDS), ("in-process", ALONE_KINDS)):
        kinds = [one for one in all_kinds if wanted is None or one in wanted]
        if given.form not in ("both", form) or not kinds:
            continue
        found = take(checkouts, kinds, rounds=given.rounds, in_process=form == "in-process")
        parts.append(f"{form}, {given.rounds} rounds:\n\n{table(found)}\n")
        content[form] = {
            f"{kind}, {name}": [asdict(one) for one in backs]
            for (kind, name), backs in found.items()
        }
    text = "\n".join(parts)
    report.write(given.out, text, content, name="availability")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
