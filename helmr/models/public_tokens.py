"""A public token on the wire, and its single scope."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from helmr.models.common import Wire


class PublicTokenScopeInfo(Wire):
    """The scope of a public token; for an answer link (`wait.answer`) with its wait and person."""

    type: Literal["session.input.send", "session.output.read", "token.complete", "wait.answer"]
    session: str | None = None
    stream: str | None = None
    token: str | None = None
    correlation_id: str | None = None
    wait: str | None = None
    person: str | None = None


class PublicTokenInfo(Wire):
    """A public token, without its secret."""

    id: str
    scope: PublicTokenScopeInfo
    max_uses: int | None = None
    uses: int = 0
    uses_left: int | None = None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    allowed_origins: list[str] = Field(default_factory=list)


class PublicTokenReceipt(PublicTokenInfo):
    """A new public token with its secret, which only this answer shows."""

    public_access_token: str
