"""The harness: sessions of some tasks on a runtime's engine, in memory, with a fake clock.

It waits a bounded time for code that awaits a thread, a socket or a timer of its own. The code sees the values of
context variables at the place in the test that started its session.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from helmr.client.aio import AsyncClient
from helmr.client.sync import Client
from helmr.errors import Moved, SessionNotFound, TaskNotFound, UsageError
from helmr.models import RunCheck
from helmr.steps import Step
from helmr.tasks import Task
from helmr.testing import arguments
from helmr.testing.clients import HarnessClients
from helmr.testing.recorded import Recording, check_recorded, read
from helmr.testing.session import (
    BASE_URL,
    TESTER,
    ClientCalls,
    HarnessSession,
    HarnessTokens,
    check_stored,
)
from helmr.wait_details import metadata_object, tag_list
from helmr.wire import ids
from helmr.wire.durations import Duration, seconds
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import FakeClock
from helmr_runtime.core import jsontext
from helmr_runtime.core.chunks import Emitted
from helmr_runtime.core.commands import AnswerWait, Resume, SessionCommand, TokenEnded
from helmr_runtime.core.entries import RUNTIME, Entry
from helmr_runtime.directory.work import delivery
from helmr_runtime.features import FEATURES
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports import Busy, Crash, SessionReleased, StartSession
from helmr_runtime.ports.ledger import WorkItem
from helmr_runtime.replay.outside_steps import RepeatedCall as RepeatedCall
from helmr_runtime.replay.outside_steps import watching
from helmr_runtime.replay.round_trips import comparing
from helmr_runtime.session.events import Replays
from helmr_runtime.session.host import HostActor, HostSettings
from helmr_runtime.session.live_session import LiveSession

PATIENCE_S = 10.0
"""Real seconds to wait for code, which may await something that the test provides only later."""

REPLAYS: Mapping[bool | None, Replays] = {None: "first", False: "never", True: "always"}

log = logging.getLogger("helmr.testing")


class Patience:
    """Tracks for each session how long its code has awaited something at this place of its transcript."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, float]] = {}

    def is_over(self, host: HostActor) -> bool:
        """Return True when all its code waits, has ended or has used up its time."""
        return host.is_settled and not any(self._is_wanted(s.live) for s in host.slots.values())

    def _is_wanted(self, live: LiveSession) -> bool:
        """Return True when the code is at no wait and no end, and something of its own will continue it."""
        if not live.execution.is_expecting:
            self._since.pop(live.state.id, None)
            return False
        seq, now = live.state.seq, time.monotonic()
        known, since = self._since.get(live.state.id, (seq, now))
        if known != seq:
            since = now
        elif since >= 0 and now - since > PATIENCE_S:
            log.warning(
                "%s: the code has awaited a thread, a socket or a timer that is not a durable call for %g s",
                live.state.id,
                PATIENCE_S,
            )
            since = -1.0
        self._since[live.state.id] = seq, since
        return since >= 0


P = ParamSpec("P")
R = TypeVar("R")

SETTLE_S = 30.0
"""Code that neither waits nor ends within this (real) time fails the test."""
LOOK_AGAIN_S = 0.0005
"""First pause; ten times that for code that keeps running, to leave it the processor."""


