"""Code whose steps do not act: each gives what was recorded for it, or what a stand-in makes of its arguments."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from helmr.current import DurableRun, StepCall, current_run
from helmr.errors import RunParked
from helmr.streams import Stream
from helmr.tasks import Task
from helmr.testing.recorded import StepOutcome

StandIn = Callable[..., Any]
"""Takes a step's arguments, and gives what the step would; sync or async."""


class NothingRecorded(RunParked):
    """The code calls a step whose outcome nobody knows: its run can't go on."""


class Direction:
    """What the steps of one run give.

    Args:
        steps: The recorded outcomes by the step's name, in the order asked.
        stand_ins: By the step's name, instead of what is recorded.
    """

    def __init__(
        self, steps: Mapping[str, Sequence[StepOutcome]], stand_ins: Mapping[str, StandIn]
    ) -> None:
        self._steps = steps
        self._stand_ins = stand_ins
        self.problem: str | None = None
        """Why the run could not go on."""

    def over(self, task: Task[..., Any]) -> Task[..., Any]:
        """The task, so directed."""
        return _Directed(task, self)

    def outcome(self, name: str, number: int) -> StepOutcome | None:
        """Of the step's call with that number, from 0."""
        known = self._steps.get(name, ())
        return known[number] if number < len(known) else None

    def stand_in(self, name: str) -> StandIn | None:
        """What acts for the step."""
        return self._stand_ins.get(name)

    def unknown(self, name: str, number: int) -> NothingRecorded:
        """Raise what this returns where a step has no outcome; code that catches it changes nothing."""
        problem = f"no outcome of step {name} is recorded for call {number + 1}"
        self.problem = self.problem or problem
        return NothingRecorded(problem)


class _Directed(Task[..., Any]):
    """A task whose steps are directed. Types and streams are those of the task."""

    def __init__(self, task: Task[..., Any], direction: Direction) -> None:
        _ = task.payload_codec, task.result_codec  # from here on they are among its attributes
        vars(self).update(vars(task))
        self._original = task

        async def function(*arguments: Any) -> Any:
            inner = current_run.get()
            assert inner is not None
            current_run.set(_DirectedRun(inner, direction))
            return await task.function(*arguments)

        self.function = function

    def _in_reach(self) -> Iterator[Stream[Any]]:
        return self._original._in_reach()


class _DirectedRun:
    """A run as its code sees it, in which steps do not act."""

    def __init__(self, inner: DurableRun, direction: Direction) -> None:
        self._inner = inner
        self._direction = direction
        self._calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def step(self, call: StepCall) -> Any:
        """A step that gives what it is directed to."""
        return await self._inner.step(self._directed(call))

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any]
    ) -> Any:
        """What was recorded; else the harness is asked, which knows the tokens that this run has made."""
        name = f"tokens.{method}"
        number = self._calls[name]
        self._calls[name] += 1
        outcome = self._direction.outcome(name, number)
        if outcome is None:
            return await self._inner.token_call(method, token_id, arguments)
        return await self._inner.step(_recorded(_as_it_is(name), outcome))

    def _directed(self, call: StepCall) -> StepCall:
        number = self._calls[call.name]
        self._calls[call.name] += 1
        stand_in = self._direction.stand_in(call.name)
        if stand_in is not None:
            return _standing_in(call, stand_in)
        outcome = self._direction.outcome(call.name, number)
        if outcome is None:
            raise self._direction.unknown(call.name, number)
        return _recorded(call, outcome)


def _recorded(call: StepCall, outcome: StepOutcome) -> StepCall:
    """The call with its recorded outcome as its body. A value is JSON already, and is read by the type declared now."""

    async def body() -> Any:
        if outcome.error is not None:
            raise _exception(outcome.error)
        return outcome.value

    return _acting(call, body, encode=lambda value: value)


def _standing_in(call: StepCall, stand_in: StandIn) -> StepCall:
    made = call.call
    arguments = (made.args, made.keywords) if isinstance(made, partial) else ((), {})

    async def body() -> Any:
        args, keywords = arguments
        if inspect.iscoroutinefunction(stand_in):
            return await stand_in(*args, **keywords)
        return await asyncio.to_thread(stand_in, *args, **keywords)

    return _acting(call, body, encode=call.encode)


def _acting(
    call: StepCall, body: Callable[[], Awaitable[Any]], *, encode: Callable[[Any], Any]
) -> StepCall:
    return replace(
        call, call=body, encode=encode, is_async=True, retries=0, timeout_s=None, loop="run"
    )


def _as_it_is(name: str) -> StepCall:
    return StepCall(
        name=name,
        call=lambda: None,
        is_async=True,
        encode=lambda value: value,
        decode=lambda value: value,
        retries=0,
        backoff_s=0.0,
        retry_on=(),
        timeout_s=None,
        loop="run",
    )


def _exception(error: Mapping[str, Any]) -> Exception:
    """An exception that is told as the recorded one was."""
    kind: type[Exception] = type(str(error["type"]) or "Exception", (Exception,), {})
    return kind(error["message"])
