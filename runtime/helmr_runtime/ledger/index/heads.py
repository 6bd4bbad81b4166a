"""Heads: what the ledger must know of a session without reading its entries.

A head is folded from the session's entries (`fold`), one function per kind, as the core's state is; it holds
ids, numbers and times, never text, so that a hundred thousand parked sessions fit in memory. Who holds the
session and under which epoch is not in its entries and is set by the index.

Invariants: S-53 (a head is a function of the entries), S-3 (run status), S-11 (a wait leaves `pending` once).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import Any, NamedTuple

from helmr.errors import DataError
from helmr.models import Activity, RunStatus, SessionStatus
from helmr_runtime.core.claims import WaitClaims
from helmr_runtime.core.entries import GENESIS, Entry, EntryKind, from_iso
from helmr_runtime.core.run import ACTIVE, own_deadline

_ACTIVITIES: Mapping[RunStatus | None, Activity] = {one: Activity(one.value) for one in ACTIVE}


@dataclass(slots=True)
class HeadWait:
    """The run's pending wait.

    Attributes:
        deadline_at: Its own (`helmr_runtime.core.run.own_deadline`).
        escalates_at: When the next step of its escalation fires, which is before the deadline (S-82).
        default_at: When its escalation's default answers it.
    """

    id: str
    kind: str
    op: int
    token_id: str | None
    deadline_at: datetime | None
    is_backoff: bool = False
    session_ids: tuple[str, ...] = ()
    escalates_at: datetime | None = None
    default_at: datetime | None = None

    @property
    def due_at(self) -> datetime | None:
        """Time of its next escalation step, else its deadline."""
        return self.deadline_at if self.escalates_at is None else self.escalates_at

    @property
    def awaits(self) -> tuple[str, ...]:
        """The token, or the child sessions, of which the first to end resolves it."""
        return (self.token_id,) if self.token_id is not None else self.session_ids


@dataclass(slots=True)
class Head:
    """One session as the ledger knows it.

    Attributes:
        parent_session_id: The session that this is a child of, as its waits' rows say (S-91).
        next_seq: Seq of the entry that comes next.
        last_offset: Feed offset of the last entry, 0 before the first.
        held_by: Name of the host that holds the session; None when it is unheld.
        queued_at: Since when the run waits for room, or executes: the order of the work list.
        open_steps: Ops of steps without outcome. Lost, if the session is unheld.
        outcome_offset: Feed offset of the entry that ended or blocked the newest run.
        checkpoint_offset: Feed offset of the last entry that the newest checkpoint covers, 0 without one.
        tail: Feed offsets of the entries after the checkpoint, in seq order.
        has_keys: Some record was sent with an idempotency key.
        external_key: Digest of the external id, None without one or once the session has ended.
        start_key: Digest of the idempotency key of its start.
        key_id: The master key that the session's hash chain began with; None for a plain chain (S-52).
        claims: Who is at the pending wait, and what of that no entry says yet. Forgotten at a restart.
        unconsumed: How many records no wait has taken; None after a restart, until someone has counted them.
        counted_as: Under what the index's census counts it now.
    """

    session_id: str
    epoch: int = 0
    next_seq: int = 1
    last_hash: bytes = GENESIS
    last_at: datetime | None = None
    last_offset: int = 0
    created_offset: int = 0
    held_by: str | None = None
    task: str = ""
    parent_session_id: str | None = None
    status: SessionStatus = SessionStatus.OPEN
    run_id: str | None = None
    run_status: RunStatus | None = None
    attempt: int = 0
    retry_at: datetime | None = None
    queued_at: datetime | None = None
    ended_at: datetime | None = None
    outcome_offset: int | None = None
    wait: HeadWait | None = None
    open_steps: frozenset[int] = frozenset()
    checkpoint_offset: int = 0
    tail: list[int] = field(default_factory=list)
    has_keys: bool = False
    external_key: bytes | None = None
    start_key: bytes | None = None
    key_id: str | None = None
    claims: WaitClaims | None = None
    counted_as: tuple[Activity, bool, bool] | None = None
    unconsumed: int | None = 0

    @property
    def last(self) -> tuple[int, bytes]:
        """Seq and hash of the last entry."""
        return self.next_seq - 1, self.last_hash

    @property
    def is_held(self) -> bool:
        """An actor holds the session."""
        return self.held_by is not None

    @property
    def has_active_run(self) -> bool:
        """The newest run has not ended (S-3)."""
        return self.run_status is not None and self.run_status in ACTIVE

    @property
    def is_over(self) -> bool:
        """No code of the session runs any more, nor will."""
        return self.status is not SessionStatus.OPEN and not self.has_active_run

    @property
    def activity(self) -> Activity:
        """S-1."""
        return _ACTIVITIES.get(self.run_status, Activity.IDLE)


def fold(head: Head, entry: Entry) -> None:
    """Fold one stored entry into its session's head.

    Raises:
        DataError: It does not follow the last one.
    """
    if entry.seq != head.next_seq or entry.feed_offset is None:
        raise DataError(f"{head.session_id}: entry {entry.seq} does not follow {head.next_seq - 1}")
    _HANDLERS.get(entry.kind, _ignore)(head, entry)
    if head.claims is not None:
        head.claims = _claims_after(head, head.claims, entry)
    if entry.seq == 1:
        key_id = entry.body.get("chain_key_id")
        head.key_id = intern(key_id) if key_id is not None else None
    head.next_seq = entry.seq + 1
    head.last_hash = entry.hash
    head.last_at = entry.recorded_at
    head.last_offset = entry.feed_offset
    head.tail.append(entry.feed_offset)


def head_after(head: Head, entries: Sequence[Entry]) -> Head:
    """Return the head as it will be when these entries are stored; its tail omits earlier ones.

    Raises:
        DataError: They can't be folded into it.
    """
    future = _copied(head)
    future.tail = []  # not the head's own; nor a copy, which takes ever longer
    for entry in entries:
        fold(future, entry)
    return future


def _copied(head: Head) -> Head:
    """Copy the head in a third of the time of `copy.copy`, which gathers the state of a slotted class first."""
    copied = object.__new__(Head)
    for name in Head.__slots__:
        setattr(copied, name, getattr(head, name))
    return copied


def placed_behind(head: Head, entries: Sequence[Entry]) -> Head:
    """Return a copy of the head that continues the chain after these stamped entries, stored or not."""
    moved = _copied(head)
    for entry in entries:
        if entry.seq == 1:
            moved.key_id = entry.body.get("chain_key_id")
        moved.next_seq = entry.seq + 1
        moved.last_hash = entry.hash
        moved.last_at = entry.recorded_at
    return moved


def checkpointed(head: Head) -> None:
    """A checkpoint that covers the last entry was stored with it."""
    head.checkpoint_offset = head.last_offset
    head.tail = []


def is_ready(head: Head, now: datetime) -> bool:
    """No one holds the session, and its run is to execute now."""
    if head.is_held:
        return False
    match head.run_status:
        case RunStatus.QUEUED:
            return head.retry_at is None or head.retry_at <= now
        case RunStatus.RUNNING:
            return True
        case RunStatus.WAITING:
            return bool(lost_steps(head))
        case _:
            return False


def lost_steps(head: Head) -> frozenset[int]:
    """Return the steps that ran when their actor released the session; a step in backoff is the wait itself."""
    if head.wait is not None and head.wait.is_backoff:
        return head.open_steps - {head.wait.op}
    return head.open_steps


def alarm_of(head: Head, now: datetime) -> datetime | None:
    """Return when an unheld session is next due: its wait's escalation step or deadline, or its run's next attempt."""
    if head.is_held or not head.has_active_run:
        return None
    if head.wait is not None:
        return head.wait.due_at
    if head.run_status is RunStatus.QUEUED and head.retry_at is not None and head.retry_at > now:
        return head.retry_at
    return None


class Standing(NamedTuple):
    """The index's duties for a session, from its current head.

    Attributes:
        is_ready: The result of `is_ready`.
        rings_at: The result of `alarm_of`.
        only_waits: An actor holds the session only to wait.
    """

    is_ready: bool
    rings_at: datetime | None
    only_waits: bool


def standing_of(head: Head, now: datetime) -> Standing:
    """Compute the standing in one pass: every write needs it."""
    only_waits = head.held_by is not None and head.wait is not None and not lost_steps(head)
    return Standing(is_ready(head, now), alarm_of(head, now), only_waits)


def is_escalating(head: Head, now: datetime) -> bool:
    """True if a step of the pending wait's escalation is due and the session is unheld."""
    escalates_at = head.wait.escalates_at if head.wait is not None else None
    return (
        not head.is_held
        and head.has_active_run
        and escalates_at is not None
        and escalates_at <= now
    )


