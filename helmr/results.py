"""What a wait gives the task that awaited it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from helmr.current import Record
from helmr.durable_calls import DurableCall, made_calls
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


class PendingWait(DurableCall[WaitResult[T]], Generic[T]):
    """A wait that opens when it is awaited: once, as a result, or through `unwrap` as the value."""

    __slots__ = ("_perform", "_what")

    def __init__(
        self, what: str, perform: Callable[[], Coroutine[Any, Any, WaitResult[T]]]
    ) -> None:
        super().__init__(what, made_calls())
        self._what = what
        self._perform = perform

    def _make(self) -> Coroutine[Any, Any, WaitResult[T]]:
        return self._perform()

    def unwrap(self) -> Coroutine[Any, Any, T]:
        """A coroutine that gives the value.

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
