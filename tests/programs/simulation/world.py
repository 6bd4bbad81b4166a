"""The processes of one runtime, and everything that may happen to them.

Real: core, replay, sessions and hosts, directory, service and router, the ledger's index and its decisions. Not real:
the processes, their threads and loops (lanes), the sockets between them (`network`), the disk (a list), the time.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from helmr import Limit, LimitClosed
from helmr.wire.ids import new_id
from helmr_runtime import host_status
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.hosts import PoolPlan, PoolTimings
from helmr_runtime.directory.work import delivery
from helmr_runtime.faults import Point
from helmr_runtime.features import FEATURES
from helmr_runtime.host_status import StatusFile
from helmr_runtime.ledger.memory import TEST_RING
from helmr_runtime.rpc.calls import (
    DIRECTORY,
    GATEWAY,
    HOST_PREFIX,
    LEDGER,
    OWN_HOST_PREFIX,
    directory_of,
    host_of,
    ledger_client_of,
    ledger_of,
)
from helmr_runtime.service import Service, ServiceOptions
from helmr_runtime.service.health import Introduction
from helmr_runtime.session.host import HostActor, HostSettings
from tests.programs.simulation import tasks
from tests.programs.simulation.clock import SimulatedClock
from tests.programs.simulation.code import LaneDriver, process_here
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.disk import SimulatedDisk
from tests.programs.simulation.gateway import Gateway
from tests.programs.simulation.history import History
from tests.programs.simulation.invariants import Invariants, Violation
from tests.programs.simulation.kept import WatchedStates
from tests.programs.simulation.ledger import SimulatedLedger
from tests.programs.simulation.limits import LimitChecks, in_use
from tests.programs.simulation.network import Call, Network
from tests.programs.simulation.receivers import TOLD_ALL, receivers
from tests.programs.simulation.scheduler import Killed, Process, Scheduler
from tests.programs.simulation.spawner import SimulatedSpawner
from tests.programs.simulation.users import mix_of

LINGER_S = 4.0
STATUS_SLOTS = 64
TIMINGS = PoolTimings(
    linger_s=LINGER_S, retire_s=20.0, start_s=20.0, shutdown_s=2.0, silent_max_s=8.0
)
"""Shorter than a runtime's, so that more happens in a virtual minute."""

ADMINS_DAY_S = 4.0
"""Shorter than a day, so that sessions become old."""

ROOM = 3
HOSTS = 2


