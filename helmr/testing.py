"""Test tasks in milliseconds: the same deciding and replay as a runtime, in this process, with a clock that skips.

```python
async def test_times_out():
    async with Harness(publish_review) as harness:
        session = await harness.start("publish-review", payload)
        await harness.advance("30m")
        assert await session.result() == {"status": "skipped"}
```

Loads neither Ray nor DuckDB. With `replay_always=True` every outcome is met by a
full replay, which finds what the code does outside steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from helmr import ids
from helmr.current import TokenCall
from helmr.durations import Duration, seconds
from helmr.errors import HelmrError, Moved, TaskNotFound, TokenNotFound, UsageError
from helmr.models import RunStatus, TokenInfo
from helmr.tasks import Task
from helmr.tokens import Token
from runtime.actors.completing import complete
from runtime.actors.delivering import delivery
from runtime.actors.session import SessionActor
from runtime.catalog import Registry
from runtime.clock import FakeClock
from runtime.core import jsontext
from runtime.core.commands import (
    Answer,
    CancelRun,
    CancelSession,
    CloseSession,
    Command,
    Operation,
    RetryRun,
    Send,
    StartRun,
    Touch,
)
from runtime.core.entries import Entry, Principal
from runtime.core.state import SessionState
from runtime.core.tokens import CancelToken, CompleteToken, CreateToken
from runtime.ports import Busy, Death, Released, StartSession
from runtime.security.secrets import secret_hash
from runtime.security.task_secrets import CALLBACK_PATH, TaskSecrets
from runtime.store.memory import TEST_RING, MemoryLedger

TESTER = Principal("api_key", name="test")

SETTLE_S = 30.0
"""Code that neither waits nor ends for so long (real time) fails the test."""


class RunNotEnded(UsageError):
    """`result()` was asked of a run that waits for something the test has to provide."""

    code = "run_not_ended"


class RunFailed(HelmrError):
    """`result()` was asked of a run that did not succeed; facts: status, error."""

    code = "run_failed"


class Harness:
    """Runs sessions of some tasks in this process.

    Args:
        tasks: The tasks.
        replay_always: Replay the run from its journal at every outcome.
        linger: A step's longer backoff is a timer that parks.
        start_at: What the clock tells first.
        silence_s: Real seconds of silence after which a replay counts as different from its journal.
        new_id: Makes the ids of sessions and their runs from a prefix. `ctx.uuid` and `ctx.random` derive from a run's
            id: the same ids, the same draws.
    """

    def __init__(
        self,
        *tasks: Task[..., Any],
        replay_always: bool = False,
        linger: Duration = "30s",
        start_at: datetime | None = None,
        silence_s: float = 1.0,
        new_id: Callable[[str], str] = ids.new_id,
    ) -> None:
        self.clock = FakeClock(start_at) if start_at is not None else FakeClock()
        self.ledger = MemoryLedger(self.clock)
        self._registry = Registry(tasks, code_hash="test")
        self._replay_always = replay_always
        self._linger_s = seconds(linger)
        self._silence_s = silence_s
        self._new_id = new_id
        self._actors: dict[str, SessionActor] = {}
        self._deaths: dict[str, Death] = {}
        self._names = 0
        self._settling = asyncio.Lock()

    async def __aenter__(self) -> Harness:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session_id in tuple(self._actors):
            await self._drop(session_id)

    # --- sessions -------------------------------------------------------------------------------

    async def start(
        self,
        task: str | Task[..., Any],
        payload: Any = None,
        *,
        external_id: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> HarnessSession:
        """Start a session and let it run until it waits or ends.

        Raises:
            TaskNotFound: The harness was made without that task.
            SchemaMismatch: The payload does not fit.
        """
        task_id = task if isinstance(task, str) else task.id
        registered = self._registry.tasks.get(task_id)
        if registered is None:
            raise TaskNotFound(
                f"no task {task_id}", hint=f"There are: {', '.join(sorted(self._registry.tasks))}."
            )
        codec = registered.task.payload_codec
        data = payload if _is_json(payload) else codec.encode(payload)
        codec.decode(data)
        started = await self.ledger.start(
            StartSession(
                session_id=self._new_id(ids.SESSION),
                run_id=self._new_id(ids.RUN),
                task=task_id,
                payload=data,
                external_id=external_id,
                tags=tuple(tags),
                metadata=dict(metadata or {}),
                idempotency_key=None,
                principal=TESTER,
                operation=None,
                request_hash=jsontext.same_data_hash([task_id, data]),
            )
        )
        session = HarnessSession(self, started.session_id)
        await self.command(session.id, Touch(principal=TESTER))
        await self.settle()
        return session

    async def command(self, session_id: str, command: Command) -> Mapping[str, Any]:
        """Have a command decided; the session is adopted if nothing holds it."""
        while True:
            actor = self._actors.get(session_id)
            if actor is not None:
                try:
                    return await actor.command(session_id, command)
                except Moved:
                    self._actors.pop(session_id, None)
                    continue
            self._names += 1
            actor = SessionActor(
                f"harness-{self._names}",
                "slot",
                self.ledger,
                self.clock,
                lambda: self._registry,
                on_doom=lambda reason: None,
                linger_s=self._linger_s,
                replay_always=self._replay_always,
                silence_s=self._silence_s,
            )
            self._actors[session_id] = actor
            adopted = await actor.adopt(
                session_id,
                command=command,
                death=self._deaths.pop(session_id, None),
                catalog_hash=self._registry.code_hash,
            )
            return adopted.reply or {}

    def entries(self, *, after: int = 0) -> list[Entry]:
        """What is stored behind that feed offset, of all sessions, in order; the first entry's offset is 1."""
        return self.ledger.stored.entries[after:]

    # --- time -----------------------------------------------------------------------------------

    async def advance(self, duration: Duration) -> None:
        """Let time pass; deadlines and retries fall due in order, and the code goes on at each."""
        target = self.clock.now() + timedelta(seconds=seconds(duration))
        await self.settle()
        while (due := self.clock.next_at) is not None and due <= target:
            self.clock.move_to(due)
            await self.settle()
        self.clock.move_to(target)
        await self.settle()

    async def settle(self) -> None:
        """Return when all code waits or has ended, and everything decided is stored.

        Raises:
            TimeoutError: Code ran for `SETTLE_S` real seconds.
        """
        # One at a time: a hundred callers that look at once would take the processor from the code they wait for.
        async with self._settling, asyncio.timeout(SETTLE_S):
            calm = 0
            while calm < 2:
                await self._wake_due()
                calm = calm + 1 if all(a.is_settled for a in self._actors.values()) else 0
                await asyncio.sleep(0 if calm else 0.0005)

    async def _wake_due(self) -> None:
        """Adopt parked sessions that the ledger has made ready, and deliver ended tokens, as a directory does."""
        _, items = await self.ledger.work(-1, 0)
        for item in items:
            if item.kind == "delivery":
                ended = await delivery(self.ledger, item)
                if ended is not None:
                    await self.command(item.session_id, ended)
            elif item.session_id not in self._actors:
                await self.command(item.session_id, Touch(principal=TESTER))

    # --- tokens ---------------------------------------------------------------------------------

    async def create_token(self, *, timeout: Duration = "7d", **options: Any) -> str:
        """Make a token as a client does; its id. Options as those of `TokenCall`."""
        secrets = TaskSecrets(TEST_RING.session_keys(ids.NIL_SESSION), "http://helmr.test")
        new = secrets.new_token(TokenCall(timeout_s=seconds(timeout), **options))
        await self.ledger.fact(CreateToken(principal=TESTER, new=new))
        return new.token_id

    async def complete_token(self, token: str | Token, data: Any) -> dict[str, Any]:
        """Complete a token, by its id, its handle or its callback URL; the receipt. The code then goes on.

        Raises:
            TokenNotFound, TokenCompleted, TokenExpired, TokenCancelled: S-41.
            SchemaMismatch: The data does not fit its schema.
        """
        token_id, principal = self._token_of(token)
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
        """Cancel a token; the code then goes on."""
        token_id, _ = self._token_of(token)
        await self.ledger.fact(CancelToken(principal=TESTER, token_id=token_id))
        await self.settle()

    async def token(self, token: str | Token) -> TokenInfo:
        """A token as it is now."""
        token_id, _ = self._token_of(token)
        return TokenInfo.model_validate(await self.ledger.get_token(token_id))

    def _token_of(self, token: str | Token) -> tuple[str, Principal]:
        text = token if isinstance(token, str) else token.id
        _, found, secret = text.partition(CALLBACK_PATH)
        if not found:
            return text, TESTER
        known = self.ledger.book.tokens.by_callback(secret_hash(secret.partition("?")[0]))
        if known is None:
            raise TokenNotFound("no token has that callback URL")
        return known.id, Principal("callback", known.id)

    # --- what goes wrong --------------------------------------------------------------------------

    async def kill(self, session_id: str, *, cause: str = "killed by the test") -> None:
        """Let the session's actor vanish between two instructions, as kill -9 does."""
        actor = self._actors.get(session_id)
        if actor is None:
            return
        holding = await actor.who()
        await self._drop(session_id)
        if holding.epoch is not None:
            await self.ledger.abandon(session_id, holding.epoch)
            self._deaths[session_id] = Death(cause=cause, executing=holding.executing)

    async def park(self, session_id: str) -> None:
        """Park a waiting session: its code leaves memory.

        Raises:
            UsageError: It does not wait.
        """
        await self.settle()
        actor = self._actors.get(session_id)
        if actor is None:
            return
        answer = await actor.release(session_id, "linger")
        if isinstance(answer, Busy):
            raise UsageError(f"{session_id} can't park: {answer.reason}")
        assert isinstance(answer, Released)
        self._actors.pop(session_id)

    async def _drop(self, session_id: str) -> None:
        actor = self._actors.pop(session_id)
        await actor.vanish()


