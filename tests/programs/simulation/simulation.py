"""One seed: a plan of commands and faults, a world that it happens to, and what came of it."""

from __future__ import annotations

import json
import logging
import random as global_random
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from unittest import mock
from uuid import UUID

from helmr.wire import ids
from helmr_runtime import faults
from helmr_runtime.core import commands
from helmr_runtime.core.notices import NoticePace
from helmr_runtime.ledger.index import ledger_index
from helmr_runtime.ports import SlotState
from helmr_runtime.service import notice_teller
from helmr_runtime.session.host import SessionSlot
from tests.programs.simulation.clients import Clients
from tests.programs.simulation.code import code_on_lanes
from tests.programs.simulation.disk import below_the_log
from tests.programs.simulation.faults import KINDS, cause
from tests.programs.simulation.history import History
from tests.programs.simulation.invariants import Violation
from tests.programs.simulation.scheduler import Killed
from tests.programs.simulation.world import World

DRAIN_STEPS = 60_000
"""After the last fault everything is quiet within so many events."""

PACE = {
    "passed_by_after": timedelta(seconds=8),
    "late_first": timedelta(seconds=6),
    "late_longest": timedelta(seconds=15),
}
"""Of notices; shorter than a runtime's, so that outages of a virtual minute are long."""

COMMAND_EVERY_S = 0.25
FAULT_EVERY_S = 0.9


@dataclass(frozen=True, slots=True)
class Planned:
    """Something that happens at a time: `c3` is a command, `f3` a fault."""

    name: str
    at_s: float
    kind: str


@dataclass(slots=True)
class Outcome:
    """What came of a seed."""

    seed: str
    steps: int = 0
    planned: list[str] = field(default_factory=list)
    """Names of what of the plan came before the end."""
    failure: str | None = None
    rule: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    """Of every event: a seed has one, whenever and wherever it runs."""

    def to_json(self) -> str:
        """For the process that asked."""
        return json.dumps(asdict(self))


def plan(seed: str, weighed: Mapping[str, int]) -> Iterator[Planned]:
    """What happens in a seed, in order, without end; what goes wrong by these weights."""
    random = Random(f"{seed}/plan")
    kinds, weights = list(weighed), list(weighed.values())
    command_s, fault_s = 0.3, 1.0
    commands, faults = count(), count()
    while True:
        if command_s <= fault_s:
            yield Planned(f"c{next(commands)}", command_s, "command")
            command_s += random.expovariate(1 / COMMAND_EVERY_S)
        else:
            yield Planned(f"f{next(faults)}", fault_s, random.choices(kinds, weights)[0])
            fault_s += random.expovariate(1 / FAULT_EVERY_S)


def simulate(
    seed: str,
    *,
    steps: int,
    only: Collection[str] | None = None,
    watch: str | None = None,
    history: History | None = None,
    day: str | None = None,
) -> Outcome:
    """Run one seed for so many steps, then until it is quiet.

    Args:
        seed: Of everything.
        steps: Events in which commands and faults come.
        only: Names of what happens of the plan; None for all of it.
        watch: Text of which every call that has it is printed, for whoever looks for a fault.
        history: Told of all that happens; None: only its digest is of interest.
        day: Whose it is, of `users.MIXES`; None: the seed says so.
    """
    outcome = Outcome(seed)
    history = history or History()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="helmr-sim-")))
        global_random.seed(f"{seed}/global")
        world = World(seed, folder, history, day=day)
        ids_from(world.random("ids"), world.clock.now, stack)
        stack.enter_context(code_on_lanes())
        stack.enter_context(_days_of(world.day_s))
        stack.enter_context(below_the_log(lambda: world.disks))
        stack.enter_context(faults.passing(world.on_point))
        stack.enter_context(_told_of_rest(world.rests))
        stack.enter_context(world.limits.watched())
        stack.enter_context(
            mock.patch.object(notice_teller, "NoticePace", partial(NoticePace, **PACE))
        )
        world.network.watched = watch
        logging.disable(logging.CRITICAL)
        try:
            _run(world, outcome, steps, only)
        except (Exception, Killed) as error:
            outcome.rule = error.rule if isinstance(error, Violation) else type(error).__name__
            shown = traceback.format_exception(error)
            outcome.failure = str(error) if isinstance(error, Violation) else "".join(shown)
        outcome.steps = world.scheduler.steps
        outcome.digest = history.digest
        outcome.counts = dict(world.counts.by_name)
    return outcome


def _run(world: World, outcome: Outcome, steps: int, only: Collection[str] | None) -> None:
    clients = Clients(world)
    scheduler = world.scheduler
    coming = plan(world.seed, world.mix[1].faults or KINDS)
    following = next(coming)
    while scheduler.steps < steps:
        world.step()
        while scheduler.now_s >= following.at_s:
            outcome.planned.append(following.name)
            if only is None or following.name in only:
                if following.kind == "command":
                    clients.begin(int(following.name[1:]))
                else:
                    cause(world, following.kind, world.random(following.name))
            following = next(coming)
    _drain(world, clients)


def _drain(world: World, clients: Clients) -> None:
    """Nothing goes wrong any more: everything comes to its end within a bounded number of events (S-63)."""
    world.calm()
    scheduler = world.scheduler
    until = scheduler.steps + DRAIN_STEPS
    answering = clients.finish()
    left: str | None = None
    while scheduler.steps < until:
        world.step()
        if scheduler.steps % 64 == 0 and answering.done() and not clients.under_way:
            left = world.check_quiet()
            left = left or world.invariants.notices.behind()
            if left is None:
                world.invariants.ended()
                return
    left = world.invariants.schedules.behind(world.clock.now()) or left or world.check_quiet()
    left = left or "a client has no answer"
    raise Violation("S-63", f"not quiet after {DRAIN_STEPS} events: {left}; {world.told_of_rest()}")


def _told_of_rest(tell: Callable[[str], None]) -> AbstractContextManager[object]:
    """Each host's slots tell it as well when the code of their session rests."""
    become = SessionSlot._become

    def told(slot: SessionSlot, state: SlotState, *detail: str) -> None:
        if state is SlotState.PARKABLE:
            tell(slot.session_id)
        become(slot, state, *detail)

    return mock.patch.object(SessionSlot, "_become", told)


@contextmanager
def _days_of(day_s: float) -> Iterator[None]:
    """Meanwhile operations are known, and sessions kept, for so long."""
    with (
        mock.patch.object(commands, "PRUNE_AGE_MIN_S", day_s),
        mock.patch.object(ledger_index, "OPERATION_AGE", timedelta(seconds=day_s)),
    ):
        yield


def ids_from(random: Random, now: Callable[[], datetime], stack: ExitStack) -> None:
    """Ids of the seed: the time, and what it draws."""

    class Drawn:
        """`uuid_utils`, but for what a new id is made of."""

        @staticmethod
        def uuid7() -> UUID:
            millis = int(now().timestamp() * 1000) & (2**48 - 1)
            high, low = random.getrandbits(12), random.getrandbits(62)
            return UUID(int=millis << 80 | 7 << 76 | high << 64 | 2 << 62 | low)

    stack.enter_context(mock.patch.object(ids, "uuid_utils", Drawn))
