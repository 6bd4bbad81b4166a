"""What is done to a pair and its store: one fault after the other, each behind the recovery from the one before."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from helmr.errors import Unavailable
from helmr_runtime.launchers.runtime import SUPERSEDED
from tests.programs.histories.clients import World
from tests.programs.histories.nemesis import back, whole
from tests.programs.pairs.times import Happened
from tests.stack.live import LiveRuntime, until
from tests.stack.paired import (
    LEVEL_S,
    Machines,
    Store,
    is_at_work,
    is_away,
    is_level,
    is_ready,
    log_of,
    signal_all,
)

BETWEEN_S = (0.2, 2.0)
"""Between two faults, once both runtimes are what they are to be and something was acknowledged."""
PAUSE_S = 60.0
OUTAGE_S = 12.0
"""Longer than a lease."""
CUT_S = (0.0, 12.0)
"""How long a primary is cut off from the store after the other one has taken over."""
ENDS_S = 120.0
"""A primary that hears that it is superseded has ended within so long, also on a busy machine."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """A time in which a runtime may end what it had begun, and nothing of that counts (S-97).

    Attributes:
        live: The runtime.
        since_ns: It could append nothing from then on.
        until_ns: It had ended by then.
    """

    live: LiveRuntime
    since_ns: int
    until_ns: int


@dataclass(slots=True)
class Done:
    """What was done, so far."""

    happened: list[Happened] = field(default_factory=list)
    superseded: list[Superseded] = field(default_factory=list)

    @property
    def takeovers(self) -> int:
        """How often the other runtime took over."""
        return sum(one.is_takeover for one in self.happened)


class PairNemesis:
    """Hurts the one that is at work, has the other take over, and has the first stand by again.

    Args:
        machines: The pair: the first is at work, the second stands by.
        store: Theirs.
        world: Of the clients.
        kinds: What may be done; None: everything that this store allows.
        pause_s: How long a primary is paused.
        in_process: Each runtime is one process.
    """

    def __init__(
        self,
        machines: Machines,
        store: Store,
        world: World,
        *,
        kinds: frozenset[str] | None = None,
        pause_s: float = PAUSE_S,
        in_process: bool = True,
    ) -> None:
        self._machines, self._store, self._world = machines, store, world
        self._pause_s = pause_s
        self._primary = machines.first
        self._random = random.Random(f"{world.seed}-pairs")
        # Ray may have given up its own processes during a pause.
        self._ends = {SUPERSEDED} if in_process else {SUPERSEDED, Unavailable.exit_code}
        self._faults = {
            kind: fault for kind, fault in self._all().items() if kinds is None or kind in kinds
        }
        self.done = Done()

    def _all(self) -> dict[str, tuple[Callable[[], Awaitable[None]], float]]:
        """Each with its weight."""
        faults: dict[str, tuple[Callable[[], Awaitable[None]], float]] = {
            "kill": (self._kill, 5.0),
            "down": (self._down, 4.0),
            "kill and start": (self._kill_and_start, 0.5),
            "pause": (self._pause, 0.35),
            "takeover": (self._takeover, 1.0),
        }
        if self._store.cuts:
            faults["cut"] = (self._cut, 0.8)
        if self._store.server is not None:
            faults["store"] = (self._store_away, 0.6)
        return faults

    async def act(self, is_over: Callable[[Done], bool]) -> None:
        """Until it is over: each kind once first, so that a short run has all of them.

        Raises:
            AssertionError: A runtime did not take over, end or come back in its time.
        """
        await back(self._world, "starting")
        first = list(self._faults)
        self._random.shuffle(first)
        weights = {kind: weight for kind, (_, weight) in self._faults.items()}
        while not is_over(self.done):
            kind = (
                first.pop()
                if first
                else self._random.choices(*zip(*weights.items(), strict=True))[0]
            )
            fault, _ = self._faults[kind]
            await fault()
            await back(self._world, kind)
            await asyncio.sleep(self._random.uniform(*BETWEEN_S))

    @property
    def _standby(self) -> LiveRuntime:
        return self._machines.other(self._primary)

    # --- takeovers --------------------------------------------------------------------------------

    async def _kill(self) -> None:
        at_ns = time.monotonic_ns()
        await whole(self._primary.kill_all)
        await self._successor_is_at_work()
        self._taken_over("kill", at_ns)
        await self._stand_by()

    async def _down(self) -> None:
        at_ns = time.monotonic_ns()
        await whole(self._primary.stop)
        await self._successor_is_at_work()
        self._taken_over("down", at_ns)
        await self._stand_by()

    async def _pause(self) -> None:
        paused, at_ns = self._primary, time.monotonic_ns()
        await whole(lambda: signal_all(paused, signal.SIGSTOP))
        since_ns = time.monotonic_ns()
        await self._successor_is_at_work()
        self._taken_over("pause", at_ns)
        await asyncio.sleep(max(0.0, self._pause_s - (time.monotonic_ns() - at_ns) / 1e9))
        await whole(lambda: signal_all(paused, signal.SIGCONT))
        await self._ended(paused, since_ns)
        await self._stand_by()

    async def _cut(self) -> None:
        hurt, at_ns = self._primary, time.monotonic_ns()
        cut = self._store.cuts[self._machines.both.index(hurt)]
        cut.cut()
        since_ns = time.monotonic_ns()
        try:
            said_ns, _ = await asyncio.gather(
                whole(lambda: _says_that_it_is_away(hurt)), self._successor_is_at_work()
            )
            self._taken_over("cut", at_ns, said_ns=said_ns)
            await asyncio.sleep(self._random.uniform(*CUT_S))
        finally:
            cut.mend()  # what was on its way arrives now
        await self._ended(hurt, since_ns)
        await self._stand_by()

    async def _takeover(self) -> None:
        """An operator orders it."""
        hurt, at_ns = self._primary, time.monotonic_ns()
        await whole(lambda: _order_takeover(self._machines.other(hurt)))
        said_ns = time.monotonic_ns()
        await self._successor_is_at_work()
        self._taken_over("takeover", at_ns, said_ns=said_ns)
        await self._ended(hurt, said_ns)
        await self._stand_by()

    async def _successor_is_at_work(self) -> None:
        successor = self._standby
        await whole(lambda: is_at_work(successor))

    def _taken_over(self, kind: str, at_ns: int, *, said_ns: int | None = None) -> None:
        """From now on the standby is the primary."""
        self.done.happened.append(Happened(kind, at_ns, time.monotonic_ns(), said_ns=said_ns))
        self._primary = self._standby

    async def _ended(self, live: LiveRuntime, since_ns: int) -> None:
        """Return when it has ended, as one that is superseded."""

        def end() -> None:
            assert live._process is not None
            code = live._process.wait(ENDS_S)
            assert code in self._ends, f"ended with {code}: {log_of(live)[-4_000:]}"
            live._process = None
            live._forget_client()

        await whole(end)
        self.done.superseded.append(Superseded(live, since_ns, time.monotonic_ns()))

    async def _stand_by(self) -> None:
        """The one that has ended is started again, and is level."""
        live = self._standby
        await whole(lambda: self._machines.stand_by(live))

    # --- what has no takeover, or may have one ----------------------------------------------------

    async def _kill_and_start(self) -> None:
        """It goes on where it was, unless the other one was quicker."""
        before, at_ns = self._primary, time.monotonic_ns()

        def again() -> None:
            before.kill_all()
            before.launch()
            until(self._has_roles, within_s=LEVEL_S, what="one at work", seen=self._logs)

        await whole(again)
        is_takeover = self._primary is not before
        self.done.happened.append(
            Happened("kill and start", at_ns, time.monotonic_ns(), is_takeover=is_takeover)
        )

    async def _store_away(self) -> None:
        """No one takes over: neither could have renewed a lease meanwhile."""
        server, before = self._store.server, self._primary
        assert server is not None
        await whole(server.kill)
        try:
            await asyncio.sleep(OUTAGE_S)
        finally:
            await whole(server.start)
        at_ns = time.monotonic_ns()
        await back(self._world, "store")
        seen_ns = time.monotonic_ns()
        await whole(
            lambda: until(self._has_roles, within_s=LEVEL_S, what="as before", seen=self._logs)
        )
        assert self._primary is before, f"the standby took over: {self._logs()}"
        self.done.happened.append(Happened("store", at_ns, seen_ns, is_takeover=False))

    def _has_roles(self) -> bool:
        """One is at work and the other stands by: from now on they are known as that."""
        for live in self._machines.both:
            if is_ready(live) and is_level(self._machines.other(live)):
                self._primary = live
                return True
        return False

    def _logs(self) -> str:
        return "\n".join(log_of(live)[-2_000:] for live in self._machines.both)


def _order_takeover(standby: LiveRuntime) -> None:
    """Type `helmr takeover` at the standby's machine; returns when it has said that it is done."""
    command = [sys.executable, "-m", "helmr.cli", "takeover", "--timeout", "20s"]
    done = subprocess.run(
        [*command, f"--data-dir={standby.data_dir}"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + log_of(standby)


def _says_that_it_is_away(hurt: LiveRuntime) -> int:
    """When a primary that is cut off from its store said that it is not ready, by the monotonic clock."""
    until(lambda: is_away(hurt), within_s=LEVEL_S, what="not ready", seen=lambda: log_of(hurt))
    return time.monotonic_ns()
