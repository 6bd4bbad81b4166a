"""What tools change in their run's context is there after a replay, or is refused by name (S-127)."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import pytest
from agents import Agent as OpenAIAgent
from agents import RunContextWrapper, function_tool
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr import streams, task
from helmr.errors import TooLarge, UsageError
from helmr.integrations.openai_agents import run
from helmr.integrations.pydantic_ai import HelmrDurability
from helmr.integrations.tool_context import (
    CHANGED,
    copied,
    merged,
    same,
    step_in_context,
    undisturbed,
)
from helmr.testing import Harness, RunFailed
from tests.integrations.test_openai_agents import Calls

go = streams.input("go", schema=bool)
both = pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])


class Line(BaseModel):
    what: str
    price: Decimal = Decimal(1)


@dataclass
class Cart:
    lines: list[Line] = field(default_factory=list)
    notes: dict[str, date] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    total: int = 0
    first: Line | None = None
    client: Any = None
    _cache: Any = None


class Model(BaseModel):
    lines: list[Line] = []
    total: int = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    lines: list[str] = field(default_factory=list)
    inner: Line = field(default_factory=lambda: Line(what="inner"))


class Open(BaseModel, extra="allow"):
    lines: list[str] = []


class Plain:
    """No data class."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.total = 0


# --- each kind of context, each kind of change


def fills_cart(cart: Cart, number: int) -> None:
    cart.lines.append(Line(what=f"book {number}"))
    cart.notes[f"note {number}"] = date(2026, 11, number)
    cart.seen.add(number)
    cart.total += number
    cart.first = cart.first or cart.lines[0]
    cart.first.price += 1
    cart._cache = object()


def fills_model(model: Model, number: int) -> None:
    model.lines.append(Line(what=f"book {number}"))
    model.total += number


def fills_plain(plain: Plain, number: int) -> None:
    plain.lines.insert(0, f"book {number}")
    plain.total += number


def fills_dict(context: dict[str, Any], number: int) -> None:
    context.setdefault("lines", []).append(number)
    context["last"] = {"number": number}
    context.pop("start", None)


def fills_list(context: list[Any], number: int) -> None:
    context.append({"number": number})


def fills_frozen(context: Frozen, number: int) -> None:
    context.lines.append(str(number))
    context.inner.price += number


def fills_open(context: Any, number: int) -> None:
    context.lines.append(str(number))
    context.more = {"number": number}


KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any, int], None]]] = {
    "dataclass": (Cart, fills_cart),
    "model": (Model, fills_model),
    "object": (Plain, fills_plain),
    "dict": (lambda: {"start": True}, fills_dict),
    "list": (list, fills_list),
    "frozen": (Frozen, fills_frozen),
    "open": (Open, fills_open),
}


def shown(context: Any) -> str:
    if isinstance(context, Cart):
        context._cache = None
    return str(vars(context) if isinstance(context, Plain) else context)


@task(id="fills")
async def fills(kind: str) -> list[str]:
    make, fill = KINDS[kind]
    context = make()
    states = []
    for number in (1, 2, 3):

        async def body(number: int = number) -> int:
            fill(context, number)
            return number

        assert await step_in_context(context, "deps", "fill", body) == number
        states.append(shown(context))
        await go.wait()
    return states


@both
@pytest.mark.parametrize("kind", KINDS)
async def test_a_context_is_after_a_park_what_it_was_before(kind: str, replay_always: bool) -> None:
    make, fill = KINDS[kind]
    context = make()
    expected = []
    for number in (1, 2, 3):
        fill(context, number)
        expected.append(shown(context))
    async with Harness(fills, replay_always=replay_always) as harness:
        session = await harness.start("fills", kind)
        for _ in range(3):
            await session.park()
            await session.send("go", True)
        assert await session.result() == expected


