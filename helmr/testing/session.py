"""One session of a harness: its people, tokens and entries."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, overload

from helmr.current import TokenCall
from helmr.errors import HelmrError, TokenNotFound, UsageError
from helmr.models import DryRun, RewindPreview, RunCheck, RunStatus, TokenInfo
from helmr.tasks import Task
from helmr.testing import arguments
from helmr.tokens import Token
from helmr.wire import ids
from helmr.wire.durations import Duration, seconds
from helmr.wire.people import person_key
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import Clock, FakeClock
from helmr_runtime.core import jsontext
from helmr_runtime.core.answerers import AnswerSignature, Identity
from helmr_runtime.core.chunks import Chunk, Emitted
from helmr_runtime.core.commands import (
    AmendWait,
    AnswerDetails,
    AnswerWait,
    CancelRun,
    CancelSession,
    CloseSession,
    OperationKey,
    RetryRun,
    RewindRun,
    Send,
    SessionCommand,
    StartRun,
    TokenEnded,
)
from helmr_runtime.core.corrections import (
    place_of,
    plan_amendment,
    plan_rewind,
    preview_of,
    rewindable,
)
from helmr_runtime.core.entries import PERSON, Entry, Principal
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.tokens import CancelToken, CompleteToken, CreateToken
from helmr_runtime.ledger.memory import TEST_RING, MemoryLedger
from helmr_runtime.replay.cursor import hashes_of
from helmr_runtime.replay.detached import check_run
from helmr_runtime.security.schemas import complete
from helmr_runtime.security.secrets import secret_hash
from helmr_runtime.security.task_secrets import CALLBACK_PATH, TaskSecrets
from helmr_runtime.session.dry_run import read_snapshot
from helmr_runtime.session.host import HostActor

R = TypeVar("R")

TESTER = Principal("api_key", name="test")
"""Principal of a test that names no one."""

AS_IF_SIGNED = {"key": "SHA256:harness", "sshsig": "of the harness, which has no keys"}
"""Stands for a person's signature; no key made it, and nothing checks it."""


@dataclass(frozen=True, slots=True)
class Author:
    """The author of an answer.

    Attributes:
        principal: The principal.
        identity: The person, if verified.
        override_reason: An admin's reason to answer instead of the answerers.
    """

    principal: Principal
    identity: Identity | None = None
    override_reason: str | None = None

    @classmethod
    def of(
        cls, person: str | None, groups: Sequence[str] = (), on_behalf_of: str | None = None
    ) -> Author:
        """Return a verified person, or the test on behalf of someone."""
        if person is None:
            return cls(replace(TESTER, on_behalf_of=on_behalf_of))
        return cls(Principal(PERSON, person), Identity(id=person, groups=tuple(groups)))

    @property
    def person(self) -> str | None:
        """The person's name as in lists of people."""
        return person_key(self.identity.id) if self.identity is not None else None


_UNDONE = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.BLOCKED)


@dataclass(frozen=True, slots=True)
class ClientCalls:
    """Calls of a harness that its clients cause.

    Attributes:
        command: Runs a command on a session.
        dry_run: Dry-runs an answer.
        host_of: Returns the host that holds a session.
    """

    command: Callable[[str, SessionCommand], Awaitable[Mapping[str, Any]]]
    dry_run: Callable[[str, AnswerWait | TokenEnded], Awaitable[Mapping[str, Any]]]
    host_of: Callable[[str], HostActor | None]


class RunNotEnded(UsageError):
    """`result()` was called on a run that waits for something from the test."""

    code = "run_not_ended"


class RunFailed(HelmrError):
    """`result()` was called on a run that did not succeed; facts: status, error."""

    code = "run_failed"


class HarnessCalls(Protocol):
    """Methods of `helmr.testing.Harness`, documented there, that a session uses."""

    clock: FakeClock
    ledger: MemoryLedger

    async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]: ...
    async def dry_run(
        self, session_id: str, command: AnswerWait | TokenEnded
    ) -> Mapping[str, Any]: ...
    async def settle(self) -> None: ...
    async def settle_if(self, settle: bool) -> None: ...
    async def park(self, session_id: str) -> None: ...
    async def kill(self, session_id: str) -> None: ...
    def emitted(self, session_id: str) -> list[Emitted]: ...
    def entries(self) -> list[Entry]: ...


