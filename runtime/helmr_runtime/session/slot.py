"""The place of one live session in its host: from the moment it is loaded until nothing of its code is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from helmr.errors import Moved
from helmr_runtime.clock import Clock
from helmr_runtime.host_status import SlotMark
from helmr_runtime.ports import Lease, SlotReport, SlotState
from helmr_runtime.session.live_session import LiveSession
from helmr_runtime.session.warm_cache import WarmState

log = logging.getLogger("helmr.session")


class SessionSlot:
    """One session's place.

    Args:
        session_id: Whose.
        mark: Where it is noted what the code does, for anyone who finds the host dead.
        on_change: Called with this slot when its report has changed.
        on_retire: Called when parts of the session's code did not end.
    """

    def __init__(
        self,
        session_id: str,
        mark: SlotMark,
        clock: Clock,
        *,
        on_change: Callable[[SessionSlot], None],
        on_retire: Callable[[str], None],
    ) -> None:
        self.session_id = session_id
        self.mark = mark
        self._clock = clock
        self._on_change = on_change
        self._on_retire = on_retire
        self._session: LiveSession | None = None
        self._state = SlotState.BUSY
        self._since: datetime = clock.now()
        self._detail: str | None = None
        self._is_told = False
        self._ending: asyncio.Task[None] | None = None
        self._loaded = asyncio.Event()
        self._rested = asyncio.Event()
        self.told_version = 0
        """Of the host's report that this slot last changed; for the host."""

    # --- what it holds --------------------------------------------------------------------------

    @property
    def live(self) -> LiveSession:
        """The session.

        Raises:
            Moved: It is not loaded yet, or lost.
        """
        session = self._session
        if session is None or session.is_over:
            raise Moved(f"{self.session_id} is not held here")
        return session

    @property
    def lease(self) -> Lease | None:
        """What it holds; None while it is loading, and when the session is lost."""
        session = self._session
        if session is None or session.is_over:
            return None
        return Lease(session_id=self.session_id, epoch=session.epoch)

    @property
    def left(self) -> WarmState | None:
        """What of the session the next adoption here may go on from, once it was given up."""
        return self._session.left if self._session is not None else None

    @property
    def is_settled(self) -> bool:
        """All code waits or has ended, and everything decided is stored; for tests."""
        session = self._session
        return self._ending is None and session is not None and session.is_settled

    @property
    def report(self) -> SlotReport | None:
        """Its report; None before it is loaded."""
        session = self._session
        if session is None:
            return None
        return SlotReport(
            session_id=self.session_id,
            epoch=session.epoch,
            state=self._state,
            since=self._since,
            detail=self._detail,
        )

    @property
    def longest_s(self) -> float:
        """How long a step of its code may take; 0 if none of it executes."""
        session = self._session
        if session is None or self._state is SlotState.PARKABLE:
            return 0.0
        return session.execution.longest_s

    async def wait_loaded(self) -> None:
        """Return when the session is loaded, or could not be."""
        await self._loaded.wait()

    async def wait_rested(self) -> None:
        """Return when its code waits, or is no longer here."""
        await self._rested.wait()

    def fill(self, session: LiveSession | None) -> None:
        """The session is loaded; None if it could not be."""
        self._loaded.set()
        if session is None:
            self._rested.set()
            return
        self._session = session
        self.mark.hold(self.session_id, session.epoch)

    def empty(self) -> None:
        """The session is not held here any more."""
        session, self._session = self._session, None
        if session is not None:
            session.free()

    # --- what becomes of it -----------------------------------------------------------------------

    def changed(self, is_parkable: bool, op_max: int | None) -> None:
        """Something happened to the session: tell what it is now, if that is news."""
        if self._session is None:
            return
        if op_max is not None:
            self.mark.asked(op_max)
        self._become(SlotState.PARKABLE if is_parkable else SlotState.BUSY)

    def tell(self) -> None:
        """A watcher may have forgotten its report: send it again."""
        self._is_told = False
        session = self._session
        if session is not None and not session.is_over:
            self._become(SlotState.PARKABLE if session.is_parkable else SlotState.BUSY)

    def lost(self, reason: str) -> None:
        """The ledger refused it: its code is ended, and then the slot is empty."""
        self._become(SlotState.LOST, reason)
        self._ending = asyncio.get_running_loop().create_task(self._end())

    def retire(self, reason: str) -> None:
        """Parts of the session's code did not end."""
        self._on_retire(reason)

    async def _end(self) -> None:
        assert self._session is not None
        try:
            await self._session.execution.wait_ended()
        finally:
            self._ending = None
            self._become(SlotState.GONE)

    async def crash(self) -> None:
        """Drop the session without a word to the ledger, as a kill does; for in-process tests."""
        if self._session is not None:
            self._session.drop()
            await self._session.execution.wait_closed()

    def _become(self, state: SlotState, detail: str | None = None) -> None:
        if state is self._state and self._is_told:
            return
        self._state = state
        if state is SlotState.BUSY:
            self._rested.clear()
        else:
            self._rested.set()
        self._since = self._clock.now()
        self._detail = detail
        self._is_told = True
        self._on_change(self)
