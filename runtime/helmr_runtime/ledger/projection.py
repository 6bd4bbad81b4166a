"""The tables' rows, folded from entries: what lists and queries read. Pure.

One projection collects what changed since the tables were last written. Rows are split into what never changes
(written once) and numbers, times and short statuses (written again); text that a view needs beside them is read
from the entry that a row's `…_offset` names, so that the large tables never have their text rewritten.

Invariants: S-53 (the tables are exactly the fold of the entries), S-11, S-26.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from helmr.ids import SYSTEM_STREAM
from helmr.models import WaitPriority, WaitStatus
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, from_iso
from helmr_runtime.core.pruning import sessions_of
from helmr_runtime.ledger.heads import Head


@dataclass(frozen=True, slots=True)
class NewSession:
    """What of a session never changes."""

    session_id: str
    created_offset: int
    created_at: datetime
    task: str
    external_id: str | None
    start_key: str | None
    tags: str
    """JSON text of a list of strings."""
    metadata: str
    """JSON text of an object."""
    origin_id: str | None = None
    """The session that this is a fork of, and the seq in it behind which it begins (S-86)."""
    origin_seq: int | None = None
    parent_id: str | None = None
    """The session that this is a child of, the run of it that made it, and by which op (S-91)."""
    parent_run_id: str | None = None
    parent_op: int | None = None


@dataclass(frozen=True, slots=True)
class SessionNumbers:
    """What of a session changes: its head, but for what only the ledger's memory needs."""

    session_id: str
    status: str
    activity: str
    run_id: str | None
    wait_id: str | None
    next_seq: int
    last_offset: int
    updated_at: datetime
    epoch: int
    checkpoint_offset: int
    tail_count: int
    open_steps: int
    has_keys: bool


@dataclass(frozen=True, slots=True)
class NewRun:
    """What of a run never changes; payload and origin stand in the entry at `created_offset`."""

    run_id: str
    session_id: str
    created_offset: int
    created_at: datetime
    task: str


@dataclass(frozen=True, slots=True)
class RunNumbers:
    """What of a run changes; result or error stand in the entry at `outcome_offset`."""

    run_id: str
    status: str
    attempt: int
    retry_at: datetime | None
    queued_at: datetime | None
    ended_at: datetime | None
    outcome_offset: int | None


@dataclass(frozen=True, slots=True)
class NewWait:
    """What of a wait never changes, but for `assignee`; subject and body stand in the entry at `opened_offset`."""

    wait_id: str
    session_id: str
    run_id: str
    op: int
    opened_offset: int
    opened_at: datetime
    kind: str
    task: str
    stream: str | None
    correlation_id: str | None
    token_id: str | None
    deadline_at: datetime | None
    is_backoff: bool
    priority: str = WaitPriority.NORMAL.value
    tags: str = "[]"
    """JSON text of a list of strings; so is `session_tags`."""
    session_tags: str = "[]"
    assignee: str | None = None
    session_ids: str = "[]"
    """JSON text of a list: the children of which it awaits the first to end."""


@dataclass(frozen=True, slots=True)
class WaitNumbers:
    """What of a wait changes: it ends once (S-11), until then its escalation runs (S-82)."""

    wait_id: str
    status: str
    resolved_offset: int | None
    resolved_at: datetime | None
    mode: str | None = None
    next_escalation: int | None = None
    next_escalation_at: datetime | None = None
    default_at: datetime | None = None
    batch_id: str | None = None


@dataclass(frozen=True, slots=True)
class OperationRow:
    """Where an accepted operation's receipt stands (S-61)."""

    operation_id: str
    session_id: str
    feed_offset: int
    request_hash: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class SendKeyRow:
    """What an idempotency key was used for (S-26)."""

    session_id: str
    stream: str
    key_hash: str
    data_hash: str
    record_offset: int


_WAIT_OUTCOMES = {
    EntryKind.WAIT_FULFILLED: WaitStatus.FULFILLED,
    EntryKind.WAIT_TIMED_OUT: WaitStatus.TIMED_OUT,
    EntryKind.WAIT_CANCELLED: WaitStatus.CANCELLED,
}


