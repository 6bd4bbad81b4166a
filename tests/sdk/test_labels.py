"""A text is not a list of tags and a list no metadata, wherever they are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helmr import Client, sessions, streams, task, tokens
from helmr.errors import UsageError
from helmr.testing import Harness, RunFailed

go = streams.input("go", schema=bool)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tags": "urgent"}, "tags are a list of texts"),
    ({"metadata": [1]}, "metadata is an object of JSON, not list"),
    ({"metadata": "x"}, "metadata is an object of JSON, not str"),
]


@task(id="labelled")
async def labelled(payload: dict[str, Any]) -> None:
    """Does nothing."""


@task(id="labels")
async def labels(payload: dict[str, Any]) -> None:
    """Uses them in each way that a task can."""
    if payload["how"] == "wait":
        await go.wait(**payload["wrong"])
    elif payload["how"] == "token":
        await tokens.create(**payload["wrong"])
    elif payload["how"] == "child":
        await sessions.start(labelled, {}, **payload["wrong"])
    else:
        await sessions.start("labelled", 1)  # type: ignore[call-overload]


async def error_of(payload: dict[str, Any]) -> str:
    async with Harness(labels, labelled) as harness:
        session = await harness.start("labels", payload)
        with pytest.raises(RunFailed):
            await session.result()
        error = await session.error()
        assert error is not None
        assert error["type"] == "UsageError"
        return str(error["message"])


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=["tags", "list", "text"])
async def test_what_is_no_list_of_tags_and_no_object_is_refused(
    wrong: dict[str, Any], message: str
) -> None:
    for how in ("token", "child"):
        assert message in await error_of({"how": how, "wrong": wrong})
    if "tags" in wrong:
        assert message in await error_of({"how": "wait", "wrong": wrong})
    client = Client(url="http://127.0.0.1:1", key="x")
    calls: list[Callable[..., object]] = [
        lambda **given: client.sessions.start("labelled", {}, **given),
        lambda **given: client.tokens.create(**given),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=message):
            call(**wrong)
    async with Harness(labelled) as harness:
        starting: Awaitable[Any] = harness.start("labelled", {}, **wrong)
        with pytest.raises(UsageError, match=message):
            await starting


async def test_a_child_is_started_by_its_task_and_not_by_a_name() -> None:
    said = await error_of({"how": "name"})
    assert said.startswith("sessions.start() in a task takes the task itself, not 'labelled'")
