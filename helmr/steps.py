"""`@step`: a side effect whose outcome is recorded once and never computed again."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, get_type_hints, overload

from helmr.current import StepCall, current_run, current_step
from helmr.durations import Duration, seconds
from helmr.errors import BadDefinition, NotInTask
from helmr.schema import Codec

P = ParamSpec("P")
R = TypeVar("R")

RETRIES_MAX = 1000


class Step(Generic[P, R]):
    """A function, sync or async, that a run executes durably. Calling it gives a coroutine."""

    def __init__(
        self,
        function: Callable[P, Any],
        *,
        name: str | None,
        retries: int,
        backoff: Duration,
        retry_on: type[Exception] | tuple[type[Exception], ...],
        timeout: Duration | None,
        loop: Literal["steps", "run"],
    ) -> None:
        if not 0 <= retries <= RETRIES_MAX:
            raise BadDefinition(
                f"step {function.__name__}: retries is {retries}, not 0 to {RETRIES_MAX}"
            )
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.retries = retries
        self.backoff_s = seconds(backoff, allow_zero=True)
        self.retry_on = retry_on if isinstance(retry_on, tuple) else (retry_on,)
        self.timeout_s = seconds(timeout) if timeout is not None else None
        self.is_async = inspect.iscoroutinefunction(function)
        self.loop = loop
        self._check_loop()

    def _check_loop(self) -> None:
        if self.loop not in ("steps", "run"):
            raise BadDefinition(f"step {self.name}: loop is {self.loop!r}, not 'steps' or 'run'")
        if self.loop == "run" and not self.is_async:
            raise BadDefinition(
                f"step {self.name}: loop='run' is for an async step, {self.function.__name__} is sync",
                hint="A sync step runs in a thread, on no loop: leave `loop` out, or declare it with `async def`.",
            )

    @functools.cached_property
    def codec(self) -> Codec[R]:
        """Of the return annotation; any JSON without one."""
        hints = get_type_hints(self.function, include_extras=True)
        return Codec(hints.get("return", Any), what=f"result of step {self.name}")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run durably inside a run; inside another step, or outside a run, just run.

        In a run it happens at least once: a step that was running when its process died runs again, with the
        same `step_key` (S-32). Arguments are not recorded.

        Raises:
            BadDefinition: The return annotation is not a type that pydantic can read; nothing was executed.
            StepFailed: The last try failed.
            SchemaMismatch: The value has no JSON form or does not fit the return annotation.
        """
        return self._run(functools.partial(self.function, *args, **kwargs))

    async def _run(self, call: Callable[[], Any]) -> R:
        run = current_run.get()
        if run is None or current_step.get() is not None:
            value: R = await call() if self.is_async else await asyncio.to_thread(call)
            return value
        self.codec.require()  # before the body touches the world
        value = await run.step(
            StepCall(
                name=self.name,
                call=call,
                is_async=self.is_async,
                encode=self.codec.encode,
                decode=self.codec.decode,
                retries=self.retries,
                backoff_s=self.backoff_s,
                retry_on=self.retry_on,
                timeout_s=self.timeout_s,
                loop=self.loop,
            )
        )
        return value  # noqa: RET504 - decoded by the return annotation


class StepDecorator(Protocol):
    """The type of `@step(…)` with arguments."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


class AsyncStepDecorator(Protocol):
    """The type of `@step(loop="run")`, which takes async functions only."""

    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...


def step_key() -> str:
    """Names the step that is executing, for outside systems that take an idempotency key (S-32).

    The same over retries, attempts and processes.

    Raises:
        NotInTask: No durable step is executing.
    """
    step = current_step.get()
    if step is None:
        raise NotInTask(
            "step_key() was called outside a step", hint="Call it from the body of a @step."
        )
    return step.key


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = ...,
    retries: int = ...,
    backoff: Duration = ...,
    retry_on: type[Exception] | tuple[type[Exception], ...] = ...,
    timeout: Duration | None = ...,
    loop: Literal["steps"] = ...,
) -> StepDecorator: ...
@overload
def step(
    *,
    name: str | None = ...,
    retries: int = ...,
    backoff: Duration = ...,
    retry_on: type[Exception] | tuple[type[Exception], ...] = ...,
    timeout: Duration | None = ...,
    loop: Literal["run"],
) -> AsyncStepDecorator: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    backoff: Duration = "1s",
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception,
    timeout: Duration | None = None,
    loop: Literal["steps", "run"] = "steps",
) -> Any:
    """Declare a step, bare or with arguments.

    Args:
        function: Sync or async.
        name: What replay compares; default the function's name.
        retries: Tries after the first; `retries=3` is up to 4 tries.
        backoff: Before the second try; doubles with each, at most an hour.
        retry_on: Which exceptions are tried again.
        timeout: Of one try. A sync step is not interrupted: its late result is dropped.
        loop: Where an async body runs. `"steps"`: on the loop that the async steps of all sessions of a process
            share, so that clients, pools and locks in module globals work; a body that blocks it holds up all of
            them. `"run"`: on the loop of the coroutine around it, for a body that uses objects made there.

    Raises:
        BadDefinition: A sync step with `loop="run"`, or a value out of range.
    """

    def make(function: Callable[..., Any]) -> Step[..., Any]:
        return Step(
            function,
            name=name,
            retries=retries,
            backoff=backoff,
            retry_on=retry_on,
            timeout=timeout,
            loop=loop,
        )

    return make(function) if function is not None else make
