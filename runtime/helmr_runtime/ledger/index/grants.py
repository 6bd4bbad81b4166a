"""Standing grants in the ledger's memory. Pure, folded from entries.

Invariants: S-107 (a grant counts from the commit that writes it until the one that revokes it, at most until its time).
"""

from __future__ import annotations

from datetime import datetime

from helmr.errors import GrantNotFound
from helmr_runtime.core.entries import Entry, EntryKind, iso
from helmr_runtime.core.grants import GRANTS_MAX, Grant, changed, created
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.views import Json, iso_or_none

OF_GRANTS = frozenset({EntryKind.GRANT_CREATED, EntryKind.GRANT_REVOKED})
"""Kinds of entries that change this index."""


class GrantIndex:
    """The newest grants by id, oldest first, and by the agent's session.

    Attributes:
        touched: Ids whose rows must be written again.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Grant] = {}
        self.touched: set[str] = set()
        self._of_agent: dict[tuple[str, str], set[str]] = {}

    def apply(self, entry: Entry) -> None:
        """Fold one stored entry."""
        if entry.kind is EntryKind.GRANT_CREATED:
            grant = created(entry)
        else:
            known = self.by_id.get(entry.body["grant_id"])
            if known is None:
                return
            grant = changed(known, entry)
        self.touched.add(grant.id)
        self.admit(grant)

    def admit(self, grant: Grant) -> None:
        """Store a grant's current state; the oldest makes room."""
        self.by_id[grant.id] = grant
        self._of_agent.setdefault((grant.scope.client, grant.scope.agent), set()).add(grant.id)
        if len(self.by_id) > GRANTS_MAX:
            self._forget(next(iter(self.by_id.values())))

    def of_agent(self, client: str, agent: str, now: datetime) -> list[Grant]:
        """Return the grants in force in an agent's session, oldest first."""
        found = (self.by_id[one] for one in self._of_agent.get((client, agent), ()))
        return sorted((one for one in found if one.counts(now)), key=lambda one: one.created_offset)

    def given_by(self, person: str, now: datetime) -> list[Grant]:
        """Return the grants in force that this person gave."""
        found = self.by_id.values()
        return [one for one in found if one.counts(now) and one.created_by.person == person]

    def get(self, grant_id: str) -> Grant:
        """A grant.

        Raises:
            GrantNotFound: None with that id.
        """
        grant = self.by_id.get(grant_id)
        if grant is None:
            raise GrantNotFound(f"there is no grant {grant_id}", grant_id=grant_id)
        return grant

    def page(self, cursor: str | None, limit: int) -> Json:
        """A page of `GrantInfo`, newest first."""
        key = views.decode_cursor("grants", cursor, (int,))
        newest = sorted(self.by_id.values(), key=lambda one: -one.created_offset)
        left = [one for one in newest if key is None or one.created_offset < int(key[0])]
        following = (
            views.encode_cursor("grants", [left[limit - 1].created_offset])
            if len(left) > limit
            else None
        )
        return views.page([grant_json(one) for one in left[:limit]], following)

    def _forget(self, grant: Grant) -> None:
        del self.by_id[grant.id]
        self.touched.discard(grant.id)
        named = (grant.scope.client, grant.scope.agent)
        self._of_agent[named].discard(grant.id)
        if not self._of_agent[named]:
            del self._of_agent[named]


def grant_json(grant: Grant) -> Json:
    """A `GrantInfo`."""
    return {
        "id": grant.id,
        **grant.scope.to_json(),
        "session_id": grant.session_id,
        "created_by": grant.created_by.to_json(),
        "created_at": iso(grant.created_at),
        "expires_at": iso(grant.expires_at),
        "revoked_at": iso_or_none(grant.revoked_at),
    }
