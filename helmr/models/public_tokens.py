"""A public token on the wire, and the one thing that it is good for."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from helmr.models.common import Wire


class PublicTokenScopeInfo(Wire):
    """The one thing that a public token does; of an answer link (`wait.answer`) also its wait and person."""

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
    """Answer of making one: with its secret, the only time it is shown."""

    public_access_token: str
