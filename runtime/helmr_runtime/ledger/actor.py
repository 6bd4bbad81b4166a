"""The ledger's shell: opens the file when first asked, and hands every call on to what is open.

A plain class; the Ray actor around it adds nothing. The constructor does nothing that can fail: a failing open
is answered to the caller and tried again at the next call, so that a restarted actor heals by itself; so is a
writer that stopped. Callers wait for an open, but not for a ledger of an earlier edition that takes long to be carried
over: they learn how far it is.

Invariants: S-63, S-65.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from helmr.errors import (
    DataError,
    LedgerBehind,
    LedgerSuperseded,
    NotReady,
    RuntimeHeld,
    Standby,
    StoreUnavailable,
)
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Retention
from helmr_runtime.core.ledger_role import LedgerRole
from helmr_runtime.core.session_file import FileSignature
from helmr_runtime.feature import Features
from helmr_runtime.ledger.attachments import sweep_files
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.carry_over import CarryProgress
from helmr_runtime.ledger.log.database import Settings
from helmr_runtime.ledger.log.group import WriterThread
from helmr_runtime.ledger.log.object_log import ObjectLog, superseded_in
from helmr_runtime.ledger.log.snapshots import writer_of
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.pruning import Retainer
from helmr_runtime.ledger.readable import KeyKeeper
from helmr_runtime.ledger.standby import LeaseWatch
from helmr_runtime.ports import SessionLine, StartSession
from helmr_runtime.ports.ledger import ENTRIES_DONE, Ledger, ReadFreshness
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.secrets import SessionKeys

Json = dict[str, Any]

P = ParamSpec("P")
T = TypeVar("T")

LOCK_PATIENCE_S = 2.0
"""Seconds that an open waits for the lock of a predecessor's dying process."""

OPENINGS_MAX = 5
"""Number of retries of opening a shared log when another record came first."""

LOCK_RETRY_S = 0.05
"""Seconds between two tries."""

CARRY_PATIENCE_S = 2.0
"""Seconds that a call waits for a ledger that is carried over."""

CARRY_LOOK_S = 0.25
"""Between two looks whether one is; and at an open that lasts."""


def _no_log() -> None:
    return None


def _no_bound() -> None:
    return None


def _forwarded(
    method: Callable[Concatenate[DuckLedger, P], Awaitable[T]],
) -> Callable[Concatenate[LedgerActor, P], Coroutine[Any, Any, T]]:
    """Return a method of the actor that opens the ledger and calls the ledger's method."""
    name = method.__name__

    @wraps(method)
    async def forwarded(self: LedgerActor, /, *args: P.args, **kwargs: P.kwargs) -> T:
        found: T = await getattr(await self._open(), name)(*args, **kwargs)
        return found

    return forwarded


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """The location of a ledger, and the features that it may hold.

    Attributes:
        path: The database file.
        open_log: Opens the shared log that the file caches; returns None if the log is beside the file.
        features: Features with a part in it.
    """

    path: Path
    open_log: Callable[[], ObjectLog | None] = _no_log
    features: Features = ()


