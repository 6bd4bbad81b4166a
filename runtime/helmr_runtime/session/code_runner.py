"""Running a session's code: starts the driver, turns its asks into entries, hands outcomes back in order.

Owned by a `LiveSession`. Of steps it owns the asking only, their tries are in `step_retries`.
Invariants: S-3 (caution after a death), S-30 (outcomes are handed over in seq order), S-34 (a severed run's asks are
ignored).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helmr.current import RunRef, SessionRef
from helmr.errors import HelmrSignal, RunParked, Unavailable
from helmr.ids import RUN, new_id
from helmr.models import RunStatus
from helmr_runtime.clock import Clock
from helmr_runtime.core.decide import lifecycle, ops
from helmr_runtime.core.entries import Draft, Entry, EntryKind
from helmr_runtime.core.requests import (
    ClockRequest,
    ContinueRequest,
    HistoryRequest,
    OpRequest,
    OutputRequest,
    PeekRequest,
    PublicTokenRequest,
    StepRequest,
    TokenRequest,
    WaitRequest,
)
from helmr_runtime.core.run import Run
from helmr_runtime.host_status import SlotMark
from helmr_runtime.ports import Ledger
from helmr_runtime.replay import (
    Mismatch,
    Outcome,
    Raised,
    ReplayLog,
    Returned,
    RunDriver,
    RunEnd,
    StepEnd,
    Unreadable,
    make_replay_log,
)
from helmr_runtime.replay.driver import TREE_END_S
from helmr_runtime.replay.replay_log import is_outcome, outcome_of
from helmr_runtime.session.owner import Owner
from helmr_runtime.session.step_retries import StepRetries
from helmr_runtime.session.task_tokens import task_token_call

SEVER_S = TREE_END_S + 1.0
"""A thread that is silent for so long after its run was severed is lost."""

RETRY_LOAD_S = 0.2

log = logging.getLogger("helmr.session")


@dataclass(slots=True)
class _Pending:
    """An outcome on its way to the code; goes when it is ready and those before it have gone."""

    driver: RunDriver
    outcome: Outcome | None = None


class CodeRunner:
    """The code of one adopted session."""

    def __init__(self, owner: Owner, ledger: Ledger, clock: Clock, mark: SlotMark) -> None:
        self._owner = owner
        self._mark = mark
        self._ledger = ledger
        self._clock = clock
        self.driver: RunDriver | None = None
        self._starting: asyncio.Task[None] | None = None
        self._severed: list[RunDriver] = []
        self._out: deque[_Pending] = deque()
        self._retries = StepRetries(owner, clock, self._run_of)
        self._closed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._deferred: list[Callable[[], None]] = []
        self.hold_seq = 0
        """Code that is not here yet starts only when this seq is on disk (S-3, caution after a death)."""
        self.is_stopped = False

    # --- what the owner asks ------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Code executes, or a thread of a severed run still does."""
        return self._starting is not None or bool(self._severed)

    @property
    def has_code(self) -> bool:
        """A coroutine tree exists."""
        return self.driver is not None or self._starting is not None

    @property
    def is_quiet(self) -> bool:
        """No code executes and nothing is on its way to any."""
        if self._starting is not None or self._out or self._severed or self._tasks:
            return False
        return self.driver is None or self.driver.is_quiet

    def is_executing(self, run: Run | None) -> bool:
        """The run is not merely waiting; for tests that let an actor die in process."""
        return (
            self.has_code
            and run is not None
            and run.is_active
            and not (run.wait is not None and _lost_steps(run) == set())
        )

    def run_if_ready(self) -> None:
        """Start the code if the run is to execute and none does."""
        run = self._owner.state.active_run
        if run is None or self.has_code or self.is_stopped or self._owner.registered is None:
            return
        if self._owner.is_retiring:
            return
        if self._severed or not _is_ready(run, self._clock.now()):
            return
        self._closed.clear()
        self._starting = asyncio.get_running_loop().create_task(self._start(run))
        if run.status is not RunStatus.RUNNING or not run.is_started:
            self._owner.write([lifecycle.run_executes(run, self._owner.code_hash)])

    def announce(self, entry: Entry, *, is_cautious: bool) -> None:
        """Hand the outcome that this new entry holds to the code, if there is code."""
        driver = self.driver
        if driver is None or not is_outcome(entry) or entry.body.get("reason") == "task":
            return
        if entry.body.get("reason") == "run_end" or self._retries.is_backoff(entry):
            return
        if self._owner.replay_always and self._may_replay():
            self.sever(RunParked("replayed at every await"))
            return
        pending = _Pending(driver)
        self._out.append(pending)
        if entry.kind is EntryKind.HISTORY_READ:
            self._spawn(self._read_history(pending, entry))
        elif is_cautious:
            outcome = outcome_of(self._owner.state, entry)
            self._owner.when_durable(entry.seq, lambda: self._ready(pending, outcome))
            self._owner.flush_now()
        else:
            self._ready(pending, outcome_of(self._owner.state, entry))

    def _may_replay(self) -> bool:
        """Nothing executes beside the code that gets this outcome: dropping the tree loses no step."""
        run = self._owner.state.active_run
        return run is not None and run.wait is None and not run.open_steps

    def catch_up(self) -> None:
        """Take what the code said while an exclusive commit was under way."""
        deferred, self._deferred = self._deferred, []
        for call in deferred:
            call()

    def _defer(self, call: Callable[..., None], *arguments: Any) -> bool:
        if not self._owner.is_exclusive:
            return False
        self._deferred.append(lambda: call(*arguments))
        return True

    def backoff_ended(self, op: int) -> None:
        """A step's backoff timer fired: if its code is here, the next try."""
        if self.driver is not None:
            self._retries.backoff_ended(self.driver, op)

    def backoff_superseded(self, op: int) -> None:
        """A step's backoff is no longer a timer that parks: if its code is here, it goes on in memory."""
        if self.driver is not None:
            self._retries.backoff_superseded(self.driver, op)

    def sever(self, signal: HelmrSignal) -> None:
        """Cut the code off; `wait_closed` tells when it has ended."""
        self._out.clear()
        self._retries.stop_timers()
        if self.driver is not None:
            self.driver.sever(signal)
            driver = self.driver
            self._clock_real(SEVER_S, lambda: self._presume_lost(driver))

    async def wait_closed(self) -> None:
        """Wait until no coroutine tree exists; bounded by `SEVER_S` after a sever."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if self.driver is not None:
            await self._closed.wait()

    async def wait_ended(self) -> None:
        """Wait until nothing of the session's code exists, threads of its sync steps included (S-32)."""
        await self.wait_closed()
        while self._severed:  # noqa: ASYNC110 - `_watch_threads` looks as often: a thread ends without a word
            await asyncio.sleep(THREAD_POLL_S)

    def stop(self) -> None:
        """This adoption is over."""
        self.is_stopped = True
        self.sever(RunParked("the session left this actor"))

    # --- starting -----------------------------------------------------------------------------

    async def _start(self, run: Run) -> None:
        try:
            histories = await self._load_histories(run)
            seq = max(self.hold_seq, self._owner.state.seq if run.is_cautious else 0)
            is_held = await self._owner.durable(seq)
            if is_held and not self.is_stopped and run.is_active and self._owner.state.run is run:
                self._launch(run, make_replay_log(self._owner.state, histories))
        finally:
            self._starting = None
            if self.driver is None:
                self._closed.set()
                self.run_if_ready()
                self._owner.code_closed()

    def _launch(self, run: Run, replay_log: ReplayLog) -> None:
        registered = self._owner.registered
        assert registered is not None
        state = self._owner.state
        self._retries.forget()
        self._out.clear()
        self.driver = RunDriver(
            registered.task,
            run.payload,
            session=SessionRef(state.id, state.external_id, tuple(state.tags), state.metadata),
            run=RunRef(run.id, run.attempt),
            replay_log=replay_log,
            host=self,
            clock=self._clock,
            silence_s=self._owner.silence_s,
            secrets=self._owner.secrets,
            mark=self._mark,
        )
        self.driver.start()

    async def _load_histories(self, run: Run) -> dict[int, Sequence[Any]]:
        histories: dict[int, Sequence[Any]] = {}
        for entry in run.journal:
            if entry.kind is EntryKind.HISTORY_READ and entry.op is not None:
                histories[entry.op] = await self._records(entry)
        return histories

    async def _read_history(self, pending: _Pending, entry: Entry) -> None:
        if await self._owner.durable(entry.seq):
            records = await self._records(entry)
            self._ready(pending, outcome_of(self._owner.state, entry, records))

    async def _records(self, entry: Entry) -> Sequence[Any]:
        body = entry.body
        while not self.is_stopped:
            try:
                return await self._ledger.records(
                    entry.session_id, body["stream"], body["through_seq"]
                )
            except Unavailable:
                await asyncio.sleep(RETRY_LOAD_S)
        return ()

    def _ready(self, pending: _Pending, outcome: Outcome) -> None:
        pending.outcome = outcome
        while self._out and self._out[0].outcome is not None:
            first = self._out.popleft()
            if first.driver is self.driver and first.outcome is not None:
                first.driver.deliver(first.outcome)

    # --- Host: what the code asks ---------------------------------------------------------------

    def op_requested(self, driver: RunDriver, op: int, ask: OpRequest) -> None:
        """The code asks for a new op."""
        if self._defer(self.op_requested, driver, op, ask):
            return
        run = self._run_of(driver)
        if run is None:
            return
        state, context = self._owner.state, self._owner.context()
        match ask:
            case StepRequest():
                self._retries.opened(driver, run, op, ask)
            case WaitRequest(wait_kind="token"):
                self._spawn(self._owner.open_token_wait(driver, op, ask))
            case WaitRequest():
                self._owner.write(ops.open_wait(state, run, op, ask, context))
                self._owner.flush_now()
            case OutputRequest():
                self._owner.write([ops.append_output(state, run, op, ask)])
            case PeekRequest():
                self._owner.write([ops.read_peek(state, run, op, ask)])
            case HistoryRequest():
                self._owner.write([ops.read_history(state, run, op, ask)])
            case TokenRequest():
                self._owner.write([ops.create_token(run, op, ask, context)])
            case PublicTokenRequest():
                self._owner.write([ops.create_public_token(run, op, ask, context)])
            case ClockRequest():
                self._owner.write([ops.read_clock(run, op, ask.now)])
            case ContinueRequest():
                self._owner.write(lifecycle.run_continued(run, ask.payload, ask.next_run_id))
                self._owner.flush_now()
            case _:
                raise AssertionError(f"unknown ask {ask}")

    def op_reached(self, driver: RunDriver, op: int, ask: OpRequest) -> None:
        """A replay reached an op without outcome: a lost step runs again, a wait goes on waiting."""
        if self._defer(self.op_reached, driver, op, ask):
            return
        run = self._run_of(driver)
        if run is not None and isinstance(ask, StepRequest):
            self._retries.op_reached(driver, run, op, ask)

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any], key: str
    ) -> Any:
        """Ask the ledger about tokens, for the run."""
        run = self._owner.state.run
        assert run is not None
        return await task_token_call(self._ledger, run.id, method, token_id, arguments, key)

    def gave_up(self, driver: RunDriver, op: int) -> None:
        """The code cancelled an op it awaited."""
        if self._defer(self.gave_up, driver, op):
            return
        run = self._run_of(driver)
        if run is None:
            return
        self._retries.gave_up(op)
        self._owner.write(ops.op_given_up(run, op))

    def step_ended(self, driver: RunDriver, op: int, end: StepEnd) -> None:
        """A try of a step ended."""
        if self._defer(self.step_ended, driver, op, end):
            return
        run = self._run_of(driver)
        if run is not None:
            self._retries.ended(driver, run, op, end)

    def run_ended(self, driver: RunDriver, end: RunEnd) -> None:
        """The task returned, raised or can't be replayed."""
        if self._defer(self.run_ended, driver, end):
            return
        run = self._run_of(driver)
        if run is None:
            return
        self._owner.write(self._end_drafts(run, end))
        self._owner.flush_now()

    def _end_drafts(self, run: Run, end: RunEnd) -> Sequence[Draft]:
        state, context = self._owner.state, self._owner.context()
        next_run_id = new_id(RUN)
        match end:
            case Returned():
                return lifecycle.run_succeeded(
                    state, run, end.result, context, next_run_id=next_run_id
                )
            case Raised():
                return lifecycle.run_raised(
                    state,
                    run,
                    end.error,
                    end.failed_op,
                    context,
                    next_run_id=next_run_id,
                    may_retry=end.may_retry,
                )
            case Mismatch():
                error = end.error
                blocked = lifecycle.run_blocked(
                    run,
                    "nondeterminism",
                    str(error),
                    op=error.op,
                    recorded=error.recorded,
                    met=error.met,
                )
                return (blocked,)
            case Unreadable():
                return (lifecycle.run_blocked(run, "schema_mismatch", end.message, op=end.op),)

    def closed(self, driver: RunDriver, is_clean: bool) -> None:
        """The driver's thread ends."""
        if driver is not self.driver:
            return
        self.driver = None
        longest_s = self._retries.longest_s()
        self._retries.forget()
        if not is_clean:
            self._owner.retire(f"the code of {driver.run.id} did not end when severed")
        elif driver.has_threads:
            self._severed.append(driver)
            self._watch_threads(driver, longest_s)
        self._closed.set()
        self.run_if_ready()
        self._owner.code_closed()

    # --- what is left of severed code ---------------------------------------------------------

    def _watch_threads(self, driver: RunDriver, left_s: float) -> None:
        """Hold the actor until a severed run's sync steps end, at most a step's timeout (S-32)."""
        if not driver.has_threads:
            self._severed.remove(driver)
            self.run_if_ready()
            self._owner.code_closed()
        elif left_s <= 0:
            self._severed.remove(driver)
            self._owner.retire(f"a step of {driver.run.id} did not end in time")
        else:
            self._clock_real(
                THREAD_POLL_S, lambda: self._watch_threads(driver, left_s - THREAD_POLL_S)
            )

    def _presume_lost(self, driver: RunDriver) -> None:
        if driver is self.driver:
            self.driver = None
            self._closed.set()
            self._owner.retire(f"the code of {driver.run.id} did not end when severed")

    # --- small parts ----------------------------------------------------------------------------

    def _run_of(self, driver: RunDriver) -> Run | None:
        """The active run, if this driver is the one that runs it."""
        run = self._owner.state.active_run
        if self.is_stopped or driver is not self.driver or run is None or run.id != driver.run.id:
            return None
        return None if run.status is RunStatus.BLOCKED else run

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _clock_real(delay_s: float, call: Any) -> None:
        asyncio.get_running_loop().call_later(delay_s, call)


THREAD_POLL_S = 0.1


def _is_ready(run: Run, now: datetime) -> bool:
    match run.status:
        case RunStatus.QUEUED:
            return run.retry_at is None or run.retry_at <= now
        case RunStatus.RUNNING:
            return True
        case RunStatus.WAITING:
            return bool(_lost_steps(run))
        case _:
            return False


def _lost_steps(run: Run) -> set[int]:
    """Open steps besides one in a backoff that parks."""
    wait = run.wait
    return run.open_steps - {wait.op} if wait is not None and wait.is_backoff else run.open_steps
