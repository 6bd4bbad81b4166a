"""What a wait gives the task that awaited it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from helmr.current import Record
from helmr.errors import OutcomeError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WaitResult(Generic[T]):
    """How a wait ended: a timeout is a result, not an exception (S-15).

    Attributes:
        ok: True if it was fulfilled.
        value: The decoded data; None if it was not fulfilled.
        record: The input record that fulfilled it, if it waited on input.
        error: `WaitTimeout` or `WaitCancelled` if it was not fulfilled.
    """

    ok: bool
    value: T | None = None
    record: Record | None = None
    error: OutcomeError | None = None


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
        if result.error is not None:
            raise result.error
        return result.value  # type: ignore[return-value]  # ok: a value of T, which may be None