async def test_of_a_list_that_grows_its_tail_is_recorded() -> None:
    async with Harness(fills) as harness:
        session = await harness.start("fills", "dataclass")
        await session.send("go", True)
        await session.send("go", True)
        values = [e.body["value"] for e in await session.transcript() if e.kind == "step.succeeded"]
    changes = values[-1][CHANGED]["changes"]
    assert list(changes["notes"]["keys"]) == ["note 3"]
    assert "_cache" not in changes
    async with Harness(fills) as harness:
        session = await harness.start("fills", "model")
        await session.send("go", True)
        await session.send("go", True)
        values = [e.body["value"] for e in await session.transcript() if e.kind == "step.succeeded"]
    line = {"what": "book 3", "price": "1"}
    expected = {"lines": {"from": 2, "more": [line]}, "total": {"to": 6}}
    assert values[-1] == {CHANGED: {"changes": expected, "count": 3}, "value": 3}


# --- what else holds the objects


@task(id="aliases")
async def aliases(prompt: str) -> list[Any]:
    lines = [Line(what="a")]
    first, cart = lines[0], Cart(lines=lines)

    async def body() -> None:
        cart.lines.append(Line(what="b"))

    async def other() -> None:
        cart.lines[0].what = "changed"

    await step_in_context(cart, "deps", "body", body)
    await step_in_context(cart, "deps", "other", other)
    await go.wait()
    return [first.what, [line.what for line in lines], lines is cart.lines]


@both
async def test_what_else_refers_to_a_list_sees_what_a_tool_added(replay_always: bool) -> None:
    async with Harness(aliases, replay_always=replay_always) as harness:
        session = await harness.start("aliases", "x")
        await session.park()
        await session.send("go", True)
        assert await session.result() == ["changed", ["changed", "b"], True]


# --- what is refused


class Opaque:
    """Nothing that JSON could hold."""


def _rebinds(cart: Cart) -> None:
    cart.client = Opaque()


def _spoils(cart: Cart) -> None:
    cart.notes["x"] = Opaque()  # type: ignore[assignment]


@task(id="refused")
async def refused(how: str) -> None:
    cart = Cart()

    async def body() -> str:
        (_rebinds if how == "client" else _spoils)(cart)
        return "done"

    await step_in_context(cart, "deps", "body", body, retries=3)


@pytest.mark.parametrize("name", ["client", "notes"])
async def test_what_has_no_json_form_is_refused_by_name(name: str) -> None:
    async with Harness(refused) as harness:
        session = await harness.start("refused", name)
        with pytest.raises(RunFailed, match=rf"step body changed deps\.{name}"):
            await session.result()
        kinds = [str(entry.kind) for entry in await session.transcript()]
        assert kinds.count("step.started") == 1, "the tool is not called again for it"


async def test_a_client_that_stays_what_it_is_may_do_what_it_likes() -> None:
    lock = threading.Lock()

    @task(id="client")
    async def uses(prompt: str) -> bool:
        cart = Cart(client=lock)

        async def body() -> bool:
            cart.total += 1
            return cart.client.acquire(blocking=False) and cart.client is lock

        return bool(await step_in_context(cart, "deps", "body", body))

    async with Harness(uses) as harness:
        assert await (await harness.start("client", "x")).result() is True


async def test_a_mock_may_note_what_is_asked_of_it() -> None:
    @task(id="mocked")
    async def uses(prompt: str) -> int:
        deps = MagicMock()

        async def body() -> None:
            deps.client.post("x")
            deps.total = 3

        await step_in_context(deps, "deps", "body", body)
        return len(deps.method_calls)

    async with Harness(uses) as harness:
        assert await (await harness.start("mocked", "x")).result() == 1


def test_a_look_is_taken_again_when_code_beside_it_disturbs_it() -> None:
    numbers = {1: 1, 2: 2}
    looks: list[int] = []

    def look() -> list[int]:
        looks.append(1)
        for number in numbers:
            if len(looks) < 3:
                numbers[len(numbers) + 1] = number  # as another thread would
        return list(numbers)

    assert undisturbed(look) == [1, 2, 3, 4]
    assert len(looks) == 3


