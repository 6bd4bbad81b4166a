"""API keys are made and revoked by commands to the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from helmr_runtime.core.commands import SessionCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateApiKey(SessionCommand):
    """Make an API key. Receipt: `{key_id}`."""

    key_id: str
    role: str
    name: str
    secret_hash: str
    person: str | None = None
    """The key's owner: requests with the key count as this person's (S-111)."""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeApiKey(SessionCommand):
    """Revoke an API key. Idempotent. Receipt: `{key_id, status}`."""

    key_id: str
