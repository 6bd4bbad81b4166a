"""Entries that the ledger writes of its own: facts, scheduled starts, the ends of waits of sessions nobody holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from helmr_runtime.core.commands import TokenEnded
from helmr_runtime.core.entries import Draft, Entry
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.index.authored import (
    Chain,
    due_entries,
    escalated_entries,
    fact_entries,
    start_entries,
    token_end_entries,
)
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.log.batches import Write
from helmr_runtime.ports import StartSession


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
        """A schedule is due."""
        key, key_id = self._chain.new(start.session_id)
        cipher = self._chain.bodies.cipher(start.session_id)
        return Write(start.session_id, start_entries(start, now, key, key_id, cipher))

    def facts(self, system: Head, drafts: Sequence[Draft], at: datetime) -> tuple[Entry, ...]:
        """Facts of no session, behind the system stream's last entry."""
        return fact_entries(system, drafts, at, self._chain)
