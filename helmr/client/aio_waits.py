"""The waits of an `AsyncClient`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any

from helmr.client import claim_operations, correction_operations, wait_operations
from helmr.client.http import AsyncHttpTransport
from helmr.client.paging import all_pages_async
from helmr.durations import Duration
from helmr.models import (
    AnswerLinkInfo,
    AnswerLinkReceipt,
    AssignReceipt,
    ClaimReceipt,
    Page,
    Rehearsal,
    RewindPreview,
    RunInfo,
    SendReceipt,
    TokenAnswerReceipt,
    WaitInfo,
)
from helmr.tasks import AnyTask


class AsyncWaits:
    """Waits of all sessions: the inbox."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    async def get(self, wait_id: str) -> WaitInfo:
        """The wait with its body and JSON Schema.

        Raises:
            WaitNotFound: There is none with this id.
        """
        return await self._transport.call(wait_operations.get_wait(wait_id))

    def list(
        self,
        *,
        status: str | None = None,
        kind: str | Iterable[str] | None = None,
        task: str | AnyTask | None = None,
        stream: str | None = None,
        session_id: str | None = None,
        priority: str | None = None,
        tag: str | None = None,
        assignee: str | None = None,
        batch_id: str | None = None,
        resolved_since: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[WaitInfo]:
        """Waits that fit, soonest end first; pending ones of kind input and token unless asked.

        Args:
            status: `pending`, `fulfilled`, `timed_out` or `cancelled`.
            kind: One or more of `input`, `token`, `timer`.
            task: Of this task.
            stream: On this stream.
            session_id: Of this session.
            priority: `low`, `normal` or `high`.
            tag: Of the wait or of its session.
            assignee: Exactly this one.
            batch_id: Answered as one of this batch.
            resolved_since: Over at this time, which has a zone, or later.
            limit: Waits per page.
        """
        return all_pages_async(
            lambda cursor: self.page(
                status=status,
                kind=kind,
                task=task,
                stream=stream,
                session_id=session_id,
                priority=priority,
                tag=tag,
                assignee=assignee,
                batch_id=batch_id,
                resolved_since=resolved_since,
                limit=limit,
                cursor=cursor,
            )
        )

    async def page(
        self,
        *,
        status: str | None = None,
        kind: str | Iterable[str] | None = None,
        task: str | AnyTask | None = None,
        stream: str | None = None,
        session_id: str | None = None,
        priority: str | None = None,
        tag: str | None = None,
        assignee: str | None = None,
        batch_id: str | None = None,
        resolved_since: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[WaitInfo]:
        """One page of `list`."""
        return await self._transport.call(
            wait_operations.list_waits(
                status=status,
                kind=kind,
                task=task,
                stream=stream,
                session_id=session_id,
                priority=priority,
                tag=tag,
                assignee=assignee,
                batch_id=batch_id,
                resolved_since=resolved_since,
                limit=limit,
                cursor=cursor,
            )
        )

    async def answer(
        self,
        wait_id: str,
        data: Any,
        *,
        override_claim: bool = False,
        batch_id: str | None = None,
        operation_id: str | None = None,
    ) -> SendReceipt | TokenAnswerReceipt:
        """Answer exactly this wait (S-18).

        Args:
            wait_id: The wait.
            data: The answer.
            override_claim: Also if another is at it.
            batch_id: Names the many answers that this is one of: 1 to 128 letters, digits and `._:-`.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            WaitNotFound: There is none with this id.
            WaitClaimed: Another is at it; the facts say who, until when. Nothing is stored.
            WaitResolved: It is over; the facts say who ended it, when and how. Nothing is stored.
            WaitTimedOut: Its deadline passed before. Nothing is stored.
            SchemaMismatch: The data does not fit; `errors` names the paths. Nothing is stored.
        """
        return await self._transport.call(
            wait_operations.answer_wait(
                wait_id,
                data,
                override_claim=override_claim,
                batch_id=batch_id,
                operation_id=operation_id,
            )
        )

    async def claim(
        self, wait_id: str, *, expires_in: Duration | None = None, override_claim: bool = False
    ) -> ClaimReceipt:
        """Say that one is at this wait, so that no other answers it meanwhile; again, renew that (S-81).

        Args:
            wait_id: A pending wait for input or a token.
            expires_in: Without it 15 minutes; at most a day.
            override_claim: Also if another is at it, whose claim ends.

        Raises:
            WaitNotFound: There is none with this id.
            WaitClaimed: Another is at it; the facts say who, until when.
            WaitResolved, WaitTimedOut: It is over.
        """
        call = claim_operations.claim(wait_id, expires_in=expires_in, override_claim=override_claim)
        return await self._transport.call(call)

    async def release(self, wait_id: str) -> ClaimReceipt:
        """End one's claim; without one nothing changes.

        Raises:
            WaitClaimed: Another is at it.
            WaitResolved, WaitTimedOut: It is over.
        """
        return await self._transport.call(claim_operations.release(wait_id))

    async def assign(
        self, wait_id: str, *, assignee: str | None, operation_id: str | None = None
    ) -> AssignReceipt:
        """Say whom this wait concerns from now on; None: nobody in particular (S-72).

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved, WaitTimedOut: It is over.
        """
        call = claim_operations.assign(wait_id, assignee, operation_id=operation_id)
        return await self._transport.call(call)

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
        call = wait_operations.create_link(
            wait_id, person=person, expires_in=expires_in, operation_id=operation_id
        )
        return await self._transport.call(call)

    async def links(self, wait_id: str) -> Sequence[AnswerLinkInfo]:
        """The wait's links, newest first, without their URLs; revoked and expired ones too."""
        return (await self._transport.call(wait_operations.list_links(wait_id))).items

    async def unlink(
        self, wait_id: str, *, link_id: str, operation_id: str | None = None
    ) -> AnswerLinkInfo:
        """Revoke a link; revoking again changes nothing.

        Raises:
            KeyNotFound: The wait has no such link.
        """
        call = wait_operations.revoke_link(wait_id, link_id, operation_id=operation_id)
        return await self._transport.call(call)

    async def rehearse(self, wait_id: str, data: Any) -> Rehearsal:
        """What that answer would set off: the ops that the code asks for, to the first that touches the world (S-87).

        Nothing of it happens.

        Raises:
            WaitNotFound: There is none with this id.
            WaitResolved: It is over.
            SchemaMismatch: The data does not fit.
            Overloaded: Too many are rehearsed at once.
        """
        return await self._transport.call(wait_operations.rehearse_answer(wait_id, data))

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
        call = correction_operations.preview_amend(
            wait_id, keep_answers=keep_answers, keep_children=keep_children
        )
        return await self._transport.call(call)

    async def amend(
        self,
        wait_id: str,
        data: Any,
        *,
        preview: RewindPreview,
        reason: str,
        operation_id: str | None = None,
    ) -> RunInfo:
        """Give the wait another answer: the run goes back to it and on with that (S-79).

        Args:
            wait_id: The wait.
            data: The answer that it should have had.
            preview: What somebody looked at.
            reason: Why, 1 to 500 characters; it stands in the transcript.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            SessionChanged: It would do something else by now; nothing has happened. Look again.
            WaitNotAmendable: As `preview_amend`.
            SchemaMismatch: The data does not fit; `errors` names the paths. Nothing is stored.
        """
        call = correction_operations.amend(
            wait_id, data, preview, reason=reason, operation_id=operation_id
        )
        return await self._transport.call(call)
