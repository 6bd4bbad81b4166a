"""The index: every open session's head, and what the ledger checks a write against. Pure, in memory.

It owns the heads, the work list, the deadlines of unheld sessions, open external ids, the idempotency keys of
starts, the operation ids of the last day and the facts of live tokens. It does no I/O and has no clock: the
ledger around it stores first and applies then, so a failed write leaves no trace here.

Invariants: S-2, S-14, S-40 (preconditions of token waits), S-61, S-62, S-63.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from helmr.errors import Moved
from helmr.ids import SYSTEM_STREAM, new_id
from helmr.models import SessionStatus, TokenStatus
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.ledger_facts import sessions_of
from helmr_runtime.ledger.index.counts import Census
from helmr_runtime.ledger.index.heads import (
    Head,
    alarm_of,
    checkpointed,
    fold,
    is_ready,
    lost_steps,
)
from helmr_runtime.ledger.index.keys import KeyIndex
from helmr_runtime.ledger.index.lookups import KnownOperations, OpenNames, Timers, digest
from helmr_runtime.ledger.index.schedules import ScheduleIndex
from helmr_runtime.ledger.index.tokens import TokenHead, TokenIndex
from helmr_runtime.ledger.index.work_list import WorkList
from helmr_runtime.ports import (
    Declined,
    Flush,
    HeldLease,
    OperationUnused,
    Precondition,
    Refused,
    TokenNotCompleted,
    TokenOpen,
)

ENDED_HEADS_MAX = 2_000
"""Ended sessions whose head stays in memory, some five megabytes: those of the last minute. Others are read."""

ENDED_HOLDERS_MAX = 10_000
"""Holders remembered as ended."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The flush may be stored."""


@dataclass(frozen=True, slots=True)
class AlreadyStored:
    """The flush is stored already."""

    first_feed_offset: int


@dataclass(frozen=True, slots=True)
class NeedsLookup:
    """The flush is stored if the session's entry `seq` has this hash; else it is refused."""

    seq: int
    hash: bytes
    count: int


@dataclass(frozen=True, slots=True)
class OperationKnown:
    """Declined: the operation's receipt stands in the entry at this feed offset."""

    precondition: OperationUnused
    feed_offset: int


MARKS = ("catalog_offset", "notices_offset", "pruned_offset", "pruned_entries", "generation")
"""Attributes of the index; 0 and, of `generation`, 1 where nothing was said yet."""

_OF_PENDING_WAITS = frozenset(
    {
        EntryKind.WAIT_OPENED,
        EntryKind.WAIT_CLAIMED,
        EntryKind.WAIT_CLAIM_ENDED,
        EntryKind.WAIT_ASSIGNED,
        EntryKind.WAIT_REMINDED,
    }
)
"""What names a wait that goes on."""

Verdict = Accepted | AlreadyStored | NeedsLookup | OperationKnown | Declined | Refused


