"""One seed of a pair: two runtimes, the store of their log, and all that may happen to the three.

The two have nothing but the store in common: between them there is no connection that could be cut. Their hosts and
clients reach both.

Invariants: S-41, S-60, S-61, S-62, S-96, S-97, S-98, S-100, S-102; S-63 at the end.
"""

from __future__ import annotations

import logging
import random as global_random
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any
from unittest import mock

from helmr_runtime.core import shared_log
from helmr_runtime.ledger.log.object_log import ObjectLog, record_key
from tests.programs.simulated_pair.clients import Clients
from tests.programs.simulated_pair.files import below_ledgers, of_an_empty_machine
from tests.programs.simulated_pair.machine import Armed, Machine
from tests.programs.simulated_pair.store import StoreServer
from tests.programs.simulated_pair.threads import BEGIN, simulated_threads
from tests.programs.simulated_pair.truth import Truth
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.history import History
from tests.programs.simulation.invariants import Violation
from tests.programs.simulation.network import Network
from tests.programs.simulation.scheduler import Killed, Process, Scheduler
from tests.programs.simulation.simulation import Outcome, Planned, ids_from

SPEEDS = (0.75, 0.9, 1.0, 1.0, 1.1, 1.5)
"""Of a machine's clocks. The slowest renews its lease before it lapses by the fastest."""

RECORDS = 8
"""After so many a snapshot is made; fewer than a runtime's, so that much is trimmed."""

COMMAND_EVERY_S = 0.3
FAULT_EVERY_S = 2.5
DRAIN_S = 120.0
"""After the last fault everything is quiet within so much time."""

TAKES_OVER_S = 20.0
"""One that is told to take over has within so much time, whatever the other one commits; a real one within five: here a
machine's clock may be slower, and the store loses a tenth of its calls."""

CALLS = ((12, ""), (5, "create log"), (3, "replace root"), (3, "delete"), (5, "get root"))
"""At which calls of the store a process is stopped or killed: one of so many, of those that have the text."""

STORES_A_RECORD = "(create|replace) log"
"""A record is created; by a planted bug it replaces what stands there."""

KINDS = [
    ("kill", 8),
    ("pause", 8),
    ("kill at call", 8),
    ("pause at call", 14),
    ("cut from store", 12),
    ("store away", 4),
    ("store slow", 5),
    ("say goodbye", 4),
    ("take over", 5),
    ("paused takeover", 5),
    ("cache gone", 3),
    ("old cache", 4),
    ("copy cache", 4),
    ("cut call", 8),
    ("clock", 3),
]
"""Each with its weight."""


@dataclass(slots=True)
class Starts:
    """The calls that start one session, the repeated ones too.

    Attributes:
        sent: So many clients have made.
        done: So many a runtime has done, whether its caller still listened; one that was killed does none.
    """

    sent: int = 0
    done: int = 0

    @property
    def are_over(self) -> bool:
        """None is on its way."""
        return self.sent == self.done


