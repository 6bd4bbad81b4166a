"""A run's code along its journal without the run: nothing is stored, and nothing that the code asks for happens.

Two use it. A check (S-89) gives the code what is recorded and nothing behind it: does it ask for the same? A rehearsal
(S-87) has some of what it asks for behind the journal answered in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from helmr.current import RunRef, SessionRef
from helmr.errors import NotReady, RunParked
from helmr.tasks import Task
from helmr_runtime.clock import Clock
from helmr_runtime.core.requests import OpRequest
from helmr_runtime.core.state import SessionState
from helmr_runtime.replay.driver import TREE_END_S, RunDriver
from helmr_runtime.replay.durable_context import Secrets
from helmr_runtime.replay.ends import RunEnd, StepEnd
from helmr_runtime.replay.replay_log import Outcome, make_replay_log

SILENCE_S = 1.0
"""Code that does nothing for so long awaits something that is no durable call (S-89)."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The code did all that the journal holds, and waits for what comes behind it."""


@dataclass(frozen=True, slots=True)
class Silent:
    """The code does nothing, or computes, and has not come to its journal's end."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What the code asked for behind its journal is not answered in memory."""

    op: int
    ask: OpRequest


DetachedEnd = RunEnd | Exhausted | Silent | Stopped


class Answers(Protocol):
    """What becomes of what the code asks for behind its journal."""

    def asked(self, op: int, ask: OpRequest) -> Outcome | Stopped | StartStep | None:
        """The code asks for a new op: its outcome, or the end; None leaves it open."""
        ...

    def step_ended(self, op: int, end: StepEnd) -> Outcome | Stopped:
        """A step that was started ended."""
        ...


@dataclass(frozen=True, slots=True)
class StartStep:
    """The step's body is to be executed."""

    key: str


class Unanswered:
    """Nothing behind the journal happens: the code is left where it asks."""

    def asked(self, op: int, ask: OpRequest) -> None:
        """Leave it open."""

    def step_ended(self, op: int, end: StepEnd) -> Stopped:
        """No step is started."""
        raise AssertionError(f"op {op} was not started")


class DetachedRun:
    """One replay of a state's newest run.

    Args:
        task: The code.
        state: A session; it is not changed.
        histories: Op → the records of each `history.read` in the journal.
        clock: Tells the code the time.
        answers: What becomes of what the code asks for behind the journal.
        secrets: Makes the secrets of the session's tokens.
        silence_s: As `SILENCE_S`.
    """

    def __init__(
        self,
        task: Task[..., Any],
        state: SessionState,
        histories: Mapping[int, Sequence[Any]],
        *,
        clock: Clock,
        answers: Answers,
        secrets: Secrets | None,
        silence_s: float = SILENCE_S,
    ) -> None:
        run = state.run
        assert run is not None
        self._answers = answers
        self._silence_s = silence_s
        loop = asyncio.get_running_loop()
        self._end: asyncio.Future[DetachedEnd] = loop.create_future()
        self._closed: asyncio.Future[bool] = loop.create_future()
        self._driver = RunDriver(
            task,
            run.payload,
            session=SessionRef(state.id, state.external_id, tuple(state.tags), state.metadata),
            run=RunRef(run.id, run.attempt),
            replay_log=make_replay_log(state, histories),
            host=self,
            clock=clock,
            silence_s=silence_s,
            secrets=secrets,
            on_quiet=self._quiet,
        )

    async def ended(self) -> DetachedEnd:
        """Run the code until it has come to an end of its own or of its journal; how it ended."""
        self._driver.start()
        try:
            seen = -1
            while not self._end.done() and self._driver.progress != seen:
                seen = self._driver.progress
                # Twice: the driver tells of a silence that nothing can end before this does.
                await asyncio.wait({self._end}, timeout=2 * self._silence_s)
            return self._end.result() if self._end.done() else Silent()
        finally:
            self._driver.sever(RunParked("the code was only tried"))

    @property
    def is_exhausted(self) -> bool:
        """The code did all that the journal holds."""
        return self._driver.is_exhausted

    async def has_left_nothing(self) -> bool:
        """Wait for the end of the code's tree; false if parts of it did not end."""
        done, _ = await asyncio.wait({self._closed}, timeout=TREE_END_S + 1.0)
        return bool(done) and self._closed.result() and not self._driver.has_threads

    def _settle(self, end: DetachedEnd) -> None:
        if not self._end.done():
            self._end.set_result(end)

    def _quiet(self) -> None:
        if self._driver.is_exhausted and self._driver.is_quiet:
            self._settle(Exhausted())

    def _answer(self, answer: Outcome | Stopped | StartStep | None, op: int) -> None:
        match answer:
            case Outcome():
                self._driver.deliver(answer)
            case StartStep():
                self._driver.run_step(op, answer.key, 0)
            case Stopped():
                self._settle(answer)
            case None:
                pass

    # --- RunEvents --------------------------------------------------------------------------------

    def op_requested(self, driver: RunDriver, op: int, ask: OpRequest) -> None:
        """The code asks for a new op."""
        if not self._end.done():
            self._answer(self._answers.asked(op, ask), op)

    def op_reached(self, driver: RunDriver, op: int, ask: OpRequest) -> None:
        """The live run has this op open: it stays so."""

    def gave_up(self, driver: RunDriver, op: int) -> None:
        """The code no longer awaits an op."""

    def step_ended(self, driver: RunDriver, op: int, end: StepEnd) -> None:
        """A step that was started ended."""
        if not self._end.done():
            self._answer(self._answers.step_ended(op, end), op)

    def run_ended(self, driver: RunDriver, end: RunEnd) -> None:
        """The task returned, raised or differs from its journal."""
        self._settle(end)

    def closed(self, driver: RunDriver, is_clean: bool) -> None:
        """The code's thread ends."""
        self._settle(Exhausted())
        if not self._closed.done():
            self._closed.set_result(is_clean)

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any], key: str
    ) -> Any:
        """Refused: it stands in a step, which is not started."""
        raise NotReady(f"tokens.{method} is not asked while code is only tried")
