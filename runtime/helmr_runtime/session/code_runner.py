"""The code of a live session: starts its driver, maps its requests to effects, hands outcomes back in order.

A `CodeRunner` takes the events about code from its `LiveSession`'s queue and returns their `Effects`; only the session
writes. Invariants: S-3 (caution after a crash: an outcome is on disk before the code hears of it), S-16 (a long backoff
is a timer that parks), S-30 (outcomes are handed over in seq order), S-32 (no try starts before its opening is on disk,
a lost one starts again), S-33 (retries belong to the step), S-34 (an aborted run's requests are ignored), S-119 (a try
under a limit begins with a permit, and a step waits for its first one before it is opened).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from helmr.errors import BadDefinition, HelmrSignal, RunParked, Unavailable
from helmr.models import RunStatus
from helmr.wire.ids import RUN, WAIT, new_id
from helmr_runtime.clock import Timer
from helmr_runtime.core.decide import DecisionContext, lifecycle, ops
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Watermark, from_iso
from helmr_runtime.core.requests import OpRequest, StepRequest
from helmr_runtime.core.run import ACTIVE, INSTANT, WAIT_OUTCOMES, Run, Wait
from helmr_runtime.core.state import SessionState
from helmr_runtime.replay import (
    Mismatch,
    Outcome,
    Raised,
    Returned,
    RunDriver,
    RunEnd,
    StepEnd,
    Unreadable,
)
from helmr_runtime.replay.cursor import hashes_of
from helmr_runtime.replay.driver import (
    TREE_END_S,
    CodeClosed,
    OpAsked,
    OpGivenUp,
    OpReached,
    RunEnded,
    StepEnded,
)
from helmr_runtime.replay.durable_context import RunCode, Surroundings
from helmr_runtime.replay.effects import AsksOutside, Policy, TriesStep, Writes, effect_of
from helmr_runtime.replay.ends import error_of
from helmr_runtime.replay.replay_log import outcome_of
from helmr_runtime.session.events import (
    HEARING,
    NOTHING,
    AbortOverdue,
    CodeEvent,
    Effects,
    HostParts,
    OutcomeReady,
    PendingOutcome,
    PermitCame,
    Prepared,
    SessionPhase,
    SessionView,
    ThreadsLookedAt,
    TryDue,
)
from helmr_runtime.session.run_permits import RunPermits

ABORT_S = TREE_END_S + 1.0
"""Seconds of silence after which the thread of an aborted run counts as lost."""

THREAD_POLL_S = 0.1

RETRY_LOAD_S = 0.2

UNBLOCKED = ACTIVE - {RunStatus.BLOCKED}

STEP_TIMEOUT_S = 600.0
"""Seconds that an aborted actor is held for a sync step without a timeout (S-32)."""


class CodeRunner:
    """The code of one adopted session.

    Args:
        session: The session.
        parts: Parts shared by its host's sessions.
        around: The code's surroundings.
    """

    def __init__(self, session: SessionView, parts: HostParts, around: Surroundings) -> None:
        self._session = session
        self._ledger = parts.ledger
        self._histories = parts.histories
        self._clock = parts.clock
        self._settings = parts.settings
        self._around = around
        self.driver: RunDriver | None = None
        self._starting: asyncio.Task[None] | None = None
        self._aborted: list[RunDriver] = []
        self._overdue: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self._out: deque[PendingOutcome] = deque()
        self._steps: dict[int, StepRequest] = {}
        """Steps that the current code has asked for, by op."""
        self._unopened: dict[int, StepRequest] = {}
        """Steps that wait for their first permit, by op."""
        self.permits = RunPermits(
            session, parts.permits, lambda: self.only_waits(session.state.active_run)
        )
        registered = session.registered
        self._run_limit = registered.task.limit if registered is not None else None
        self.is_limited = self._run_limit is not None
        """True if the task or a step names a limit; otherwise permits are never checked."""
        self._replayed: tuple[str, int] | None = None
        """The run and attempt that has been replayed at an outcome."""
        self._timers: dict[int, Timer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what the session asks ----------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Code is about to start, or a thread of aborted code still executes."""
        return self._starting is not None or bool(self._aborted)

    @property
    def has_code(self) -> bool:
        """A coroutine tree exists."""
        return self.driver is not None or self._starting is not None

    @property
    def is_quiet(self) -> bool:
        """No code executes, and no event for it is pending."""
        if self._starting is not None or self._aborted or self._tasks or self._out:
            return False
        return self.driver is None or self.driver.is_quiet

    @property
    def is_expecting(self) -> bool:
        """The code awaits its own timers, threads or sockets, and no wait; for in-process tests."""
        run = self._session.state.active_run
        is_in_wait = run is None or run.wait is not None
        return not is_in_wait and self.driver is not None and self.driver.is_expecting

    def is_executing(self, run: Run | None) -> bool:
        """True if the run is not merely waiting; for in-process tests of crashes."""
        return (
            self.has_code
            and run is not None
            and run.is_active
            and not (run.wait is not None and _lost_steps(run) == set())
        )

    def only_waits(self, run: Run | None) -> bool:
        """True if the run only waits for permits, which it need not do in memory (S-120)."""
        if self._starting is not None or self._aborted or run is None or run.wait is not None:
            return False
        if self.driver is None:
            return True
        if not self.driver.is_quiet or self.driver.is_expecting or self._timers or self._tasks:
            return False
        waiting = self.permits.waiting
        return run.open_steps <= waiting and (not self._out or 0 in waiting)

    def rest(self, run: Run | None) -> None:
        """Give back the run's permit while it waits, or has ended (S-120).

        Aborted code may execute until it has closed, and keeps the permit until then.
        """
        driver = self.driver
        is_over = run is None or run.status not in UNBLOCKED
        if is_over and driver is None:
            self.permits.end(0)
        elif run and run.status is RunStatus.WAITING and not run.open_steps:
            self.permits.end(0, lambda: driver is None or not driver.has_threads)

    @property
    def longest_s(self) -> float:
        """The longest time that a step of the current code may take, in seconds; 0 without code."""
        return self._longest_step_s() if self.has_code or self._aborted else 0.0

    def _longest_step_s(self) -> float:
        timeouts = [ask.timeout_s or STEP_TIMEOUT_S for ask in self._steps.values()]
        return max(timeouts, default=STEP_TIMEOUT_S)

    def run_of(self, driver: RunDriver) -> Run | None:
        """The active run, if this driver is the one that runs it."""
        if driver is not self.driver or self._session.phase not in HEARING:
            return None
        run = self._session.state.run
        if run is None or run.status not in UNBLOCKED or not is_of(driver, run):
            return None
        return run

    # --- events -------------------------------------------------------------------------------

    def take(self, event: CodeEvent) -> Effects:
        """Return the effects of an event."""
        match event:
            case OpAsked(driver, op, ask):
                return self._asked(driver, op, ask)
            case StepEnded(driver, op, end):
                return self._step_ended(driver, op, end)
            case TryDue(driver, op):
                return self._start_step(driver, op)
            case PermitCame(op):
                return self._permitted(op)
            case OutcomeReady(pending, outcome):
                return self._hand_over(pending, outcome)
            case RunEnded(driver, run_end):
                return self._run_ended(driver, run_end)
            case CodeClosed(driver, is_clean):
                return self._code_closed(driver, is_clean)
            case Prepared():
                return self._launch(event)
            case OpReached(driver, op, ask):
                return self._reached(driver, op, ask)
            case OpGivenUp(driver, op):
                return self._given_up(driver, op)
            case ThreadsLookedAt(driver, left_s):
                return self._look_at_threads(driver, left_s)
            case AbortOverdue(driver):
                return self._presume_lost(driver)

    def applied(self, entry: Entry, before: Wait | None, *, is_cautious: bool) -> Effects:
        """Hand the outcome in a new entry of one of the kinds `OUTCOMES` to the code, if there is any.

        Args:
            before: The wait that was open before the entry.
            is_cautious: The code gets it only once it is on disk.
        """
        driver = self.driver
        if driver is None:
            return NOTHING
        if entry.kind is EntryKind.OUTPUT_APPENDED:
            self._histories.appended(entry)
        if before is not None and before.is_backoff and entry.kind is EntryKind.WAIT_FULFILLED:
            return self._start_step(driver, before.op)
        if before is not None and before.is_backoff and entry.kind is EntryKind.WAIT_CANCELLED:
            return self._backoff_superseded(driver, before.op)
        if not self._is_for_code(entry):
            return NOTHING
        if self._replays_at(entry):
            self.abort(RunParked("replayed while it is in memory"))
            return NOTHING
        pending = PendingOutcome(driver)
        self._out.append(pending)
        records: Sequence[Any] | None = ()
        if entry.kind is EntryKind.HISTORY_READ:
            records = self._histories.of(entry.session_id, Watermark.of(entry.body))
        if records is None:
            self._spawn(self._read_history(pending, entry))
            return NOTHING
        outcome = outcome_of(self._session.state, entry, records)
        if is_cautious:
            return Effects(flush=True, then=OutcomeReady(pending, outcome))
        return self._hand_over(pending, outcome)

    def _is_for_code(self, entry: Entry) -> bool:
        if entry.op is None and entry.kind in INSTANT:
            return False
        if entry.body.get("reason") in ("task", "run_end", "rewound"):
            return False
        is_of_backoff = entry.kind in WAIT_OUTCOMES and entry.op in self._steps
        return not is_of_backoff

    def _replays_at(self, entry: Entry) -> bool:
        """True if the code should get this outcome in a replay."""
        if self._settings.replays == "never":
            return False
        run = self._session.state.active_run
        if run is None or not self._may_replay():
            return False
        this = run.id, run.attempt
        is_later = entry.kind not in WAIT_OUTCOMES or self._replayed == this
        if self._settings.replays == "first" and is_later:
            return False
        self._replayed = this
        return True

    def _may_replay(self) -> bool:
        """True if no step executes beside the code, so that dropping the tree loses none."""
        run = self._session.state.active_run
        return run is not None and run.wait is None and not run.open_steps

    # --- starting -----------------------------------------------------------------------------

    def run_if_ready(self) -> Effects:
        """Start the code if the run should execute and none does."""
        session, run = self._session, self._session.state.active_run
        if (
            run is None
            or self.has_code
            or session.phase is not SessionPhase.LIVE
            or session.registered is None
        ):
            return NOTHING
        if self._aborted or not _is_ready(run, self._clock.now()):
            return NOTHING
        limit = self._run_limit
        if limit is not None and self.permits.waits(0, limit, goes_on=bool(run.journal)):
            return NOTHING
        self._closed.clear()
        self._starting = asyncio.get_running_loop().create_task(self._prepare(run))
        if run.status is RunStatus.RUNNING and run.is_started:
            return NOTHING
        return Effects([lifecycle.run_executes(run, self._settings.code_hash)], begins=True)

    async def _prepare(self, run: Run) -> None:
        """Read the records that the journal only names, and wait until all that the code may see is on disk."""
        session, attempt = self._session, run.attempt
        histories: dict[int, Sequence[Any]] = {}
        is_held = False
        try:
            for entry in run.journal:
                is_read = entry.kind is EntryKind.HISTORY_READ and entry.op is not None
                if is_read and await session.durable(entry.seq):
                    histories[entry.op or 0] = await self._records(entry)
            seq = max(session.hold_seq, session.state.seq if run.is_cautious else 0)
            is_held = await session.durable(seq)
        finally:
            session.take(Prepared(run, attempt, histories, is_held))

    def _launch(self, ready: Prepared) -> Effects:
        self._starting = None
        state, registered, run = self._session.state, self._session.registered, ready.run
        is_same = state.run is run and run.attempt == ready.attempt
        if not (
            ready.is_held and self._session.phase is SessionPhase.LIVE and run.is_active and is_same
        ):
            self._closed.set()
            return NOTHING
        assert registered is not None
        self._steps.clear()
        self._unopened.clear()
        self._out.clear()
        if self.is_limited:
            self.permits.has_left = False
        secrets = self._around.secrets
        keys = secrets.asked_keys if secrets is not None else None
        hashes = hashes_of(self._settings.code_hash, keys)
        code = RunCode.of(registered.task, state, ready.histories, hashes)
        self.driver = RunDriver(code, self._around, self._session)
        self.driver.start()
        return NOTHING

    # --- requests -----------------------------------------------------------------------------

    def _asked(self, driver: RunDriver, op: int, ask: OpRequest) -> Effects:
        run = self.run_of(driver)
        if run is None:
            return NOTHING
        state, context = self._session.state, self._session.context()
        if isinstance(ask, StepRequest) and ask.limit is not None:
            self.is_limited = True
            if (trouble := self.permits.trouble_with(ask.limit)) is not None:
                opening = ops.open_step(state, run, op, ask)
                return Effects([opening, _step_refused(run, op, ask, trouble, context)])
            if self.permits.waits(op, ask.limit):
                self._unopened[op] = ask
                return Effects(flush=True)  # the code's start waits for nothing more (0185)
        return self._open(driver, run, op, ask)

    def _open(self, driver: RunDriver, run: Run, op: int, ask: OpRequest) -> Effects:
        state, context = self._session.state, self._session.context()
        match effect_of(Policy.LIVE, state, run, op, ask, context):
            case Writes(drafts, is_last_for_now):
                return Effects(drafts, flush=is_last_for_now)
            case TriesStep(opening):
                assert isinstance(ask, StepRequest)
                self._steps[op] = ask
                return Effects([opening], flush=True, then=TryDue(driver, op))
            case AsksOutside(wait):
                return Effects(outside=(driver, op, wait))
            case withheld:
                raise AssertionError(f"{withheld} of a live run")

    def _reached(self, driver: RunDriver, op: int, ask: OpRequest) -> Effects:
        """Handle an op without outcome in a replay: start a lost try again, or the next try; a wait goes on."""
        run = self.run_of(driver)
        if run is None or not isinstance(ask, StepRequest) or op not in run.open_steps:
            return NOTHING
        self._steps[op] = ask
        retry_at = _retry_at(run, op)
        if retry_at is not None and retry_at > self._clock.now():
            return self._retry_later(driver, run, op, retry_at)
        return Effects(flush=True, then=TryDue(driver, op))

    def _given_up(self, driver: RunDriver, op: int) -> Effects:
        run = self.run_of(driver)
        if run is None:
            return NOTHING
        timer = self._timers.pop(op, None)
        if timer is not None:
            timer.cancel()
        if self.is_limited:
            self.permits.end(op, lambda: not driver.is_executing(op))
        unopened = self._unopened.pop(op, None)
        if unopened is not None:  # a replay must see that it was given up
            opening = ops.open_step(self._session.state, run, op, unopened)
            return Effects([opening, *ops.op_given_up(run, op)])
        return Effects(ops.op_given_up(run, op))

    def _run_ended(self, driver: RunDriver, end: RunEnd) -> Effects:
        run = self.run_of(driver)
        if run is None:
            return NOTHING
        drafts = _end_drafts(self._session.state, run, end, self._session.context())
        return Effects(drafts, flush=True)

    # --- tries of steps -----------------------------------------------------------------------

    def _step_ended(self, driver: RunDriver, op: int, end: StepEnd) -> Effects:
        """Handle the end of a try: write the step's outcome, or schedule the next try."""
        run = self.run_of(driver)
        if self.is_limited and driver is self.driver:
            self.permits.end(op, lambda: not driver.has_thread(op))
        if run is None or op not in run.open_steps or op not in self._steps:
            return NOTHING
        if end.error is None:
            return Effects([ops.step_succeeded(run, op, end.value)])
        ask, context = self._steps[op], self._session.context()
        if end.closes_s is not None and ask.limit is not None:
            self.permits.close(ask.limit, end.closes_s)
            closed = ops.limit_closed(run, op, ask.limit, end.error, context, for_s=end.closes_s)
            retry_at = from_iso(closed.body["retry_at"])
            return self._retry_later(driver, run, op, retry_at, failed=closed)
        draft = ops.step_raised(run, op, ask, end.error, context, may_retry=end.may_retry)
        if draft.kind is not EntryKind.STEP_TRY_FAILED:
            return Effects([draft])
        retry_at = from_iso(draft.body["retry_at"])
        return self._retry_later(driver, run, op, retry_at, failed=draft)

    def _retry_later(
        self,
        driver: RunDriver,
        run: Run,
        op: int,
        retry_at: datetime,
        *,
        failed: Draft | None = None,
    ) -> Effects:
        drafts = [failed] if failed is not None else []
        remaining_s = (retry_at - self._clock.now()).total_seconds()
        is_alone = run.wait is None and run.open_steps == {op}
        if remaining_s > self._settings.linger_s and is_alone:
            backoff = ops.open_backoff(run, op, new_id(WAIT), retry_at)
            return Effects([*drafts, backoff], flush=True)
        self._start_at(driver, op, retry_at)
        return Effects(drafts)

    def _backoff_superseded(self, driver: RunDriver, op: int) -> Effects:
        """Continue a backoff in memory that is no longer a timer that parks."""
        run = self.run_of(driver)
        retry_at = _retry_at(run, op) if run is not None and op in run.open_steps else None
        if retry_at is not None:
            self._start_at(driver, op, retry_at)
        return NOTHING

    def _start_at(self, driver: RunDriver, op: int, when: datetime) -> None:
        due = TryDue(driver, op)
        self._timers[op] = self._clock.call_at(when, lambda: self._session.take(due))

    def _start_step(self, driver: RunDriver, op: int) -> Effects:
        run = self.run_of(driver)
        if run is not None and op in run.open_steps and op in self._steps:
            self._timers.pop(op, None)
            ask = self._steps[op]
            if ask.limit is not None:
                self.is_limited = True
                if (trouble := self.permits.trouble_with(ask.limit)) is not None:
                    return Effects([_step_refused(run, op, ask, trouble, self._session.context())])
                if self.permits.waits(op, ask.limit):
                    return NOTHING
            key = ops.key_of(self._session.state, run, op, self._steps[op].step)
            driver.run_step(op, key, ops.tries_of(run, op))
        return NOTHING

    # --- permits ------------------------------------------------------------------------------

    def _permitted(self, op: int | None) -> Effects:
        """Handle a permit that has come."""
        driver, run = self.driver, self._session.state.active_run
        if op is None:
            return NOTHING
        if op == 0:
            self._drain()
            return NOTHING  # without code, the session starts the code now
        if driver is None or self.run_of(driver) is None or run is None:
            self.permits.end(op)
            return NOTHING
        unopened = self._unopened.pop(op, None)
        if unopened is not None:
            return self._open(driver, run, op, unopened)
        return self._start_step(driver, op)

    # --- outcomes -----------------------------------------------------------------------------

    def _hand_over(self, pending: PendingOutcome, outcome: Outcome) -> Effects:
        pending.outcome = outcome
        self._drain()
        return NOTHING

    def _drain(self) -> None:
        """Hand over ready outcomes in order, while the run may go on."""
        limit = self._run_limit if self.driver is not None else None
        if limit is not None and self._out and self.permits.waits(0, limit, goes_on=True):
            return
        while self._out and self._out[0].outcome is not None:
            first = self._out.popleft()
            if first.driver is self.driver and first.outcome is not None:
                first.driver.deliver(first.outcome)

    async def _read_history(self, pending: PendingOutcome, entry: Entry) -> None:
        if await self._session.durable(entry.seq):
            records = await self._records(entry)
            if self._session.phase not in HEARING:
                return
            outcome = outcome_of(self._session.state, entry, records)
            self._session.take(OutcomeReady(pending, outcome))

    async def _records(self, entry: Entry) -> Sequence[Any]:
        watermark = Watermark.of(entry.body)
        held = self._histories.of(entry.session_id, watermark)
        if held is not None:
            return held
        while self._session.phase in HEARING:
            try:
                found = await self._ledger.records(entry.session_id, watermark)
            except Unavailable:
                await asyncio.sleep(RETRY_LOAD_S)
                continue
            if watermark.through_seq == self._session.state.output_seqs.get(watermark.stream, 0):
                self._histories.keep(entry.session_id, watermark, found)
                return self._histories.of(entry.session_id, watermark) or found
            return found
        return ()

    # --- the code's end -----------------------------------------------------------------------

    def abort(self, signal: HelmrSignal) -> None:
        """Abort the code; `wait_closed` returns when it has ended."""
        self._out.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._unopened.clear()
        has_code = self.driver is not None
        self.permits.cut_off(leaves=isinstance(signal, RunParked), has_code=has_code)
        if self.driver is not None:
            self.driver.abort(signal)
            self._cancel_overdue()
            self._overdue = self._take_later(ABORT_S, AbortOverdue(self.driver))

    def _code_closed(self, driver: RunDriver, is_clean: bool) -> Effects:
        if driver is not self.driver:
            return NOTHING
        self.driver = None
        self._unopened.clear()
        self.permits.end_all(lambda op: not (driver.has_thread(op) if op else driver.has_threads))
        self._cancel_overdue()
        longest_s = self._longest_step_s()
        self._steps.clear()
        self._closed.set()
        if not is_clean:
            reason = f"the code of {driver.run.id} did not end when aborted"
            return Effects(has_ended=True, retire=reason)
        if driver.has_threads:
            self._aborted.append(driver)
            return replace(self._look_at_threads(driver, longest_s), has_ended=True)
        return Effects(has_ended=True)

    def _look_at_threads(self, driver: RunDriver, left_s: float) -> Effects:
        """Hold the session until an aborted run's sync steps end, at most a step's timeout (S-32)."""
        if not driver.has_threads:
            self._aborted.remove(driver)
        elif left_s <= 0:
            self._aborted.remove(driver)
            return Effects(retire=f"a step of {driver.run.id} did not end in time")
        else:
            self._take_later(THREAD_POLL_S, ThreadsLookedAt(driver, left_s - THREAD_POLL_S))
        return NOTHING

    def _presume_lost(self, driver: RunDriver) -> Effects:
        if driver is not self.driver:
            return NOTHING
        self.driver = None
        self._closed.set()
        return Effects(retire=f"the code of {driver.run.id} did not end when aborted")

    async def wait_closed(self) -> None:
        """Wait until no coroutine tree exists; bounded by `ABORT_S` after an abort."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if self.driver is not None:
            await self._closed.wait()

    async def wait_ended(self) -> None:
        """Wait until the session's code has ended, with the threads of its sync steps (S-32)."""
        await self.wait_closed()
        while self._aborted:  # noqa: ASYNC110 - polled, since a thread ends without a signal
            await asyncio.sleep(THREAD_POLL_S)

    # --- small parts --------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_later(self, delay_s: float, event: CodeEvent) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, self._session.take, event)

    def _cancel_overdue(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def free(self) -> None:
        """Release references once no event can come, so that the session can leave memory; skipped while code may still
        end."""
        if not self.has_code and not self._aborted and not self._tasks:
            del self._session
            self.permits.free()


def _step_refused(
    run: Run, op: int, ask: StepRequest, trouble: BadDefinition, context: DecisionContext
) -> Draft:
    return ops.step_raised(run, op, ask, error_of(trouble), context, may_retry=False)


def is_of(driver: RunDriver, run: Run | None) -> bool:
    """True if the code is of the run's current attempt: a rewind begins another one beside it."""
    return run is not None and (run.id, run.attempt) == (driver.run.id, driver.run.attempt)


def _end_drafts(
    state: SessionState, run: Run, end: RunEnd, context: DecisionContext
) -> Sequence[Draft]:
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
    """Return the open steps, except one in a backoff that parks."""
    wait = run.wait
    return run.open_steps - {wait.op} if wait is not None and wait.is_backoff else run.open_steps


def _retry_at(run: Run, op: int) -> datetime | None:
    return from_iso(run.tries[op][1]) if op in run.tries else None
