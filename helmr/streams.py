"""Streams, the named, typed channels of a session, and results of waits on them. Declare streams at module level.

```python
approval = streams.input("approval", schema=Decision)
progress = streams.output("progress", schema=str)
```

A run has one wait at a time: branches that wait take turns (S-10).
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, Unpack, cast, overload
from weakref import WeakKeyDictionary

from helmr.current import (
    DurableCall,
    DurableRun,
    JsonText,
    Record,
    WaitCall,
    WaitOutcome,
    current_run,
    durable_call,
    made_calls,
    require_run,
)
from helmr.errors import BadDefinition, SchemaMismatch, UsageError, WaitCancelled, WaitTimeout
from helmr.models import CORRELATION_ID_MAX
from helmr.wait_details import AnswererOptions, WaitOptions
from helmr.wait_options import details, has_surrogate, property_names
from helmr.wire.durations import Duration, seconds
from helmr.wire.schema import Codec, codec_of, json_schema, schema_digest
from helmr.wire.truth import Ending

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fulfilled(Ending, Generic[T]):
    """A wait that was fulfilled, by a yes or a no: test `value` for truth, not this object.

    Attributes:
        value: The decoded data.
        record: The input record that fulfilled it, if it waited on input.
    """

    value: T
    record: Record | None = None
    ok: Literal[True] = True
    error: None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unfulfilled(Ending):
    """A wait that timed out or was cancelled.

    Attributes:
        error: `WaitTimeout` or `WaitCancelled`.
    """

    error: WaitTimeout | WaitCancelled
    ok: Literal[False] = False
    value: None = None
    record: None = None


WaitResult: TypeAlias = Fulfilled[T] | Unfulfilled
"""The end of a wait: a timeout is a result, not an exception (S-15). Type checkers narrow it by `ok`."""


class PendingWait(DurableCall[WaitResult[T]], Generic[T]):
    """A wait that opens when awaited, once: `await` gives a result, `unwrap` the value."""

    __slots__ = ("_perform", "_what")
    _loop = "async for … in STREAM.iter():"

    def __init__(
        self, what: str, perform: Callable[[], Coroutine[Any, Any, WaitResult[T]]]
    ) -> None:
        super().__init__(what, made_calls())
        self._what = what
        self._perform = perform

    def _make(self) -> Coroutine[Any, Any, WaitResult[T]]:
        return self._perform()

    def unwrap(self) -> Coroutine[Any, Any, T]:
        """Return a coroutine that gives the value.

        Raises:
            WaitTimeout: The deadline passed.
            WaitCancelled: The input ended or the token was cancelled.
        """

        async def value() -> T:
            result = await self
            if not result.ok:
                raise result.error
            return result.value

        calls = self._calls
        self._release()
        return value() if calls is None else DurableCall(f"{self._what}.unwrap()", calls, value())


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Stream(Generic[T]):
    """Base of input and output streams.

    Attributes:
        id: The stream's name, unique among a task's streams.
        codec: Its schema.
        declared_in: File and line of the declaration, for messages.
    """

    direction = ""

    def __init__(self, name: str, schema: Any, *, declared_in: str) -> None:
        if not _NAME.fullmatch(name):
            raise BadDefinition(
                f"{name[:140]!r} is not a stream name",
                hint="Letters, digits, dot, underscore and dash, at most 128, starting with a letter or digit.",
            )
        self.id = name
        self.codec: Codec[T] = Codec(schema, what=f"{self.direction} stream {name}")
        self.declared_in = declared_in

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @durable_call(".history()")
    async def history(self, *, from_seq: int = 1, last: int | None = None) -> list[T]:
        """The values of this stream's records so far, oldest first, over all runs; inputs both consumed and not.

        The journal records only the last place read, not the values, so a long history costs no more than a short one.
        Output that a rewind or a retry set aside is left out (S-128).

        Args:
            from_seq: The first record, counted from 1 as `append` counts.
            last: Read at most this many, the newest.

        Raises:
            UsageError: `from_seq` or `last` is less than 1.
        """
        if from_seq < 1 or (last is not None and last < 1):
            raise UsageError(f"{self.id}.history(): from_seq and last count from 1")
        run = require_run(f"{self.id}.history()")
        records = await run.history(self.id, direction=self.direction, from_seq=from_seq, last=last)
        return [self._must_decode(record) for record in records]

    def _must_decode(self, record: Record, op: int = 0, codec: Codec[T] | None = None) -> T:
        data = record.data.decoded() if isinstance(record.data, JsonText) else record.data
        try:
            return (codec or self.codec).decode(data)
        except SchemaMismatch as error:
            message = f"record {record.seq} of stream {self.id} no longer fits its schema: {error.message}"
            raise require_run(self.id).unreadable(op, message, error) from error


class InputStream(Stream[T]):
    """People → task."""

    direction = "input"

    def __init__(
        self, name: str, schema: Any, *, declared_in: str, asks: AnswererOptions | None = None
    ) -> None:
        super().__init__(name, schema, declared_in=declared_in)
        self.asks: AnswererOptions = asks if asks is not None else {}
        """Answerers of its waits, unless a wait names others."""
        details(cast("WaitOptions", self.asks), self.codec)

    def _options(self, options: WaitOptions, codec: Codec[Any]) -> WaitOptions:
        """Merge a wait's options over the stream's; keep those of the stream's comments that the answer may have."""
        found = cast("WaitOptions", {**self.asks, **options})
        if "comments" in self.asks and "comments" not in options and codec is not self.codec:
            names = property_names(codec.json_schema())
            found["comments"] = [
                one for one in self.asks["comments"] if names is None or one in names
            ]
        return found

    @overload
    def wait(
        self,
        *,
        timeout: Duration | None = None,
        correlation_id: str | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[T]: ...
    @overload
    def wait(
        self,
        *,
        schema: type[U],
        timeout: Duration | None = None,
        correlation_id: str | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[U]: ...
    @overload
    def wait(
        self,
        *,
        schema: TypeForm[U],
        timeout: Duration | None = None,
        correlation_id: str | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[U]: ...
    @overload
    def wait(
        self,
        *,
        schema: Any,
        timeout: Duration | None = None,
        correlation_id: str | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[Any]: ...
    def wait(
        self,
        *,
        schema: Any = None,
        timeout: Duration | None = None,
        correlation_id: str | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[Any]:
        """Wait for a record on this stream; the run parks until one matches.

        A wait with a correlation id takes only records of that id; a wait without one takes **any** record, also
        one meant for another wait (S-23). One wait at a time: a second raises `ConcurrentWaitError`.

        Args:
            schema: Schema of answers to this wait, on top of the stream's: a pydantic-compatible type or a JSON Schema.
                A sent record must fit the stream's schema; this wait takes it only if it fits this one too (S-71).
            timeout: Afterwards the result has `WaitTimeout`. None waits for ever.
            correlation_id: At most 512 characters, compared exactly after trimming. An empty one is an error, since it
                would take any record.
            options: Options for people: `WaitOptions`.

        Returns:
            A lazy awaitable: `await` gives a `WaitResult`, `.unwrap()` the value.

        Raises:
            UsageError: An option is out of its limits, or the correlation id is empty.
            SchemaMismatch: `on_decline` or the escalation's default does not fit.

        Durability: the wait is on disk before the run parks.   Source: S-10…S-17, S-70…S-72.
        """
        codec: Codec[Any] = (
            self.codec if schema is None else codec_of(schema, what=f"a wait on {self.id}")
        )
        own = json_schema(schema)
        timeout_s = seconds(timeout) if timeout is not None else None
        call = WaitCall(
            kind="input",
            stream=self.id,
            correlation_id=_correlation_id(correlation_id),
            timeout_s=timeout_s,
            details=details(
                self._options(options, codec),
                codec,
                schema=own,
                shown_digest=self.codec.digest if own is None else schema_digest(own),
                timeout_s=timeout_s,
            ),
        )

        async def perform() -> WaitResult[Any]:
            run = require_run(f"{self.id}.wait()")
            outcome = await run.wait(call)
            if outcome.record is None:
                return unfulfilled(outcome)
            value = self._must_decode(outcome.record, outcome.op, codec)
            return Fulfilled(value=value, record=outcome.record)

        return PendingWait(f"{self.id}.wait()", perform)

    async def iter(
        self,
        *,
        timeout: Duration | None = None,
        correlation_id: str | None = None,
        **options: Unpack[WaitOptions],
    ) -> AsyncIterator[T]:
        """Yield one value after another; end when the input is ended or nothing arrives for `timeout`."""
        while True:
            result = await self.wait(timeout=timeout, correlation_id=correlation_id, **options)
            if not result.ok:
                return
            yield result.value

    @durable_call(".peek()")
    async def peek(self) -> list[T]:
        """The values of the unconsumed records, oldest first; consumes nothing."""
        run = require_run(f"{self.id}.peek()")
        return [self._must_decode(record) for record in await run.peek(self.id)]


class OutputStream(Stream[T]):
    """Task → clients."""

    direction = "output"

    @durable_call(".append()")
    async def append(self, value: T, *, compare: bool = True) -> int:
        """Append a record and return its sequence number on this stream, from 1.

        Args:
            value: A value that fits the stream's schema.
            compare: False lets it differ at a replay of the same code (S-126).

        Raises:
            SchemaMismatch: The value does not fit the schema, or its JSON is over 256 KiB.
        """
        run = require_run(
            f"{self.id}.append()",
            in_step=f"Append what the step returns, in the task; {self.id}.emit(…) streams from inside a step.",
        )
        return await run.append(self.id, self.codec.encode(value), compare=compare)

    def emit(self, value: T) -> None:
        """Show a chunk to everyone who follows this stream now, without storing it (S-90).

        Use it for live progress, such as a model's tokens; only results of steps, and `append`, last. It works inside
        and outside of steps, on any thread with the step's context, and returns at once no matter how many follow. A
        replay shows nothing a second time, but a step that is tried again emits again. Outside a run it does nothing.

        Raises:
            SchemaMismatch: The value does not fit the schema.
            TooLarge: Its JSON is over 16 KiB.
        """
        data = self.codec.encode(value)
        run = current_run.get()
        if run is not None:
            run.emit(self.id, data)


def unfulfilled(outcome: WaitOutcome) -> Unfulfilled:
    """The result of a wait that timed out or was cancelled."""
    error: WaitTimeout | WaitCancelled
    if outcome.status == "timed_out":
        error = WaitTimeout(f"{outcome.wait_id} timed out", wait_id=outcome.wait_id)
    else:
        why = (outcome.reason or "cancelled").replace("_", " ")
        error = WaitCancelled(
            f"{outcome.wait_id} was cancelled: {why}",
            wait_id=outcome.wait_id,
            reason=outcome.reason,
        )
    error.op = outcome.op
    return Unfulfilled(error=error)


def _correlation_id(value: str | None) -> str | None:
    if value is None:
        return None
    trimmed = value.strip()
    if len(trimmed) > CORRELATION_ID_MAX or has_surrogate(trimmed):
        raise UsageError(f"a correlation id has at most {CORRELATION_ID_MAX} characters of text")
    return trimmed


@overload
def input(name: str, *, schema: type[T], **asks: Unpack[AnswererOptions]) -> InputStream[T]: ...
@overload
def input(name: str, *, schema: TypeForm[T], **asks: Unpack[AnswererOptions]) -> InputStream[T]: ...
@overload
def input(name: str, *, schema: Any = ..., **asks: Unpack[AnswererOptions]) -> InputStream[Any]: ...
def input(name: str, *, schema: Any = Any, **asks: Unpack[AnswererOptions]) -> InputStream[Any]:
    """Declare an input stream: people → task.

    Args:
        name: Unique among a task's streams.
        schema: Any pydantic-compatible type, default any JSON.
        asks: Answerers of its waits, and how many must agree, unless a wait says otherwise.
    """
    return InputStream(name, schema, declared_in=_caller(), asks=asks)


@overload
def output(name: str, *, schema: type[T]) -> OutputStream[T]: ...
@overload
def output(name: str, *, schema: TypeForm[T]) -> OutputStream[T]: ...
@overload
def output(name: str, *, schema: Any = ...) -> OutputStream[Any]: ...
def output(name: str, *, schema: Any = Any) -> OutputStream[Any]:
    """Declare an output stream: task → clients. `schema`: any pydantic-compatible type, default any JSON."""
    return OutputStream(name, schema, declared_in=_caller())


def _caller() -> str:
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


_turns: WeakKeyDictionary[DurableRun, asyncio.Lock] = WeakKeyDictionary()
"""Locks of executing runs. A lock grants turns in the order of requests, which a replay repeats."""


def turn(what: str) -> asyncio.Lock:
    """Return the lock that parallel branches hold around a wait.

    Args:
        what: The intended call, for the message of `NotInTask`.
    """
    return _turns.setdefault(require_run(what), asyncio.Lock())
