"""Standing grants: their commands, and the state folded from their entries (S-107). Pure.

Facts of the system stream:

```
grant.created    grant_id scope{client agent asker tool matches{}} session_id expires_at operation?
grant.revoked    grant_id operation?
```

`session_id` is the call at which it was given. `scope` stands in entries only, never in a table: commands may hold data
that is sealed at rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from helmr.gate.grant_scope import GrantScope
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.core.entries import Entry, EntryKind, Principal, from_iso, iso

GRANTS_MAX = 10_000
"""Grants in memory. Older ones no longer count, so their calls are asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateGrant(SessionCommand):
    """Allow an agent's calls for a while. Receipt: `{grant_id}`.

    Attributes:
        scope: A `GrantScope`, as JSON: a frame between processes carries no class of the base package.
    """

    grant_id: str
    scope: Mapping[str, Any]
    session_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeGrant(SessionCommand):
    """Revoke a grant. Idempotent. Receipt: `{grant_id}`."""

    grant_id: str


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


def created_body(command: CreateGrant) -> dict[str, Any]:
    """Return the body of a `grant.created`."""
    return {
        "grant_id": command.grant_id,
        "scope": dict(command.scope),
        "session_id": command.session_id,
        "expires_at": iso(command.expires_at),
    }


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


def changed(grant: Grant, entry: Entry) -> Grant:
    """The grant after another entry about it."""
    if entry.kind is EntryKind.GRANT_REVOKED and grant.revoked_at is None:
        return replace(grant, revoked_at=entry.recorded_at)
    return grant
