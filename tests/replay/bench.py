"""A host for `RunDriver` without actor or ledger: everything told is written to a `Story` at once.

Real threads and loops; the driver is the one that sessions use. `Bench.replayed` runs a task again from a prefix of
the entries, as an adoption after a crash does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from helmr.current import RunRef, SessionRef, StepRef
from helmr.errors import HelmrSignal, RunParked
from helmr.tasks import Task
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.decide import lifecycle, ops
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Watermark
from helmr_runtime.core.requests import (
    ContinueRequest,
    OpRequest,
    StepRequest,
)
from helmr_runtime.core.run import step_key
from helmr_runtime.replay import Raised, Returned, RunDriver, RunEnd, StepEnd, make_replay_log
from helmr_runtime.replay.driver import (
    CodeClosed,
    OpAsked,
    OpGivenUp,
    OpReached,
    RunEnded,
    RunEvent,
    StepEnded,
)
from helmr_runtime.replay.durable_context import RunCode, Surroundings
from helmr_runtime.replay.effects import Policy, TriesStep, Writes, effect_of
from helmr_runtime.replay.replay_log import is_outcome, outcome_of
from tests.core.builder import Story

WAIT_S = 20.0
"""No wait in these tests takes longer than this, however slow the machine."""


class Bench:
    """One run of one task, driven.

    Args:
        body: The task.
        payload: JSON.
        story: Where it left off; None starts anew.
        shuffle: Steps start one at a time, in an order that this draws.
        silence_s: As the driver's.
        policy: Of the task.
    """

    def __init__(
        self,
        body: Task[Any, Any],
        payload: Any = None,
        *,
        story: Story | None = None,
        shuffle: Random | None = None,
        silence_s: float = 30.0,
        **policy: Any,
    ) -> None:
        self.task = body
        self.story = story or Story(**{"retries": body.retries, **policy})
        self.payload = payload
        self.clock = FakeClock(self.story.now)
        self.shuffle = shuffle
        self.silence_s = silence_s
        self.driver: RunDriver | None = None
        self.end: RunEnd | None = None
        self.is_clean: bool | None = None
        self.asks: dict[int, OpRequest] = {}
        self.again: list[int] = []
        self.given_up: list[int] = []
        self.executed: list[str] = []
        self.held: list[tuple[int, str, int]] = []
        self.executing: set[int] = set()
        self.continued: Any = None
        self._changed = asyncio.Event()

    # --- what tests call ------------------------------------------------------------------------

    def start(self) -> Bench:
        """Execute from the journal on."""
        if self.story.run.status.value == "queued":
            self.story.execute()
        histories = {
            e.op: self._records(e)
            for e in self.story.run.journal
            if e.kind is EntryKind.HISTORY_READ and e.op is not None
        }
        code = RunCode(
            self.task,
            self.payload,
            SessionRef(self.story.state.id),
            RunRef(self.story.run.id, self.story.run.attempt),
            make_replay_log(self.story.state, histories),
        )
        self.driver = RunDriver(code, Surroundings(self.clock, self.silence_s), self)
        self.driver.start()
        return self

    async def until(self, condition: Callable[[], object], what: str = "condition") -> None:
        """Wait until it holds, at most `WAIT_S`."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what} never held; entries: {self.story.kinds}") from None

    async def until_closed(self) -> Bench:
        """Wait for the thread's end."""
        await self.until(lambda: self.is_clean is not None, "closed")
        return self

    async def until_waiting(self) -> Bench:
        """Wait until the run waits."""
        await self.until(lambda: self.story.state.wait is not None, "waiting")
        return self

    async def abort(self, signal: HelmrSignal | None = None) -> Bench:
        """Cut the run off and wait for the end of its tree."""
        assert self.driver is not None
        self.driver.abort(signal or RunParked("parked"))
        return await self.until_closed()

    @property
    def result(self) -> Any:
        """What the task returned."""
        assert isinstance(self.end, Returned), self.end
        return self.end.result

    def send(self, data: Any, stream: str = "messages", **more: Any) -> Any:
        """Send input to the run."""
        before = len(self.story.entries)
        receipt = self.story.send(data, stream, **more)
        self._hand_over(self.story.entries[before:])
        return receipt

    def write(self, *drafts: Draft) -> list[Entry]:
        """Write what was decided and hand outcomes over."""
        entries = self.story.write(*drafts)
        self._hand_over(entries)
        return entries

    def replayed(self, seqs: int, **more: Any) -> Bench:
        """A new run of the same task from the first so many entries."""
        story = Story()
        story.policy = self.story.policy
        story.entries = self.story.entries[:seqs]
        story.state = story.refold()
        story._numbers = self.story._numbers
        return Bench(self.task, self.payload, story=story, **more)

    # --- Host -----------------------------------------------------------------------------------

    def take(self, event: RunEvent) -> None:
        match event:
            case OpAsked():
                self.op_requested(event.driver, event.op, event.ask)
            case OpReached():
                self.op_reached(event.driver, event.op, event.ask)
            case OpGivenUp():
                self.gave_up(event.driver, event.op)
            case StepEnded():
                self.step_ended(event.driver, event.op, event.end)
            case RunEnded():
                self.run_ended(event.driver, event.end)
            case CodeClosed():
                self.closed(event.driver, event.is_clean)

    def op_requested(self, driver: RunDriver, op: int, ask: OpRequest) -> None:
        assert threading.current_thread() is threading.main_thread()
        if driver is not self.driver or not self.story.run.is_active:
            return
        self.asks[op] = ask
        state, run = self.story.state, self.story.run
        match effect_of(Policy.LIVE, state, run, op, ask, self.story.context):
            case TriesStep(opening=opening):
                self.write(opening)
                self._start_step(op)
            case Writes(drafts=drafts):
                if isinstance(ask, ContinueRequest):
                    self.continued = ask.payload
                self.write(*drafts)
            case other:
                raise AssertionError(f"no test here asks for {other}")
        self._note()

    def op_reached(self, driver: RunDriver, op: int, ask: OpRequest) -> None:
        self.again.append(op)
        if isinstance(ask, StepRequest) and op in self.story.run.open_steps:
            self.asks[op] = ask
            self._start_step(op)
        self._note()

    def gave_up(self, driver: RunDriver, op: int) -> None:
        self.given_up.append(op)
        self.executing.discard(op)
        self.write(*ops.op_given_up(self.story.run, op))
        self._note()

    def step_ended(self, driver: RunDriver, op: int, end: StepEnd) -> None:
        self.executing.discard(op)
        run = self.story.run
        if op in run.open_steps:
            if end.error is None:
                self.write(ops.step_succeeded(run, op, end.value))
            else:
                self._step_raised(op, end)
        self._note()
        self._release()

    def run_ended(self, driver: RunDriver, end: RunEnd) -> None:
        self.end = end
        story = self.story
        if isinstance(end, Returned):
            story.succeed(end.result)
        elif isinstance(end, Raised):
            story.write(
                *lifecycle.run_raised(
                    story.state,
                    story.run,
                    end.error,
                    end.failed_op,
                    story.context,
                    next_run_id=story.new("run"),
                    may_retry=end.may_retry,
                )
            )
        else:
            story.block()
        self._note()

    def closed(self, driver: RunDriver, is_clean: bool) -> None:
        self.is_clean = is_clean
        self._note()

    async def ledger_call(
        self, call: str, token_id: str | None, arguments: Mapping[str, Any], step: StepRef
    ) -> Any:
        raise AssertionError("no test here asks the ledger")

    # --- parts ----------------------------------------------------------------------------------

    def _step_raised(self, op: int, end: StepEnd) -> None:
        ask = self.asks[op]
        assert isinstance(ask, StepRequest)
        assert end.error is not None
        draft = ops.step_raised(
            self.story.run, op, ask, end.error, self.story.context, may_retry=end.may_retry
        )
        self.write(draft)
        if draft.kind is EntryKind.STEP_TRY_FAILED:
            self._start_step(op)

    def _start_step(self, op: int) -> None:
        key = step_key(self.story.state.id, self.story.run.id, op)
        self.held.append((op, key, ops.tries_of(self.story.run, op)))
        if self.shuffle is None:
            self._run_held(0)
        else:
            self._release()

    def _release(self) -> None:
        """With a shuffle: start one held step, any, when nothing executes and all branches have asked."""
        if self.shuffle is None or self.executing or not self.held or self.driver is None:
            return
        if self.driver.is_quiet:
            self._run_held(self.shuffle.randrange(len(self.held)))
        else:
            asyncio.get_running_loop().call_later(0.0005, self._release)

    def _run_held(self, position: int) -> None:
        op, key, tries = self.held.pop(position)
        assert self.driver is not None
        self.executing.add(op)
        self.executed.append(f"{op}:{self.asks[op].name}")
        self.driver.run_step(op, key, tries)

    def _hand_over(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not is_outcome(entry) or entry.body.get("reason") in ("task", "run_end"):
                continue
            records = self._records(entry) if entry.kind is EntryKind.HISTORY_READ else ()
            if self.driver is not None:
                self.driver.deliver(outcome_of(self.story.state, entry, records))
        self._note()

    def _records(self, entry: Entry) -> list[Any]:
        return Watermark.of(entry.body).picked(self.story.entries)

    def _note(self) -> None:
        self._changed.set()


INPUTS = frozenset({"messages"})


@asynccontextmanager
async def bench(body: Task[Any, Any], payload: Any = None, **more: Any) -> AsyncIterator[Bench]:
    """A started run that is aborted at the end, whatever the test did."""
    made = Bench(body, payload, inputs=INPUTS, **more).start()
    try:
        yield made
    finally:
        if made.is_clean is None:
            await made.abort()


async def finished(body: Task[Any, Any], payload: Any = None, **more: Any) -> Bench:
    """Run a task that needs nobody to its end."""
    made = Bench(body, payload, inputs=INPUTS, **more).start()
    return await made.until_closed()
