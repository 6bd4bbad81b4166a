"""Decides which runs resume: sessions on the ledger's list get room oldest first, families in turn.

Changes within one turn of the loop are handled by one check after it: each check reads the list, and a thousand
sessions that end or begin together would cause as many reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from itertools import islice
from typing import Any

from helmr.errors import HelmrError, Overloaded, Unavailable
from helmr_runtime.core.commands import Resume
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.directory.holds import Holds
from helmr_runtime.directory.hosts import BackgroundTasks, Slot
from helmr_runtime.directory.pool import Placement, Pool
from helmr_runtime.directory.work import WorkQueue

RESUMES_PER_HOST = 16
"""Adoptions from the queue at the same time, for each host. A host adopts at its own pace (`session/pace.py`); more
would only block those of other families."""

OWN_HOSTS_MAX = 4
"""Processes for sessions that run alone; each costs tens of megabytes."""


class Resumption:
    """Adopts sessions whose runs wait for room, in shared hosts or alone in one.

    Args:
        work: The waiting runs.
        holds: The table of slots; adopts sessions.
        placing: Finds room.
        pool: Starts hosts for one session.
    """

    def __init__(self, work: WorkQueue, holds: Holds, placing: Placement, pool: Pool) -> None:
        self._work = work
        self._holds = holds
        self._placing = placing
        self._pool = pool
        self._resuming: set[str] = set()
        self._alone_count = 0
        """Number of single-session hosts being started."""
        self._is_due = False
        self._is_closed = False
        self._tasks = BackgroundTasks()

    def close(self) -> None:
        """Start no more resumes; those under way go on."""
        self._is_closed = True

    async def stop(self) -> None:
        """End the resumes under way."""
        self._is_closed = True
        await self._tasks.stop()

    @property
    def some_wait(self) -> bool:
        """True if sessions wait for room in a shared host."""
        return next(self._waiting(), None) is not None

    def _waiting(self, *, alone: bool = False) -> Iterator[str]:
        """Yield sessions that wait for room, oldest first: in a shared host, or alone in one."""
        for session_id in self._work.due():
            if session_id in self._resuming or not self._holds.is_free(session_id):
                continue
            if self._holds.needs_own_host(session_id) is alone:
                yield session_id

    def look_soon(self) -> None:
        """Schedule one check after this turn of the loop."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Give the free room to the longest-waiting sessions; park others if it is not enough."""
        self._is_due = False
        if self._is_closed:
            return
        if self._holds.some_need_own_host:
            for session_id in list(islice(self._waiting(alone=True), OWN_HOSTS_MAX)):
                self._resume_alone(session_id)
        hosts = len(list(self._pool.shared()))
        more = max(0, RESUMES_PER_HOST * max(1, hosts) - len(self._resuming))
        lacking = 0
        for session_id in list(islice(self._waiting(), more)):
            host = self._placing.host_with_room()
            if host is not None:
                slot = self._holds.reserve(session_id, host)
                self._resume_soon(session_id, self._resume_in(slot))
            else:
                lacking += 1
        if lacking:
            for slot in self._placing.making_room(lacking):
                self._holds.evict(slot)

    def _resume_soon(self, session_id: str, work: Coroutine[Any, Any, None]) -> None:
        self._resuming.add(session_id)
        self._tasks.start(self._resume(session_id, work))

    async def _resume(self, session_id: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._resuming.discard(session_id)
        self.look_soon()

    def _resume_alone(self, session_id: str) -> None:
        """Resume a session in a host of its own, unless there are `OWN_HOSTS_MAX` of those."""
        hosts = [host for host in self._pool.hosts.values() if host.is_exclusive]
        if len(hosts) + self._alone_count < OWN_HOSTS_MAX:
            self._alone_count += 1
            self._resume_soon(session_id, self._resume_in_own(session_id))
        elif (slot := self._placing.ending_own_host(hosts)) is not None:
            self._holds.evict(slot)

    async def _resume_in_own(self, session_id: str) -> None:
        try:
            host = await self._pool.start_exclusive()
        finally:
            self._alone_count -= 1
        if host is None:
            self._work.failed(session_id, Unavailable(f"no host for {session_id} alone"))
            return
        await self._resume_in(self._holds.reserve(session_id, host))

    async def _resume_in(self, slot: Slot) -> None:
        """Adopt a queued session in a reserved slot."""
        session_id = slot.session_id
        reserved = [slot]

        async def place() -> Slot:
            if reserved:
                return reserved.pop()
            # Its own crash may be the reason why it runs alone.
            is_alone = self._holds.needs_own_host(session_id)
            host = None if is_alone else self._placing.host_with_room()
            if host is None:
                raise Overloaded(f"{session_id}: no host has room", retry_after_s=1.0)
            return self._holds.reserve(session_id, host)

        async with self._holds.lock(session_id):
            if slot.is_over or not self._holds.can_adopt(session_id):
                self._holds.give_back(slot)
                return
            family = self._work.family_of(session_id)
            trace = self._work.trace_of(session_id)
            resume = Resume(principal=RUNTIME, trace=trace, family=family)
            try:
                await self._holds.adopt(session_id, resume, place)
            except HelmrError as error:
                self._work.failed(session_id, error)
