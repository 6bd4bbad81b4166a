"""Directs the steps of a replay: give the recorded outcome, call a stand-in, or execute.

A step that executes has its real effects, such as a model's request, within a budget that all sessions of a replay
share.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from helmr import timers
from helmr.current import DurableRun, StepCall, current_run
from helmr.errors import RunParked, UsageError
from helmr.streams import Stream
from helmr.tasks import Task

if TYPE_CHECKING:
    from helmr.testing.recorded import StepOutcome


EXECUTE: Literal["execute"] = "execute"
"""Executes the step itself in place of a stand-in."""

StandIn = Callable[..., Any] | Literal["execute"]
"""Takes a step's arguments, and returns a value for the step; sync or async."""

Source = Literal["recorded", "stand-in", "executed"]
"""Source of a step's outcome."""


def check_steps(steps: Mapping[str, StandIn], budget: Budget | None) -> None:
    """Require a budget for steps that execute.

    Raises:
        UsageError: One of them has no function, or the budget is missing or for nothing.
    """
    for name, stand_in in steps.items():
        if stand_in != EXECUTE and not callable(stand_in):
            raise UsageError(f"steps has {stand_in!r} for {name}, not a function or 'execute'")
    executing = next((name for name, one in steps.items() if one == EXECUTE), None)
    if executing is not None and budget is None:
        raise UsageError(
            f"step {executing} is to execute without a budget",
            hint="budget=Budget(sessions=20), or Budget(money=2, price=Price(input=3, output=15)).",
        )
    if executing is None and budget is not None:
        raise UsageError(
            "a budget is given, and no step executes", hint='Write steps={"NAME": "execute"}.'
        )


# --- what a model's answer says ---------------------------------------------------------------------

MODEL_REQUEST = "model.request"
"""Suffix of the names of agents' model requests."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer names; `cached` of the input were read from a cache."""

    input: int
    output: int
    cached: int = 0


def usage_of(value: Any) -> Usage | None:
    """Find the token usage in a step's JSON value, as agents record it or as a model API returns it."""
    value = _bare(value)
    parts: list[Any] = []
    if isinstance(value, list):
        parts = value
    elif isinstance(value, dict):
        for key in ("usage", "usage_metadata"):
            if isinstance(value.get(key), dict):
                return _usage(value[key])
        parts = list(value.values())
    found = [one for one in map(usage_of, parts) if one is not None]
    if not found:
        return None
    return Usage(*(sum(getattr(u, name) for u in found) for name in ("input", "output", "cached")))


def _usage(named: Mapping[str, Any]) -> Usage | None:
    """Read usage from a mapping; None if it counts no tokens, since every request takes some."""
    counts = [
        next((n for k in keys if isinstance(n := named.get(k), int)), 0)
        for keys in (
            ("input_tokens", "prompt_tokens"),
            ("output_tokens", "completion_tokens"),
            ("cache_read_tokens",),
        )
    ]
    for key in ("input_tokens_details", "input_token_details", "prompt_tokens_details"):
        details = named.get(key)
        if isinstance(details, dict):
            counts[2] = details.get("cached_tokens") or details.get("cache_read") or counts[2]
    return Usage(*counts) if counts[0] or counts[1] else None


def is_models(name: str, outcome: StepOutcome) -> bool:
    """True if a model gave the outcome, by the step's name or by tokens counted in its value."""
    return name.endswith(MODEL_REQUEST) or usage_of(outcome.value) is not None


def said(value: Any) -> Any:
    """Return a step's value without the parts that always differ: an agent's model gave a text, or called tools."""
    value = _bare(value)
    parts: list[Any]
    match value:
        case {"kind": "tool_return", "result": result}:
            return result
        case {"parts": list(parts)} | {"output": list(parts)}:
            pass
        case {"langchain_message": {"data": dict(data)}}:
            content = data.get("content", "")
            calls = [{**call, "type": "tool-call"} for call in data.get("tool_calls") or ()]
            parts = [*(content if isinstance(content, list) else [content]), *calls]
        case _:
            return value
    return _together([one for part in parts for one in _said(part)])


def _said(part: Any) -> Iterator[Any]:
    if not isinstance(part, dict):
        if part != "":
            yield part
        return
    kind = part.get("part_kind", part.get("type"))
    if kind in ("thinking", "reasoning"):
        return
    if kind == "message":
        for one in part.get("content") or ():
            yield from _said(one)
    elif kind in ("tool-call", "function_call"):
        arguments = part.get("args", part.get("arguments"))
        yield {"tool": part.get("tool_name", part.get("name")), "arguments": _parsed(arguments)}
    else:
        yield next((part[k] for k in ("content", "text", "refusal") if k in part), part)


