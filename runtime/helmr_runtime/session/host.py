"""The host: one process that holds many live sessions, and answers for each of them.

Plain Python; `process.host` makes a Ray actor of it. Every call names its session. The directory places and parks
sessions, never the host itself. The constructor does nothing that can fail: the task modules are loaded at the first
call.

A `SessionSlot` is the place of one live session in its host, from its loading until all its code has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from helmr.errors import Moved, NotReady
from helmr.platform import anonymous_bytes, machine_bytes
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import Clock
from helmr_runtime.core.chunks import ChunkNews, ChunkPlace
from helmr_runtime.core.claims import WaitClaims
from helmr_runtime.core.commands import AnswerWait, Send, SessionCommand, TokenEnded, is_paced
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.faults import Point, reach
from helmr_runtime.host_status import (
    SlotMark,
    StatusFile,
    bound_bytes,
)
from helmr_runtime.ports import (
    Adopted,
    Busy,
    Crash,
    Host,
    HostReport,
    Lease,
    Occupancy,
    PermitGiven,
    PermitNews,
    Pulse,
    SessionReleased,
    SlotReport,
    SlotState,
)
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.replay.durable_context import SILENCE_S, Resumes
from helmr_runtime.replay.outside_steps import look_for_effects
from helmr_runtime.replay.steps import blocked_by
from helmr_runtime.security.people import NO_PEOPLE, PeopleConfig
from helmr_runtime.session.dry_run import DryRuns
from helmr_runtime.session.emissions import ChunkPolls, OnEmitted
from helmr_runtime.session.events import CodeSettings, HostParts, Replays, SessionPhase
from helmr_runtime.session.histories import Histories
from helmr_runtime.session.live_session import LiveSession
from helmr_runtime.session.pace import HostPace
from helmr_runtime.session.permits import HostPermits
from helmr_runtime.session.warm_cache import WarmCache, WarmState


class SessionSlot:
    """One session's place.

    Args:
        mark: Notes what the code does, for readers after a crash of the host.
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
        self._is_reported = False
        self._ending: asyncio.Task[None] | None = None
        self._loaded = asyncio.Event()
        self._rested = asyncio.Event()
        self.told_version = 0
        """Version of the host's report that this slot last changed; for the host."""

    # --- what it holds --------------------------------------------------------------------------

    @property
    def live(self) -> LiveSession:
        """The session.

        Raises:
            Moved: It is not loaded yet, or lost.
        """
        session = self._session
        if session is None or session.phase is SessionPhase.OVER:
            raise Moved(f"{self.session_id} is not held here")
        return session

    @property
    def lease(self) -> Lease | None:
        """The lease that it holds; None while it is loading, and once the session is lost."""
        session = self._session
        if session is None or session.phase is SessionPhase.OVER:
            return None
        return Lease(session_id=self.session_id, epoch=session.epoch)

    @property
    def left(self) -> WarmState | None:
        """The session's state once it was given up, for the next adoption here; None before."""
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
        """The longest time that a step of its code may take, in seconds; 0 if no code executes."""
        session = self._session
        if session is None or self._state is SlotState.PARKABLE:
            return 0.0
        return session.execution.longest_s

    async def wait_loaded(self) -> None:
        """Return once the session is loaded or could not be."""
        await self._loaded.wait()

    async def wait_rested(self) -> None:
        """Return once its code waits or is no longer here."""
        await self._rested.wait()

    def fill(self, session: LiveSession | None) -> None:
        """Set the loaded session; None if it could not be loaded."""
        self._loaded.set()
        if session is None:
            self._rested.set()
            return
        self._session = session
        self.mark.hold(self.session_id, session.epoch)

    def empty(self) -> None:
        """Note that the session is no longer held here."""
        session, self._session = self._session, None
        if session is not None:
            session.free()

    # --- changes of its session--------------------------------------------------------------------

    def changed(self, is_parkable: bool, op_max: int | None) -> None:
        """Report the session's state if it has changed."""
        if self._session is None:
            return
        if op_max is not None:
            self.mark.asked(op_max)
        self._become(SlotState.PARKABLE if is_parkable else SlotState.BUSY)

    def tell(self) -> None:
        """Send its report again, since a watcher may have forgotten it."""
        self._is_reported = False
        session = self._session
        if session is not None and session.phase is not SessionPhase.OVER:
            self._become(SlotState.PARKABLE if session.is_parkable else SlotState.BUSY)

    def lost(self, reason: str) -> None:
        """End the code of a session that the ledger refused, and then empty the slot."""
        self._become(SlotState.LOST, reason)
        self._ending = asyncio.get_running_loop().create_task(self._end())

    def retire(self, reason: str) -> None:
        """Retire the host: parts of the session's code did not end."""
        self._on_retire(reason)

    async def _end(self) -> None:
        assert self._session is not None
        try:
            await self._session.execution.wait_ended()
        finally:
            self._ending = None
            self._become(SlotState.GONE)

    async def crash(self) -> None:
        """Drop the session without notifying the ledger, as a kill does; for in-process tests."""
        if self._session is not None:
            self._session.drop()
            await self._session.execution.wait_closed()

    def _become(self, state: SlotState, detail: str | None = None) -> None:
        if state is self._state and self._is_reported:
            return
        self._state = state
        if state is SlotState.BUSY:
            self._rested.clear()
        else:
            self._rested.set()
        self._since = self._clock.now()
        self._detail = detail
        self._is_reported = True
        self._on_change(self)


