"""The pages that end a session or begin a run again: what it will do is read, and the id typed, before it is done."""

from __future__ import annotations

from typing import Any

from helmr.models import RunInfo
from helmr_console import effects
from helmr_console.actions import Context
from helmr_console.permits import Permit, Writer
from helmr_console.screens.confirm import ConfirmScreen


def cancelling(writer: Writer, session_id: str, given: Context) -> ConfirmScreen:
    """Cancel a session (S-6)."""

    async def act(permit: Permit, operation_id: str) -> Any:
        return await writer.cancel(permit, session_id, operation_id=operation_id)

    texts = (
        "end the session for good: its run, its waits and its pending tokens are cancelled",
        "steps that ran stay done; nothing is undone",
    )
    return ConfirmScreen(
        "session.cancel", "Cancel session", act, expect=session_id, texts=texts, given=given
    )


def closing(writer: Writer, session_id: str, given: Context, *, end_input: bool) -> ConfirmScreen:
    """Close a session (S-6). `end_input`: its run waits, and goes on without an answer."""

    async def act(permit: Permit, operation_id: str) -> Any:
        return await writer.close(
            permit, session_id, end_input=end_input, operation_id=operation_id
        )

    texts = ["take no more input; the transcript stays readable"]
    if end_input:
        texts.append("end the input it waits for: the run goes on without an answer")
    return ConfirmScreen(
        "session.close", "Close session", act, expect=session_id, texts=texts, given=given
    )


def retrying(writer: Writer, run: RunInfo, given: Context) -> ConfirmScreen:
    """Start the next attempt of a run (S-5)."""

    async def act(permit: Permit, operation_id: str) -> Any:
        return await writer.retry(permit, run.id, operation_id=operation_id)

    return ConfirmScreen(
        "run.retry", "Retry run", act, expect="", texts=effects.of_retry(run), given=given
    )
