"""Standing grants in the ledger's memory. Pure, folded from entries.

Invariants: S-107 (a grant counts from the commit that writes it until the one that revokes it, at most until its time),
S-117 (the grants of a person who is disabled end in that commit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from helmr_runtime.core.entries import Draft, Entry, EntryKind
from helmr_runtime.features.gate.facts import (
    CREATED,
    GRANTS_MAX,
    REVOKED,
    Grant,
    GrantRow,
    created,
    receipt,
)
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.features import FactTable, FeatureMemory, LedgerPart
from helmr_runtime.ledger.index.views import Json


class GrantMemory(FeatureMemory[Grant]):
    """The newest grants by id, oldest first, and by the agent's session."""

    def __init__(self) -> None:
        super().__init__()
        self._of_agent: dict[tuple[str, str], set[str]] = {}

    def apply(self, entry: Entry) -> None:
        """Fold one stored entry."""
        if entry.kind is CREATED:
            self._set(created(entry))
        else:
            known = self.things.get(entry.body["grant_id"])
            if known is None or known.revoked_at is not None:
                return
            self._set(replace(known, revoked_at=entry.recorded_at))
        self.touched.add(entry.body["grant_id"])

    def admit(self, row: GrantRow, entry: Entry) -> None:
        """Take in a grant that was read from the tables."""
        self._set(replace(created(entry), revoked_at=row.revoked_at))

    def follows(self, fact: Draft, now: datetime) -> Sequence[Draft]:
        """Revoke what a person has given who is disabled."""
        if fact.kind is not EntryKind.PERSON_DISABLED:
            return ()
        names = fact.body["names"]
        return [
            Draft(REVOKED, {"grant_id": one.id}, principal=fact.principal)
            for one in self.things.values()
            if one.counts(now) and one.created_by.person in names
        ]

    def of_agent(self, client: str, agent: str, now: datetime) -> list[Grant]:
        """Return the grants in force in an agent's session, oldest first."""
        found = (self.things[one] for one in self._of_agent.get((client, agent), ()))
        return sorted((one for one in found if one.counts(now)), key=lambda one: one.created_offset)

    def page(self, cursor: str | None, limit: int | None) -> Json:
        """A page of `GrantInfo`, newest first."""
        limit = views.limit_of(limit)
        key = views.decode_cursor("grants", cursor, (int,))
        newest = sorted(self.things.values(), key=lambda one: -one.created_offset)
        left = [one for one in newest if key is None or one.created_offset < int(key[0])]
        following = (
            views.encode_cursor("grants", [left[limit - 1].created_offset])
            if len(left) > limit
            else None
        )
        return views.page([one.to_json() for one in left[:limit]], following)

    def _set(self, grant: Grant) -> None:
        self.things[grant.id] = grant
        self._of_agent.setdefault((grant.scope.client, grant.scope.agent), set()).add(grant.id)
        if len(self.things) > GRANTS_MAX:
            self._forget(next(iter(self.things.values())))

    def _forget(self, grant: Grant) -> None:
        """The oldest makes room; its row stays."""
        del self.things[grant.id]
        self.touched.discard(grant.id)
        named = (grant.scope.client, grant.scope.agent)
        self._of_agent[named].discard(grant.id)
        if not self._of_agent[named]:
            del self._of_agent[named]


TABLE = FactTable("grants", GrantRow, "grant_rows", "created_offset", rows_max=GRANTS_MAX)

PART = LedgerPart(memory=GrantMemory, kinds={CREATED: receipt, REVOKED: receipt}, table=TABLE)
