"""A gated call on the wire, and the grants that allow some without asking."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from helmr.models.common import PrincipalInfo, Wire
from helmr.truth import NoTruth


class GatedCallInfo(Wire):
    """A call of an agent that a person was asked about; `asked` is what it was to be called with.

    `status` is `asked`, `decided`, `left` (no one had answered when the client's time was up: it decided by itself) or
    `withdrawn`. Once it is decided, `verdict` is `allow` or `deny`, and `input` what
    the tool is called with if a person has changed it; `outcome` is what became of it, `succeeded` or `failed`, or
    `not_made` if a person says so.
    """

    session_id: str
    client: str
    agent: str
    call_id: str = ""
    tool: str
    status: str
    asked: dict[str, Any] | None = None
    verdict: str | None = None
    reason: str | None = None
    input: dict[str, Any] | None = None
    outcome: str | None = None
    decided_at: datetime | None = None


class GateReceipt(NoTruth, Wire):
    """Whether an agent's call may be made: `allow`, `deny`, or `pending` until a person has decided.

    `input` is what the tool is to be called with, if a person has changed it. `session_id` is the call's, for its
    outcome; none if a rule has decided.
    """

    _ask: ClassVar[str] = ".verdict"

    verdict: Literal["allow", "deny", "pending"]
    reason: str = ""
    input: dict[str, Any] | None = None
    session_id: str | None = None


class GrantInfo(Wire):
    """A standing grant: what a person has allowed for a while in one agent's session (S-107).

    Attributes:
        asker: Who asks for the agent: a key, `api_key:key_…`, or the session of a headless run.
        matches: Globs for arguments, one of which matches; none: whatever they are.
        session_id: The call at which it was given.
    """

    id: str
    client: str
    agent: str
    asker: str = ""
    tool: str
    matches: dict[str, list[str]] = Field(default_factory=dict)
    session_id: str
    created_by: PrincipalInfo
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    def counts(self, now: datetime) -> bool:
        """It allows calls now."""
        return self.revoked_at is None and now < self.expires_at
