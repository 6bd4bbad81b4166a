"""What a harness gives code under test and its tests: clients that it makes itself, other functions for steps, acting
beside a step."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from helmr import AsyncClient, Client, step, streams, task
from helmr.client.endpoint import BY_HARNESS
from helmr.errors import SchemaMismatch, UsageError
from helmr.testing import Harness

numbers = streams.input("numbers", schema=int)


class Order(BaseModel):
    amount: int


@task(id="child")
async def child(order: Order) -> int:
    """Waits for a number that is added."""
    return order.amount + await numbers.wait(subject="How much more?").unwrap()


@step
async def starts_awaited(amount: int) -> list[str]:
    """Makes a client of its own, as an app's code does."""
    async with AsyncClient(on_behalf_of="ada") as client:
        started = await client.sessions.start_and_wait(child, Order(amount=amount))
        page = [wait.subject async for wait in client.waits.list(task=child)]
        return [started.id, client.endpoint.found_by, str(page[0])]


@step
async def starts_blocking_on_a_loop(amount: int) -> list[str]:
    """The same with the blocking one, in an async step."""
    return _start(amount)


@step
def starts_blocking(amount: int) -> list[str]:
    """The same in a thread."""
    return _start(amount)


def _start(amount: int) -> list[str]:
    with Client(on_behalf_of="ada") as client:
        started = client.sessions.start_and_wait(child, Order(amount=amount))
        page = list(client.waits.list(task=child))
        return [started.id, client.endpoint.found_by, str(page[0].subject)]


@task(id="parent", streams=[numbers])
async def parent(kind: str) -> list[str]:
    """Starts the child in one of the ways."""
    ways: dict[str, Any] = {
        "awaited": starts_awaited,
        "on a loop": starts_blocking_on_a_loop,
        "thread": starts_blocking,
    }
    return [str(one) for one in await ways[kind](3)]


