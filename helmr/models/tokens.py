"""A token on the wire, and the receipts of making and completing one."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from helmr.models.common import CompletionOutcome, PrincipalInfo, TokenStatus, Wire
from helmr.models.evidence import Evidence
from helmr.wire.truth import NoTruth


class TokenInfo(Wire):
    """A token. Lists leave out `data`, `body`, `evidence`, `schema` and `initial`.

    `ended_at` and `ended_by` cover every end.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    id: str
    status: TokenStatus
    session_id: str | None = None
    run_id: str | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    subject: str | None = None
    body: str | None = None
    evidence: Evidence | None = None
    """Facts, links and a diff above the body."""
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    initial: Any = None
    """Initial value of the form behind its URL."""
    raw: bool = False
    verify: str | None = None
    """The scheme by which its callbacks are signed."""
    public_token_id: str | None = None
    created_at: datetime
    created_by: PrincipalInfo | None = None
    expires_at: datetime
    ended_at: datetime | None = None
    ended_by: PrincipalInfo | None = None
    data: Any = None
    problem: str | None = None
    """The reason that a stored body of its entries can't be read; in lists, instead of the contents."""


class TokenReceipt(TokenInfo):
    """A new token with its secrets, which only this answer shows."""

    callback_url: str
    public_access_token: str


class CompleteReceipt(NoTruth, Wire):
    """Answer of a completion (S-41)."""

    _ask: ClassVar[str] = ".outcome"

    token_id: str
    outcome: CompletionOutcome
    completed_at: datetime
