"""When a run's open steps are tried: as soon as their opening is on disk, and again after a backoff.

Owned by `CodeRunner`; the bodies are executed by the run's driver. Invariants: S-16 (a long backoff is a timer that
parks), S-32 (no try starts before its opening is on disk, a lost one starts anew), S-33 (retries belong to the step).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from helmr.ids import WAIT, new_id
from helmr_runtime.clock import Clock, Timer
from helmr_runtime.core.decide import ops
from helmr_runtime.core.entries import Entry, EntryKind, from_iso
from helmr_runtime.core.requests import StepRequest
from helmr_runtime.core.run import WAIT_OUTCOMES, Run
from helmr_runtime.replay import RunDriver, StepEnd
from helmr_runtime.session.session_log import SessionLog

STEP_TIMEOUT_S = 600.0
"""How long an aborted actor is held for a sync step without a timeout (S-32)."""


class StepRetries:
    """The tries of one session's steps, for the code that is here.

    Args:
        log: The session; what is decided here is written there.
        clock: The clock.
        run_of: The run that a driver still may act for, None once it may not.
        linger_s: A longer backoff parks.
    """

    def __init__(
        self,
        log: SessionLog,
        clock: Clock,
        run_of: Callable[[RunDriver], Run | None],
        *,
        linger_s: float,
    ) -> None:
        self._log = log
        self._linger_s = linger_s
        self._clock = clock
        self._run_of = run_of
        self._asks: dict[int, StepRequest] = {}
        self._timers: dict[int, Timer] = {}

    # --- what the code does ---------------------------------------------------------------------

    def opened(self, driver: RunDriver, run: Run, op: int, ask: StepRequest) -> None:
        """The code asks for a step: its first try."""
        self._asks[op] = ask
        [entry] = self._log.write([ops.open_step(self._log.state, run, op, ask)])
        self._log.when_durable(entry.seq, lambda: self._start(driver, op))
        self._log.flush_now()

    def op_reached(self, driver: RunDriver, run: Run, op: int, ask: StepRequest) -> None:
        """A replay reached a step without outcome: the lost try again, or the next one."""
        if op not in run.open_steps:
            return
        self._asks[op] = ask
        retry_at = _retry_at(run, op)
        if retry_at is not None and retry_at > self._clock.now():
            self._retry_later(driver, run, op, retry_at)
        else:
            self._log.when_durable(self._log.state.seq, lambda: self._start(driver, op))
            self._log.flush_now()

    def ended(self, driver: RunDriver, run: Run, op: int, end: StepEnd) -> None:
        """A try ended: the step's outcome, or the next try later."""
        if op not in run.open_steps or op not in self._asks:
            return
        if end.error is None:
            self._log.write([ops.step_succeeded(run, op, end.value)])
            return
        ask, context = self._asks[op], self._log.context()
        draft = ops.step_raised(run, op, ask, end.error, context, may_retry=end.may_retry)
        self._log.write([draft])
        if draft.kind is EntryKind.STEP_TRY_FAILED:
            self._retry_later(driver, run, op, from_iso(draft.body["retry_at"]))

    def gave_up(self, op: int) -> None:
        """The code no longer awaits this op: no further try."""
        timer = self._timers.pop(op, None)
        if timer is not None:
            timer.cancel()

    # --- backoffs -------------------------------------------------------------------------------

    def is_backoff(self, entry: Entry) -> bool:
        """The outcome of a backoff's timer, which the code did not ask for."""
        return entry.kind in WAIT_OUTCOMES and entry.op in self._asks

    def backoff_ended(self, driver: RunDriver, op: int) -> None:
        """A backoff's timer fired: the next try."""
        if op in self._asks:
            self._start(driver, op)

    def backoff_superseded(self, driver: RunDriver, op: int) -> None:
        """A backoff is no longer a timer that parks: it goes on in memory."""
        run = self._run_of(driver)
        if run is None or op not in run.open_steps:
            return
        retry_at = _retry_at(run, op)
        if retry_at is not None:
            self._start_at(driver, op, retry_at)

    def _retry_later(self, driver: RunDriver, run: Run, op: int, retry_at: datetime) -> None:
        remaining_s = (retry_at - self._clock.now()).total_seconds()
        is_alone = run.wait is None and run.open_steps == {op}
        if remaining_s > self._linger_s and is_alone:
            self._log.write([ops.open_backoff(run, op, new_id(WAIT), retry_at)])
            self._log.flush_now()
            return
        self._start_at(driver, op, retry_at)

    # --- starting -------------------------------------------------------------------------------

    def _start_at(self, driver: RunDriver, op: int, when: datetime) -> None:
        self._timers[op] = self._clock.call_at(when, lambda: self._start(driver, op))

    def _start(self, driver: RunDriver, op: int) -> None:
        run = self._run_of(driver)
        if run is None or op not in run.open_steps:
            return
        self._timers.pop(op, None)
        key = ops.key_of(self._log.state, run, op, self._asks[op].step)
        driver.run_step(op, key, ops.tries_of(run, op))

    # --- the code's end -------------------------------------------------------------------------

    def stop_timers(self) -> None:
        """Start no further try: the code is cut off."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def forget(self) -> None:
        """The code that asked is gone."""
        self._asks.clear()

    def longest_s(self) -> float:
        """How long the longest of the steps asked for may take."""
        timeouts = [ask.timeout_s or STEP_TIMEOUT_S for ask in self._asks.values()]
        return max(timeouts, default=STEP_TIMEOUT_S)


def _retry_at(run: Run, op: int) -> datetime | None:
    return from_iso(run.tries[op][1]) if op in run.tries else None