@task(id="large")
async def large(what: str) -> list[Any]:
    cart = Plain()

    async def body() -> str:
        cart.total += 1
        if what == "context":
            cart.lines.append("x" * 2_000_000)
        return "x" * (2_000_000 if what == "value" else 1)

    try:
        await step_in_context(cart, "deps", "body", body)
    except (TooLarge, UsageError) as error:
        await go.wait()
        return [type(error).__name__, cart.total]
    return []


@both
async def test_a_value_too_large_keeps_what_was_changed(replay_always: bool) -> None:
    async with Harness(large, replay_always=replay_always) as harness:
        session = await harness.start("large", "value")
        await session.send("go", True)
        assert await session.result() == ["TooLarge", 1]
        session = await harness.start("large", "context")
        await session.send("go", True)
        assert (await session.result())[0] == "UsageError"


# --- failures, and steps side by side

tries: list[int] = []


@task(id="fails-once")
async def fails_once(prompt: str) -> list[Any]:
    cart = Cart()

    async def body() -> None:
        cart.lines.append(Line(what="book"))
        cart.total += 1
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("busy")

    await step_in_context(cart, "deps", "body", body, retries=1, backoff=0)
    await go.wait()
    return [cart.total, len(cart.lines)]


@both
async def test_a_try_that_fails_leaves_the_context_as_it_was(replay_always: bool) -> None:
    tries.clear()
    async with Harness(fails_once, replay_always=replay_always) as harness:
        session = await harness.start("fails-once", "x")
        await session.park()
        await session.send("go", True)
        assert await session.result() == [1, 1]


@task(id="beside")
async def beside(prompt: str) -> list[Any]:
    cart = Cart()

    async def body(number: int) -> int:
        await asyncio.sleep((3 - number) / 100)  # the last ends first
        cart.lines.append(Line(what=str(number)))
        cart.total += 1
        return number

    async def one(number: int) -> Any:
        return await step_in_context(cart, "deps", "body", lambda: body(number))

    await asyncio.gather(*(one(number) for number in range(4)))
    await go.wait()
    return [cart.total, [line.what for line in cart.lines]]


@both
async def test_tools_side_by_side_lose_nothing(replay_always: bool) -> None:
    async with Harness(beside, replay_always=replay_always) as harness:
        session = await harness.start("beside", "x")
        await session.park()
        await session.send("go", True)
        assert await session.result() == [4, ["3", "2", "1", "0"]]


@pytest.mark.parametrize("killed_at", range(3, 14))
async def test_tools_side_by_side_that_are_killed_lose_nothing(killed_at: int) -> None:
    async with Harness(beside) as harness:
        session = await harness.start("beside", "x", settle=False)
        while len(harness.entries()) < killed_at and (await session.state()).wait is None:
            await asyncio.sleep(0)
        await session.kill()
        await harness.settle()
        await session.send("go", True)
        total, lines = await session.result()
        assert (total, sorted(lines)) == (4, ["0", "1", "2", "3"])


is_back = False
"""The task below has come back."""


@task(id="late")
async def late(prompt: str) -> list[str]:
    cart = Cart()

    async def body(what: str) -> str:
        if what == "second" and not is_back:
            await asyncio.Event().wait()
        cart.lines.append(Line(what=what))
        return what

    async def one(what: str) -> str:
        return str(await step_in_context(cart, "deps", "body", lambda: body(what)))

    async def computes() -> None:
        for _ in range(
            3 if is_back else 0
        ):  # so long the second could begin, and the first is not given its outcome
            time.sleep(0.1)  # noqa: ASYNC251
            await asyncio.sleep(0)

    await asyncio.gather(one("first"), one("second"), computes())
    return [line.what for line in cart.lines]


@pytest.mark.allows_blocking
async def test_a_tool_that_is_repeated_begins_behind_what_those_beside_it_had_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(late) as harness:
        session = await harness.start("late", "x", settle=False)
        while "step.succeeded" not in [entry.kind for entry in harness.entries()]:
            await asyncio.sleep(0)
        await session.kill()
        monkeypatch.setattr(sys.modules[__name__], "is_back", True)
        await harness.settle()
        assert await session.result() == ["first", "second"]


