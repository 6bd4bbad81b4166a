"""Who is at a wait, said while its form is open (S-81)."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import ValidationError

from helmr.errors import HelmrError, WaitClaimed
from helmr.models import ClaimInfo
from helmr.safe_text import one_line
from helmr_console.permits import Permit, Refused
from helmr_console.screens.as_last_time import AsLastTime

CLAIM_RETRY = timedelta(seconds=30)
RENEW_BEFORE = timedelta(minutes=10)
"""A claim lasts a quarter of an hour; what is left of it when it is renewed outlasts a gateway that is away."""


class ClaimingScreen(AsLastTime):
    """The form of one wait, which is claimed while the form is open.

    Subclasses say whether it is `over`.
    """

    def __init__(self, wait_id: str) -> None:
        super().__init__()
        self.wait_id = wait_id
        self.own_claim: ClaimInfo | None = None
        """One's own (S-81)."""
        self._was_claimed = False
        """By oneself, before the form was opened: it stays so when the form is left."""
        self._is_begun = False
        self._claims_at: datetime | None = None
        """When it is claimed again: to renew, or because it could not be."""
        self.overrides: ClaimInfo | None = None
        """Another's, of which the operator was told: what is sent from then on overrides it."""

    def was_claimed(self, claim: ClaimInfo | None) -> None:
        """This was the claim when the form was opened."""
        self._was_claimed = claim is not None and claim.on_behalf_of == self.console.identity

    def is_drawn(self) -> None:
        """Whoever reads the form is at the wait."""
        super().is_drawn()
        self.console.unsent.returned.discard(self.wait_id)
        if not self._is_begun:
            self._is_begun = True
            self._claim_soon()

    def _claim_soon(self) -> None:
        """Claim the wait, or renew the claim: a courtesy, which nothing waits for."""
        self._claims_at = self.console.store.now() + CLAIM_RETRY
        try:
            permit = self.permit(self.ACTION)
        except Refused:
            return
        self.console.background.start(self._claim_it(permit), group="claim")

    async def _claim_it(self, permit: Permit) -> None:
        try:
            receipt = await self.console.writer.claim(permit, self.wait_id)
        except WaitClaimed as error:
            self.told_of(error)
            self.tell((one_line(error.message, 300), "what you type is kept"), "warning")
        except HelmrError:
            return  # a gateway that is away is told of elsewhere; the answer needs no claim
        else:
            self.own_claim, self.overrides = receipt.claim, None
            if self.own_claim is not None:
                self._claims_at = self.own_claim.until - RENEW_BEFORE

    def keep_claim(self, claim: ClaimInfo | None) -> None:
        """The operator claimed the wait by a key, or released it: so it stays when the form is left."""
        self.own_claim, self.overrides, self._was_claimed = claim, None, claim is not None
        self._claims_at = claim.until - RENEW_BEFORE if claim is not None else None

    def told_of(self, error: WaitClaimed) -> None:
        self.own_claim = self._claims_at = None
        with suppress(ValidationError):
            self.overrides = ClaimInfo.model_validate(error.facts.get("claim"))

    def renew_if_due(self) -> None:
        due_at = self._claims_at
        if due_at is not None and self.console.store.now() >= due_at and not self.over():
            self._claim_soon()

    async def _leave(self) -> None:
        await self.let_go_of_wait()
        await super()._leave()

    async def let_go_of_wait(self) -> None:
        """Nobody is at it any more, unless it was claimed for longer than the form is open."""
        if self.own_claim is not None and not self._was_claimed:
            with suppress(HelmrError, Refused):
                await self.console.writer.release(self.permit(self.ACTION), self.wait_id)

    def tick_behind(self) -> None:
        """Who reads help beside the form is still at the wait."""
        self.renew_if_due()
