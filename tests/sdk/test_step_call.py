"""A call of a function as a step, with a name and a type that are known only when the code runs."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from pydantic import BaseModel

from helmr import StepFailed, in_run, step, step_call, streams, task
from helmr.errors import BadDefinition, SchemaMismatch
from helmr.testing import Harness, RunFailed

go = streams.input("go", schema=bool)


class Page(BaseModel):
    title: str
    words: int = 0


class Counted:
    """How often the bodies ran, and where."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def fetch(self, name: str, *, words: int = 0) -> dict[str, Any]:
        self.calls.append(f"{name} {in_run()}")
        return {"title": name, "words": words}

    def fetch_in_a_thread(self, name: str) -> dict[str, Any]:
        self.calls.append(f"{name} {in_run()}")
        return {"title": name}


counted = Counted()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    counted.calls.clear()


@task(id="pages", streams=[go])
async def pages(names: list[str]) -> list[Any]:
    got: list[Page] = []
    for name in names:
        call = functools.partial(counted.fetch, words=len(name))
        got.append(await step_call(f"fetch {name}", call, name, result=Page))
    assert in_run()
    await go.wait()
    got.append(await step_call("last", counted.fetch_in_a_thread, "last", result=Page))
    return [(type(page).__name__, page.title, page.words) for page in got]


@pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])
async def test_its_name_and_type_are_recorded_and_its_value_is_read_back(
    replay_always: bool,
) -> None:
    async with Harness(pages, replay_always=replay_always) as harness:
        session = await harness.start("pages", ["a", "bc"])
        await session.kill()
        await session.send("go", True)
        assert await session.result() == [["Page", "a", 1], ["Page", "bc", 2], ["Page", "last", 0]]
        opened = [e.body["name"] for e in await session.transcript() if e.kind == "step.started"]
    assert opened == ["fetch a", "fetch bc", "last"]
    assert counted.calls == ["a False", "bc False", "last False"]


async def test_another_name_at_a_replay_blocks_the_run() -> None:
    async with Harness(pages) as harness:
        session = await harness.start("pages", ["a"])
        await session.park()

        @task(id="pages", streams=[go])
        async def renamed(names: list[str]) -> None:
            await step_call("another", counted.fetch, "a")

        harness.deploy(renamed)
        await session.send("go", True)
        error = await session.error()
    assert error is not None
    assert error["code"] == "nondeterminism"
    assert "another" in error["message"]


async def test_a_value_that_does_not_fit_the_type_is_refused() -> None:
    @task
    async def wrong(payload: None) -> str:
        try:
            await step_call("wrong", counted.fetch, "a", result=int)
        except SchemaMismatch as error:
            return str(error)
        return "fits"

    async with Harness(wrong) as harness:
        assert "type int" in await (await harness.start("wrong")).result()


async def test_options_are_those_of_a_step() -> None:
    tries = []

    async def fails() -> None:
        tries.append(1)
        raise OSError("no")

    @task
    async def stubborn(payload: None) -> int:
        try:
            await step_call("fails", fails, retries=2, backoff="10ms", retry_on=OSError)
        except StepFailed:
            return len(tries)
        return 0

    async with Harness(stubborn) as harness:
        assert await (await harness.start("stubborn")).result() == 3


async def test_outside_a_run_and_in_a_step_it_just_calls_the_function() -> None:
    assert not in_run()
    assert await step_call("x", counted.fetch, "a") == {"title": "a", "words": 0}

    @step
    async def outer() -> dict[str, Any]:
        inner: dict[str, Any] = await step_call("inner", counted.fetch, "b")
        return inner

    @task
    async def nested(payload: None) -> dict[str, Any]:
        return await outer()

    async with Harness(nested) as harness:
        session = await harness.start("nested")
        assert (await session.result())["title"] == "b"
        opened = [e.body["name"] for e in await session.transcript() if e.kind == "step.started"]
    assert opened == ["outer"]


async def test_an_object_whose_call_is_async_is_awaited() -> None:
    class Call:
        async def __call__(self, n: int) -> int:
            return n + 1

    @task
    async def through_an_object(payload: None) -> int:
        return await step_call("object", functools.partial(Call(), 1), result=int)

    async with Harness(through_an_object) as harness:
        assert await (await harness.start("through_an_object")).result() == 2


async def test_no_name_and_no_readable_type_are_refused_before_the_body() -> None:
    with pytest.raises(BadDefinition, match="needs a name"):
        await step_call("", counted.fetch, "a")

    @task
    async def unreadable(payload: None) -> None:
        await step_call("unreadable", counted.fetch, "a", result=object())

    async with Harness(unreadable) as harness:
        with pytest.raises(RunFailed, match="not a type"):
            await (await harness.start("unreadable")).result()
    assert counted.calls == []
