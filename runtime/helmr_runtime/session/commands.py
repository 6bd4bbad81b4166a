"""Checks a command before it is decided: repetition, fit of its data, and claims of the wait.

A repeated command gets its first receipt (S-61). `decide` finds recent receipts of this adoption in the session's
state; the ledger has the older ones. It is asked before a decision if the operation id is older than this adoption, and
otherwise if the decision would write nothing: a commit proves that the operation is new, a refusal does not.

Data is checked by the types of the task's own code, which only its hosts have (S-4, S-21). The gateway has checked its
JSON Schema; a pydantic validator may still refuse it. If the code no longer has the task, or the stream that it waits
on, the session keeps sent data: the JSON Schema of its wait checks it, if there is one, and the run is blocked (S-3)
until code decodes it.

The ledger decides claims of waits (S-81): a host gets them with the adoption, and then from the gateway. Answers are
checked against them here, and their entries are written with the session's next entry.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helmr.errors import (
    BadSchema,
    HelmrError,
    HelmrSignal,
    RunCancelled,
    RunParked,
    StreamNotFound,
    TaskNotFound,
)
from helmr.wire import ids
from helmr_runtime.catalog import Registered
from helmr_runtime.core.claims import WaitClaims
from helmr_runtime.core.commands import (
    AmendWait,
    AnswerWait,
    CancelRun,
    CancelSession,
    FirstReceipt,
    OperationKey,
    RewindRun,
    Send,
    SessionCommand,
    StartRun,
    receipt_of,
)
from helmr_runtime.core.corrections import question_of_wait
from helmr_runtime.core.decide import Decided, DecisionContext, TaskPolicy
from helmr_runtime.core.decide.inputs import key_hash, repeated, require_open, require_stream
from helmr_runtime.core.entries import Entry, EntryKind, from_iso
from helmr_runtime.core.run import Wait
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import KnownKey, Loaded
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.security.schemas import DataSchema, data_schema

_HINT = "Start the runtime with the module that declares it."


@dataclass(slots=True)
class Commanded:
    """A command has come. `decided` gets its decision, and the seq that must be on disk before the reply."""

    command: SessionCommand
    decided: asyncio.Future[tuple[Decided, int]]

    def answer(self, decision: Decided, seq: int) -> None:
        """Pass on the decision; the caller may have given up."""
        if not self.decided.done():
            self.decided.set_result((decision, seq))

    def refuse(self, error: Exception) -> None:
        """Pass on an error instead of a decision."""
        if not self.decided.done():
            self.decided.set_exception(error)


class RepeatedCommands:
    """Recognizes repeated commands during one adoption.

    Args:
        asked: The operation that the ledger was asked about meanwhile.
    """

    def __init__(
        self,
        state: SessionState,
        loaded: Loaded,
        ledger: Ledger,
        *,
        asked: OperationKey | None,
        since: datetime,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._since = since
        self._told: tuple[str, FirstReceipt | None] | None = (
            (asked.id, loaded.known_operation) if asked is not None else None
        )
        """An operation that the ledger was asked about, and its reply; None is valid for one decision."""
        self.disabled = loaded.disabled
        """Disabled people; the ledger is asked again before it refuses a command for this."""
        self._key = loaded.known_key
        self._has_older_keys = loaded.has_older_keys

    def is_in_state(self, command: SessionCommand) -> bool:
        """True if `decide` answers it with its first receipt, in any state of the session."""
        if command.operation is not None and command.operation.id in self._state.operations:
            return True
        if not isinstance(command, Send) or command.idempotency_key is None:
            return False
        return (command.stream, key_hash(command.idempotency_key)) in self._state.send_keys

    def is_new(self, command: SessionCommand) -> bool:
        """True if it is not in the state.

        Raises:
            PersonDisabled: It is new, and its person is disabled.
            BadSignature: It is new, and its signing key is revoked.
        """
        if self.is_in_state(command):
            return False
        if self.disabled.people or self.disabled.keys:
            self.disabled.check_command(command)
        return True

    def is_unsure(self, command: SessionCommand) -> bool:
        """True if the ledger must be asked: it may know the command from before, or its person may be enabled again."""
        is_older = self._may_be_older(command.operation) or self._may_have_older_key(command)
        return is_older or self._may_be_enabled(command)

    def _may_be_enabled(self, command: SessionCommand) -> bool:
        return bool(self.disabled.people) and self.disabled.concern(command)

    def _may_be_older(self, operation: OperationKey | None) -> bool:
        """True if the operation may predate this adoption, by its id's time.

        The commit of a repetition taken for new fails, which ends the adoption and aborts the code.
        """
        if operation is None or operation.id in self._state.operations:
            return False
        if self._told is not None and self._told[0] == operation.id:
            return self._told[1] is not None
        made_at = ids.made_at(operation.id)
        return made_at is None or made_at <= self._since

    async def first(self, command: SessionCommand) -> Decided | None:
        """Return the first reply to an operation or a send's key from before this adoption; None if both are new.

        Raises:
            Unavailable: The ledger does not answer: no one knows.
        """
        if self._may_be_older(command.operation):
            first = await self.again(command)
            if first is not None:
                return first
        if self._may_be_enabled(command):
            self.disabled = await self._ledger.disabled()
        return await self.by_key(command)

    def is_open(self, command: SessionCommand, decision: Decided) -> bool:
        """True if no commit shows whether the operation is new and the ledger has not been asked."""
        operation = command.operation
        if operation is None or operation.id in self._state.operations:
            return False
        if decision.drafts and decision.error is None:
            return False
        if self._told is None or self._told[0] != operation.id:
            return True
        if self._told[1] is None:
            self._told = None  # new for this decision only: another session may use the id before the next one
        return False

    async def again(self, command: SessionCommand) -> Decided | None:
        """Return the first receipt if the ledger knows the operation, or its conflict; None if it is new.

        Raises:
            Unavailable: The ledger does not answer: no one knows.
        """
        operation = command.operation
        assert operation is not None
        if self._told is not None and self._told[0] == operation.id:
            first = self._told[1]
        else:
            first = await self._ledger.known_operation(operation.id)
        if first is None:
            return None
        self._told = (operation.id, first)
        try:
            return Decided(reply=first.again(operation, command.principal))
        except HelmrError as error:
            return Decided(error=error)

    def _may_have_older_key(self, command: SessionCommand) -> bool:
        if not isinstance(command, Send) or command.idempotency_key is None:
            return False
        if not (self._has_older_keys or self._state.has_forgotten_keys):
            return False
        return (command.stream, key_hash(command.idempotency_key)) not in self._state.send_keys

    async def by_key(self, command: SessionCommand) -> Decided | None:
        if not self._may_have_older_key(command):
            return None
        assert isinstance(command, Send)
        assert command.idempotency_key is not None
        older = await self._older_key(command.stream, key_hash(command.idempotency_key))
        if older is None:
            return None
        known = (older.data_hash, receipt_of(older.entry))
        try:
            return Decided(reply=repeated(known, command.data))
        except HelmrError as error:
            return Decided(error=error)

    async def _older_key(self, stream: str, hashed: str) -> KnownKey | None:
        if self._key is not None and self._key.is_of(stream, hashed):
            return self._key
        return await self._ledger.known_key(self._state.id, stream, hashed)


def check_data(
    command: SessionCommand,
    state: SessionState,
    registered: Registered | None,
    context: DecisionContext,
) -> None:
    """Decode the command's data, if it has any, and raise on errors.

    Args:
        command: A new command; the data of repeated ones was checked before.
        state: The session.
        registered: Its task in this host's code.
        context: The circumstances of the decision that follows.

    Raises:
        SchemaMismatch: The data does not fit.
        TaskNotFound: The code has no such task, which a new run needs.
        HelmrError: Nothing can be sent, to this stream or at all.
    """
    if isinstance(command, StartRun):
        _check_payload(command, state, registered)
        return
    if isinstance(command, AmendWait):
        _check_amendment(command, state, registered)
        return
    if not isinstance(command, Send | AnswerWait):
        return
    wait = state.run.wait if state.run is not None else None
    is_answer = isinstance(command, AnswerWait) and wait is not None and wait.id == command.wait_id
    stream = command.stream if isinstance(command, Send) else None
    if is_answer and wait is not None:
        stream = wait.stream
    if stream is None:
        return
    if isinstance(command, Send):
        require_open(state)
        if registered is None and stream not in context.policy.inputs:
            raise StreamNotFound(
                f"{state.id} has never used an input stream {stream[:128]!r}, and its task "
                f"{state.task} is not in the code of this runtime",
                hint=_HINT,
                streams=sorted(context.policy.inputs),
            )
        require_stream(state, stream, context)
    declared = registered.streams.get(stream) if registered is not None else None
    if is_answer and wait is not None and (wait.has_schema or declared is None):
        _check_by_wait(state, command.data)
    elif declared is not None:
        declared.codec.decode(command.data)


def policy_of(state: SessionState, registered: Registered | None) -> TaskPolicy:
    """Return the policy of the task's declaration; without one, the input streams that the session knows."""
    if registered is not None:
        return registered.policy
    known = set(state.input_seqs)
    if state.run is not None:
        known |= {stream for stream, _ in state.run.closed_waits}
    if state.wait is not None and state.wait.stream is not None:
        known.add(state.wait.stream)
    return TaskPolicy(inputs=frozenset(known))


