"""Executes the bodies of steps beside a run's tree: async ones on the step loop, sync ones in threads (S-32).

Each try is a task of the run's loop, which awaits the body wherever that runs.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from helmr.current import StepCall, StepRef, current_step
from helmr.errors import HelmrSignal, SchemaMismatch, TooLarge
from helmr.models import VALUE_BYTES_MAX
from helmr_runtime import tracing
from helmr_runtime.core import jsontext
from helmr_runtime.host_status import SlotMark
from helmr_runtime.replay.ends import LOOP_HINT_STEP, LOOP_HINT_TASK, StepEnd, error_of, raised_by
from helmr_runtime.replay.step_loop import step_loop

if TYPE_CHECKING:
    from helmr_runtime.tracing.otel import Open


class StepRunner:
    """The steps of one run. All methods but `has_threads` and `is_trying` belong to the run's loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[int, StepEnd], None],
        mark: SlotMark,
        run_id: str,
        turn: Callable[[], str | None],
    ) -> None:
        self._loop = loop
        self._run_id = run_id
        self._turn = turn
        self._on_end = on_end
        self._mark = mark
        self._calls: dict[int, tuple[StepCall, contextvars.Context]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._trying: dict[int, StepRef] = {}
        self._threads: set[threading.Thread] = set()

    @property
    def has_threads(self) -> bool:
        """A sync step's thread is still executing."""
        return any(thread.is_alive() for thread in tuple(self._threads))

    @property
    def is_busy(self) -> bool:
        """A step's body is executing."""
        return bool(self._tasks) or self.has_threads

    def is_trying(self, step: StepRef) -> bool:
        """That try executes, and has no outcome yet."""
        return self._trying.get(step.op) is step

    def expect(self, op: int, call: StepCall) -> None:
        """Keep what this op will execute, with the caller's context variables."""
        self._calls[op] = (call, contextvars.copy_context())

    def start(self, op: int, key: str, tries: int) -> None:
        """Execute one try of the step."""
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
            self._try(op, call, context, span), name=f"step {call.name}", context=context
        )
        self._tasks[op] = task
        task.add_done_callback(lambda done: self._over(op, done, span))

    def forget(self, op: int) -> None:
        """The code has its outcome: what the call holds is no longer needed."""
        self._calls.pop(op, None)

    def give_up(self, op: int) -> None:
        """The code no longer awaits this op."""
        self._calls.pop(op, None)
        self._trying.pop(op, None)
        task = self._tasks.get(op)
        if task is not None:
            task.cancel()

    async def _try(
        self, op: int, call: StepCall, context: contextvars.Context, span: Open | None
    ) -> None:
        try:
            end = StepEnd(value=await self._value(call, context))
        except (asyncio.CancelledError, HelmrSignal):
            if not _was_cancelled():
                end = StepEnd(error=error_of(asyncio.CancelledError("the step cancelled itself")))
            else:
                raise
        except (SchemaMismatch, TooLarge) as error:
            end = StepEnd(error=error_of(error))
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is this step's outcome
            end = _failed(call, error)
        self._trying.pop(op, None)
        if span is not None:
            span.end(end.error["type"] if end.error is not None else None)
        self._on_end(op, end)
        self._tasks.pop(op, None)

    def _over(self, op: int, task: asyncio.Task[None], span: Open | None) -> None:
        """A try that was cancelled never gets to its end; of one that did, the next may have begun since."""
        if span is not None:
            span.end("cancelled")
        if self._tasks.get(op) is task:
            del self._tasks[op]
            self._trying.pop(op, None)

    async def _value(self, call: StepCall, context: contextvars.Context) -> Any:
        bound = asyncio.timeout(call.timeout_s)
        try:
            async with bound:
                value = await self._body(call, context)
        except TimeoutError as error:
            if call.timeout_s is None or not bound.expired():
                raise
            raise TimeoutError(f"took longer than {call.timeout_s:g} s") from error
        encoded = call.encode(value)
        size = len(jsontext.encode(encoded).encode("utf-8"))
        if size > VALUE_BYTES_MAX:
            raise TooLarge(f"the value has {size} bytes of JSON, the limit is {VALUE_BYTES_MAX}")
        call.decode(encoded)
        return encoded

    def _body(self, call: StepCall, context: contextvars.Context) -> Awaitable[Any]:
        if not call.is_async:
            return self._in_thread(call, context)
        if call.loop == "run":
            body: Awaitable[Any] = call.call()
            return body
        # A copy: this try's own task is inside its context, maybe at the same moment.
        return step_loop().hand_over(call.call, name=f"step {call.name}", context=context.copy())

    def _in_thread(self, call: StepCall, context: contextvars.Context) -> asyncio.Future[Any]:
        """Run a sync body in a daemon thread; a late result is dropped."""
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
                value = context.copy().run(call.call)
            except BaseException as raised:  # noqa: BLE001 - carried to the loop, which makes it the outcome
                error = raised
            self._threads.discard(threading.current_thread())
            self._mark.thread_ends()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(settle, value, error)

        thread = threading.Thread(target=body, name=f"step {call.name}", daemon=True)
        self._threads.add(thread)
        self._mark.thread_begins()
        contextvars.Context().run(thread.start)  # noted above, not as one that the code has started
        return future


def _failed(call: StepCall, error: BaseException) -> StepEnd:
    """What a body raised, as the end of its try; if the step's `retry_on` fails over it, that is what failed."""
    hint = LOOP_HINT_STEP if call.loop == "steps" else LOOP_HINT_TASK
    raised = raised_by(error)
    try:
        may_retry = isinstance(raised, Exception) and call.retries_on(raised)
    except Exception as broken:  # noqa: BLE001 - it is user code
        return StepEnd(error=error_of(broken))
    return StepEnd(error=error_of(error, loop_hint=hint), may_retry=bool(may_retry))


def _in_future(error: BaseException) -> BaseException:
    """A future refuses StopIteration."""
    if isinstance(error, StopIteration):
        return RuntimeError("the step raised StopIteration")
    return error


def _was_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