def next_deadline(head: Head) -> datetime | None:
    """Return when the session is next due, held or not: its wait's escalation step or deadline, or its next attempt."""
    return head.wait.due_at if head.wait is not None else head.retry_at


def _claims_after(head: Head, claims: WaitClaims, entry: Entry) -> WaitClaims | None:
    """Return the claims that remain once this entry is stored; None if the wait is over."""
    if head.wait is None or head.wait.id != claims.wait.wait_id:
        return None
    if entry.kind in (EntryKind.WAIT_CLAIMED, EntryKind.WAIT_CLAIM_ENDED):
        return claims.written(entry)
    return claims


Handler = Callable[[Head, Entry], None]


def _ignore(head: Head, entry: Entry) -> None:
    """Entries that change nothing the ledger must know."""


def _session_created(head: Head, entry: Entry) -> None:
    head.task = intern(entry.body["task"])  # one text for all sessions of a task
    parent = entry.body.get("parent")
    head.parent_session_id = intern(parent["session_id"]) if parent is not None else None
    assert entry.feed_offset is not None
    head.created_offset = entry.feed_offset


def _session_ended(status: SessionStatus) -> Handler:
    def handle(head: Head, entry: Entry) -> None:
        head.status = status

    return handle


def _run_created(head: Head, entry: Entry) -> None:
    head.run_id = entry.run_id
    head.attempt = int(entry.body.get("attempt", 1))
    head.open_steps = frozenset()
    head.wait = None
    _queued(head, entry)