# --- what is recorded before


@task(id="says")
async def says(prompt: str) -> Any:
    async def body() -> Any:
        return {CHANGED: {}, "value": prompt}

    value = await step_in_context(Cart(), "deps", "body", body)
    await go.wait()
    return value


@both
async def test_a_value_that_looks_like_a_change_stays_a_value(replay_always: bool) -> None:
    async with Harness(says, replay_always=replay_always) as harness:
        session = await harness.start("says", "x")
        await session.send("go", True)
        assert await session.result() == {CHANGED: {}, "value": "x"}


# --- the frameworks


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    parts = [part for message in messages for part in message.parts]
    if any(isinstance(part, ToolReturnPart) for part in parts):
        return ModelResponse(parts=[TextPart("done")])
    return ModelResponse(parts=[ToolCallPart("add", {"what": what}) for what in ("book", "pen")])


shop = Agent(FunctionModel(script), name="shop", deps_type=Cart, capabilities=[HelmrDurability()])


@shop.tool
async def add(ctx: RunContext[Cart], what: str) -> str:
    ctx.deps.lines.append(Line(what=what))
    ctx.deps.total += 1
    if what == "spoiled":
        ctx.deps.client = Opaque()
    return "added"


@task(id="with-pydantic-ai")
async def with_pydantic_ai(prompt: str) -> list[Any]:
    cart = Cart()
    await shop.run(prompt, deps=cart)
    await go.wait()
    return [cart.total, sorted(line.what for line in cart.lines)]


@function_tool
async def put(ctx: RunContextWrapper[Cart], what: str) -> str:
    """Puts one in."""
    ctx.context.lines.append(Line(what=what))
    ctx.context.total += 1
    if what == "spoiled":
        ctx.context.client = Opaque()
    return "added"


@task(id="with-openai-agents")
async def with_openai_agents(prompt: str) -> list[Any]:
    cart = Cart()
    what = ("spoiled",) if prompt == "spoil" else ("book", "pen")
    model = Calls(*(("put", {"what": one}) for one in what))
    await run(OpenAIAgent(name="shop", tools=[put], model=model), prompt, context=cart)
    await go.wait()
    return [cart.total, sorted(line.what for line in cart.lines)]


@both
@pytest.mark.parametrize("shop_task", [with_pydantic_ai, with_openai_agents], ids=lambda t: t.id)
async def test_tools_of_both_frameworks_keep_what_they_change(
    shop_task: Any, replay_always: bool
) -> None:
    async with Harness(shop_task, replay_always=replay_always) as harness:
        session = await harness.start(shop_task, "fill")
        await session.park()
        await session.send("go", True)
        assert await session.result() == [2, ["book", "pen"]]


async def test_the_name_that_is_refused_is_the_frameworks_own() -> None:
    async with Harness(with_openai_agents) as harness:
        session = await harness.start(with_openai_agents, "spoil")
        with pytest.raises(RunFailed, match=r"tool\.put changed context\.client"):
            await session.result()


# --- values


class Pair(NamedTuple):
    left: list[int]
    right: Any


def test_a_copy_shares_what_is_no_data() -> None:
    thing = Opaque()
    value: dict[str, Any] = {
        "pair": Pair([1], thing),
        "lines": [Line(what="a")],
        "cart": Cart(client=thing),
        "set": {1},
        "queue": deque([1]),
        "nan": float("nan"),
    }
    value["itself"] = value
    other = copied(value)
    assert other["pair"].right is thing
    assert other["cart"].client is thing
    assert other["itself"] is other
    assert same(value, other)
    other["pair"].left.append(2)
    assert not same(value, other)
    assert value["pair"].left == [1]


def test_merging_keeps_the_objects_that_are_the_same() -> None:
    first, second = Line(what="a"), Line(what="b")
    old = [first, second]
    assert merged(old, [Line(what="a"), Line(what="c"), Line(what="d")]) is old
    assert old[0] is first
    assert old[1] is not second
    assert second.what == "b"
