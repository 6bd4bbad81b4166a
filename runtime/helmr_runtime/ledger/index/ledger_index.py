"""The index: every open session's head, and what the ledger checks a write against. Pure, in memory.

It owns the heads, the work list, the deadlines of unheld sessions, open external ids, the idempotency keys of
starts, the operation ids of the last day and the facts of live tokens. It does no I/O and has no clock: the
ledger around it stores first and applies then, so a failed write leaves no trace here.

It finds sessions by an operation's id, known for a day, by an external id and by the time when one is due. An
external id names the newest of the open sessions that have it: several do
when a rewind has opened a session again whose name was given to another meanwhile (S-75). Due times are a heap with
lazy deletion over the index's heads.

Invariants: S-2, S-14, S-40 (preconditions of token waits), S-61, S-62, S-63.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from helmr.errors import Moved
from helmr.models import SessionStatus, TokenStatus
from helmr.wire.ids import SYSTEM_STREAM, new_id
from helmr_runtime.core.commands import sessions_of
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.feature import Features
from helmr_runtime.ledger.index.features import FeatureMemories
from helmr_runtime.ledger.index.heads import (
    Census,
    Head,
    alarm_of,
    checkpointed,
    fold,
    standing_of,
)
from helmr_runtime.ledger.index.keys import OF_KEYS, KeyIndex
from helmr_runtime.ledger.index.people import OF_PEOPLE, PeopleIndex
from helmr_runtime.ledger.index.projection import FeedTail, Projection
from helmr_runtime.ledger.index.tokens import OF_TOKENS, TokenHead, TokenIndex
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

OPERATION_AGE = timedelta(hours=24)
"""Time for which a repeated operation is recognized (S-61)."""

GROUP_MAX = 87_381
"""Operation ids of a group: as many as fill the table of a dictionary, two thirds of 2^17."""

GROUPS_MAX = 12
"""Groups kept in memory: a million operation ids, 130 MB; the ledger's table answers for older ones of the same day."""

_TIME_BITS = 56
"""Low bits of a place: its time in microseconds since 1970. The bits above are its feed offset."""


def operations_max() -> int:
    """The most that are kept in memory."""
    return GROUPS_MAX * GROUP_MAX


def digest(text: str) -> bytes:
    """Shorten an external id, key or operation id to 16 bytes, as memory holds it."""
    return hashlib.sha256(text.encode("utf-8")).digest()[:16]


class _Group:
    """Operations accepted one after the other, which are forgotten together."""

    __slots__ = ("newest", "places")

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        """Two numbers each, because nothing takes less: there are a million."""
        self.newest = 0


class KnownOperations:
    """Feed offsets of the entries that carry the receipts of accepted operations, the oldest forgotten first."""

    def __init__(self) -> None:
        self._groups = deque([_Group()])
        self._oldest = 0
        """Operations recorded before this time are forgotten."""
        self._dropped = 0
        """Time of the newest operation that was forgotten for lack of room."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Every operation that is known: a number made of its id, and its feed offset."""
        for group in self._groups:
            for key, place in group.places.items():
                if _time_in(place) >= self._oldest:
                    yield key, place >> _TIME_BITS

    @property
    def is_complete(self) -> bool:
        """All that is younger than a day is here."""
        return self._dropped < self._oldest or self._dropped == 0

    def offset_of(self, operation_id: str) -> int | None:
        """Return the feed offset of the operation's receipt; None if it is unknown or too old."""
        key = _key(operation_id)
        for group in reversed(self._groups):
            place = group.places.get(key)
            if place is not None:
                return place >> _TIME_BITS if _time_in(place) >= self._oldest else None
        return None

    def remember(self, operation_id: str, feed_offset: int, recorded_at: datetime) -> None:
        """Know an accepted operation for a day."""
        group = self._groups[-1]
        if len(group.places) >= GROUP_MAX:
            group = _Group()
            self._groups.append(group)
        time = _microseconds(recorded_at)
        group.places[_key(operation_id)] = feed_offset << _TIME_BITS | time
        group.newest = max(group.newest, time)

    def forget_old(self, now: datetime) -> None:
        """Forget those of more than a day ago, and the oldest of too many."""
        self._oldest = _microseconds(now - OPERATION_AGE)
        while len(self._groups) > 1 and self._groups[0].newest < self._oldest:
            self._groups.popleft()
        while len(self._groups) > GROUPS_MAX:
            self._dropped = max(self._dropped, self._groups.popleft().newest)


def _key(operation_id: str) -> int:
    return int.from_bytes(digest(operation_id))


def _time_in(place: int) -> int:
    return place & ((1 << _TIME_BITS) - 1)


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