def _queued(head: Head, entry: Entry) -> None:
    head.run_status = RunStatus.QUEUED if head.wait is None else RunStatus.WAITING
    head.retry_at = None
    head.ended_at = None
    head.outcome_offset = None
    head.queued_at = entry.recorded_at


def _run_executes(head: Head, entry: Entry) -> None:
    head.run_status = RunStatus.RUNNING if head.wait is None else RunStatus.WAITING
    head.retry_at = None
    head.queued_at = entry.recorded_at


def _run_attempt_failed(head: Head, entry: Entry) -> None:
    _queued(head, entry)
    head.attempt = int(entry.body["next_attempt"])
    head.retry_at = from_iso(entry.body["retry_at"])


def _run_retried(head: Head, entry: Entry) -> None:
    _queued(head, entry)
    head.attempt = int(entry.body["attempt"])


def _run_rewound(head: Head, entry: Entry) -> None:
    body = entry.body
    head.open_steps -= frozenset(body["set_aside"])
    head.attempt = int(body["attempt"])
    if body.get("opens_session"):
        head.status = SessionStatus.OPEN
    _queued(head, entry)


def _run_ended(status: RunStatus) -> Handler:
    def handle(head: Head, entry: Entry) -> None:
        head.run_status = status
        head.retry_at = None
        head.outcome_offset = entry.feed_offset
        if status is not RunStatus.BLOCKED:
            head.ended_at = entry.recorded_at

    return handle


def _step_started(head: Head, entry: Entry) -> None:
    head.open_steps |= {_op(entry)}


def _step_outcome(head: Head, entry: Entry) -> None:
    head.open_steps -= {_op(entry)}


def _wait_opened(head: Head, entry: Entry) -> None:
    body = entry.body
    head.wait = HeadWait(
        id=body["wait_id"],
        kind=intern(body["kind"]),
        op=_op(entry),
        token_id=body.get("token_id"),
        deadline_at=own_deadline(body),
        is_backoff=bool(body.get("backoff")),
        session_ids=tuple(body.get("session_ids", ())),
    )
    _set_escalation(head.wait, body)
    head.run_status = RunStatus.WAITING


def _wait_changed(head: Head, entry: Entry) -> None:
    if head.wait is None or head.wait.id != entry.body["wait_id"]:
        raise DataError(f"{head.session_id}: entry {entry.seq} changes a wait that is not pending")
    head.wait = copy.copy(head.wait)  # a head that is only dry-run shares it
    _set_escalation(head.wait, entry.body)


def _set_escalation(wait: HeadWait, body: Mapping[str, Any]) -> None:
    """Set the times of the next escalation step and of the default from an entry's body."""
    wait.escalates_at, wait.default_at = (
        from_iso(body[name]) if name in body else None
        for name in ("next_escalation_at", "default_at")
    )


def _wait_resolved(head: Head, entry: Entry) -> None:
    if head.wait is None or head.wait.id != entry.body["wait_id"]:
        raise DataError(f"{head.session_id}: entry {entry.seq} resolves a wait that is not pending")
    head.wait = None
    is_taken = entry.kind is EntryKind.WAIT_FULFILLED and "record_seq" in entry.body
    if is_taken and "kept_from" not in entry.body:
        _count(head, -1)
    following = entry.body.get("next")
    if head.run_status is RunStatus.WAITING and following is not None:
        head.run_status = RunStatus(following)
        head.queued_at = entry.recorded_at