class World:
    """A runtime from its start on.

    Args:
        seed: Everything that is drawn is drawn from it.
        folder: Where status files stand.
        history: Told of all that happens.
        day: Whose it is; None: the seed says so.
    """

    def __init__(
        self, seed: str, folder: Path, history: History, *, day: str | None = None
    ) -> None:
        self.seed = seed
        self.folder = folder
        self.counts = Counts()
        self.violations: list[BaseException] = []
        self.scheduler = Scheduler(self.random("schedule"), self._on_exception, history)
        self.clock = SimulatedClock(self.scheduler)
        self.history = history
        self.mix = mix_of(self.random("mix"), day)
        self.day_s = ADMINS_DAY_S if self.mix[0] == "admin" else 86_400.0
        """How long operations are known, and sessions kept, in seconds."""
        self.invariants = Invariants(self.counts, TOLD_ALL)
        self.invariants.is_of_today = self.is_of_today
        self.invariants.pruning.day_s = self.day_s
        self.invariants.on_stored = history.stored
        self.limits = LimitChecks(self.counts, self.invariants.check, self.clock)
        self.invariants.on_step_begun = self.limits.opened
        self.network = Network(
            self.scheduler, self.random("network"), self.counts, self._on_call, self._on_bug
        )
        self.calls = self.network.calls
        self.disk = SimulatedDisk(self.random("breaks"), self.counts, self.ledger_dies)
        self.disks = {self.disk.number: self.disk}
        self.disk_fails_until_s = 0.0
        self.receivers_fail_until_s: dict[str, float] = {}
        """By notice target, until when it takes nothing."""
        self.receiving = self.random("receiving")
        self.links: dict[str, str] = {}
        """URLs of answer links that somebody was told, each with its wait."""
        self.armed: dict[Point, None] = {}
        """Points at which the next process to pass ends."""
        self.perilous = 0
        """So many perilous steps more end their host."""
        self.flaky = self.random("flaky")
        self.is_calm = False
        """Nothing goes wrong any more."""
        self.ledger: SimulatedLedger | None = None
        self.directory: DirectoryActor | None = None
        self.hosts: dict[str, HostActor] = {}
        self._disk = self.random("disk")
        self.outside = Process("outside", self.scheduler)
        """Never dies: clients, and what restarts the others."""
        tasks.executed = self._executed
        tasks.going = self._going
        LaneDriver.on_try = self.limits.tried
        self.later(0.0, self._boot_ledger)

    def random(self, name: str) -> Random:
        """A source of its own for each purpose, so that taking one thing away leaves the others as they were."""
        return Random(f"{self.seed}/{name}")

    def is_of_today(self, recorded_at: datetime) -> bool:
        """What was recorded then is known by its operation for sure."""
        return (self.clock.latest - recorded_at).total_seconds() < self.day_s

    # --- processes --------------------------------------------------------------------------------

    def later(self, delay_s: float, call: Callable[..., object], *args: Any) -> None:
        """Call from outside of all that can die."""
        self.outside.lane.call_at(self.scheduler.now_s + delay_s, call, *args)

    def run(self, process: Process, work: Coroutine[Any, Any, None]) -> None:
        """Have a process do this from its beginning on."""
        process.locals["boot"] = process.lane.create_task(self._watched(work))

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self.violations.append(error)

    def _boot_ledger(self) -> None:
        process = Process(LEDGER, self.scheduler)

        async def boot() -> None:
            self.ledger = ledger = SimulatedLedger(
                self.clock,
                self.disk,
                invariants=self.invariants,
                counts=self.counts,
                random=self._disk,
                fails=lambda: self.scheduler.now_s < self.disk_fails_until_s,
            )
            self.network.register(LEDGER, process, ledger)
            if not ledger.stored.entries:
                catalog = tasks.REGISTRY.catalog().model_dump(by_alias=True)
                await ledger.write_catalog(catalog, RUNTIME)
                self.later(0.001, self._boot_directory)
                self.later(0.001, self._boot_gateway)

        self.run(process, boot())

    def _boot_directory(self) -> None:
        process = Process(DIRECTORY, self.scheduler)

        async def boot() -> None:
            ledger = ledger_of(self.calls)
            self.directory = directory = DirectoryActor(
                ledger,
                lambda name: host_of(self.calls, name),
                SimulatedSpawner(self),
                PoolPlan(
                    hosts=HOSTS,
                    sessions_per_host=ROOM,
                    catalog_hash=tasks.CODE_HASH,
                    limits=tasks.LIMITS,
                ),
                clock=self.clock,
                timings=TIMINGS,
                deliver=partial(delivery, ledger),
            )
            self.network.register(DIRECTORY, process, directory)
            if any(self.hosts[name].slots for name in self.host_names()):
                self.counts.reached("taken over by a new directory")
            await directory.start()

        self.run(process, boot())

    def _boot_gateway(self) -> None:
        process = Process(GATEWAY, self.scheduler)

        async def boot() -> None:
            service = Service(
                ledger=ledger_client_of(self.calls),
                directory=directory_of(self.calls),
                host_named=lambda name: host_of(self.calls, name),
                clock=self.clock,
                host=Introduction(
                    version="simulated",
                    started_at=self.clock.now(),
                    base_url="http://simulated.test",
                ),
                ring=TEST_RING,
                options=ServiceOptions(notice_targets=receivers(self), features=FEATURES),
            )
            service.start()
            self.network.register(GATEWAY, process, Gateway(service))

        self.run(process, boot())

    def new_host(self, *, is_exclusive: bool) -> str:
        """Start a host; its name."""
        prefix = OWN_HOST_PREFIX if is_exclusive else HOST_PREFIX
        name = prefix + new_id("host").partition("_")[2]
        process = Process(name, self.scheduler)
        host = HostActor(
            name,
            ledger_of(self.calls),
            self.clock,
            lambda: tasks.REGISTRY,
            HostSettings(
                is_exclusive=is_exclusive,
                linger_s=LINGER_S,
                limits=dict.fromkeys(tasks.LIMITS, True),
                statuses=lambda: StatusFile(self.status_path(name), STATUS_SLOTS),
            ),
            kept=WatchedStates(self.invariants),
        )
        self.hosts[name] = host
        self.network.register(name, process, host)
        if is_exclusive:
            self.counts.reached("a host of its own")
            if self.directory is not None and self.directory._failover.suspects.alone:
                self.counts.reached("a suspect goes on alone")
        return name

    def status_path(self, name: str) -> Path:
        """A host's status file."""
        return self.folder / f"{name}.status"

    def host_names(self) -> list[str]:
        """The hosts that can be called."""
        return [name for name in self.network.names() if name.startswith(HOST_PREFIX)]

    # --- ends ---------------------------------------------------------------------------------------

    def kill(self, name: str, cause: str = "signal 9") -> None:
        """End a process as SIGKILL does; what exists once is started again."""
        process = self.network.process(name)
        if process is None or process.is_dead:
            return
        self.counts.reached(f"killed:{_kind(name)}")
        is_host = name.startswith(HOST_PREFIX)
        if name == DIRECTORY:
            self.invariants.suspect.clear()  # a new one begins from nothing
        elif is_host:
            # What unwinds from here on clears its marks.
            process.locals["statuses"] = host_status.read(self.status_path(name))
            self._note_suspects(process)
        process.die()
        self.network.died(process, [name], cause, for_good=is_host)
        if is_host:
            self.hosts.pop(name, None)
            return
        if name == LEDGER:
            self.ledger = None
        boot = {
            LEDGER: self._boot_ledger,
            DIRECTORY: self._boot_directory,
            GATEWAY: self._boot_gateway,
        }[name]
        self.later(0.05 + self._disk.random() * 2.0, boot)

    def rests(self, session_id: str) -> None:
        """A host tells that a session's code has come to rest, perhaps before the ledger has what it did last."""
        if not process_here().locals.get("is_replaced"):
            self.invariants.suspect.pop(session_id, None)

    def _note_suspects(self, process: Process) -> None:
        """Who executes in a host that dies, as far as the session is known to be there."""
        if process.locals.get("is_replaced") or self.ledger is None:
            return
        heads = self.ledger._index.heads
        executing = [
            session_id
            for session_id, status in process.locals["statuses"].items()
            if status.executing and heads[session_id].held_by == process.name
        ]
        self.invariants.died_executing(executing)

    def end_host(self, name: str, cause: str) -> None:
        """What a directory's kill does: one that can't be reached goes on for a while, and nobody calls it any more."""
        process = self.network.process(name)
        if process is None or process.is_dead:
            return
        if not process.locals.get("is_unreachable"):
            self.kill(name, cause)
            return
        self.counts.reached("a host goes on after it was replaced")
        self.network.died(process, [name], cause, for_good=True, is_gone=False)
        self.hosts.pop(name, None)
        process.locals["is_replaced"] = True
        self.later(0.5 + self._disk.random() * 20.0, self._end_replaced, process)

    def _end_replaced(self, process: Process) -> None:
        if not process.is_dead:
            process.die()
            self.network.died(process, [], "signal 9", for_good=False)

    def ledger_dies(self) -> None:
        """The disk ends with who uses it, which may be a ledger that starts."""
        process = process_here()
        if self.network.process(LEDGER) is process:
            self.kill(LEDGER)
        else:
            self.counts.reached("ledger ends where it starts")
            process.die()
            self.later(0.05 + self._disk.random() * 2.0, self._boot_ledger)
        raise Killed("the disk")

    def on_point(self, point: Point) -> None:
        """A process passes a point of `helmr_runtime.faults`."""
        if point in self.armed:
            del self.armed[point]
            self.counts.reached(f"killed at {point.value}")
            self.kill(process_here().name)
            raise Killed(point.value)

    # --- what is seen -------------------------------------------------------------------------------

    def _on_call(self, call: Call) -> None:
        if call.method == "commit" and call.caller.process.locals.get("is_replaced"):
            self.counts.reached("a replaced host commits")
        elif call.method == "adopt" and not call.kwargs["executes"]:
            self.counts.reached("decided and released")

    def _on_bug(self, message: str) -> None:
        self.violations.append(Violation("bug", message))

    def _executed(self, step_key: str, name: str, payload: Any) -> None:
        process = process_here()
        is_there = not process.locals.get("is_replaced") and not process.is_dead
        is_holder = is_there and self._holds(process, step_key)
        self.invariants.executes(step_key, is_holder=is_holder)
        if is_holder and not process.name.startswith(OWN_HOST_PREFIX):
            self.invariants.executes_beside_others(step_key)
        if name == "perilous" and self.perilous > 0 and not self.is_calm:
            self.perilous -= 1
            self.counts.reached("code ends its host")
            self.kill(process.name, "exit 1")
            raise Killed(name)
        if name == "flaky" and self.flaky.random() < 0.5:
            raise tasks.Refused(name)

    def _going(self, limit: Limit) -> AbstractContextManager[None]:
        if limit is tasks.QUOTA and not self.is_calm and self.flaky.random() < 0.1:
            self.counts.reached("limit closed")
            raise LimitClosed(self.flaky.choice((1, 3)))
        return self.limits.going(limit, process_here())

    def _holds(self, process: Process, step_key: str) -> bool:
        """The ledger says that the session of the step is this process's."""
        known = self.invariants.step_keys.get(step_key)
        if known is None or self.ledger is None:
            return True
        head = self.ledger._index.heads.get(known[0])
        return head is not None and head.held_by == process.name

    def _on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = str(context.get("message"))
        if isinstance(error, Killed) or "never retrieved" in message:
            return
        self.violations.append(error if error is not None else RuntimeError(message))

    def told_link(self, url: str | None, wait_id: str | None) -> None:
        """Somebody has an answer link."""
        if url is not None and wait_id is not None:
            self.links[url] = wait_id

    # --- running ------------------------------------------------------------------------------------

    def step(self) -> None:
        """One event.

        Raises:
            Violation: Something that always holds does not.
        """
        self.scheduler.step()
        if self.invariants.violation is not None:
            raise self.invariants.violation
        if self.violations:
            raise self.violations[0]

    def retire(self, name: str) -> None:
        """A host finds that code which was cut off did not end."""
        host, process = self.hosts.get(name), self.network.process(name)
        if host is not None and process is not None and not process.is_dead:
            process.lane.call_soon(host.retire, "code does not end")

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.is_calm = True
        self.armed.clear()
        self.network.slow_until_s = self.disk_fails_until_s = 0.0
        self.network.slow_processes.clear()
        self.perilous = 0
        self.receivers_fail_until_s.clear()
        self.disk.breaks = None

    def check_quiet(self) -> str | None:
        """What is still to be done, None if nothing is."""
        ledger = self.ledger
        if ledger is None:
            return "the ledger is away"
        counts = ledger._index.counts()
        for what in ("ready", "deliveries", "queued", "running", "waiting"):
            if counts[what]:
                return f"{what}: {counts[what]}"
        held = ledger._index.holdings()
        if held:
            return f"held: {held}"
        if self.directory is not None and (used := in_use(self.directory)):
            return f"permits: {used}"
        slots = {name: list(self.hosts[name].slots) for name in self.host_names()}
        return f"in hosts: {slots}" if any(slots.values()) else None

    def told_of_rest(self) -> str:
        """The sessions that are not at rest, in the ledger and in hosts, for whoever looks for the fault."""
        if self.ledger is None:
            return ""
        listed = [
            f"{head.session_id} {head.task} {head.run_status} held by {head.held_by} epoch {head.epoch}"
            for head in self.ledger._index.heads.values()
            if head.is_held or head.has_active_run
        ]
        living = [
            f"{name} has {slot.session_id}: {slot.report}"
            for name in self.host_names()
            for slot in self.hosts[name].slots.values()
        ]
        return "; ".join((*listed, *living))


def _kind(name: str) -> str:
    return "host" if name.startswith(HOST_PREFIX) else name.removeprefix("helmr-")


__all__ = ["HOSTS", "ROOM", "Violation", "World"]