class HarnessSession:
    """A session in a harness."""

    def __init__(self, harness: HarnessCalls, session_id: str) -> None:
        self._harness = harness
        self.id = session_id

    async def send(
        self,
        stream: str,
        data: Any,
        *,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        operation_id: str | None = None,
        settle: bool = True,
    ) -> dict[str, Any]:
        """Send input and return the receipt. The code then runs until it waits or ends, unless `settle` is False."""
        stream = arguments.stream_name(stream, "session.send({}, data)")
        operation = None
        if operation_id is not None:
            operation = OperationKey(
                id=operation_id, request_hash=jsontext.same_data_hash([stream, data])
            )
        reply = await self._harness.command(
            self.id,
            Send(
                principal=TESTER,
                operation=operation,
                record_id=ids.new_id(ids.RECORD),
                stream=stream,
                data=data,
                correlation_id=correlation_id,
                idempotency_key=idempotency_key,
                next_run_id=ids.new_id(ids.RUN),
            ),
        )
        await self._harness.settle_if(settle)
        return dict(reply)

    async def answer(
        self,
        data: Any,
        *,
        wait_id: str | None = None,
        on_behalf_of: str | None = None,
        person: str | None = None,
        groups: Sequence[str] = (),
        override_claim: bool = False,
        settle: bool = True,
    ) -> dict[str, Any]:
        """Answer the pending wait, or the one named, for a person; `override_claim` ignores another's claim.

        A restricted wait needs a `person`, with these `groups`; a wait for signed answers takes it as signed. Where
        several must agree, the reply's `outcome` is "voted".

        Raises:
            NotAnAnswerer: Other people answer it.
        """
        if wait_id is None:
            wait_id = (await self.wait(settle=settle))["wait_id"]
        author = Author.of(person, groups, on_behalf_of)
        reply = await self.answer_as(author, data, wait_id, override_claim=override_claim)
        await self._harness.settle_if(settle)
        return reply

    async def answer_as(
        self, author: Author, data: Any, wait_id: str, *, override_claim: bool = False
    ) -> dict[str, Any]:
        """Answer exactly this wait for anyone, without waiting for the code.

        Raises:
            NotAnAnswerer: Other people answer it.
        """
        is_signed = author.identity is not None and await self._is_signed(wait_id)
        reply = await self._harness.command(
            self.id,
            AnswerWait(
                principal=author.principal,
                identity=author.identity,
                wait_id=wait_id,
                record_id=ids.new_id(ids.RECORD),
                data=data,
                override_claim=override_claim,
                may_override=author.override_reason is not None,
                signature=AnswerSignature(wait_id=wait_id, **AS_IF_SIGNED) if is_signed else None,
                details=AnswerDetails(override_reason=author.override_reason),
            ),
        )
        return dict(reply)

    async def _is_signed(self, wait_id: str) -> bool:
        """Return True when the pending wait accepts only signed answers."""
        wait = (await self.state()).wait
        return wait is not None and wait.id == wait_id and wait.signed

    async def dry_run(self, data: Any, *, wait_id: str | None = None) -> DryRun:
        """Dry-run an answer to the pending wait, or the one named (S-87); it has no effects.

        Raises:
            WaitResolved: It is not pending.
            SchemaMismatch: The data does not fit.
        """
        opened = await self.wait()
        now = self._harness.clock.now()
        command: AnswerWait | TokenEnded
        if opened["kind"] == "token":
            command = TokenEnded(
                principal=TESTER,
                wait_id=wait_id or opened["wait_id"],
                token_id=opened["token_id"],
                status="completed",
                data=data,
                ended_at=now,
                ended_by=TESTER,
            )
        else:
            command = AnswerWait(
                principal=TESTER,
                wait_id=wait_id or opened["wait_id"],
                record_id=ids.new_id(ids.RECORD),
                data=data,
            )
        return DryRun.model_validate(await self._harness.dry_run(self.id, command))

    async def wait(self, *, settle: bool = True) -> dict[str, Any]:
        """The body of the pending wait's `wait.opened`: wait_id, kind, stream, correlation_id, subject, deadline_at.

        If several people must agree, `votes` has each current vote, as person, data and proposal.

        Raises:
            UsageError: There is no pending wait.
        """
        if settle:
            await self._harness.settle()
        state = await self.state()
        if state.wait is None:
            raise UsageError(f"{self.id} waits for nothing; it is {state.activity.value}")
        entries = {entry.seq: entry for entry in await self.transcript()}
        opened = [one for one in entries.values() if one.kind == "wait.opened"]
        body = dict(opened[-1].body)
        if body.get("approvals", 1) > 1:
            seqs = dict.fromkeys(seq for seq, _ in state.wait.votes.values())
            body["votes"] = [
                {"person": vote["person"]["id"], "data": vote["data"], "proposal": vote["proposal"]}
                for vote in (entries[seq].body for seq in seqs)
            ]
        return body

    @overload
    async def result(self) -> Any: ...
    @overload
    async def result(self, task: Task[..., R]) -> R: ...
    async def result(self, task: Task[..., Any] | None = None) -> Any:
        """Return the newest run's result. Time skips to timers and retries, but not past a wait for a person.

        Args:
            task: Its task, whose return annotation decodes the result; without it the result is JSON.

        Raises:
            RunFailed: The run failed, was cancelled or is blocked.
            RunNotEnded: It waits for input, a token or a child: provide that, or `advance` the clock.
        """
        if task is not None:
            task = arguments.task(task, "session.result")
        while True:
            await self._harness.settle()
            state = await self.state()
            run = state.run
            assert run is not None
            if run.status is RunStatus.SUCCEEDED:
                ended = [e for e in await self.transcript() if e.kind == "run.succeeded"]
                given = ended[-1].body["result"]
                return given if task is None else task.result_codec.decode(given)
            error = await self.error()
            if error is not None:
                raise RunFailed(
                    f"{run.id} {run.status.value}: {error.get('message', '')}",
                    status=run.status.value,
                    error=error,
                )
            if run.wait is not None and run.wait.kind != "timer":
                raise RunNotEnded(
                    f"{run.id} waits for {run.wait.kind} {run.wait.stream or ''}".strip(),
                    hint="Bring what it waits for, or advance the clock.",
                )
            due = self._harness.clock.next_at
            if due is None:
                await asyncio.sleep(0.005)
            else:
                self._harness.clock.move_to(due)

    async def error(self) -> dict[str, Any] | None:
        """Return the newest run's failure (type, message, traceback), block (code, message) or cancellation (reason);
        None without any."""
        run = (await self.state()).run
        if run is None or run.status not in _UNDONE:
            return None
        ends = [e for e in await self.transcript() if e.kind == f"run.{run.status.value}"]
        return dict(ends[-1].body.get("error", ends[-1].body))

    async def state(self) -> SessionState:
        """Return the session's state, folded from its entries."""
        state = SessionState(self.id)
        for entry in await self.transcript():
            state.apply(entry)
        return state

    async def transcript(self) -> list[Entry]:
        """Return the stored entries, in seq order."""
        return self._harness.ledger.entries_of(self.id)

    async def outputs(self, stream: str) -> list[Any]:
        """Return the data of an output stream's records."""
        stream = arguments.stream_name(stream, "session.outputs({})")
        return [
            e.body["data"]
            for e in await self.transcript()
            if e.kind == "output.appended" and e.body["stream"] == stream
        ]

    async def chunks(self, stream: str) -> list[Any]:
        """Return the data of all chunks that the code emitted to an output stream, in order, followed or not."""
        stream = arguments.stream_name(stream, "session.chunks({})")
        emitted = tuple(self._harness.emitted(self.id))
        return [
            json.loads(one.data)
            for one in emitted
            if isinstance(one, Chunk) and one.stream == stream
        ]

    async def run(self, payload: Any = None, *, as_before: bool = False) -> None:
        """Start the next run."""
        await self._harness.command(
            self.id,
            StartRun(
                principal=TESTER,
                run_id=ids.new_id(ids.RUN),
                payload=payload,
                payload_given=not as_before,
            ),
        )
        await self._harness.settle()

    async def preview(
        self,
        *,
        to_op: int | None = None,
        wait_id: str | None = None,
        keep_answers: bool = True,
        keep_children: bool = False,
    ) -> RewindPreview:
        """Preview `rewind`.

        Raises:
            OpNotFound: The newest run's journal has no such op or wait.
        """
        state = await self.state()
        run = rewindable(state, state.run.id if state.run is not None else "")
        kept = {"keep_answers": keep_answers, "keep_children": keep_children}
        plan = plan_rewind(state, run, place_of(run, to_op, wait_id), **kept)
        return preview_of(state, run, plan, **kept)

    async def rewind(
        self,
        *,
        to_op: int | None = None,
        wait_id: str | None = None,
        keep_answers: bool = True,
        keep_children: bool = False,
        reason: str = "a test",
        settle: bool = True,
    ) -> None:
        """Rewind the newest run to an op, or to a wait, as stored (S-75).

        Raises:
            OpNotFound: The run's journal has no such op or wait.
            SessionTerminal: The session was closed or cancelled, and not by this run.
        """
        kept = {"keep_answers": keep_answers, "keep_children": keep_children}
        seen = await self.preview(to_op=to_op, wait_id=wait_id, **kept)
        command = RewindRun(
            principal=TESTER,
            run_id=seen.run_id,
            to_op=seen.to_op,
            reason=reason,
            seen=seen.hash,
            keep_answers=keep_answers,
            keep_children=keep_children,
        )
        await self._harness.command(self.id, command)
        await self._harness.settle_if(settle)

    async def amend(
        self,
        wait_id: str,
        data: Any,
        *,
        keep_answers: bool = True,
        keep_children: bool = False,
        reason: str = "a test",
        settle: bool = True,
    ) -> None:
        """Give a resolved wait of the newest run another answer (S-79).

        Raises:
            WaitNotAmendable: It has no answer or timeout to amend.
            SchemaMismatch: The data does not fit.
        """
        state = await self.state()
        run = rewindable(state, state.run.id if state.run is not None else "")
        kept = {"keep_answers": keep_answers, "keep_children": keep_children}
        plan = plan_amendment(state, run, wait_id, **kept)
        command = AmendWait(
            principal=TESTER,
            run_id=run.id,
            wait_id=wait_id,
            record_id=ids.new_id(ids.RECORD),
            data=data,
            reason=reason,
            seen=plan.hash,
            keep_answers=keep_answers,
            keep_children=keep_children,
        )
        await self._harness.command(self.id, command)
        await self._harness.settle_if(settle)

    async def children(self) -> list[HarnessSession]:
        """Return the sessions that this one has started, oldest first."""
        created = (e for e in self._harness.entries() if e.kind == "session.created")
        mine = (e for e in created if e.body.get("parent", {}).get("session_id") == self.id)
        return [HarnessSession(self._harness, entry.session_id) for entry in mine]

    async def retry(self) -> None:
        """Retry the newest run."""
        state = await self.state()
        assert state.run is not None
        await self._harness.command(self.id, RetryRun(principal=TESTER, run_id=state.run.id))
        await self._harness.settle()

    async def cancel(self) -> None:
        """Cancel the session."""
        await self._harness.command(self.id, CancelSession(principal=TESTER))
        await self._harness.settle()

    async def cancel_run(self) -> None:
        """Cancel the newest run."""
        state = await self.state()
        assert state.run is not None
        command = CancelRun(principal=TESTER, run_id=state.run.id, next_run_id=ids.new_id(ids.RUN))
        await self._harness.command(self.id, command)
        await self._harness.settle()

    async def close(self, *, end_input: bool = False) -> None:
        """Close the session."""
        await self._harness.command(self.id, CloseSession(principal=TESTER, end_input=end_input))
        await self._harness.settle()

    async def park(self) -> None:
        """Park: the code leaves memory, and a replay brings it back when its wait is resolved."""
        await self._harness.park(self.id)

    async def kill(self) -> None:
        """Kill the session's actor; the session is adopted again at the next command or settle."""
        await self._harness.kill(self.id)