def _input_accepted(head: Head, entry: Entry) -> None:
    if "key_hash" in entry.body:
        head.has_keys = True
    if "amends" not in entry.body:  # else it is held for the wait that it was given to
        _count(head, 1)


def _input_returned(head: Head, entry: Entry) -> None:
    _count(head, 1)


def _count(head: Head, more: int) -> None:
    if head.unconsumed is not None:
        head.unconsumed += more


def _op(entry: Entry) -> int:
    if entry.op is None:
        raise DataError(f"{entry.session_id}: entry {entry.seq} ({entry.kind}) has no op")
    return entry.op


_HANDLERS: Mapping[EntryKind, Handler] = {
    EntryKind.SESSION_CREATED: _session_created,
    EntryKind.SESSION_CLOSED: _session_ended(SessionStatus.CLOSED),
    EntryKind.SESSION_CANCELLED: _session_ended(SessionStatus.CANCELLED),
    EntryKind.SESSION_FORKED: _queued,
    EntryKind.RUN_CREATED: _run_created,
    EntryKind.RUN_STARTED: _run_executes,
    EntryKind.RUN_RESUMED: _run_executes,
    EntryKind.RUN_ATTEMPT_FAILED: _run_attempt_failed,
    EntryKind.RUN_RETRIED: _run_retried,
    EntryKind.RUN_REWOUND: _run_rewound,
    EntryKind.RUN_SUCCEEDED: _run_ended(RunStatus.SUCCEEDED),
    EntryKind.RUN_FAILED: _run_ended(RunStatus.FAILED),
    EntryKind.RUN_CANCELLED: _run_ended(RunStatus.CANCELLED),
    EntryKind.RUN_BLOCKED: _run_ended(RunStatus.BLOCKED),
    EntryKind.STEP_STARTED: _step_started,
    EntryKind.STEP_SUCCEEDED: _step_outcome,
    EntryKind.STEP_FAILED: _step_outcome,
    EntryKind.STEP_ABANDONED: _step_outcome,
    EntryKind.WAIT_OPENED: _wait_opened,
    EntryKind.WAIT_ASSIGNED: _wait_changed,
    EntryKind.WAIT_REMINDED: _wait_changed,
    EntryKind.WAIT_FULFILLED: _wait_resolved,
    EntryKind.WAIT_TIMED_OUT: _wait_resolved,
    EntryKind.WAIT_CANCELLED: _wait_resolved,
    EntryKind.INPUT_ACCEPTED: _input_accepted,
    EntryKind.INPUT_RETURNED: _input_returned,
}


Kind = tuple[Activity, bool, bool]

_KINDS: dict[Kind, Kind] = {
    (one, is_held, has_failed): (one, is_held, has_failed)
    for one in Activity
    for is_held in (False, True)
    for has_failed in (False, True)
}
"""One triple for all sessions that are counted under it: what they do, held, their newest run has failed."""


class Census:
    """Counts of sessions by activity, hold and failure."""

    def __init__(self) -> None:
        self._counts: Counter[Kind] = Counter()

    def recount(self, head: Head) -> None:
        """The head has changed."""
        counted = (
            _KINDS[head.activity, head.is_held, head.run_status is RunStatus.FAILED]
            if head.status is SessionStatus.OPEN or head.has_active_run
            else None
        )
        if counted == head.counted_as:
            return
        if head.counted_as is not None:
            self._counts[head.counted_as] -= 1
        if counted is not None:
            self._counts[counted] += 1
        head.counted_as = counted

    @property
    def held(self) -> int:
        """Number of sessions that an actor holds."""
        return sum(count for (_, is_held, _), count in self._counts.items() if is_held)

    @property
    def parked(self) -> int:
        """Number of unheld sessions that wait."""
        return self._counts[Activity.WAITING, False, False]

    @property
    def failed(self) -> int:
        """Number of sessions whose newest run failed."""
        return sum(count for (_, _, has_failed), count in self._counts.items() if has_failed)

    def by_activity(self) -> dict[str, int]:
        """By the names of activities."""
        found = dict.fromkeys((one.value for one in Activity), 0)
        for (activity, _, _), count in self._counts.items():
            found[activity.value] += count
        return found