def _check_payload(command: StartRun, state: SessionState, registered: Registered | None) -> None:
    if registered is None:
        raise TaskNotFound(
            f"task {state.task} of {state.id} is not in the code of this runtime", hint=_HINT
        )
    if command.payload_given:
        registered.task.payload_codec.decode(command.payload)


def _check_amendment(
    command: AmendWait, state: SessionState, registered: Registered | None
) -> None:
    """Check an amendment's data as an answer of that wait; the decision refuses an unknown wait."""
    run = state.run
    if run is None or not run.has_wait(command.wait_id):
        return
    question = question_of_wait(run, command.wait_id)
    stream = question.get("stream")
    declared = (
        registered.streams.get(stream) if registered is not None and stream is not None else None
    )
    schema = _usable(question.get("schema"))
    if schema is not None:
        schema.check(command.data)
    elif declared is not None:
        declared.codec.decode(command.data)


def _check_by_wait(state: SessionState, data: Any) -> None:
    """Check data by the pending wait's own JSON Schema, if it has a usable one (S-71)."""
    schema = _usable(state.run.wait_schema) if state.run is not None else None
    if schema is not None:
        schema.check(data)


def fits_schema(schema: Any, data: Any) -> bool:
    """True if data fits a wait's own JSON Schema; an unusable schema accepts all data."""
    found = _usable(schema)
    return found is None or not found.problems(data)


