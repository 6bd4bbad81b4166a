"""`AsyncClient.waits`: the inbox, answers, claims, links and amendments."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Unpack

from helmr.client.calls import (
    READ_TIMEOUT_S,
    UNSET,
    Download,
    call,
    task_id,
    to_json,
)
from helmr.client.http import ClientPart, all_pages
from helmr.client.runs import kept, seen
from helmr.errors import SignatureNeeded
from helmr.models import (
    AnswerLinkInfo,
    AnswerLinkReceipt,
    AnswerReceipt,
    AssignReceipt,
    ClaimReceipt,
    DryRun,
    Page,
    RewindPreview,
    RunInfo,
    VoteReceipt,
    WaitInfo,
)
from helmr.models.queries import WaitsWanted
from helmr.signing import Sign, SignedFor, ToSign
from helmr.tasks import AnyTask
from helmr.wire.durations import Duration, seconds
from helmr.wire.operations import (
    AMEND_WAIT,
    ANSWER_WAIT,
    ASSIGN_WAIT,
    CLAIM_WAIT,
    CREATE_LINK,
    DRY_RUN_ANSWER,
    GET_WAIT,
    LIST_LINKS,
    LIST_WAITS,
    PREVIEW_AMEND,
    READ_ATTACHMENT,
    RELEASE_WAIT,
    REVOKE_LINK,
    WITHDRAW_VOTE,
)

DRY_RUN_S = 20.0
"""Longest time in seconds until a dry run answers."""


class AsyncWaits(ClientPart):
    """Waits of all sessions: the inbox."""

    async def get(self, wait_id: str) -> WaitInfo:
        """The wait with its body and JSON Schema.

        Raises:
            WaitNotFound: There is none with this id.
        """
        return await self._ask(GET_WAIT, wait_id)

    def attachment(self, wait_id: str, *, attachment: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file of the wait, in pieces.

        Args:
            wait_id: The wait, whose `evidence` names its files.
            attachment: The file's id.

        Raises:
            WaitNotFound, AttachmentNotFound: There is none with this id.
            Unavailable: The answer broke off; the pieces so far are not the file.
        """
        path = READ_ATTACHMENT.at(wait_id, attachment)
        return self._transport.download(Download(path=path, media_type="application/octet-stream"))

    def list(
        self,
        *,
        task: str | AnyTask | None = None,
        limit: int | None = None,
        **wanted: Unpack[WaitsWanted],
    ) -> AsyncIterator[WaitInfo]:
        """Yield matching waits, soonest end first; by default pending ones of kind input and token.

        Args:
            task: Only waits of this task.
            limit: Waits per page.
            **wanted: More filters: `status`, `kind`, `stream`, `session_id`, `priority`, `tag`, `assignee`, `batch_id`,
                `resolved_since`; `WaitsWanted` documents each.
        """
        return all_pages(lambda cursor: self.page(task=task, limit=limit, cursor=cursor, **wanted))

    async def page(
        self,
        *,
        task: str | AnyTask | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        **wanted: Unpack[WaitsWanted],
    ) -> Page[WaitInfo]:
        """One page of `list`."""
        query = {"task": task_id(task), **wanted, "limit": limit, "cursor": cursor}
        return await self._ask(LIST_WAITS, query=query)

    async def answer(
        self,
        wait_id: str,
        data: Any,
        *,
        override_claim: bool = False,
        override_reason: str | None = None,
        batch_id: str | None = None,
        sign: Sign | None = None,
        signature: str | None = None,
        deputy_for: str | None = None,
        operation_id: str | None = None,
    ) -> AnswerReceipt:
        """Answer exactly this wait (S-18).

        Args:
            wait_id: The wait.
            data: The answer.
            override_claim: Answer even if someone else has claimed it.
            override_reason: An admin's reason to answer instead of the people who may.
            batch_id: Names the batch of answers that this belongs to: 1 to 128 letters, digits and `._:-`.
            sign: Signs the answer if the wait accepts only signed ones: `helmr.signing.SshSigner()`.
            signature: An armored signature made elsewhere.
            deputy_for: The person for whom to answer as their deputy (S-142). Without it a person whom the wait does
                not admit answers for the one person whose deputy they are for it; the receipt says for whom.
            operation_id: Makes the call repeatable by a later process.

        Returns:
            The receipt; a `VoteReceipt` for a wait that several people must agree on, until they do.

        Raises:
            WaitNotFound: There is none with this id.
            NotAnAnswerer: Other people answer it; the message names them. Nothing is stored.
            SignatureNeeded: It accepts only signed answers, and there is no `sign`. Nothing is stored.
            BadSignature: The signature is not of this answer by a key of this person. Nothing is stored.
            WaitClaimed: Someone else has claimed it; the facts say who, until when. Nothing is stored.
            WaitResolved: It is over; the facts say who ended it, when and how. Nothing is stored.
            WaitTimedOut: Its deadline has passed. Nothing is stored.
            SchemaMismatch: The data does not fit; `errors` names the paths. Nothing is stored.
        """
        body = {"data": data, "override_claim": override_claim or UNSET}
        body["batch_id"] = batch_id if batch_id is not None else UNSET
        body["override_reason"] = override_reason if override_reason is not None else UNSET
        body["signature"] = signature if signature is not None else UNSET
        body["deputy_for"] = deputy_for if deputy_for is not None else UNSET
        try:
            return await self._ask(ANSWER_WAIT, wait_id, body=body, operation_id=operation_id)
        except SignatureNeeded as error:
            if sign is None:
                raise
            body["signature"] = await self._signed(wait_id, data, sign, error)
            body["deputy_for"] = error.facts.get("deputy_for", UNSET)
        return await self._ask(ANSWER_WAIT, wait_id, body=body, operation_id=operation_id)

    async def _signed(self, wait_id: str, data: Any, sign: Sign, error: SignatureNeeded) -> str:
        """Make the signature that the refusal demands."""
        person, keys = error.facts.get("person"), error.facts.get("keys")
        if not isinstance(person, str) or not isinstance(keys, list):
            raise error
        delegation, deputy_for = (error.facts.get(one) for one in ("delegation", "deputy_for"))
        is_deputy = isinstance(delegation, str) and isinstance(deputy_for, str)
        asked = ToSign(
            await self.get(wait_id),
            to_json(data),
            person,
            [str(key) for key in keys],
            SignedFor(str(delegation), str(deputy_for)) if is_deputy else None,
        )
        made = sign(asked)
        return made if isinstance(made, str) else await made

    async def withdraw(self, wait_id: str) -> VoteReceipt:
        """Withdraw one's vote on this wait, before enough people agree (S-113); without a vote it has no effect.

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved, WaitTimedOut: It is over.
        """
        return await self._ask(WITHDRAW_VOTE, wait_id)

    async def claim(
        self, wait_id: str, *, expires_in: Duration | None = None, override_claim: bool = False
    ) -> ClaimReceipt:
        """Claim the wait, so that no one else answers it meanwhile, or renew one's claim (S-81).

        Args:
            wait_id: A pending wait for input or a token.
            expires_in: Lifetime of the claim; by default 15 minutes, at most a day.
            override_claim: Claim it even if someone else has; that claim ends.

        Raises:
            WaitNotFound: There is none with this id.
            WaitClaimed: Someone else has claimed it; the facts say who, until when.
            WaitResolved, WaitTimedOut: It is over.
        """
        body = {"override_claim": override_claim or UNSET, "expires_in": _seconds(expires_in)}
        return await self._ask(CLAIM_WAIT, wait_id, body=body)

    async def release(self, wait_id: str) -> ClaimReceipt:
        """End one's claim; without a claim it has no effect.

        Raises:
            WaitClaimed: Someone else has claimed it.
            WaitResolved, WaitTimedOut: It is over.
        """
        return await self._ask(RELEASE_WAIT, wait_id)

    async def assign(
        self, wait_id: str, *, assignee: str | None, operation_id: str | None = None
    ) -> AssignReceipt:
        """Assign this wait to someone; None assigns it to no one (S-72).

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved, WaitTimedOut: It is over.
        """
        body = {"assignee": assignee}
        return await self._ask(ASSIGN_WAIT, wait_id, body=body, operation_id=operation_id)

    async def link(
        self,
        wait_id: str,
        *,
        person: str,
        expires_in: Duration | None = None,
        operation_id: str | None = None,
    ) -> AnswerLinkReceipt:
        """Make a link with which this person answers this wait, once (S-74).

        Args:
            wait_id: A pending wait for input or a token.
            person: The person on whose behalf the answer is recorded.
            expires_in: Its lifetime, at most and by default 7 days; it also ends with the wait's deadline.
            operation_id: Makes the call repeatable.

        Returns:
            The link with its URL, a secret that only this answer shows.

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved: It is over.
            BadRequest: The person or the time is invalid.
        """
        body = {"person": person, "expires_in": _seconds(expires_in)}
        return await self._ask(CREATE_LINK, wait_id, body=body, operation_id=operation_id)

    async def links(self, wait_id: str) -> Sequence[AnswerLinkInfo]:
        """The wait's links, newest first, without their URLs; including revoked and expired ones."""
        page: Page[AnswerLinkInfo] = await self._ask(LIST_LINKS, wait_id)
        return page.items

    async def unlink(
        self, wait_id: str, *, link_id: str, operation_id: str | None = None
    ) -> AnswerLinkInfo:
        """Revoke a link; revoking it again has no effect.

        Raises:
            KeyNotFound: The wait has no such link.
        """
        return await self._ask(REVOKE_LINK, wait_id, link_id, operation_id=operation_id)

    async def dry_run(self, wait_id: str, data: Any) -> DryRun:
        """Dry-run an answer: return the ops that the code would ask for, up to the first side effect (S-87).

        It has no effects and stores nothing.

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved: It is over.
            SchemaMismatch: The data does not fit.
            Overloaded: Too many dry runs are in progress.
        """
        asked = call(DRY_RUN_ANSWER, wait_id, body={"data": data})
        asked = replace(asked, read_timeout_s=READ_TIMEOUT_S + DRY_RUN_S)
        return await self._transport.call(asked)

    async def preview_amend(
        self, wait_id: str, *, keep_answers: bool = True, keep_children: bool = False
    ) -> RewindPreview:
        """Preview an amendment of this wait now, for any new answer (S-76, S-79).

        Args:
            wait_id: An answered or timed-out wait of a session's newest run.
            keep_answers: False asks every question after it again.
            keep_children: True lets child sessions started after it continue.

        Raises:
            WaitNotFound: There is none with this id.
            WaitNotAmendable: It is pending, was cancelled, has no answer, or a rewind went back before it.
            SessionTerminal: The session was closed or cancelled, and not by this run.
        """
        body = kept(keep_answers, keep_children)
        return await self._ask(PREVIEW_AMEND, wait_id, body=body)

    async def amend(
        self,
        wait_id: str,
        data: Any,
        *,
        preview: RewindPreview,
        reason: str,
        override_reason: str | None = None,
        operation_id: str | None = None,
    ) -> RunInfo:
        """Give the wait another answer: the run rewinds to it and continues with that answer (S-79).

        Args:
            wait_id: The wait.
            data: The answer that it should have had.
            preview: The preview that someone checked.
            reason: Why, 1 to 500 characters; it stands in the transcript.
            override_reason: An admin's reason to answer instead of the people who may.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            NotAnAnswerer: Other people answer it.
            NotAmendable: Several people gave the answer.
            SessionChanged: The amendment would differ by now; nothing was done. Preview it again.
            WaitNotAmendable: See `preview_amend`.
            SchemaMismatch: The data does not fit; `errors` names the paths. Nothing is stored.
        """
        body = {"data": data, "reason": reason, **seen(preview)}
        body["override_reason"] = override_reason if override_reason is not None else UNSET
        return await self._ask(AMEND_WAIT, wait_id, body=body, operation_id=operation_id)


def _seconds(duration: Duration | None) -> Any:
    return seconds(duration) if duration is not None else UNSET
