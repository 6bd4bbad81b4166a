"""Facts outside of a session that its code uses: tokens, child sessions, and files.

Code asks the ledger about them in steps; a repeated call acts once, even after a crash between the ledger's entry and
the session's (S-91). Code also waits for their end: such a wait is opened, and timed out, only if the ledger confirms
the token's state (S-13). These two decisions are committed alone: nothing is applied before the ledger has stored it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from typing import Any

from helmr.current import StepRef
from helmr.errors import BadRequest, HelmrError, Moved, Unavailable, UsageError
from helmr.models import ATTACHMENTS_OF_SESSION_MAX, Page, TokenInfo
from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.children import Parent
from helmr_runtime.core.commands import AnswerDetails, OperationKey, SessionCommand, TokenEnded
from helmr_runtime.core.decide import Decided, decide, ops
from helmr_runtime.core.decide.inputs import is_ended
from helmr_runtime.core.entries import RUNTIME, EntryKind, Principal, from_iso, task_principal
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.run import Run
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.tokens import CancelToken, CompleteToken, TokenQuestion
from helmr_runtime.faults import Point, reach
from helmr_runtime.ports import Declined, Precondition, StartSession, TokenNotCompleted, TokenOpen
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.replay import RunDriver
from helmr_runtime.security.schemas import complete
from helmr_runtime.session.events import SessionView

QUESTION_TRIES = 25
QUESTION_PAUSE_S = 0.2
"""Seconds between tries: a killed ledger answers again after two seconds; a wait opens after five in any case."""


async def task_call(
    ledger: Ledger,
    asking: tuple[SessionState, Run],
    call: str,
    named: str | None,
    arguments: Mapping[str, Any],
    *,
    step: StepRef,
) -> Any:
    """Make one call, as JSON: `sessions.start`, `tokens.…`, or `attachments.…` with bytes.

    Args:
        asking: The session and the run whose code asks.
        call: The name of the call.
        named: The token or file, if the call is about one.
        arguments: As on the wire.
        step: Names the call, so that a repeated one acts once.
    """
    state, run = asking
    what, _, method = call.partition(".")
    if what == "sessions":
        return await start_child(ledger, state, run, step.op, arguments, step.key)
    if what == "attachments":
        assert named is not None
        return await attachment_call(ledger, state, method, named, **arguments)
    return await task_token_call(ledger, run.id, method, named, arguments, step.key)


async def attachment_call(
    ledger: Ledger,
    state: SessionState,
    method: str,
    attachment_id: str,
    *,
    number: int,
    data: bytes = b"",
) -> bytes:
    """Store or return a piece of a file of the session.

    Args:
        method: put or get.
        number: Of the piece, from 0.
        data: The piece to store.

    Raises:
        UsageError: The session has as many files as it may.
        AttachmentNotFound: There is no such piece.
        StoreUnavailable: The store does not answer.
    """
    if method == "get":
        return await ledger.attachment_piece(state.id, attachment_id, number)
    if len(state.attachments) >= ATTACHMENTS_OF_SESSION_MAX:
        raise UsageError(
            f"{state.id} has {ATTACHMENTS_OF_SESSION_MAX:,} files, as many as a session may have",
            hint="Store the rest elsewhere and show links.",
        )
    await ledger.put_attachment_piece(state.id, attachment_id, number, data)
    return b""


async def start_child(
    ledger: Ledger, state: SessionState, run: Run, op: int, call: Mapping[str, Any], key: str
) -> str:
    """Return the child that this op has started, and start it first if there is none yet.

    Args:
        state: The parent.
        run: The parent's run whose code asks.
        op: The op that asks.
        call: A `ChildCall`'s parts.
        key: The op's step key. The child's idempotency key is made from it, and the ledger keeps that forever. A child
            that a rewind has ended does not count: an op open at the rewind keeps its old key.

    Raises:
        HelmrError: The ledger refuses it, for example because the run is over.
    """
    parent = Parent(
        session_id=state.id, run_id=run.id, op=op, attempt=run.attempt, leaves=call["leaves"]
    )
    for number in count(1):
        started = await ledger.start(
            StartSession(
                session_id=ids.new_id(ids.SESSION),
                run_id=ids.new_id(ids.RUN),
                task=call["task"],
                payload=call["payload"],
                external_id=None,
                tags=tuple(call["tags"]),
                metadata=call["metadata"],
                idempotency_key=f"child {number} of {key}",
                principal=task_principal(run.id),
                operation=None,
                request_hash=jsontext.same_data_hash([call["task"], call["payload"]]),
                parent=parent,
                starters=tuple(state.all_starters),
            )
        )
        reach(Point.SESSION_CHILD_STARTED)
        if started.created:
            return started.session_id
        ended = await ledger.token_end(started.session_id)
        if ended is None or ended["status"] != "cancelled":
            return started.session_id
    raise AssertionError("unreachable")


async def task_token_call(
    ledger: Ledger,
    run_id: str,
    method: str,
    token_id: str | None,
    arguments: Mapping[str, Any],
    key: str,
) -> Any:
    """Make one call about tokens, as JSON.

    Args:
        run_id: The run whose code asks.
        method: get, list, complete or cancel.
        token_id: The token; None for list.
        arguments: As on the wire.
        key: The call's step key: a repeated call acts once.
    """
    if method == "list":
        return (
            Page[TokenInfo]
            .model_validate(await ledger.list_tokens(**arguments))
            .model_dump(mode="json", by_alias=True)["items"]
        )
    assert token_id is not None
    principal = task_principal(run_id)
    operation = OperationKey(
        id=key, request_hash=jsontext.same_data_hash([method, token_id, dict(arguments)])
    )
    match method:
        case "get":
            return _info(await ledger.get_token(token_id))
        case "complete":
            return await complete(
                lambda: ledger.get_token(token_id),
                ledger.fact,
                lambda checked: CompleteToken(
                    principal=principal,
                    operation=operation,
                    token_id=token_id,
                    data=arguments["data"],
                    checked=checked,
                ),
            )
        case "cancel":
            fact = CancelToken(principal=principal, operation=operation, token_id=token_id)
            await ledger.fact(fact)
            return _info(await ledger.get_token(token_id))
        case _:
            raise BadRequest(f"tokens.{method} is unknown")


async def question_of(ledger: Ledger, run: Run, token_id: str) -> TokenQuestion | None:
    """Return the token's question; None if there is no such token, or its texts can't be read.

    The journal holds the question of the run's own tokens. A ledger that is briefly away is asked again, because a
    wait's texts are written only once.
    """
    for entry in run.journal:
        if entry.kind is EntryKind.TOKEN_CREATED and entry.body["token_id"] == token_id:
            return TokenQuestion.of(entry.body)
    for _ in range(QUESTION_TRIES):
        try:
            return TokenQuestion.of(await ledger.get_token(token_id))
        except Unavailable:
            await asyncio.sleep(QUESTION_PAUSE_S)
        except HelmrError:
            return None
    return None


def _info(token: Mapping[str, Any]) -> Any:
    return TokenInfo.model_validate(token).model_dump(mode="json", by_alias=True)


# --- waits on tokens and on child sessions ----------------------------------------------------------


async def open_outside(
    session: SessionView, ledger: Ledger, driver: RunDriver, op: int, ask: WaitRequest
) -> None:
    """Open a wait on a token or on child sessions, only if the ledger confirms that it has not ended (S-13)."""
    await session.idle()
    run = session.run_of(driver)
    if run is None:
        return
    guard = TokenOpen(ask.awaits, ask.wait_id)
    token_id = ask.token_id
    question = await question_of(ledger, run, token_id) if token_id is not None else None
    ended: TokenEnded | None = None
    while not session.is_over:
        context = session.context()
        drafts = ops.open_wait(
            session.state, run, op, ask, context, token_ended=ended, question=question
        )
        reply = await session.commit_alone(drafts, (guard,) if ended is None else ())
        if not isinstance(reply, Declined):
            return
        ended = _token_end(reply.facts, ask, context.now)


async def time_out_outside(session: SessionView, command: SessionCommand) -> Decided:
    """Time out a wait on a token; a completion before the deadline or default wins, even if it arrives late (S-14,
    S-82)."""
    wait = session.state.wait
    assert wait is not None
    decision = decide(session.state, command, session.context(command.sent_at))
    if not decision.drafts:
        return decision
    guards: tuple[Precondition, ...] = ()
    if is_ended(decision.drafts):
        is_over = decision.drafts[-1].kind is EntryKind.WAIT_TIMED_OUT
        ends_at = wait.deadline_at if is_over else wait.default_at
        assert ends_at is not None
        guards = (TokenNotCompleted(wait.awaits, ends_at),)
    await session.idle()
    if session.is_over:
        raise Moved(f"{session.state.id} left this host")
    reply = await session.commit_alone(decision.drafts, guards)
    if isinstance(reply, Declined):
        return Decided(reply={"status": "resolved"})
    return decision


def _token_end(facts: Mapping[str, Any], ask: WaitRequest, now: datetime) -> TokenEnded:
    """Return the end of the awaited token or child; one that does not exist ends the wait, too."""
    return TokenEnded(
        principal=RUNTIME,
        wait_id=ask.wait_id,
        token_id=facts["token_id"],
        status=facts["status"],
        data=facts.get("data"),
        ended_at=from_iso(facts["ended_at"]) if "ended_at" in facts else now,
        ended_by=Principal.from_json(facts["ended_by"]) if "ended_by" in facts else RUNTIME,
        details=AnswerDetails.of(facts),
    )
