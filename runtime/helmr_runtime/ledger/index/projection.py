"""What entries make of the rows that lists and queries read, gathered until the tables are written. Pure.

Invariants: S-53 (the tables are exactly the fold of the entries), S-11, S-26.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from helmr.ids import SYSTEM_STREAM
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.ledger_facts import sessions_of
from helmr_runtime.core.nouns import Changes, RunRow, SessionRow, WaitRow, changed, wait_changes
from helmr_runtime.ledger.index.heads import Head


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


@dataclass(slots=True)
class Projection:
    """What changed since the tables were last written.

    Attributes:
        through: Feed offset of the last entry folded.
        new_sessions, new_runs, new_waits: Rows as they began.
        runs, waits: What has changed of those and of earlier ones since.
        touched: Sessions whose numbers changed; the rows are made from their heads when written.
        token_tags: JSON text of the tags of new tokens; their other columns are in the index.
        chains: New sessions, and the id of the master key that their hash chain begins with.
        pruned: Sessions whose rows are to go.
    """

    through: int = 0
    new_sessions: dict[str, SessionRow] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    new_runs: dict[str, RunRow] = field(default_factory=dict)
    runs: dict[str, Changes] = field(default_factory=dict)
    new_waits: dict[str, WaitRow] = field(default_factory=dict)
    waits: dict[str, Changes] = field(default_factory=dict)
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
        for wait_id, changes in later.waits.items():
            self.waits[wait_id] = {**self.waits.get(wait_id, {}), **changes}
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
                self.new_sessions[entry.session_id] = SessionRow.created(entry)
            case EntryKind.RUN_CREATED:
                row = RunRow.created(entry, head.task)
                self.new_runs[row.run_id] = row
            case EntryKind.WAIT_OPENED:
                opened = WaitRow.opened(entry, head.task, head.parent_session_id)
                self.new_waits[opened.wait_id] = opened
            case EntryKind.TOKEN_CREATED if "copied_from" not in entry.body:
                tags = jsontext.encode(entry.body["tags"])
                self.token_tags[entry.body["token_id"]] = tags
            case EntryKind.INPUT_ACCEPTED:
                self._input_accepted(entry, entry.feed_offset)
            case EntryKind.SESSIONS_PRUNED:
                self.pruned += sessions_of(entry.body)
            case _ if changes := wait_changes(entry):
                wait_id = entry.body["wait_id"]
                self.waits[wait_id] = {**self.waits.get(wait_id, {}), **changes}
            case _:
                pass
        if entry.seq == 1 and head.key_id is not None:
            self.chains[entry.session_id] = head.key_id
        if entry.run_id is not None and entry.run_id == head.run_id:
            self.runs[entry.run_id] = run_changes(head)
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

    def _input_accepted(self, entry: Entry, feed_offset: int) -> None:
        body = entry.body
        key_hash = body.get("key_hash")
        if key_hash is None:
            return
        self.send_keys[entry.session_id, body["stream"], key_hash] = SendKeyRow(
            entry.session_id, body["stream"], key_hash, body["data_hash"], feed_offset
        )

    def session(self, head: Head) -> SessionRow:
        """The row of a session that is new here, as its head is now."""
        return changed(self.new_sessions[head.session_id], session_changes(head))

    def run(self, run_id: str) -> RunRow:
        """The row of a run that is new here, as it is now."""
        return changed(self.new_runs[run_id], self.runs.get(run_id))

    def wait(self, wait_id: str) -> WaitRow:
        """The row of a wait that is new here, as it is now."""
        return changed(self.new_waits[wait_id], self.waits.get(wait_id))


def run_changes(head: Head) -> Changes:
    """What changes of a session's newest run, as its head is now."""
    assert head.run_status is not None
    return {
        "status": head.run_status.value,
        "attempt": head.attempt,
        "retry_at": head.retry_at,
        "queued_at": head.queued_at,
        "ended_at": head.ended_at,
        "outcome_offset": head.outcome_offset,
    }


def session_changes(head: Head) -> Changes:
    """What changes of a session, as its head is now."""
    return {
        "status": head.status.value,
        "activity": head.activity.value,
        "run_id": head.run_id,
        "wait_id": head.wait.id if head.wait is not None else None,
        "next_seq": head.next_seq,
        "last_offset": head.last_offset,
        "updated_at": head.last_at,
        "epoch": head.epoch,
        "checkpoint_offset": head.checkpoint_offset,
        "tail_count": len(head.tail),
        "open_steps": len(head.open_steps),
        "has_keys": head.has_keys,
    }