async def check_stored(
    ledger: MemoryLedger, clock: Clock, registry: Registry, silence_s: float
) -> list[RunCheck]:
    """Check that code fits the unfinished runs, in the order in which their sessions began."""
    checks: list[RunCheck] = []
    for session_id in dict.fromkeys(entry.session_id for entry in ledger.stored.entries):
        if session_id == ids.SYSTEM_STREAM:
            continue
        found = await read_snapshot(ledger, session_id)
        if found.state.active_run is None:
            continue
        registered = registry.tasks.get(found.state.task)
        task = registered.task if registered is not None else None
        checks.append(
            await check_run(
                task,
                found.state,
                found.histories,
                clock=clock,
                silence_s=silence_s,
                hashes=hashes_of(registry.code_hash, TaskSecrets(found.loaded.keys, "").asked_keys),
            )
        )
    return checks


def token_of(
    ledger: MemoryLedger, token: str | Token, call: str = "complete_token"
) -> tuple[str, Principal]:
    """Return the id of a token given by id, handle or callback URL, and the principal that acts with it.

    Raises:
        TokenNotFound: No token has that callback URL.
    """
    text = arguments.token_text(token, f"harness.{call}")
    _, found, secret = text.partition(CALLBACK_PATH)
    if not found:
        return text, TESTER
    known = ledger.index.tokens.by_callback(secret_hash(secret.partition("?")[0]))
    if known is None:
        raise TokenNotFound("no token has that callback URL")
    return known.id, Principal("callback", known.id)


