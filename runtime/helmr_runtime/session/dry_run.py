"""Dry runs of an answer (S-87): the code runs from the journal with it, and its requests are answered in memory.

A dry run works on a copy of the session's state on disk, without adopting the session (S-87, S-89), and makes the same
decisions as a live session. Its entries are made and folded, but never stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from helmr.errors import Overloaded, TaskNotFound, WaitResolved
from helmr.models import DryRun, DryRunEnd, DryRunOp
from helmr.wire import ids
from helmr_runtime.catalog import Registered, Registry
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import AnswerWait, TokenEnded
from helmr_runtime.core.decide import DecisionContext, decide, lifecycle, ops
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Watermark, stamp
from helmr_runtime.core.requests import (
    AskedHashes,
    ContinueRequest,
    EmitRequest,
    HistoryRequest,
    OpRequest,
    OutputRequest,
    PublicTokenOp,
    StepRequest,
    TokenOp,
    WaitRequest,
)
from helmr_runtime.core.run import Run
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import Loaded
from helmr_runtime.ports.ledger import restore
from helmr_runtime.replay.cursor import hashes_of
from helmr_runtime.replay.detached import (
    SILENCE_S,
    DetachedEnd,
    DetachedRun,
    Exhausted,
    Silent,
    StartStep,
    Stopped,
)
from helmr_runtime.replay.durable_context import RunCode, SessionSecrets, Surroundings
from helmr_runtime.replay.effects import Policy, TriesStep, Writes, effect_of
from helmr_runtime.replay.ends import Mismatch, Raised, Returned, StepEnd, Unreadable
from helmr_runtime.replay.replay_log import Outcome, is_outcome, outcome_of
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.session.commands import check_data, policy_of


class Snapshots(Protocol):
    """Reads sessions and records from a ledger."""

    async def snapshot(self, session_id: str) -> Loaded:
        """A session as it is on disk now."""
        ...

    async def records(self, session_id: str, watermark: Watermark) -> Sequence[Mapping[str, Any]]:
        """The bodies of the records that a read of a stream's history saw."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of a session's state. `histories`: op → the records of each `history.read` in the journal."""

    loaded: Loaded
    state: SessionState
    histories: Mapping[int, Sequence[Mapping[str, Any]]]


async def read_snapshot(ledger: Snapshots, session_id: str) -> Snapshot:
    """The session as it is on disk now.

    Raises:
        SessionNotFound: There is none.
    """
    loaded = await ledger.snapshot(session_id)
    state = restore(session_id, loaded)
    histories: dict[int, Sequence[Mapping[str, Any]]] = {}
    for entry in state.run.journal if state.run is not None else ():
        if entry.kind is EntryKind.HISTORY_READ and entry.op is not None:
            watermark = Watermark.of(entry.body)
            histories[entry.op] = await ledger.records(session_id, watermark)
    return Snapshot(loaded, state, histories)


DRY_RUN_S = 10.0
OPS_MAX = 1_000
"""Most new ops of one dry run (S-87)."""

DRY_RUNS_MAX = 4
"""Dry runs at the same time in one host: each has a thread, besides those of live sessions."""


class DryRuns:
    """The dry runs of one host.

    Args:
        ledger: The ledger to read sessions from.
        clock: Tells the code the time.
        base_url: Base of the callback URLs of tokens.
    """

    def __init__(self, ledger: Snapshots, clock: Clock, base_url: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._base_url = base_url
        self._under_way = 0
        self._ending: set[asyncio.Task[None]] = set()

    async def run(
        self,
        session_id: str,
        command: AnswerWait | TokenEnded,
        registry: Registry,
        on_left: Callable[[str], None],
    ) -> Mapping[str, Any]:
        """Try that answer and return a `DryRun` as JSON.

        It returns at its time bound, whatever the code does. The code is aborted afterwards, and counts as a dry run
        until it ends.

        Args:
            session_id: The session of the wait.
            command: The answer.
            registry: This host's code.
            on_left: Called if parts of the code did not end.

        Raises:
            Overloaded: `DRY_RUNS_MAX` dry runs are under way here.
            HelmrError: Answering would raise it.
        """
        if self._under_way >= DRY_RUNS_MAX:
            raise Overloaded(f"{self._under_way} dry runs are under way", retry_after_s=1)
        self._under_way += 1
        execution: DryRunExecution | None = None
        try:
            snapshot = await read_snapshot(self._ledger, session_id)
            secrets = TaskSecrets(snapshot.loaded.keys, self._base_url)
            execution = DryRunExecution(
                snapshot,
                registry.tasks.get(snapshot.state.task),
                ledger=self._ledger,
                clock=self._clock,
                secrets=secrets,
                hashes=hashes_of(registry.code_hash, secrets.asked_keys),
            )
            return (await execution.run(command)).model_dump(mode="json")
        finally:
            ending = asyncio.get_running_loop().create_task(self._end(execution, on_left))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _end(self, execution: DryRunExecution | None, on_left: Callable[[str], None]) -> None:
        try:
            if execution is not None and not await execution.has_left_nothing():
                run_id = execution.run_id
                on_left(f"the code of {run_id} did not end when it was dry-run")
        finally:
            self._under_way -= 1

    async def ended(self) -> None:
        """Return once the code of all dry runs has ended or was given up."""
        if self._ending:
            await asyncio.wait(self._ending)


class DryRunExecution:
    """One dry run.

    Args:
        snapshot: The session; its state becomes the dry run's own.
        registered: Its task in this host's code.
        ledger: The ledger to read older records of a stream's history from.
        clock: Tells the code the time.
        secrets: Makes the secrets of the session's tokens.
        hashes: Hashes the code's requests.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        registered: Registered | None,
        *,
        ledger: Snapshots,
        clock: Clock,
        secrets: SessionSecrets,
        hashes: AskedHashes,
    ) -> None:
        self._state = snapshot.state
        self._histories = snapshot.histories
        self._registered = registered
        self._ledger = ledger
        self._clock = clock
        self._secrets = secrets
        self._hashes = hashes
        self._records: list[Entry] = []
        self._asks: dict[int, StepRequest] = {}
        self._met: list[DryRunOp] = []
        self._detached: list[DetachedRun] = []

    async def run(self, command: AnswerWait | TokenEnded) -> DryRun:
        """Run the code with that answer.

        Raises:
            WaitResolved, WaitTimedOut: The wait is not pending.
            SchemaMismatch: The answer does not fit.
            TaskNotFound: This code has no such task.
        """
        state, registered = self._state, self._registered
        if registered is None:
            raise TaskNotFound(
                f"task {state.task} of {state.id} is not in the code of this runtime"
            )
        check_data(command, state, registered, self._context())
        decision = decide(state, command, self._context())
        if decision.error is not None:
            raise decision.error
        if state.wait is None or state.wait.id != command.wait_id:
            raise WaitResolved(f"{command.wait_id} is no longer pending")
        self._write(decision.drafts)
        run = self._run
        end = await self._follow(registered)
        return DryRun(
            wait_id=command.wait_id,
            session_id=state.id,
            run_id=run.id,
            ops=self._met,
            **_told(end, is_full=len(self._met) >= OPS_MAX),
        )

    async def _follow(self, registered: Registered) -> DetachedEnd:
        """Run the code to its end, through the runs that it continues as."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DRY_RUN_S
        while True:
            detached = DetachedRun(
                RunCode.of(registered.task, self._state, self._histories, self._hashes),
                Surroundings(self._clock, SILENCE_S, self._secrets),
                self,
                goes_on=True,
            )
            self._detached.append(detached)
            left_s = max(0.0, until - loop.time())
            end = await detached.ended(patience_s=DRY_RUN_S, within_s=left_s)
            if not (isinstance(end, Stopped) and isinstance(end.ask, ContinueRequest)):
                return end
            await detached.has_left_nothing(within_s=max(0.0, until - loop.time()))
            self._write(lifecycle.run_continued(self._run, end.ask.payload, end.ask.next_run_id))
            self._histories = {}

    @property
    def run_id(self) -> str:
        """The current run, which changes when the code continues as another."""
        return self._run.id

    async def has_left_nothing(self) -> bool:
        """Wait for the end of the code; return false if parts of it did not end."""
        return all([await detached.has_left_nothing() for detached in self._detached])

    # --- Answers ----------------------------------------------------------------------------------

    async def asked(self, op: int, ask: OpRequest) -> Outcome | Stopped | StartStep | None:
        """Answer a request of the code behind its journal in memory, or end the dry run."""
        if len(self._met) >= OPS_MAX:
            return Stopped(op, ask)
        if isinstance(ask, EmitRequest):
            return Stopped(op, ask)
        policy, state, run = Policy.DRY_RUN, self._state, self._run
        match effect_of(policy, state, run, op, ask, self._context()):
            case TriesStep(opening):
                assert isinstance(ask, StepRequest)
                self._asks[op] = ask
                self._write([opening])
                return StartStep(key=ids.new_id(ids.OPERATION))
            case Writes([draft]):
                self._meet(op, ask, ask.data if isinstance(ask, OutputRequest) else None)
                [entry] = self._write([draft])
                history = await self._history(entry) if isinstance(ask, HistoryRequest) else ()
                return outcome_of(state, entry, history) if is_outcome(entry) else None
            case _:
                self._meet(op, ask, ask.payload if isinstance(ask, ContinueRequest) else None)
                return Stopped(op, ask)

    async def step_ended(self, op: int, end: StepEnd) -> Outcome | Stopped:
        """Return a dry-run-safe step's outcome. A try that would be retried ends the dry run at the step."""
        ask, run = self._asks[op], self._run
        if end.error is None:
            self._meet(op, ask, end.value)
            return self._outcome(ops.step_succeeded(run, op, end.value))
        self._meet(op, ask)
        draft = ops.step_raised(run, op, ask, end.error, self._context(), may_retry=end.may_retry)
        if draft.kind is EntryKind.STEP_TRY_FAILED:
            return Stopped(op, ask)
        return self._outcome(draft)

    async def _history(self, read: Entry) -> Sequence[Mapping[str, Any]]:
        """Return the stream's records, including those in memory only."""
        watermark = Watermark.of(read.body)
        of_stream = [
            one
            for one in self._records
            if one.kind is watermark.kind and one.body["stream"] == watermark.stream
        ]
        stored = replace(watermark, through_seq=watermark.through_seq - len(of_stream))
        own = watermark.picked(of_stream)
        return [*await self._ledger.records(self._state.id, stored), *own]

    # --- in memory --------------------------------------------------------------------------------

    @property
    def _run(self) -> Run:
        run = self._state.run
        assert run is not None
        return run

    def _context(self) -> DecisionContext:
        return DecisionContext(
            now=self._clock.now(),
            policy=policy_of(self._state, self._registered),
            is_hot=True,
        )

    def _meet(self, op: int, ask: OpRequest, data: Any = None) -> None:
        met = DryRunOp(run_id=self._run.id, op=op, kind=ask.kind, name=ask.name, data=data)
        self._met.append(met)

    def _outcome(self, draft: Draft) -> Outcome:
        [entry] = self._write([draft])
        return outcome_of(self._state, entry)

    def _write(self, drafts: Sequence[Draft]) -> list[Entry]:
        entries = []
        for draft in drafts:
            entry = _entry(self._state, draft, self._context())
            self._state.apply(entry)
            entries.append(entry)
            if entry.kind in (EntryKind.INPUT_ACCEPTED, EntryKind.OUTPUT_APPENDED):
                self._records.append(entry)
        return entries


