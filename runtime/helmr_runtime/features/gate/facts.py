"""Standing grants: their facts, and the state folded from their entries (S-107). Pure.

Facts of the system stream:

```
grant.created    grant_id scope{client agent asker tool matches{}} session_id expires_at operation?
grant.revoked    grant_id operation?
```

`session_id` is the call at which it was given. `scope` stands in entries only, never in a table: commands may hold data
that is sealed at rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar

from helmr.errors import GrantNotFound
from helmr.gate.grant_scope import GrantScope
from helmr.wire import ids
from helmr_runtime.core.commands import FeatureFact, FeatureQuestion, carrier
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Principal, from_iso, iso
from helmr_runtime.core.nouns import CHANGES, NounColumn

NAME = "gate"
"""Of the feature."""

CREATED = EntryKind("grant.created")
REVOKED = EntryKind("grant.revoked")

GRANTS_MAX = 10_000
"""Grants in memory. Older ones no longer count, so their calls are asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A standing grant, folded from its entries.

    Attributes:
        session_id: The call at which it was given.
        created_by: The principal that gave it.
    """

    id: str
    scope: GrantScope
    session_id: str
    created_by: Principal
    created_at: datetime
    created_offset: int
    expires_at: datetime
    revoked_at: datetime | None = None

    def counts(self, now: datetime) -> bool:
        """It allows calls now."""
        return self.revoked_at is None and now < self.expires_at

    def to_json(self) -> dict[str, Any]:
        """A `GrantInfo`."""
        return {
            "id": self.id,
            **self.scope.to_json(),
            "session_id": self.session_id,
            "created_by": self.created_by.to_json(),
            "created_at": iso(self.created_at),
            "expires_at": iso(self.expires_at),
            "revoked_at": iso(self.revoked_at) if self.revoked_at is not None else None,
        }


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant and its expiry; the entry at `created_offset` holds its scope (S-107)."""

    id: Annotated[str, NounColumn("gate_grant", id_of=ids.GRANT, is_key=True)]
    created_offset: int
    expires_at: datetime
    revoked_at: Annotated[datetime | None, CHANGES]


def created(entry: Entry) -> Grant:
    """The grant that a `grant.created` says."""
    assert entry.feed_offset is not None
    body = entry.body
    return Grant(
        id=body["grant_id"],
        scope=GrantScope.from_json(body["scope"]),
        session_id=body["session_id"],
        created_by=entry.principal,
        created_at=entry.recorded_at,
        created_offset=entry.feed_offset,
        expires_at=from_iso(body["expires_at"]),
    )


# --- what a person asks for -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateGrant(FeatureFact):
    """Allow an agent's calls for a while. Receipt: `{grant_id}`.

    Attributes:
        scope: A `GrantScope`, as JSON: a frame between processes carries no class of the base package.
    """

    feature: ClassVar[str] = NAME
    grant_id: str
    scope: Mapping[str, Any]
    session_id: str
    expires_at: datetime

    def decide(self, memory: Any, now: datetime) -> tuple[Sequence[Draft], Mapping[str, Any]]:
        """Write it; the service has checked the call."""
        body = {
            "grant_id": self.grant_id,
            "scope": dict(self.scope),
            "session_id": self.session_id,
            "expires_at": iso(self.expires_at),
        }
        return (carrier(CREATED, body, self),), receipt(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeGrant(FeatureFact):
    """Revoke a grant. Idempotent. Receipt: `{grant_id}`."""

    feature: ClassVar[str] = NAME
    grant_id: str

    def decide(self, memory: Any, now: datetime) -> tuple[Sequence[Draft], Mapping[str, Any]]:
        """Write nothing of one that is revoked."""
        body = {"grant_id": self.grant_id}
        is_news = find(memory.things, self.grant_id).revoked_at is None
        return ((carrier(REVOKED, body, self),) if is_news else ()), receipt(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetGrant(FeatureQuestion):
    """A `GrantInfo`."""

    feature: ClassVar[str] = NAME
    grant_id: str

    def answer(self, memory: Any, now: datetime) -> Any:
        """Return it; raises GrantNotFound."""
        return find(memory.things, self.grant_id).to_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListGrants(FeatureQuestion):
    """A page of `GrantInfo`, the newest first, with those that are over."""

    feature: ClassVar[str] = NAME
    cursor: str | None = None
    limit: int | None = None

    def answer(self, memory: Any, now: datetime) -> Any:
        """Return the page; raises BadCursor."""
        return memory.page(self.cursor, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantsOf(FeatureQuestion):
    """The `GrantInfo` of each grant that counts now in an agent's session, the oldest first."""

    feature: ClassVar[str] = NAME
    client: str
    agent: str

    def answer(self, memory: Any, now: datetime) -> Any:
        """Return them."""
        return [one.to_json() for one in memory.of_agent(self.client, self.agent, now)]


def find(known: Mapping[str, Grant], grant_id: str) -> Grant:
    """The grant of that id.

    Raises:
        GrantNotFound: None with that id.
    """
    grant = known.get(grant_id)
    if grant is None:
        raise GrantNotFound(f"there is no grant {grant_id}", grant_id=grant_id)
    return grant


def receipt(body: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt of the operation that an entry with this body carries."""
    return {"grant_id": body["grant_id"]}
