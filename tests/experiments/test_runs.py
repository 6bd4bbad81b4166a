"""`replay(…, runs="all")`: a session that goes on by `continue_as`, run by run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart
from pydantic_ai.messages import UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr import Approval, TaskContext, ask_approval, step, streams, task
from helmr.errors import UsageError
from helmr.experiments import Asked, Budget, Operator, replay
from helmr.experiments.replays import Replays
from helmr.integrations.pydantic_ai import HelmrDurability, HelmrHistory
from helmr.testing import Harness

messages = streams.input("messages", schema=str)
replies = streams.output("replies", schema=str)
turns = streams.output("turns")
calls = streams.input("calls", schema=Approval, answerers=["group:finance"])
history = HelmrHistory(turns)
asked: list[int] = []


def counting(known: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Says how many messages of the customer it knows."""
    said = [part for message in known for part in message.parts if isinstance(part, UserPromptPart)]
    asked.append(len(said))
    return ModelResponse(parts=[TextPart(f"{len(said)}: {said[-1].content}")])


agent = Agent(FunctionModel(counting), name="support", capabilities=[HelmrDurability()])


@step
async def pay(cents: int) -> str:
    return f"paid {cents}"


@task(id="chat", streams=[calls])
async def chat(customer: str, ctx: TaskContext) -> str:
    async for text in messages.iter():
        result = await agent.run(text, message_history=await history.messages())
        await history.add(result.new_messages())
        said = result.output
        if text == "refund":
            told = await ask_approval(calls, "refund", {"cents": 4200}, timeout="2d")
            said = await pay(**told.edited({"cents": 4200})) if told.approved else "declined"
        await replies.append(said)
        await ctx.continue_as(customer)
    return "over"


TEXTS = ("hello", "refund", "thanks", "bye")


@pytest.fixture
async def recorded(tmp_path: Path) -> Path:
    async with Harness(chat) as harness:
        session = await harness.start(chat, "ada", tags=["vip"])
        for text in TEXTS:
            await harness.advance("1h")
            await session.send("messages", text)
            if text == "refund":
                await session.send("messages", "are you there?")  # while it waits
                await session.answer({"decision": "approve"}, person="ada", groups=["finance"])
        async with harness.async_client() as client:
            pieces = [piece async for piece in client.sessions.open(session.id).export()]
    path = tmp_path / "chat.jsonl"
    path.write_bytes(b"".join(pieces))
    asked.clear()
    return path


def replayed(path: Path, **options: Any) -> Replays:
    return replay([path], task=chat, shows_progress=False, **options)


@pytest.mark.allows_blocking
async def test_each_run_is_a_row_and_comes_to_the_same(recorded: Path) -> None:
    found = replayed(recorded, runs="all")
    rows = found.session_rows()
    assert [row["run"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["status"] for row in rows] == [*["succeeded"] * 5, "waiting"]
    assert [row["changed"] for row in rows] == [None, None, None, None, None, None]
    for row in rows:
        assert (row["status"], row["result"]) == (row["old_status"], row["old_result"])
        assert row["problem"] is None
    assert asked == [], "no model is asked"
    kept = {(one["run"], one["stream"], one["answer"]) for one in found.question_rows()}
    assert {(1, "messages", '"hello"'), (2, "calls", '{"decision":"approve"}')} <= {
        (run, stream, answer) for run, stream, answer in kept
    }
    assert found.left_out == 0
    assert repr(found).startswith("<Replays 6 runs of 1 sessions, 0 changed")


@pytest.mark.allows_blocking
async def test_a_later_run_begins_with_what_was_said_before(recorded: Path) -> None:
    found = replayed(
        recorded,
        runs="all",
        steps={"support__model.request": "execute"},
        budget=Budget(sessions=5),
    )
    assert asked == [1, 2, 3, 4, 5], "each turn knows the turns before it"
    said = [row["answer"] for row in found.step_rows() if row["step"] == "support__model.request"]
    told = ["hello", "refund", "are you there?", "thanks", "bye"]
    assert said == [f'"{number}: {text}"' for number, text in enumerate(told, 1)]


@pytest.mark.allows_blocking
async def test_another_answer_changes_the_run_that_it_is_of(recorded: Path) -> None:
    def declines(wait: Asked) -> Any:
        return {"decision": "decline"} if wait.stream == "calls" else "refund"

    ada = Operator("ada", declines, groups=("finance",))
    found = replayed(recorded, runs="all", answers="ask", operators=[ada])
    [run] = [row for row in found.session_rows() if row["run"] == 2]
    assert (run["asked"], run["kept"], run["problem"]) == (2, 0, None)
    sources = {(row["run"], row["step"]): row["source"] for row in found.step_rows()}
    assert sources[2, "pay"] is None, "it was not paid now"


@pytest.mark.allows_blocking
async def test_what_is_left_out_is_counted_and_said(
    recorded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "helmr.experiments"):
        found = replayed(recorded)
    assert (len(found), found.left_out) == (1, 5)
    assert "5 earlier runs left out" in repr(found)
    assert 'runs="all"' in caplog.text
    with pytest.raises(UsageError, match="not 'newest' or 'all'"):
        replayed(recorded, runs="each")
