"""A provider's 429 that says when to come back closes the limit of model requests, in each adapter."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from helmr import LimitClosed, task
from helmr.integrations import closing, retried, retry_after_s
from helmr.integrations.langgraph import durable_model
from helmr.testing import Harness, HarnessSession
from tests.integrations.chat_server import ChatServer
from tests.integrations.test_chat_agents import SAID, agents, pytestmark, server

__all__ = ["agents", "pytestmark", "server"]

REFUSALS = 5
"""More than there are tries for other failures."""


class Refusal(Exception):
    """What a client of a model's server raises."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"status {status}")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = httpx.Response(status, headers=named)


NOW = "Mon, 30 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("error", "for_s"),
    [
        (Refusal(429, retry_after="7"), 7.0),
        (Refusal(429, retry_after="7.5", retry_after_ms="7250"), 7.25),
        (Refusal(429, retry_after="Mon, 30 Nov 2026 12:01:30 GMT", date=NOW), 90.0),
        (Refusal(429, retry_after="9999999"), 86_400.0),
        (Refusal(429, retry_after="inf"), 86_400.0),
        (Refusal(429, retry_after="nan"), None),
        (Refusal(429, retry_after="0"), None),
        (Refusal(429, retry_after="Mon, 30 Nov 2026 12:01:30 GMT"), None),
        (Refusal(429, retry_after=NOW, date=NOW), None),
        (Refusal(429, retry_after="soon", date=NOW), None),
        (Refusal(429), None),
        (Refusal(503, retry_after="7"), None),
        (ValueError(), None),
    ],
)
def test_the_server_says_when_to_come_back(error: Exception, for_s: float | None) -> None:
    assert retry_after_s(error) == for_s
    wrapper = RuntimeError("the model failed")
    wrapper.__cause__ = error
    assert retry_after_s(wrapper) == for_s


async def test_only_a_request_under_a_limit_closes_it() -> None:
    async def refused(question: str) -> str:
        raise Refusal(429, retry_after="7")

    async def fails(question: str) -> str:
        raise ValueError(question)

    limited = retried({"retries": 3}, "openai")
    assert limited["limit"] == "openai"
    assert closing(refused, retried({})) is refused
    with pytest.raises(LimitClosed, match="status 429") as closed:
        await closing(refused, limited)("?")
    assert closed.value.for_s == 7.0
    assert isinstance(closed.value.__cause__, Refusal)
    with pytest.raises(ValueError, match="why"):
        await closing(fails, limited)("why")


@pytest.mark.parametrize("task_id", ["limited-pydantic-ai", "limited-openai-agents"])
@pytest.mark.allows_blocking  # frameworks look at files when they are first used
async def test_a_request_that_is_refused_is_made_again_when_the_provider_is_open(
    task_id: str, agents: ModuleType, server: ChatServer
) -> None:
    """OpenAI's own client meets the refusal."""
    server.refusals, server.retry_after = REFUSALS, "30"
    async with Harness(*agents.LIMITED) as harness:
        session = await harness.start(task_id)
        for asked in range(1, REFUSALS + 1):
            await harness.advance("29s")
            assert server.asked.total() == asked
            await harness.advance("1s")
        assert await session.result() == SAID
        assert await closings(session) == ["openai"] * REFUSALS


class BusyModel(BaseChatModel):
    """LangChain's models have no way of their own to say it: theirs are the exceptions of the providers' clients."""

    refusals: int = REFUSALS

    @property
    def _llm_type(self) -> str:
        return "busy"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        if self.refusals:
            self.refusals -= 1
            raise Refusal(429, retry_after="30")
        return ChatResult(generations=[ChatGeneration(message=AIMessage(SAID))])


async def test_a_refused_request_of_a_langchain_model_is_made_again() -> None:
    model = durable_model(BusyModel(), limit="openai")

    @task(id="limited-langgraph")
    async def asks(payload: None) -> str:
        return str((await model.ainvoke("Who?")).content)

    async with Harness(asks) as harness:
        session = await harness.start("limited-langgraph")
        for _ in range(REFUSALS):
            await harness.advance("31s")
        assert await session.result() == SAID
        assert await closings(session) == ["openai"] * REFUSALS


async def closings(session: HarnessSession) -> list[str]:
    """The limits that tries have closed."""
    entries = await session.transcript()
    return [one.body["closed_limit"] for one in entries if one.kind == "step.try_failed"]