class OpenNames:
    """External ids of open sessions, by digest.

    Args:
        heads: Of all sessions that are named here.
    """

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self._heads = heads
        self._newest: dict[bytes, str] = {}
        self._others: dict[bytes, list[str]] = {}

    def get(self, key: bytes) -> str | None:
        """The session that it names."""
        return self._newest.get(key)

    def add(self, key: bytes, head: Head) -> None:
        """An open session has this external id."""
        head.external_key = key
        self._keep(key, [head.session_id, *self._take(key)])

    def remove(self, head: Head) -> None:
        """The session has ended."""
        key, head.external_key = head.external_key, None
        if key is not None:
            self._keep(key, [one for one in self._take(key) if one != head.session_id])

    def items(self) -> Iterator[tuple[bytes, list[str]]]:
        """Each external id and the open sessions that have it, newest first."""
        for key, newest in self._newest.items():
            yield key, [newest, *self._others.get(key, ())]

    def _take(self, key: bytes) -> list[str]:
        newest = self._newest.pop(key, None)
        return [newest, *self._others.pop(key, ())] if newest is not None else []

    def _keep(self, key: bytes, session_ids: list[str]) -> None:
        session_ids.sort(key=lambda one: self._heads[one].created_offset)
        if session_ids:
            self._newest[key] = session_ids.pop()
        if session_ids:
            self._others[key] = session_ids[::-1]


SLACK = 1_000
"""Stale alarms that may stay in the heap beyond one per armed session before it is rebuilt."""


class Timers:
    """At most one alarm per session; an alarm that was moved is skipped when it comes up."""

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self._heads = heads
        self._armed: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def arm(self, head: Head, rings_at: datetime | None) -> None:
        """Set the session's one alarm, or take it away."""
        if rings_at is None:
            self._armed.pop(head.session_id, None)
        elif self._armed.get(head.session_id) != rings_at:
            self._armed[head.session_id] = rings_at
            heapq.heappush(self._heap, (rings_at, head.session_id))
        if len(self._heap) > 2 * len(self._armed) + SLACK:
            self._heap = [(at, session_id) for session_id, at in self._armed.items()]
            heapq.heapify(self._heap)

    def next_at(self) -> datetime | None:
        """Return the time of the earliest alarm."""
        while self._heap and self._armed.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: datetime) -> Head | None:
        """Disarm the earliest session that is due and return it."""
        rings_at = self.next_at()
        if rings_at is None or rings_at > now:
            return None
        _, session_id = heapq.heappop(self._heap)
        del self._armed[session_id]
        return self._heads[session_id]


ENDED_HEADS_MAX = 2_000
"""Ended sessions whose head stays in memory, some five megabytes: those of the last minute. Others are read."""

ENDED_HOLDERS_MAX = 10_000
"""Holders remembered as ended."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The flush may be stored; if not `is_sure`, unless an operation of the day that memory has forgotten is its."""

    is_sure: bool = True


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
    """Declined: the entry at this feed offset holds the operation's receipt."""

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
        EntryKind.WAIT_VOTED,
        EntryKind.WAIT_VOTE_WITHDRAWN,
    }
)
"""What names a wait that goes on."""

Verdict = Accepted | AlreadyStored | NeedsLookup | OperationKnown | Declined | Refused


FEATURE_MARK = "feature:"
"""Before the name of a feature that the ledger holds entries of, among its marks (S-148)."""