@dataclass(slots=True)
class Projection:
    """What changed since the tables were last written.

    Attributes:
        through: Feed offset of the last entry folded.
        assigned: Whom waits of earlier projections concern now.
        touched: Sessions whose numbers changed; the rows are made from their heads when written.
        token_tags: JSON text of the tags of new tokens; their other columns are in the index.
        chains: New sessions, and the id of the master key that their hash chain begins with.
        pruned: Sessions whose rows are to go.
    """

    through: int = 0
    new_sessions: dict[str, NewSession] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    new_runs: dict[str, NewRun] = field(default_factory=dict)
    runs: dict[str, RunNumbers] = field(default_factory=dict)
    new_waits: dict[str, NewWait] = field(default_factory=dict)
    waits: dict[str, WaitNumbers] = field(default_factory=dict)
    assigned: dict[str, tuple[str | None]] = field(default_factory=dict)
    operations: list[OperationRow] = field(default_factory=list)
    send_keys: dict[tuple[str, str, str], SendKeyRow] = field(default_factory=dict)
    token_tags: dict[str, str] = field(default_factory=dict)
    chains: dict[str, str] = field(default_factory=dict)
    pruned: list[str] = field(default_factory=list)

    def absorb(self, later: Projection) -> None:
        """Take in what was gathered after this, as if all had been folded here."""
        self.through = later.through
        self.new_sessions |= later.new_sessions
        self.touched |= later.touched
        self.new_runs |= later.new_runs
        self.runs |= later.runs
        self.new_waits |= later.new_waits
        self.waits |= later.waits
        for wait_id, (assignee,) in later.assigned.items():
            self._wait_assigned(wait_id, assignee)
        self.operations += later.operations
        self.send_keys |= later.send_keys
        self.token_tags |= later.token_tags
        self.chains |= later.chains
        self.pruned += later.pruned

    def fold(self, entry: Entry, head: Head) -> None:
        """Fold one stored entry, after its session's head."""
        assert entry.feed_offset is not None
        self.through = entry.feed_offset
        if entry.session_id != SYSTEM_STREAM:
            self.touched.add(entry.session_id)
        match entry.kind:
            case EntryKind.SESSION_CREATED:
                self._session_created(entry, entry.feed_offset)
            case EntryKind.RUN_CREATED:
                self._run_created(entry, head, entry.feed_offset)
            case EntryKind.WAIT_OPENED:
                self._wait_opened(entry, head, entry.feed_offset)
            case EntryKind.WAIT_FULFILLED | EntryKind.WAIT_TIMED_OUT | EntryKind.WAIT_CANCELLED:
                self._wait_resolved(entry)
            case EntryKind.WAIT_ASSIGNED:
                self._wait_assigned(entry.body["wait_id"], entry.body.get("assignee"))
                if "counted_at" in entry.body:
                    self._wait_pending(entry.body)
            case EntryKind.WAIT_REMINDED:
                self._wait_pending(entry.body)
            case EntryKind.TOKEN_CREATED if "copied_from" not in entry.body:
                tags = jsontext.encode(entry.body["tags"])
                self.token_tags[entry.body["token_id"]] = tags
            case EntryKind.INPUT_ACCEPTED:
                self._input_accepted(entry, entry.feed_offset)
            case EntryKind.SESSIONS_PRUNED:
                self.pruned += sessions_of(entry.body)
            case _:
                pass
        if entry.seq == 1 and head.key_id is not None:
            self.chains[entry.session_id] = head.key_id
        if entry.run_id is not None and entry.run_id == head.run_id:
            self.runs[entry.run_id] = run_numbers(head, entry.run_id)
        operation = entry.body.get("operation")
        if operation is not None:
            self.operations.append(
                OperationRow(
                    operation["id"],
                    entry.session_id,
                    entry.feed_offset,
                    operation["request_hash"],
                    entry.recorded_at,
                )
            )

    def _session_created(self, entry: Entry, feed_offset: int) -> None:
        body = entry.body
        origin, parent = body.get("forked_from", {}), body.get("parent", {})
        self.new_sessions[entry.session_id] = NewSession(
            session_id=entry.session_id,
            created_offset=feed_offset,
            created_at=entry.recorded_at,
            task=body["task"],
            external_id=body.get("external_id"),
            start_key=body.get("idempotency_key_hash"),
            tags=jsontext.encode(body.get("tags", [])),
            metadata=jsontext.encode(body.get("metadata", {})),
            origin_id=origin.get("session_id"),
            origin_seq=origin.get("seq"),
            parent_id=parent.get("session_id"),
            parent_run_id=parent.get("run_id"),
            parent_op=parent.get("op"),
        )

    def _run_created(self, entry: Entry, head: Head, feed_offset: int) -> None:
        assert entry.run_id is not None
        self.new_runs[entry.run_id] = NewRun(
            run_id=entry.run_id,
            session_id=entry.session_id,
            created_offset=feed_offset,
            created_at=entry.recorded_at,
            task=head.task,
        )

    def _wait_opened(self, entry: Entry, head: Head, feed_offset: int) -> None:
        body = entry.body
        assert entry.run_id is not None
        assert entry.op is not None
        deadline = body.get("deadline_at")
        wait_id = body["wait_id"]
        self.new_waits[wait_id] = NewWait(
            wait_id=wait_id,
            session_id=entry.session_id,
            run_id=entry.run_id,
            op=entry.op,
            opened_offset=feed_offset,
            opened_at=entry.recorded_at,
            kind=body["kind"],
            task=head.task,
            stream=body.get("stream"),
            correlation_id=body.get("correlation_id"),
            token_id=body.get("token_id"),
            deadline_at=from_iso(deadline) if deadline is not None else None,
            is_backoff=bool(body.get("backoff")),
            priority=body.get("priority", WaitPriority.NORMAL.value),
            tags=jsontext.encode(body.get("tags", [])),
            session_tags=jsontext.encode(body.get("session_tags", [])),
            assignee=body.get("assignee"),
            session_ids=jsontext.encode(body.get("session_ids", [])),
        )
        self._wait_pending(body)

    def _wait_pending(self, body: Mapping[str, Any]) -> None:
        """What is next on the wait's escalation, as the entry with that body says."""
        next_escalation_at, default_at = (
            from_iso(body[name]) if name in body else None
            for name in ("next_escalation_at", "default_at")
        )
        wait_id = body["wait_id"]
        self.waits[wait_id] = WaitNumbers(
            wait_id,
            WaitStatus.PENDING.value,
            resolved_offset=None,
            resolved_at=None,
            next_escalation=body.get("next_escalation"),
            next_escalation_at=next_escalation_at,
            default_at=default_at,
        )

    def _wait_resolved(self, entry: Entry) -> None:
        wait_id = entry.body["wait_id"]
        status = _WAIT_OUTCOMES[entry.kind].value
        self.waits[wait_id] = WaitNumbers(
            wait_id,
            status,
            entry.feed_offset,
            entry.recorded_at,
            entry.body.get("mode"),
            batch_id=entry.body.get("batch_id"),
        )

    def _wait_assigned(self, wait_id: str, assignee: str | None) -> None:
        new = self.new_waits.get(wait_id)
        if new is not None:
            self.new_waits[wait_id] = replace(new, assignee=assignee)
        else:
            self.assigned[wait_id] = (assignee,)

    def _input_accepted(self, entry: Entry, feed_offset: int) -> None:
        body = entry.body
        key_hash = body.get("key_hash")
        if key_hash is None:
            return
        self.send_keys[entry.session_id, body["stream"], key_hash] = SendKeyRow(
            entry.session_id, body["stream"], key_hash, body["data_hash"], feed_offset
        )


def run_numbers(head: Head, run_id: str) -> RunNumbers:
    """The row of a session's newest run."""
    assert head.run_status is not None
    return RunNumbers(
        run_id=run_id,
        status=head.run_status.value,
        attempt=head.attempt,
        retry_at=head.retry_at,
        queued_at=head.queued_at,
        ended_at=head.ended_at,
        outcome_offset=head.outcome_offset,
    )


def session_numbers(head: Head) -> SessionNumbers:
    """The row of a session, as its head is now."""
    assert head.last_at is not None
    return SessionNumbers(
        session_id=head.session_id,
        status=head.status.value,
        activity=head.activity.value,
        run_id=head.run_id,
        wait_id=head.wait.id if head.wait is not None else None,
        next_seq=head.next_seq,
        last_offset=head.last_offset,
        updated_at=head.last_at,
        epoch=head.epoch,
        checkpoint_offset=head.checkpoint_offset,
        tail_count=len(head.tail),
        open_steps=len(head.open_steps),
        has_keys=head.has_keys,
    )
