"""What a host knows of the claims of the session's pending wait (S-81): told with the adoption, then by the gateway.

The ledger decides who is at a wait; here an answer is held against it, and what is to stand in the transcript is
written with the session's next entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from helmr_runtime.core.claims import Claims
from helmr_runtime.core.entries import Draft, Entry, EntryKind, from_iso
from helmr_runtime.core.run import Wait


class SessionClaims:
    """Of one adoption.

    Args:
        known: What the ledger said when the session was adopted.
    """

    def __init__(self, known: Claims | None) -> None:
        self._known = known
        self._written_through: datetime | None = None

    def note(self, claims: Claims) -> None:
        """What the ledger says now. Calls may overtake each other: what is older than what is known is passed over."""
        if self._known is None or claims.as_of > self._known.as_of:
            self._known = claims.without_written(self._written_through)

    def of(self, wait: Wait | None) -> Claims | None:
        """The claims of that wait."""
        known = self._known
        is_its = known is not None and wait is not None and known.wait.wait_id == wait.id
        return known if is_its else None

    def ahead_of(
        self, drafts: Sequence[Draft], wait: Wait | None, now: datetime
    ) -> Sequence[Draft]:
        """What is to be written before these; nothing if there are none."""
        known = self.of(wait)
        return known.pending(now) if known is not None and drafts else ()

    def applied(self, entry: Entry) -> None:
        """An entry has been decided; it is on its way to the disk."""
        if entry.kind in (EntryKind.WAIT_CLAIMED, EntryKind.WAIT_CLAIM_ENDED):
            self._written_through = from_iso(entry.body["at"])
            if self._known is not None:
                self._known = self._known.written(entry)
