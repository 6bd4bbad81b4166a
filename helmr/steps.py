"""`@step`: a side effect whose outcome is recorded once and never computed again."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    get_type_hints,
    overload,
)

from helmr.current import DurableCall, StepCall, current_run, current_step, made_calls
from helmr.errors import BadDefinition, NotInTask
from helmr.limits import Limit, LimitName, limit_name
from helmr.wire.durations import Duration, seconds
from helmr.wire.schema import Codec, StoredCodec

if TYPE_CHECKING:
    from typing_extensions import TypeForm

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Owner = TypeVar("Owner")
Ts = TypeVarTuple("Ts")

RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
RETRIES_MAX = 1000


class _Annotated:
    """Stands for the return annotation of a step's function."""


class StepOptions(TypedDict, total=False):
    """Options of a step; `step` documents them and has the defaults."""

    formerly: Sequence[str]
    retries: int
    backoff: Duration
    retry_on: RetryOn
    timeout: Duration | None
    dry_run_safe: bool
    loop: Literal["steps", "run"]
    compare: bool
    limit: LimitName | None


class Step(Generic[P, R]):
    """A function, sync or async, that a run executes durably. Calling it gives a coroutine.

    In a class it binds as a function does: `service.charge(3)` runs the step with `service`, which is not recorded.

    Attributes:
        name: The name that replay compares.
        formerly: Its earlier names, which a journal may hold.
        function: The function to run. A test may replace it; value and annotation stay those declared.
        declares: The limit, if given with its bounds and not only by name.
    """

    def __init__(
        self,
        function: Callable[P, Any],
        *,
        name: str | None,
        result: Any = _Annotated,
        **options: Unpack[StepOptions],
    ) -> None:
        retries, formerly = options.get("retries", 0), options.get("formerly", ())
        retry_on, timeout = options.get("retry_on", Exception), options.get("timeout")
        if isinstance(function, staticmethod | classmethod):
            kind = type(function).__name__
            raise BadDefinition(
                f"step {function.__func__.__qualname__} is declared around a {kind}",
                hint=f"Write @{kind} above @step.",
            )
        if isinstance(function, Step):
            raise BadDefinition(
                f"step {name or function.name} is declared around step {function.name}, which is one already: "
                f"await {function.name}(…) itself, or hand over {function.name}.function"
            )
        self.name: str = name or function.__name__
        if inspect.isasyncgenfunction(function):
            raise BadDefinition(
                f"step {self.name} yields, and a step returns its value: return a list, and show what comes by "
                "STREAM.emit(…)"
            )
        if type(retries) is not int or not 0 <= retries <= RETRIES_MAX:
            raise BadDefinition(f"step {self.name}: retries is {retries!r}, not 0 to {RETRIES_MAX}")
        _check_retry_on(retry_on, f"step {self.name}")
        if isinstance(formerly, str):
            raise BadDefinition(
                f"step {self.name}: formerly is a list of names",
                hint=f"Write formerly=[{formerly!r}].",
            )
        functools.update_wrapper(self, function)
        self.function = function
        self.formerly = tuple(formerly)
        self.retries = retries
        self.backoff_s = seconds(options.get("backoff", "1s"), allow_zero=True)
        self.retry_on = (retry_on,) if isinstance(retry_on, type) else retry_on
        self.timeout_s = seconds(timeout) if timeout is not None else None
        self.dry_run_safe = options.get("dry_run_safe", False)
        self._declared: Callable[..., Any] = function
        self._result = result
        self._unbound: Step[..., R] | None = None
        self.loop = options.get("loop", "steps")
        self.compare = options.get("compare", True)
        self.limit = limit_name(limit := options.get("limit"), f"step {self.name}")
        self.declares = limit if isinstance(limit, Limit) else None
        self._check_loop()

    @property
    def is_bound(self) -> bool:
        """True when it was taken from an object, like a bound method."""
        return self._unbound is not None

    @property
    def is_async(self) -> bool:
        """True when the function is an `async def`, or an object whose call is one."""
        function: Any = self.function
        while isinstance(function, functools.partial):
            function = function.func
        is_function = inspect.isroutine(function)
        return inspect.iscoroutinefunction(function if is_function else type(function).__call__)

    def _check_loop(self) -> None:
        if self.loop not in ("steps", "run"):
            raise BadDefinition(f"step {self.name}: loop is {self.loop!r}, not 'steps' or 'run'")
        if self.loop == "run" and not self.is_async:
            raise BadDefinition(
                f"step {self.name}: loop='run' is for an async step, its function is sync",
                hint="A sync step runs in a thread, on no loop: leave `loop` out, or declare it with `async def`.",
            )

    @functools.cached_property
    def codec(self) -> Codec[R]:
        """Codec of the result's type, else of the return annotation; without either, of any JSON."""
        if self._unbound is not None:
            return self._unbound.codec
        if self._result is not _Annotated:
            return _codec(self._result)
        hints = get_type_hints(self._declared, include_extras=True)
        what = f"result of step {self.name}"
        return StoredCodec(hints.get("return", Any), what=what, declared=self._declared)

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(
        self: Step[Concatenate[Owner, Q], R], instance: Owner, owner: type[Any] | None = None
    ) -> Step[Q, R]: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """The step itself on a class, on an object the step bound to it."""
        if instance is None:
            return self
        bound: Step[..., R] = copy.copy(self)
        vars(bound).pop("codec", None)
        bound._unbound = self
        bound.function = MethodType(self.function, instance)
        vars(bound)["__wrapped__"] = bound.function  # what `inspect.signature` shows
        return bound

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run durably inside a run; inside another step, or outside a run, call the function directly.

        In a run it happens at least once: a step that was running when its process died runs again, with the
        same `step_key` (S-32). Arguments are not recorded; a replay compares a hash of those that have a JSON form
        (S-126).

        Raises:
            BadDefinition: Pydantic can't read the return annotation; nothing was executed.
            NotAwaited: An argument is a durable call instead of its value.
            StepFailed: The last try failed.
            SchemaMismatch: The value has no JSON form or does not fit the return annotation.
            TooLarge: It has more than 1 MiB of JSON.
        """
        calls = made_calls()
        if calls is None:
            return self._run(args, kwargs)
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, DurableCall):
                raise argument.forgotten(f"{self.name}()")
        return DurableCall(f"{self.name}()", calls, self._run(args, kwargs))

    async def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> R:
        call = functools.partial(self.function, *args, **kwargs)
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
                formerly=self.formerly,
                dry_run_safe=self.dry_run_safe,
                loop=self.loop,
                arguments=(args, kwargs) if self.compare else None,
                limit=self.limit,
            )
        )
        return value  # noqa: RET504 - decoded by the return annotation


def _check_retry_on(retry_on: object, what: str) -> None:
    """Refuse an invalid `retry_on`, which would later fail in place of the step's own error."""
    for one in retry_on if isinstance(retry_on, tuple) else (retry_on,):
        is_class = isinstance(one, type) and issubclass(one, Exception)
        if not is_class and (
            isinstance(one, type) or isinstance(retry_on, tuple) or not callable(one)
        ):
            raise BadDefinition(
                f"{what}: retry_on is {retry_on!r:.80}, not a class of exceptions, a tuple of them or a function: "
                "write retry_on=ValueError"
            )


