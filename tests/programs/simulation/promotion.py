"""A primary that its follower takes the place of: what dies, what goes on, and what the old one may still do (S-68).

Some seeds have a follower, and most of these a promotion. The whole old runtime ends at once, as the operator says
with `--fenced`; in half of them its disk is not lost, and somebody starts it again. From then on there are two ledgers,
each with checks of its own, and clients that ask both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from helmr import ids
from helmr.client.calls import KnownGenerations
from helmr.errors import HelmrError, LedgerSuperseded
from helmr_runtime.core.commands import Promote
from helmr_runtime.core.entries import RUNTIME, Entry, EntryKind, Principal
from helmr_runtime.ledger.memory import TEST_RING
from helmr_runtime.rpc.calls import (
    DIRECTORY,
    GATEWAY,
    LEDGER,
    directory_of,
    host_of,
    ledger_client_of,
)
from helmr_runtime.service import Service
from helmr_runtime.service.health import Introduction
from tests.programs.simulation.disk import SimulatedDisk
from tests.programs.simulation.follower import Copy, follow
from tests.programs.simulation.gateway import Gateway
from tests.programs.simulation.invariants import Invariants
from tests.programs.simulation.ledger import SimulatedLedger
from tests.programs.simulation.network import Network
from tests.programs.simulation.scheduler import Process

if TYPE_CHECKING:
    from tests.programs.simulation.world import World

FOLLOWED = 0.3
"""So many seeds have a follower."""

PROMOTED = 0.8
"""Of these so many a promotion."""

FOLLOWER = "helmr-follower"
OLD = "helmr-old"
OLD_NAMES = {one: f"{OLD}-{one}" for one in (LEDGER, GATEWAY, DIRECTORY)}
"""How what is left of the old runtime is called; it has no directory, so that no session of it goes on."""

STRAYS = 3
VISITS = 14
CLIENT = Principal("api_key", "key_simulated", "alice")


class Promotion:
    """A seed's follower, and what becomes of it.

    Attributes:
        promote: What the ledger of the follower begins with; None while the primary is there.
        old: The checks of the old ledger.
        era: How often clients have come to another ledger.
        on_promoted: Called when they do.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random = world.random("follower")
        self.promote: Promote | None = None
        self.old: Invariants | None = None
        self.era = 0
        self.on_promoted: Callable[[], None] = lambda: None
        self._history: list[Entry] = []
        self._old_disk: SimulatedDisk | None = None
        self._old_process: Process | None = None
        self._copy = Copy(world.invariants.check)
        self._follower: Process | None = None
        self._stands_at: int | None = None
        """So many entries the old ledger had when it was known to have met its successor."""
        if random.random() >= FOLLOWED:
            return
        world.later(0.5, self._start_follower)
        for _ in range(3):
            world.later(random.random() * 20.0, self._kill_follower)
        if random.random() < PROMOTED:
            world.later(3.0 + random.random() * 14.0, self._promote)

    def stored(self, entries: Sequence[Entry]) -> None:
        """The ledger has stored these. A copy may be half of what was pruned just now: a moment for a promotion."""
        self._history += entries
        is_pruned = any(one.kind is EntryKind.SESSIONS_PRUNED for one in entries)
        if is_pruned and self._follower is not None and self._random.random() < 0.4:
            self._world.later(self._random.random() * 0.1, self._promote)

    # --- the follower -------------------------------------------------------------------------------------

    def _start_follower(self) -> None:
        world = self._world
        if self.promote is not None:
            return
        self._follower = Process(FOLLOWER, world.scheduler)
        following = follow(self._copy, world.calls, self._random, world.counts.reached)
        world.run(self._follower, following)

    def _kill_follower(self) -> None:
        if self.promote is None and self._follower is not None and not self._follower.is_dead:
            self._world.counts.reached("killed:follower")
            self._end(self._follower, [])
            self._world.later(self._random.random() * 6.0, self._start_follower)

    def _end(self, process: Process, names: list[str]) -> None:
        process.die()
        self._world.network.died(process, names, "signal 9", for_good=False)

    # --- the promotion --------------------------------------------------------------------------------------

    def _promote(self) -> None:
        world, copy = self._world, self._copy
        if world.is_calm or self.promote is not None:
            return
        if not (copy.offset and copy.is_whole):
            world.counts.reached("not promoted")
            world.later(0.3, self._promote)
            return
        world.counts.reached("promoted")
        head = world.invariants.head_offset
        world.counts.reached("promoted behind" if copy.offset < head else "promoted level")
        if self._follower is not None:
            self._end(self._follower, [])
        world.fence()
        self.era += 1
        self.promote = Promote(principal=RUNTIME, after=copy.offset)
        self.old, self._old_disk = world.invariants, world.disk
        self._old_disk.breaks = None
        world.disk = SimulatedDisk(world.random("breaks again"), world.counts, world.ledger_dies, 2)
        world.disks[world.disk.number] = world.disk
        world.disk.database.stored = copy.promoted()
        world.disk.database.openings = copy.openings
        world.checked_by(self._refolded(copy.offset))
        self.on_promoted()
        if self._random.random() < 0.6:
            world.later(0.5 + self._random.random() * 3.0, self._start_old)

    def _refolded(self, through: int) -> Invariants:
        """The checks as they were at that offset: what came after it is in the old ledger only."""
        world, old = self._world, self._world.invariants
        kept = [one for one in self._history if (one.feed_offset or 0) <= through]
        fresh = world.new_invariants()
        fresh.notices.goes_on_from(old.notices, {(one.session_id, one.seq) for one in kept})
        fresh.stored(kept, None)
        world.links = {url: wait for url, wait in world.links.items() if wait in fresh.waits}
        return fresh

    async def begin(self, ledger: SimulatedLedger) -> None:
        """The first thing that the follower's ledger does, before anybody can ask it."""
        if self.promote is None or ledger.index.generation > self._copy.generation:
            return
        self._world.armed.clear()
        await ledger.fact(self.promote)

    # --- what is left of the old one --------------------------------------------------------------------------

    def _start_old(self) -> None:
        world, old, disk = self._world, self.old, self._old_disk
        assert old is not None
        assert disk is not None
        process = self._old_process = Process(OLD, world.scheduler)
        calls = cast(Any, _Renamed(world.network))

        async def boot() -> None:
            ledger = SimulatedLedger(
                world.clock,
                disk,
                invariants=old,
                counts=world.counts,
                random=self._random,
                fails=lambda: False,
            )
            service = Service(
                ledger=ledger_client_of(calls),
                directory=directory_of(calls),
                host_named=lambda name: host_of(calls, name),
                clock=world.clock,
                host=Introduction(
                    version="simulated", started_at=world.clock.now(), base_url="http://old.test"
                ),
                ring=TEST_RING,
            )
            service.start()
            world.network.register(OLD_NAMES[LEDGER], process, ledger)
            world.network.register(OLD_NAMES[GATEWAY], process, Gateway(service))

        world.run(process, boot())
        if disk.database.openings < 20 and not world.is_calm:
            world.later(1.0 + self._random.random() * 4.0, self._restart_old)
        if self._stands_at is None and not world.counts.by_name["old primary started"]:
            for number in range(STRAYS):
                world.later(0.3, self._send_stray, number)
        world.counts.reached("old primary started")

    def _restart_old(self) -> None:
        assert self._old_process is not None
        self._end(self._old_process, [])
        self._world.later(0.1 + self._random.random(), self._start_old)

    # --- clients of both ------------------------------------------------------------------------------------------

    def _send_stray(self, number: int) -> None:
        known = KnownGenerations(self._world.folder / f"generations-{number}")
        self._world.outside.lane.create_task(self._stray(known))

    async def _stray(self, known: KnownGenerations) -> None:
        """Asks the one or the other, and carries on what it has met."""
        for _ in range(VISITS):
            await asyncio.sleep(0.1 + self._random.random())
            await self._visit(self._random.choice((GATEWAY, OLD_NAMES[GATEWAY])), known)

    async def _visit(self, gateway: str, known: KnownGenerations) -> None:
        world, is_old = self._world, gateway != GATEWAY
        checks = self.old if is_old else world.invariants
        assert checks is not None
        headers, stood_at = known.headers(), self._stands_at
        operation_id = ids.new_id(ids.OPERATION)
        parts: tuple[Any, ...] = (headers, CLIENT, operation_id, {"timeout": 600})
        try:
            said = await world.network.call(gateway, "make_token_as", parts, {})
        except LedgerSuperseded:
            checks.check(is_old, "S-68", "the promoted ledger says that it has a successor")
            world.counts.reached("superseded")
            if stood_at is not None:
                world.counts.reached("superseded again")
            self._stand(checks)
            return
        except HelmrError as error:
            world.counts.reached(f"stray:{error.code}")
            return
        known.met(said)
        checks.acknowledged(operation_id, "make_token")
        if is_old:
            world.counts.reached("old primary acknowledged")
            what = f"the old ledger acknowledges {operation_id}"
            checks.check(not headers, "S-68", f"{what} of a client that has met its successor")
            checks.check(stood_at is None, "S-68", f"{what}, and has met its successor before")

    def _stand(self, checks: Invariants) -> None:
        """The old ledger has refused something for good: it has no entry more from then on."""
        if self._stands_at is None:
            self._stands_at = checks.head_offset
        what = f"the old ledger has gone on from {self._stands_at} to {checks.head_offset}"
        checks.check(checks.head_offset == self._stands_at, "S-68", what)

    def ended(self) -> None:
        """Everything is at rest."""
        if self.old is not None and self._stands_at is not None:
            self._stand(self.old)


class _Renamed:
    """Calls of the old runtime, each to who is left of it."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        return await self._network.call(OLD_NAMES.get(actor, actor), method, args, kwargs)
