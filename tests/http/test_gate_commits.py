"""What a gated call costs in commits, counted; and what is found after an end between any two of them."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.gate import AGENT_TASK, CALL_TASK, RULED, tasks
from helmr.wire import ids
from helmr_runtime.catalog import Registry
from helmr_runtime.ledger.log import group
from helmr_runtime.ledger.tables.appends import Appends
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.session import committer
from tests.http.test_access_tokens import bearing, key
from tests.http.test_gate import SECTIONS, answer, calls, waiting
from tests.service.stack import BOUND_S, RING, Stack, until

REGISTRY = Registry.of_modules([tasks])
STARTED = ["session.created", "run.created"]
ASKED = ["run.started", "wait.opened"]
ANSWERED = ["input.accepted", "wait.fulfilled", "run.succeeded"]
LINE = ["input.accepted"]
AGENT = [*STARTED, "run.started", "run.succeeded", *LINE]
"""An agent's session begins with its first line; its task has nothing to do."""


class Commits:
    """The kinds of the entries of each commit of a ledger; it goes on only up to the commit of that number."""

    def __init__(self, stack: Stack, most: int | None = None) -> None:
        self.kinds: list[list[str]] = []
        self.is_stopped = False
        self._goes_on = threading.Event()
        ledger = stack.ledger._ledger
        assert ledger is not None
        database = ledger._group.database
        commit = database.commit

        def committed(appends: Appends) -> None:
            if len(self.kinds) == most:
                self.is_stopped = True
                self._goes_on.wait(4 * BOUND_S)
                raise OSError("its process has ended")
            self.kinds.append([entry.kind.value for entry in appends.entries])
            commit(appends)

        database.commit = committed  # type: ignore[method-assign]

    def end(self) -> None:
        """Let go of the thread that waits."""
        self._goes_on.set()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine too code comes to what it asks for, and a commit to what rides in it."""
    for module, name in (
        (committer, "FLUSH_AFTER_S"),
        (committer, "BEGINS_AFTER_S"),
        (group, "RIDE_S"),
    ):
        monkeypatch.setattr(module, name, BOUND_S)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Stack]:
    stack = Stack(folder, ring=RING, registry=REGISTRY)
    stack.service = stack.make_service(sections=SECTIONS)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start(sessions_per_host=20)
        yield stack
    finally:
        await stack.stop()


def asking(
    http: httpx.AsyncClient, number: int = 1, operation: str = ""
) -> asyncio.Task[httpx.Response]:
    """A client that names no calls asks about one."""
    asked = {
        "client": "mcp",
        "agent": "agent-1",
        "tool": "Bash",
        "input": {"command": f"touch {number}"},
        "folder": "/srv/shop",
        "hold_s": 60,
    }
    said = {"Operation-Id": operation or ids.new_id(ids.OPERATION)}
    return asyncio.ensure_future(http.post("/v1/gate/calls", json=asked, headers=said))


def hooking(http: httpx.AsyncClient, number: int = 1) -> asyncio.Task[httpx.Response]:
    """A client's hook asks about a call that it names."""
    event = {
        "session_id": "agent-1",
        "cwd": "/srv/shop",
        "hook_event_name": "PreToolUse",
        "tool_name": "Bash",
        "tool_input": {"command": f"touch {number}"},
        "tool_use_id": f"toolu_{number}",
    }
    params: dict[str, Any] = {"mode": "headless", "timeout_s": 60}
    return asyncio.ensure_future(http.post("/v1/gate/claude-code", json=event, params=params))


async def lines(stack: Stack) -> list[dict[str, Any]]:
    """What the agent's sessions say."""
    found = await stack.http.get("/v1/sessions", params={"task": AGENT_TASK})
    said: list[dict[str, Any]] = []
    for agent in found.json()["items"]:
        records = await stack.http.get(f"/v1/sessions/{agent['id']}/inputs/{RULED}")
        said += [one["data"] for one in records.json()["items"]]
    return said


