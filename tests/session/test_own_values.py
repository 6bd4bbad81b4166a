"""What a task changes in a value that it was given is in no record: a replay gives it as it was recorded."""

from __future__ import annotations

from typing import Any

import pytest

from helmr import TaskContext, step, streams, task
from helmr.testing import Harness

go = streams.input("go")
seen = streams.output("seen")


@step
async def loose() -> Any:
    return {"list": [1], "inner": {"a": 1}}


@step
async def in_a_dict() -> dict[str, Any]:
    return {"list": [1], "inner": {"a": 1}}


def spoil(value: dict[str, Any]) -> None:
    value["list"].append(2)
    value["inner"]["b"] = 2
    value["more"] = True


@task
async def changes(payload: dict[str, Any], ctx: TaskContext) -> list[Any]:
    """Changes all that it is given, then waits; a replay is given it all again."""
    given = [payload, await loose(), await in_a_dict(), await go.wait().unwrap()]
    await seen.append(given)
    for one in given:
        spoil(one)
    await go.wait()
    return given


FRESH = {"list": [1], "inner": {"a": 1}}


@pytest.mark.parametrize("way", ["park", "kill"])
async def test_a_replay_is_given_what_was_recorded(way: str) -> None:
    spoilt = {"list": [1, 2], "inner": {"a": 1, "b": 2}, "more": True}
    async with Harness(changes, replay_always=False) as harness:
        session = await harness.start(changes, {"list": [1], "inner": {"a": 1}})
        await session.send("go", {"list": [1], "inner": {"a": 1}})
        await session.wait()
        await getattr(session, way)()
        await session.send("go", True)
        assert await session.result() == [spoilt] * 4
        bodies = [one.body for one in await session.transcript()]
    [output] = [body["data"] for body in bodies if body.get("stream") == "seen"]
    assert output == [FRESH] * 4
