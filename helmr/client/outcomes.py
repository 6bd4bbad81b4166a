"""`client.outcomes` lists calls of unknown outcome and records what people found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from helmr.client.http import ClientPart, all_pages
from helmr.models import GatedCallInfo, Page
from helmr.operations import LIST_UNKNOWN_OUTCOMES, SAY_OUTCOME


class AsyncOutcomes(ClientPart):
    """Approved calls of agents of which no one knows what became (S-108)."""

    def list(self, *, limit: int | None = None) -> AsyncIterator[GatedCallInfo]:
        """Approved calls that may have been made and are not reported, newest first."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[GatedCallInfo]:
        """One page of `list`; it may have fewer calls than asked for."""
        return await self._ask(LIST_UNKNOWN_OUTCOMES, query={"limit": limit, "cursor": cursor})

    async def say(
        self, session_id: str, *, outcome: Literal["succeeded", "failed", "not_made"]
    ) -> GatedCallInfo:
        """Say what became of an approved call, as far as you have found out; the first word counts.

        Args:
            session_id: The session of the call.
            outcome: What became of it; `not_made` if its effect is nowhere to be seen.

        Raises:
            SessionNotFound: It names no call of an agent.
            Conflict: No one has approved the call.
        """
        return await self._ask(SAY_OUTCOME, session_id, body={"outcome": outcome})