class Pair:
    """Both machines from their start on.

    Args:
        seed: Everything that is drawn is drawn from it.
        history: Told of all that happens.
    """

    def __init__(self, seed: str, history: History) -> None:
        self.seed = seed
        self.counts = Counts()
        self.violations: list[BaseException] = []
        self.scheduler = Scheduler(self.random("schedule"), self._on_exception, history)
        self.truth = Truth(self.counts)
        self.truth.on_stored = history.stored
        self.outside = Process("outside", self.scheduler)
        """Never dies: the store, clients, and what restarts the others."""
        self.network = Network(
            self.scheduler,
            self.random("network"),
            self.counts,
            lambda call: None,
            lambda said: self.truth.fail("bug", said),
        )
        self.server = StoreServer(self.truth, self.random("store"))
        self.runs: dict[str, str] = {}
        """By session, its run."""
        self.starts: dict[str, Starts] = defaultdict(Starts)
        """By session."""
        self.is_calm = False
        """Nothing goes wrong any more."""
        self._lives = count(1)
        self._names = self.random("names")
        chance = self.random("machines")
        self.machines = {
            name: Machine(self, name, chance.choice(SPEEDS), chance.uniform(-2.0, 2.0))
            for name in "ab"
        }
        for machine in self.machines.values():
            self.later(chance.random() * 3.0, machine.boot)

    def random(self, name: str) -> Random:
        """A source of its own for each purpose."""
        return Random(f"{self.seed}/{name}")

    def name(self) -> str:
        """Of a writer, a record, a load: of each another."""
        return f"{self._names.getrandbits(40):010x}"

    def next_life(self) -> int:
        """Of each process another."""
        return next(self._lives)

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

    def _on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), str(context.get("message"))
        if not (isinstance(error, Killed) or "never retrieved" in message):
            self.violations.append(error if error is not None else RuntimeError(message))

    def step(self) -> None:
        """One event.

        Raises:
            Violation: Something that always holds does not.
        """
        self.scheduler.step()
        if self.truth.violation is not None:
            raise self.truth.violation
        if self.violations:
            raise self.violations[0]

    # --- what goes wrong ------------------------------------------------------------------------------

    def cause(self, kind: str, random: Random) -> None:
        """Let something go wrong now."""
        self.counts.reached(f"fault:{kind}")
        machine = self.machines[random.choice("ab")]
        pause_s = random.choice((0.1, 1.0, 4.0, 9.0, 20.0, 40.0))
        soon_s = random.choice((0.05, 1.0, 5.0, 15.0))
        match kind:
            case "kill":
                machine.kill(restart_s=soon_s)
            case "pause":
                machine.pause(pause_s)
            case "kill at call" | "pause at call":
                what, _, _ = kind.partition(" ")
                where = random.choice(("before", "after"))
                for_s = soon_s if what == "kill" else pause_s
                most, at = random.choice(CALLS)
                machine.armed = Armed(random.randrange(1, most), at, what, where, for_s)
            case "cut from store":
                ways = (("requests",), ("answers",), ("requests", "answers"))
                machine.wire.cuts = frozenset(random.choice(ways))
                machine.wire.cut_until_s = self.scheduler.now_s + pause_s
            case "store away":
                self.server.away_until_s = self.scheduler.now_s + pause_s
            case "store slow":
                machine.wire.slow_until_s = self.scheduler.now_s + random.random() * 4.0
            case "cut call":
                calls = list(self.network.open)
                for call in random.sample(calls, min(len(calls), random.choice((1, 3, 100)))):
                    self.network.cut(call)
            case "clock":
                machine.clock.step(random.choice((-30.0, -1.0, 1.0, 30.0)))
            case _:
                self._cause_by_hand(kind, machine, soon_s, pause_s, random.randrange(1, 10))

    def _cause_by_hand(
        self, kind: str, machine: Machine, soon_s: float, pause_s: float, calls: int
    ) -> None:
        process, runtime = machine.process, machine.runtime
        lives = process is not None and not process.is_dead
        match kind:
            case "say goodbye" if lives and runtime is not None:
                runtime.say_goodbye()
            case "take over" if lives and runtime is not None:
                runtime.take_over()
            case "paused takeover" if lives and runtime is not None:
                # Between what it has read and its own record: the other one ends by the order, and comes again.
                machine.armed = Armed(1, "create log", "pause", "before", 5.0 + pause_s)
                runtime.take_over()
            case "copy cache":
                machine.old = machine.directory.copied()
            case "cache gone" | "old cache":
                machine.kill(restart_s=soon_s)
                if kind == "cache gone":
                    machine.directory.drop()
                elif machine.old is not None:
                    machine.put_back()
                # While it reads what it lacks: the other one goes on, and trims.
                machine.armed = Armed(calls, "get", "pause", "before", 5.0 + pause_s)
            case _:
                pass  # nothing runs there

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.is_calm = True
        self.server.share = 0.0
        self.server.away_until_s = 0.0
        for machine in self.machines.values():
            machine.armed = None
            machine.wire.cut_until_s = machine.wire.slow_until_s = 0.0

    def left(self) -> str | None:
        """What is still to come until all is quiet; None: nothing is."""
        opened = [one for one in self.machines.values() if one.is_open]
        if len(opened) != 1:
            return f"{[one.name for one in opened]} are open"
        return self.standby.left(self.truth.head)

    @property
    def primary(self) -> Machine:
        """The one that is at work, when all is quiet."""
        (machine,) = [one for one in self.machines.values() if one.is_open]
        return machine

    @property
    def standby(self) -> Machine:
        """The other one."""
        (machine,) = [one for one in self.machines.values() if not one.is_open]
        return machine

    def told_of_rest(self) -> str:
        """How it stands, for whoever looks for the fault."""
        last = self.truth.openings[-1] if self.truth.openings else None
        return "; ".join(
            [f"{one.name}: {one.told()}" for one in self.machines.values()] + [str(last)]
        )


def plan(seed: str) -> Iterator[Planned]:
    """What happens in a seed, in order, without end."""
    random = Random(f"{seed}/plan")
    kinds, weights = [kind for kind, _ in KINDS], [weight for _, weight in KINDS]
    command_s, fault_s = 0.5, 2.0
    commands, faults = count(), count()
    while True:
        if command_s <= fault_s:
            yield Planned(f"c{next(commands)}", command_s, "command")
            command_s += random.expovariate(1 / COMMAND_EVERY_S)
        else:
            yield Planned(f"f{next(faults)}", fault_s, random.choices(kinds, weights)[0])
            fault_s += random.expovariate(1 / FAULT_EVERY_S)


