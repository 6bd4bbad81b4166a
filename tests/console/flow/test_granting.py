"""An agent's call is approved and calls like it are allowed for a while, in the console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from helmr.gate import call_metadata, call_of, tasks
from helmr_runtime.catalog import Registry
from tests.console.flow import tasks as other_tasks
from tests.console.flow.bench import Bench, benched
from tests.console.flow.test_hostile import walked
from tests.console.flow.walk import HOSTILE
from tests.service.stack import Stack

REGISTRY = Registry.of_modules([tasks, other_tasks])


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with benched(
        lambda folder: Stack(folder, registry=REGISTRY), tmp_path, monkeypatch
    ) as found:
        yield found


async def asks(bench: Bench, agent: str = "a1", **given: Any) -> str:
    """The session of a call that waits."""
    call = {
        "client": "claude-code",
        "agent": agent,
        "tool": "Bash",
        "input": given,
        "folder": "/srv",
    }
    asked = call_of(call)
    started = await bench.stack.started(
        tasks.CALL_TASK, call, tags=[asked.tag], metadata=call_metadata(asked)
    )
    await bench.stack.run_until(started["run"]["id"], "waiting")
    return str(started["session"]["id"])


async def grants(bench: Bench) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await bench.stack.http.get("/v1/gate/grants")).json()["items"]
    return items


async def test_hostile_text_of_a_call_is_shown_as_text(bench: Bench) -> None:
    await asks(bench, command=HOSTILE)
    await bench.open()
    await bench.inbox(1)
    await bench.press("A")
    await bench.on("GrantScreen")
    await walked(bench)


async def test_a_call_is_approved_and_calls_like_it_allowed(bench: Bench) -> None:
    session_id = await asks(bench, command="git push origin main")
    await bench.open()
    await bench.inbox(1)
    await bench.press("A")
    await bench.sees("command is like")
    await bench.sees("git push origin main")
    screen = bench.app.screen
    screen.query("Input").first().value = "git push*"
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    await bench.sees("approved, and allowed until")
    [grant] = await grants(bench)
    assert (grant["matches"], grant["session_id"]) == ({"command": ["git push*"]}, session_id)
    run = (await bench.stack.http.get(f"/v1/sessions/{session_id}/runs")).json()["items"][0]
    run = await bench.stack.run_until(run["id"], "succeeded")
    assert run["result"] == {"decision": "approve"}


async def test_escape_leaves_everything_as_it_is(bench: Bench) -> None:
    await asks(bench, command="ls")
    await bench.open()
    await bench.inbox(1)
    await bench.press("A")
    await bench.sees("command is like")
    await bench.press("escape")
    await bench.on("InboxScreen")
    await bench.inbox(1)
    assert await grants(bench) == []


async def test_other_waits_do_not_have_the_key(bench: Bench) -> None:
    await bench.ask("publish", subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("A")
    await bench.sees("only a call that an agent asks about can be allowed for a while")


async def test_calls_are_grouped_by_the_session_of_the_agent(bench: Bench) -> None:
    for agent in ("a1", "a2", "a1"):
        await asks(bench, agent, command=f"ls {agent}")
    await bench.open()
    await bench.inbox(3)
    await bench.press(*["b"] * 5)
    await bench.sees("agent claude-code:a1: 2 waits")
    await bench.sees("agent claude-code:a2: 1 wait")
