"""What a wait gives the task that awaited it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from helmr.current import Record
from helmr.errors import WaitCancelled, WaitTimeout

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fulfilled(Generic[T]):
    """A wait that was fulfilled.

    Attributes:
        value: The decoded data.
        record: The input record that fulfilled it, if it waited on input.
    """

    value: T
    record: Record | None = None
    ok: Literal[True] = True
    error: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfulfilled:
    """A wait that timed out or was cancelled.

    Attributes:
        error: `WaitTimeout` or `WaitCancelled`.
    """

    error: WaitTimeout | WaitCancelled
    ok: Literal[False] = False
    value: None = None
    record: None = None


WaitResult: TypeAlias = Fulfilled[T] | Unfulfilled
"""How a wait ended: a timeout is a result, not an exception (S-15). `ok` tells type checkers which of the two it is."""


class PendingWait(Awaitable[WaitResult[T]], Generic[T]):
    """A wait that opens when it is awaited: once as a result, or through `unwrap` as the value."""

    def __init__(self, perform: Callable[[], Coroutine[Any, Any, WaitResult[T]]]) -> None:
        self._perform = perform

    def __await__(self) -> Generator[Any, None, WaitResult[T]]:
        return self._perform().__await__()

    async def unwrap(self) -> T:
        """Await the value.

        Raises:
            WaitTimeout: The deadline passed.
            WaitCancelled: The input ended or the token was cancelled.
        """
        result = await self._perform()
        if not result.ok:
            raise result.error
        return result.value
