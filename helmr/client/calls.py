"""One call to the gateway as a value: its request, its expected answer and its retries.

The table of operations has its route and answer; a transport sends it. Every mutating call carries an operation id that
stays the same over its tries, so repeating one with an unknown outcome is safe (S-61). Errors of the caller are never
retried.

Its headers carry the caller's span as W3C's `traceparent`, if the program has loaded OpenTelemetry.

`EventReader` reads a server-sent event stream piece by piece. Lines end at CR, LF or CRLF only (str.splitlines also
splits at U+2028, which JSON may hold), and an event cut off before its empty line is dropped. Source: WHATWG HTML,
"Interpreting an event stream".
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_jsonable_python

from helmr import wait_details
from helmr.errors import (
    HelmrError,
    RuntimeNotFound,
    SchemaMismatch,
    Unavailable,
    UsageError,
)
from helmr.models import (
    LIST_LIMIT_MAX,
)
from helmr.models.queries import SESSION_IDS
from helmr.tasks import AnyTask, Task
from helmr.wire import ids
from helmr.wire.operation import Operation

T = TypeVar("T")

UNSET: Any = wait_details.UNSET
"""An argument that was not given, where None is a value."""

READ_TIMEOUT_S = 30.0
"""Longest silence of an answer. The gateway answers a commit that takes longer than 10 s with 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request and the shape of its answer.

    Args:
        method: HTTP method.
        path: Path under the runtime's URL, segments already quoted.
        reply: Type of the answer's JSON.
        params: Query parameters.
        body: JSON text, the same bytes at every try.
        operation_id: Set on every mutating call; sent as Operation-Id (S-61).
        bearer: Used instead of the client's key, for a public token.
        read_timeout_s: Longest silence of the answer.
        also_ok: Statuses besides 2xx whose body is the answer.
        accept: The content type to ask for, instead of JSON.
        read: Reads the answer's bytes by their content type, instead of `reply`.
        is_read: A POST that changes nothing, so that a second try is harmless.
        headers: Further headers.
    """

    method: str
    path: str
    reply: TypeAdapter[T]
    params: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    operation_id: str | None = None
    bearer: str | None = None
    read_timeout_s: float = READ_TIMEOUT_S
    also_ok: tuple[int, ...] = ()
    accept: str | None = None
    read: Callable[[str, bytes], T] | None = None
    is_read: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_repeatable(self) -> bool:
        """True if a second try can't act twice: reads, and mutations that carry an operation id."""
        return self.method == "GET" or self.is_read or self.operation_id is not None

    @property
    def name(self) -> str:
        """The call in messages."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A GET whose answer is a file of that media type, read in pieces. It is never retried: pieces are already used."""

    path: str
    media_type: str

    @property
    def name(self) -> str:
        """The call in messages."""
        return f"GET {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed(Generic[T]):
    """A server-sent event stream to follow. An item's number is the event's id, used to drop repeats.

    `beside` reads, by the event's name, items that have no number: they come once or not at all.
    """

    path: str
    item: TypeAdapter[T]
    params: tuple[tuple[str, str], ...] = ()
    after: int | None = None
    bearer: str | None = None
    beside: Mapping[str, TypeAdapter[Any]] = field(default_factory=dict)


def reads(shape: Any) -> TypeAdapter[Any]:
    """Return the cached reader of an answer's shape; building one is slow."""
    return _adapter(shape)


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def to_json(value: Any) -> Any:
    """Return the value as JSON types: models by their fields' aliases, dates and the like by their JSON forms."""
    return to_jsonable_python(value, by_alias=True)


def json_body(parts: Mapping[str, Any]) -> bytes:
    """Return the JSON text of a request.

    Pydantic models, dataclasses, datetimes and the like are written as their JSON forms, by alias.

    Raises:
        SchemaMismatch: It holds a value without JSON form (NaN, a lone surrogate, an unknown type), or is nested too
            deeply.
    """
    try:
        value = to_json(dict(parts))
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (ValueError, TypeError, RecursionError, PydanticSerializationError) as error:
        raise SchemaMismatch(
            f"the data has no JSON form: {error}",
            hint="Send JSON values, pydantic models or dataclasses.",
        ) from error


