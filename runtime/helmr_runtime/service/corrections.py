"""Corrections preview and make rewinds, amendments and forks (S-75…S-79, S-86).

A preview reads the disk and asks no host. The command carries the preview's hash, and the session's host decides it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from helmr.errors import OpNotFound, TooLarge
from helmr.models import (
    VALUE_BYTES_MAX,
    AmendPreviewRequest,
    AmendRequest,
    ForkRequest,
    RewindPreview,
    RewindPreviewRequest,
    RewindRequest,
    RunInfo,
    StartReceipt,
)
from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import AmendWait, RewindRun
from helmr_runtime.core.corrections import (
    place_of,
    plan_amendment,
    plan_rewind,
    preview_of,
    rewindable,
    wait_at,
)
from helmr_runtime.core.fork import ForkSession
from helmr_runtime.core.run import Run
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports.ledger import Json, restore
from helmr_runtime.security.schemas import check, data_schema
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.sessions import RunOperations, SessionOperations
from helmr_runtime.service.shared import Shared


class Corrections:
    """Rewinds, amendments and forks."""

    def __init__(self, shared: Shared, runs: RunOperations, sessions: SessionOperations) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._catalog = shared.catalog
        self._repeats = shared.repeats
        self._runs = runs
        self._sessions = sessions

    # --- rewinds ----------------------------------------------------------------------------------

    async def preview_rewind(self, run_id: str, request: RewindPreviewRequest) -> RewindPreview:
        """Preview a rewind of the run, as it would go now (S-76).

        Raises:
            RunNotFound: No run with that id.
            RunNotRewindable: It is not its session's newest run.
            OpNotFound: Its journal has no such op or wait.
            SessionTerminal: Its session was closed or cancelled, but not by this run.
        """
        session_id = (await self._runs.get(run_id)).session_id
        state = await self._state(session_id)
        run = rewindable(state, run_id)
        to_op = place_of(run, request.to_op, request.wait_id)
        plan = plan_rewind(state, run, to_op, **_kept(request))
        return preview_of(state, run, plan, **_kept(request))

    async def rewind(self, caller: Caller, run_id: str, request: RewindRequest) -> RunInfo:
        """Rewind the run (S-75).

        Raises:
            SessionChanged: It would do something other than the preview said.
            As `preview_rewind`.
        """
        operation = caller.operation("runs.rewind", run_id, request.model_dump())
        run = await self._runs.get(run_id)
        command = RewindRun(
            principal=caller.principal,
            operation=operation,
            run_id=run_id,
            to_op=request.to_op,
            reason=request.reason,
            seen=request.preview_hash,
            keep_answers=request.keep_answers,
            keep_children=request.keep_children,
        )
        await self._router.command(run.session_id, command)
        return await self._runs.get(run_id)

    # --- amendments -------------------------------------------------------------------------------

    async def preview_amend(self, wait_id: str, request: AmendPreviewRequest) -> RewindPreview:
        """Preview another answer to the wait, as it would go now (S-79).

        Raises:
            WaitNotFound: No wait with that id.
            WaitNotAmendable: It has no answer or timeout to amend.
            RunNotRewindable, SessionTerminal: As `preview_rewind`.
        """
        wait = await self._wait(wait_id)
        state = await self._state(str(wait["session_id"]))
        run = rewindable(state, str(wait["run_id"]))
        plan = plan_amendment(state, run, wait_id, **_kept(request))
        return preview_of(state, run, plan, **_kept(request))

    async def amend(self, caller: Caller, wait_id: str, request: AmendRequest) -> RunInfo:
        """Give the wait another answer (S-79).

        Raises:
            SchemaMismatch: The data does not fit the wait.
            SessionChanged: It would do something other than the preview said.
            NotAnAnswerer: The wait is reserved for others (S-112).
            NotAmendable: Several people gave the answer.
            As `preview_amend`.
        """
        operation = caller.operation("waits.amend", wait_id, request.model_dump())
        wait = await self._wait(wait_id)
        command = AmendWait(
            principal=caller.principal,
            operation=operation,
            run_id=str(wait["run_id"]),
            wait_id=wait_id,
            record_id=ids.new_id(ids.RECORD),
            data=request.data,
            reason=request.reason,
            seen=request.preview_hash,
            keep_answers=request.keep_answers,
            keep_children=request.keep_children,
            override_reason=request.override_reason,
            identity=caller.identity,
            may_override=caller.may_override,
        )

        async def write() -> Json:
            if wait["token_id"] is not None:
                check(await self._ledger.get_token(wait["token_id"]), request.data)
            return await self._router.command(str(wait["session_id"]), command)

        await self._repeats.receipt(caller, operation, write)
        return await self._runs.get(str(wait["run_id"]))

    # --- forks ------------------------------------------------------------------------------------

    async def fork(self, caller: Caller, session_id: str, request: ForkRequest) -> StartReceipt:
        """Start a session that begins with this one's past up to an op (S-86).

        Raises:
            SessionNotFound: No session with that id.
            OpNotFound: Its newest run's journal has no such op or wait.
            ForkRefused: The session waits for a token there.
            SchemaMismatch: The answer does not fit the wait.
            NotAnAnswerer, NotAmendable: An answer is given, and the wait is reserved for others (S-112).
        """
        ids.check_id(session_id, ids.SESSION)
        is_answered = "answer" in request.model_fields_set
        asked = request.model_dump(exclude_unset=True)
        operation = caller.operation("sessions.fork", session_id, asked)

        async def write() -> Json:
            state = await self._state(session_id)
            if state.run is None:
                raise OpNotFound(f"{session_id} has no run")
            to_op = place_of(state.run, request.to_op, request.wait_id)
            if is_answered:
                await self._check_answer(state, state.run, to_op, request.answer)
            fork = ForkSession(
                origin_id=session_id,
                session_id=ids.new_id(ids.SESSION),
                to_op=to_op,
                reason=request.reason,
                answer=(request.answer,) if is_answered else None,
                record_id=ids.new_id(ids.RECORD),
                principal=caller.principal,
                operation=operation,
                identity=caller.identity,
                override_reason=request.override_reason,
                may_override=caller.may_override,
            )
            return await self._router.write(
                lambda: self._ledger.fork_session(fork), what=f"a fork of {session_id}"
            )

        receipt = await self._repeats.receipt(caller, operation, write)
        session, run = await asyncio.gather(
            self._sessions.get(str(receipt["session_id"])), self._runs.get(str(receipt["run_id"]))
        )
        return StartReceipt(session=session, run=run, created=True)

    async def _check_answer(self, state: SessionState, run: Run, to_op: int, data: Any) -> None:
        """Raise unless the data can answer the wait at that op."""
        size_bytes = len(jsontext.encode(data).encode())
        if size_bytes > VALUE_BYTES_MAX:
            raise TooLarge(f"an answer of {size_bytes} bytes; at most {VALUE_BYTES_MAX} (S-28)")
        question = wait_at(run, to_op)
        schema = question.get("schema")
        if "token_id" in question:
            check(await self._ledger.get_token(question["token_id"]), data)
        elif schema is None:
            schema = await self._catalog.input_schema(state.task, question["stream"])
        if schema is not None:
            data_schema(schema).check(data)

    # --- parts ------------------------------------------------------------------------------------

    async def _state(self, session_id: str) -> SessionState:
        return restore(session_id, await self._ledger.snapshot(session_id))

    async def _wait(self, wait_id: str) -> Json:
        ids.check_id(wait_id, ids.WAIT)
        return await self._ledger.get_wait(wait_id)


def _kept(
    request: RewindPreviewRequest | AmendPreviewRequest,
) -> dict[str, bool]:
    return {"keep_answers": request.keep_answers, "keep_children": request.keep_children}
