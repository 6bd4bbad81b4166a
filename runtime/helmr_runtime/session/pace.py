"""How many sessions a process takes up at once on nobody's behalf: resumed runs, ends of children, what is parked.

Each is a few milliseconds of a processor, and what is under way at once takes turns on one loop, so a caller's send
that needs ten turns waits ten times for all of them. Where nobody calls, many at once share commits; beside a caller,
two at once do nearly as much and leave it its turns. A turn lasts until the session's code waits again, or for as long
as a quick one takes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from helmr_runtime.core.commands import CancelSession, Command, Resume, TokenEnded
from helmr_runtime.session.slot import Slot

ALONE_MAX = 16
BESIDE_MAX = 2
"""Turns at once while nobody calls, and beside a caller."""

CALLED_FOR_S = 1.0
"""How long after a call its caller may come again."""

TURN_S = 0.025
"""The longest that a turn is kept for code which goes on."""

URGENT = frozenset({"shutdown", "drain"})
"""Reasons to park at once."""


def is_paced(command: Command | None) -> bool:
    """Whether no caller waits for what this sets off: the directory sends it from its list of work."""
    if isinstance(command, CancelSession):
        return command.operation is None
    return isinstance(command, Resume | TokenEnded)


class Pace:
    """The turns of one process; all its hosts share them."""

    def __init__(self) -> None:
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._called_s: float | None = None
        self._keeping: set[asyncio.Task[None]] = set()

    def called(self) -> None:
        """A caller waits for something of this process."""
        self._called_s = asyncio.get_running_loop().time()

    @property
    def turns_max(self) -> int:
        """How many may be taken at once now."""
        now_s = asyncio.get_running_loop().time()
        is_called = self._called_s is not None and now_s - self._called_s < CALLED_FOR_S
        return BESIDE_MAX if is_called else ALONE_MAX

    @asynccontextmanager
    async def turn(
        self, rests: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[None]:
        """Take a turn in the order of asking. `rests` returns when the code that was set off waits again."""
        await self._take()
        try:
            yield
        except BaseException:
            self._give()
            raise
        if rests is None:
            self._give()
            return
        keeping = asyncio.get_running_loop().create_task(self._keep(rests))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)

    async def _take(self) -> None:
        if self._taken < self.turns_max and not self._waiting:
            self._taken += 1
            return
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(asked)
        try:
            await asked
        except asyncio.CancelledError:
            if asked.done() and not asked.cancelled():
                self._give()
            raise

    async def _keep(self, rests: Callable[[], Awaitable[object]]) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    await rests()
        finally:
            self._give()

    def _give(self) -> None:
        self._taken -= 1
        while self._waiting and self._taken < self.turns_max:
            asked = self._waiting.popleft()
            if not asked.done():
                self._taken += 1
                asked.set_result(None)


class HostTurns:
    """Who takes turns in a host.

    Args:
        pace: The process's.
        slots: The host's, by session.
    """

    def __init__(self, pace: Pace, slots: Mapping[str, Slot]) -> None:
        self._pace = pace
        self._slots = slots

    @asynccontextmanager
    async def of(self, session_id: str, command: Command | None) -> AsyncIterator[None]:
        """What no caller waits for takes its turn; what one waits for goes on at once."""
        if not is_paced(command):
            self._pace.called()
            yield
            return

        async def rests() -> None:
            slot = self._slots.get(session_id)
            if slot is not None:
                await slot.wait_rested()

        async with self._pace.turn(rests):
            yield

    @asynccontextmanager
    async def of_park(self, reason: str) -> AsyncIterator[None]:
        """Nobody waits for a session to park, unless its host is about to end."""
        if reason in URGENT:
            yield
            return
        async with self._pace.turn():
            yield