class LedgerIndex:
    """The ledger's memory. Not for concurrent use.

    Args:
        features: Those that have a part in the ledger.
    """

    def __init__(self, features: Features = ()) -> None:
        self.system = Head(SYSTEM_STREAM)
        self.heads: dict[str, Head] = {SYSTEM_STREAM: self.system}
        self.head_offset = 0
        self.operations = KnownOperations()
        self.names = OpenNames(self.heads)
        self.start_keys: dict[bytes, str] = {}
        self.forgotten = 0
        """Number of sessions dropped from memory."""
        self.tokens = TokenIndex()
        self.keys = KeyIndex()
        self.people = PeopleIndex()
        self.features = FeatureMemories(features)
        self.open_count = self.catalog_offset = self.notices_offset = 0
        self.pruned_offset = self.pruned_entries = 0
        """Feed offset of the newest `sessions.pruned`, and the number of entries that all of them removed."""
        self.generation = 1
        """One more with each opening of a log that other machines reach (S-98); up to 0.7 also with each promotion."""
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
        """Decide if the flush may be stored now. The session's head must be in the index.

        A flush that is already stored succeeds whatever its epoch (S-61, S-62): its actor may have
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
        if self.people.refuses(flush.entries):
            # Its host reads the session again, and with it who is disabled: there the command is refused (S-117).
            return Refused(epoch=head.epoch, seq=head.next_seq)
        return Accepted(is_sure=self.operations.is_complete)

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
        features = {FEATURE_MARK + name: at for name, at in self.features.since.items()}
        return {**{name: getattr(self, name) for name in MARKS}, **features}

    # --- applying what is stored ----------------------------------------------------------------

    def apply(self, entry: Entry, now: datetime) -> Head:
        """Fold one stored entry. `settle` follows the last of a write.

        Raises:
            FeatureMissing: It is of a feature that is not here; nothing is folded.
        """
        assert entry.feed_offset is not None
        is_heard = bool(self.features.hearers(entry.kind))
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
        elif entry.kind in (EntryKind.LEDGER_PROMOTED, EntryKind.LEDGER_OPENED):
            self.generation = entry.body["generation"]
        elif entry.kind is EntryKind.SESSIONS_PRUNED:
            self._prune(entry, entry.feed_offset, now)
        elif (
            entry.body.get("wait_id") in self.work.deliveries
            and entry.kind not in _OF_PENDING_WAITS
        ):
            self.work.delivered(entry.body["wait_id"])
        if "copied_from" not in entry.body:  # tokens and keys stay the origin's (S-86)
            if entry.kind in OF_KEYS:
                self.keys.apply(entry)
            if entry.kind in OF_PEOPLE:
                self.people.apply(entry)
            if is_heard:
                self.features.apply(entry)
            if entry.kind in OF_TOKENS:
                for session_id, wait_id in self.tokens.apply(entry):
                    self.deliver(session_id, wait_id, now)
                while self.tokens.orphans:
                    self.end_child(self.tokens.orphans.pop(0), now)
        operation = entry.body.get("operation")
        if operation is not None:
            self.operations.remember(operation["id"], entry.feed_offset, entry.recorded_at)
            self.operations.forget_old(now)
        return head

    def take(
        self, entries: Sequence[Entry], now: datetime, rows: Projection, tail: FeedTail
    ) -> None:
        """Fold what a write has stored, in one pass: into its head and the indexes, the rows, the newest entries."""
        for entry in entries:
            rows.fold(entry, self.apply(entry, now))
        tail.extend(entries)

    def settle(self, head: Head, now: datetime, *, flush: Flush | None = None) -> None:
        """Apply a write's checkpoint and release to the head, then reindex the session.

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
        """Drop an ended session from memory."""
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
        """Return the directory's term: its current one, or a new one."""
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
        """Bar a holder that was given up from adopting sessions.

        If it was only unreachable, it could otherwise take a session that no one looks for there.
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
        """Return the held sessions, with holder and epoch."""
        return [
            HeldLease(session_id=head.session_id, epoch=head.epoch, holder=head.held_by)
            for head in self.heads.values()
            if head.held_by is not None
        ]

    # --- work and deadlines ---------------------------------------------------------------------

    def reindex(self, head: Head, now: datetime) -> None:
        """Put the session on the work list, off it, or arm its timer, as its head now says."""
        standing = standing_of(head, now)
        self.work.set_ready(head, standing.is_ready)
        self._timers.arm(head, standing.rings_at)
        self._note_holding(head, standing.only_waits, now)
        if head is not self.system:
            self._census.recount(head)

    def _note_holding(self, head: Head, only_waits: bool, now: datetime) -> None:
        """Remember since when an actor holds a session that only waits."""
        wait = head.wait
        if wait is None or not only_waits:
            self._waiting_held.pop(head.session_id, None)
        elif self._waiting_held.get(head.session_id, ("",))[0] != wait.id:
            self._waiting_held[head.session_id] = (wait.id, now)

    def waiting_held_since(self) -> datetime | None:
        """Since when the longest of those that wait in an actor does so; the actor need not know."""
        return min((since for _, since in self._waiting_held.values()), default=None)

    def deliver(self, session_id: str, wait_id: str, now: datetime) -> None:
        """Schedule delivery of the token's end to the wait, if the wait is still pending."""
        head = self.heads.get(session_id)
        if head is not None and head.wait is not None and head.wait.id == wait_id:
            self.work.deliver(head, now)

    def end_child(self, session_id: str, now: datetime) -> None:
        """Schedule the end of a child that its parent has ended, if the child is still open."""
        head = self.heads.get(session_id)
        if head is not None and head.status is SessionStatus.OPEN:
            self.work.end(head, now)

    def next_due_at(self) -> datetime | None:
        """Return the earliest time at which an unheld session, a token's expiry or a feature is due."""
        times = (
            self._timers.next_at(),
            self.tokens.next_expiry_at() if self.tokens.expiries else None,
            self.features.next_at(),
        )
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
        """Count the open sessions by what they do; `parked` ones wait without a holder."""
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
