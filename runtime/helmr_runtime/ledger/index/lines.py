"""Lines: records that the ledger itself adds to an unheld session, in a commit with other entries.

A gated call is noted in its agent's session (S-109). Sent to a host, that note would cost extra commits: a start, an
adoption and a flush. As a line it shares the commit that it is about. The ledger decides it by the same
function as a host, on a state that it keeps of the sessions written last. A session that a host holds is the host's to
write (S-62): then there is no line, and the record is sent as any other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helmr_runtime.core.commands import FirstReceipt, Send, receipt_of
from helmr_runtime.core.decide import Decided, DecisionContext, TaskPolicy
from helmr_runtime.core.decide.inputs import key_hash, repeated, send
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.index.authored import (
    Chain,
    continue_head,
    find_start,
    repeated_start,
    start_entries,
)
from helmr_runtime.ledger.index.heads import Head, placed_behind
from helmr_runtime.ledger.index.ledger_index import LedgerIndex, digest
from helmr_runtime.ports import KnownKey, Loaded, SessionLine
from helmr_runtime.ports.ledger import restore

STATES_MAX = 64
"""Number of session states kept in memory; any other is read first."""


@dataclass(frozen=True, slots=True)
class PlannedLine:
    """A line whose session was looked at before it is its turn.

    Attributes:
        line: What is to be written.
        state: Of its session; None if there is none yet.
        older: What its idempotency key was used for, if the state does not know it.
    """

    line: SessionLine
    state: SessionState | None
    older: KnownKey | None = None

    @property
    def session_id(self) -> str:
        """The session that gets it."""
        return self.state.id if self.state is not None else self.line.start.session_id


@dataclass(frozen=True, slots=True)
class WrittenLine:
    """The entries to store for a line, and the reply to it; a repeated line has no entries."""

    entries: tuple[Entry, ...]
    reply: Mapping[str, Any]


class LineWriter:
    """Plans lines, and makes their entries.

    Args:
        index: The ledger's memory.
        chain: Keys of chains and bodies.
        entry: The entry at a feed offset.
        snapshot: A session as it is on disk.
        known_key: What an idempotency key was used for.
    """

    def __init__(
        self,
        index: Callable[[], LedgerIndex],
        chain: Chain,
        entry: Callable[[int], Awaitable[Entry]],
        snapshot: Callable[[str], Awaitable[Loaded]],
        known_key: Callable[[str, str, str], Awaitable[KnownKey | None]],
    ) -> None:
        self._index = index
        self._chain = chain
        self._entry = entry
        self._snapshot = snapshot
        self._known_key = known_key
        self._states: OrderedDict[str, SessionState] = OrderedDict()

    async def plan(self, line: SessionLine) -> PlannedLine | None:
        """Look at the line's session; None if it is a host's to write.

        Raises:
            ExternalIdConflict: The open session of that name has another task or payload.
        """
        head = self._head(line)
        if head is None:
            return PlannedLine(line, None)
        match = find_start(self._index(), line.start)
        assert match is not None
        repeated_start(line.start, match, await self._entry(match.feed_offset))
        if head.is_held:
            return None
        state = self._states.get(head.session_id)
        if state is None or (state.seq, state.last_hash) != head.last:
            state = restore(head.session_id, await self._snapshot(head.session_id))
        return PlannedLine(line, state, await self._older(head, state, line.send))

    def _head(self, line: SessionLine) -> Head | None:
        """Return the head of the open session that the line's start names."""
        assert line.start.external_id is not None
        index = self._index()
        session_id = index.names.get(digest(line.start.external_id))
        return index.heads[session_id] if session_id is not None else None

    async def _older(self, head: Head, state: SessionState, record: Send) -> KnownKey | None:
        """A state that was made of a checkpoint, or is long, does not have all keys."""
        if record.idempotency_key is None:
            return None
        hashed = key_hash(record.idempotency_key)
        has_all = not (head.checkpoint_offset or state.has_forgotten_keys)
        if has_all or (record.stream, hashed) in state.send_keys:
            return None
        return await self._known_key(head.session_id, record.stream, hashed)

    def write(self, planned: PlannedLine, now: datetime) -> WrittenLine | None:
        """The line's entries, and those of its session if it begins with it; None if it is not as it was planned.

        Raises:
            PersonDisabled: Its sender may act no more.
            HelmrError: The record is refused.
        """
        line, index = planned.line, self._index()
        index.people.disabled.check(line.send.principal)
        head = self._head(line)
        if planned.state is None:
            return self._begun(line, now) if head is None else None
        state = planned.state
        if head is None or head.is_held or (state.seq, state.last_hash) != head.last:
            return None
        decided = _decided(state, line.send, now, planned.older)
        key, cipher = self._chain.of(head), self._chain.bodies.cipher(head.session_id)
        return WrittenLine(continue_head(head, decided.drafts, now, key, cipher), decided.reply)

    def _begun(self, line: SessionLine, now: datetime) -> WrittenLine:
        session_id = line.start.session_id
        key, key_id = self._chain.new(session_id)
        cipher = self._chain.bodies.cipher(session_id)
        begun = start_entries(line.start, now, key, key_id, cipher)
        state = SessionState(session_id)
        for entry in begun:
            state.apply(entry)
        decided = _decided(state, line.send, now, None)
        head = placed_behind(Head(session_id), begun)
        added = continue_head(head, decided.drafts, now, key, cipher)
        return WrittenLine((*begun, *added), decided.reply)

    def stored(self, planned: PlannedLine, entries: Sequence[Entry]) -> None:
        """Keep the session's state as of the stored entries."""
        state = planned.state if planned.state is not None else SessionState(planned.session_id)
        for entry in entries:
            state.apply(entry)
        self._states[state.id] = state
        self._states.move_to_end(state.id)
        if len(self._states) > STATES_MAX:
            self._states.popitem(last=False)


def again(line: SessionLine, entry: Entry) -> Mapping[str, Any]:
    """The first receipt of a line's operation, which that entry carries.

    Raises:
        OperationConflict: The id was used with another request.
    """
    first = FirstReceipt.of(entry)
    assert first is not None
    assert line.send.operation is not None
    return first.again(line.send.operation, line.send.principal)


def _decided(state: SessionState, record: Send, now: datetime, older: KnownKey | None) -> Decided:
    if older is not None:
        return Decided(reply=repeated((older.data_hash, receipt_of(older.entry)), record.data))
    policy = TaskPolicy(inputs=frozenset({record.stream}))
    return send(state, record, DecisionContext(now=now, policy=policy, is_hot=False))
