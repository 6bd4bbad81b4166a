"""The conversation of a graph's state: what it begins with, what it has in the end, what is saved between."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import BaseMessage, messages_from_dict, messages_to_dict
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.graph.state import CompiledStateGraph

from helmr.errors import UsageError
from helmr.integrations.conversation import KeptConversation
from helmr.streams import OutputStream

MESSAGES = "messages"
"""What LangGraph's own states and agents call a conversation."""


@functools.cache
def conversation_in(stream: OutputStream[Any]) -> KeptConversation[BaseMessage]:
    """That a stream keeps."""
    return KeptConversation(stream, read=_messages_of, write=messages_to_dict)


def _messages_of(text: str) -> list[BaseMessage]:
    return messages_from_dict(json.loads(text))


def behind(
    past: list[BaseMessage], input: Any, graph: CompiledStateGraph[Any, Any, Any, Any]
) -> dict[str, Any]:
    """The input, with what was said before its messages."""
    if MESSAGES not in graph.channels or not isinstance(input, Mapping):
        raise UsageError(
            f"run_graph(…, history=…) needs a state with `{MESSAGES}`, and a mapping as its input",
            hint="Let the state be a MessagesState.",
        )
    said = input.get(MESSAGES, [])
    return {**input, MESSAGES: [*past, *(said if isinstance(said, list) else [said])]}


async def said_in(
    graph: CompiledStateGraph[Any, Any, Any, Any], config: dict[str, Any], result: Any
) -> list[BaseMessage]:
    """The messages of a graph's state: those of its result, if it gives them."""
    if isinstance(result, Mapping) and isinstance(said := result.get(MESSAGES), list):
        return said
    state = await graph.aget_state(cast("Any", config))
    found: list[BaseMessage] = state.values[MESSAGES]
    return found


class Saver(InMemorySaver):
    """Knows whether an interrupt was saved, so that a state that has none need not be read back."""

    has_interrupts = False

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save what tasks have written; an interrupt is one of these."""
        self.has_interrupts |= any(channel == INTERRUPT for channel, _ in writes)
        super().put_writes(config, writes, task_id, task_path)