class LedgerIndex:
    """The ledger's memory. Not for concurrent use."""

    def __init__(self) -> None:
        self.system = Head(SYSTEM_STREAM)
        self.heads: dict[str, Head] = {SYSTEM_STREAM: self.system}
        self.head_offset = 0
        self.operations = KnownOperations()
        self.names = OpenNames(self.heads)
        self.start_keys: dict[bytes, str] = {}
        self.forgotten = 0
        """How many sessions are no longer in memory."""
        self.tokens = TokenIndex()
        self.keys = KeyIndex()
        self.schedules = ScheduleIndex()
        self.open_count = self.catalog_offset = self.notices_offset = 0
        self.pruned_offset = self.pruned_entries = 0
        """Of the newest `sessions.pruned`; and how many entries they all have removed."""
        self.generation = 1
        """One more with each promotion (S-68)."""
        self.work = WorkList(self.heads, self.tokens)
        self._timers = Timers(self.heads)
        self._waiting_held: dict[str, tuple[str, datetime]] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._ended_holders: OrderedDict[str, None] = OrderedDict()
        self._leader: str | None = None
        self._term: str | None = None
        self._census = Census()

    # --- checking -------------------------------------------------------------------------------

    def check(self, flush: Flush) -> Verdict:
        """Whether the flush may be stored now. The session's head is in the index.

        A flush that is stored already is done whatever its epoch (S-61, S-62): its actor may have
        lost only the answer.
        """
        head = self.heads[flush.session_id]
        if head is self.system:
            return Refused(epoch=head.epoch, seq=head.next_seq)
        if not _follows(head, flush):
            return _stored_or_refused(head, flush)
        if flush.epoch != head.epoch:  # a higher one was forgotten in a crash, and maybe given up
            return Refused(epoch=head.epoch, seq=head.next_seq)
        for precondition in flush.preconditions:
            declined = self._declines(precondition)
            if declined is not None:
                return declined
        return Accepted()

    def _declines(self, precondition: Precondition) -> OperationKnown | Declined | None:
        match precondition:
            case OperationUnused(operation):
                known = self.operations.offset_of(operation.id)
                return None if known is None else OperationKnown(precondition, known)
            case TokenOpen(awaits):
                facts = self.tokens.ended_facts(awaits)
                return Declined(precondition=precondition, facts=facts) if facts else None
            case TokenNotCompleted(awaits, deadline_at):
                token = self.tokens.first_ended(awaits)
                if token is None or not _is_completed_before(token, deadline_at):
                    return None
                return Declined(precondition=precondition, facts=self.tokens.ended_facts(awaits))

    def may_time_out(self, head: Head) -> bool:
        """False for a wait on what was completed before the deadline, however late (S-14), or ended before an
        escalation step."""
        wait = head.wait
        token = self.tokens.first_ended(wait.awaits) if wait is not None else None
        if wait is None or wait.due_at is None or token is None:
            return True
        return wait.escalates_at is None and not _is_completed_before(token, wait.due_at)

    def marks(self) -> dict[str, int]:
        """Numbers that facts of the system stream have left, by the names that the tables have them under."""
        return {name: getattr(self, name) for name in MARKS}

    # --- applying what is stored ----------------------------------------------------------------

    def apply(self, entry: Entry, now: datetime) -> Head:
        """Fold one stored entry. `settle` follows the last of a write."""
        assert entry.feed_offset is not None
        head = self.heads.get(entry.session_id)
        if head is None:
            head = self.heads[entry.session_id] = Head(entry.session_id)
        fold(head, entry)
        self.head_offset = entry.feed_offset
        if entry.kind is EntryKind.SESSION_CREATED:
            self.open_count += 1
            self._name(head, entry.body.get("external_id"), entry.body.get("idempotency_key_hash"))
        elif entry.kind in (EntryKind.SESSION_CLOSED, EntryKind.SESSION_CANCELLED):
            self._end(head)
            self.work.ended(head)
        elif entry.kind is EntryKind.RUN_REWOUND and entry.body.get("opens_session"):
            self._reopen(head, entry.body.get("external_id"))
        elif entry.kind is EntryKind.CATALOG_WRITTEN:
            self.catalog_offset = entry.feed_offset
        elif entry.kind is EntryKind.NOTICES_MOVED:
            self.notices_offset = entry.feed_offset
        elif entry.kind is EntryKind.LEDGER_PROMOTED:
            self.generation = entry.body["generation"]
        elif entry.kind is EntryKind.SESSIONS_PRUNED:
            self._prune(entry, entry.feed_offset, now)
        elif "wait_id" in entry.body and entry.kind not in _OF_PENDING_WAITS:
            self.work.delivered(entry.body["wait_id"])
        if "copied_from" not in entry.body:  # tokens and keys stay the origin's (S-86)
            self.keys.apply(entry)
            self.schedules.apply(entry)
            for session_id, wait_id in self.tokens.apply(entry):
                self.deliver(session_id, wait_id, now)
            for child_id in self.tokens.take_orphans():
                self.end_child(child_id, now)
        operation = entry.body.get("operation")
        if operation is not None:
            self.operations.remember(operation["id"], entry.feed_offset, entry.recorded_at)
            self.operations.forget_old(now)
        return head

    def settle(self, head: Head, now: datetime, *, flush: Flush | None = None) -> None:
        """What a write means beside its entries: the checkpoint, the epoch, the holder, the indexes.

        Args:
            head: The session written to.
            now: The ledger's time.
            flush: The flush that was written; None for a write of the ledger's own.
        """
        if flush is not None:
            if flush.checkpoint is not None:
                checkpointed(head)
            if flush.release:
                head.held_by = None
        self.reindex(head, now)

    def _prune(self, pruned: Entry, feed_offset: int, now: datetime) -> None:
        """Forget sessions that were over, and all that was theirs (S-69)."""
        gone = frozenset(sessions_of(pruned.body))
        self.pruned_offset = feed_offset
        self.pruned_entries += pruned.body["entries"]
        self.operations.forget_old(now)
        self.tokens.forget(gone)
        self.keys.forget(gone)
        for session_id in gone:
            head = self.heads.get(session_id)
            if head is not None:
                self._forget(head)

    def admit(
        self, head: Head, now: datetime, *, external_id: str | None, start_key: str | None
    ) -> Head:
        """Take in a head that was read from the tables; one that is here already wins."""
        known = self.heads.setdefault(head.session_id, head)
        if known is not head:
            return known
        if head.status is SessionStatus.OPEN:
            self.open_count += 1
            self._name(head, external_id, start_key)
        else:
            self._name(head, None, start_key)
            self._ended[head.session_id] = None
        self.reindex(head, now)
        return head

    def evict(self, keeps: Callable[[str], bool]) -> None:
        """Forget the longest ended sessions beyond `ENDED_HEADS_MAX`, unless held or kept by the caller."""
        surplus = len(self._ended) - ENDED_HEADS_MAX
        for session_id in list(islice(self._ended, max(0, surplus))):
            head = self.heads[session_id]
            if head.is_held or head.has_active_run or keeps(session_id):
                continue
            self._forget(head)

    def _forget(self, head: Head) -> None:
        """Of a session that is over."""
        del self.heads[head.session_id]
        self.forgotten += 1
        self._ended.pop(head.session_id, None)
        self.work.set_ready(head, False)
        if head.start_key is not None:
            self.start_keys.pop(head.start_key, None)

    def _name(self, head: Head, external_id: str | None, start_key: str | None) -> None:
        if external_id is not None:
            self.names.add(digest(external_id), head)
        if start_key is not None:
            head.start_key = digest(start_key)
            self.start_keys[head.start_key] = head.session_id

    def _reopen(self, head: Head, external_id: str | None) -> None:
        """A closed session is open again, and has its external id again."""
        self.open_count += 1
        self._ended.pop(head.session_id, None)
        self._name(head, external_id, None)

    def _end(self, head: Head) -> None:
        self.open_count -= 1
        self._ended[head.session_id] = None
        self.names.remove(head)

    # --- holding --------------------------------------------------------------------------------

    def lead(self, directory: str) -> str:
        """The term of that directory: the one that there is, or a new one."""
        if self._term is None or self._leader != directory:
            self._leader, self._term = directory, new_id("term")
        return self._term

    def hold(
        self, head: Head, holder: str, epoch_floor: int, now: datetime, *, term: str | None = None
    ) -> int:
        """An actor adopts the session: the new epoch, higher than any given out before.

        Within a term it is known here which holders were given up. What was sent before may be for one of which no one
        knows that any more.

        Raises:
            Moved: That holder has ended, or that term.
        """
        if term is not None and term != self._term:
            raise Moved(f"{head.session_id} was given to {holder} in an earlier term")
        if holder in self._ended_holders:
            raise Moved(f"{holder} has ended: {head.session_id} is for another")
        head.epoch = max(head.epoch + 1, epoch_floor)
        head.held_by = holder
        self.reindex(head, now)
        return head.epoch

    def end_holder(self, holder: str) -> None:
        """That holder is given up, and adopts nothing more, whatever of it is still on its way.

        One that only was out of reach would else take a session that no one looks for there.
        """
        self._ended_holders[holder] = None
        if len(self._ended_holders) > ENDED_HOLDERS_MAX:
            self._ended_holders.popitem(last=False)

    def abandon(self, head: Head, epoch: int, now: datetime) -> bool:
        """The holder of that epoch is gone. False if the session has moved on already."""
        if head.epoch > epoch:
            return False
        head.epoch = epoch + 1
        head.held_by = None
        self.reindex(head, now)
        return True

    def holdings(self) -> list[HeldLease]:
        """Which sessions are held, by whom, under which epoch."""
        return [
            HeldLease(session_id=head.session_id, epoch=head.epoch, holder=head.held_by)
            for head in self.heads.values()
            if head.held_by is not None
        ]

    # --- work and deadlines ---------------------------------------------------------------------

    def reindex(self, head: Head, now: datetime) -> None:
        """Put the session on the work list, off it, or arm its timer, as its head now says."""
        self.work.set_ready(head, is_ready(head, now))
        self._timers.arm(head, alarm_of(head, now))
        self._note_holding(head, now)
        if head is not self.system:
            self._census.recount(head)

    def _note_holding(self, head: Head, now: datetime) -> None:
        """Remember since when an actor holds a session that only waits."""
        wait = head.wait
        if wait is None or not head.is_held or lost_steps(head):
            self._waiting_held.pop(head.session_id, None)
        elif self._waiting_held.get(head.session_id, ("",))[0] != wait.id:
            self._waiting_held[head.session_id] = (wait.id, now)

    def waiting_held_since(self) -> datetime | None:
        """Since when the longest of those that wait in an actor does so; the actor need not know."""
        return min((since for _, since in self._waiting_held.values()), default=None)

    def deliver(self, session_id: str, wait_id: str, now: datetime) -> None:
        """Have the end of its token delivered to that wait, if it is still pending."""
        head = self.heads.get(session_id)
        if head is not None and head.wait is not None and head.wait.id == wait_id:
            self.work.deliver(head, now)

    def end_child(self, session_id: str, now: datetime) -> None:
        """Have a child cancelled that its parent has ended, unless it takes nothing more anyway."""
        head = self.heads.get(session_id)
        if head is not None and head.status is SessionStatus.OPEN:
            self.work.end(head, now)

    def next_due_at(self) -> datetime | None:
        """When the earliest timer of an unheld session rings, a token's time is over, or a schedule is due."""
        times = (self._timers.next_at(), self.tokens.next_expiry_at(), self.schedules.next_at())
        return min((at for at in times if at is not None), default=None)

    def take_due(self, now: datetime, count_max: int, busy: Iterable[str] = ()) -> list[Head]:
        """Unheld sessions whose pending wait is due, earliest first; their timers are disarmed.

        Runs whose `retry_at` came go on the work list instead. Call `reindex` for each head that is
        not written after all; those of `busy` sessions stay armed.
        """
        due: list[Head] = []
        skipped: list[Head] = []
        busy_ids = frozenset(busy)
        while len(due) < count_max:
            head = self._timers.take(now)
            if head is None:
                break
            if head.session_id in busy_ids or not busy_ids.isdisjoint(_waits_on(head)):
                skipped.append(head)
            elif head.wait is None or head.wait.due_at is None:
                self.reindex(head, now)
            elif not self.may_time_out(head):
                self.work.deliver(head, now)
            else:
                due.append(head)
        for head in skipped:
            self._timers.arm(head, alarm_of(head, now))
        return due

    def is_active(self, session_id: str) -> bool:
        """The session's newest run has not ended. Those that memory does not hold have ended."""
        head = self.heads.get(session_id)
        return head is not None and head.has_active_run

    def unheld_waits(self, token: TokenHead) -> list[tuple[Head, str]]:
        """Unheld sessions and their waits on the token; to those that an escalation step came before, its end is
        delivered."""
        found = ((self.heads.get(session), wait) for wait, session in token.waits.items())
        return [
            (head, wait_id)
            for head, wait_id in found
            if head is not None and not head.is_held
            if head.wait is not None and head.wait.id == wait_id
            if head.wait.escalates_at is None or head.wait.escalates_at > token.expires_at
        ]

    def counts(self) -> dict[str, int]:
        """How many open sessions there are and what they do; `parked` are those that wait unheld."""
        census = self._census
        return {
            "open": self.open_count,
            "held": census.held,
            "parked": census.parked,
            "failed": census.failed,
            "waiting_held": len(self._waiting_held),
            **self.work.counts(),
            **census.by_activity(),
        }