LINGER_S = 30.0
"""Seconds that a waiting session stays hot unless others need its slot."""

LOCAL_URL = "http://127.0.0.1:4356"
"""Default URL of a runtime."""

WATCH_S = 3600.0
"""Seconds after which a watch without news is answered, so that no call waits forever."""

REPORT_EVERY_S = 0.1
"""Seconds between reports: a session that is called often is parkable in between each time."""

log = logging.getLogger("helmr.session")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Settings of a host.

    Attributes:
        is_exclusive: It holds one session only, whose code may be isolated.
        linger_s: Seconds; a step's longer backoff parks.
        silence_s: Seconds of silence after which a replay counts as different from the journal.
        base_url: Base of the callback URLs of tokens.
        node: Ray's id of its node, if that may differ from the directory's.
        owns_process: It is alone in its process, whose memory is then bounded.
        memory_bytes: Bound of that memory; None for a share of the machine's.
        statuses: Makes the file that notes what executes; called once. None notes nothing.
        on_emitted: Called with everything that code emits, for tests.
        context: Makes the context that code begins with.
        limits: Name → true if the limit bounds anything; None if nothing is bounded.
        people: The people in helmr.toml.
    """

    is_exclusive: bool = False
    linger_s: float = LINGER_S
    replays: Replays = "never"
    silence_s: float = SILENCE_S
    base_url: str = LOCAL_URL
    node: str = ""
    owns_process: bool = False
    memory_bytes: int | None = None
    statuses: Callable[[], StatusFile] | None = None
    on_emitted: OnEmitted | None = None
    context: Callable[[], Context] = copy_context
    limits: Mapping[str, bool] | None = None
    people: PeopleConfig = NO_PEOPLE


class HostActor(Host):
    """A host: live sessions and their code, in one process.

    Args:
        name: Its actor name, which the ledger's heads name as the holder of a session.
        load: Imports the task modules; called once.
        kept: The cache of states of sessions that it gave up, if shared.
        pace: The pace of its process, if others share it.
    """

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        clock: Clock,
        load: Callable[[], Registry],
        settings: HostSettings = HostSettings(),
        *,
        kept: WarmCache | None = None,
        pace: HostPace | None = None,
    ) -> None:
        self.name = name
        self._ledger = ledger
        self._clock = clock
        self._load = load
        self._settings = settings
        self._statuses: StatusFile | None = None
        self._memory_max_bytes: int | None = None
        self._chunk_polls = ChunkPolls(settings.on_emitted)
        self._kept = kept if kept is not None else WarmCache()
        self._histories = Histories()
        self._permits = HostPermits(clock, settings.limits)
        self._resumes = Resumes()
        self._registry: Registry | None = None
        self.slots: dict[str, SessionSlot] = {}
        self._pace = pace or HostPace()
        self._ending: set[SessionSlot] = set()
        """Lost sessions whose code is being ended."""
        self._past: dict[tuple[str, int], tuple[int, SlotReport]] = {}
        """Reports of lost sessions, each with its version, until a watch has returned it."""
        self.retiring: str | None = None
        self._dry_runs = DryRuns(ledger, clock, settings.base_url)
        self._version = 1
        self._changed = asyncio.Event()
        self._is_urgent = False
        self._told_at = 0.0

    # --- Host port ------------------------------------------------------------------------------

    async def adopt(
        self,
        session_id: str,
        *,
        command: SessionCommand | None,
        crash: Crash | None,
        catalog_hash: str,
        executes: bool = True,
        term: str | None = None,
    ) -> Adopted:
        """Adopt a session: load it, record the last host's crash, decide the command, run its code.

        Raises:
            Moved: This host takes nothing new, earlier code of the session has not ended, or the call came too late.
            NotReady: Its code is not the catalog's; fact `code_hash`.
            HelmrError: The command raised it; the host holds the session anyway, unless `executes` is false.
        """
        async with self._pace.of(session_id, command, self._rests):
            registry = self._code()
            _check_code(self.name, registry, catalog_hash)
            if self.retiring is not None:
                raise Moved(f"{self.name} takes nothing new: {self.retiring}")
            slot = self.slots.get(session_id)
            if slot is not None:
                reply = await slot.live.command(command) if command is not None else None
                return Adopted(epoch=slot.live.epoch, reply=reply)
            slot = SessionSlot(
                session_id,
                self._mark(),
                self._clock,
                on_change=self._report,
                on_retire=self.retire,
            )
            self.slots[session_id] = slot
            try:
                live = await self._load_session(slot, command, registry, term)
                reach(Point.SESSION_LOADED)
            except BaseException:
                slot.fill(None)
                self._remove(slot)
                raise
            wants_own_host = executes and _is_isolated(live) and not self._settings.is_exclusive
            slot.fill(live)
            live.execution.permits.family = command.family if command is not None else None
            if not executes or wants_own_host:
                return await self._decide(slot, live, command, crash, wants_own_host=wants_own_host)
            slot.tell()
            reply = await live.begin(command, crash)
            return Adopted(epoch=live.epoch, reply=reply)

    async def _decide(
        self,
        slot: SessionSlot,
        live: LiveSession,
        command: SessionCommand | None,
        crash: Crash | None,
        *,
        wants_own_host: bool,
    ) -> Adopted:
        """Decide a command and give the session up in the same commit."""
        try:
            reply = await live.decide_and_release(command, crash)
        finally:
            self._remove(slot)
        return Adopted(epoch=live.epoch, reply=reply, released=True, wants_own_host=wants_own_host)

    async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        """Decide a command; return its receipt once durable."""
        if not is_paced(command):
            self._pace.called_s = asyncio.get_running_loop().time()
            return await self._slot(session_id).live.command(command)
        async with self._pace.of(session_id, command, self._rests):
            return await self._slot(session_id).live.command(command)

    async def note_claims(self, session_id: str, claims: WaitClaims) -> None:
        """Note the claims of the session's pending wait; waits for a session that is being loaded."""
        slot = self.slots.get(session_id)
        if slot is not None:
            await slot.wait_loaded()
        live = self._slot(session_id).live
        live.claims.note(claims, live.state.wait)

    async def release(self, session_id: str, reason: str) -> SessionReleased | Busy:
        """Park and give the session up.

        Raises:
            Moved: The session is not held here.
        """
        slot = self._slot(session_id)
        live = slot.live
        if not live.is_parkable:
            # The directory sees it as busy, so "parkable" must be reported again even if no call changes anything.
            slot.tell()
            return Busy(reason=f"{session_id} is not parkable")
        try:
            async with self._pace.of_park(reason):
                stored = await live.park()
        except Moved:
            self._remove(slot)
            raise
        if stored is None:
            slot.tell()
            return Busy(reason=f"{session_id} was called while it parked")
        self._remove(slot)
        log.debug("%s: parked %s (%s)", self.name, session_id, reason)
        return SessionReleased(next_deadline_at=stored.next_deadline_at)

    async def dry_run(self, session_id: str, command: AnswerWait | TokenEnded) -> Mapping[str, Any]:
        """Try that answer on the session as it is on disk, wherever it lives; return a `DryRun` as JSON.

        Raises:
            Overloaded: Too many dry runs are under way here.
            HelmrError: Answering would raise it.
        """
        return await self._dry_runs.run(session_id, command, self._code(), self.retire)

    async def watch(self, known: int) -> HostReport:
        """Long poll: return the changes since the report of version `known`."""
        loop = asyncio.get_running_loop()
        for adoption in [key for key, (version, _) in self._past.items() if version <= known]:
            del self._past[adoption]
        with suppress(TimeoutError):
            await self._until(lambda: self._version != known, WATCH_S)
            await self._until(lambda: self._is_urgent, self._told_at + REPORT_EVERY_S - loop.time())
        self._told_at = loop.time()
        self._is_urgent = False
        live = [slot.report for slot in self.slots.values() if slot.told_version > known]
        past = [report for version, report in self._past.values() if version > known]
        return HostReport(
            version=self._version,
            slots=tuple(report for report in (*past, *live) if report is not None),
            retiring=self.retiring,
        )

    async def chunks(self, known: Mapping[str, ChunkPlace | None], timeout_s: float) -> ChunkNews:
        """Long poll: return those sessions' chunks after these places; `gone` names sessions that are not here."""
        return await self._chunk_polls.take(known, timeout_s)

    async def _until(self, holds: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(max(0.0, within_s)):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def who(self) -> Occupancy:
        """Return the sessions that this host holds, and facts of its process."""
        leases = [slot.lease for slot in self.slots.values()]
        return Occupancy(
            name=self.name,
            code_hash=self._code().code_hash,
            pid=os.getpid(),
            leases=tuple(lease for lease in leases if lease is not None),
            retiring=self.retiring,
            node=self._settings.node,
            memory_max_bytes=self._memory_max_bytes,
        )

    async def lease(self, session_id: str) -> Lease | None:
        """Return this host's lease of that session, or None; waits for a session that is being loaded."""
        slot = self.slots.get(session_id)
        if slot is None:
            return None
        await slot.wait_loaded()
        return slot.lease

    async def ping(self) -> Pulse:
        """Return the pulse of the host's loop: allocated memory of its own process, the body that blocks it, and the
        time of resumes.
        """
        resumes_s, long_resume = self._resumes.taken()
        pulse = Pulse(blocked=blocked_by(), resumes_s=resumes_s, long_resume=long_resume)
        if not self._settings.owns_process:
            return pulse
        taken_bytes = anonymous_bytes()
        is_in_bounds = taken_bytes <= (self._memory_max_bytes or taken_bytes)
        if is_in_bounds and self._statuses is not None:
            self._statuses.is_past()
        return replace(pulse, memory_bytes=taken_bytes)

    async def longest_s(self) -> float:
        """Return the longest time that a step executing here may take, in seconds."""
        slots = (*self.slots.values(), *self._ending)
        return max((slot.longest_s for slot in slots), default=0.0)

    async def permit_news(self, directory: str, known: int) -> PermitNews:
        """Long poll: return changes of permits after version `known`; a new directory gets all permits."""
        return await self._permits.news(directory, known)

    async def give_permits(self, directory: str, given: tuple[PermitGiven, ...]) -> None:
        """Give permits; those of a directory other than the last to ask are refused."""
        self._permits.give(directory, given)

    # --- for tests --------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """All code waits or has ended, and everything decided is stored."""
        return not self._ending and all(slot.is_settled for slot in self.slots.values())

    async def crash(self) -> None:
        """Drop all sessions without notifying the ledger, as a kill does; for in-process tests."""
        slots = [*self.slots.values(), *self._ending]
        self.slots.clear()
        for slot in slots:
            await slot.crash()
        await self._dry_runs.ended()

    # --- parts ----------------------------------------------------------------------------------

    async def _rests(self, session_id: str) -> None:
        """Return once the session's code waits or is no longer here."""
        slot = self.slots.get(session_id)
        if slot is not None:
            await slot.wait_rested()

    async def _load_session(
        self,
        slot: SessionSlot,
        command: SessionCommand | None,
        registry: Registry,
        term: str | None,
    ) -> LiveSession:
        operation = command.operation if command is not None else None
        kept = self._kept.take(slot.session_id)
        loaded = await self._ledger.load(
            slot.session_id,
            self.name,
            operation_id=operation.id if operation is not None else None,
            key=_key_of(command),
            term=term,
            known=kept.known if kept is not None else None,
        )
        if not loaded.is_known:
            self._histories.forget(slot.session_id)
        return LiveSession(
            loaded,
            asked_operation=operation,
            session_id=slot.session_id,
            kept=kept if loaded.is_known else None,
            parts=self._parts(registry),
            place=slot,
            emissions=partial(self._chunk_polls.open, slot.session_id),
        )

    def _parts(self, registry: Registry) -> HostParts:
        settings = self._settings
        code = CodeSettings(
            registry.code_hash,
            settings.linger_s,
            settings.replays,
            settings.silence_s,
            settings.context,
            settings.people,
        )
        return HostParts(
            self._ledger,
            self._clock,
            registry,
            code,
            settings.base_url,
            self._histories,
            self._permits,
            self._resumes,
        )

    def _code(self) -> Registry:
        if self._registry is None:
            self._registry = self._load()
            look_for_effects(self._registry.written_in)
            if self._settings.owns_process:
                self._memory_max_bytes = bound_bytes(
                    self._settings.memory_bytes, at_start=anonymous_bytes(), machine=machine_bytes()
                )
        return self._registry

    def _slot(self, session_id: str) -> SessionSlot:
        slot = self.slots.get(session_id)
        if slot is None:
            raise Moved(f"{self.name} does not hold {session_id}")
        return slot

    def _mark(self) -> SlotMark:
        if self._settings.statuses is None:
            return SlotMark()
        if self._statuses is None:
            self._statuses = self._settings.statuses()
        return self._statuses.take()

    def _remove(self, slot: SessionSlot) -> None:
        if self.slots.get(slot.session_id) is slot:
            del self.slots[slot.session_id]
        if slot.left is not None:
            self._kept.keep(slot.left)
        else:
            self._histories.forget(slot.session_id)
        slot.empty()
        if self._statuses is not None:
            self._statuses.give_back(slot.mark)

    def retire(self, reason: str) -> None:
        """Take nothing new, since aborted code did not end; the directory parks waiting sessions and ends the host."""
        if self.retiring is None:
            log.warning("%s retires: %s", self.name, reason)
            self.retiring = reason
            self._bump(is_urgent=True)

    def _report(self, slot: SessionSlot) -> None:
        slot.told_version = self._version + 1
        report = slot.report
        assert report is not None, "it has been loaded"
        is_over = report.state in (SlotState.LOST, SlotState.GONE)
        if is_over:
            self._histories.forget(report.session_id)
            # Any host, even this one, may have the session by now, so its old code is no longer found by its id.
            self._past[report.session_id, report.epoch] = (slot.told_version, report)
            if self.slots.get(slot.session_id) is slot:
                del self.slots[slot.session_id]
            self._ending.add(slot)
        if report.state is SlotState.GONE:
            self._ending.discard(slot)
            self._remove(slot)
        self._bump(is_urgent=is_over)

    def _bump(self, *, is_urgent: bool) -> None:
        self._version += 1
        self._is_urgent = self._is_urgent or is_urgent
        self._changed.set()


def _is_isolated(live: LiveSession) -> bool:
    """True if its task wants a host to itself."""
    return live.registered is not None and live.registered.task.isolated


def _check_code(host: str, registry: Registry, catalog_hash: str) -> None:
    if registry.code_hash != catalog_hash:
        raise NotReady(
            f"{host} has code {registry.code_hash}, the catalog {catalog_hash}",
            code_hash=registry.code_hash,
        )


def _key_of(command: SessionCommand | None) -> tuple[str, str] | None:
    """Return stream and hashed idempotency key of a send that has a key."""
    if isinstance(command, Send) and command.idempotency_key is not None:
        return command.stream, key_hash(command.idempotency_key)
    return None
