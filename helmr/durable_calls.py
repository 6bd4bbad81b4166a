"""Durable calls as values: made where they are written, performed where they are awaited.

In a run such a value is a `DurableCall`, which the run knows until it is awaited. Elsewhere it is a coroutine as any
other. A call that was dropped without an `await` fails the run at its next durable op, before anything of that op
leaves; one that is kept, which the code may still await, fails it at its end (S-125). A call that the code has tested
for truth counts as dropped unless it is the next to be awaited: `if approval.wait():` is true whatever the person
would have said.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, ParamSpec, TypeVar

from helmr.current import MadeCalls, current_run, current_step
from helmr.errors import NotAwaited

P = ParamSpec("P")
T = TypeVar("T")


class DurableCall(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that a run knows of until it is awaited.

    Args:
        what: As the code would write it.
        calls: Of the run; None outside of one.
        coroutine: What awaiting it does; None if `_make` makes it then.
    """

    __slots__ = ("__weakref__", "_calls", "_coroutine", "_number")

    def __init__(
        self,
        what: str,
        calls: MadeCalls | None,
        coroutine: Coroutine[Any, Any, T] | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._calls = calls
        self._number = calls.add(what) if calls is not None else 0

    def _make(self) -> Coroutine[Any, Any, T]:
        raise NotImplementedError

    def _begin(self) -> Coroutine[Any, Any, T]:
        self._release()
        if self._coroutine is None:
            self._coroutine = self._make()
        return self._coroutine

    def _release(self) -> None:
        """It is awaited, or something else answers for it."""
        if self._calls is not None:
            self._calls.begin(self._number)
            self._calls = None

    def forgotten(self, taker: str) -> NotAwaited:
        """The error of a call that was given to a step, which can't await it."""
        what = self._calls.what(self._number) if self._calls is not None else "a durable call"
        self.close()
        return NotAwaited(f"{taker} was given {what} itself, not its value")

    def __await__(self) -> Generator[Any, None, T]:
        """As of a coroutine."""
        return self._begin().__await__()

    def send(self, value: Any, /) -> Any:
        """As of a coroutine."""
        return self._begin().send(value)

    def throw(self, *error: Any) -> Any:
        """As of a coroutine."""
        return self._begin().throw(*error)

    def close(self) -> None:
        """As of a coroutine."""
        self._release()
        if self._coroutine is not None:
            self._coroutine.close()

    def __bool__(self) -> bool:
        """True as any coroutine is, whatever its value would be."""
        if self._calls is not None:
            self._calls.test(self._number)
        return True

    def __eq__(self, other: object) -> bool:
        """Itself only."""
        return self is other

    def __hash__(self) -> int:
        """The same at each replay, and with it the order of a set of calls."""
        return self._number or object.__hash__(self)

    def __del__(self) -> None:
        if self._calls is not None:
            if self._coroutine is not None:
                self._coroutine.close()  # Python does not warn of it too
            self._calls.lose(self._number, sys._getframe(1))


def made_calls() -> MadeCalls | None:
    """Those of the run that the calling code belongs to; None outside of a run, and inside a step."""
    run = current_run.get()
    return None if run is None or current_step.get() is not None else run.made


def durable_call(
    what: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Make an async function's calls durable calls.

    Args:
        what: As the code would write it; what begins with a dot stands behind the id of the first argument.
    """

    def declare(
        function: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
            coroutine = function(*args, **kwargs)
            calls = made_calls()
            if calls is None:
                return coroutine
            owner: Any = args[0] if what.startswith(".") else None
            said = what if owner is None else f"{owner.id}{what}"
            return DurableCall(said, calls, coroutine)

        return call

    return declare
