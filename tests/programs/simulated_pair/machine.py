"""A machine of the pair: its clock, its disk, its way to the store, and one life of a runtime after the other.

A runtime is the real ledger's actor, its hosts, and what looks whether another runtime has opened the log: then it
ends, and is started again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from helmr.errors import (
    DataError,
    HelmrError,
    LedgerBehind,
    LedgerDamaged,
    LedgerSuperseded,
    LogNewer,
    OutcomeUnknown,
    Standby,
    Unavailable,
)
from helmr.wire import ids
from helmr_runtime.core.commands import OperationKey, Prune, Pruned
from helmr_runtime.core.shared_log import LogRecord
from helmr_runtime.core.tokens import LedgerCommand
from helmr_runtime.features import FEATURES
from helmr_runtime.ledger.actor import LedgerActor, LedgerPlace
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ports import (
    CommitReply,
    Committed,
    Flush,
    Loaded,
    Refused,
    Started,
    StartSession,
)
from tests.ledger.sessions import Hand
from tests.programs.simulated_pair.files import HERE, DataDirectory
from tests.programs.simulated_pair.store import StoreClient, Wire
from tests.programs.simulated_pair.threads import MachineClock, MachineProcess, Pause, sleep
from tests.programs.simulation.counts import Counts

if TYPE_CHECKING:
    from tests.programs.simulated_pair.pair import Pair

LOOK_S = 0.5
"""So often a runtime looks whether it is superseded; shorter than a real one's, so that more happens in a minute."""

HOSTS = 2
SESSIONS = 6
"""Among so many of the newest sessions a host chooses."""


@dataclass(slots=True)
class Armed:
    """What happens to a process at one of its next calls of the store."""

    calls: int
    at: str
    """Only calls count in which this pattern is found."""
    kind: str
    """`kill` or `pause`."""
    where: str
    """`before` the request, or `after` the answer has come and before it is taken in."""
    for_s: float


class Machine:
    """One of the two.

    Args:
        pair: Both, the store and the clients.
        name: `a` or `b`.
        speed: Seconds of its clocks in a second.
        ahead_s: So much its wall clock is ahead.
    """

    def __init__(self, pair: Pair, name: str, speed: float, ahead_s: float) -> None:
        self.name = name
        self.speed = speed
        self.clock = MachineClock(pair.scheduler, speed, ahead_s)
        self.path = HERE / name / "ledger.duckdb"
        self.directory = DataDirectory()
        self.old: DataDirectory | None = None
        """A copy of it that may be put back."""
        self.wire = Wire(pair.outside.lane, pair.server, pair.random(f"wire {name}"), pair.counts)
        self.armed: Armed | None = None
        self.process: MachineProcess | None = None
        self.runtime: Runtime | None = None
        self._pair = pair
        self._random = pair.random(f"machine {name}")

    def boot(self) -> None:
        """Start a runtime, unless one is there."""
        if self.process is not None and not self.process.is_dead:
            return
        pair = self._pair
        self.process = MachineProcess(self.name, pair.scheduler, self.speed)
        self.runtime = Runtime(pair, self, self.process, pair.next_life())
        pair.network.register(self.name, self.process, self.runtime)
        pair.run(self.process, self.runtime.run())

    def kill(self, *, restart_s: float) -> None:
        """Kill the runtime; the next one starts after so long."""
        process = self.process
        if process is not None and not process.is_dead:
            process.die()
            self.armed = None
            self._pair.network.died(process, [], "signal 9", for_good=False)
            self._pair.later(restart_s, self.boot)

    def pause(self, for_s: float) -> None:
        """Stop the runtime for so long."""
        process = self.process
        if process is not None and not (process.is_dead or process.is_stopped):
            process.stop()
            self._pair.later(for_s, self._go_on, process)

    def _go_on(self, process: MachineProcess) -> None:
        if not process.is_dead:
            process.go_on()

    def put_back(self) -> None:
        """An old copy of the disk is there again."""
        if self.old is not None:
            self.directory.become(self.old.copied())

    @property
    def is_open(self) -> bool:
        """Its runtime is at work."""
        runtime, process = self.runtime, self.process
        is_there = runtime is not None and process is not None and not process.is_dead
        return is_there and runtime is not None and runtime.is_open

    def left(self, head: int) -> str | None:
        """What its runtime lacks that stands by; None if it is level with that commit, and goes on from there."""
        runtime, process = self.runtime, self.process
        if runtime is None or process is None or process.is_dead or process.is_stopped:
            return f"{self.name} does not run"
        if runtime.is_over or runtime.is_ending:
            return f"{self.name} is about to end"
        at = self.directory.log_number
        return f"{self.name} stands at {at} of {head}" if at < head else None

    def told(self) -> str:
        """How it stands, for whoever looks for the fault."""
        process, runtime = self.process, self.runtime
        if process is None or runtime is None or process.is_dead:
            return "nothing runs"
        actor = runtime.actor
        ledger = actor._ledger
        stands = f"stopped {process.is_stopped}, open {runtime.is_open}, over {runtime.is_over}"
        group = ledger._group if ledger is not None else None
        queued = (len(group._queue), group._current, group.broken) if group is not None else None
        return (
            f"{stands}, at {self.directory.log_number}, {actor._watch}, {actor._opening}, {queued}"
        )

    def client(self, process: MachineProcess) -> StoreClient:
        """How a process speaks to the store."""
        passes = partial(self._passes, process)
        return StoreClient(
            self.wire,
            self._pair.server,
            self._random,
            partial(passes, "before"),
            partial(passes, "after"),
        )

    def _passes(self, process: MachineProcess, where: str, what: str) -> None:
        """A process is at a call of the store: it may be where it was to be stopped or killed."""
        armed = self.armed
        if armed is None or armed.where != where or not re.search(armed.at, what):
            return
        armed.calls -= 1
        if armed.calls > 0:
            return
        self.armed = None
        self._pair.counts.reached(f"{armed.kind} {where} a call of the store")
        if armed.kind == "kill":
            self.kill(restart_s=armed.for_s)
            Pause().until_told(0.0)  # for ever: nothing of it gets a turn any more
        else:
            self.pause(armed.for_s)
            sleep(0.0)