def _usable(schema: Any) -> DataSchema | None:
    """Return the schema; None for none, or for an unusable one of release 0.1.0, such as one with a pattern that needs
    backtracking."""
    if schema is None:
        return None
    try:
        return data_schema(schema)
    except BadSchema:
        return None


CLAIM_KINDS = frozenset({EntryKind.WAIT_CLAIMED, EntryKind.WAIT_CLAIM_ENDED})


Cutting = CancelRun | CancelSession | RewindRun | AmendWait
"""Commands that end a run or take it back."""


def cut_signal(command: Cutting, session_id: str) -> HelmrSignal:
    """Return the signal that aborts code whose run the command has ended or taken back (S-6, S-75)."""
    if isinstance(command, CancelRun | CancelSession):
        return RunCancelled(f"{session_id}: the run was cancelled")
    return RunParked(f"{session_id}: the run was taken back")


class SessionClaims:
    """The claims of waits during one adoption.

    Args:
        known: The ledger's claims at the adoption.
    """

    def __init__(self, known: WaitClaims | None) -> None:
        self.known = known
        self._written: tuple[str, datetime] | None = None
        """The wait of the claims written last, and the time of the last."""

    def note(self, claims: WaitClaims, wait: Wait | None) -> None:
        """Note the ledger's current claims; `wait` is the pending one, and claims of others are ignored.

        Calls may overtake each other, so older claims of the same wait are ignored, too. Times of different waits are
        not compared: the clock may have been set back between them.
        """
        if wait is None or claims.wait.wait_id != wait.id:
            return
        known = self.of(wait)
        if known is None or claims.as_of > known.as_of:
            of, through = self._written or (None, None)
            self.known = claims.without_written(through if of == wait.id else None)

    def of(self, wait: Wait | None) -> WaitClaims | None:
        """Return the claims of that wait."""
        known = self.known
        is_its = known is not None and wait is not None and known.wait.wait_id == wait.id
        return known if is_its else None

    def applied(self, entry: Entry) -> None:
        """Note an entry of one of `CLAIM_KINDS` that is on its way to disk."""
        self._written = (entry.body["wait_id"], from_iso(entry.body["at"]))
        if self.known is not None:
            self.known = self.known.written(entry)
