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
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from helmr_runtime.launchers.ray_runtime import RAY_CRASHED
from tests.programs.histories import garbage
from tests.programs.histories.clients import World
from tests.programs.histories.history import Call, Kind, Outcome
from tests.programs.histories.stepped_clock import SteppedClock
from tests.programs.histories.wire import Wire
from tests.stack.live import LiveRuntime, kill

T = TypeVar("T")

PARTS = ("gateway", "directory", "ledger", "host")
RAY = ("gcs_server", "raylet")
AT_THE_SAME_TIME = (2, 2, 3, 4)
"""So many parts are killed together."""
BETWEEN_LEAST_S = 0.1
BETWEEN_S = 4.5
"""Between two faults at most, once a write that began after the first was acknowledged."""
AT_ONCE = 0.25
"""So often the next fault does not wait for that."""
BACK_S = 60.0
"""Within so long after a fault something is acknowledged."""
POLL_S = 0.02
PAUSE_S = (0.2, 1.5)
LONG_S = (3.0, 6.0)
"""A pause in which a process is taken for dead."""
HOLD_S = (0.2, 2.0)
STEP_S = 600.0
"""The wall clock is off by so much at most."""
DISK_MB = 192
FULL_S = 1.0
HITS = ("kill", "pause")
"""What faults begin with that end or stop a process."""

Done = tuple[str, ...]
"""What a fault was, one for each process that was hit; empty if nothing could be done."""
Fault = Callable[[], Awaitable[Done]]


class NotBack(AssertionError):
    """Nothing was acknowledged within the time that a runtime has to come back after a fault."""


async def back(world: World, what: str, is_over: Callable[[], bool] = lambda: False) -> None:
    """Return when a write that began from now on was acknowledged; or at the end, when nobody writes.

    Raises:
        NotBack: None was within `BACK_S`.
    """
    now_ns = time.monotonic_ns()
    while world.accepted_ns < now_ns and not is_over():
        if time.monotonic_ns() - now_ns > BACK_S * 1e9:
            raise NotBack(f"nothing is acknowledged {BACK_S:.0f} s after: {what}")
        await asyncio.sleep(POLL_S)


