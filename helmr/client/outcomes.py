"""`client.outcomes` lists calls of unknown outcome and records what people found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from helmr.client.http import ClientPart, all_pages
from helmr.models import GatedCallInfo, Page
from helmr.operations import LIST_UNKNOWN_OUTCOMES, SAY_OUTCOME


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
