"""A LangGraph graph that writes a letter and asks a person before it is sent.

    helmr up helmr.examples.langgraph_letter
    helmr session start langgraph-letter --payload '"otters"'

The model here is a script, so that it runs without a key; put yours in its place.
"""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.language_models import FakeListChatModel
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from helmr import streams, task
from helmr.integrations.langgraph import durable, durable_model, run_graph

answers = streams.input("answers")
model = durable_model(FakeListChatModel(responses=["Dear all, news about otters."]))


class State(TypedDict, total=False):
    """State that the nodes read and write."""

    topic: str
    text: str
    sent: str


class Review(BaseModel):
    """What a person says to a letter."""

    decision: Literal["send", "drop"]
    text: str


async def write(state: State) -> State:
    """Have the model write."""
    return {"text": str((await model.ainvoke(f"A letter about {state['topic']}")).content)}


async def review(state: State) -> State:
    """Ask a person, who may change the text."""
    initial = {"decision": "send", "text": state["text"]}
    schema = Review.model_json_schema()
    said = Review.model_validate(
        interrupt({"question": "Send this letter?", "schema": schema, "initial": initial})
    )
    return {"text": said.text if said.decision == "send" else ""}


async def send(state: State) -> State:
    """Send it, once."""
    return {"sent": f"sent {state['text']!r}" if state["text"] else "dropped"}


builder = StateGraph(State)
builder.add_node("write", write)
builder.add_node("review", review)
builder.add_node("send", durable(send))
builder.add_edge(START, "write")
builder.add_edge("write", "review")
builder.add_edge("review", "send")
builder.add_edge("send", END)


@task(id="langgraph-letter")
async def letter(topic: str) -> dict[str, Any]:
    """Write, ask, send."""
    found: dict[str, Any] = await run_graph(
        builder, {"topic": topic}, answers=answers, timeout="2d"
    )
    return found