async def whole(work: Callable[[], T]) -> T:
    """Do it in a thread, to its end even if this is cancelled: what it starts is to be ended after it."""
    thread = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(thread)
    finally:
        await asyncio.wait([thread])


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What is there to do faults with.

    Args:
        disk: A file system that holds the runtime's data and nothing else; None if there is none.
        sync_fails: The file that makes syncing fail while it is there; None if it can't be made to.
        clock: The runtime's wall clock; None if it can't be set.
    """

    disk: Path | None = None
    sync_fails: Path | None = None
    clock: SteppedClock | None = None


class Nemesis:
    """Does one fault after the other.

    Args:
        live: Whom it is done to.
        in_process: It is one process.
        wire: What clients reach it by.
        world: The clients', whose history faults are part of.
        means: What there is to do it with.
        between_s: How long it leaves the runtime alone after a fault, at most.
    """

    def __init__(
        self,
        live: LiveRuntime,
        wire: Wire,
        world: World,
        means: Means,
        *,
        in_process: bool,
        between_s: float = BETWEEN_S,
    ) -> None:
        self._live = live
        self._in_process = in_process
        self._between_s = between_s
        self._wire = wire
        self._world = world
        self._means = means
        self._random = random.Random(f"{world.seed}-nemesis")

    async def act(self, is_over: Callable[[], bool]) -> None:
        """Until it is over.

        Raises:
            NotBack: The runtime does not come back after a fault.
        """
        faults = self._faults()
        clock = self._means.clock
        await back(self._world, "starting", is_over)
        while not is_over():
            began_ns = time.monotonic_ns()
            what = await self._random.choices(list(faults), list(faults.values()))[0]()
            self._world.calls += [
                Call(
                    client=-1, kind=Kind.FAULT, target=one, began_ns=began_ns,
                    ended_ns=time.monotonic_ns(), outcome=Outcome.OK,
                )
                for one in what
            ]  # fmt: skip
            if what and self._random.random() >= AT_ONCE:
                await back(self._world, ", ".join(what), is_over)
            await asyncio.sleep(self._random.uniform(BETWEEN_LEAST_S, self._between_s))
        if clock is not None:
            clock.set(0.0)

    def _faults(self) -> dict[Fault, float]:
        """Each with its weight."""
        faults: dict[Fault, float] = {
            self._pause: 2.0,
            self._pause_long: 0.5,
            self._cut: 0.5,
            self._hold: 0.5,
            self._fail: 0.5,
            self._send_garbage: 0.5,
        }
        if self._in_process:
            faults[self._kill_all] = 5.0
        else:
            faults |= {
                self._kill: 4.0,
                self._kill_some: 1.5,
                self._kill_all: 0.3,
                self._kill_ray: 0.3,
            }
        if self._means.disk is not None:
            faults[self._fill] = 0.3
        if self._means.sync_fails is not None:
            faults[self._fail_to_sync] = 0.5
        if self._means.clock is not None:
            faults[self._step] = 0.5
        return faults

    def _someone(self) -> tuple[str, int] | None:
        """A part of the runtime and its process, if it has one now."""
        if self._in_process:
            return "everything", self._live.pids()[0]
        return self._process_of(self._random.choice(PARTS))

    def _process_of(self, kind: str) -> tuple[str, int] | None:
        try:
            if kind != "host":
                return kind, self._live.pid_of(kind)
            return kind, self._random.choice(self._live.host_pids())
        except (AssertionError, IndexError):
            return None

    # --- processes ------------------------------------------------------------------------------

    async def _kill(self) -> Done:
        found = await asyncio.to_thread(self._someone)
        if found is None:
            return ()
        kill(found[1])
        return (f"kill {found[0]}",)

    async def _kill_some(self) -> Done:
        """Several parts at the same time."""
        kinds = self._random.sample(PARTS, self._random.choice(AT_THE_SAME_TIME))

        def find() -> list[tuple[str, int]]:
            return [found for kind in kinds if (found := self._process_of(kind)) is not None]

        some = await asyncio.to_thread(find)
        for _, pid in some:
            kill(pid)
        return tuple(f"kill {name}" for name, _ in some)

    async def _kill_all(self) -> Done:
        await asyncio.to_thread(self._live.kill_all)
        await whole(self._live.start)
        return ("kill everything",)

    async def _kill_ray(self) -> Done:
        """Its end is the runtime's, which says so; then it is started again."""
        server = self._random.choice(RAY)
        found = await asyncio.to_thread(self._live.pid_running, server)
        if found is None:
            return ()
        kill(found)
        await asyncio.to_thread(self._live.ended_with, RAY_CRASHED)
        await whole(self._live.start)
        return (f"kill {server}",)

    async def _pause(self) -> Done:
        return await self._stopped("pause", self._random.uniform(*PAUSE_S))

    async def _pause_long(self) -> Done:
        return await self._stopped("pause long", self._random.uniform(*LONG_S))

    async def _stopped(self, name: str, duration_s: float) -> Done:
        found = await asyncio.to_thread(self._someone)
        if found is None:
            return ()
        kill(found[1], signal.SIGSTOP)
        await asyncio.sleep(duration_s)
        kill(found[1], signal.SIGCONT)
        return (f"{name} {found[0]}",)

    # --- connections ----------------------------------------------------------------------------

    async def _cut(self) -> Done:
        self._wire.cut()
        return ("reset connections",)

    async def _hold(self) -> Done:
        await self._wire.hold(self._random.uniform(*HOLD_S))
        return ("hold connections",)

    async def _send_garbage(self) -> Done:
        try:
            credentials = self._live.credentials
        except OSError:
            return ()
        address = urlsplit(credentials.url)
        assert address.hostname is not None
        assert address.port is not None
        answers = await garbage.send_some(
            address.hostname, address.port, self._random, credentials.key
        )
        odd = [one for one in answers if one.split()[1:2] == [b"500"]]
        assert not odd, f"wrong bytes were answered with {odd}"
        return ("wrong bytes",)

    # --- disk and clock -------------------------------------------------------------------------

    async def _fail(self) -> Done:
        (self._live.faults / "ledger.before_write").write_text("fail")
        return ("fail a write",)

    async def _fill(self) -> Done:
        assert self._means.disk is not None
        file = self._means.disk / "filler"

        def fill() -> None:
            with file.open("wb", buffering=0) as raw, contextlib.suppress(OSError):
                while True:
                    raw.write(b"x" * 1_048_576)

        await asyncio.to_thread(fill)
        await asyncio.sleep(FULL_S)
        file.unlink()
        return ("disk full",)

    async def _fail_to_sync(self) -> Done:
        assert self._means.sync_fails is not None
        self._means.sync_fails.touch()
        await asyncio.sleep(self._random.uniform(*PAUSE_S))
        self._means.sync_fails.unlink()
        return ("sync fails",)

    async def _step(self) -> Done:
        assert self._means.clock is not None
        self._means.clock.set(self._random.uniform(-STEP_S, STEP_S))
        return ("set the clock",)
