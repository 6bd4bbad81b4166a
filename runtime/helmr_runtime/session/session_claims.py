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
        self._written: tuple[str, datetime] | None = None
        """Of which wait claims were written last, and up to when."""

    def note(self, claims: Claims, wait: Wait | None) -> None:
        """What the ledger says now; `wait` is the pending one, and what is of another is passed over.

        Calls may overtake each other: so is what is older than what is known of the same wait. Times of two waits say
        nothing: the clock may have been set back between them.
        """
        if wait is None or claims.wait.wait_id != wait.id:
            return
        known = self.of(wait)
        if known is None or claims.as_of > known.as_of:
            of, through = self._written or (None, None)
            self._known = claims.without_written(through if of == wait.id else None)

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
            self._written = (entry.body["wait_id"], from_iso(entry.body["at"]))
            if self._known is not None:
                self._known = self._known.written(entry)