def call(
    operation: Operation[T],
    *ids: str,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    operation_id: str | None = None,
    bearer: str | None = None,
) -> Call[T]:
    """Return the call of an operation.

    Args:
        operation: The row of the table.
        *ids: Ids and names in its path, in order.
        body: The fields of the request; those that are UNSET are left out.
        query: Its query parameters; those that are None are left out, and each value of a list is sent.
        operation_id: Names a change, so that repeating it acts once; without it the call gets a new one.
        bearer: Used instead of the client's key.

    Raises:
        UsageError: An id or a name is invalid, or a limit is out of bounds.
        TypeError: The operation has no such query parameter.
    """
    mutates = operation.takes_operation_id
    return Call(
        method=operation.method,
        path=path_of(operation, *ids),
        reply=reads(operation.reply),
        params=_params(operation, query or {}),
        body=None if body is None else json_body(given(body, unless=UNSET)),
        operation_id=operation_or_new(operation_id) if mutates else None,
        bearer=bearer,
        is_read=not mutates,
    )


def path_of(operation: Operation[Any], *ids: str) -> str:
    """Return the path of an operation with these ids and names, quoted.

    Raises:
        BadId, BadDefinition, UsageError: One is not an id of its kind, or not a name.
    """
    for name, value in zip(operation.path_names, ids, strict=True):
        _check_name(operation, name, value)
    return operation.at(*ids)


def given(parts: Mapping[str, Any], *, unless: Any = None) -> dict[str, Any]:
    """Return the parts that were given."""
    return {name: value for name, value in parts.items() if value is not unless}


def operation_or_new(operation_id: str | None) -> str:
    """Return the id under which a change acts once: the given one, or a new one."""
    return operation_id if operation_id is not None else ids.new_id(ids.OPERATION)


def task_id(task: str | AnyTask | None) -> str | None:
    """Return the id of a task, given as itself or by its id."""
    return task.id if isinstance(task, Task) else task


def _check_name(operation: Operation[Any], name: str, value: str) -> None:
    if name in operation.names:
        operation.names[name].check(value)
    elif value in ("", ".", ".."):
        raise UsageError(f"{value!r} is not a stream name")