class LedgerActor(Ledger):
    """The ledger over one DuckDB file.

    A call opens the file if it is not open, and is then `DuckLedger`'s.

    Args:
        place: The database file, beside which its lock and head mark stand; or such a file as the cache of a log.
        clock: Tells the time and rings deadlines.
        settings: What DuckDB may use.
        ring: The master keys: new chains and the secrets of tokens are derived from them.
        encrypts: Whether bodies of new entries are sealed; None as the file remembers.
        lock_patience_s: How long to wait for another holder's end.
        retention: How long sessions that are over are kept; None keeps them.

    Attributes:
        check_room: Raises if no session may be started now. What shares its process with hosts sets it.
    """

    def __init__(
        self,
        place: Path | LedgerPlace,
        *,
        clock: Clock,
        settings: Settings | None = None,
        ring: KeyRing | None = None,
        encrypts: bool | None = None,
        lock_patience_s: float = LOCK_PATIENCE_S,
        retention: Retention | None = None,
    ) -> None:
        self.ring = ring
        self.check_room: Callable[[], None] = _no_bound
        self._key_keeper = KeyKeeper(ring)
        self._place = place if isinstance(place, LedgerPlace) else LedgerPlace(place)
        self._clock = clock
        self._settings = settings
        self._encrypts = encrypts
        self._lock_patience_s = lock_patience_s
        self._ledger: DuckLedger | None = None
        self._opening: asyncio.Task[DuckLedger] | None = None
        """Under way, or over and its outcome known to no caller."""
        self._carrying = CarryProgress()
        self._is_closed = False
        self._closing: asyncio.Task[None] | None = None
        self._watch: LeaseWatch | None = None
        """Watch of an opening that waits, or may have to wait, for another runtime's end."""
        self._is_ordered = False
        """True from an order to open the log, even if another runtime uses it, until that is done."""
        self._role = LedgerRole()
        self._retention = retention
        self._retaining: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    # --- the port's methods, as the open ledger has them ------------------------------------------

    write_line = _forwarded(DuckLedger.write_line)
    fork_session = _forwarded(DuckLedger.fork_session)
    snapshot = _forwarded(DuckLedger.snapshot)
    records = _forwarded(DuckLedger.records)
    known_operation = _forwarded(DuckLedger.known_operation)
    claim_wait = _forwarded(DuckLedger.claim_wait)
    release_wait = _forwarded(DuckLedger.release_wait)
    give_back_claims = _forwarded(DuckLedger.give_back_claims)
    links_of_person = _forwarded(DuckLedger.links_of_person)
    fact = _forwarded(DuckLedger.fact)
    get_token = _forwarded(DuckLedger.get_token)
    list_tokens = _forwarded(DuckLedger.list_tokens)
    get_session = _forwarded(DuckLedger.get_session)
    brief = _forwarded(DuckLedger.brief)
    list_sessions = _forwarded(DuckLedger.list_sessions)
    get_run = _forwarded(DuckLedger.get_run)
    list_runs = _forwarded(DuckLedger.list_runs)
    get_wait = _forwarded(DuckLedger.get_wait)
    list_waits = _forwarded(DuckLedger.list_waits)
    count_waits = _forwarded(DuckLedger.count_waits)
    transcript = _forwarded(DuckLedger.transcript)
    inputs = _forwarded(DuckLedger.inputs)
    outputs = _forwarded(DuckLedger.outputs)
    feed = _forwarded(DuckLedger.feed)
    seq_at = _forwarded(DuckLedger.seq_at)
    feed_head = _forwarded(DuckLedger.feed_head)
    find_callback = _forwarded(DuckLedger.find_callback)
    find_public_token = _forwarded(DuckLedger.find_public_token)
    public_token_maker = _forwarded(DuckLedger.public_token_maker)
    get_public_token = _forwarded(DuckLedger.get_public_token)
    links_of_wait = _forwarded(DuckLedger.links_of_wait)
    list_public_tokens = _forwarded(DuckLedger.list_public_tokens)
    find_api_key = _forwarded(DuckLedger.find_api_key)
    get_api_key = _forwarded(DuckLedger.get_api_key)
    people = _forwarded(DuckLedger.people)
    list_api_keys = _forwarded(DuckLedger.list_api_keys)
    ask = _forwarded(DuckLedger.ask)
    catalog = _forwarded(DuckLedger.catalog)
    notices = _forwarded(DuckLedger.notices)
    query = _forwarded(DuckLedger.query)
    backup_header = _forwarded(DuckLedger.backup_header)
    copied_rows = _forwarded(DuckLedger.copied_rows)
    prune = _forwarded(DuckLedger.prune)
    put_attachment_piece = _forwarded(DuckLedger.put_attachment_piece)
    attachment_piece = _forwarded(DuckLedger.attachment_piece)
    numbers = _forwarded(DuckLedger.numbers)
    load = _forwarded(DuckLedger.load)
    commit = _forwarded(DuckLedger.commit)
    abandon = _forwarded(DuckLedger.abandon)
    abandon_all = _forwarded(DuckLedger.abandon_all)
    held = _forwarded(DuckLedger.held)
    lead = _forwarded(DuckLedger.lead)
    known_key = _forwarded(DuckLedger.known_key)
    disabled = _forwarded(DuckLedger.disabled)
    delegations = _forwarded(DuckLedger.delegations)
    start = _forwarded(DuckLedger.start)
    token_end = _forwarded(DuckLedger.token_end)
    work = _forwarded(DuckLedger.work)
    verify_chain = _forwarded(DuckLedger.verify_chain)
    write_catalog = _forwarded(DuckLedger.write_catalog)

    # --- those of its own -------------------------------------------------------------------------

    async def start_session(self, start: StartSession, line: SessionLine | None = None) -> Json:
        """Start a session, if the process has room for it.

        Raises:
            Overloaded: This process may begin nothing more.
        """
        self.check_room()
        return await (await self._open()).start_session(start, line)

    async def stats(self) -> Json:
        """Offsets, size, commit latency, counts; `open` is False, with `failure`, while it can't be opened."""
        try:
            ledger = await self._open()
        except (StoreUnavailable, RuntimeHeld, DataError, Standby) as error:
            return {"open": False, "failure": error.message, "code": error.code, **error.facts}
        return {"open": True, **await ledger.stats()}

    async def freshness(self) -> ReadFreshness:
        """Return the freshness of reads. Gateways of a standby ask for it when a client calls."""
        if self._watch is not None:
            self._watch.called()
        return await (await self._open()).freshness()

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """A session's keys; None without master keys."""
        return await self._key_keeper.session_keys(session_id)

    async def sign_file(self, signed: bytes) -> FileSignature | None:
        """The signature of a session file, by the newest master key; None without master keys."""
        return await self._key_keeper.sign_file(signed)

    async def file_keys(self) -> Sequence[tuple[str, str]]:
        """The id of each master key and the public key that its signatures are checked by, the newest first."""
        return await self._key_keeper.file_keys()

    async def open(self) -> None:
        """Return when the file is open, however long it takes to carry over one of an earlier edition.

        Raises:
            HelmrError: As any call does when it can't be opened.
        """
        await self._open(patience_s=math.inf)

    async def take_over(self) -> None:
        """Open the log although another runtime is at work on it, however many tries that takes; nothing if this one
        is."""
        if self._ledger is not None and not self._ledger.is_broken:
            return
        self._is_ordered = True
        if self._watch is not None:
            self._watch.take_over()

    async def superseded(self) -> str | None:
        """Return the message to end with if another runtime has opened this one's log (S-97); None otherwise.

        Ask only a runtime that has served. A ledger that stands by there replaces one whose process crashed, and does
        not know that it had the log.
        """
        if self._watch is not None and self._role.is_waiting:
            return superseded_in(self._watch.store).message
        ended_by = self._role.ended_by
        return ended_by.message if ended_by is not None else None

    async def close(self) -> None:
        """Write queued commits and close the file; a second call waits for the first. Other calls are refused."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="closing")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for background in (self._retaining, self._sweeping):
            if background is not None:
                background.cancel()
                await asyncio.wait([background])
        self._is_closed = True
        self._carrying.stop()
        while self._opening is not None and not self._opening.done():
            # It may begin to wait for another runtime's end only now.
            is_waiting = self._role.is_waiting
            if is_waiting:
                self._opening.cancel()
            await asyncio.wait([self._opening], timeout=None if is_waiting else CARRY_LOOK_S)
        if self._ledger is not None:
            ledger, self._ledger = self._ledger, None
            await ledger.close()

    # --- inside ---------------------------------------------------------------------------------

    async def _open(self, patience_s: float = CARRY_PATIENCE_S) -> DuckLedger:
        if self._ledger is not None and not self._ledger.is_broken:
            return self._ledger
        if self._is_closed:
            raise NotReady("the ledger is closed")
        if self._watch is not None and self._role.is_waiting:
            raise self._watch.refusal()
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_again(), name="opening")
            self._opening.add_done_callback(_look_at)
        opening = self._opening
        while not (await asyncio.wait([opening], timeout=CARRY_LOOK_S))[0]:
            if self._watch is not None and self._role.is_waiting:
                raise self._watch.refusal()
            if self._carrying.lasts_s > patience_s:
                raise _not_carried(self._carrying)
        if self._opening is opening and not self._is_final(opening):
            self._opening = None
        return opening.result()

    def _is_final(self, opening: asyncio.Task[DuckLedger]) -> bool:
        """True if every caller must get this error: the carry-over stopped at a damaged entry."""
        return bool(self._carrying.total) and isinstance(opening.exception(), DataError)

    async def _open_again(self) -> DuckLedger:
        if self._ledger is not None:
            broken, self._ledger = self._ledger, None
            await broken.close()
        self._ledger = await self._open_patiently()
        self._is_ordered = False
        self._carrying = CarryProgress()
        self._begin_retaining()
        return self._ledger

    def _begin_retaining(self) -> None:
        if self._retention is not None and self._retaining is None:
            retainer = Retainer(self._retention, self.prune, self._clock)
            self._retaining = asyncio.create_task(retainer.run(), name="retention")
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(sweep_files(self._open, self._clock), name="files")

    async def _open_patiently(self) -> DuckLedger:
        until = _now_s() + self._lock_patience_s
        opened_before_us = 0
        while True:
            try:
                return await self._open_once()
            except RuntimeHeld:
                if _now_s() >= until:
                    raise
            except LedgerBehind as error:
                # It has read the log slower than that was trimmed: the next try begins with a snapshot.
                opened_before_us += 1
                if opened_before_us >= OPENINGS_MAX or "trimmed" not in error.facts:
                    raise
            except LedgerSuperseded:
                # A record of an earlier opening came late, or another writes at the same time: read it too.
                opened_before_us += 1
                if self._role.has_led or (
                    opened_before_us >= OPENINGS_MAX and not self._is_ordered
                ):
                    raise
            await asyncio.sleep(LOCK_RETRY_S)

    async def _open_once(self) -> DuckLedger:
        log = self._place.open_log()
        if log is None:
            return await self._open_ledger()
        thread = WriterThread("lease-watch")
        watch = LeaseWatch(
            log,
            writer_of(self._place.path),
            thread.run,
            is_ordered=self._is_ordered,
            role=self._role,
        )
        try:
            if self._role.has_led and not await watch.look():
                superseded = superseded_in(log.objects.name)  # while its writer was broken
                self._role.ends(superseded)
                raise superseded
            self._watch = watch
            ledger = await self._open_ledger(log, watch)
        finally:
            self._watch = None
            self._role.waits(False)
            thread.end()
        self._role.serves()
        return ledger

    async def _open_ledger(
        self, log: ObjectLog | None = None, watch: LeaseWatch | None = None
    ) -> DuckLedger:
        return await open_ledger(
            self._place.path,
            log=log,
            watch=watch,
            clock=self._clock,
            settings=self._settings,
            ring=self.ring,
            encrypts=self._encrypts,
            progress=self._carrying,
            role=self._role,
            features=self._place.features,
        )


def _not_carried(progress: CarryProgress) -> NotReady:
    facts: Json = {"entries": progress.total, ENTRIES_DONE: progress.done}
    return NotReady(str(progress), retry_after_s=1.0, **facts)


def _look_at(opening: asyncio.Task[DuckLedger]) -> None:
    """Retrieve the error, so that asyncio does not log one that no caller awaited."""
    if not opening.cancelled():
        opening.exception()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
