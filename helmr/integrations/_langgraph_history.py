"""The conversation of a graph's state: what it begins with, what it has in the end, what is saved between."""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import BaseMessage, messages_from_dict, messages_to_dict
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.graph.state import CompiledStateGraph

from helmr.errors import UsageError
from helmr.integrations.conversation import ItemForm, KeptConversation, mark_of
from helmr.streams import OutputStream

MESSAGES = "messages"
"""Name of the conversation in LangGraph's own states and agents."""


@functools.cache
def conversation_in(stream: OutputStream[Any]) -> KeptConversation[BaseMessage]:
    """Return the conversation that a stream keeps."""
    return KeptConversation(stream, FORM)


def _messages_of(text: str) -> list[BaseMessage]:
    return messages_from_dict(json.loads(text))


def _mark_of(message: BaseMessage) -> Hashable:
    return type(message), mark_of(message.__dict__), mark_of(message.__pydantic_extra__)


FORM = ItemForm(_messages_of, messages_to_dict, _mark_of)


def behind(
    past: list[BaseMessage], input: Any, graph: CompiledStateGraph[Any, Any, Any, Any]
) -> dict[str, Any]:
    """Return the input with the past conversation before its messages."""
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


Put = tuple[RunnableConfig, Checkpoint, CheckpointMetadata, ChannelVersions]


class Saver(InMemorySaver):
    """Checkpointer for one call of a graph.

    It knows whether an interrupt was saved, and copies a state only when something asks for one: a call that ends
    without an interrupt never does, and would copy the whole conversation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_interrupts = False
        self._not_copied: list[Put] = []

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a state; `durability="exit"` brings it when no code of the graph runs any more."""
        self._not_copied.append((config, checkpoint, metadata, new_versions))
        of = config["configurable"]
        named = {name: of[name] for name in ("thread_id", "checkpoint_ns")}
        return {"configurable": {**named, "checkpoint_id": checkpoint["id"]}}

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A state."""
        self._copy()
        return super().get_tuple(config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """The states so far."""
        self._copy()
        return super().list(config, filter=filter, before=before, limit=limit)

    def _copy(self) -> None:
        puts, self._not_copied = self._not_copied, []
        for put in puts:
            super().put(*put)

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
