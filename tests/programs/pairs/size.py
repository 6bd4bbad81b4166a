"""`python -m tests.programs.pairs.size`: how long a large ledger takes to start from its store, and to be taken over.

A ledger is built once and kept (`--folder`), moved into a store of the program's own, and given commits behind its
snapshot. Then a machine that has nothing but the keys starts from there, and a pair of such machines takes over by a
kill and by a goodbye, while one client with both addresses answers parked sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from helmr.client import Client
from helmr.errors import HelmrError
from helmr_runtime.clock import SystemClock
from helmr_runtime.ledger.log.stores import open_log
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tools.stored_log import move_to_store
from helmr_runtime.process.spec import LEDGER_NAME, RING_NAME
from helmr_runtime.security.keys import read_key_ring
from tests.programs.benchmarks.processes import free_port
from tests.programs.benchmarks.scale.build import add, file_bytes, grow
from tests.programs.benchmarks.scale.patterns import TASKS, run_patterns
from tests.programs.pairs.times import Happened, next_answer_s
from tests.stack.live import LiveRuntime, until
from tests.stack.paired import STORES, Machines, Store, is_at_work, is_level, log_of, open_store

READY_S = 600.0
PAGE = 200
EACH_S = 0.02
"""Between two answers."""


def main(arguments: list[str] | None = None) -> int:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(
        "python -m tests.programs.pairs.size", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--store", choices=STORES, default="seaweed")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--sessions", type=int, default=100_000, help="parked")
    parser.add_argument("--behind", type=int, default=2_000, help="sessions begun since a snapshot")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(".bench/pairs"))
    parser.add_argument(
        "--build", action="store_true", help="measure nothing: some three minutes of a processor"
    )
    options = parser.parse_args(arguments)
    built: Path = options.folder.resolve() / f"{options.entries}-{options.sessions}"
    built.mkdir(parents=True, exist_ok=True)
    asyncio.run(_build(built, options))
    if options.build:
        return 0
    with tempfile.TemporaryDirectory(prefix="hp-") as name, ExitStack() as stack:
        folder = Path(name)
        store = stack.enter_context(open_store(options.store, folder))
        if store is None:
            parser.error(f"{options.store} is not installed")
        asyncio.run(_moved(built, folder / "moved", store.urls[0], options.behind))
        measured = Measured(folder, store, built, options.rounds)
        stack.callback(measured.machines.close)
        measured.starts()
        measured.takeovers()
    return 0


def say(text: str) -> None:
    """A line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _build(data_dir: Path, options: argparse.Namespace) -> None:
    """Have it there; what was built earlier is kept."""
    with tempfile.TemporaryDirectory(prefix="hp-") as folder:
        parked, over = await run_patterns(Path(folder))
    began_s = time.monotonic()
    built = await grow(data_dir, parked, over, sessions=options.sessions, entries=options.entries)
    took_s, size = time.monotonic() - began_s, file_bytes(data_dir)
    say(
        f"{built.entries:,} entries, {built.sessions:,} parked, {size / 1e6:,.0f} MB; {took_s:.0f} s"
    )


async def _moved(built: Path, folder: Path, url: str, behind: int) -> None:
    """A copy of it has its log in the store, with commits behind the snapshot there."""
    shutil.copytree(built, folder)
    path = folder / LEDGER_NAME
    began_s = time.monotonic()
    await asyncio.to_thread(move_to_store, path, open_log(url))
    moved_s = time.monotonic() - began_s
    with tempfile.TemporaryDirectory(prefix="hp-") as other:
        parked, _ = await run_patterns(Path(other))
    ring = read_key_ring(folder / RING_NAME, {})
    ledger = await open_ledger(path, clock=SystemClock(), ring=ring, log=open_log(url))
    before = ledger._database.log_number
    await add(ledger, parked, behind)
    commits = ledger._database.log_number - before
    await ledger.close()
    say(f"moved into the store in {moved_s:.1f} s; commits since: {commits:,}")


class Measured:
    """What is measured of machines beside that store.

    Args:
        folder: For them.
        store: With the ledger.
        built: Has its keys.
        rounds: How often each is measured.
    """

    def __init__(self, folder: Path, store: Store, built: Path, rounds: int) -> None:
        self._ring = built / RING_NAME
        self._rounds = rounds
        self.machines = Machines(
            folder,
            store.urls,
            ports=(free_port(), free_port()),
            tasks=TASKS,
            in_process=True,
            sessions_per_host=500,
        )

    def starts(self) -> None:
        """Of a machine that has nothing but the keys; the last one stays at work."""
        for number in range(self._rounds):
            live = self.machines.first
            live.stop()
            self._empty(live)
            began_s = time.monotonic()
            live.launch()
            is_at_work(live, within_s=READY_S)
            say(f"empty machine {number + 1}: ready after {time.monotonic() - began_s:.1f} s")

    def takeovers(self) -> None:
        """By a kill and by a goodbye, in turns."""
        primary, standby = self.machines.both
        self._empty(standby)
        began_s = time.monotonic()
        _stand_by(standby)
        say(f"empty standby: level after {time.monotonic() - began_s:.1f} s")
        with _answering(primary, standby) as answers_ns:
            for _ in range(self._rounds):
                for kind, end in (("kill", LiveRuntime.kill_all), ("down", LiveRuntime.stop)):
                    at_ns = time.monotonic_ns()
                    end(primary)
                    is_at_work(standby, within_s=READY_S)
                    happened = Happened(kind, at_ns, time.monotonic_ns())
                    count = len(answers_ns)
                    until(
                        lambda count=count: len(answers_ns) > count + 5,  # type: ignore[misc]
                        within_s=READY_S,
                        what="answers",
                    )
                    took_s = next_answer_s(happened, answers_ns)
                    began_s = time.monotonic()
                    _stand_by(primary)
                    level_s = time.monotonic() - began_s
                    say(f"{kind}: next answer after {took_s:.2f} s; stands by in {level_s:.1f} s")
                    primary, standby = standby, primary

    def _empty(self, live: LiveRuntime) -> None:
        shutil.rmtree(live.data_dir, ignore_errors=True)
        live.data_dir.mkdir(mode=0o700)
        shutil.copy(self._ring, live.data_dir)


def _stand_by(live: LiveRuntime) -> None:
    live.launch()
    until(lambda: is_level(live), within_s=READY_S, what="level", seen=lambda: log_of(live))


@contextmanager
def _answering(primary: LiveRuntime, standby: LiveRuntime) -> Iterator[list[int]]:
    """When each answer to a parked session was acknowledged; one after the other, all the time."""
    key = primary.client.keys.create(role="admin", name="size").secret
    addresses = [one.credentials.url for one in (primary, standby)]
    answers_ns: list[int] = []
    over = threading.Event()

    def answer() -> None:
        with Client(url=addresses, key=key) as client:
            waits: Iterator[str] = iter(())
            while not over.wait(EACH_S):
                try:
                    wait_id = next(waits, None)
                    if wait_id is None:
                        found = islice(client.waits.list(limit=PAGE), PAGE)
                        waits = iter([one.id for one in found])
                        continue
                    client.waits.answer(wait_id, "publish")
                except HelmrError as error:
                    say(f"  {error.code}: {error.message}")
                    continue
                answers_ns.append(time.monotonic_ns())

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        until(lambda: len(answers_ns) > 10, within_s=READY_S, what="answers")
        yield answers_ns
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
