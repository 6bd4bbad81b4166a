"""Executes the bodies of steps beside a run's tree: async ones on the step loop, sync ones in threads (S-32).

Each try is a task of the run's loop that awaits the body. The step loop is one event loop for the
bodies of all async steps of a process, for as long as the process lives: HTTP clients, pools and locks in a task
module's globals are bound to the loop that uses them first, which is this one for all runs. Invariants: S-32 (where a
body runs), S-34 (cancelling the run's task reaches the body, whose end is awaited; no body ends this loop).
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import TYPE_CHECKING, Any

from helmr.current import StepCall, StepRef, current_step
from helmr.errors import HelmrSignal, SchemaMismatch, TooLarge
from helmr.limits import LimitClosed
from helmr.models import VALUE_BYTES_MAX
from helmr_runtime import tracing
from helmr_runtime.core import jsontext
from helmr_runtime.host_status import Executing, SlotMark
from helmr_runtime.replay.ends import LOOP_HINT_STEP, LOOP_HINT_TASK, StepEnd, error_of, raised_by
from helmr_runtime.replay.loop import TaskLoop, code_mark
from helmr_runtime.replay.round_trips import arguments_of, check_unchanged

if TYPE_CHECKING:
    from helmr_runtime.tracing.otel import Open


BLOCKED_S = 2.0
"""Seconds after which a body that blocks the step loop is named in the log."""

LOOK_S = 0.5
"""Seconds between checks for that while bodies run."""

THREADS_MAX = 64
"""Threads for `asyncio.to_thread` and name lookups, shared by all bodies of the process."""

END_S = 1.0
"""Seconds that the loop has to stop at the interpreter's exit."""

log = logging.getLogger("helmr.steps")


