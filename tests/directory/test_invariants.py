"""Whatever happens in whatever order: a session has one holder, is fenced before it is adopted, and no slot is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from helmr.errors import HelmrError
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.resumption import OWN_HOSTS_MAX
from helmr_runtime.ports import Routed, SlotState
from tests.directory.clock import settle
from tests.directory.fake_host import FakeHost, FakeSession
from tests.directory.fakes import World, note

SESSIONS = [f"s{n}" for n in range(12)]
ISOLATED = SESSIONS[:2]
STEPS = 80
SEEDS = range(5)
"""Each takes half a second."""


class Fuzz:
    """A world, its directories, one after another, and what may happen to them.

    Args:
        hosts: For all sessions.
        room: Sessions whose code each of them may have at once.
        seed: Of the order of events.
    """

    directory: DirectoryActor

    def __init__(self, world: World, *, hosts: int, room: int, seed: int) -> None:
        self.world = world
        self.hosts = hosts
        self.room = room
        self.random = random.Random(seed)
        self.routes: set[asyncio.Task[Routed]] = set()
        self.operations = 0
        self.events: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (30, self.route),
            (20, self.wait),
            (8, self.go_on),
            (6, self.queue),
            (5, self.kill),
            (3, self.kill_while_it_adopts),
            (5, self.lose),
            (8, self.end),
            (5, self.lose_an_answer),
            (2, self.retire),
            (10, self.pass_time),
            (2, self.ledger_goes),
            (4, self.ledger_comes_back),
            (1, self.restart),
        ]

    async def start(self) -> None:
        """Start a directory; it takes over what there is."""
        self.directory = await self.world.directory(hosts=self.hosts, sessions_per_host=self.room)

    async def step(self) -> None:
        """One event; the next may come before all that it sets off is over."""
        weights = [weight for weight, _ in self.events]
        ((_, event),) = self.random.choices(self.events, weights)
        await event()
        await settle(self.random.choice((0, 1, 3, 10, 60)))

    # --- events -------------------------------------------------------------------------------------

    async def route(self) -> None:
        self.operations += 1
        operation = f"op_{self.operations}" if self.random.random() < 0.8 else None
        command: SessionCommand = note(
            self.random.choice(("x", "y", "refused")), operation=operation
        )
        work = self.directory.route(self.random.choice(SESSIONS), command)
        self.routes.add(asyncio.create_task(work))

    async def wait(self) -> None:
        if found := self._held(SlotState.BUSY):
            await found[0].waits(found[1].session_id)

    async def go_on(self) -> None:
        if found := self._held(SlotState.PARKABLE):
            await found[0].goes_on(found[1].session_id)

    async def queue(self) -> None:
        session_id = self.random.choice(SESSIONS)
        if self.world.ledger.heads[session_id].run != "running":
            await self.world.ledger.queue(session_id)

    async def kill(self) -> None:
        if hosts := self.world.living():
            self.world.kill(self.random.choice(hosts).name)

    async def kill_while_it_adopts(self) -> None:
        if hosts := self.world.living():
            self.random.choice(hosts).dies_in_adopt_of = "signal 11"

    async def lose(self) -> None:
        """Another has the session, and leaves it: the host learns of that at its next commit."""
        if found := self._held(SlotState.BUSY):
            head = self.world.ledger.heads[found[1].session_id]
            head.epoch, head.holder = head.epoch + 1, None
            await found[0].waits(found[1].session_id)

    async def end(self) -> None:
        for host in self.world.living():
            for one in list(host.ending):
                await host.ends(one.session_id)

    async def lose_an_answer(self) -> None:
        if hosts := self.world.living():
            method = self.random.choice(("adopt", "release", "command", "lease"))
            self.world.calls.lose(self.random.choice(hosts).name, method)

    async def retire(self) -> None:
        if hosts := self.world.living():
            await self.random.choice(hosts).retire("code does not end")

    async def ledger_goes(self) -> None:
        self.world.ledger.is_down = True

    async def ledger_comes_back(self) -> None:
        self.world.ledger.is_down = False

    async def restart(self) -> None:
        """The directory ends, with nothing but its resumes under way, and another takes over."""
        if all(route.done() for route in self.routes) and not self.world.ledger.is_down:
            await self.directory.stop()
            await self.start()

    async def pass_time(self) -> None:
        """What is under way is over within the first quarter of a second."""
        await settle(60)
        await self.world.clock.advance(self.random.choice((0.25, 1.0, 5.0, 40.0)), step_s=0.5)

    def _held(self, state: SlotState) -> tuple[FakeHost, FakeSession] | None:
        """One of the sessions in that state that were adopted to run; none if nothing of it could be stored."""
        if self.world.ledger.is_down:
            return None
        held = [
            (host, one)
            for host in self.world.living()
            for one in host.sessions.values()
            if one.executes and one.told_version and not one.is_parking and one.state is state
        ]
        return self.random.choice(held) if held else None

    # --- what always holds ----------------------------------------------------------------------------

    def check(self) -> None:
        """A session has one holder and was fenced before it was adopted; no host has more code than room.

        The code of a lost session may outlast its slot: an answer can say that it is gone before a report does.
        """
        heads = self.world.ledger.heads
        assert self.world.ledger.stolen == []
        for session_id in SESSIONS:
            head = heads[session_id]
            holders = [
                host.name
                for host in self.world.living()
                if session_id in host.sessions and host.sessions[session_id].epoch == head.epoch
            ]
            # A release is stored a moment before its host lets go.
            assert holders in ([], [head.holder or "".join(holders)])
        for host in self.world.living():
            with_code = [one for one in host.sessions.values() if one.executes]
            assert len(with_code) <= (1 if host.is_exclusive else self.room), host.name
        assert len(self.world.own()) <= OWN_HOSTS_MAX

    async def check_quiet(self) -> None:
        """After all that was under way: the directory, the ledger and the hosts say the same of every session."""
        status = await self.directory.status()
        believed = {
            (session_id, one["name"])
            for one in status["host_list"]
            for session_id in one["session_ids"]
        }
        held = {
            (session_id, host.name) for host in self.world.living() for session_id in host.sessions
        }
        ledger = {
            (session_id, head.holder)
            for session_id, head in self.world.ledger.heads.items()
            if head.holder is not None
        }
        assert believed == held == ledger
        for one in status["host_list"]:
            assert len(one["session_ids"]) <= one["room"]
        for session_id, name in held:
            assert await self.directory.locate(session_id) == name

    async def come_to_rest(self) -> None:
        """Nothing more happens: every run goes on to its wait and is parked."""
        self.world.ledger.is_down = False
        for host in self.world.living():
            host.dies_in_adopt_of = None
        self.world.calls.find_all_answers()
        for _ in range(60):
            await self.world.clock.advance(4.0, step_s=0.5)
            await asyncio.sleep(0.006)  # routes pause by the real clock
            await self.end()
            while found := self._held(SlotState.BUSY):
                await found[0].waits(found[1].session_id)
                await settle()
            heads = self.world.ledger.heads.values()
            runs = [head for head in heads if head.run in ("queued", "running")]
            if not runs and all(route.done() for route in self.routes):
                break
        for route in self.routes:
            error = route.exception()
            assert error is None or isinstance(error, HelmrError)
        # What failed while the ledger was away is tried again after half a minute at most.
        await self.world.clock.advance(31.0, step_s=0.5)
        await self.check_quiet()
        await self.world.clock.advance(60.0, step_s=1.0)
        await self.check_quiet()


@pytest.mark.parametrize(("hosts", "room"), [(1, 1), (1, 8), (3, 2)])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_session_has_one_holder_and_no_slot_is_lost(
    world: World, hosts: int, room: int, seed: int
) -> None:
    world.ledger.add(*SESSIONS)
    world.isolated.update(ISOLATED if seed % 2 else ())
    fuzz = Fuzz(world, hosts=hosts, room=room, seed=seed)
    await fuzz.start()
    for _ in range(STEPS):
        await fuzz.step()
        fuzz.check()
    await fuzz.come_to_rest()
    status = await fuzz.directory.status()
    assert status["sessions"] == {"live": 0, "lingering": 0, "room": hosts * room}
    assert status["hosts"] == {"total": hosts, "starting": 0, "retiring": 0}
    assert status["queue"] == 0
    assert status["failing"] == 0
    assert world.ledger.stolen == []
    assert [host.sessions for host in world.living()] == [{}] * hosts