BASE_URL = "http://helmr.test"
"""Start of the tokens' links."""


class HarnessTokens(ABC):
    """The methods of a `Harness` for tokens."""

    ledger: MemoryLedger

    @abstractmethod
    async def settle(self) -> None:
        """Return when all code waits or has ended, and all decisions are stored."""

    async def create_token(self, *, timeout: Duration = "7d", **options: Any) -> str:
        """Make a token like a client, and return its id. Options as for `TokenCall`."""
        secrets = TaskSecrets(TEST_RING.session_keys(ids.SYSTEM_STREAM), BASE_URL)
        new = secrets.new_token(TokenCall(timeout_s=seconds(timeout), **options))
        await self.ledger.fact(CreateToken(principal=TESTER, new=new))
        return new.token_id

    async def complete_token(self, token: str | Token, data: Any) -> dict[str, Any]:
        """Complete a token, by its id, handle or callback URL, and return the receipt. The code then continues.

        Raises:
            TokenNotFound, TokenCompleted, TokenExpired, TokenCancelled: S-41.
            SchemaMismatch: The data does not fit its schema.
        """
        token_id, principal = token_of(self.ledger, token, "complete_token")
        receipt = await complete(
            lambda: self.ledger.get_token(token_id),
            self.ledger.fact,
            lambda checked: CompleteToken(
                principal=principal, token_id=token_id, data=data, checked=checked
            ),
        )
        await self.settle()
        return dict(receipt)

    async def cancel_token(self, token: str | Token) -> None:
        """Cancel a token; the code then continues."""
        token_id, _ = token_of(self.ledger, token, "cancel_token")
        await self.ledger.fact(CancelToken(principal=TESTER, token_id=token_id))
        await self.settle()

    async def token(self, token: str | Token) -> TokenInfo:
        """Return a token in its current state."""
        token_id, _ = token_of(self.ledger, token, "token")
        return TokenInfo.model_validate(await self.ledger.get_token(token_id))