class MarkedCoroutine(Coroutine[Any, Any, Any]):
    """Wraps a coroutine and notes when it has the processor."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], mark: SlotMark) -> None:
        self._coroutine = coroutine
        self._mark = mark

    def send(self, value: Any) -> Any:
        self._mark.executes(Executing.STEP, is_so=True)
        try:
            return self._coroutine.send(value)
        finally:
            self._mark.executes(Executing.STEP, is_so=False)

    def throw(self, *error: Any) -> Any:
        self._mark.executes(Executing.STEP, is_so=True)
        try:
            return self._coroutine.throw(*error)
        finally:
            self._mark.executes(Executing.STEP, is_so=False)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    """Make a task, as the step loop's task factory; a task of a step's body notes when it executes."""
    context: contextvars.Context | None = options.get("context")
    mark = context.get(code_mark) if context is not None else code_mark.get()
    if mark is not None and isinstance(coroutine, Coroutine):
        coroutine = MarkedCoroutine(coroutine, mark)
    return asyncio.Task(coroutine, loop=loop, **options)


Outcome = tuple[Any, BaseException | None]
"""The value that a body returned, or the exception that it raised."""


async def _outcome(call: Callable[[], Any]) -> Outcome:
    try:
        return await call(), None
    except BaseException as raised:  # noqa: BLE001 - carried to the run's loop, which makes it the outcome
        return None, raised


class HandedOver(asyncio.Future[Any]):
    """The end of a body that runs on the step loop, as a future of the loop that awaits it.

    Cancelling it cancels the body only: as when a task awaits another, it is done when the body has ended, with the
    body's own outcome.
    """

    def __init__(self, steps: StepLoop, awaiting: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=awaiting)
        self._steps = steps
        self._body: asyncio.Task[Outcome] | None = None

    def begin(
        self, call: Callable[[], Any], name: str, context: contextvars.Context
    ) -> asyncio.Task[Outcome]:
        """Make the body's task, on the step loop."""
        self._body = self._steps.loop.create_task(_outcome(call), name=name, context=context)
        self._body.add_done_callback(self._ended)
        return self._body

    def _ended(self, body: asyncio.Task[Outcome]) -> None:
        # A task cancelled before its first turn never runs its coroutine.
        value, error = (None, asyncio.CancelledError()) if body.cancelled() else body.result()
        try:
            self.get_loop().call_soon_threadsafe(self._settle, value, error)
        except RuntimeError:  # that loop is closed: no one awaits the body
            log.debug("a body ended after its run")

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the body."""
        if self.done():
            return False
        self._steps.loop.call_soon_threadsafe(self._cancel_body, msg)
        return True

    def _cancel_body(self, message: Any | None) -> None:
        if self._body is not None:
            self._body.cancel(message)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if isinstance(error, asyncio.CancelledError):
            super().cancel(*error.args[:1])
        elif error is not None:
            self.set_exception(error)
        else:
            self.set_result(value)


class StepLoop:
    """The loop, its thread, and the thread that checks whether it is blocked."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        context = contextvars.Context()  # not that of the session that needs it first
        self.loop = context.run(TaskLoop)
        self.loop.set_task_factory(_make_task)
        self.loop.set_default_executor(ThreadPoolExecutor(THREADS_MAX, "helmr-steps"))
        self._bodies: set[asyncio.Task[Outcome]] = set()
        self._has_bodies = threading.Event()
        self._is_over = False
        self._beat = 0.0
        self._blocked_by: str | None = None
        self._thread = threading.Thread(target=self._main_thread, name="helmr-steps", daemon=True)
        watching = threading.Thread(target=self._watch, name="helmr-steps-watch", daemon=True)
        for thread in (self._thread, watching):
            context.run(thread.start)
        self._ident = self._thread.ident or 0
        atexit.register(self._stop)

    @property
    def blocked_by(self) -> str | None:
        """The body that has blocked the loop for longer than `BLOCKED_S`, and its current line."""
        return self._blocked_by if self._has_bodies.is_set() else None

    def hand_over(
        self, call: Callable[[], Any], *, name: str, context: contextvars.Context
    ) -> HandedOver:
        """Execute a body; return its end as a future of the calling loop.

        Args:
            call: Makes the coroutine, on the step loop.
            name: Name of the body's task.
            context: The body's own context; no other thread may be inside it meanwhile.
        """
        handed = HandedOver(self, asyncio.get_running_loop())
        self.loop.call_soon_threadsafe(self._begin, handed, call, name, context)
        return handed

    def _begin(
        self, handed: HandedOver, call: Callable[[], Any], name: str, context: contextvars.Context
    ) -> None:
        body = handed.begin(call, name, context)
        self._bodies.add(body)
        self._beat = time.monotonic()
        self._has_bodies.set()
        body.add_done_callback(self._ended)

    def _ended(self, body: asyncio.Task[Outcome]) -> None:
        self._bodies.discard(body)
        if not self._bodies:
            self._has_bodies.clear()

    def _main_thread(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._is_over:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # asyncio lets these out of the loop from any task, past everything that awaits it. A body's own stop in
                # `HandedOver`; this was raised in a task that a body made, and what awaits that task gets it.
                log.warning("a task made in a step raised %s", type(error).__name__)

    def _stop(self) -> None:
        """End the remaining tasks at the interpreter's exit, as `asyncio.run` does."""
        if os.getpid() != self.pid:
            return
        self._is_over = True
        self._has_bodies.set()
        ending = self._end_tasks()
        try:
            asyncio.run_coroutine_threadsafe(ending, self.loop).result(END_S)
        except TimeoutError:
            return  # a body blocks the loop or ignores its cancellation
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(END_S)
        self.loop.close()

    async def _end_tasks(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self.loop.shutdown_asyncgens()

    # --- checking whether a body blocks it ------------------------------------------------------

    def _watch(self) -> None:
        while not self._is_over:
            self._has_bodies.wait()
            blocked_s = time.monotonic() - self._beat
            if blocked_s < BLOCKED_S:
                self._blocked_by = None
            elif self._blocked_by is None:
                self._tell_blocked(blocked_s)
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self._note_beat)
            time.sleep(LOOK_S)

    def _note_beat(self) -> None:
        self._beat = time.monotonic()

    def _tell_blocked(self, blocked_s: float) -> None:
        task, frame = asyncio.current_task(self.loop), sys._current_frames().get(self._ident)
        if task is None or frame is None:
            return  # the loop is not in a body: the whole process has had no processor
        self._blocked_by = f"{task.get_name()} ({_place_of(frame)})"
        log.warning(
            "%s has held the loop of all async steps for %.1f s (%s); a body that blocks is declared with `def`, "
            "or hands the work to asyncio.to_thread",
            task.get_name(),
            blocked_s,
            _place_of(frame),
        )


def _place_of(frame: FrameType) -> str:
    """Return the innermost line of a stack."""
    found = traceback.extract_stack(frame, limit=1)[-1]
    return f"{found.filename}, line {found.lineno}, in {found.name}"


_made: StepLoop | None = None
_making = threading.Lock()


def step_loop() -> StepLoop:
    """Return this process's step loop; made for its first async step."""
    global _made
    with _making:
        if _made is None or _made.pid != os.getpid():  # a forked process has none of the threads
            _made = StepLoop()
        return _made


def blocked_by() -> str | None:
    """Return the body that blocks this process's step loop, and its current line; None if none does."""
    made = _made
    return made.blocked_by if made is not None and made.pid == os.getpid() else None


class StepRunner:
    """The steps of one run. All methods but `has_threads` and `is_trying` belong to the run's loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mark: SlotMark,
        run_id: str,
        turn: Callable[[], str | None],
    ) -> None:
        self._loop = loop
        self._run_id = run_id
        self._turn = turn
        self._mark = mark
        self._calls: dict[int, tuple[StepCall, contextvars.Context]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._trying: dict[int, StepRef] = {}
        self._threads: dict[threading.Thread, int] = {}
        """Op of each thread's step."""

    @property
    def has_threads(self) -> bool:
        """A sync step's thread is still executing."""
        return any(thread.is_alive() for thread in tuple(self._threads))

    @property
    def is_busy(self) -> bool:
        """A step's body is executing."""
        return bool(self._tasks) or self.has_threads

    def has_thread(self, op: int) -> bool:
        """True while a thread of that step executes, even if the step has ended."""
        return any(thread.is_alive() for thread, of in tuple(self._threads.items()) if of == op)

    def is_executing(self, op: int) -> bool:
        """A try of that step executes."""
        return op in self._tasks or self.has_thread(op)

    def is_trying(self, step: StepRef) -> bool:
        """True if that try executes and has no outcome yet."""
        return self._trying.get(step.op) is step

    def expect(self, op: int, call: StepCall) -> None:
        """Keep the call that this op will execute, with the caller's context variables."""
        self._calls[op] = (call, contextvars.copy_context())

    def start(self, op: int, key: str, tries: int, on_end: Callable[[int, StepEnd], None]) -> None:
        """Execute one try of the step; `on_end` gets its end."""
        known = self._calls.get(op)
        if known is None or op in self._tasks:
            return
        call, context = known
        context = context.copy()
        ref = self._trying[op] = StepRef(call.name, key, tries, op)
        context.run(current_step.set, ref)
        span = None
        if tracing.spans is not None:
            span = tracing.spans.step(self._turn(), call.name, self._run_id, op=op, tries=tries)
            span.make_current(context)
        task = self._loop.create_task(
            self._try(op, call, span, on_end), name=f"step {call.name}", context=context
        )
        self._tasks[op] = task
        task.add_done_callback(lambda done: self._over(op, done, span))

    def forget(self, op: int) -> None:
        """Drop the call of an op whose outcome the code has."""
        self._calls.pop(op, None)

    def give_up(self, op: int) -> None:
        """The code no longer awaits this op."""
        self._calls.pop(op, None)
        self._trying.pop(op, None)
        task = self._tasks.get(op)
        if task is not None:
            task.cancel()

    async def _try(
        self, op: int, call: StepCall, span: Open | None, on_end: Callable[[int, StepEnd], None]
    ) -> None:
        try:
            end = StepEnd(value=await self._value(op, call))
        except (asyncio.CancelledError, HelmrSignal):
            if not _was_cancelled():
                end = StepEnd(error=error_of(asyncio.CancelledError("the step cancelled itself")))
            else:
                raise
        except (SchemaMismatch, TooLarge) as error:
            end = StepEnd(error=error_of(error))
        except BaseException as error:  # noqa: BLE001 - any exception of user code is this step's outcome
            end = _failed(call, error)
        self._trying.pop(op, None)
        if span is not None:
            span.end(end.error["type"] if end.error is not None else None)
        on_end(op, end)
        self._tasks.pop(op, None)

    def _over(self, op: int, task: asyncio.Task[None], span: Open | None) -> None:
        """Clean up after a try: a cancelled one never reached its end, and after others the next may have begun."""
        if span is not None:
            span.end("cancelled")
        if self._tasks.get(op) is task:
            del self._tasks[op]
            self._trying.pop(op, None)

    async def _value(self, op: int, call: StepCall) -> Any:
        bound, given = asyncio.timeout(call.timeout_s), arguments_of(call)
        try:
            async with bound:
                value = await self._body(op, call)
        except TimeoutError as error:
            if call.timeout_s is None or not bound.expired():
                raise
            raise TimeoutError(f"took longer than {call.timeout_s:g} s") from error
        check_unchanged(call, given)
        encoded = call.encode(value)
        size = len(jsontext.encode(encoded).encode("utf-8"))
        if size > VALUE_BYTES_MAX:
            raise TooLarge(f"the value has {size} bytes of JSON, the limit is {VALUE_BYTES_MAX}")
        call.decode(encoded)
        return encoded

    def _body(self, op: int, call: StepCall) -> Awaitable[Any]:
        if not call.is_async:
            return self._in_thread(op, call)
        if call.loop == "run":
            body: Awaitable[Any] = call.call()
            return body
        # A copy: this try's own task may be inside its context at the same moment.
        context = contextvars.copy_context()
        return step_loop().hand_over(call.call, name=f"step {call.name}", context=context)

    def _in_thread(self, op: int, call: StepCall) -> asyncio.Future[Any]:
        """Run a sync body in a daemon thread; a late result is dropped."""
        context = contextvars.copy_context()
        future: asyncio.Future[Any] = self._loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(_in_future(error))
            else:
                future.set_result(value)

        def body() -> None:
            value, error = None, None
            try:
                value = context.run(call.call)
            except BaseException as raised:  # noqa: BLE001 - carried to the loop, which makes it the outcome
                error = raised
            self._threads.pop(threading.current_thread(), None)
            self._mark.thread_ends()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(settle, value, error)

        thread = threading.Thread(target=body, name=f"step {call.name}", daemon=True)
        self._threads[thread] = op
        self._mark.thread_begins()
        contextvars.Context().run(thread.start)  # noted above, not as a thread of the code
        return future


def _failed(call: StepCall, error: BaseException) -> StepEnd:
    """Return the end of a try whose body raised; if the step's `retry_on` raises, the end is that error."""
    hint = LOOP_HINT_STEP if call.loop == "steps" else LOOP_HINT_TASK
    raised = raised_by(error)
    try:
        may_retry = isinstance(raised, Exception) and call.retries_on(raised)
    except Exception as broken:  # noqa: BLE001 - it is user code
        return StepEnd(error=error_of(broken))
    closes_s = raised.for_s if isinstance(raised, LimitClosed) and call.limit is not None else None
    told = error_of(error, loop_hint=hint)
    if isinstance(raised, LimitClosed) and call.limit is None:
        told["message"] += "; no limit was closed, as the step names none: write @step(limit=…)"
    return StepEnd(error=told, may_retry=bool(may_retry), closes_s=closes_s)


def _in_future(error: BaseException) -> BaseException:
    """A future refuses StopIteration."""
    if isinstance(error, StopIteration):
        return RuntimeError("the step raised StopIteration")
    return error


def _was_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
