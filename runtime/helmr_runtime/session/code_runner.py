"""Running a session's code: starts the driver, turns its asks into entries, hands outcomes back in order.

Owned by a `LiveSession`. Of steps it owns the asking only, their tries are in `step_retries`.
Invariants: S-3 (caution after a crash), S-30 (outcomes are handed over in seq order), S-34 (an aborted run's asks are
ignored).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helmr.current import RunRef, SessionRef, StepRef
from helmr.errors import HelmrSignal, RunParked
from helmr.ids import RUN, new_id
from helmr.models import RunStatus
from helmr_runtime.clock import Clock
from helmr_runtime.core.decide import lifecycle, ops
from helmr_runtime.core.decide.decision import Context
from helmr_runtime.core.entries import Draft, Entry, EntryKind
from helmr_runtime.core.requests import (
    ClockRequest,
    ContinueRequest,
    HistoryRequest,
    OpRequest,
    OutputRequest,
    PatchRequest,
    PeekRequest,
    PublicTokenRequest,
    StepRequest,
    TokenRequest,
    WaitRequest,
)
from helmr_runtime.core.run import Run, Wait
from helmr_runtime.core.state import SessionState
from helmr_runtime.host_status import SlotMark
from helmr_runtime.ports import Ledger
from helmr_runtime.replay import (
    Mismatch,
    Raised,
    ReplayLog,
    Returned,
    RunDriver,
    RunEnd,
    StepEnd,
    Unreadable,
    make_replay_log,
)
from helmr_runtime.replay.cursor import hashes_of
from helmr_runtime.replay.driver import TREE_END_S
from helmr_runtime.replay.durable_context import Secrets
from helmr_runtime.replay.replay_log import is_outcome
from helmr_runtime.session.emissions import Emissions
from helmr_runtime.session.outcomes import Outcomes
from helmr_runtime.session.session_log import Phase, SessionLog
from helmr_runtime.session.step_retries import StepRetries
from helmr_runtime.session.task_children import start_child
from helmr_runtime.session.task_tokens import task_token_call
from helmr_runtime.session.token_waits import TokenWaits
from helmr_runtime.session.turns import Turns

ABORT_S = TREE_END_S + 1.0
"""A thread that is silent for so long after its run was aborted is lost."""

THREAD_POLL_S = 0.1

log = logging.getLogger("helmr.session")


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """How a host runs code.

    Args:
        code_hash: Of the code that it has.
        linger_s: A step's longer backoff parks.
        replay_always: Replay at every await, for tests.
        silence_s: How long a replay may be silent before it counts as different from the journal.
    """

    code_hash: str
    linger_s: float
    replay_always: bool
    silence_s: float


class CodeRunner:
    """The code of one adopted session.

    Args:
        log: The session; what the code asks is written there.
        token_waits: Opens waits whose precondition lies outside the session.
        mark: Where it is noted what the code does.
        emissions: What takes the chunks that the code emits.
        turns: Knows what spans of steps are below.
        on_closed: Called when the run's code has ended, or did not start, or a thread that it left has ended.
        on_retire: Called when parts of the code did not end.
    """

    def __init__(
        self,
        log: SessionLog,
        token_waits: TokenWaits,
        ledger: Ledger,
        clock: Clock,
        *,
        settings: CodeSettings,
        secrets: Secrets | None,
        mark: SlotMark,
        emissions: Emissions,
        turns: Turns,
        on_closed: Callable[[], None],
        on_retire: Callable[[str], None],
    ) -> None:
        self._log = log
        self._token_waits = token_waits
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._secrets = secrets
        self._mark = mark
        self._emissions = emissions
        self._turns = turns
        self._on_closed = on_closed
        self._on_retire = on_retire
        self.driver: RunDriver | None = None
        self._starting: asyncio.Task[None] | None = None
        self._aborted: list[RunDriver] = []
        self._outcomes = Outcomes(log, ledger, lambda: self.driver)
        self._retries = StepRetries(log, clock, self._run_of, linger_s=settings.linger_s)
        self._closed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what the session asks ----------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Code executes, or a thread of an aborted run still does."""
        return self._starting is not None or bool(self._aborted)

    @property
    def has_code(self) -> bool:
        """A coroutine tree exists."""
        return self.driver is not None or self._starting is not None

    @property
    def is_quiet(self) -> bool:
        """No code executes and nothing is on its way to any."""
        if self._starting is not None or self._aborted or self._tasks:
            return False
        if not self._outcomes.is_quiet:
            return False
        return self.driver is None or self.driver.is_quiet

    @property
    def is_expecting(self) -> bool:
        """The code awaits timers, threads or sockets of its own, and no wait; for tests in process."""
        run = self._log.state.active_run
        is_in_wait = run is None or run.wait is not None
        return not is_in_wait and self.driver is not None and self.driver.is_expecting

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
        log, run = self._log, self._log.state.active_run
        if run is None or self.has_code or log.phase is not Phase.LIVE or log.registered is None:
            return
        if self._aborted or not _is_ready(run, self._clock.now()):
            return
        self._closed.clear()
        self._starting = asyncio.get_running_loop().create_task(self._start(run))
        if run.status is not RunStatus.RUNNING or not run.is_started:
            log.write([lifecycle.run_executes(run, self._settings.code_hash)])

    def applied(self, entry: Entry, before: Wait | None, is_cautious: bool) -> None:
        """An entry was added: hand over the outcome that it holds, if there is code.

        Args:
            before: The wait that was open before it.
            is_cautious: The code hears of it only when it is on disk.
        """
        driver = self.driver
        if driver is None:
            return
        if before is not None and before.is_backoff and entry.kind is EntryKind.WAIT_FULFILLED:
            self._retries.backoff_ended(driver, before.op)
        elif before is not None and before.is_backoff and entry.kind is EntryKind.WAIT_CANCELLED:
            self._retries.backoff_superseded(driver, before.op)
        elif self._is_for_code(entry):
            if self._settings.replay_always and self._may_replay():
                self.abort(RunParked("replayed at every await"))
            else:
                self._outcomes.add(driver, entry, is_cautious=is_cautious)

    def _is_for_code(self, entry: Entry) -> bool:
        reason = entry.body.get("reason")
        is_told = is_outcome(entry) and reason not in ("task", "run_end", "rewound")
        return is_told and not self._retries.is_backoff(entry)

    def _may_replay(self) -> bool:
        """Nothing executes beside the code that gets this outcome: dropping the tree loses no step."""
        run = self._log.state.active_run
        return run is not None and run.wait is None and not run.open_steps

    def abort(self, signal: HelmrSignal) -> None:
        """Cut the code off; `wait_closed` tells when it has ended."""
        self._outcomes.clear()
        self._retries.stop_timers()
        if self.driver is not None:
            self.driver.abort(signal)
            driver = self.driver
            self._clock_real(ABORT_S, lambda: self._presume_lost(driver))

    async def wait_closed(self) -> None:
        """Wait until no coroutine tree exists; bounded by `ABORT_S` after an abort."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if self.driver is not None:
            await self._closed.wait()

    async def wait_ended(self) -> None:
        """Wait until nothing of the session's code exists, threads of its sync steps included (S-32)."""
        await self.wait_closed()
        while self._aborted:  # noqa: ASYNC110 - `_watch_threads` looks as often: a thread ends without a word
            await asyncio.sleep(THREAD_POLL_S)

    # --- starting -----------------------------------------------------------------------------

    async def _start(self, run: Run) -> None:
        log, attempt = self._log, run.attempt
        try:
            histories = await self._outcomes.histories(run)
            seq = max(log.hold_seq, log.state.seq if run.is_cautious else 0)
            is_held = await log.durable(seq)
            is_live = log.phase is Phase.LIVE
            is_same = log.state.run is run and run.attempt == attempt
            if is_held and is_live and run.is_active and is_same:
                self._launch(run, make_replay_log(log.state, histories))
        finally:
            self._starting = None
            if self.driver is None:
                self._closed.set()
                self.run_if_ready()
                self._on_closed()

    def _launch(self, run: Run, replay_log: ReplayLog) -> None:
        registered = self._log.registered
        assert registered is not None
        state = self._log.state
        self._retries.forget()
        self._outcomes.clear()
        self.driver = RunDriver(
            registered.task,
            run.payload,
            session=SessionRef(state.id, state.external_id, tuple(state.tags), state.metadata),
            run=RunRef(run.id, run.attempt),
            replay_log=replay_log,
            host=self,
            clock=self._clock,
            silence_s=self._settings.silence_s,
            secrets=self._secrets,
            mark=self._mark,
            emissions=self._emissions,
            turn=lambda: self._turns.current,
            hashes=hashes_of(
                self._settings.code_hash, self._secrets.asked_keys if self._secrets else None
            ),
        )
        self.driver.start()

    # --- Host: what the code asks ---------------------------------------------------------------

    def op_requested(self, driver: RunDriver, op: int, ask: OpRequest) -> None:
        """The code asks for a new op."""
        if self._log.defers(self.op_requested, driver, op, ask):
            return
        run = self._run_of(driver)
        if run is None:
            return
        state, context = self._log.state, self._log.context()
        match ask:
            case StepRequest():
                self._retries.opened(driver, run, op, ask)
            case WaitRequest() if ask.awaits:
                self._spawn(self._token_waits.open(lambda: self._run_of(driver), op, ask))
            case WaitRequest():
                self._log.write(ops.open_wait(state, run, op, ask, context))
                self._log.flush_now()
            case OutputRequest():
                self._log.write([ops.append_output(state, run, op, ask)])
            case PeekRequest():
                self._log.write([ops.read_peek(state, run, op, ask)])
            case HistoryRequest():
                self._log.write([ops.read_history(state, run, op, ask)])
            case TokenRequest():
                self._log.write([ops.create_token(run, op, ask, context)])
            case PublicTokenRequest():
                self._log.write([ops.create_public_token(run, op, ask, context)])
            case PatchRequest():
                self._log.write([ops.mark_patch(run, op, ask)])
            case ClockRequest():
                self._log.write([ops.read_clock(run, op, ask.now)])
            case ContinueRequest():
                self._log.write(lifecycle.run_continued(run, ask.payload, ask.next_run_id))
                self._log.flush_now()
            case _:
                raise AssertionError(f"unknown ask {ask}")

    def op_reached(self, driver: RunDriver, op: int, ask: OpRequest) -> None:
        """A replay reached an op without outcome: a lost step runs again, a wait goes on waiting."""
        if self._log.defers(self.op_reached, driver, op, ask):
            return
        run = self._run_of(driver)
        if run is not None and isinstance(ask, StepRequest):
            self._retries.op_reached(driver, run, op, ask)

    async def ledger_call(
        self, call: str, token_id: str | None, arguments: Mapping[str, Any], step: StepRef
    ) -> Any:
        """Ask the ledger for the run: `sessions.start`, or `tokens.…` about tokens."""
        run = self._log.state.run
        assert run is not None
        what, _, method = call.partition(".")
        if what == "sessions":
            session_id = self._log.state.id
            return await start_child(self._ledger, session_id, run, step.op, arguments, step.key)
        return await task_token_call(self._ledger, run.id, method, token_id, arguments, step.key)

    def gave_up(self, driver: RunDriver, op: int) -> None:
        """The code cancelled an op it awaited."""
        if self._log.defers(self.gave_up, driver, op):
            return
        run = self._run_of(driver)
        if run is None:
            return
        self._retries.gave_up(op)
        self._log.write(ops.op_given_up(run, op))

    def step_ended(self, driver: RunDriver, op: int, end: StepEnd) -> None:
        """A try of a step ended."""
        if self._log.defers(self.step_ended, driver, op, end):
            return
        run = self._run_of(driver)
        if run is not None:
            self._retries.ended(driver, run, op, end)

    def run_ended(self, driver: RunDriver, end: RunEnd) -> None:
        """The task returned, raised or can't be replayed."""
        if self._log.defers(self.run_ended, driver, end):
            return
        run = self._run_of(driver)
        if run is None:
            return
        self._log.write(_end_drafts(self._log.state, run, end, self._log.context()))
        self._log.flush_now()

    def closed(self, driver: RunDriver, is_clean: bool) -> None:
        """The driver's thread ends."""
        if driver is not self.driver:
            return
        self.driver = None
        if not self._log.is_over:
            self._emissions.code_ended()
        longest_s = self._retries.longest_s()
        self._retries.forget()
        if not is_clean:
            self._on_retire(f"the code of {driver.run.id} did not end when aborted")
        elif driver.has_threads:
            self._aborted.append(driver)
            self._watch_threads(driver, longest_s)
        self._closed.set()
        self.run_if_ready()
        self._on_closed()

    @property
    def longest_s(self) -> float:
        """How long a step of the code that is here may take; 0 without code."""
        return self._retries.longest_s() if self.has_code or self._aborted else 0.0

    # --- what is left of aborted code ---------------------------------------------------------

    def _watch_threads(self, driver: RunDriver, left_s: float) -> None:
        """Hold the actor until an aborted run's sync steps end, at most a step's timeout (S-32)."""
        if not driver.has_threads:
            self._aborted.remove(driver)
            self.run_if_ready()
            self._on_closed()
        elif left_s <= 0:
            self._aborted.remove(driver)
            self._on_retire(f"a step of {driver.run.id} did not end in time")
        else:
            self._clock_real(
                THREAD_POLL_S, lambda: self._watch_threads(driver, left_s - THREAD_POLL_S)
            )

    def _presume_lost(self, driver: RunDriver) -> None:
        if driver is self.driver:
            self.driver = None
            self._closed.set()
            self._on_retire(f"the code of {driver.run.id} did not end when aborted")

    # --- small parts ----------------------------------------------------------------------------

    def _run_of(self, driver: RunDriver) -> Run | None:
        """The active run, if this driver is the one that runs it."""
        run = self._log.state.active_run
        if not self._log.hears_code or driver is not self.driver or not self.is_of(driver, run):
            return None
        return None if run is None or run.status is RunStatus.BLOCKED else run

    @staticmethod
    def is_of(driver: RunDriver, run: Run | None) -> bool:
        """The code is this run's, of the attempt that it is in: a rewind begins another beside it."""
        return run is not None and (run.id, run.attempt) == (driver.run.id, driver.run.attempt)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _clock_real(delay_s: float, call: Any) -> None:
        asyncio.get_running_loop().call_later(delay_s, call)


def _end_drafts(state: SessionState, run: Run, end: RunEnd, context: Context) -> Sequence[Draft]:
    next_run_id = new_id(RUN)
    match end:
        case Returned():
            return lifecycle.run_succeeded(state, run, end.result, context, next_run_id=next_run_id)
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
