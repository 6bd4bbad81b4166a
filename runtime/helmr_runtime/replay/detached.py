"""Replays a run's code along its journal without effects: nothing is stored, and no request is carried out.

It has two uses. A check (S-89, `check_run`) gives the code its recorded outcomes and compares its requests. A dry run
(S-87) also answers some of the requests behind the journal, in memory.
"""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from helmr.current import StepRef
from helmr.errors import NotReady, RunParked
from helmr.models import CheckVerdict, RunCheck
from helmr.tasks import Task
from helmr_runtime.clock import Clock
from helmr_runtime.core.requests import NOT_HASHED, AskedHashes, EmitRequest, OpRequest
from helmr_runtime.core.state import SessionState
from helmr_runtime.replay.driver import (
    TREE_END_S,
    CodeClosed,
    OpAsked,
    OpGivenUp,
    OpReached,
    RunDriver,
    RunEnded,
    RunEvent,
    StepEnded,
)
from helmr_runtime.replay.durable_context import RunCode, Surroundings
from helmr_runtime.replay.ends import Mismatch, RunEnd, StepEnd, Unreadable
from helmr_runtime.replay.replay_log import Outcome
from helmr_runtime.security.task_secrets import MadeUpSecrets

SILENCE_S = 1.0
"""Code that does nothing for this long awaits something that is not a durable call (S-89)."""

BUSY_TIMES = 10
"""Factor for code that is not at rest: on a loaded machine it may get no turn for seconds."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The code did all that the journal holds, and awaits an outcome behind it."""


@dataclass(frozen=True, slots=True)
class Silent:
    """The code idles or computes before the end of its journal. `op` is the last that it asked for."""

    op: int | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The code asked for an op behind its journal that is not answered in memory."""

    op: int
    ask: OpRequest


DetachedEnd = RunEnd | Exhausted | Silent | Stopped


class Answers(Protocol):
    """Decides the requests of the code behind its journal."""

    async def asked(self, op: int, ask: OpRequest) -> Outcome | Stopped | StartStep | None:
        """Return the outcome of a new op, its step to start, or the end; None leaves the op open."""
        ...

    async def step_ended(self, op: int, end: StepEnd) -> Outcome | Stopped:
        """Return the outcome of a step that ended, or the end of the replay."""
        ...


@dataclass(frozen=True, slots=True)
class StartStep:
    """Execute the step's body."""

    key: str


