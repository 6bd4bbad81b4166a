"""One run's coroutine tree on its own loop and thread, and its conversation with the live session.

The host's loop calls `start`, `deliver`, `run_step` and `abort`; the tree's events come back to it as `RunEvent`s, in
order. `durable_context` has the calls of the code, `cursor` its place in the journal. Invariants: S-8 (at most so many
ops), S-30 (an outcome is delivered when the loop has nothing ready), S-31 (a run that differs from its journal is
aborted, even if its code catches the error), S-34 (nothing the tree does can delay the actor's loop), S-127 (a repeated
step begins after the recorded outcomes are delivered).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from helmr.current import Made, MadeCalls, StepCall, StepRef, code_place, current_run
from helmr.errors import (
    HelmrSignal,
    NondeterminismError,
    NotInTask,
    RunContinued,
    RunParked,
    RunTooLong,
)
from helmr.wire.ids import RUN, new_id
from helmr_runtime.core.requests import (
    ClockRequest,
    ContinueRequest,
    OpRequest,
    PatchRequest,
    StepRequest,
    WaitRequest,
)
from helmr_runtime.host_status import Executing
from helmr_runtime.replay.cursor import JournalCursor
from helmr_runtime.replay.durable_context import DurableContext, RunCode, Surroundings
from helmr_runtime.replay.ends import (
    Mismatch,
    Raised,
    Returned,
    RunEnd,
    StepEnd,
    Unreadable,
    error_of,
    failed_op,
    met_text,
)
from helmr_runtime.replay.loop import code_mark, make_loop
from helmr_runtime.replay.replay_log import Outcome, StepError, StepValue
from helmr_runtime.replay.steps import StepRunner

OPS_MAX = 20_000
"""Most ops of one run (S-8)."""

TREE_END_S = 5.0
"""Seconds in which an aborted tree must end (S-34)."""

EXITS_MAX = 100
"""Exits (SystemExit, KeyboardInterrupt) of a tree's tasks after which it counts as endless."""

log = logging.getLogger("helmr.run")


@dataclass(slots=True)
class OpAsked:
    """The code asks for a new op. A patch is not an op: it comes with the op asked last."""

    driver: RunDriver
    op: int
    ask: OpRequest


@dataclass(slots=True)
class OpReached:
    """A replay reached an op that is open in the journal."""

    driver: RunDriver
    op: int
    ask: OpRequest


@dataclass(slots=True)
class OpGivenUp:
    """The code cancelled an op it awaited."""

    driver: RunDriver
    op: int


@dataclass(slots=True)
class StepEnded:
    """A try of a step ended."""

    driver: RunDriver
    op: int
    end: StepEnd


@dataclass(slots=True)
class RunEnded:
    """The task returned, raised or can't be replayed."""

    driver: RunDriver
    end: RunEnd


@dataclass(slots=True)
class CodeClosed:
    """The run's thread ends. If not clean, parts of the tree did not end and still exist."""

    driver: RunDriver
    is_clean: bool


RunEvent = OpAsked | OpReached | OpGivenUp | StepEnded | RunEnded | CodeClosed


class RunHost(Protocol):
    """The owner of a driver: takes the run's events, and asks the ledger for it."""

    def take(self, event: RunEvent) -> None:
        """Take an event, on the host's loop, in order."""
        ...

    async def ledger_call(
        self, call: str, named: str | None, arguments: Mapping[str, Any], step: StepRef
    ) -> Any:
        """Ask the ledger, for a run; `step` names the call, so that a repeated one acts once."""
        ...