def _params(operation: Operation[Any], query: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    known = operation.query.model_fields if operation.query is not None else {}
    params: list[tuple[str, str]] = []
    if unknown := [name for name in query if name not in known]:
        raise TypeError(f"{operation.call} has no filter {unknown[0]!r}")
    for name in sorted(known, key=("limit", "cursor").__contains__):  # filters first
        value = query.get(name)
        if value is None:
            continue
        if name == "limit" and not 1 <= value <= LIST_LIMIT_MAX:
            raise UsageError(f"limit {value} is not between 1 and {LIST_LIMIT_MAX}")
        if name in SESSION_IDS:
            ids.check_id(value, ids.SESSION)
        is_many = isinstance(value, Iterable) and not isinstance(value, str)
        params += [(name, _param(one)) for one in (value if is_many else (value,))]
    return tuple(params)


def _param(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


DOUBLINGS_MAX = 30
"""Bounds the exponent of a pause, since a follower may fail for days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Bounds on retries.

    The pause before try n+1 is random between half and all of `pause_s * 2**(n-1)`, at most `pause_max_s`; a longer
    Retry-After of an answer wins.

    Args:
        tries_max: Most tries of one call, at least 1; while following, most tries in a row without an answer. None
            leaves only the bound on time.
        total_s: Seconds after the first try in which new tries may begin; also for a follower's first connection.
        follow_s: Seconds after which a follower gives up once its connection broke. None: never, so that it outlasts
            every restart and deploy.
        pause_s: The first pause.
        pause_max_s: The longest pause.
    """

    tries_max: int | None = None
    total_s: float = 60.0
    follow_s: float | None = None
    pause_s: float = 0.1
    pause_max_s: float = 2.0


class Tries:
    """The tries of one call: after each failure it returns the pause, or raises the error."""

    def __init__(
        self, retry: Retry, *, addresses: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._retry = retry
        self._addresses = addresses
        self._clock = clock
        self._began: float | None = clock()
        self._failed = 0
        self._total_s: float | None = retry.total_s

    def failed(self, error: HelmrError, *, repeatable: bool = True) -> float:
        """Seconds to pause before the next try.

        Raises:
            HelmrError: `error` itself, if a retry can't help or the bounds are reached.
        """
        self._failed += 1
        tries_max = self._retry.tries_max
        is_last = tries_max is not None and self._failed >= tries_max
        passes = may_pass(error) or (self._addresses > 1 and is_elsewhere(error))
        if is_last or not (repeatable and passes):
            raise error
        if self._failed % self._addresses and is_elsewhere(error):
            return 0.0  # the next address has not been asked yet
        doublings = min((self._failed - 1) // self._addresses, DOUBLINGS_MAX)
        ceiling = min(self._retry.pause_max_s, self._retry.pause_s * 2.0**doublings)
        # Jitter spreads callers that failed together.
        pause_s: float = ceiling * (0.5 + secrets.randbelow(501) / 1000)
        if error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s)
        if self._began is None:
            self._began = self._clock()
        if self._total_s is not None and self._clock() - self._began + pause_s > self._total_s:
            raise error
        return pause_s

    def answered(self) -> None:
        """Note a successful try: reset the count, and restart the time at the next failure, maybe hours later."""
        self._failed = 0
        self._began = None

    def connected(self) -> None:
        """Note that a follower is connected: from now on its own bound of time applies."""
        self._total_s = self._retry.follow_s


def may_pass(error: HelmrError) -> bool:
    """True if the same call may succeed later: the runtime is away, busy, or the outcome is unknown."""
    if isinstance(
        error, RuntimeNotFound
    ):  # what answers as something else does so in a minute, too
        return bool(error.facts.get("connecting"))
    return error.retryable


def is_elsewhere(error: HelmrError) -> bool:
    """True if another address of the runtime may take the call: this one is away, or no longer primary (S-99)."""
    return may_pass(error) and error.status != 429


EVENT_CHARS_MAX = 8 * 1024 * 1024
"""Most characters of one event: a 1 MiB value, escaped, with a margin. The runtime sends no longer one."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the last id that the stream gave."""

    type: str
    data: str
    id: str


class EventReader:
    """Turns the text of a stream into events."""

    def __init__(self) -> None:
        self._rest = ""
        self._skip_newline = False
        self._type = ""
        self._data: list[str] = []
        self._id = ""
        self.last_id = ""
        """The id of the last complete event, even without data, from which to continue."""

    def feed(self, text: str) -> list[Event]:
        """Return the events that this piece of text completes.

        Raises:
            Unavailable: An event is longer than `EVENT_CHARS_MAX`.
        """
        if self._skip_newline and text:
            # A CR ended the last piece; its LF may begin this one.
            text = text.removeprefix("\n")
            self._skip_newline = False
        if text.endswith("\r"):
            self._skip_newline = True
        pieces = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        pieces[0] = self._rest + pieces[0]
        self._rest = pieces.pop()
        events = [event for line in pieces if (event := self._line(line)) is not None]
        if len(self._rest) + sum(map(len, self._data)) > EVENT_CHARS_MAX:
            raise Unavailable(f"an event of the feed is longer than {EVENT_CHARS_MAX} characters")
        return events

    def _line(self, line: str) -> Event | None:
        if not line:
            event = Event(self._type or "message", "\n".join(self._data), self._id)
            empty = not self._data
            self.last_id = self._id
            self._type, self._data = "", []
            return None if empty else event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None


API = "opentelemetry.trace"


def trace_headers() -> dict[str, str]:
    """Return the headers that name the caller's span; empty outside of a span."""
    api: Any = sys.modules.get(API)
    current_span = getattr(api, "get_current_span", None)  # None while it is being imported
    if current_span is None:
        return {}
    span = current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}