def _codec(result: Any) -> Codec[Any]:
    """Return the cached codec of a type: calls have many names, but few types."""
    try:
        return _kept_codec(result)
    except TypeError:  # an annotation with a part that has no hash
        return StoredCodec(result, what="a step's result")


@functools.lru_cache(maxsize=512)
def _kept_codec(result: Any) -> Codec[Any]:
    return StoredCodec(
        result, what=f"a step's result of type {getattr(result, '__name__', result)}"
    )


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

    It is the same over retries, attempts and processes.

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
def step_call(
    name: str,
    function: Callable[[*Ts], Any],
    *args: *Ts,
    result: type[R],
    **options: Unpack[StepOptions],
) -> Coroutine[Any, Any, R]: ...
@overload
def step_call(
    name: str,
    function: Callable[[*Ts], Any],
    *args: *Ts,
    result: TypeForm[R],
    **options: Unpack[StepOptions],
) -> Coroutine[Any, Any, R]: ...
@overload
def step_call(
    name: str,
    function: Callable[[*Ts], Any],
    *args: *Ts,
    result: Any = ...,
    **options: Unpack[StepOptions],
) -> Coroutine[Any, Any, Any]: ...
def step_call(
    name: str,
    function: Callable[[*Ts], Any],
    *args: *Ts,
    result: Any = Any,
    **options: Unpack[StepOptions],
) -> Coroutine[Any, Any, Any]:
    """Call a function as a step with a name and result type known only at run time, for integrations.

    Replay compares the name, so it must be the same at each replay: derive it from the code's input, never from an
    address, a time or a count that differs in another process.

    Args:
        name: The step's name.
        function: Sync or async. For keyword arguments, `functools.partial`.
        args: Its arguments; not recorded.
        result: Type that encodes and decodes its value; default any JSON. Annotations don't count.
        options: Options of `step`.

    Raises:
        BadDefinition: The name is empty, or the type can't be read.
        StepFailed, SchemaMismatch, TooLarge: See `Step`.
    """
    if not name:
        raise BadDefinition("a step needs a name")
    return Step[..., Any](function, name=name, result=result, **options)(*args)


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = ...,
    formerly: Sequence[str] = ...,
    retries: int = ...,
    backoff: Duration = ...,
    retry_on: RetryOn = ...,
    timeout: Duration | None = ...,
    dry_run_safe: bool = ...,
    loop: Literal["steps"] = ...,
    compare: bool = ...,
    limit: LimitName | None = ...,
) -> StepDecorator: ...
@overload
def step(
    *,
    name: str | None = ...,
    formerly: Sequence[str] = ...,
    retries: int = ...,
    backoff: Duration = ...,
    retry_on: RetryOn = ...,
    timeout: Duration | None = ...,
    dry_run_safe: bool = ...,
    loop: Literal["run"],
    compare: bool = ...,
    limit: LimitName | None = ...,
) -> AsyncStepDecorator: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    formerly: Sequence[str] = (),
    retries: int = 0,
    backoff: Duration = "1s",
    retry_on: RetryOn = Exception,
    timeout: Duration | None = None,
    dry_run_safe: bool = False,
    loop: Literal["steps", "run"] = "steps",
    compare: bool = True,
    limit: LimitName | None = None,
) -> Any:
    """Declare a step, bare or with arguments.

    A method's object is not recorded: a replay uses the one that the code creates again. `@staticmethod` and
    `@classmethod` go above `@step`.

    Args:
        function: Sync or async.
        name: The name that replay compares; default the function's name.
        formerly: Names of the step in earlier code, which a journal may hold.
        retries: Tries after the first; `retries=3` is up to 4 tries.
        backoff: Before the second try; doubles with each, at most an hour.
        retry_on: Exceptions worth another try: classes, or a function that returns True for one.
        timeout: Timeout of one try. A sync step is not interrupted: its late result is dropped.
        dry_run_safe: The step only reads, so a dry run may execute its body, without recording the outcome.
        loop: Event loop of an async body. `"steps"`: the loop that async steps of all sessions in a process share,
            so that clients, pools and locks in module globals work; a body that blocks it stalls all of them.
            `"run"`: the loop of the coroutine around it, for a body that uses objects made there.
        compare: False lets its arguments differ at a replay of the same code (S-126).
        limit: Each try begins only when this limit, a `Limit` or its name, has room (S-119).

    Raises:
        BadDefinition: A sync step with `loop="run"`, or a value out of range.
    """

    def make(function: Callable[..., Any]) -> Step[..., Any]:
        return Step(
            function,
            name=name,
            formerly=formerly,
            retries=retries,
            backoff=backoff,
            retry_on=retry_on,
            timeout=timeout,
            dry_run_safe=dry_run_safe,
            loop=loop,
            compare=compare,
            limit=limit,
        )

    return make(function) if function is not None else make