def _together(parts: list[Any]) -> Any:
    return "\n".join(parts) if all(isinstance(one, str) for one in parts) else parts


def _parsed(arguments: Any) -> Any:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


def _bare(value: Any) -> Any:
    """Remove the changes that a tool made to its context, which are stored beside its value."""
    if isinstance(value, dict) and value.keys() == {"helmr_context", "value"}:
        return value["value"]
    return value


# --- what it may cost -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Price:
    """Price of a million tokens, in any currency.

    Args:
        input: For tokens sent.
        output: For tokens that the model makes.
        cached: For tokens sent that were in the provider's cache; None is as `input`.

    Raises:
        UsageError: A price is not a number >= 0.
    """

    input: float
    output: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached"):
            value = getattr(self, name)
            if not _is_amount(value) and not (name == "cached" and value is None):
                raise UsageError(f"the price of {name} tokens is {value!r}, not a number >= 0")

    def of(self, usage: Usage) -> float:
        """Return the cost of this usage."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input - usage.cached
        return (fresh * self.input + usage.cached * cached + usage.output * self.output) / 1e6


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds on the steps that execute in a replay.

    Args:
        sessions: Sessions that may ask, at most; None sets no bound.
        money: Amount after which no more steps ask; None sets no bound. Answers under way at that point cost extra.
        price: Price of a step's answer: by its tokens, or by a function of its JSON value. `money` needs one.

    Raises:
        UsageError: A bound is missing or invalid.
    """

    sessions: int | None = None
    money: float | None = None
    price: Price | Callable[[Any], float] | None = None

    def __post_init__(self) -> None:
        if self.sessions is None and self.money is None:
            raise UsageError(
                "a budget has no bound", hint="Budget(sessions=20), Budget(money=2, price=Price(…))"
            )
        if self.sessions is not None and (type(self.sessions) is not int or self.sessions < 1):
            raise UsageError(f"sessions of a budget is {self.sessions!r}, not an int >= 1")
        if self.money is not None and not (_is_amount(self.money) and self.money > 0):
            raise UsageError(f"money of a budget is {self.money!r}, not a number > 0")
        if self.money is not None and self.price is None:
            raise UsageError(
                "a budget of money needs a price",
                hint="price=Price(input=3, output=15), for a million tokens each.",
            )
        if self.price is not None and not (isinstance(self.price, Price) or callable(self.price)):
            raise UsageError(f"price of a budget is {self.price!r}, not a Price or a function")

    def cost(self, value: Any) -> float | None:
        """Return the cost of a step's JSON value; None if it can't be known."""
        if not isinstance(self.price, Price):
            return float(self.price(value)) if self.price is not None else None
        usage = usage_of(value)
        return self.price.of(usage) if usage is not None else None