async def test_a_call_costs_two_commits_to_ask_and_four_in_all(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as stack,
        bearing(stack, await key(stack, "asker", "laptop")) as http,
    ):
        committed = Commits(stack)
        for number, agent in ((1, AGENT), (2, LINE)):
            committed.kinds.clear()
            asked = asking(http, number)
            await waiting(stack)
            assert committed.kinds == [[*STARTED, *agent], ASKED]
            await answer(stack, decision="approve")
            assert (await asked).json()["verdict"] == "allow"
            # The decision is taken and noted at once.
            assert committed.kinds[2:] == [ANSWERED, [*LINE, *LINE]]
        assert [one["action"] for one in await lines(stack)] == ["ask", "allow"] * 2


async def test_a_call_that_its_client_names_costs_no_more(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as stack,
        bearing(stack, await key(stack, "asker", "laptop")) as http,
    ):
        committed = Commits(stack)
        asked = hooking(http)
        await waiting(stack)
        await answer(stack, decision="approve")
        assert (await asked).status_code == 200
        assert committed.kinds == [[*STARTED, *AGENT], ASKED, ANSWERED, LINE]


async def test_a_rules_decision_is_one_commit(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as stack,
        bearing(stack, await key(stack, "asker", "laptop")) as http,
    ):
        committed = Commits(stack)
        for number in (1, 2):
            event = {
                "session_id": "agent-1",
                "hook_event_name": "PreToolUse",
                "tool_name": "Bash",
                "tool_input": {"command": "ls"},
                "tool_use_id": f"toolu_{number}",
            }
            params: dict[str, Any] = {"mode": "headless", "timeout_s": 60}
            said = await http.post("/v1/gate/claude-code", json=event, params=params)
            assert said.json()["hookSpecificOutput"]["permissionDecision"] == "allow"
        assert committed.kinds == [AGENT, LINE]


async def test_a_held_agents_session_is_written_by_its_host(tmp_path: Path) -> None:
    """A record that someone sends to it brings it into a host; the call is noted there all the same."""
    async with (
        running(tmp_path) as stack,
        bearing(stack, await key(stack, "asker", "laptop")) as http,
    ):
        asked = asking(http)
        await answer(stack, decision="approve")
        assert (await asked).json()["verdict"] == "allow"
        found = await stack.http.get("/v1/sessions", params={"task": AGENT_TASK})
        (agent,) = found.json()["items"]
        body = {"data": {"action": "by hand"}}
        sent = await stack.http.post(f"/v1/sessions/{agent['id']}/inputs/{RULED}", json=body)
        assert sent.status_code < 300, sent.text
        asked = asking(http, 2)
        await answer(stack, decision="approve")
        assert (await asked).json()["verdict"] == "allow"
        said = [one["action"] for one in await lines(stack)]
        assert said == ["ask", "allow", "by hand", "ask", "allow"]


@pytest.mark.parametrize("stored", range(5))
async def test_an_end_between_any_two_commits_loses_and_doubles_nothing(
    tmp_path: Path, stored: int
) -> None:
    """The runtime ends behind that many commits of a call; its client repeats the request at the next one."""
    operation = ids.new_id(ids.OPERATION)
    async with running(tmp_path / "first") as stack:
        secret = await key(stack, "asker", "laptop")
        async with bearing(stack, secret) as http:
            committed = Commits(stack, most=stored)
            asked = asking(http, operation=operation)
            answering: asyncio.Task[Any] | None = None
            if stored >= 2:
                await waiting(stack)
                answering = asyncio.ensure_future(answer(stack, decision="approve"))
            await until(lambda: committed.is_stopped or asked.done())
            shutil.copytree(tmp_path / "first", tmp_path / "next")
            for one in filter(None, (asked, answering)):
                one.cancel()
            committed.end()
    async with running(tmp_path / "next") as stack, bearing(stack, secret) as http:
        asked = asking(http, operation=operation)
        if stored < 3:
            await answer(stack, decision="approve")
        assert (await asked).json()["verdict"] == "allow"
        (call,) = await calls(stack)
        assert call["task"] == CALL_TASK
        said = await lines(stack)
        assert [one["action"] for one in said] == ["ask", "allow"]
        assert {one["session_id"] for one in said} == {call["id"]}
        taken = await stack.http.get(f"/v1/sessions/{call['id']}/inputs/outcomes")
        assert [one["data"]["taken"] for one in taken.json()["items"]] == [operation]
