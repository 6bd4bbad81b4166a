"""Limits how many sessions a process adopts at once without a waiting caller: resumed runs, ends of children, parks.

Each takes a few milliseconds of CPU, and all take turns on one loop, so a caller's send that needs ten turns of the
loop waits ten times for all of them. Without callers, many at once share commits. Beside a caller, each family of
sessions (`directory/work.py`) has one at a time, which does nearly as much. A turn lasts until the session's code waits
again, or for `REST_S`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from helmr_runtime.core.commands import SessionCommand, is_paced

TURNS_MAX = 16
"""Turns at the same time."""

BESIDE_MAX = 1
"""Turns of one family at the same time, while callers come."""

CALLED_FOR_S = 1.0
"""Seconds after a call in which its caller may come again."""

REST_S = 0.025
"""Seconds that a turn is kept for code that goes on."""

TURN_MAX_S = 1.0
"""Most seconds that a turn counts, so that one that hangs, as while the ledger is away, holds up no other."""

PARKS = "parks"
"""The family of all parks."""

URGENT = frozenset({"shutdown", "drain"})
"""Reasons to park at once."""


class HostPace:
    """The turns of one process; all its hosts share them."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()
        self.called_s: float | None = None
        """Time of the last call."""
        self._keeping: set[asyncio.Task[None]] = set()

    def called(self) -> None:
        """Note that a caller waits for this process."""
        self.called_s = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def turn(
        self, family: str, rests: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[None]:
        """Take a turn, in the order of asking within the family.

        Args:
            family: The family that takes the turn.
            rests: Returns once the code that this started waits again.
        """
        turn = await self._take(family)
        try:
            yield
        except BaseException:
            turn.end()
            raise
        if rests is None:
            turn.end()
            return
        keeping = asyncio.get_running_loop().create_task(_keep(turn, rests))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)

    @asynccontextmanager
    async def of(
        self,
        session_id: str,
        command: SessionCommand | None,
        rests: Callable[[str], Awaitable[None]],
    ) -> AsyncIterator[None]:
        """Take a turn for a command that no caller waits for; others go on at once.

        Args:
            session_id: The command's session.
            command: None only adopts the session.
            rests: Returns once that session's code waits again.
        """
        if not is_paced(command):
            self.called()
            yield
            return
        family = command.family if command is not None else None
        async with self.turn(family or session_id, lambda: rests(session_id)):
            yield

    @asynccontextmanager
    async def of_park(self, reason: str) -> AsyncIterator[None]:
        """Take a turn for a park, unless the reason is urgent."""
        if reason in URGENT:
            yield
            return
        async with self.turn(PARKS):
            yield

    async def _take(self, family: str) -> _Turn:
        if not self._has_room(family) or any(one == family for one, _ in self._waiting):
            asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((family, asked))
            try:
                await asked
            except asyncio.CancelledError:
                if asked.done() and not asked.cancelled():
                    self._give(family)
                raise
        else:
            self._taken[family] += 1
        return _Turn(lambda: self._give(family))

    def _has_room(self, family: str) -> bool:
        now_s = asyncio.get_running_loop().time()
        is_called = self.called_s is not None and now_s - self.called_s < CALLED_FOR_S
        most = BESIDE_MAX if is_called else TURNS_MAX
        return self._taken.total() < TURNS_MAX and self._taken[family] < most

    def _give(self, family: str) -> None:
        self._taken[family] -= 1
        if not self._taken[family]:
            del self._taken[family]
        still: deque[tuple[str, asyncio.Future[None]]] = deque()
        while self._waiting:
            waits, asked = self._waiting.popleft()
            if asked.done():
                continue
            if self._has_room(waits):
                self._taken[waits] += 1
                asked.set_result(None)
            else:
                still.append((waits, asked))
        self._waiting = still


class _Turn:
    """A turn in progress; it ends once."""

    def __init__(self, give: Callable[[], None]) -> None:
        self._give: Callable[[], None] | None = give
        self._timer = asyncio.get_running_loop().call_later(TURN_MAX_S, self.end)

    def end(self) -> None:
        """End the turn and let the next one begin."""
        give, self._give = self._give, None
        self._timer.cancel()
        if give is not None:
            give()


async def _keep(turn: _Turn, rests: Callable[[], Awaitable[object]]) -> None:
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_S):
                await rests()
    finally:
        turn.end()
