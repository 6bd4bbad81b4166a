"""Permits of limits in a host: the asks and permits of its code, and their reports to the directory (S-119).

The host makes no calls. A directory with limits keeps one call pending on it (`news`), and gives permits by another
(`give`). A permit belongs to one try of a step, or to a run (op 0). It comes back once none of that executes: a thread
that outlives its step keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum

from helmr.errors import BadDefinition
from helmr.wire.ids import new_id
from helmr_runtime.clock import Clock
from helmr_runtime.ports import PermitChange, PermitGiven, PermitLine, PermitNews

POLL_S = 3600.0
"""Seconds after which a call without news is answered, so that no call waits forever."""

LOOK_S = 0.05
"""Seconds between checks whether the holder of a permit has ended, if it ends without a signal."""

LINES_MAX = 10_000
"""Lines kept for a directory that does not ask; with more, it gets all permits again."""


class PermitState(Enum):
    """The state of a permit."""

    ASKED = "asked"
    GIVEN = "given"
    OVER = "over"


class LimitPermit:
    """A permit that code asks for, holds or has held; `on_given` is called once, on the host's loop."""

    def __init__(
        self,
        limit: str,
        key: str,
        place: tuple[str, int],
        *,
        goes_on: bool,
        on_given: Callable[[], None],
    ) -> None:
        self.ticket = new_id("permit")
        self.limit = limit
        self.key = key
        self.session_id, self.op = place
        self.goes_on = goes_on
        self.on_given = on_given
        self.state = PermitState.ASKED

    @property
    def is_given(self) -> bool:
        """True if its holder may go on."""
        return self.state is PermitState.GIVEN

    def line(self, change: PermitChange) -> PermitLine:
        """Return the line about it for the directory."""
        return PermitLine(
            change=change,
            limit=self.limit,
            ticket=self.ticket,
            key=self.key,
            session_id=self.session_id,
            op=self.op,
            goes_on=self.goes_on,
        )


class HostPermits:
    """The permits of all sessions of a host.

    Args:
        clock: Its clock.
        limits: Name → true if the limit bounds anything; None if nothing is bounded and any name will do.
    """

    def __init__(self, clock: Clock, limits: Mapping[str, bool] | None) -> None:
        self._clock = clock
        self._limits = limits
        self._permits: dict[str, LimitPermit] = {}
        self._closed: dict[str, datetime] = {}
        self._lines: list[PermitLine] = []
        self._version = 0
        """Version of the last line."""
        self._directory = ""
        self._since = 0
        """The version at which the current directory first asked."""
        self._heard: set[str] = set()
        """Directories that have asked."""
        self._changed = asyncio.Event()
        self._ending: dict[LimitPermit, Callable[[], bool]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def binds(self, limit: str | None) -> bool:
        """True if a permit is needed.

        Raises:
            BadDefinition: The runtime does not know that limit (S-121).
        """
        if limit is None or self._limits is None:
            return False
        found = self._limits.get(limit)
        if found is None:
            raise BadDefinition(
                f"limit {limit} is not declared",
                hint=f"Write [limits.{limit}] in helmr.toml, or declare a Limit in a task module.",
            )
        return found

    # --- what code does ---------------------------------------------------------------------------

    def ask(self, permit: LimitPermit) -> None:
        """Ask the directory for a permit."""
        self._permits[permit.ticket] = permit
        self._tell(permit.line(PermitChange.ASKED))

    def end(self, permit: LimitPermit, is_over: Callable[[], bool] | None = None) -> None:
        """Return a permit, or if `is_over` is given, once that is true; it is polled."""
        if permit.state is PermitState.OVER:
            return
        if is_over is None or is_over():
            self._over(permit, PermitChange.ENDED)
            return
        self._ending[permit] = is_over
        if self._timer is None:
            self._look_later()

    def leave(self, permit: LimitPermit) -> None:
        """Note that its session leaves memory; it keeps its place."""
        if permit.state is not PermitState.OVER:
            self._over(permit, PermitChange.LEFT)

    def close(self, limit: str, for_s: float) -> None:
        """Close the limit for that many seconds."""
        if self._limits is None or not self._limits.get(limit):
            return
        until = self._clock.now() + timedelta(seconds=for_s)
        if limit not in self._closed or self._closed[limit] < until:
            self._closed[limit] = until
            self._tell(PermitLine(change=PermitChange.CLOSED, limit=limit, until=until))

    def _over(self, permit: LimitPermit, change: PermitChange) -> None:
        permit.state = PermitState.OVER
        self._permits.pop(permit.ticket, None)
        self._tell(permit.line(change))

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for permit in [one for one, is_over in self._ending.items() if is_over()]:
            del self._ending[permit]
            self.end(permit)
        if self._ending:
            self._look_later()

    # --- calls of the directory -----------------------------------------------------------------

    async def news(self, directory: str, known: int) -> PermitNews:
        """Implements `Host.permit_news`.

        A late call of a dead directory may come after the first call of the next one. It is ignored: otherwise permits
        that the dead one gave would be used again.
        """
        if directory != self._directory:
            if directory in self._heard and known < self._since:
                return PermitNews(version=self._version, lines=())
            self._heard.add(directory)
            self._directory = directory
            self._version += 1
            self._since = self._version
            return self._whole()
        if not 0 <= self._version - known <= len(self._lines):
            return self._whole()
        del self._lines[: len(self._lines) - (self._version - known)]
        try:
            async with asyncio.timeout(POLL_S):
                while not self._lines and directory == self._directory:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return PermitNews(version=self._version, lines=())
        return PermitNews(version=self._version, lines=tuple(self._lines))

    def _whole(self) -> PermitNews:
        self._lines.clear()
        self._changed.set()  # ends the call of an earlier directory
        now = self._clock.now()
        permits = [
            one.line(PermitChange.HELD if one.is_given else PermitChange.ASKED)
            for one in self._permits.values()
        ]
        closed = [
            PermitLine(change=PermitChange.CLOSED, limit=limit, until=until)
            for limit, until in self._closed.items()
            if until > now
        ]
        return PermitNews(version=self._version, lines=(*permits, *closed), is_whole=True)

    def give(self, directory: str, given: tuple[PermitGiven, ...]) -> None:
        """Implements `Host.give_permits`."""
        if directory != self._directory:
            return
        now = self._clock.now()
        for one in given:
            permit = self._permits.get(one.ticket)
            if permit is None or permit.is_given:
                continue
            if one.use_by is not None and now > one.use_by:
                self._ask_again(permit)
                continue
            permit.state = PermitState.GIVEN
            permit.on_given()

    def _ask_again(self, permit: LimitPermit) -> None:
        """Ask again for a permit that came too late: a late use would escape the count of beginnings."""
        self._tell(permit.line(PermitChange.ENDED))
        del self._permits[permit.ticket]
        permit.ticket = new_id("permit")
        self.ask(permit)

    def _tell(self, line: PermitLine) -> None:
        self._version += 1
        if not self._directory:
            return  # it gets all permits
        self._lines.append(line)
        if len(self._lines) > LINES_MAX:
            self._lines.clear()
        self._changed.set()
