"""Permits of one session's code, by op; 0 is the run itself (S-119, S-120).

A step waits for its first permit before it is opened, so that nothing of it is recorded, and for that of each further
try while it is open. A run under a limit waits before its code starts, and before it goes on after a wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from helmr.errors import BadDefinition
from helmr_runtime.session.events import PermitCame, SessionView
from helmr_runtime.session.permits import HostPermits, LimitPermit

LOOK_S, LOOK_MAX_S = 0.1, 5.0
"""When code that waits for a permit is looked at: soon, and less and less often until it has come to rest."""

log = logging.getLogger("helmr.session")


class RunPermits:
    """What a session's code asks for and has.

    Args:
        session: The session.
        host: The permits of its host.
        only_waits: Whether all that is left of the run waits for permits.

    Attributes:
        family: The session that this one descends from, as far as its adoption said it.
        has_left: They were given up with the code, which is to ask again where the session goes on.
    """

    def __init__(
        self, session: SessionView, host: HostPermits, only_waits: Callable[[], bool]
    ) -> None:
        self._session = session
        self._host = host
        self._only_waits = only_waits
        self._key: str | None = None
        self._permits: dict[int, LimitPermit] = {}
        self.family: str | None = None
        self.has_left = False

    @property
    def some_wait(self) -> bool:
        """One is asked for and not given, or was when the code was cut off."""
        return self.has_left or any(not one.is_given for one in self._permits.values())

    @property
    def waiting(self) -> set[int]:
        """The ops that wait for one."""
        return {op for op, one in self._permits.items() if not one.is_given}

    @property
    def run_limit(self) -> str | None:
        """The limit of the session's task."""
        registered = self._session.registered
        return registered.task.limit if registered is not None else None

    def trouble_with(self, limit: str | None) -> BadDefinition | None:
        """Why no step can begin under that limit, if none can."""
        if limit is not None and limit == self.run_limit:
            return BadDefinition(
                f"limit {limit} is of task {self._session.state.task} and of a step of it",
                hint="Runs that have all permits would wait for themselves: give the step another limit.",
            )
        try:
            self._host.binds(limit)
        except BadDefinition as error:
            return error
        return None

    def lacks(self, op: int, limit: str | None) -> bool:
        """The op needs a permit and has none."""
        if limit is None or not self._host.binds(limit):
            return False
        permit = self._permits.get(op)
        return permit is None or not permit.is_given

    def waits(self, op: int, limit: str | None, *, goes_on: bool = False) -> bool:
        """The op has to wait for a permit, which is asked for; `PermitCame` brings it."""
        if limit is None or not self.lacks(op, limit):
            return False
        if op in self._permits:
            return True
        if self._key is None:
            self._key = self._turn_key()
        self.has_left = False
        permit = self._permits[op] = LimitPermit(
            limit,
            self._key,
            (self._session.state.id, op),
            goes_on=goes_on,
            on_given=lambda: self._session.take(PermitCame(op)),
        )
        self._host.ask(permit)
        self._look_later(LOOK_S)
        return True

    def end(self, op: int, is_over: Callable[[], bool] | None = None) -> None:
        """The op needs none any more, as soon as `is_over`."""
        permit = self._permits.pop(op, None)
        if permit is not None:
            self._host.end(permit, is_over)

    def end_all(self, is_over: Callable[[int], bool]) -> None:
        """The code has ended; of an op whose thread still executes the permit comes back when that `is_over`."""

        def end(op: int) -> None:
            self.end(op, lambda: is_over(op))

        for op in list(self._permits):
            end(op)

    def cut_off(self, *, leaves: bool, has_code: bool) -> None:
        """The code is being ended: nothing waits any more.

        Args:
            leaves: What waits keeps its place, and asks again elsewhere.
            has_code: There is code, whose end ends what it has been given; a permit to start is not used without.
        """
        unused = self.waiting if has_code else set(self._permits)
        cut_off = {op: self._permits.pop(op) for op in sorted(unused)}
        self.has_left = leaves and bool(cut_off)
        for permit in cut_off.values():
            if leaves:
                self._host.leave(permit)
            else:
                self._host.end(permit)

    def free(self) -> None:
        """No code asks any more: the session can leave memory."""
        del self._session, self._only_waits

    def close(self, limit: str, for_s: float) -> None:
        """The provider behind the limit takes no more for that many seconds."""
        self._host.close(limit, for_s)

    def _look_later(self, delay_s: float) -> None:
        """Have the session look whether it can leave memory: code comes to rest without a word."""

        def look() -> None:
            if self.waiting and not self._session.is_over:
                self._session.take(PermitCame(None))
                if not self._only_waits():
                    self._look_later(min(LOOK_MAX_S, delay_s * 2))

        asyncio.get_running_loop().call_later(delay_s, look)

    def _turn_key(self) -> str:
        """Whose turn the session takes."""
        state, registered = self._session.state, self._session.registered
        key: str | None = None
        if registered is not None and state.run is not None:
            try:
                key = registered.task.limit_key(state.run.payload)
            except Exception as error:  # noqa: BLE001 - it is user code
                log.warning("%s: limit_key failed: %s: %s", state.id, type(error).__name__, error)
        return key if key is not None else self.family or state.id
