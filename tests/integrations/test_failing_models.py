"""How many requests a model that fails gets: the step's tries times those of the framework's own client."""

from __future__ import annotations

from types import ModuleType

import httpx
import pytest

from helmr.integrations import may_pass, retried
from helmr.testing import Harness
from tests.integrations.chat_server import ChatServer
from tests.integrations.test_chat_agents import TASKS, agents, pytestmark, server
from tests.longer import long_but

__all__ = ["agents", "pytestmark", "server"]

TRIES = 4
SDK_RETRIES = 2
"""OpenAI's client, if its maker says nothing; Ollama's does not try again."""


@long_but(
    2,
    ("status", "sdk_retries", "tries"),
    [
        (500, SDK_RETRIES, TRIES),
        (401, SDK_RETRIES, 1),
        (500, 0, TRIES),
        (429, 0, TRIES),
        (400, SDK_RETRIES, 1),
    ],
)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.allows_blocking  # frameworks look at files when they are first used
async def test_a_model_that_fails_is_asked_so_often(
    task: str,
    status: int,
    sdk_retries: int,
    tries: int,
    agents: ModuleType,
    server: ChatServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.status = status
    monkeypatch.setattr(agents.client, "max_retries", sdk_retries)
    async with Harness(*agents.CHATS) as harness:
        session = await harness.start(task)
        error = None
        for _ in range(tries):
            error = await session.error()
            await harness.advance("10s")
    assert error is not None
    asks_again = task != "chat-langgraph" and tries > 1
    assert server.asked.total() == tries * (1 + sdk_retries if asks_again else 1)


class Carried(Exception):
    def __init__(self, **parts: object) -> None:
        vars(self).update(parts)


@pytest.mark.parametrize(
    ("error", "is_tried_again"),
    [
        (ValueError(), True),
        (Carried(status_code=503), True),
        (Carried(status_code=404), False),
        (Carried(status=403), False),
        (Carried(code=400), False),
        (Carried(code="insufficient_quota"), True),
        (Carried(code=4711), True),
        (Carried(status_code=True), True),
        (Carried(response=httpx.Response(422)), False),
        *((Carried(status_code=status), True) for status in (408, 409, 425, 429)),
        (ExceptionGroup("all", [Carried(status_code=401), Carried(status_code=503)]), True),
        (ExceptionGroup("all", [Carried(status_code=401), Carried(status_code=404)]), False),
    ],
)
def test_a_request_that_is_wrong_is_not_made_again(error: Exception, is_tried_again: bool) -> None:
    assert may_pass(error) is is_tried_again


def test_a_status_of_the_cause_counts() -> None:
    wrapper = RuntimeError("the model failed")
    wrapper.__cause__ = Carried(status_code=401)
    assert not may_pass(wrapper)
    wrapper.__cause__.__cause__ = wrapper  # a circle ends
    wrapper.__cause__ = RuntimeError()
    assert may_pass(wrapper)


def test_what_is_retried_may_be_said() -> None:
    assert retried({"retries": 5}) == {"retries": 5, "retry_on": may_pass}
    assert retried({"retry_on": ValueError}) == {"retry_on": ValueError}
