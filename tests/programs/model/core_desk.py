"""Claims as the ledger keeps them, for the core's door: no entries of their own, brought along by the next."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from helmr_runtime.core.claims import WaitClaim, WaitClaims
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.readable import ClaimKeeper
from helmr_runtime.ports import ClaimsKept


class Desk(ClaimKeeper):
    """Who is at which wait.

    Args:
        index: The ledger's memory.
        now: Its time.
    """

    def __init__(self, index: LedgerIndex, now: Callable[[], datetime]) -> None:
        super().__init__(now, self._of_memory, lambda: index.heads)
        self._index = index

    async def _of_memory(self, session_id: str) -> Head | None:
        """All there are are in memory."""
        return self._index.heads.get(session_id)

    def of(self, state: SessionState) -> WaitClaims | None:
        """What is known of the claims of a session's pending wait, as its host is told."""
        head = self._index.heads.get(state.id)
        known = head.claims if head is not None else None
        is_its = (
            known is not None and state.wait is not None and known.wait.wait_id == state.wait.id
        )
        return known if is_its else None

    def claim(
        self, session_id: str, wait_id: str, by: Principal, expires_in: int, *, override: bool
    ) -> WaitClaim | None:
        """Claim a wait."""
        lasts = expires_in / 1000
        claiming = self.claim_wait(session_id, wait_id, by, for_s=lasts, override=override)
        return _claim_of(_at_once(claiming))

    def release(self, session_id: str, wait_id: str, by: Principal) -> WaitClaim | None:
        """End a claim."""
        return _claim_of(_at_once(self.release_wait(session_id, wait_id, by)))


def _claim_of(kept: ClaimsKept) -> WaitClaim | None:
    return kept.claims.claim if kept.claims is not None else None


def _at_once(work: Coroutine[Any, Any, ClaimsKept]) -> ClaimsKept:
    """What waits for nothing needs no loop."""
    try:
        work.send(None)
    except StopIteration as done:
        kept: ClaimsKept = done.value
        return kept
    raise AssertionError("it waits for something")