class Runtime:
    """One life of a runtime, as callers reach it.

    Args:
        life: Of each process another.
    """

    def __init__(self, pair: Pair, machine: Machine, process: MachineProcess, life: int) -> None:
        self._pair = pair
        self._truth = pair.truth
        self._machine = machine
        self._process = process
        self._life = life
        self._random = pair.random(f"life {life}")
        self.is_open = False
        self.is_over = False
        """It has said that another has opened the log."""
        self.is_ending = False
        """It has been told to end."""
        self.actor = LedgerActor(
            LedgerPlace(machine.path, self._open_log, FEATURES),
            clock=machine.clock,
            settings=None,
        )

    def _open_log(self) -> ObjectLog:
        writer = self._pair.name()
        self._truth.lives[writer] = self._life
        log: ObjectLog = CountedLog(
            self._pair.counts,
            self._machine.client(self._process),
            writer=writer,
            nonce=self._pair.name,
            wait=lambda seconds: _waited(log, seconds),
        )
        return log

    async def run(self) -> None:
        """Until another has opened the log."""
        hosts = [
            asyncio.create_task(Host(self._pair, self._machine, self, number).run())
            for number in range(HOSTS)
        ]
        has_served = False
        while True:
            try:
                await self.actor.open()
                self.is_open = has_served = True
                self._answers()
            except HelmrError as error:
                self.is_open = False
                self._judge(error)
            if has_served and await self.actor.superseded() is not None:
                break
            await asyncio.sleep(LOOK_S)
        self.is_open, self.is_over = False, True
        self._truth.superseded(self._life)
        self._pair.counts.reached("superseded")
        for host in hosts:
            host.cancel()
        # It lasts for a while until the process has ended.
        await asyncio.sleep(self._random.random() * 2.0)
        self._machine.kill(restart_s=self._random.random() * 3.0)

    def _judge(self, error: HelmrError) -> None:
        self._pair.counts.reached(f"not open: {error.code}")
        is_trimmed = isinstance(error, LedgerBehind) and "trimmed" in error.facts
        if isinstance(error, LedgerDamaged | LogNewer | LedgerBehind) and not is_trimmed:
            self._truth.fail("S-96", f"{self._machine.name} can't read the log: {error.message}")

    def take_over(self) -> None:
        """An operator says so."""
        self._process.lane.create_task(self.actor.take_over())

    def say_goodbye(self) -> None:
        """As SIGTERM: it closes the ledger and ends."""
        self.is_ending = True
        self._process.lane.create_task(self._end())

    async def _end(self) -> None:
        with suppress(HelmrError):
            await self.actor.close()
        self._pair.counts.reached("ended by itself")
        self._machine.kill(restart_s=self._random.random() * 5.0)

    # --- what callers ask -----------------------------------------------------------------------------

    async def fact(self, fact: LedgerCommand) -> Mapping[str, Any]:
        """As the ledger's; acknowledged."""
        receipt: Mapping[str, Any] = await self._called(fact.operation, self.actor.fact(fact))
        if self._answers() and fact.operation is not None and "token_id" in receipt:
            self._truth.acknowledged(fact.operation.id, receipt)
        return receipt

    async def start(self, start: StartSession) -> Started:
        """As the ledger's; acknowledged."""
        try:
            started: Started = await self._called(start.operation, self.actor.start(start))
        finally:
            self._pair.starts[start.session_id].done += 1
        if self._answers() and start.operation is not None:
            said = {"session_id": started.session_id, "run_id": started.run_id}
            self._truth.acknowledged(start.operation.id, said)
        return started

    async def commit(self, flush: Flush) -> CommitReply:
        """As the ledger's; acknowledged."""
        reply: CommitReply = await self._judged(self.actor.commit(flush))
        if self._answers() and isinstance(reply, Committed):
            self._truth.committed(flush, reply)
        elif isinstance(reply, Refused):
            self._pair.counts.reached("flush refused")
        return reply

    async def load(self, session_id: str, holder: str) -> Loaded:
        """As the ledger's."""
        loaded: Loaded = await self.actor.load(session_id, holder)
        self._answers()
        return loaded

    async def feed_head(self) -> int:
        """As the ledger's, with whether it says that it may be stale."""
        offset: int = await self.actor.feed_head()
        is_marked = (await self.actor.freshness()).stale_as_of is not None
        self._pair.counts.reached("stale read" if is_marked else "read")
        self._truth.read(offset, is_marked=is_marked, is_over=self.is_over)
        return offset

    async def prune(self, prune: Prune) -> Pruned:
        """As the ledger's; acknowledged."""
        pruned: Pruned = await self._judged(self.actor.prune(prune))
        if pruned.gone and self._answers():  # that nothing may go is no more than a read
            self._truth.removed(pruned.gone)
        return pruned

    def adopted(self, hand: Hand, load: str, loaded: Loaded) -> None:
        """A host has taken a session up."""
        self._truth.loaded(self._life, hand.session_id, load, loaded, hand.seq)

    async def _called(self, operation: OperationKey | None, call: Awaitable[Any]) -> Any:
        assert operation is not None
        self._truth.called(operation.id, self._life)
        try:
            return await self._judged(call)
        except OutcomeUnknown:
            raise
        except (Unavailable, LedgerSuperseded):
            self._truth.refused(operation.id, self._life)
            raise

    async def _judged(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except Standby:
            with suppress(HelmrError):
                await self.actor.freshness()  # as a gateway does
            raise
        except DataError as error:
            self._truth.fail("S-96", f"{self._machine.name} answers {error.code}: {error.message}")
            raise

    def _answers(self) -> bool:
        return self._truth.answers(self._life, is_over=self.is_over)


class CountedLog(ObjectLog):
    """A log that says what the ledger above it mends by itself."""

    def __init__(self, counts: Counts, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counts = counts

    def records(self, after: int) -> list[LogRecord]:
        try:
            return super().records(after)
        except LedgerBehind:
            self._counts.reached("trimmed behind what is read")
            raise


def _waited(log: ObjectLog, seconds: float) -> bool:
    sleep(seconds)
    return log._ends.is_set()


class Host:
    """Holds sessions of its runtime, one after the other, and writes what a task would.

    What it does not hear of it sends again. Now and then it sends it to the other machine's runtime, as a host on a
    shared cluster would that goes on after its runtime was superseded.

    Args:
        number: Of those of the runtime.
    """

    def __init__(self, pair: Pair, machine: Machine, runtime: Runtime, number: int) -> None:
        self._pair = pair
        self._machine = machine
        self._runtime = runtime
        self._holder = f"host-{machine.name}-{number}"
        self._random = pair.random(f"host {runtime._life} {number}")

    async def run(self) -> None:
        """Until it is cancelled."""
        while not self._pair.is_calm:
            await asyncio.sleep(self._random.random() * 0.6)
            truth = self._pair.truth
            over = truth.closed | {ids.SYSTEM_STREAM}
            known = [name for name in truth.sessions if name not in over]
            if known:
                with suppress(HelmrError, TimeoutError):
                    await self._hold(self._random.choice(known[-SESSIONS:]))

    async def _hold(self, session_id: str) -> None:
        hand = Hand(self._runtime, self._machine.clock, session_id, self._pair.runs[session_id])
        loaded = await hand.adopt(self._holder)
        load = self._pair.name()
        self._runtime.adopted(hand, load, loaded)
        self._pair.counts.reached("session adopted")
        if session_id in self._pair.truth.closed:
            return
        for _ in range(1 + self._random.randrange(4)):
            hand.op = hand.seq
            if not await self._write(hand, hand.flush(hand.step(f"{hand.epoch}:{load}"))):
                return
            await asyncio.sleep(self._random.random() * 0.3)
        end = self._random.random()
        if end < 0.3:
            await self._write(hand, hand.flush(hand.succeeded(), hand.closed(), release=True))
        elif end < 0.75:
            hand.op = hand.seq
            draft = hand.step(f"{hand.epoch}:{load}")
            await self._write(hand, hand.flush(draft, checkpoint=True, release=True))

    async def _write(self, hand: Hand, flush: Flush) -> bool:
        """Send it until it is answered; whether it is stored."""
        for _ in range(20):
            try:
                async with asyncio.timeout(3.0):
                    reply = await self._sent(flush)
            except (HelmrError, TimeoutError) as error:
                self._pair.counts.reached(f"flush: {getattr(error, 'code', 'timeout')}")
                await asyncio.sleep(0.2 + self._random.random())
                continue
            return isinstance(reply, Committed)
        return False

    async def _sent(self, flush: Flush) -> CommitReply:
        if self._random.random() < 0.1:
            self._pair.counts.reached("flush sent to the other one")
            other = "b" if self._machine.name == "a" else "a"
            elsewhere: CommitReply = await self._pair.network.call(other, "commit", (flush,), {})
            return elsewhere
        return await self._runtime.commit(flush)
