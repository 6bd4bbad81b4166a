"""A gated call on the wire, and the grants that allow calls without asking."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from helmr.models.common import PrincipalInfo, Wire
from helmr.wire.truth import NoTruth


class GatedCallInfo(Wire):
    """An agent's call that asked a person; `asked` has its original arguments.

    `status` is `asked`, `decided`, `withdrawn` or `left` (no one answered in time, so the client decided).
    After the decision, `verdict` is `allow` or `deny`, and `input` has the arguments if a person changed them.
    `outcome` is `succeeded` or `failed`, or `not_made` if a person says so.
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
    """The verdict on an agent's call: `allow`, `deny`, or `pending` until a person decides.

    `input` has the tool's arguments if a person changed them. `session_id` is the call's session, to report its
    outcome; None if a rule decided.
    """

    _ask: ClassVar[str] = ".verdict"

    verdict: Literal["allow", "deny", "pending"]
    reason: str = ""
    input: dict[str, Any] | None = None
    session_id: str | None = None


class GrantInfo(Wire):
    """A standing grant: a person's temporary permission in one agent's session (S-107).

    Attributes:
        asker: The key that asks for the agent, `api_key:key_…`, or the session of a headless run.
        matches: Globs by argument, one of which must match; empty allows any arguments.
        session_id: The call for which it was given.
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
        """True while it allows calls."""
        return self.revoked_at is None and now < self.expires_at
