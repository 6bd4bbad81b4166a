"""A part of the blocking client, made of the same part of the awaited one.

Over connections that block, no coroutine of the client ever waits for an event loop, so each runs to its end in one go.
"""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, overload

from helmr.wire.truth import no_truth

T = TypeVar("T")
U = TypeVar("U")
A = TypeVar("A")
P = ParamSpec("P")


class BlockingPart(Generic[A]):
    """A part of the blocking client; its `blocking` methods call the same part of the awaited one."""

    def __init__(self, awaited: A) -> None:
        self._awaited = awaited


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    work.close()
    raise AssertionError(f"{work!r} waits for an event loop")


def every(items: AsyncIterator[T]) -> Generator[T, None, None]:
    """Yield the items of an async iterator that never suspends, and close it when reading stops."""
    try:
        while True:
            try:
                item = finish(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            finish(_closed(items))


class Items(Generator[T, None, None]):
    """The items of a list, fetched as they are read; before that it is unknown whether there are any."""

    def __init__(self, read: Generator[T, None, None]) -> None:
        self._read = read

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it refuses
        no_truth(self, "`next(….list(), None)` for the first, or make a list of it")

    def __next__(self) -> T:
        return next(self._read)

    def send(self, value: None, /) -> T:
        """Same as for a generator."""
        return self._read.send(value)

    def throw(self, *error: Any) -> T:
        """Same as for a generator."""
        return self._read.throw(*error)

    def close(self) -> None:
        """Same as for a generator."""
        self._read.close()


@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], *, gives: Callable[[T], U]
) -> Callable[Concatenate[Any, P], U]: ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]: ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Any, P], Generator[T, None, None]]: ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]: ...
def blocking(method: Any, *, gives: Any = None) -> Any:
    """Return the method of a `BlockingPart` that runs this one of its awaited part.

    Args:
        method: The awaited method, or one that returns an async iterator.
        gives: Converts the awaited result, such as a handle into a blocking one.
    """
    if not inspect.iscoroutinefunction(method):

        def iterated(self: BlockingPart[Any], *args: Any, **options: Any) -> Any:
            return Items(every(method(self._awaited, *args, **options)))

        return described(method)(iterated)

    def finished(self: BlockingPart[Any], *args: Any, **options: Any) -> Any:
        found = finish(method(self._awaited, *args, **options))
        return found if gives is None else gives(found)

    return described(method)(finished)


def described(method: Callable[..., Any]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Give a function the name, arguments and docstring of an awaited method, with its own return type."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(method)
        returned = _blocking_name(str(signature.return_annotation))
        function.__name__ = method.__name__
        function.__qualname__ = method.__qualname__.removeprefix("Async")
        function.__doc__ = method.__doc__
        function.__annotations__ = {**method.__annotations__, "return": returned}
        function.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
        return function

    return decorate


def _blocking_name(annotation: str) -> str:
    """Return the blocking name of an awaited type: `Generator[X, None, None]` for `AsyncGenerator[X, None]`."""
    name = annotation.removeprefix("Async")
    return name.replace(", None]", ", None, None]") if name.startswith("Generator") else name


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _closed(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()