class HarnessSession:
    """A session in a harness."""

    def __init__(self, harness: Harness, session_id: str) -> None:
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
    ) -> dict[str, Any]:
        """Send input; the receipt. The code then runs until it waits or ends."""
        operation = None
        if operation_id is not None:
            operation = Operation(
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
        await self._harness.settle()
        return dict(reply)

    async def answer(
        self, data: Any, *, wait_id: str | None = None, on_behalf_of: str | None = None
    ) -> dict[str, Any]:
        """Answer the pending wait, or exactly the one named, for a person."""
        target = wait_id or (await self.wait())["wait_id"]
        reply = await self._harness.command(
            self.id,
            Answer(
                principal=replace(TESTER, on_behalf_of=on_behalf_of),
                wait_id=target,
                record_id=ids.new_id(ids.RECORD),
                data=data,
            ),
        )
        await self._harness.settle()
        return dict(reply)

    async def wait(self) -> dict[str, Any]:
        """The body of the pending wait's `wait.opened`: wait_id, kind, stream, correlation_id, subject, deadline_at.

        Raises:
            UsageError: Nothing is waited for.
        """
        await self._harness.settle()
        state = await self.state()
        if state.wait is None:
            raise UsageError(f"{self.id} waits for nothing; it is {state.activity.value}")
        opened = [e for e in await self.transcript() if e.kind == "wait.opened"]
        return dict(opened[-1].body)

    async def result(self) -> Any:
        """The newest run's result. Time skips to timers and retries, but not past a wait that a person can answer.

        Raises:
            RunFailed: The run failed, was cancelled or is blocked.
            RunNotEnded: It waits for input or a token: send it, or `advance` the clock.
        """
        while True:
            await self._harness.settle()
            state = await self.state()
            run = state.run
            assert run is not None
            if run.status is RunStatus.SUCCEEDED:
                ended = [e for e in await self.transcript() if e.kind == "run.succeeded"]
                return ended[-1].body["result"]
            if run.status in (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.BLOCKED):
                last = [e for e in await self.transcript() if e.kind == f"run.{run.status.value}"][
                    -1
                ]
                error = last.body.get("error", last.body)
                raise RunFailed(
                    f"{run.id} {run.status.value}: {error.get('message', '')}",
                    status=run.status.value,
                    error=dict(error),
                )
            if run.wait is not None and run.wait.kind != "timer":
                raise RunNotEnded(
                    f"{run.id} waits for {run.wait.kind} {run.wait.stream or ''}".strip(),
                    hint="Send what it waits for, or advance the clock.",
                )
            due = self._harness.clock.next_at
            if due is None:
                await asyncio.sleep(0.005)
            else:
                self._harness.clock.move_to(due)

    async def state(self) -> SessionState:
        """The session's state, folded from what is stored."""
        state = SessionState(self.id)
        for entry in await self.transcript():
            state.apply(entry)
        return state

    async def transcript(self) -> list[Entry]:
        """The stored entries, in seq order."""
        return self._harness.ledger.entries_of(self.id)

    async def outputs(self, stream: str) -> list[Any]:
        """The data of an output stream's records."""
        return [
            e.body["data"]
            for e in await self.transcript()
            if e.kind == "output.appended" and e.body["stream"] == stream
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
        """Park: the code leaves memory and comes back, replayed, when its wait is resolved."""
        await self._harness.park(self.id)

    async def kill(self) -> None:
        """Kill the session's actor; the session is adopted again at the next command or settle."""
        await self._harness.kill(self.id)


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)