def _follows(head: Head, flush: Flush) -> bool:
    return flush.first_seq == head.next_seq and flush.previous_hash == head.last_hash


def _stored_or_refused(head: Head, flush: Flush) -> Verdict:
    count = len(flush.entries)
    last_seq = flush.first_seq + count - 1
    if count == 0:
        # Without entries a flush only checkpoints and releases. If its epoch is still the newest and the
        # session went on, the ledger itself wrote (a timeout), which it does only once the flush released it.
        if flush.epoch == head.epoch and flush.first_seq < head.next_seq and not head.is_held:
            return AlreadyStored(head.last_offset)
        return Refused(epoch=head.epoch, seq=head.next_seq)
    last_hash = flush.entries[-1].hash
    if last_seq == head.next_seq - 1 and last_hash == head.last_hash:
        return AlreadyStored(head.last_offset - count + 1)
    if last_seq < head.next_seq - 1:
        return NeedsLookup(last_seq, last_hash, count)
    return Refused(epoch=head.epoch, seq=head.next_seq)


def _is_completed_before(token: TokenHead, deadline_at: datetime) -> bool:
    return (
        token.status is TokenStatus.COMPLETED
        and token.ended_at is not None
        and token.ended_at < deadline_at
    )


def _waits_on(head: Head) -> tuple[str, ...]:
    return head.wait.awaits if head.wait is not None else ()