@pytest.fixture(autouse=True)
def a_live_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that every other rule would find first; nothing answers there."""
    monkeypatch.setenv("HELMR_URL", "http://127.0.0.1:9")


BLOCKS = pytest.param("on a loop", marks=pytest.mark.allows_blocking)


@pytest.mark.parametrize("kind", ["awaited", BLOCKS, "thread"])
async def test_a_client_made_in_a_step_is_the_harnesss(harness: Any, kind: str) -> None:
    async with harness(parent, child) as h:
        session = await h.start(parent, kind)
        child_id, found_by, subject = await session.result()
        assert (found_by, subject) == (BY_HARNESS, "How much more?")
        created = next(e for e in h.entries() if e.session_id == child_id)
        assert created.principal.on_behalf_of == "ada"


@pytest.mark.allows_blocking
async def test_outside_a_run_the_harness_is_not_found() -> None:
    async with Harness(child):
        with Client() as client:
            assert client.endpoint.url == "http://127.0.0.1:9"


async def test_a_url_that_the_code_names_is_meant() -> None:
    @step
    async def names_one() -> str:
        async with AsyncClient(url="http://127.0.0.1:10", key="k") as client:
            return client.endpoint.url

    @task
    async def naming(payload: None) -> str:
        return await names_one()

    async with Harness(naming) as h:
        assert await (await h.start(naming)).result() == "http://127.0.0.1:10"


async def test_each_code_finds_its_own_harness() -> None:
    async with Harness(parent, child) as one, Harness(parent, child) as other:
        first, second = await asyncio.gather(
            one.start(parent, "awaited"), other.start(parent, "thread")
        )
        for h, session in ((one, first), (other, second)):
            child_id = (await session.result())[0]
            assert child_id in {e.session_id for e in h.entries()}


# --- payloads of task objects ---------------------------------------------------------------------


async def test_a_task_object_stands_for_its_id_and_encodes_its_payload(harness: Any) -> None:
    async with harness(child) as h, h.async_client() as client:
        for payload in (Order(amount=4), {"amount": 4}):
            started = await client.sessions.start(child, payload)
            assert started.session.task == "child"
            assert started.started_run.payload == {"amount": 4}
            await h.start(child, payload)
        assert len([one async for one in client.sessions.list(task=child)]) == 4
        assert len([one async for one in client.runs.list(task=child)]) == 4


async def test_a_payload_that_does_not_fit_its_task_is_refused_before_it_is_sent() -> None:
    async with Harness(child) as h, h.async_client() as client:
        with pytest.raises(SchemaMismatch, match="amount"):
            await client.sessions.start(child, {"amount": "many"})  # type: ignore[arg-type]
        assert h.entries() == []


# --- the blocking client of a test ----------------------------------------------------------------


async def test_a_blocking_client_may_be_made_and_closed_on_the_loop_or_in_a_thread() -> None:
    def sends(client: Client) -> int:
        return client.sessions.start(child, Order(amount=1)).session.last_seq

    def opens_and_sends(h: Harness) -> int:
        with h.client() as client:
            return sends(client)

    async with Harness(child) as h:
        with h.client() as client:
            assert await asyncio.to_thread(sends, client) > 0
        assert await asyncio.to_thread(opens_and_sends, h) > 0


async def test_a_client_before_the_harness_is_entered_says_so() -> None:
    with pytest.raises(UsageError, match="event loop"):
        Harness(child).client()


# --- other functions for steps ----------------------------------------------------------------------


class Mailer:
    """Has a step as a method."""

    def __init__(self, sender: str) -> None:
        self.sender = sender

    @step
    async def send(self, text: str) -> str:
        raise AssertionError("the real one")


@step(retries=2, backoff=0)
async def fetch(topic: str) -> Order:
    raise AssertionError("the real one")


@task(id="uses-steps")
async def uses_steps(topic: str) -> list[Any]:
    """Uses both."""
    order = await fetch(topic)
    return [order.amount, type(order).__name__, await Mailer("ada").send(topic)]


async def test_a_step_executes_another_function_until_the_harness_ends(harness: Any) -> None:
    real = fetch.function
    tried = []

    async def fake(topic: str) -> Order:
        tried.append(topic)
        if len(tried) == 1:
            raise ValueError("once")
        return Order(amount=7)

    async with harness(uses_steps) as h:
        h.replace(fetch, fake)
        h.replace(Mailer.send, lambda self, text: f"{self.sender}: {text}")
        session = await h.start(uses_steps, "otters")
        assert await session.result() == [7, "Order", "ada: otters"]
    assert tried == ["otters", "otters"]
    assert fetch.function is real


async def test_a_value_that_does_not_fit_the_steps_annotation_is_refused() -> None:
    async with Harness(uses_steps) as h:
        h.replace(fetch, lambda topic: "nothing")  # type: ignore[arg-type, return-value]
        session = await h.start(uses_steps, "otters")
        error = await session.error()
        assert error is not None
        assert error["type"] == "SchemaMismatch"


async def test_a_bound_step_can_not_be_replaced() -> None:
    async with Harness(uses_steps) as h:
        with pytest.raises(UsageError, match="bound"):
            h.replace(Mailer("ada").send, lambda text: text)


# --- acting beside a step -------------------------------------------------------------------------


async def test_start_need_not_wait_for_a_step_that_runs(harness: Any) -> None:
    began, may_end = threading.Event(), threading.Event()

    @step
    def long() -> str:
        began.set()
        assert may_end.wait(20)
        return "long"

    @task(streams=[numbers])
    async def steered(payload: None) -> list[Any]:
        running = asyncio.ensure_future(long())
        number = await numbers.wait(subject="Stop?").unwrap()
        return [number, await running]

    async with harness(steered) as h:
        session = await h.start(steered, settle=False)
        assert await asyncio.to_thread(began.wait, 20)
        await session.send("numbers", 5, settle=False)
        may_end.set()
        assert await session.result() == [5, "long"]


async def test_the_error_of_a_run_is_there_to_look_at(harness: Any) -> None:
    @task
    async def fails(payload: None) -> None:
        raise ValueError("no otters")

    async with harness(fails, child) as h:
        session = await h.start(fails)
        error = await session.error()
        assert (error["type"], error["message"]) == ("ValueError", "no otters")
        assert await (await h.start(child, Order(amount=1))).error() is None
