"""What follows a host's crash (S-3).

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
from helmr.ids import new_id
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
"""Suspects remembered; when there are more, all are forgotten."""


class Suspects:
    """For which session a host's crash counts, by what this directory has seen; a new one begins from nothing.

    A host holds many sessions. Those whose code executed when it died are suspects; with one suspect the crash is its
    own. With several there is no knowing which of them it was, and each goes on as the others do, until it has been
    suspect twice: then it goes on alone, in a host of its own, and what that dies of is its own doing. So an operator's
    kill of a busy host counts for no session, and a session that kills its host every time is blocked after the third
    counted crash (S-3).

    Attributes:
        alone: Sessions that go on in a host of their own, until their next wait or end.
        apart: Sessions whose code leaves threads behind with which two hosts have died: they have hosts of their own
            from then on.
    """

    def __init__(self) -> None:
        self.alone: set[str] = set()
        self.apart: set[str] = set()
        self._crashes: dict[str, int] = {}
        self._with_threads: dict[str, int] = {}

    def judge(self, executing: Collection[str]) -> str | None:
        """A host died while the code of these sessions executed: the one for which it counts."""
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
        """A host died while no one executed, but threads lived that the code of these had started and left.

        That a thread lives is not a sign that it did anything, so that it counts only for a session whose host had no
        other; elsewhere it is suspicion, which a wait does not settle: the thread lives on.
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
        """It has reached a wait, or its end: whatever it was suspected of is over."""
        self._crashes.pop(session_id, None)
        self.alone.discard(session_id)


@dataclass(slots=True)
class _Fencing:
    count: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Failover:
    """Sessions whose holder is gone.

    While a session is in here no one may adopt it: the adoption would not know of the crash.

    Attributes:
        crashes: By session, the crash that the next adoption commits; only of sessions for which one counts, so each is
            taken by the resume that follows.
        suspects: For which session a crash counts.
        term: Of this directory, as the ledger's present process has it; goes along with each adoption.
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
        """The session's last holder is not abandoned yet."""
        return session_id in self._under_way

    async def stop(self) -> None:
        """End what runs in the background."""
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
        """Tell the ledger, in the background, that a dead host holds nothing; its sessions count as fenced at once.

        Args:
            host: Where it ran.
            session_ids: What it held, or was about to.
            cause: Of what it died.
            is_attributed: False for what the runtime ended itself on purpose.
            is_for_memory: It died of memory that code had allocated, which may have awaited something at that moment:
                each session that has executed since the host's memory was in bounds is suspect.
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
        """The session for which the crash counts, if it does for one."""
        found = {s: statuses[s] for s in session_ids if s in statuses}
        executing = [
            s for s, one in found.items() if one.executing or (is_for_memory and one.recent)
        ]
        if executing:
            return self.suspects.judge(executing)
        # Of one that has left the host, threads may live on in it.
        threads = [s for s, one in statuses.items() if one.has_threads]
        is_alone = host.name.startswith(OWN_HOST_PREFIX) and list(found) == threads
        return self.suspects.judge_threads(threads, is_alone=is_alone)

    # --- one session is lost ------------------------------------------------------------------------

    def start_one(self, session_id: str, epoch: int) -> None:
        """Tell the ledger, in the background, that the host holds the session no more; it counts as fenced at once."""
        self._begin(session_id)
        self._tasks.start(self._fence_one(session_id, epoch))

    def start_not_held(self, session_id: str, holder: str) -> None:
        """The same where the ledger may believe that a living host holds the session, which it does not."""
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
        """An adoption that was to commit this crash was not answered: better count it not at all than twice.

        Of what its own host has died meanwhile is another crash, and is kept.
        """
        if crash is not None and self.crashes.get(session_id) is crash:
            del self.crashes[session_id]

    # --- parts --------------------------------------------------------------------------------------

    async def fenced(self, session_id: str) -> None:
        """Return when no holder of the session is being fenced."""
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
        """What the ledger believes held, as soon as it answers; adoptions are of its present term from then on."""
        self.term = await self._until_answered(partial(self._ledger.lead, self._id))
        return await self._until_answered(self._ledger.held)

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await ask()
            except NotFound:
                raise
            except Standby:  # it may last for days, and is over within seconds for those who wait
                await sleep(self._clock, self._timings.retry_s)
            except HelmrError as error:
                logger.info("the ledger does not answer: %s", error)
                await sleep(self._clock, self._timings.backoff_s(failures))
                failures += 1
