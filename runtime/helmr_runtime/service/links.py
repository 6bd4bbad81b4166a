"""Answer links: a secret for one wait and one named person (S-74).

A link is a public token whose scope is a wait: made and revoked in the wait's session, found by its secret's hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from helmr import ids
from helmr.durations import seconds
from helmr.errors import BadRequest, KeyNotFound
from helmr.models import AnswerLinkInfo, AnswerLinkReceipt, AnswerLinkRequest, Page, WaitStatus
from helmr.roles import ScopeType
from helmr_runtime.core.commands import CreatePublicToken, RevokePublicToken
from helmr_runtime.core.entries import Principal, from_iso
from helmr_runtime.core.public_tokens import PublicToken, Scope
from helmr_runtime.core.wait_record import LINK
from helmr_runtime.rpc.ledger_client import Json
from helmr_runtime.security.roles import person_name
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.shared import Shared

EXPIRES_IN_MAX = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class LiveLink:
    """A link that lives, as far as itself is concerned; its wait may be over."""

    id: str
    wait_id: str
    person: str

    @property
    def principal(self) -> Principal:
        """Who answers through it."""
        return Principal(LINK, self.id, None, self.person)


class AnswerLinks:
    """Answer links: make, list, revoke, find by secret."""

    def __init__(self, shared: Shared) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._keys = shared.keys
        self._clock = shared.clock
        self._repeats = shared.repeats
        self._base_url = shared.base_url

    async def create(
        self, caller: Caller, wait_id: str, request: AnswerLinkRequest
    ) -> AnswerLinkReceipt:
        """Make a link; a repeated operation shows the same URL.

        Raises:
            WaitNotFound: No wait with that id.
            WaitResolved: It is no longer pending.
            BadRequest: Nobody answers it, or the person or the time can't be used.
        """
        ids.check_id(wait_id, ids.WAIT)
        person = person_name(request.person)
        if not person:
            raise BadRequest("a link is for a person with a name")
        wait = await self._ledger.get_wait(wait_id)
        session_id, now = str(wait["session_id"]), self._clock.now()
        secrets = TaskSecrets(await self._keys(session_id), self._base_url)
        link_id, key_id, hashed = secrets.new_link()
        token = PublicToken(
            id=link_id,
            scope=Scope(
                type=ScopeType.WAIT_ANSWER, session_id=session_id, wait_id=wait_id, person=person
            ),
            secret_hash=hashed,
            created_at=now,
            expires_at=_expires_at(request, wait, now),
            key_id=key_id,
        )
        operation = caller.operation("waits.link", wait_id, request.model_dump(mode="json"))
        command = CreatePublicToken(
            principal=caller.principal, operation=operation, token=token.to_json()
        )
        receipt = await self._repeats.receipt(
            caller, operation, lambda: self._router.command(session_id, command)
        )
        made_id = str(receipt["public_token_id"])
        info = await self._info(await self._ledger.get_public_token(made_id), wait_id)
        url = secrets.link_url(made_id, str(receipt["key_id"]))
        return AnswerLinkReceipt.model_validate({**info.model_dump(), "url": url})

    async def list(self, wait_id: str) -> Page[AnswerLinkInfo]:
        """The links of a wait, newest first; revoked and expired ones too, while they are remembered.

        Raises:
            WaitNotFound: No wait with that id.
        """
        ids.check_id(wait_id, ids.WAIT)
        await self._ledger.get_wait(wait_id)
        found = await self._ledger.links_of_wait(wait_id)
        return Page[AnswerLinkInfo](items=[await self._info(one, wait_id) for one in found])

    async def revoke(self, caller: Caller, wait_id: str, link_id: str) -> AnswerLinkInfo:
        """Revoke a link; revoking again, or after its wait, changes nothing.

        Raises:
            KeyNotFound: The wait has no such link.
        """
        ids.check_id(wait_id, ids.WAIT)
        ids.check_id(link_id, ids.PUBLIC_TOKEN)
        found = await self._ledger.get_public_token(link_id)
        if found["scope"].get("wait") != wait_id:
            raise KeyNotFound(f"{wait_id} has no link {link_id}")
        command = RevokePublicToken(
            principal=caller.principal,
            operation=caller.operation("waits.unlink", wait_id, link_id),
            public_token_id=link_id,
            is_link=True,
        )
        await self._router.command(str(found["session_id"]), command)
        return await self._info(await self._ledger.get_public_token(link_id), wait_id)

    async def find(self, hashed: str) -> LiveLink | None:
        """The link with this secret, if it lives. Asked each time: a revocation counts at once."""
        found = await self._ledger.find_public_token(hashed)
        if found is None:
            return None
        token = PublicToken.from_json(found["state"])
        scope = token.scope
        if scope.type is not ScopeType.WAIT_ANSWER or not _is_live(token, self._clock.now()):
            return None
        return LiveLink(token.id, scope.wait_id or "", scope.person or "")

    async def _info(self, found: Json, wait_id: str) -> AnswerLinkInfo:
        token = PublicToken.from_json(found["state"])
        wait = await self._ledger.get_wait(wait_id)
        is_pending = wait["status"] == WaitStatus.PENDING.value
        return AnswerLinkInfo(
            id=token.id,
            wait_id=wait_id,
            session_id=found["session_id"],
            person=token.scope.person or "",
            created_at=token.created_at,
            expires_at=token.expires_at,
            revoked_at=token.revoked_at,
            is_live=is_pending and _is_live(token, self._clock.now()),
        )


def _is_live(token: PublicToken, now: datetime) -> bool:
    return token.revoked_at is None and now < token.expires_at


def _expires_at(request: AnswerLinkRequest, wait: Json, now: datetime) -> datetime:
    """The wait's deadline or what was asked, at most 7 days from now.

    Raises:
        BadRequest: More is asked.
    """
    ends = [now + EXPIRES_IN_MAX]
    if request.expires_in is not None:
        asked = timedelta(seconds=seconds(request.expires_in))
        if asked > EXPIRES_IN_MAX:
            raise BadRequest(
                f"expires_in: an answer link lives at most {EXPIRES_IN_MAX.days} days",
                hint="Make another link when it is needed.",
            )
        ends.append(now + asked)
    if wait["deadline_at"] is not None:
        ends.append(from_iso(wait["deadline_at"]))
    return min(ends)
