"""Handles a host's crash (S-3).

The ledger abandons the host's sessions. If the crash is attributed to one of them, its next adoption commits the cause
before any task code runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from helmr.errors import HelmrError, NotFound, Standby
from helmr.wire.ids import new_id
from helmr_runtime.clock import Clock
from helmr_runtime.directory.hosts import BackgroundTasks, HostLocation, PoolTimings, Spawner, sleep
from helmr_runtime.faults import Point, reach
from helmr_runtime.host_status import SlotStatus
from helmr_runtime.ports import Crash, HeldLease
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.rpc.calls import OWN_HOST_PREFIX

logger = logging.getLogger(__name__)

T = TypeVar("T")

ALONE_AFTER = 2
"""Crashes with other suspects after which a session goes on alone."""

KNOWN_MAX = 10_000
"""Suspects remembered; beyond that, all are forgotten."""


class Suspects:
    """Attributes hosts' crashes to sessions, by what this directory has seen; a new directory begins from nothing.

    A host holds many sessions. Those whose code executed when it died are suspects; a single suspect is blamed for the
    crash. With several suspects the culprit is unknown, and each continues as before until it has been suspect twice:
    then it continues alone, in its own host, and a crash of that host is its own. So an operator's kill of a busy host
    counts for no session, and a session that kills its host every time is blocked after the third counted crash (S-3).

    Attributes:
        alone: Sessions that continue in a host of their own until their next wait or end.
        apart: Sessions whose leftover threads were in two hosts that died: they have hosts of their own from then on.
    """

    def __init__(self) -> None:
        self.alone: set[str] = set()
        self.apart: set[str] = set()
        self._crashes: dict[str, int] = {}
        self._with_threads: dict[str, int] = {}

    def judge(self, executing: Collection[str]) -> str | None:
        """Return the session to blame for a host that died while the code of these executed, if there is one."""
        if len(executing) == 1:
            return next(iter(executing))
        if len(self._crashes) + len(executing) > KNOWN_MAX:
            self._crashes.clear()
        for session_id in executing:
            count = self._crashes[session_id] = self._crashes.get(session_id, 0) + 1
            if count >= ALONE_AFTER:
                self.alone.add(session_id)
        return None

    def judge_threads(self, session_ids: Collection[str], *, is_alone: bool) -> str | None:
        """Return the session to blame for a host that died with only leftover threads of these sessions' code, if there
        is one.

        A living thread may have done nothing, so the crash counts only for a session that was alone in its host.
        Otherwise it is a suspicion, which a wait does not settle: the thread lives on.
        """
        if is_alone and len(session_ids) == 1:
            return next(iter(session_ids))
        if len(self._with_threads) + len(session_ids) > KNOWN_MAX:
            self._with_threads.clear()
        for session_id in session_ids:
            count = self._with_threads[session_id] = self._with_threads.get(session_id, 0) + 1
            if count >= ALONE_AFTER:
                self.apart.add(session_id)
        if len(self.apart) > KNOWN_MAX:
            self.apart.clear()
        return None

    def is_settled(self, session_id: str) -> None:
        """Clear the suspicion of a session that has reached a wait or its end."""
        self._crashes.pop(session_id, None)
        self.alone.discard(session_id)


@dataclass(slots=True)
class _Fencing:
    count: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Failover:
    """Sessions whose holder is gone.

    A session in here may not be adopted: the adoption would not know of the crash.

    Attributes:
        crashes: By session, the crash that the next adoption commits. Only sessions to blame have one, so the
            resume that follows takes it.
        suspects: Attributes crashes to sessions.
        term: This directory's term in the ledger's current process; sent with each adoption.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        spawner: Spawner,
        clock: Clock,
        timings: PoolTimings,
        on_fenced: Callable[[], None],
    ) -> None:
        self.crashes: dict[str, Crash] = {}
        self.suspects = Suspects()
        self.term: str | None = None
        self._id = new_id("directory")
        self._ledger = ledger
        self._spawner = spawner
        self._clock = clock
        self._timings = timings
        self._on_fenced = on_fenced
        self._under_way: dict[str, _Fencing] = {}
        self._tasks = BackgroundTasks()

    def __contains__(self, session_id: str) -> bool:
        """True if the session's last holder is not abandoned yet."""
        return session_id in self._under_way

    async def stop(self) -> None:
        """End the background tasks."""
        await self._tasks.stop()

    # --- a host is dead ---------------------------------------------------------------------------

    def start(
        self,
        host: HostLocation,
        session_ids: Collection[str],
        cause: str,
        *,
        is_attributed: bool,
        is_for_memory: bool = False,
    ) -> None:
        """Abandon a dead host's sessions in the ledger, in the background; they count as fenced at once.

        Args:
            host: The place where it ran.
            session_ids: The sessions that it held or was about to hold.
            cause: The cause of its end.
            is_attributed: False if the runtime ended it on purpose.
            is_for_memory: It ran out of memory, perhaps while the code that had allocated it was waiting: each session
                that has executed since the host's memory was last in bounds is suspect.
        """
        for session_id in session_ids:
            self._begin(session_id)
        fencing = self._fence(
            host, session_ids, cause, is_attributed=is_attributed, is_for_memory=is_for_memory
        )
        self._tasks.start(fencing)

    async def _fence(
        self,
        host: HostLocation,
        session_ids: Collection[str],
        cause: str,
        *,
        is_attributed: bool,
        is_for_memory: bool,
    ) -> None:
        try:
            statuses = await self._spawner.statuses(host)
            blamed = (
                self._blamed(host, session_ids, statuses, is_for_memory) if is_attributed else None
            )
            if blamed is not None:
                op = statuses[blamed].op
                self.crashes[blamed] = Crash(cause=cause, executing=True, op=op)
            reach(Point.DIRECTORY_ABANDONING)
            await self._until_answered(partial(self._ledger.abandon_all, host.name))
        finally:
            for session_id in session_ids:
                self._end(session_id)
        self._on_fenced()

    def _blamed(
        self,
        host: HostLocation,
        session_ids: Collection[str],
        statuses: Mapping[str, SlotStatus],
        is_for_memory: bool,
    ) -> str | None:
        """Return the session to blame for the crash, if there is one."""
        found = {s: statuses[s] for s in session_ids if s in statuses}
        executing = [
            s for s, one in found.items() if one.executing or (is_for_memory and one.recent)
        ]
        if executing:
            return self.suspects.judge(executing)
        # Threads of sessions that have left the host may live on in it.
        threads = [s for s, one in statuses.items() if one.has_threads]
        is_alone = host.name.startswith(OWN_HOST_PREFIX) and list(found) == threads
        return self.suspects.judge_threads(threads, is_alone=is_alone)

    # --- one session is lost ------------------------------------------------------------------------

    def start_one(self, session_id: str, epoch: int) -> None:
        """Abandon one session in the ledger, in the background; it counts as fenced at once."""
        self._begin(session_id)
        self._tasks.start(self._fence_one(session_id, epoch))

    def start_not_held(self, session_id: str, holder: str) -> None:
        """Abandon a session that the ledger may wrongly list as held by a living host."""
        self._begin(session_id)
        self._tasks.start(self._fence_not_held(session_id, holder))

    async def _fence_not_held(self, session_id: str, holder: str) -> None:
        held = await self.held()
        epochs = [h.epoch for h in held if (h.session_id, h.holder) == (session_id, holder)]
        await self._fence_one(session_id, epochs[0] if epochs else None)

    async def _fence_one(self, session_id: str, epoch: int | None) -> None:
        try:
            if epoch is not None:
                await self._until_answered(partial(self._ledger.abandon, session_id, epoch))
        except NotFound:
            logger.info("%s is not in the ledger", session_id)
        finally:
            self._end(session_id)
        self._on_fenced()

    def may_have_told(self, session_id: str, crash: Crash | None) -> None:
        """Drop a crash whose adoption was not answered: counting it not at all is better than twice.

        If the adopting host has died meanwhile, that is another crash, which is kept.
        """
        if crash is not None and self.crashes.get(session_id) is crash:
            del self.crashes[session_id]

    # --- parts --------------------------------------------------------------------------------------

    async def fenced(self, session_id: str) -> None:
        """Return once no holder of the session is being fenced."""
        while (fencing := self._under_way.get(session_id)) is not None:
            await fencing.over.wait()

    def _begin(self, session_id: str) -> None:
        self._under_way.setdefault(session_id, _Fencing()).count += 1

    def _end(self, session_id: str) -> None:
        fencing = self._under_way[session_id]
        fencing.count -= 1
        if not fencing.count:
            del self._under_way[session_id]
            fencing.over.set()

    async def held(self) -> Sequence[HeldLease]:
        """Return the ledger's held sessions as soon as it answers; from then on adoptions use its current term."""
        self.term = await self._until_answered(partial(self._ledger.lead, self._id))
        return await self._until_answered(self._ledger.held)

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await ask()
            except NotFound:
                raise
            except Standby:  # it may last for days, and ends within seconds for those who wait
                await sleep(self._clock, self._timings.retry_s)
            except HelmrError as error:
                logger.info("the ledger does not answer: %s", error)
                await sleep(self._clock, self._timings.backoff_s(failures))
                failures += 1
