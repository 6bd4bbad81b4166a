"""Chat agents with their frameworks' own models over HTTP: streamed, tools at once, many sessions on one client."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from helmr.testing import Harness
from tests.integrations.chat_server import ChatServer, chat_server
from tests.stack.live import LiveRuntime, until

MODULE = "tests.integrations.chat_agents"
OPENAI, OLLAMA = "/v1/chat/completions streamed", "/api/chat streamed"
TASKS = {"chat-pydantic-ai": OPENAI, "chat-openai-agents": OPENAI, "chat-langgraph": OLLAMA}
"""And what each asks of the server."""
SAID = "ada is a customer; eve is a customer"
ROUNDS = 2
REQUESTS = 2
"""Of a round: the model calls the tools, and then tells."""

pytestmark = pytest.mark.filterwarnings("ignore:AgentState.*has been moved")
"""`langgraph.prebuilt` says so of its own names when it is imported."""

both = pytest.mark.parametrize(
    "replay_always",
    [
        False,
        pytest.param(True, marks=pytest.mark.long),
    ],  # in each run: tests/integrations/test_pydantic_ai.py …
    ids=["once", "replayed"],
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    with chat_server() as server:
        monkeypatch.setenv("CHAT_SERVER", server.url)
        yield server


@pytest.fixture
def agents(server: ChatServer) -> Iterator[ModuleType]:
    """The module, whose clients know this server."""
    yield importlib.import_module(MODULE)
    del sys.modules[MODULE]


@both
@pytest.mark.parametrize(("task", "path"), list(TASKS.items()), ids=list(TASKS))
@pytest.mark.allows_blocking  # frameworks look at files when they are first used
async def test_sessions_share_a_client_and_show_words_as_they_come(
    task: str, path: str, replay_always: bool, agents: ModuleType, server: ChatServer
) -> None:
    count = 4
    async with Harness(*agents.CHATS, replay_always=replay_always) as harness:
        sessions = await asyncio.gather(*(harness.start(task) for _ in range(count)))
        for _ in range(ROUNDS):
            for session in sessions:
                await session.kill()
            await asyncio.gather(*(session.send("go-on", True) for session in sessions))
        for session in sessions:
            assert await session.result() == [SAID] * ROUNDS
            chunks = await session.chunks("replies")
            assert "".join(chunks) == SAID * ROUNDS
            assert len(chunks) == 2 * ROUNDS, "in pieces, and none a second time"
    assert server.asked == {path: count * ROUNDS * REQUESTS}, "asked once, and each time streamed"


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.allows_blocking
@pytest.mark.parametrize("in_process", [True, False], ids=["in one process", "with Ray"])
def test_fifty_sessions_of_each_share_a_client_over_parks(
    in_process: bool, server: ChatServer, tmp_path: Path
) -> None:
    count = 50
    live = LiveRuntime(
        tmp_path, modules=[MODULE], sessions_per_host=50, linger="300ms", in_process=in_process
    )
    try:
        live.start()
        for task, path in TASKS.items():
            server.asked.clear()
            ids = [live.begin(task, None) for _ in range(count)]
            for _ in range(ROUNDS):
                for session_id in ids:
                    live.waiting(session_id, within_s=120)
                until(lambda: not live.live_sessions(), within_s=120, what="all are parked")
                for session_id in ids:
                    live.client.sessions.open(session_id).input("go-on").send(True)
            ended = [live.ended(session_id, within_s=120) for session_id in ids]
            bad = [run for run in ended if run.result != [SAID] * ROUNDS]
            assert not bad, bad[:1]
            assert server.asked == {path: count * ROUNDS * REQUESTS}
    finally:
        live.stop()
