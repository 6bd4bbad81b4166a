"""Who sees to a wait: claims, which the ledger keeps in memory (S-81), and assignments, which are entries (S-72)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from helmr import ids
from helmr.durations import seconds
from helmr.errors import BadRequest, WaitResolved, WaitTimedOut
from helmr.models import (
    CLAIM_MAX_S,
    CLAIM_S,
    AssignReceipt,
    AssignRequest,
    ClaimReceipt,
    ClaimRequest,
)
from helmr_runtime.core.commands import AssignWait
from helmr_runtime.ports import ClaimsKept
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.shared import Shared
from helmr_runtime.service.waits import Waits

T = TypeVar("T")


class Claims:
    """Claim, release and assign waits."""

    def __init__(self, shared: Shared, waits: Waits) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._waits = waits

    async def claim(self, caller: Caller, wait_id: str, request: ClaimRequest) -> ClaimReceipt:
        """Claim a wait, or renew a claim. Writes nothing and wakes nobody.

        Raises:
            WaitNotFound: No wait with that id.
            WaitClaimed: Another is at it.
            WaitResolved, WaitTimedOut: It is over; says how.
            BadRequest: Nobody answers it.
            BadDuration: A claim is for no such time.
        """
        ids.check_id(wait_id, ids.WAIT)
        asked = request.expires_in if request.expires_in is not None else CLAIM_S
        for_s = seconds(asked, maximum_s=CLAIM_MAX_S)
        session_id = await self._waits.session_of(wait_id)
        by, override = caller.principal, request.override_claim
        kept = self._router.write(
            lambda: self._ledger.claim_wait(
                session_id, wait_id, by, for_s=for_s, override=override
            ),
            what=f"the claim of {wait_id}",
        )
        return await self._told(session_id, wait_id, kept)

    async def release(self, caller: Caller, wait_id: str) -> ClaimReceipt:
        """End the caller's claim; without one nothing changes.

        Raises:
            As `claim`.
        """
        ids.check_id(wait_id, ids.WAIT)
        session_id = await self._waits.session_of(wait_id)
        kept = self._router.write(
            lambda: self._ledger.release_wait(session_id, wait_id, caller.principal),
            what=f"the release of {wait_id}",
        )
        return await self._told(session_id, wait_id, kept)

    async def assign(self, caller: Caller, wait_id: str, request: AssignRequest) -> AssignReceipt:
        """Say whom a wait concerns from now on.

        Raises:
            WaitNotFound: No wait with that id.
            WaitResolved, WaitTimedOut: It is over; says how.
            BadRequest: It concerns nobody, or the name is no line of text.
        """
        ids.check_id(wait_id, ids.WAIT)
        assignee = request.assignee
        if assignee is not None and not assignee.isprintable():
            raise BadRequest("an assignee is one line of text")
        command = AssignWait(
            principal=caller.principal,
            operation=caller.operation("waits.assign", wait_id, assignee),
            wait_id=wait_id,
            assignee=assignee,
        )
        receipt = await self._explained(wait_id, self._waits.command(wait_id, command))
        return AssignReceipt.model_validate(receipt)

    async def _told(
        self, session_id: str, wait_id: str, asked: Awaitable[ClaimsKept]
    ) -> ClaimReceipt:
        kept = await self._explained(wait_id, asked)
        await self._router.tell_claims(session_id, kept)
        claim = kept.claims.claim if kept.claims is not None else None
        told = claim.to_json() if claim is not None else None
        return ClaimReceipt.model_validate({"wait_id": wait_id, "claim": told})

    async def _explained(self, wait_id: str, asked: Awaitable[T]) -> T:
        """A refusal says who ended the wait, when and how."""
        try:
            return await asked
        except (WaitResolved, WaitTimedOut) as error:
            raise await self._waits.told(error, wait_id) from error
