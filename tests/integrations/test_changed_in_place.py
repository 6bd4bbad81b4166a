"""What code changes in the messages that it was given is neither in what is stored nor in what the next turn gets."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent as OpenAIAgent
from agents import Model, ModelResponse, Usage
from agents.testing import assistant_message
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, MessagesState, StateGraph
from pydantic_ai import Agent, BinaryContent, ModelMessage, ModelRequest, TextPart
from pydantic_ai import ModelResponse as PydanticResponse
from pydantic_ai.messages import ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr import TaskContext, streams, task
from helmr.integrations.langgraph import durable_model, run_graph
from helmr.integrations.openai_agents import HelmrSession, run
from helmr.integrations.pydantic_ai import HelmrDurability, HelmrHistory
from helmr.testing import Harness, HarnessSession

messages = streams.input("messages", schema=str)
answers = streams.input("answers")
replies = streams.output("replies", schema=str)
turns = streams.output("turns")
pytestmark = pytest.mark.allows_blocking  # frameworks look at files when they are first used

FORGED = "forged"


def heard(said: list[str]) -> str:
    """What each model says: all that its customer has said."""
    return ", ".join(said)


# --- Pydantic AI: a run's code, and a step that has the very messages


def pydantic_script(known: list[ModelMessage], info: AgentInfo) -> PydanticResponse:
    parts = [part for message in known for part in message.parts]
    said = [part for part in parts if isinstance(part, UserPromptPart)]
    answer = heard([str(part.content) for part in said])
    for part in said:
        part.content = FORGED
    return PydanticResponse(parts=[TextPart(answer)])


agent = Agent(FunctionModel(pydantic_script), name="careless", capabilities=[HelmrDurability()])
history = HelmrHistory(turns)


async def with_pydantic_ai(text: str) -> str:
    known: list[Any] = [*await history.messages()]
    result = await agent.run(text, message_history=known)
    await history.add([ModelRequest([UserPromptPart(text)]), result.new_messages()[-1]])
    for message in [*known, *result.new_messages()]:
        for part in message.parts:
            part.content = FORGED
    return result.output


# --- OpenAI Agents SDK


class OpenAIScript(Model):
    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        output: Any = assistant_message(
            heard([one["content"] for one in input if one.get("role") == "user"])
        )
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


desk = OpenAIAgent(name="desk", model=OpenAIScript())


async def with_openai_agents(text: str) -> str:
    session = HelmrSession(turns)
    known: list[Any] = [*await session.get_items()]
    for item in known:
        item["content"] = FORGED
    result = await run(desk, text, session=session)
    known = [*await session.get_items()]
    for item in known:
        item["content"] = FORGED
    return str(result.final_output)


# --- LangGraph


class LangChainScript(FakeListChatModel):
    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = [str(one.content) for one in messages if isinstance(one, HumanMessage)]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(heard(said)))])


model = durable_model(LangChainScript(responses=["-"]))


async def reply(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("reply", reply)
builder.add_edge(START, "reply")


async def with_langgraph(text: str) -> str:
    asked = {"messages": [("user", text)]}
    result = await run_graph(builder, asked, answers=answers, history=turns)
    said = str(result["messages"][-1].content)
    for message in result["messages"]:
        message.content = FORGED
    return said


CHATS = {
    "pydantic-ai": with_pydantic_ai,
    "openai-agents": with_openai_agents,
    "langgraph": with_langgraph,
}
SAID = ("pens", "ink", "paper", "glue")


@task(id="careless", streams=[messages, answers, replies, turns])
async def careless(given: tuple[str, int], ctx: TaskContext) -> None:
    """Answers with all that was said, and forges it; a fresh journal for each so many messages."""
    name, every = given
    answered = 0
    async for text in messages.iter():
        await replies.append(await CHATS[name](text))
        answered += 1
        if answered == every:
            await ctx.continue_as(given)


async def leave(session: HarnessSession, how: str) -> None:
    """Take it out of memory, or leave it."""
    if how != "hot":
        await getattr(session, how)()


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("every", [1, 3], ids=["a run a turn", "three turns a run"])
@pytest.mark.parametrize("how", ["hot", "kill"])
async def test_what_is_changed_in_place_changes_nothing_that_was_said(
    name: str, every: int, how: str
) -> None:
    async with Harness(careless) as harness:
        session = await harness.start(careless, (name, every))
        for text in SAID:
            await leave(session, how)
            await session.send("messages", text)
        wanted = [heard([*SAID[:number]]) for number in range(1, len(SAID) + 1)]
        assert await session.outputs("replies") == wanted
        assert FORGED not in str(await session.outputs("turns"))


# --- what is to be kept is said


@task(id="says-so", streams=[messages, answers, replies, turns])
async def says_so(name: str) -> None:
    """Changes what it was given in place, and makes that the conversation."""
    async for text in messages.iter():
        if name == "pydantic-ai":
            known: list[Any] = [*await history.messages()]
            for message in known:
                message.parts[0].content += "!"
            await history.replace([*known, ModelRequest([UserPromptPart(text)])])
            known = [*await history.messages()]
            said = [str(one.parts[0].content) for one in known]
        else:
            asked = {"messages": [("user", text)]}
            result = await run_graph(shouting, asked, answers=answers, history=turns)
            said = [str(one.content) for one in result["messages"]]
        await replies.append(heard(said))


async def shout(state: MessagesState) -> dict[str, Any]:
    """A node that changes its state's messages in place, as it should not."""
    for message in state["messages"][:-1]:
        message.content = f"{message.content}!"
    return {"messages": []}


shouting = StateGraph(MessagesState)
shouting.add_node("shout", shout)
shouting.add_edge(START, "shout")


@pytest.mark.parametrize("name", ["pydantic-ai", "langgraph"])
@pytest.mark.parametrize("how", ["hot", "kill"])
async def test_what_was_changed_in_place_and_given_back_is_stored(name: str, how: str) -> None:
    async with Harness(says_so) as harness:
        session = await harness.start(says_so, name)
        for text in ("pens", "ink", "glue"):
            await leave(session, how)
            await session.send("messages", text)
        assert await session.outputs("replies") == ["pens", "pens!, ink", "pens!!, ink!, glue"]


# --- what is stored comes back as it was


@task(id="keeps", streams=[messages, answers, replies, turns])
async def keeps(payload: None) -> None:
    """Keeps a picture, of which Pydantic AI makes another class when it reads it, and a null that means something."""
    picture = BinaryContent(b"\x00\xff\xfe", media_type="image/png")
    asked = ModelRequest([UserPromptPart(["look", picture])], metadata={"seen": None})
    gave = ModelRequest([ToolReturnPart("look", None, tool_call_id="1")])
    said = PydanticResponse([TextPart("")])
    await history.add([asked, gave, said])
    read: list[Any] = [*await history.messages()]
    assert read[0].parts[0].content[1].data == picture.data
    assert read[0].metadata == asked.metadata
    assert read[1:] == [gave, said]
    await history.replace(read)
    await replies.append("kept")


async def test_messages_come_back_as_they_were_and_are_stored_once() -> None:
    async with Harness(keeps) as harness:
        session = await harness.start(keeps)
        assert await session.outputs("replies") == ["kept"], await session.error()
        [record] = await session.outputs("turns")
        assert '"provider_name"' not in str(record).replace("'", '"'), "fields that are null"
