"""A commit group takes queued jobs that don't get in each other's way, then what is due.

Jobs are decided against the index, which shows a write only once it is stored; so no two of a group may touch the same
session, external id, key, token or operation. Facts of the system stream share groups: each is stamped behind those
before it. What is due is the ledger's own: facts, starts by features, the ends of waits of unheld sessions.

Invariants: S-14, S-82 (due sessions and tokens in one transaction, as many as fit), S-40, S-64, S-93.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from helmr.errors import HelmrError, StoreUnavailable
from helmr_runtime.core.commands import TokenEnded
from helmr_runtime.core.entries import Draft, Entry
from helmr_runtime.core.state import SessionState
from helmr_runtime.faults import Point, reach
from helmr_runtime.ledger.index.authored import (
    Chain,
    due_entries,
    escalated_entries,
    fact_entries,
    start_entries,
    token_end_entries,
)
from helmr_runtime.ledger.index.commands import (
    PEOPLE,
    expired_drafts,
    expired_end,
)
from helmr_runtime.ledger.index.heads import Head, is_escalating, placed_behind
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.tokens import TokenHead
from helmr_runtime.ledger.tables.appends import Removal
from helmr_runtime.ledger.tables.engine import ENGINE_ERROR
from helmr_runtime.ports import Flush, StartSession

logger = logging.getLogger(__name__)

JOBS_MAX = 512
ENTRIES_MAX = 5_000
TEXT_MAX = 32 * 1024 * 1024
"""Bounds of one transaction: jobs, entries, characters of bodies and checkpoints."""

DUE_MAX = 2_000
"""Timeouts in one transaction: about 0.1 s, so that commits in between are not held up longer."""


@dataclass(slots=True)
class Write:
    """A job's request to store: entries of one session, its flush and a removal, if any."""

    session_id: str
    entries: tuple[Entry, ...]
    flush: Flush | None = None
    removal: Removal | None = None
    stored: Callable[[Write], None] | None = None
    failed: Callable[[HelmrError], None] | None = None

    @property
    def text_size(self) -> int:
        """Characters to be written."""
        checkpoint = self.flush.checkpoint if self.flush is not None else None
        return sum(len(e.body_json) for e in self.entries) + len(checkpoint or "")


@dataclass(slots=True)
class Facts:
    """A job's drafts for the system stream, stamped after those already in the group.

    Attributes:
        at: The time of its entries.
    """

    drafts: Sequence[Draft]
    at: datetime
    removal: Removal | None = None
    stored: Callable[[Write], None] | None = None
    failed: Callable[[HelmrError], None] | None = None


class Job(Protocol):
    """Something queued for the writer."""

    keys: frozenset[Hashable]
    """What no two jobs of one group may share."""

    outlasts: bool
    """It waits for a store that is away, however long: who has asked asks again, and does not hear of it."""

    def prepare(self) -> Awaitable[Write | Facts | tuple[Write, ...] | None]:
        """Check against the index; None if the job was answered without a write. Several go into one batch."""
        ...

    def fail(self, error: HelmrError) -> None:
        """Answer with an error; nothing was kept."""
        ...


@dataclass(slots=True)
class CommitGroup:
    """The transaction that is being made.

    Attributes:
        system: The system stream behind the group's own facts; None before the first.
    """

    jobs: list[Job] = field(default_factory=list)
    claimed: set[Hashable] = field(default_factory=set)
    writes: list[Write] = field(default_factory=list)
    due: list[Head] = field(default_factory=list)
    system: Head | None = None
    entries: int = 0
    text: int = 0

    @property
    def is_full(self) -> bool:
        """Another job would make the transaction too large."""
        return len(self.writes) >= JOBS_MAX or self.entries >= ENTRIES_MAX or self.text >= TEXT_MAX

    @property
    def room_for_due(self) -> int:
        """Number of timeouts that still fit."""
        return max(0, DUE_MAX - self.entries)

    def add(self, write: Write) -> None:
        """Take a write into the transaction."""
        self.writes.append(write)
        self.entries += len(write.entries)
        self.text += write.text_size


START_ENTRIES = 2
"""Entries of a start."""

RETRY_FACTS = timedelta(seconds=60)
"""When features are looked at again after the system stream could not be written to: its master key is gone."""


