"""The gate in the console: grants, calls of unknown outcome, and agents' own sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.flow.bench import Bench, benched
from tests.console.flow.test_granting import REGISTRY, asks, grants
from tests.console.flow.test_hostile import walked
from tests.console.flow.walk import HOSTILE
from tests.service.stack import Stack, until


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with benched(
        lambda folder: Stack(folder, registry=REGISTRY), tmp_path, monkeypatch
    ) as found:
        yield found


async def granted(bench: Bench, command: str, **parts: Any) -> None:
    session_id = await asks(bench, command=command)
    made = await bench.stack.http.post("/v1/gate/grants", json={"session_id": session_id, **parts})
    assert made.status_code == 201, made.text


async def posted(bench: Bench, kind: str, **parts: Any) -> None:
    """What a hook tells of the agent a1."""
    event = {"session_id": "a1", "hook_event_name": kind, "cwd": "/srv", **parts}
    query = {"mode": "headless", "timeout_s": 0}
    done = await bench.stack.http.post("/v1/gate/claude-code", json=event, params=query)
    assert done.status_code == 200, done.text


async def left_unknown(bench: Bench, command: str) -> str:
    """The session of a call that was approved, and whose agent has ended."""
    call = {"tool_name": "Bash", "tool_input": {"command": command}, "tool_use_id": "toolu_1"}
    await posted(bench, "PreToolUse", **call)
    found: list[dict[str, Any]] = []

    async def is_asked() -> bool:
        found[:] = (await bench.stack.http.get("/v1/waits")).json()["items"]
        return bool(found)

    await until(is_asked)
    wait = found[0]
    await bench.answer(wait["id"], {"decision": "approve"})
    await bench.stack.run_until(wait["run_id"], "succeeded")
    await posted(bench, "PreToolUse", **call)
    await posted(bench, "SessionEnd")
    return str(wait["session_id"])


async def listed(bench: Bench, name: str) -> list[str]:
    """The keys of that list, once there is one."""
    screen = await bench.on(name)
    await bench.until(lambda: len(screen.list.keys) == 1)
    keys: list[str] = screen.list.keys
    return keys


async def test_grants_are_listed_and_revoked(bench: Bench) -> None:
    await granted(bench, "git push origin", matches={"command": "git push*"}, expires_in="2h")
    await bench.open()
    await bench.press("4")
    await bench.sees("1, the first ends in")
    await bench.press("g")
    await listed(bench, "GrantsScreen")
    await bench.sees("command = git push*")
    await bench.sees("claude-code:a1")
    await bench.press("X")
    await bench.on("ConfirmScreen")
    await bench.sees("let claude-code:a1 ask again before it calls Bash")
    assert (await grants(bench))[0]["revoked_at"] is None
    await bench.press("ctrl+s")
    await bench.on("GrantsScreen")
    await bench.sees("revoked")
    assert (await grants(bench))[0]["revoked_at"] is not None
    await bench.press("X")
    assert "it allows nothing any more" in bench.toasts()[-1]
    await bench.press("enter")
    await bench.on("SessionScreen")


@pytest.mark.long  # tests/http/test_gate.py
async def test_what_became_of_a_call_is_said_by_a_person(bench: Bench) -> None:
    session_id = await left_unknown(bench, "touch one")
    await bench.open()
    await bench.press("4")
    await bench.sees("of 1 call no one knows what became")
    await bench.press("o")
    assert await listed(bench, "UnknownOutcomesScreen") == [session_id]
    await bench.sees('"command": "touch one"')
    await bench.press("a")
    await bench.sees("its effect is nowhere to be seen")
    await bench.press("3")
    await bench.on("ConfirmScreen")
    await bench.sees("Say that it was not made")
    await bench.press("ctrl+s")
    await bench.on("UnknownOutcomesScreen")
    await bench.sees("The outcome of every approved call is known.")
    found = await bench.stack.http.get(f"/v1/gate/calls/{session_id}")
    assert found.json()["outcome"] == "not_made"


@pytest.mark.long
async def test_an_agents_session_shows_its_calls_and_opens_them(bench: Bench) -> None:
    session_id = await left_unknown(bench, "touch one")
    await bench.open()
    await bench.press("2")
    screen = await bench.on("SessionsScreen")
    await bench.until(lambda: len(screen.list.keys) == 2)
    await bench.press("enter")
    await bench.on("SessionScreen")
    await bench.sees("people are asked: Bash touch one")
    await bench.sees("allowed by people: Bash touch one")
    await bench.press("slash", *"people", "enter", "o")
    await bench.until(lambda: bench.app.screen.detail.session_id == session_id)


async def test_what_agents_write_is_shown_as_text(bench: Bench) -> None:
    await left_unknown(bench, HOSTILE)
    await granted(bench, HOSTILE)
    await bench.open()
    for key, name in (("g", "GrantsScreen"), ("o", "UnknownOutcomesScreen")):
        await bench.press("4", key)
        await listed(bench, name)
        await walked(bench)
        await bench.press("Z")
        await walked(bench)
        await bench.press("escape")
