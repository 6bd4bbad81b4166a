"""`AsyncClient.waits`: the inbox, answers, claims, links and amendments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Unpack

from helmr.client.calls import (
    READ_TIMEOUT_S,
    UNSET,
    call,
    task_id,
    to_json,
)
from helmr.client.http import ClientPart, all_pages
from helmr.client.runs import kept, seen
from helmr.durations import Duration, seconds
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
from helmr.operations import (
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
    RELEASE_WAIT,
    REVOKE_LINK,
    WITHDRAW_VOTE,
)
from helmr.signing import Sign, ToSign
from helmr.tasks import AnyTask

DRY_RUN_S = 20.0
"""A dry run is answered after at most that long."""


class AsyncWaits(ClientPart):
    """Waits of all sessions: the inbox."""

    async def get(self, wait_id: str) -> WaitInfo:
        """The wait with its body and JSON Schema.

        Raises:
            WaitNotFound: There is none with this id.
        """
        return await self._ask(GET_WAIT, wait_id)

    def list(
        self,
        *,
        task: str | AnyTask | None = None,
        limit: int | None = None,
        **wanted: Unpack[WaitsWanted],
    ) -> AsyncIterator[WaitInfo]:
        """Waits that fit, soonest end first; pending ones of kind input and token unless asked.

        Args:
            task: Of this task.
            limit: Waits per page.
            **wanted: More filters: `status`, `kind`, `stream`, `session_id`, `priority`, `tag`, `assignee`, `batch_id`,
                `resolved_since`; `WaitsWanted` says what each is.
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
        operation_id: str | None = None,
    ) -> AnswerReceipt:
        """Answer exactly this wait (S-18).

        Args:
            wait_id: The wait.
            data: The answer.
            override_claim: Answer even if someone else has claimed it.
            override_reason: Why an admin answers instead of the people who may.
            batch_id: Names the many answers that this is one of: 1 to 128 letters, digits and `._:-`.
            sign: Signs the answer if the wait takes signed ones only: `helmr.signing.SshSigner()`.
            signature: The signature itself, armored, of who has made it elsewhere.
            operation_id: Makes the call repeatable by a later process.

        Returns:
            The receipt; of a wait that several people must agree on a `VoteReceipt`, until they do.

        Raises:
            WaitNotFound: There is none with this id.
            NotAnAnswerer: It is answered by other people; the message says by whom. Nothing is stored.
            SignatureNeeded: It takes signed answers only, and nothing here signs. Nothing is stored.
            BadSignature: The signature is not over this answer by a key of this person. Nothing is stored.
            WaitClaimed: Someone else has claimed it; the facts say who, until when. Nothing is stored.
            WaitResolved: It is over; the facts say who ended it, when and how. Nothing is stored.
            WaitTimedOut: Its deadline passed before. Nothing is stored.
            SchemaMismatch: The data does not fit; `errors` names the paths. Nothing is stored.
        """
        body = {"data": data, "override_claim": override_claim or UNSET}
        body["batch_id"] = batch_id if batch_id is not None else UNSET
        body["override_reason"] = override_reason if override_reason is not None else UNSET
        body["signature"] = signature if signature is not None else UNSET
        try:
            return await self._ask(ANSWER_WAIT, wait_id, body=body, operation_id=operation_id)
        except SignatureNeeded as error:
            if sign is None:
                raise
            body["signature"] = await self._signed(wait_id, data, sign, error)
        return await self._ask(ANSWER_WAIT, wait_id, body=body, operation_id=operation_id)

    async def _signed(self, wait_id: str, data: Any, sign: Sign, error: SignatureNeeded) -> str:
        """The signature that the refusal asks for."""
        person, keys = error.facts.get("person"), error.facts.get("keys")
        if not isinstance(person, str) or not isinstance(keys, list):
            raise error
        asked = ToSign(await self.get(wait_id), to_json(data), person, [str(key) for key in keys])
        made = sign(asked)
        return made if isinstance(made, str) else await made

    async def withdraw(self, wait_id: str) -> VoteReceipt:
        """Take one's vote on this wait back, until enough people agree (S-113); without one nothing changes.

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved, WaitTimedOut: It is over.
        """
        return await self._ask(WITHDRAW_VOTE, wait_id)

    async def claim(
        self, wait_id: str, *, expires_in: Duration | None = None, override_claim: bool = False
    ) -> ClaimReceipt:
        """Claim the wait, so that no one else answers it meanwhile; again, renew the claim (S-81).

        Args:
            wait_id: A pending wait for input or a token.
            expires_in: Without it 15 minutes; at most a day.
            override_claim: Claim it even if someone else has; that claim ends.

        Raises:
            WaitNotFound: There is none with this id.
            WaitClaimed: Someone else has claimed it; the facts say who, until when.
            WaitResolved, WaitTimedOut: It is over.
        """
        body = {"override_claim": override_claim or UNSET, "expires_in": _seconds(expires_in)}
        return await self._ask(CLAIM_WAIT, wait_id, body=body)

    async def release(self, wait_id: str) -> ClaimReceipt:
        """End one's claim; without one nothing changes.

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
        """Make a link by which this person answers this wait, once (S-74).

        Args:
            wait_id: A pending wait for input or a token.
            person: On whose behalf the answer is recorded.
            expires_in: At most 7 days; the wait's deadline ends it all the same. Without it until that, at most 7 days.
            operation_id: Makes the call repeatable.

        Returns:
            The link with its URL, which is a secret and shown here only.

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved: It is over.
            BadRequest: The person or the time can't be used.
        """
        body = {"person": person, "expires_in": _seconds(expires_in)}
        return await self._ask(CREATE_LINK, wait_id, body=body, operation_id=operation_id)

    async def links(self, wait_id: str) -> Sequence[AnswerLinkInfo]:
        """The wait's links, newest first, without their URLs; revoked and expired ones too."""
        page: Page[AnswerLinkInfo] = await self._ask(LIST_LINKS, wait_id)
        return page.items

    async def unlink(
        self, wait_id: str, *, link_id: str, operation_id: str | None = None
    ) -> AnswerLinkInfo:
        """Revoke a link; revoking again changes nothing.

        Raises:
            KeyNotFound: The wait has no such link.
        """
        return await self._ask(REVOKE_LINK, wait_id, link_id, operation_id=operation_id)

    async def dry_run(self, wait_id: str, data: Any) -> DryRun:
        """What that answer would set off: the ops that the code asks for, to the first that touches the world (S-87).

        Nothing of it happens.

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved: It is over.
            SchemaMismatch: The data does not fit.
            Overloaded: Too many are dry-run at once.
        """
        asked = call(DRY_RUN_ANSWER, wait_id, body={"data": data})
        asked = replace(asked, read_timeout_s=READ_TIMEOUT_S + DRY_RUN_S)
        return await self._transport.call(asked)

    async def preview_amend(
        self, wait_id: str, *, keep_answers: bool = True, keep_children: bool = False
    ) -> RewindPreview:
        """What giving this wait another answer would do now, whatever the answer (S-76, S-79).

        Args:
            wait_id: An answered or timed-out wait of a session's newest run.
            keep_answers: False asks every question behind it again.
            keep_children: True lets the child sessions go on that were started behind it.

        Raises:
            WaitNotFound: There is none with this id.
            WaitNotAmendable: It is pending, was cancelled, has no answer, or the run went back before it.
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
        """Give the wait another answer: the run goes back to it and on with that (S-79).

        Args:
            wait_id: The wait.
            data: The answer that it should have had.
            preview: What someone looked at.
            reason: Why, 1 to 500 characters; it stands in the transcript.
            override_reason: Why an admin does instead of the people who may answer.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            NotAnAnswerer: It is answered by other people.
            NotAmendable: Several people gave the answer.
            SessionChanged: It would do something else by now; nothing has happened. Look again.
            WaitNotAmendable: As `preview_amend`.
            SchemaMismatch: The data does not fit; `errors` names the paths. Nothing is stored.
        """
        body = {"data": data, "reason": reason, **seen(preview)}
        body["override_reason"] = override_reason if override_reason is not None else UNSET
        return await self._ask(AMEND_WAIT, wait_id, body=body, operation_id=operation_id)


def _seconds(duration: Duration | None) -> Any:
    return seconds(duration) if duration is not None else UNSET