def _is_amount(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < float("inf")


class Spending:
    """Sessions and money that the steps of a replay have used. Thread-safe."""

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._sessions: set[int] = set()
        self._unpriced: str | None = None
        self.money = 0.0
        self.answers = 0

    def admit(self, session: int) -> str | None:
        """Let a session ask; returns the reason if it may not."""
        with self._lock:
            reason = self.over(is_new=session not in self._sessions)
            if reason is None:
                self._sessions.add(session)
            return reason

    def over(self, *, is_new: bool = True) -> str | None:
        """Explain why a session may not ask; None if it may. `is_new`: it has not asked yet."""
        budget = self._budget
        if budget is None or self._unpriced is not None:
            return self._unpriced
        if budget.money is not None and self.money >= budget.money:
            return f"the budget of {budget.money:g} is spent: {self.answers} answers cost {self.money:.4g}"
        if is_new and budget.sessions == len(self._sessions):
            return f"{budget.sessions} sessions have asked, which is the budget"
        return None

    def charge(self, name: str, value: Any) -> float | None:
        """Count a step's answer, and return its cost."""
        cost = self._budget.cost(value) if self._budget is not None else None
        with self._lock:
            self.answers += 1
            self.money += cost or 0.0
            if cost is None and self._budget is not None and self._budget.money is not None:
                self._unpriced = (
                    f"an answer of step {name} names no tokens, so no one knows its cost"
                )
        return cost


# --- what steps give --------------------------------------------------------------------------------


class NothingRecorded(RunParked):
    """The code calls a step without a known outcome, so its run can't go on."""


class Direction:
    """Outcomes for the steps of one run.

    Args:
        session: Number of the session.
        steps: Recorded outcomes by the step's name, in the order asked.
        stand_ins: Replacements of recorded outcomes, by the step's name.
        spending: Shared account of the steps that execute.
    """

    def __init__(
        self,
        session: int,
        steps: Mapping[str, Sequence[StepOutcome]],
        stand_ins: Mapping[str, StandIn],
        spending: Spending,
    ) -> None:
        self._session = session
        self._steps = steps
        self._stand_ins = stand_ins
        self._spending = spending
        self.problem: str | None = None
        """Reason why the run could not go on."""
        self.is_over_budget = False
        """True if the budget is that reason."""
        self.sources: dict[tuple[str, int], Source] = {}
        """Sources by a call's name and number, from 0."""
        self.costs: list[float | None] = []
        """Costs of the answers of executed steps."""

    @property
    def cost(self) -> float | None:
        """Cost of all executed steps; None if any is unknown or none ran."""
        known = [cost for cost in self.costs if cost is not None]
        return sum(known) if len(known) == len(self.costs) > 0 else None

    def over(self, task: Task[..., Any], run_id: str) -> Task[..., Any]:
        """Return the task with its steps directed in this run; a run that follows only sleeps."""
        return _Directed(task, self, run_id)

    def outcome(self, name: str, number: int) -> StepOutcome | None:
        """Return the recorded outcome of the step's call with this number, from 0; None if there is none."""
        known = self._steps.get(name, ())
        return known[number] if number < len(known) else None

    def directed(self, call: StepCall, number: int) -> StepCall:
        """Return the step's call, from 0, changed to give the outcome that it should.

        Raises:
            NothingRecorded: No outcome is known, or the budget is spent.
        """
        stand_in = self._stand_ins.get(call.name)
        if stand_in == EXECUTE:
            return self._executing(call, number)
        if stand_in is not None:
            self.sources[call.name, number] = "stand-in"
            return _standing_in(call, stand_in)
        outcome = self.outcome(call.name, number)
        if outcome is None:
            raise self._stopped(f"no outcome of step {call.name} is recorded for call {number + 1}")
        self.sources[call.name, number] = "recorded"
        return _recorded(call, outcome)

    def _stopped(self, problem: str) -> NothingRecorded:
        """Return the error to raise; it is recorded, so code that catches it changes nothing."""
        self.problem = self.problem or problem
        return NothingRecorded(problem)

    def _executing(self, call: StepCall, number: int) -> StepCall:
        reason = self._spending.admit(self._session)
        if reason is not None:
            self.is_over_budget = self.is_over_budget or self.problem is None
            raise self._stopped(reason)
        self.sources[call.name, number] = "executed"

        def encode(value: Any) -> Any:
            encoded = call.encode(value)
            self.costs.append(self._spending.charge(call.name, encoded))
            return encoded

        return replace(call, encode=encode)


class _Directed(Task[..., Any]):
    """A task whose steps are directed. Types and streams are those of the task."""

    def __init__(self, task: Task[..., Any], direction: Direction, run_id: str) -> None:
        _ = task.payload_codec, task.result_codec  # from here on they are among its attributes
        vars(self).update(vars(task))
        self._original = task

        async def function(*arguments: Any) -> Any:
            inner = current_run.get()
            assert inner is not None
            if inner.look_at_run().id != run_id:
                await timers.sleep("1d")  # no one lets so much time pass for it
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
        """Return the recorded outcome; without one ask the harness, which knows the tokens that this run made."""
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
        return self._direction.directed(call, number)


def _recorded(call: StepCall, outcome: StepOutcome) -> StepCall:
    """The call with its recorded outcome as its body. A value is JSON already, and is read by the type declared now."""

    async def body() -> Any:
        if outcome.error is not None:
            raise _exception(outcome.error)
        return outcome.value

    return _acting(call, body, encode=lambda value: value)


def _standing_in(call: StepCall, stand_in: Callable[..., Any]) -> StepCall:
    takes_any = bool(inspect.signature(stand_in).parameters)
    arguments = _arguments(call.call) if takes_any else ((), {})

    async def body() -> Any:
        args, keywords = arguments
        if inspect.iscoroutinefunction(stand_in):
            return await stand_in(*args, **keywords)
        return await asyncio.to_thread(stand_in, *args, **keywords)

    return _acting(call, body, encode=call.encode)


def _arguments(made: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments bound by a partial, those of inner partials first."""
    if not isinstance(made, partial):
        return (), {}
    args, keywords = _arguments(made.func)
    return (*args, *made.args), {**keywords, **made.keywords}


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
    """Return an exception that reads like the recorded one."""
    kind: type[Exception] = type(str(error["type"]) or "Exception", (Exception,), {})
    return kind(error["message"])
