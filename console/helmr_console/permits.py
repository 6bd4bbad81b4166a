"""The only way to write: a permit that the gate hands out for one action of the table.

`Writer` is the single place in the console that calls a mutating method of the client, and every method of it
asks for a permit. Read-only mode and a stale picture give none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helmr.client.aio import AsyncClient
from helmr.models import (
    AssignReceipt,
    ClaimReceipt,
    NoteReceipt,
    NoticeRetryReceipt,
    RewindPreview,
    RunInfo,
    ScheduleInfo,
    ScheduleReceipt,
    SendReceipt,
    SessionInfo,
    TokenAnswerReceipt,
)
from helmr_console.actions import BY_ID, Context


class Refused(Exception):
    """The action can't be done now; the text says why."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Proof that the gate let this action through."""

    action_id: str


def permit(action_id: str, context: Context) -> Permit:
    """Let a writing action through, or say why not.

    Raises:
        Refused: With the reason that the footer's key gives too.
    """
    action = BY_ID[action_id]
    if not action.writes:
        raise Refused(f"{action_id} is not an action that writes")
    reason = action.refusal(context)
    if reason:
        raise Refused(reason)
    return Permit(action_id)


class Writer:
    """Everything the console can send. Each call carries an operation id, so repeating it is safe (S-61)."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def answer(
        self,
        permit: Permit,
        wait_id: str,
        data: Any,
        *,
        override_claim: bool = False,
        batch_id: str | None = None,
        operation_id: str,
    ) -> SendReceipt | TokenAnswerReceipt:
        """Answer exactly this wait (S-18)."""
        return await self._client.waits.answer(
            wait_id,
            data,
            override_claim=override_claim,
            batch_id=batch_id,
            operation_id=operation_id,
        )

    async def claim(
        self, permit: Permit, wait_id: str, *, override_claim: bool = False
    ) -> ClaimReceipt:
        """Say that the operator is at this wait, or renew that (S-81)."""
        return await self._client.waits.claim(wait_id, override_claim=override_claim)

    async def release(self, permit: Permit, wait_id: str) -> ClaimReceipt:
        """The operator is at this wait no more."""
        return await self._client.waits.release(wait_id)

    async def assign(
        self, permit: Permit, wait_id: str, assignee: str | None, *, operation_id: str
    ) -> AssignReceipt:
        """Say whom a wait concerns (S-72)."""
        return await self._client.waits.assign(
            wait_id, assignee=assignee, operation_id=operation_id
        )

    async def send(
        self,
        permit: Permit,
        session_id: str,
        stream: str,
        data: Any,
        *,
        correlation_id: str | None,
        operation_id: str,
    ) -> SendReceipt:
        """Send input to a session."""
        inputs = self._client.sessions.open(session_id).input(stream)
        return await inputs.send(data, correlation_id=correlation_id, operation_id=operation_id)

    async def note(
        self, permit: Permit, session_id: str, text: str, *, operation_id: str
    ) -> NoteReceipt:
        """Write a note into a transcript."""
        return await self._client.sessions.open(session_id).note(text, operation_id=operation_id)

    async def cancel(self, permit: Permit, session_id: str, *, operation_id: str) -> SessionInfo:
        """Cancel a session (S-6)."""
        return await self._client.sessions.open(session_id).cancel(operation_id=operation_id)

    async def close(
        self, permit: Permit, session_id: str, *, end_input: bool, operation_id: str
    ) -> SessionInfo:
        """Close a session (S-6)."""
        session = self._client.sessions.open(session_id)
        return await session.close(end_input=end_input, operation_id=operation_id)

    async def retry(self, permit: Permit, run_id: str, *, operation_id: str) -> RunInfo:
        """Start a run's next attempt (S-5)."""
        return await self._client.runs.retry(run_id, operation_id=operation_id)

    async def pause_schedule(
        self, permit: Permit, name: str, *, paused: bool, operation_id: str
    ) -> ScheduleInfo:
        """Pause a schedule or go on with it (S-93)."""
        schedules = self._client.schedules
        verb = schedules.pause if paused else schedules.resume
        return await verb(name, operation_id=operation_id)

    async def run_schedule(self, permit: Permit, name: str, *, operation_id: str) -> SessionInfo:
        """Start a session as a schedule does; that session."""
        return (await self._client.schedules.run(name, operation_id=operation_id)).session

    async def create_schedule(
        self, permit: Permit, *, task: str, parts: Mapping[str, Any], operation_id: str
    ) -> ScheduleInfo:
        """Make a schedule; `parts` are its name, times and payload (S-93)."""
        return await self._client.schedules.create(**parts, task=task, operation_id=operation_id)

    async def delete_schedule(
        self, permit: Permit, name: str, *, operation_id: str
    ) -> ScheduleReceipt:
        """Delete a schedule; the sessions that it started stay."""
        return await self._client.schedules.delete(name, operation_id=operation_id)

    async def retry_notices(
        self, permit: Permit, name: str, *, operation_id: str
    ) -> NoticeRetryReceipt:
        """Try now what a notice target has not taken (S-84); repeating it is as good as once."""
        return await self._client.notices.retry(name)

    async def rewind(
        self, permit: Permit, seen: RewindPreview, *, reason: str, operation_id: str
    ) -> RunInfo:
        """Take a run back as was shown (S-75)."""
        return await self._client.runs.rewind(
            seen.run_id, preview=seen, reason=reason, operation_id=operation_id
        )

    async def amend(
        self,
        permit: Permit,
        wait_id: str,
        data: Any,
        seen: RewindPreview,
        *,
        reason: str,
        operation_id: str,
    ) -> RunInfo:
        """Give a resolved wait another answer (S-79)."""
        return await self._client.waits.amend(
            wait_id, data, preview=seen, reason=reason, operation_id=operation_id
        )

    async def fork(
        self,
        permit: Permit,
        session_id: str,
        *,
        to_op: int | None,
        wait_id: str | None,
        reason: str,
        operation_id: str,
    ) -> SessionInfo:
        """Start a session that begins with another's past (S-86); the new one."""
        made = await self._client.sessions.open(session_id).fork(
            to_op=to_op, wait_id=wait_id, reason=reason, operation_id=operation_id
        )
        return made.session
