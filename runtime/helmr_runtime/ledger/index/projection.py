"""Changes that the tables lack so far, in memory: the newest entries, and the row changes that follow from them. Pure.

The tables are written later. A list waits for them; a single object combines its row with the changes here.
Followers, adoptions and the projection read the newest entries again from here.

Invariants: S-53 (the tables are exactly the fold of the entries), S-11, S-26; every read shows what was acknowledged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from helmr.wire.ids import SYSTEM_STREAM
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import sessions_of
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.nouns import (
    CHANGE_WAITS,
    Changes,
    RunRow,
    SessionRow,
    WaitRow,
    changed,
    wait_changes,
)
from helmr_runtime.ledger.index.heads import Head


@dataclass(frozen=True, slots=True)
class OperationRow:
    """The place of an accepted operation's receipt (S-61)."""

    operation_id: str
    session_id: str
    feed_offset: int
    request_hash: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class SendKeyRow:
    """The record that an idempotency key was used for (S-26)."""

    session_id: str
    stream: str
    key_hash: str
    data_hash: str
    record_offset: int


@dataclass(slots=True)
class Projection:
    """The changes since the tables were last written.

    Attributes:
        through: Feed offset of the last entry folded.
        new_sessions, new_runs, new_waits: Rows as they began.
        runs, waits: Changed columns of new and of earlier rows.
        touched: Sessions whose numbers changed; the rows are made from their heads when written.
        token_tags: JSON text of the tags of new tokens; their other columns are in the index.
        chains: New sessions, and the id of the master key that their hash chain begins with.
        pruned: Sessions whose rows must be deleted.
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
        """Add the changes of a later projection, as if all had been folded here."""
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
            case kind if kind in CHANGE_WAITS:
                wait_id = entry.body["wait_id"]
                self.waits[wait_id] = {**self.waits.get(wait_id, {}), **wait_changes(entry)}
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
        """Return the current row of a run that is new here."""
        return changed(self.new_runs[run_id], self.runs.get(run_id))

    def wait(self, wait_id: str) -> WaitRow:
        """Return the current row of a wait that is new here."""
        return changed(self.new_waits[wait_id], self.waits.get(wait_id))


def run_changes(head: Head) -> Changes:
    """Return the columns of a session's newest run that its head determines."""
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
    """Return the columns of a session that its head determines."""
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


R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[R]):
    """A row's state in memory: the row as it began, if it is new, and its changes since, oldest first."""

    began: R | None
    changes: Changes

    def over(self, row: R | None) -> R | None:
        """Return the current row, given the table's; None if the object does not exist."""
        base = self.began if self.began is not None else row
        return changed(base, self.changes) if base is not None else None

    @property
    def whole(self) -> R | None:
        """Return the current row if memory has all of it; None otherwise."""
        return self.over(None)


class Unwritten:
    """Projections that the tables lack so far.

    Args:
        layers: Newest first: the one being gathered, then the one being written, if any.
        heads: The index's heads, which give a session's changing columns.
    """

    def __init__(self, layers: Sequence[Projection], heads: Mapping[str, Head]) -> None:
        self._layers = layers
        self._heads = heads

    def session(self, session_id: str) -> Known[SessionRow]:
        """Return what memory knows of a session."""
        is_touched = any(session_id in layer.touched for layer in self._layers)
        return Known(
            self._first(lambda layer: layer.new_sessions.get(session_id)),
            session_changes(self._heads[session_id]) if is_touched else {},
        )

    def run(self, run_id: str) -> Known[RunRow]:
        """Return what memory knows of a run."""
        return Known(
            self._first(lambda layer: layer.new_runs.get(run_id)),
            self._changes(lambda layer: layer.runs.get(run_id)),
        )

    def wait(self, wait_id: str) -> Known[WaitRow]:
        """Return what memory knows of a wait."""
        return Known(
            self._first(lambda layer: layer.new_waits.get(wait_id)),
            self._changes(lambda layer: layer.waits.get(wait_id)),
        )

    def send_key(self, session_id: str, stream: str, key_hash: str) -> SendKeyRow | None:
        """Return the use of an idempotency key, if the tables lack it so far."""
        return self._first(lambda layer: layer.send_keys.get((session_id, stream, key_hash)))

    def _changes(self, look: Callable[[Projection], Changes | None]) -> Changes:
        found: Changes = {}
        for layer in reversed(self._layers):
            found |= look(layer) or {}
        return found

    def _first(self, look: Callable[[Projection], T | None]) -> T | None:
        return next((found for layer in self._layers if (found := look(layer)) is not None), None)


ENTRIES_MAX = 4_096
TEXT_MAX = 32 * 1024 * 1024
"""Bounds of the tail: entries, and characters of their bodies."""


class FeedTail:
    """Entries by feed offset, consecutive, the oldest dropped first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._text = 0

    def add(self, entry: Entry) -> None:
        """Keep a stored entry."""
        assert entry.feed_offset is not None
        self._entries[entry.feed_offset] = entry
        self._text += len(entry.body_json)
        while len(self._entries) > ENTRIES_MAX or (
            self._text > TEXT_MAX and len(self._entries) > 1
        ):
            _, dropped = self._entries.popitem(last=False)
            self._text -= len(dropped.body_json)

    def extend(self, entries: Iterable[Entry]) -> None:
        """Keep stored entries."""
        for entry in entries:
            self.add(entry)

    def get(self, feed_offset: int) -> Entry | None:
        """The entry at that offset, if it is still here."""
        return self._entries.get(feed_offset)

    def after(self, feed_offset: int, limit: int) -> list[Entry] | None:
        """The entries behind an offset; None if some of them are no longer here."""
        if feed_offset + 1 not in self._entries:
            return None
        last = min(next(reversed(self._entries)), feed_offset + limit)
        return [self._entries[offset] for offset in range(feed_offset + 1, last + 1)]

    def forget_through(self, feed_offset: int) -> None:
        """Drop entries up to this offset: some were pruned, and the tail must have no gaps."""
        while self._entries and next(iter(self._entries)) <= feed_offset:
            _, dropped = self._entries.popitem(last=False)
            self._text -= len(dropped.body_json)

    def split(self, offsets: Iterable[int]) -> tuple[dict[int, Entry], list[int]]:
        """Return the entries that are in memory, and the offsets of those that must be read."""
        found: dict[int, Entry] = {}
        missing: list[int] = []
        for offset in offsets:
            entry = self._entries.get(offset)
            if entry is None:
                missing.append(offset)
            else:
                found[offset] = entry
        return found, missing
