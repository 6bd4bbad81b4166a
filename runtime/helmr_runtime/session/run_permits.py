"""Permits of one session's code, by op; 0 is the run itself (S-119, S-120).

A step waits for its first permit before it is opened and recorded, and for that of each further try while it is open. A
run under a limit waits before its code starts, and before it goes on after a wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from helmr.errors import BadDefinition
from helmr_runtime.session.events import PermitCame, SessionView
from helmr_runtime.session.permits import HostPermits, LimitPermit

LOOK_S, LOOK_MAX_S = 0.1, 5.0
"""First and longest pause between checks of code that waits for a permit, in seconds, until it has come to rest."""

log = logging.getLogger("helmr.session")


class RunPermits:
    """Permits that a session's code asks for and holds.

    Args:
        session: The session.
        host: The permits of its host.
        only_waits: Returns true if the run only waits for permits.

    Attributes:
        family: The session that this one descends from, if its adoption named it.
        has_left: They were given up with the code, which asks again where the session continues.
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
        """A permit is asked for and not given, or was when the code was aborted."""
        return self.has_left or any(not one.is_given for one in self._permits.values())

    @property
    def waiting(self) -> set[int]:
        """The ops that wait for a permit."""
        return {op for op, one in self._permits.items() if not one.is_given}

    @property
    def run_limit(self) -> str | None:
        """The limit of the session's task."""
        registered = self._session.registered
        return registered.task.limit if registered is not None else None

    def trouble_with(self, limit: str | None) -> BadDefinition | None:
        """Return the error if no step can begin under that limit; None if steps can."""
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
        """True if the op needs a permit and has none."""
        if limit is None or not self._host.binds(limit):
            return False
        permit = self._permits.get(op)
        return permit is None or not permit.is_given

    def waits(self, op: int, limit: str | None, *, goes_on: bool = False) -> bool:
        """Ask for the op's permit; return true if it must wait for the `PermitCame` event."""
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
        """Return the op's permit, or once `is_over` is true."""
        permit = self._permits.pop(op, None)
        if permit is not None:
            self._host.end(permit, is_over)

    def end_all(self, is_over: Callable[[int], bool]) -> None:
        """Return the permits of ended code; an op whose thread still executes keeps its permit until `is_over`."""

        def end(op: int) -> None:
            self.end(op, lambda: is_over(op))

        for op in list(self._permits):
            end(op)

    def cut_off(self, *, leaves: bool, has_code: bool) -> None:
        """End all waits for permits, since the code is being aborted.

        Args:
            leaves: Waiting asks keep their places, and are repeated elsewhere.
            has_code: There is code, whose end returns its permits; without code, a permit to start is returned unused.
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
        """Release references, so that the session can leave memory."""
        del self._session, self._only_waits

    def close(self, limit: str, for_s: float) -> None:
        """Close the limit for that many seconds: the provider behind it refuses further calls."""
        self._host.close(limit, for_s)

    def _look_later(self, delay_s: float) -> None:
        """Schedule a check whether the session can leave memory, since code comes to rest without a signal."""

        def look() -> None:
            if self.waiting and not self._session.is_over:
                self._session.take(PermitCame(None))
                if not self._only_waits():
                    self._look_later(min(LOOK_MAX_S, delay_s * 2))

        asyncio.get_running_loop().call_later(delay_s, look)

    def _turn_key(self) -> str:
        """Return the key whose turn the session takes."""
        state, registered = self._session.state, self._session.registered
        key: str | None = None
        if registered is not None and state.run is not None:
            try:
                key = registered.task.limit_key(state.run.payload)
            except Exception as error:  # noqa: BLE001 - it is user code
                log.warning("%s: limit_key failed: %s: %s", state.id, type(error).__name__, error)
        return key if key is not None else self.family or state.id
