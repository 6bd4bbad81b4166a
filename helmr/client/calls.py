"""One call to the gateway as a value: what to send and what answer to expect.

Operations build calls, transports carry them out; so sync and async share everything but the waiting.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_jsonable_python

from helmr import ids
from helmr.errors import SchemaMismatch, UsageError
from helmr.models import LIST_LIMIT_MAX, Page

T = TypeVar("T")

READ_TIMEOUT_S = 30.0
"""Longest silence of an answer. The gateway answers a commit that takes longer than 10 s with 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request and the shape of its answer.

    Args:
        method: HTTP method.
        path: Path under the runtime's URL, segments already quoted.
        reply: What the answer's JSON is read into.
        params: Query parameters.
        body: JSON text, the same bytes at every try.
        operation_id: Set on every mutating call; sent as Operation-Id (S-61).
        bearer: Used instead of the client's key, for a public token.
        read_timeout_s: Longest silence of the answer.
        also_ok: Statuses besides 2xx whose body is the answer.
        accept: The content type to ask for, instead of JSON.
        read: Reads the answer's bytes by their content type, instead of `reply`.
        is_read: A POST that changes nothing, so that a second try is harmless.
        headers: More of them.
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
    """A GET whose answer is a file of that media type, read in pieces. It is not tried again: what came stays."""

    path: str
    media_type: str

    @property
    def name(self) -> str:
        """The call in messages."""
        return f"GET {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed(Generic[T]):
    """A server-sent event stream to follow. An item's number is the event's id, by which repeats are dropped.

    `beside` reads, by the event's name, items that have no number: they come once or not at all.
    """

    path: str
    item: TypeAdapter[T]
    params: tuple[tuple[str, str], ...] = ()
    after: int | None = None
    bearer: str | None = None
    beside: Mapping[str, TypeAdapter[Any]] = field(default_factory=dict)


def reads(shape: Any) -> TypeAdapter[Any]:
    """The reader of an answer's shape; building one is costly, so there is one per shape."""
    return _adapter(shape)


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def json_body(parts: Mapping[str, Any]) -> bytes:
    """The JSON text of a request.

    Pydantic models, dataclasses, datetimes and the like are written as their JSON forms, by alias.

    Raises:
        SchemaMismatch: Something in it has no JSON form (NaN, a lone surrogate, an unknown type), or it is
            nested too deeply.
    """
    try:
        value = to_jsonable_python(dict(parts), by_alias=True)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (ValueError, TypeError, RecursionError, PydanticSerializationError) as error:
        raise SchemaMismatch(
            f"the data has no JSON form: {error}",
            hint="Send JSON values, pydantic models or dataclasses.",
        ) from error


_PAGE: Any = Page
"""For page shapes that are made at run time."""


def get_call(path: str, shape: type[T]) -> Call[T]:
    """A GET of one object."""
    return Call(method="GET", path=path, reply=reads(shape))


def list_call(
    path: str,
    item: type[T],
    given: Mapping[str, Any],
    *,
    limit: int | None,
    cursor: str | None,
    bearer: str | None = None,
) -> Call[Page[T]]:
    """A GET of one page of a list."""
    if limit is not None and not 1 <= limit <= LIST_LIMIT_MAX:
        raise UsageError(f"limit {limit} is not between 1 and {LIST_LIMIT_MAX}")
    wanted = {**given, "limit": limit, "cursor": cursor}
    params = tuple(
        (name, str(value))
        for name, values in wanted.items()
        if values is not None
        for value in (values if isinstance(values, list) else (values,))
    )
    return Call(
        method="GET",
        path=path,
        reply=reads(_PAGE[item]),
        params=params,
        bearer=bearer,
    )


def post_call(
    path: str,
    shape: Any,
    parts: Mapping[str, Any] | None,
    operation_id: str | None,
    *,
    bearer: str | None = None,
    method: str = "POST",
) -> Call[Any]:
    """A call that changes something; a repeated one acts once."""
    return Call(
        method=method,
        path=path,
        reply=reads(shape),
        body=None if parts is None else json_body(parts),
        operation_id=operation_or_new(operation_id),
        bearer=bearer,
    )


def operation_or_new(operation_id: str | None) -> str:
    """The id under which a change acts once: the given one, or a new one."""
    return operation_id if operation_id is not None else ids.new_id(ids.OPERATION)