def simulate_pair(
    seed: str,
    *,
    steps: int,
    only: Collection[str] | None = None,
    watch: str | None = None,
    history: History | None = None,
    day: str | None = None,
) -> Outcome:
    """Run one seed for so many steps, then until it is quiet. As `simulation.simulate`; a pair has no days."""
    outcome = Outcome(seed)
    history = history or History()
    with ExitStack() as stack:
        global_random.seed(f"{seed}/global")
        pair = Pair(seed, history)
        directories = {one.path: one.directory for one in pair.machines.values()}
        pair.network.watched = watch
        ids_from(pair.random("ids"), lambda: BEGIN, stack)
        stack.enter_context(simulated_threads())
        stack.enter_context(below_ledgers(directories, pair.name))
        stack.enter_context(mock.patch.object(shared_log, "SNAPSHOT_RECORDS", RECORDS))
        logging.disable(logging.CRITICAL)
        try:
            _run(pair, outcome, steps, only)
        except (Exception, Killed) as error:
            outcome.rule = error.rule if isinstance(error, Violation) else type(error).__name__
            shown = traceback.format_exception(error)
            outcome.failure = str(error) if isinstance(error, Violation) else "".join(shown)
        outcome.steps = pair.scheduler.steps
        outcome.digest = history.digest
        outcome.counts = dict(pair.counts.by_name)
    return outcome


def _run(pair: Pair, outcome: Outcome, steps: int, only: Collection[str] | None) -> None:
    clients = Clients(pair)
    scheduler = pair.scheduler
    coming = plan(pair.seed)
    following = next(coming)
    while scheduler.steps < steps:
        pair.step()
        while scheduler.now_s >= following.at_s:
            outcome.planned.append(following.name)
            if only is None or following.name in only:
                if following.kind == "command":
                    clients.begin(int(following.name[1:]))
                else:
                    pair.cause(following.kind, pair.random(following.name))
            following = next(coming)
    _drain(pair, clients)


def _drain(pair: Pair, clients: Clients) -> None:
    """Nothing goes wrong any more: calls are answered, one is at work, the other and an empty machine are level. Then
    an operator has the other one take over while the first commits without a pause, and later the standby stores its
    record too late; after each all is quiet again.
    """
    pair.calm()
    _until_quiet(pair, clients)
    _take_over_under_load(pair, clients)
    _until_quiet(pair, clients)
    _trim_past_a_takeover(pair, clients)
    _until_quiet(pair, clients)
    empty = of_an_empty_machine(ObjectLog(pair.server))
    pair.truth.same("an empty machine", empty.stored.entries)
    pair.truth.same("the standby", pair.standby.directory.stored.entries)
    if pair.truth.violation is not None:
        raise pair.truth.violation


def _until_quiet(pair: Pair, clients: Clients) -> None:
    until_s = pair.scheduler.now_s + DRAIN_S
    left: str | None = "nothing looked at"
    while left is not None:
        if pair.scheduler.now_s >= until_s:
            said = f"not quiet after {DRAIN_S:.0f} s: {left}; {pair.told_of_rest()}"
            raise Violation("S-63", said)
        pair.step()
        if pair.scheduler.steps % 64 == 0:
            left = f"{clients.under_way} calls" if clients.under_way else pair.left()


def _take_over_under_load(pair: Pair, clients: Clients) -> None:
    primary, standby = pair.primary, pair.standby
    assert standby.runtime is not None
    with clients.without_pause(primary.name):
        standby.runtime.take_over()
        said = f"{standby.name} was told to take over"
        _until(pair, lambda: standby.is_open, TAKES_OVER_S, "S-98", said)
    pair.counts.reached("taken over under load")


def _trim_past_a_takeover(pair: Pair, clients: Clients) -> None:
    """The lease lapses while the primary is paused; the standby is paused right before the record that would open the
    log, and the primary goes on, until that number is free again. Then the standby stores its record.

    In the plan that is rare: a primary ends by an order, so an opening is only passed without one, or by the next one.
    """
    primary, standby = pair.primary.process, pair.standby
    assert primary is not None
    assert standby.process is not None
    standby.armed = Armed(1, STORES_A_RECORD, "pause", "before", DRAIN_S)
    pair.primary.pause(DRAIN_S)
    stopped = standby.process
    said = f"{standby.name} has seen no renewal, and does not take over"
    _until(pair, lambda: stopped.is_stopped, TAKES_OVER_S, "S-98", said)
    key = record_key(pair.truth.head + 1)
    primary.go_on()
    with clients.without_pause(pair.primary.name):
        _until(pair, lambda: key in pair.server.stored, DRAIN_S, "S-63", f"{key} is not stored")
        said = f"{key} is there, however much is stored behind it"
        _until(pair, lambda: key not in pair.server.stored, DRAIN_S, "S-100", said)
    stopped.go_on()


def _until(
    pair: Pair, holds: Callable[[], bool], within_s: float, rule: str, otherwise: str
) -> None:
    until_s = pair.scheduler.now_s + within_s
    while not holds():
        if pair.scheduler.now_s >= until_s:
            raise Violation(rule, f"{otherwise}, for {within_s:.0f} s; {pair.told_of_rest()}")
        pair.step()