class Harness(HarnessTokens):
    """Runs sessions of some tasks in this process.

    Args:
        tasks: The tasks.
        replay_always: Replay a run from its journal at every outcome; None at its first answered wait, False never.
        linger: A step's longer backoff is a timer that parks.
        start_at: First time of the clock.
        silence_s: Real seconds of silence after which a replay counts as different from its journal.
        new_id: Makes the ids of sessions and their runs from a prefix. `ctx.uuid` and `ctx.random` derive from a
            run's id, so equal ids give equal draws.
        schedules: Start sessions by the tasks' schedules while `advance` lets time pass.
    """

    def __init__(
        self,
        *tasks: Task[..., Any],
        replay_always: bool | None = None,
        linger: Duration = "30s",
        start_at: datetime | None = None,
        silence_s: float = 1.0,
        new_id: Callable[[str], str] = ids.new_id,
        schedules: bool = False,
    ) -> None:
        self.clock = FakeClock(start_at) if start_at is not None else FakeClock()
        self.ledger = MemoryLedger(self.clock, features=FEATURES)
        self._registry = Registry(arguments.tasks(tasks, "Harness"), code_hash="test")
        self._deployed = 0
        self._schedules = schedules
        self._replays: Replays = REPLAYS[replay_always]
        self._linger_s = seconds(linger)
        self._silence_s = silence_s
        self._new_id = new_id
        self._hosts: dict[str, HostActor] = {}
        self._dry_run_hosts: list[HostActor] = []
        self._crashes: dict[str, Crash] = {}
        self._names = 0
        self._settling = asyncio.Lock()
        self._patience = Patience()
        self.settle_s = SETTLE_S
        """Most real seconds that `settle` takes."""
        self.is_strict = True
        """Warn of side effects that a replay repeats, and refuse values that don't round-trip; set it before entry."""
        self._binding: dict[str, asyncio.Lock] = {}
        self._emitted: dict[str, list[Emitted]] = {}
        self._undo = ExitStack()
        self._context = copy_context()
        self._contexts: dict[str, Context] = {}
        """Context variables of the tests that started sessions."""
        self._clients = HarnessClients(
            self.ledger,
            self.clock,
            lambda: self._registry,
            calls=ClientCalls(self.command, self.dry_run, self._hosts.get),
            settle=self.settle,
            wake=self._wake,
            base_url=BASE_URL,
        )

    async def __aenter__(self) -> Harness:
        self._context = copy_context()
        self._undo.enter_context(watching(self._registry.written_in, warns=self.is_strict))
        if self.is_strict:
            self._undo.enter_context(comparing(refuses=True))
        self._clients.loop = asyncio.get_running_loop()
        if self._schedules:
            await self.ledger.write_catalog(self._registry.catalog().model_dump(), RUNTIME)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._clients.stop()
        for session_id in tuple(self._hosts):
            await self._drop(session_id)
        for host in self._dry_run_hosts:
            await host.crash()
        self._undo.close()

    def replace(self, step: Step[P, R], function: Callable[P, R | Awaitable[R]]) -> None:
        """Let a step execute another function, sync or async, until this harness ends.

        The step's own annotation encodes and decodes its result. For a method name the step of the class; the function
        then gets the object first.

        Raises:
            UsageError: The step is bound to an object, but the code creates other objects.
        """
        arguments.step(step, "harness.replace")
        arguments.function(function, "harness.replace")
        if step.is_bound:
            raise UsageError(
                f"step {step.name} is bound to one object",
                hint="Name it on its class: `Class.step`.",
            )
        self._undo.callback(setattr, step, "function", step.function)
        step.function = function

    def model(self, agent: Any, model: Any) -> None:
        """Let an agent use another model until this harness ends.

        Args:
            agent: An agent of Pydantic AI or the OpenAI Agents SDK, or a `durable_model` of LangGraph, which have a
                `model`. Agents that it hands off to have their own.
            model: A model of its framework, such as one for tests.

        Raises:
            UsageError: It has no model to replace.
        """
        what = f"{type(agent).__name__} {getattr(agent, 'name', None) or ''}".strip()
        try:
            before, agent.model = agent.model, model
        except AttributeError as error:
            raise UsageError(
                f"{what} has no model that could be replaced: {error}",
                hint="Give an agent, or what durable_model() has made.",
            ) from error
        self._undo.callback(setattr, agent, "model", before)

    # --- sessions -------------------------------------------------------------------------------

    async def start(
        self,
        task: str | Task[..., Any],
        payload: Any = None,
        *,
        external_id: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        settle: bool = True,
    ) -> HarnessSession:
        """Start a session and let it run until it waits or ends.

        Args:
            task: The task, or its id.
            payload: Input of the task: JSON, or a value of its annotation.
            external_id: See `Client.sessions.start`.
            tags: Tags to find it by.
            metadata: JSON to store with it.
            settle: False returns at once, while the code runs, to act during a step.

        Raises:
            TaskNotFound: The harness has no such task.
            SchemaMismatch: The payload does not fit.
        """
        task_id = task if isinstance(task, str) else arguments.task(task, "harness.start").id
        registered = self._registry.tasks.get(task_id)
        if registered is None:
            raise TaskNotFound(
                f"no task {task_id}", hint=f"There are: {', '.join(sorted(self._registry.tasks))}."
            )
        data = registered.task.encode_payload(payload)
        started = await self.ledger.start(
            StartSession(
                session_id=self._new_id(ids.SESSION),
                run_id=self._new_id(ids.RUN),
                task=task_id,
                payload=data,
                external_id=external_id,
                tags=tag_list(tags),
                metadata=metadata_object(metadata),
                idempotency_key=None,
                principal=TESTER,
                operation=None,
                request_hash=jsontext.same_data_hash([task_id, data]),
            )
        )
        session = HarnessSession(self, started.session_id)
        self._context = copy_context()
        self._contexts.setdefault(session.id, self._context)
        await self.command(session.id, Resume(principal=TESTER))
        await self.settle_if(settle)
        return session

    async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        """Run a command on a session, which is adopted first if no host holds it."""
        while True:
            async with self._binding.setdefault(session_id, asyncio.Lock()):
                host = self._hosts.get(session_id)
                if host is None:
                    return await self._adopt(session_id, command)
            try:
                return await host.command(session_id, command)
            except Moved:
                if self._hosts.get(session_id) is host:
                    self._hosts.pop(session_id)

    async def dry_run(self, session_id: str, command: AnswerWait | TokenEnded) -> Mapping[str, Any]:
        """Dry-run an answer, and return the host's reply."""
        host = self._host("dry_run", session_id)
        self._dry_run_hosts.append(host)
        return await host.dry_run(session_id, command)

    async def _adopt(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        self._names += 1
        self._clients.loop = asyncio.get_running_loop()
        host = self._hosts[session_id] = self._host(f"harness-{self._names}", session_id)
        try:
            adopted = await host.adopt(
                session_id,
                command=command,
                crash=self._crashes.pop(session_id, None),
                catalog_hash=self._registry.code_hash,
            )
        except SessionNotFound:
            self._hosts.pop(session_id)
            raise
        return adopted.reply or {}

    def _host(self, name: str, session_id: str) -> HostActor:
        context = self._contexts.setdefault(session_id, self._context)
        return HostActor(
            name,
            self.ledger,
            self.clock,
            lambda: self._registry,
            HostSettings(
                is_exclusive=True,
                linger_s=self._linger_s,
                replays=self._replays,
                silence_s=self._silence_s,
                on_emitted=lambda session_id, item: self.emitted(session_id).append(item),
                context=context.copy,
            ),
        )

    def emitted(self, session_id: str) -> list[Emitted]:
        """Return chunks that a session's code has emitted, and their ends; `HarnessSession.chunks` shows them."""
        session_id = arguments.session_id(session_id, "harness.emitted")
        return self._emitted.setdefault(session_id, [])

    async def check(self, *tasks: Task[..., Any], silence_s: float = 1.0) -> list[RunCheck]:
        """Check that code fits the journals of unfinished runs; it changes nothing.

        Args:
            tasks: Tasks of the code, matched by id; by default the harness's own.
            silence_s: Real seconds after which code that does nothing is `unsure`.
        """
        code = arguments.tasks(tasks, "harness.check")
        await self.settle()
        registry = Registry(code, code_hash="checked") if code else self._registry
        return await check_stored(self.ledger, self.clock, registry, silence_s)

    async def replay(
        self, recording: Recording, task: Task[..., Any] | None = None, *, silence_s: float = 1.0
    ) -> RunCheck:
        """Check that code fits the newest run of a recorded session, like `check` for a session of the harness.

        Args:
            recording: A recorded session, such as the name of a session file.
            task: The code; None is the harness's own task of that id.
            silence_s: Real seconds after which code that does nothing is `unsure`.

        Raises:
            UsageError, SessionFileDamaged: The file can't be read, or differs from what was written.
        """
        if task is not None:
            task = arguments.task(task, "harness.replay")
        session = read(recording)
        own = self._registry.tasks.get(session.task)
        code = task if task is not None else own.task if own is not None else None
        return await check_recorded(session, code, clock=self.clock, silence_s=silence_s)

    def deploy(self, *tasks: Task[..., Any]) -> None:
        """Run other code in sessions that are adopted from now on, like a restart with that code.

        Live sessions and existing clients keep their code: `park` or `kill` a session first.
        """
        code = arguments.tasks(tasks, "harness.deploy")
        self._deployed += 1
        self._registry = Registry(code, code_hash=f"test-{self._deployed}")

    def entries(self, *, after: int = 0) -> list[Entry]:
        """Return the stored entries of all sessions after that feed offset, in order; the first offset is 1."""
        return self.ledger.stored.entries.behind(after)

    # --- clients --------------------------------------------------------------------------------

    def async_client(self, *, on_behalf_of: str | None = None) -> AsyncClient:
        """Return a client of these sessions, for code that takes one, with a runtime's calls, answers and errors.

        A mutating call returns when all code waits or has ended, like this harness's own methods.

        Args:
            on_behalf_of: The person for whom it acts.

        Raises:
            MissingExtra: The routes need the extra `runtime`.
        """
        return self._clients.async_client(on_behalf_of)

    def client(self, *, on_behalf_of: str | None = None) -> Client:
        """Return a blocking client for code in other threads, such as sync steps; the harness's loop answers it.

        Make and close it anywhere, for example in a `with` around `asyncio.to_thread`. Its calls return at once, and
        code that they start continues on its own.

        Args:
            on_behalf_of: The person for whom it acts.

        Raises:
            MissingExtra: The routes need the extra `runtime`.
        """
        return self._clients.client(on_behalf_of)

    # --- time -----------------------------------------------------------------------------------

    async def advance(self, duration: Duration) -> None:
        """Let time pass; deadlines and retries fall due in order, and the code continues at each."""
        target = self.clock.now() + timedelta(seconds=seconds(duration))
        await self.settle()
        while (due := self.clock.next_at) is not None and due <= target:
            self.clock.move_to(due)
            await self.settle()
        self.clock.move_to(target)
        await self.settle()

    async def settle(self) -> None:
        """Return when all code waits or has ended, and all decisions are stored.

        Code that awaits a thread, a socket or `asyncio.sleep` does neither; it has ten real seconds.

        Raises:
            TimeoutError: Code ran for `settle_s` real seconds.
        """
        # One at a time: a hundred callers that poll at once would take the processor from the code.
        async with self._settling, asyncio.timeout(self.settle_s):
            calm, pause_s = 0, LOOK_AGAIN_S
            while calm < 2:
                await self._wake_due()
                calm = calm + 1 if all(map(self._patience.is_over, self._hosts.values())) else 0
                await asyncio.sleep(0 if calm else pause_s)
                pause_s = min(1.2 * pause_s, 10 * LOOK_AGAIN_S)

    async def settle_if(self, settle: bool) -> None:
        """Settle, or let the code continue on its own from now on."""
        if settle:
            await self.settle()
        else:
            self._clients.look_after()

    async def _wake_due(self) -> None:
        """Adopt parked sessions that the ledger has made ready, and deliver ends, like a directory."""
        await self._wake((await self.ledger.work()).added)

    async def _wake(self, items: Sequence[WorkItem]) -> None:
        for item in items:
            if item.kind != "run":
                ended = await delivery(self.ledger, item)
                if ended is not None:
                    await self.command(item.session_id, ended)
            elif item.session_id not in self._hosts:
                await self.command(item.session_id, Resume(principal=TESTER))

    # --- what goes wrong --------------------------------------------------------------------------

    async def kill(self, session_id: str, *, cause: str = "killed by the test") -> None:
        """Crash the session's host between two instructions, like kill -9."""
        session_id = arguments.session_id(session_id, "harness.kill")
        host = self._hosts.get(session_id)
        if host is None:
            return
        slot = host.slots.get(session_id)
        live = slot.live if slot is not None and slot.lease is not None else None
        executing = live is not None and live.execution.is_executing(live.state.run)
        await self._drop(session_id)
        if live is not None:
            await self.ledger.abandon(session_id, live.epoch)
            self._crashes[session_id] = Crash(cause=cause, executing=executing)

    async def park(self, session_id: str) -> None:
        """Park a waiting session, so that its code leaves memory.

        Raises:
            UsageError: It does not wait.
        """
        session_id = arguments.session_id(session_id, "harness.park")
        await self.settle()
        host = self._hosts.get(session_id)
        if host is None:
            return
        answer = await host.release(session_id, "linger")
        if isinstance(answer, Busy):
            raise UsageError(f"{session_id} can't park: {answer.reason}")
        assert isinstance(answer, SessionReleased)
        self._hosts.pop(session_id)

    async def _drop(self, session_id: str) -> None:
        host = self._hosts.pop(session_id)
        await host.crash()
