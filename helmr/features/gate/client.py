"""Grants and outcomes of agents' calls in the awaited client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from helmr.client.http import ClientPart, all_pages
from helmr.features.gate.operations import (
    CREATE_GRANT,
    GET_GRANT,
    LIST_GRANTS,
    LIST_UNKNOWN_OUTCOMES,
    REVOKE_GRANT,
    SAY_OUTCOME,
)
from helmr.models import GatedCallInfo, GrantInfo, Page
from helmr.wire.durations import Duration, seconds


class AsyncGrants(ClientPart):
    """Standing grants: a person's temporary permissions for one agent's session (S-107)."""

    def list(self, *, limit: int | None = None) -> AsyncIterator[GrantInfo]:
        """Grants, newest first, including ended ones."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(self, *, limit: int | None = None, cursor: str | None = None) -> Page[GrantInfo]:
        """One page of `list`."""
        return await self._ask(LIST_GRANTS, query={"limit": limit, "cursor": cursor})

    async def get(self, grant_id: str) -> GrantInfo:
        """A grant.

        Raises:
            GrantNotFound: There is none.
        """
        return await self._ask(GET_GRANT, grant_id)

    async def create(
        self,
        session_id: str,
        *,
        matches: Mapping[str, str | Sequence[str]] | None = None,
        expires_in: Duration | None = None,
        operation_id: str | None = None,
    ) -> GrantInfo:
        """Allow an agent's calls of one tool for a time. It answers no wait.

        Args:
            session_id: The session of a call; the grant covers the same agent's session and tool.
            matches: Globs for arguments, `{"command": "git push*"}`; empty allows any; None those of this call.
            expires_in: Its lifetime; 8 hours, at most 7 days.
            operation_id: Names the call, to repeat it.

        Raises:
            SessionNotFound: The session is not a call of an agent.
            Conflict: A person has denied the call, or the globs do not match it.
            BadRequest: The globs or the time are invalid.
        """
        body: dict[str, Any] = {"session_id": session_id}
        if matches is not None:
            body["matches"] = {
                name: one if isinstance(one, str) else [*one] for name, one in matches.items()
            }
        if expires_in is not None:
            body["expires_in"] = seconds(expires_in)
        return await self._ask(CREATE_GRANT, body=body, operation_id=operation_id)

    async def revoke(self, grant_id: str, *, operation_id: str | None = None) -> GrantInfo:
        """Revoke a grant; the agent's next call asks a person.

        Raises:
            GrantNotFound: There is none.
        """
        return await self._ask(REVOKE_GRANT, grant_id, operation_id=operation_id)


class AsyncOutcomes(ClientPart):
    """Approved calls of agents with unknown outcome (S-108)."""

    def list(self, *, limit: int | None = None) -> AsyncIterator[GatedCallInfo]:
        """Approved calls that may have run but were not reported, newest first."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[GatedCallInfo]:
        """One page of `list`; it may have fewer calls than asked for."""
        return await self._ask(LIST_UNKNOWN_OUTCOMES, query={"limit": limit, "cursor": cursor})

    async def say(
        self, session_id: str, *, outcome: Literal["succeeded", "failed", "not_made"]
    ) -> GatedCallInfo:
        """Record the outcome of an approved call, as found out by people; the first record counts.

        Args:
            session_id: The session of the call.
            outcome: Its outcome; `not_made` if it had no visible effect.

        Raises:
            SessionNotFound: The session is not a call of an agent.
            Conflict: No one has approved the call.
        """
        return await self._ask(SAY_OUTCOME, session_id, body={"outcome": outcome})