class DetachedRun:
    """One replay of a run.

    Args:
        code: The run's code and journal.
        around: The code's surroundings.
        answers: Decides requests behind the journal; None leaves them open.
        goes_on: The code may await its own timers, threads and sockets behind the journal, too.
    """

    def __init__(
        self,
        code: RunCode,
        around: Surroundings,
        answers: Answers | None = None,
        *,
        goes_on: bool = False,
    ) -> None:
        self._answers = answers
        self._goes_on = goes_on
        self._told: deque[tuple[int, OpRequest | StepEnd | DetachedEnd]] = deque()
        self._has_more = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[DetachedEnd] = self._loop.create_future()
        self._closed: asyncio.Future[bool] = self._loop.create_future()
        self._driver = RunDriver(code, replace(around, emissions=self), self, on_quiet=self._quiet)

    async def ended(self, *, patience_s: float, within_s: float | None = None) -> DetachedEnd:
        """Run the code to its own end or its journal's; return how it ended.

        Args:
            patience_s: Seconds without progress after which code at rest is `Silent`. Code that computes, blocks its
                thread or gets no processor has `BUSY_TIMES` as many.
            within_s: Seconds after which it is `Silent` in any case.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s if within_s is not None else float("inf")
        answering = loop.create_task(self._answer_all())
        watched: set[asyncio.Future[Any]] = {self._end, answering}
        self._driver.start()
        try:
            seen, silent_s = -1, 0.0
            while not self._end.done():
                if self._driver.cursor.progress != seen:
                    seen, silent_s = self._driver.cursor.progress, 0.0
                elif self._driver.is_quiet or silent_s >= BUSY_TIMES * patience_s:
                    break
                left_s = max(0.0, min(patience_s, until - loop.time()))
                await asyncio.wait(watched, timeout=left_s, return_when=FIRST_COMPLETED)
                silent_s += patience_s
                if answering.done():
                    await answering
                if loop.time() >= until:
                    break
            return (
                self._end.result() if self._end.done() else Silent(self._driver.cursor.op or None)
            )
        finally:
            answering.cancel()
            self._driver.abort(RunParked("the code was only tried"))

    @property
    def is_exhausted(self) -> bool:
        """The code did all that the journal holds."""
        return self._driver.cursor.is_exhausted

    @property
    def drift(self) -> list[str]:
        """One line for each op in which the code asks otherwise than the recorded code did."""
        found = sorted(self._driver.cursor.drift.items())
        return [f"op {op}: {recorded}; now {met}" for op, (recorded, met) in found]

    async def has_left_nothing(self, *, within_s: float = TREE_END_S + 1.0) -> bool:
        """Wait for the end of the code's tree; return false if parts of it did not end."""
        done, _ = await asyncio.wait({self._closed}, timeout=within_s)
        return bool(done) and self._closed.result() and not self._driver.has_threads

    def _settle(self, end: DetachedEnd) -> None:
        if not self._end.done():
            self._end.set_result(end)

    def _quiet(self) -> None:
        is_at_rest = self._driver.cursor.is_exhausted and self._driver.is_quiet and not self._told
        if is_at_rest and not (self._goes_on and self._driver.is_expecting):
            self._settle(Exhausted())

    async def _answer_all(self) -> None:
        """Handle events one after another, so that outcomes come in the order of the requests."""
        while True:
            await self._has_more.wait()
            self._has_more.clear()
            while self._told and not self._end.done():
                op, told = self._told[0]
                match told:
                    case OpRequest():
                        if self._answers is not None:
                            self._give(await self._answers.asked(op, told), op)
                    case StepEnd():
                        assert self._answers is not None, "it has started the step"
                        self._give(await self._answers.step_ended(op, told), op)
                    case _:
                        self._settle(told)
                self._told.popleft()
            self._quiet()

    def _give(self, answer: Outcome | Stopped | StartStep | None, op: int) -> None:
        match answer:
            case Outcome():
                self._driver.deliver(answer)
            case StartStep():
                self._driver.run_step(op, answer.key, 0)
            case Stopped():
                self._settle(answer)
            case None:
                pass

    def _take(self, op: int, told: OpRequest | StepEnd | DetachedEnd) -> None:
        self._told.append((op, told))
        self._has_more.set()

    def emit(self, stream: str, op: int | None, data: str) -> None:
        """Drop the chunk; behind the journal and outside of steps it is reported as a request is."""
        if op is None:
            self._loop.call_soon_threadsafe(self._take, 0, EmitRequest(stream))

    # --- RunHost ----------------------------------------------------------------------------------

    def take(self, event: RunEvent) -> None:
        """Take an event of the run. An op that the live run has open stays open."""
        match event:
            case OpAsked(op=op, ask=ask):
                self._take(op, ask)
            case StepEnded(op=op, end=step_end):
                self._take(op, step_end)
            case RunEnded(end=end):
                self._take(0, end)
            case CodeClosed(is_clean=is_clean):
                self._take(0, Exhausted())
                if not self._closed.done():
                    self._closed.set_result(is_clean)
            case OpReached() | OpGivenUp():
                pass

    async def ledger_call(
        self, call: str, named: str | None, arguments: Mapping[str, Any], step: StepRef
    ) -> Any:
        """Refuse: only steps call the ledger, and none is started."""
        raise NotReady(f"{call} is not asked while code is only tried")


UNSURE = (
    "up to here it fits; then the code computes, or awaits what is not a durable call, such as asyncio.sleep, a lock "
    "or a thread, and its journal goes on"
)


async def check_run(
    task: Task[..., Any] | None,
    state: SessionState,
    histories: Mapping[int, Sequence[Any]],
    *,
    clock: Clock,
    silence_s: float = SILENCE_S,
    hashes: AskedHashes = NOT_HASHED,
) -> RunCheck:
    """Replay the newest run of a state with some code.

    Args:
        task: The code's task of that id; None if it is gone.
        state: The session; it is not changed.
        histories: Op → the records of each `history.read` in the journal.
        clock: Tells the code the time.
        silence_s: Real seconds after which code that does nothing is `unsure`.
        hashes: Hashes the code's requests; for unknown code they show drift and never a difference.
    """
    run = state.run
    assert run is not None
    facts: dict[str, Any] = {
        "session_id": state.id,
        "run_id": run.id,
        "task": state.task,
        "status": run.status,
    }
    if task is None:
        message = f"the code has no task {state.task}"
        return RunCheck(verdict=CheckVerdict.MISSING, message=message, **facts)
    detached = DetachedRun(
        RunCode.of(task, state, histories, hashes),
        Surroundings(clock, silence_s, MadeUpSecrets(state.id)),
    )
    # Twice, so that the driver reports an endless silence first.
    end = await detached.ended(patience_s=2 * silence_s)
    await detached.has_left_nothing()
    verdict = _verdict(end, is_exhausted=detached.is_exhausted)
    return RunCheck(**facts, **verdict, drift=detached.drift)


def _verdict(end: DetachedEnd, *, is_exhausted: bool) -> dict[str, Any]:
    match end:
        case Mismatch(error=error, place=place):
            return {
                "verdict": CheckVerdict.DIFFERS,
                "op": error.op,
                "recorded": error.recorded,
                "met": error.met,
                "place": place,
            }
        case Unreadable():
            return {
                "verdict": CheckVerdict.SCHEMA,
                "op": end.op,
                "path": end.path,
                "message": end.message,
            }
        case Silent() if not is_exhausted:
            return {"verdict": CheckVerdict.UNSURE, "op": end.op, "message": UNSURE}
        case _:
            return {"verdict": CheckVerdict.FITS}