class LoopCalls:
    """The calls of one run. `give` belongs to the host's loop, `tell` to the run's; made on the host's."""

    def __init__(self, run_id: str, run_loop: asyncio.AbstractEventLoop) -> None:
        self._run_id = run_id
        self._run_loop = run_loop
        self.host_loop = asyncio.get_running_loop()
        self._host_context = Context()  # the host's work for the run is not the run's own
        self._given = self._taken = self._told = self._heard = 0
        """Calls given to the run's loop, and taken up by it; sent to the host's loop, and taken by it."""

    @property
    def are_taken(self) -> bool:
        """The run's loop has taken all calls that it was given."""
        return self._taken == self._given

    @property
    def are_heard(self) -> bool:
        """The host's loop has taken all calls that were sent to it."""
        return self._heard == self._told

    def give(self, call: Callable[[], None]) -> None:
        """Schedule a call on the run's loop and wake it."""
        self._given += 1
        try:
            self._run_loop.call_soon_threadsafe(self._take, call)
        except RuntimeError:  # the loop is closed: the tree has ended
            log.debug("%s: the tree has ended", self._run_id)

    def _take(self, call: Callable[[], None]) -> None:
        call()
        self._taken += 1

    def tell(self, call: Callable[..., None], *arguments: Any) -> None:
        """Schedule a call on the host's loop."""
        self._told += 1
        try:
            self.host_loop.call_soon_threadsafe(
                self._hear, call, *arguments, context=self._host_context
            )
        except RuntimeError:  # the host's loop is closed: no one is left to tell
            log.debug("%s: the host has ended", self._run_id)

    def _hear(self, call: Callable[..., None], *arguments: Any) -> None:
        self._heard += 1
        call(*arguments)


RETRY_S = 0.1