class GroupBuilder:
    """Fills commit groups.

    Args:
        index: The ledger's memory.
        own: Makes what the ledger writes of its own.
        escalate: Has the escalation of such a session run, in a job of its own: what its escalation steps do stands on
            disk.
    """

    def __init__(
        self, index: LedgerIndex, own: AuthoredEntries, escalate: Callable[[Head], None]
    ) -> None:
        self._index = index
        self._own = own
        self._escalate = escalate

    async def jobs(self, current: CommitGroup, queue: deque[Job]) -> set[Hashable]:
        """Take queued jobs into the group, the oldest first; returns what those left behind touch."""
        waiting: list[Job] = []
        blocked: set[Hashable] = set()
        for _ in range(min(len(queue), JOBS_MAX)):
            job = queue.popleft()
            # A job also waits behind one that waits: what was queued first is decided first.
            is_ended = current.is_full or PEOPLE in current.claimed
            if is_ended or job.keys & (current.claimed | blocked):
                blocked |= job.keys
                waiting.append(job)
                continue
            current.claimed |= job.keys
            current.jobs.append(job)
            await self._prepare(current, job)
        queue.extendleft(reversed(waiting))
        return blocked

    async def _prepare(self, current: CommitGroup, job: Job) -> None:
        try:
            made = await job.prepare()
            if isinstance(made, Facts):
                made = self._stamped(current, made)
        except HelmrError as error:
            job.fail(error)
        except ENGINE_ERROR as error:
            refusal = StoreUnavailable(f"the ledger can't be read: {error}", retry_after_s=1)
            refusal.__cause__ = error
            job.fail(refusal)
        else:
            for write in made if isinstance(made, tuple) else (made,):
                if write is not None:
                    current.add(write)

    def _stamped(self, current: CommitGroup, facts: Facts) -> Write:
        """The facts behind the group's earlier ones."""
        system = current.system or self._index.system
        entries = self._own.facts(system, facts.drafts, facts.at)
        current.system = placed_behind(system, entries)
        return Write(
            system.session_id,
            entries,
            removal=facts.removal,
            stored=facts.stored,
            failed=facts.failed,
        )

    # --- what is due ------------------------------------------------------------------------------

    def due(self, current: CommitGroup, blocked: set[Hashable], now: datetime) -> None:
        """Take in what is due: deadlines of unheld sessions, tokens whose time is over, what features have due."""
        busy = {key for key in current.claimed | blocked if isinstance(key, str)}
        for head in self._index.take_due(now, current.room_for_due, busy):
            if is_escalating(head, now):
                self._escalate(head)
            else:
                current.due.append(head)
        if current.due:
            reach(Point.LEDGER_TIMING_OUT)
        for head in current.due:
            self._add_own(current, head.session_id, partial(self._own.due, head, now))
        busy.update(head.session_id for head in current.due)
        self._expired(current, frozenset(busy), now)
        self._of_features(current, frozenset(busy), now)

    def _expired(self, current: CommitGroup, busy: frozenset[str], now: datetime) -> None:
        """Expire tokens; with them time out the waits on them of unheld sessions, as far as there is room.

        What is left of a token's waits is delivered, as the waits of held sessions are. Tokens that are busy or find
        no room stay due: the alarm rings again.
        """
        room = current.room_for_due
        expired: list[TokenHead] = []
        waits: list[tuple[Head, TokenHead, str]] = []
        for token in self._index.tokens.due(now, room):
            if len(expired) + len(waits) >= room:
                break
            if token.id in busy or token.session_id in busy:
                continue
            expired.append(token)
            found = self._index.unheld_waits(token)
            free = room - len(expired) - len(waits)
            waits += [(head, token, wait_id) for head, wait_id in found[:free]]
        if not expired:
            return
        try:
            write = self._stamped(current, Facts(expired_drafts(expired), now))
        except HelmrError as error:
            logger.error("%d tokens can't expire: %s", len(expired), error)
            return
        current.add(write)
        taken = set(busy)
        for head, token, wait_id in waits:
            if head.session_id not in taken:
                taken.add(head.session_id)
                end = expired_end(token, wait_id, now)
                make = partial(self._own.token_end, head, end, now)
                self._add_own(current, head.session_id, make)

    def _of_features(self, current: CommitGroup, busy: frozenset[str], now: datetime) -> None:
        """Write what features have due, as far as there is room; what is left stays due, and the alarm rings again."""
        facts: list[Draft] = []
        for due in self._index.features.due(now, self._index.is_active, busy):
            if current.room_for_due < len(facts) + START_ENTRIES:
                break
            if isinstance(due, Draft):
                facts.append(due)
            else:
                self._add_own(current, due.session_id, partial(self._own.start, due, now))
        if facts:
            try:
                current.add(self._stamped(current, Facts(facts, now)))
            except HelmrError as error:
                logger.error("%d facts that are due can't be written: %s", len(facts), error)
                self._index.features.held_until = now + RETRY_FACTS

    def _add_own(self, current: CommitGroup, session_id: str, make: Callable[[], Write]) -> None:
        """Add a write of the ledger's own; a session whose key is gone waits for who brings it back."""
        current.claimed.add(session_id)
        try:
            current.add(make())
        except HelmrError as error:
            logger.error("%s can't be written to: %s", session_id, error)


class AuthoredEntries:
    """Makes and stamps them.

    Args:
        chain: The keys of chains and bodies.

    Raises:
        MasterKeyMissing: Each method, if the session's key is no longer in the ring.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def due(self, head: Head, now: datetime) -> Write:
        """The pending wait's deadline has passed."""
        key, cipher = self._chain.of(head), self._chain.bodies.cipher(head.session_id)
        return Write(head.session_id, due_entries(head, now, key, cipher))

    def escalate(self, head: Head, state: SessionState, now: datetime) -> tuple[Entry, ...]:
        """Steps of the pending wait's escalation have come."""
        key, cipher = self._chain.of(head), self._chain.bodies.cipher(head.session_id)
        return escalated_entries(head, state, now, key, cipher)

    def token_end(self, head: Head, ended: TokenEnded, now: datetime) -> Write:
        """The token of the pending wait has ended."""
        key, cipher = self._chain.of(head), self._chain.bodies.cipher(head.session_id)
        return Write(head.session_id, token_end_entries(head, ended, now, key, cipher))

    def start(self, start: StartSession, now: datetime) -> Write:
        """A feature starts a session."""
        key, key_id = self._chain.new(start.session_id)
        cipher = self._chain.bodies.cipher(start.session_id)
        return Write(start.session_id, start_entries(start, now, key, key_id, cipher))

    def facts(self, system: Head, drafts: Sequence[Draft], at: datetime) -> tuple[Entry, ...]:
        """Facts of no session, behind the system stream's last entry."""
        return fact_entries(system, drafts, at, self._chain)
