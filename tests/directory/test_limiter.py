"""What a directory's limiter makes of what hosts say, and of a machine's clock that is set (S-119)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

from helmr import Limit
from helmr_runtime.clock import FakeClock, Timer
from helmr_runtime.directory.hosts import HostState, PoolHost, PoolTimings
from helmr_runtime.directory.limiter import Limiter
from helmr_runtime.ports import Host, PermitChange, PermitGiven, PermitLine, PermitNews
from tests.directory.clock import settle

HOUR = timedelta(hours=1)


class MovedClock(FakeClock):
    """One that is set, too."""

    off = timedelta()

    def now(self) -> datetime:
        return super().now() + self.off

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        return super().call_at(when - self.off, call)

    async def passes(self, seconds: float) -> None:
        """Time does."""
        self.move_to(super().now() + timedelta(seconds=seconds))
        await settle()


class AskingHost:
    """A host that says what it is told to."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[PermitNews] = asyncio.Queue()
        self.given: list[str] = []
        self.turns: list[str] = []
        """Sessions whose turn is near, or that wait for none, as the work queue is told."""
        self.passed: list[str] = []
        """Sessions that need not be in memory any more."""
        self.listed = {"s0", "s1", "s2"}
        """Sessions whose run is on the work list."""
        self._version = 0

    async def permit_news(self, directory: str, known: int) -> PermitNews:
        return await self.news.get()

    async def give_permits(self, directory: str, given: tuple[PermitGiven, ...]) -> None:
        self.given += [one.ticket for one in given]

    async def say(self, change: PermitChange, *, is_whole: bool = False, **parts: Any) -> None:
        """One line, or all that there is."""
        self._version += 1
        line = PermitLine(change=change, limit="counted", **parts)
        self.news.put_nowait(PermitNews(version=self._version, lines=(line,), is_whole=is_whole))
        await settle()


@asynccontextmanager
async def limiting(clock: MovedClock, limit: Limit) -> AsyncIterator[AskingHost]:
    """A limiter, and the only host that asks it."""
    host = AskingHost()
    limiter = Limiter(
        {limit.name: limit},
        clock=clock,
        timings=PoolTimings(),
        on_turn=host.turns.append,
        on_passed=host.passed.append,
        is_on_list=host.listed.__contains__,
        room=lambda: 4,
    )
    limiter.start()
    limiter.on_ready(PoolHost("host", cast(Host, host), HostState.READY, clock.now(), room=4))
    try:
        yield host
    finally:
        await limiter.stop()


async def test_a_clock_that_is_set_forward_brings_no_permit() -> None:
    clock = MovedClock()
    async with limiting(clock, Limit("counted", per=3, within="1m")) as host:
        for number in range(6):
            await host.say(PermitChange.ASKED, ticket=f"t{number}", session_id=f"s{number}", op=1)
            clock.off += HOUR if number % 2 else -HOUR / 2
        assert host.given == []
        await clock.passes(21)
        assert host.given == ["t0"]
        await clock.passes(40)
        assert host.given == ["t0", "t1"]
        await clock.passes(21)
        assert host.given == ["t0", "t1", "t2"]


async def test_a_closed_limit_stays_closed_for_as_long_as_was_said() -> None:
    clock = MovedClock()
    async with limiting(clock, Limit("counted", at_once=2)) as host:
        until = clock.now() + timedelta(seconds=60)
        await host.say(PermitChange.CLOSED, until=until)
        clock.off += HOUR
        await host.say(PermitChange.ASKED, ticket="t0", session_id="s0", op=1)
        assert host.given == []
        await clock.passes(59)
        assert host.given == []
        await clock.passes(2)
        assert host.given == ["t0"]


async def test_a_permit_that_its_host_has_not_heard_of_is_given_again() -> None:
    async with limiting(MovedClock(), Limit("counted", at_once=1)) as host:
        asks: dict[str, Any] = {"ticket": "t0", "session_id": "s0", "op": 1}
        await host.say(PermitChange.ASKED, **asks)
        assert host.given == ["t0"]
        await host.say(PermitChange.ASKED, **asks, is_whole=True)
        assert host.given == ["t0", "t0"]
        await host.say(PermitChange.HELD, **asks, is_whole=True)
        await host.say(PermitChange.ASKED, ticket="t1", session_id="s1", op=1)
        assert host.given == ["t0", "t0"]


async def test_when_a_place_is_given_up_the_next_comes_back() -> None:
    """Seed 105 of the simulator's tenants: a session was cancelled while its turn was near, and the next never came."""
    clock = MovedClock()
    async with limiting(clock, Limit("counted", at_once=1)) as host:
        for number in range(3):
            asks: dict[str, Any] = {"ticket": f"t{number}", "session_id": f"s{number}", "op": 1}
            await host.say(PermitChange.ASKED, **asks)
            if number:
                await host.say(PermitChange.LEFT, **asks)
        assert host.turns == ["s0", "s1"]  # with room for four, one that waits is kept near
        host.listed.remove("s1")
        for _ in range(4):
            await clock.passes(5)
        assert host.turns == ["s0", "s1", "s1", "s2"]


async def test_a_session_that_waits_no_more_need_not_be_in_memory() -> None:
    """Seed 16: it was cancelled, its host said so before it gave its place up, and it was kept for good."""
    async with limiting(MovedClock(), Limit("counted", at_once=1)) as host:
        for number in range(3):
            ticket = f"t{number}"
            await host.say(PermitChange.ASKED, ticket=ticket, session_id=f"s{number}", op=1)
        assert host.passed == []
        await host.say(PermitChange.ENDED, ticket="t1")
        assert host.passed == ["s1"]
        await host.say(PermitChange.ENDED, ticket="t0")
        assert host.passed == ["s1", "s2"]


async def test_two_places_of_one_step_are_one() -> None:
    """Seed 20: the host that had the session before was heard late, and its place was kept for good."""
    clock = MovedClock()
    async with limiting(clock, Limit("counted", at_once=1)) as host:
        tickets = {"t0": "s0", "late": "s1", "t1": "s1", "t2": "s2"}
        for ticket, session_id in tickets.items():
            await host.say(PermitChange.ASKED, ticket=ticket, session_id=session_id, op=1)
        for ticket in ("late", "t1", "t2"):
            await host.say(PermitChange.LEFT, ticket=ticket)
        host.listed.remove("s1")
        for _ in range(4):
            await clock.passes(5)
        assert host.turns[-1] == "s2"
