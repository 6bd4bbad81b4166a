"""What `helmr.integrations.langgraph` gives."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    BaseMessage,
    BaseMessageChunk,
    message_chunk_to_message,
    message_to_dict,
    messages_from_dict,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph, StateGraph
from langgraph.types import Command, Interrupt

from helmr.current import in_run
from helmr.durable_calls import durable_call
from helmr.durations import Duration
from helmr.errors import UsageError
from helmr.integrations.model_retries import retried
from helmr.steps import StepOptions, step_call
from helmr.streams import InputStream, turn
from helmr.wait_details import WaitOptions

OnChunk = Callable[[BaseMessageChunk], None]
MODEL: StepOptions = {"retries": 3}
MESSAGE = "langchain_message"
"""The one key of a message among recorded values."""


@durable_call("run_graph()")
async def run_graph(
    graph: StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any],
    input: Any,
    *,
    answers: InputStream[Any],
    timeout: Duration | None = None,
    options: Callable[[Any], WaitOptions] | None = None,
    config: Mapping[str, Any] | None = None,
    **invoke: Any,
) -> Any:
    """Run a graph to its end; each `interrupt()` in it is a wait, whose answer the interrupted node gets.

    What an interrupt shows may be a mapping: its `subject` or `question`, `body` and `initial` are the wait's, its
    `schema`, a JSON Schema, is what the answer must fit. Several interrupts at once are asked about in turn, and the
    nodes go on when all are answered. An interrupted node begins again, as everywhere in LangGraph.

    Args:
        graph: A builder, or a compiled graph; a checkpointer that it has is not used.
        input: What it begins with.
        answers: Where people answer.
        timeout: Of each wait.
        options: What a wait says, for what an interrupt shows, instead of what would be read from it.
        config: As of `ainvoke`.
        invoke: What else `ainvoke` takes.

    Raises:
        WaitTimeout: No one answered in time.
        NotInTask: There was an interrupt outside a run.
    """
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    # Of this call only: a replay goes through the graph again and meets what is recorded.
    own = compiled.copy({"checkpointer": InMemorySaver()})
    given = dict(config or {})
    given["configurable"] = {"thread_id": "run", **given.get("configurable", {})}
    asked = 0
    while True:
        result = await own.ainvoke(input, cast("Any", given), **invoke)
        pending = await _pending(own, given)
        if not pending:
            return result
        resume: dict[str, Any] = {}
        for interrupt in pending:
            asked += 1
            async with turn("interrupt()"):
                resume[interrupt.id] = await _answer(
                    interrupt, answers, f"interrupt-{asked}", timeout, options
                )
        input = Command(resume=resume)


async def _pending(
    graph: CompiledStateGraph[Any, Any, Any, Any], config: dict[str, Any]
) -> tuple[Interrupt, ...]:
    """What the graph waits for, in the order of its nodes and not of their ends."""
    state = await graph.aget_state(cast("Any", config))
    return tuple(interrupt for task in state.tasks for interrupt in task.interrupts)


async def _answer(
    interrupt: Interrupt,
    answers: InputStream[Any],
    correlation_id: str,
    timeout: Duration | None,
    options: Callable[[Any], WaitOptions] | None,
) -> Any:
    shown = interrupt.value
    said = _said(shown) if options is None else options(shown)
    schema = shown.get("schema") if isinstance(shown, Mapping) else None
    schema = getattr(interrupt, "response_schema", None) if schema is None else schema
    return await answers.wait(
        schema=schema, timeout=timeout, correlation_id=correlation_id, **said
    ).unwrap()


def _said(shown: Any) -> WaitOptions:
    """What the wait says of what an interrupt shows."""
    if not isinstance(shown, Mapping):
        return {"subject": str(shown)}
    said: WaitOptions = {}
    if subject := shown.get("subject") or shown.get("question"):
        said["subject"] = str(subject)
    if body := shown.get("body"):
        said["body"] = str(body)
    if "initial" in shown:
        said["initial"] = shown["initial"]
    return said


def durable(
    node: Callable[..., Any], *, name: str | None = None, **options: Any
) -> Callable[..., Any]:
    """A node as a step: in a run it is executed once, and its update of the state is recorded.

    It can't interrupt: a node that asks stays as it is.

    Args:
        node: Sync or async. Its update is JSON, with LangChain's messages anywhere in it.
        name: Of the step; default the node's.
        options: As of `step`.
    """
    step_name = name or getattr(node, "__name__", type(node).__name__)

    @functools.wraps(node)
    async def durable_node(*args: Any, **kwargs: Any) -> Any:
        call = _packing(functools.partial(node, *args, **kwargs))
        return unpacked(await step_call(f"node.{step_name}", call, **cast("StepOptions", options)))

    return durable_node


def _packing(call: functools.partial[Any]) -> Callable[[], Any]:
    """The call, whose value is packed where it was made: sync in a thread, async on a loop."""
    if inspect.iscoroutinefunction(call.func):

        async def awaited() -> Any:
            return packed(await call())

        return awaited
    return lambda: packed(call())


def durable_model(
    model: BaseChatModel, *, on_chunk: OnChunk | None = None, **options: Any
) -> BaseChatModel:
    """A chat model whose requests are steps.

    Args:
        model: The model.
        on_chunk: Told each piece of a message as it comes, in the step; a request that is tried again begins again.
            Nothing comes twice because the run was resumed.
        options: As of `step`; up to four tries if they say nothing, and one where an HTTP status says that the request
            is wrong.
    """
    return _DurableChat(
        model=model,
        on_chunk=on_chunk,
        step_options={**MODEL, **retried(cast("StepOptions", options))},
    )


class _DurableChat(BaseChatModel):
    """Records the message that the model answered. Tools are bound by the model, and used by this."""

    model: BaseChatModel
    on_chunk: OnChunk | None
    step_options: dict[str, Any]

    @property
    def _llm_type(self) -> str:
        return self.model._llm_type

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, Any]:
        """As the model does."""
        bound = self.model.bind_tools(tools, **kwargs)
        if not isinstance(bound, RunnableBinding):
            raise UsageError(f"{type(self.model).__name__} binds tools in a way of its own")
        return self.bind(**bound.kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if in_run():
            raise UsageError(
                "a durable model was called with invoke()",
                hint="Await ainvoke(): a step is awaited.",
            )
        return _result(self.model.invoke(messages, stop=stop, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async def request() -> Any:
            if self.on_chunk is None:
                return packed(await self.model.ainvoke(messages, stop=stop, **kwargs))
            return packed(await _streamed(self.model, self.on_chunk, messages, stop=stop, **kwargs))

        options = cast("StepOptions", self.step_options)
        return _result(unpacked(await step_call("model.request", request, **options)))


async def _streamed(
    model: BaseChatModel, on_chunk: OnChunk, *args: Any, **kwargs: Any
) -> BaseMessage:
    """The message as a whole, shown while it comes."""
    chunks: list[BaseMessageChunk] = []
    async for chunk in model.astream(*args, **kwargs):
        on_chunk(chunk)
        chunks.append(chunk)
    return message_chunk_to_message(functools.reduce(operator.add, chunks))


def _result(message: BaseMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


def packed(value: Any) -> Any:
    """A value with its messages as JSON that says which they are."""
    if isinstance(value, BaseMessage):
        return {MESSAGE: message_to_dict(value)}
    if isinstance(value, Mapping):
        return {key: packed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [packed(part) for part in value]
    return value


def unpacked(value: Any) -> Any:
    """The value of `packed`."""
    if isinstance(value, dict):
        if value.keys() == {MESSAGE}:
            return messages_from_dict([value[MESSAGE]])[0]
        return {key: unpacked(part) for key, part in value.items()}
    if isinstance(value, list):
        return [unpacked(part) for part in value]
    return value