class ThreadStarter:
    """Starts threads in the order of the requests, from its own thread."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Thread] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self, thread: Thread) -> None:
        """Start the thread, or if the system has no room for another, as soon as it has.

        Raises `RuntimeError`, and starts nothing later, if there is no room even for the starter's own thread.
        """
        if self._thread is None or not self._thread.is_alive():  # a fork does not have it
            own = Thread(target=self._main, name="helmr-starts", daemon=True)
            own.start()
            self._thread = own
        self._asked.put(thread)

    def _main(self) -> None:
        while True:
            thread = self._asked.get()
            is_logged = False
            while not _has_started(thread):
                if not is_logged:
                    log.warning("%s waits: the system has no room for another thread", thread.name)
                    is_logged = True
                time.sleep(RETRY_S)


def _has_started(thread: Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:
        return thread.ident is not None  # it was already started
    return True


_starter = ThreadStarter()


class RunDriver:
    """Runs one attempt of a run from its journal on.

    With `on_quiet` the run is a trial: `on_quiet` is called on the host's loop whenever the code comes to rest.
    """

    def __init__(
        self,
        code: RunCode,
        around: Surroundings,
        host: RunHost,
        *,
        on_quiet: Callable[[], None] | None = None,
    ) -> None:
        self._mark, self._context = around.mark, around.context
        self.run, self._name = code.run, code.task.id
        self._replay_log = replay_log = code.replay_log
        self._host = host
        self._clock, self._resumes = around.clock, around.resumes
        self._on_quiet = on_quiet
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self.wait_op: int | None = None
        """The op of the wait that the code awaits."""
        self._aborted: HelmrSignal | None = None
        self._end: RunEnd | None = None
        drawn = replay_log.draws_from or self.run.id
        began_at = replay_log.began_at or self._clock.now()
        self.cursor = JournalCursor(drawn, replay_log, began_at, code.hashes)
        self._loop = make_loop(
            self._deliver_next, self._on_wake, self._on_silence, around.silence_s, drawn
        )
        self._calls = LoopCalls(self.run.id, self._loop)
        self._root: Coroutine[Any, Any, Any] | None = None
        """The coroutine that executes the task's function, while it runs."""
        self._is_quiet = False
        self._unfinished: set[asyncio.Task[Any]] = set()
        """Tasks that did not end, kept so that no finalizer of theirs runs before the process ends."""
        self._cut: asyncio.Future[None] = self._loop.create_future()
        self._steps = StepRunner(self._loop, self._mark, self.run.id, around.turn)
        self._held: list[tuple[int, str, int]] | None = []
        """Steps that begin after all recorded outcomes are delivered, each with its key and tries; None from then
        on."""
        self._made = MadeCalls()
        self._code: DurableContext | None = DurableContext(
            code,
            around,
            cursor=self.cursor,
            asking=self,
            made=self._made,
            is_trying=self._steps.is_trying,
            is_tried=on_quiet is not None,
        )
        """Dropped at the start: it refers to the driver, and without a cycle both leave memory at once."""
        self._resumed_ops = len(replay_log.opened) if on_quiet is None else 0
        """Number of recorded ops that the code repeats before its first new one; 0 afterwards."""
        self._began_s = 0.0
        self._thread = Thread(target=self._main_thread, name=f"helmr-{self.run.id}", daemon=True)

    # --- called by the host -------------------------------------------------------------------

    def start(self) -> None:
        """Begin executing."""
        _starter.start(self._thread)

    def deliver(self, outcome: Outcome) -> None:
        """Give the code an outcome once earlier ones are delivered and its loop is idle."""
        self.cursor.add(outcome)
        self._calls.give(lambda: None)

    def run_step(self, op: int, key: str, tries: int) -> None:
        """Execute the body of a step whose opening is on disk."""
        self._calls.give(lambda: self._start_step(op, key, tries))

    def abort(self, signal: HelmrSignal) -> None:
        """Abort the run (S-34): its durable calls raise `signal` from now on, and the tree is cancelled."""
        self._aborted = self._aborted or signal
        self._is_quiet = False
        self._calls.give(self._cut_now)

    @property
    def has_threads(self) -> bool:
        """A sync step's thread is still executing."""
        return self._steps.has_threads

    def has_thread(self, op: int) -> bool:
        """A thread of that sync step is still executing."""
        return self._steps.has_thread(op)

    def is_executing(self, op: int) -> bool:
        """A try of that step executes."""
        return self._steps.is_executing(op)

    @property
    def is_expecting(self) -> bool:
        """The code awaits its own timers, threads or sockets."""
        return self._loop.is_expecting

    @property
    def is_quiet(self) -> bool:
        """The tree waits for an outside event: no step executes and its loop is idle."""
        is_taken = self._calls.are_taken  # read first: taking a call ends the quiet
        is_still = self._is_quiet and not self._steps.is_busy
        return is_taken and is_still and self._calls.are_heard

    # --- the thread ---------------------------------------------------------------------------

    def _main_thread(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(self._stray_exception)
        self._mark.executes(Executing.RUN, is_so=True)
        self._began_s = time.thread_time()
        is_clean = False
        try:
            is_clean = self._run_tree()
        finally:
            self._loop.close()
            if self._aborted is not None:  # its traceback refers to the driver
                self._aborted.__traceback__ = None
            self._mark.executes(Executing.RUN, is_so=False)
            self._tell(CodeClosed(self, is_clean))

    def _run_tree(self) -> bool:
        """Run the tree to its end; True if all of it ended.

        asyncio lets a task's SystemExit and KeyboardInterrupt out of the loop, past all that await it: the first ends
        the run, then the tree ends as usual.
        """
        main = self._loop.create_task(self._main())
        for _ in range(EXITS_MAX):
            try:
                return self._loop.run_until_complete(main)
            except (SystemExit, KeyboardInterrupt) as error:
                self._finish(Raised(error_of(error), failed_op(error)))
                main.cancel()
                main = self._loop.create_task(self._end_tree())
        return False

    async def _main(self) -> bool:
        code, self._code = self._code, None
        assert code is not None
        context = self._context()
        context.run(current_run.set, code)
        context.run(code_mark.set, self._mark)
        self._root = code.execute()
        root = self._loop.create_task(self._root, name=self._name, context=context)
        await asyncio.wait({root, self._cut}, return_when=asyncio.FIRST_COMPLETED)
        self._root = None
        if root.done() and self._aborted is None:
            self._finish(self._end or _end_of(root, self.cursor, self._made))
        return await self._end_tree()

    def _finish(self, end: RunEnd) -> None:
        if self._aborted is None:
            self._aborted = RunParked("the run has ended")
            self._tell(RunEnded(self, end))

    async def _end_tree(self) -> bool:
        """Raise the signal at pending durable awaits, then cancel the remaining tasks until they end."""
        signal = self._aborted or RunParked("the run has ended")
        for future in self._pending.values():
            if not future.done():
                future.set_exception(signal)
        await asyncio.sleep(0)
        ending_at = self._loop.time() + TREE_END_S
        while True:
            rest = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
            if not rest:
                return True
            if self._loop.time() >= ending_at:
                self._unfinished = rest
                return False
            # A task cancelled before its start never awaits its coroutine, and Python warns about that.
            await asyncio.sleep(0)
            for task in rest:
                task.cancel("the run was aborted")
            await asyncio.wait(rest, timeout=0.2)

    def _tell(self, event: RunEvent) -> None:
        self._calls.tell(self._host.take, event)

    def _cut_now(self) -> None:
        if not self._cut.done():
            self._cut.set_result(None)

    def _stray_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, HelmrSignal) or self._aborted is not None:
            return
        log.warning("%s: %s", self.run.id, context.get("message"), exc_info=error)

    # --- delivering ---------------------------------------------------------------------------

    def _deliver_next(self) -> bool:
        """Deliver the next outcome, if the replay log allows one now. Called when the loop is idle."""
        if self._resumed_ops and not self.cursor.is_replaying:
            self._has_resumed()
        while self._aborted is None:
            outcome = self.cursor.next_outcome()
            if outcome is None:
                break
            if self._hand_over(outcome):
                return True
        self._start_held()
        self._is_quiet = True
        self._mark.executes(Executing.RUN, is_so=False)
        if self._on_quiet is not None:
            self._calls.tell(self._on_quiet)
        return False

    def _has_resumed(self) -> None:
        """Note that the code has caught up with its journal."""
        ops, self._resumed_ops = self._resumed_ops, 0
        self._resumes.note(
            time.thread_time() - self._began_s, f"{self.run.id} of task {self._name}", ops
        )

    def _on_wake(self) -> None:
        self._mark.executes(Executing.RUN, is_so=True)
        self._is_quiet = False

    def _hand_over(self, outcome: Outcome) -> bool:
        if isinstance(outcome.payload, StepValue | StepError):
            self._steps.forget(outcome.op)
        if outcome.op in self._replay_log.given_up:
            return False
        future = self._pending.pop(outcome.op, None)
        if self.wait_op == outcome.op:
            self.wait_op = None
        if future is None or future.done():
            return False
        self.cursor.known_at = outcome.recorded_at
        future.set_result(outcome.payload)
        return True

    def _on_silence(self) -> None:
        if self._aborted is not None or self._steps.is_busy or self._loop.has_threads:
            return
        if (error := self.cursor.awaited_in_vain()) is not None:
            self._fail(Mismatch(error))

    def _fail(self, end: RunEnd) -> None:
        self._end = end
        self._finish(end)
        self._cut_now()

    # --- OpRequests: called by the code -------------------------------------------------------

    async def perform(self, ask: OpRequest) -> Any:
        """Ask for the next op and await its outcome."""
        self._check_loop()
        return await self._outcome(self._next_op(), ask)

    async def perform_step(
        self, ask: StepRequest, call: StepCall
    ) -> tuple[int, StepValue | StepError]:
        """Ask for a step; return its op and its outcome."""
        self._check_loop()
        op = self._next_op()
        self._steps.expect(op, call)
        outcome: StepValue | StepError = await self._outcome(op, ask)
        return op, outcome

    async def _outcome(self, op: int, ask: OpRequest) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(_retrieve)
        self._pending[op] = future
        ask = self.cursor.hashed(op, ask)
        if isinstance(ask, WaitRequest):
            self.wait_op = op
        if not self._check_recorded(op, ask):
            self._tell(OpAsked(self, op, ask))
        elif op in self._replay_log.unfinished:
            self._tell(OpReached(self, op, ask))
        try:
            return await future
        except asyncio.CancelledError:
            if self._aborted is not None:
                raise self._aborted from None
            # Also if the outcome came with the cancellation: the code never saw it, so no replay shows it.
            self._give_up(op)
            raise

    def read_clock(self) -> datetime:
        """Return the time and record it."""
        op = self._next_op()
        ask = ClockRequest(self._clock.now())
        if self._check_recorded(op, ask):
            self.cursor.known_at = self._replay_log.clocks[op]
        else:
            self.cursor.known_at = ask.now
            self._tell(OpAsked(self, op, ask))
        return self.cursor.known_at

    def patched(self, name: str) -> bool:
        """True if the code takes a patch's new way here; recorded at the end of the journal."""
        self.check_aborted()
        is_patched, is_new = self.cursor.patched(name)
        if is_new:
            self._tell(OpAsked(self, self.cursor.op, PatchRequest(name)))
        return is_patched

    def ledger_call(
        self, call: str, named: str | None, arguments: Mapping[str, Any], step: StepRef
    ) -> Future[Any]:
        """Ask the host."""
        coroutine = self._host.ledger_call(call, named, arguments, step)
        return asyncio.run_coroutine_threadsafe(coroutine, self._calls.host_loop)

    def continued(self, payload: Any) -> HelmrSignal:
        """End this run, and begin the next with that payload."""
        self._check_awaited(self._made.unawaited())
        unasked = self.cursor.unasked(str(ContinueRequest(None, "")))
        if unasked is not None:
            return self._differs(unasked)
        self._aborted = RunContinued(f"{self.run.id} went on as the session's next run")
        self._tell(OpAsked(self, 0, ContinueRequest(payload, new_id(RUN))))
        self._cut_now()
        return self._aborted

    def blocked(self, end: Unreadable) -> HelmrSignal:
        """Block the run."""
        self._fail(end)
        return self._aborted or RunParked(end.message)

    def check_aborted(self) -> None:
        """Raise the signal of an aborted run."""
        if self._aborted is not None:
            # Otherwise the traceback would grow without end in code that swallows it in a loop.
            raise self._aborted.with_traceback(None)

    def _check_loop(self) -> None:
        """Refuse a call from another loop, which could never get its outcome."""
        if asyncio.get_running_loop() is not self._loop:
            raise NotInTask(
                "a durable call was awaited on another event loop than its run's, such as that of `asyncio.run` in a "
                "thread: await it in the task, or from a thread by `asyncio.run_coroutine_threadsafe(call, loop)`, "
                "with the loop that the task got from `asyncio.get_running_loop()`"
            )

    def _next_op(self) -> int:
        self.check_aborted()
        self._check_awaited(self._made.forgotten())
        if self.cursor.op >= OPS_MAX:
            error = RunTooLong(f"{self.run.id} asked for more than {OPS_MAX} ops")
            self._fail(Raised(error_of(error), None, may_retry=False))
            raise error
        return self.cursor.next_op()

    def _check_awaited(self, made: Made | None) -> None:
        """Fail the run if its code made this call without awaiting it, even if it catches the error (S-125)."""
        if made is not None:
            self._fail(_not_awaited(made))
            raise made.error()

    def _check_recorded(self, op: int, ask: OpRequest) -> bool:
        """True if the journal holds this op; aborts the run if it holds another one (S-31)."""
        error = self.cursor.difference(op, ask)
        if error is not None:
            raise self._differs(error)
        return self.cursor.is_recorded(op)

    def _differs(self, error: NondeterminismError) -> NondeterminismError:
        """Abort the run with this error, even if the code catches it."""
        self._fail(Mismatch(error, code_place(self._root)))
        self._aborted = error
        return error

    def _give_up(self, op: int) -> None:
        self.cursor.given_up.add(op)
        self._pending.pop(op, None)
        self._steps.give_up(op)
        if self.wait_op == op:
            self.wait_op = None
        if op not in self._replay_log.given_up:
            self._tell(OpGivenUp(self, op))

    def _start_step(self, op: int, key: str, tries: int) -> None:
        if self._held is not None:
            self._held.append((op, key, tries))
        else:
            self._begin_step(op, key, tries)

    def _start_held(self) -> None:
        """Start steps only when the run's loop is idle, so that effects of earlier outcomes happen first, as recorded.
        Code that awaits something else by then may go on.
        """
        if (held := self._held) is not None:
            self._held = [] if self.cursor.is_replaying else None
            for one in held:
                self._begin_step(*one)

    def _begin_step(self, op: int, key: str, tries: int) -> None:
        if self._aborted is None and op not in self.cursor.given_up:
            self._steps.start(op, key, tries, self._step_ended)

    def _step_ended(self, op: int, end: StepEnd) -> None:
        if self._aborted is None:
            self._tell(StepEnded(self, op, end))


def _end_of(root: asyncio.Task[Any], cursor: JournalCursor, made: MadeCalls) -> RunEnd:
    """Return how the task's coroutine ended."""
    if root.cancelled():
        error: BaseException | None = asyncio.CancelledError("the task cancelled itself")
    else:
        error = root.exception()
    unasked = cursor.unasked("the end of the task" if error is None else met_text(error))
    if unasked is not None:
        return Mismatch(unasked)
    if error is not None:
        return Raised(error_of(error), failed_op(error))
    forgotten = made.unawaited()
    return Returned(root.result()) if forgotten is None else _not_awaited(forgotten)


def _not_awaited(made: Made) -> Raised:
    error = {**error_of(made.error()), "traceback": made.traceback}
    return Raised(error, None, may_retry=False)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark a signal as seen, even if the code never looks at it."""
    if not future.cancelled():
        future.exception()