def _entry(state: SessionState, draft: Draft, context: DecisionContext) -> Entry:
    return stamp(
        draft,
        session_id=state.id,
        seq=state.seq + 1,
        recorded_at=context.now if state.last_at is None else max(context.now, state.last_at),
        previous=state.last_hash,
        key=None,
    )


def _told(end: DetachedEnd, *, is_full: bool) -> dict[str, Any]:
    match end:
        case Stopped(ask=ask):
            return {"ended": DryRunEnd.OPS if is_full else _place(ask)}
        case Returned():
            return {"ended": DryRunEnd.RETURNED, "result": end.result}
        case Raised():
            message = f"{end.error['type']}: {end.error['message']}"
            return {"ended": DryRunEnd.RAISED, "message": message}
        case Mismatch():
            return {"ended": DryRunEnd.DIFFERS, "message": str(end.error)}
        case Unreadable():
            return {"ended": DryRunEnd.SCHEMA, "message": end.message}
        case Exhausted():
            return {"ended": DryRunEnd.OPEN}
        case Silent():
            return {"ended": DryRunEnd.TIME}


def _place(ask: OpRequest) -> DryRunEnd:
    match ask:
        case WaitRequest():
            return DryRunEnd.WAIT
        case TokenOp() | PublicTokenOp():
            return DryRunEnd.TOKEN
        case EmitRequest():
            return DryRunEnd.EMIT
        case _:
            return DryRunEnd.STEP
