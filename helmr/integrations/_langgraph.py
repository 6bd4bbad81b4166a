"""Implements `helmr.integrations.langgraph`: interrupts as waits; nodes, tools and chat models as steps.

Values of nodes, tools and models are packed where they are made and unpacked in the run's code: messages, commands and
sends keep their types.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import operator
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack, cast, overload

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    message_chunk_to_message,
    message_to_dict,
    messages_from_dict,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langchain_core.tools import tool as make_tool
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.errors import GraphBubbleUp
from langgraph.graph.state import CompiledStateGraph, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, Interrupt, Send

from helmr.approvals import TOO_LARGE, UNANSWERED, approval_schema
from helmr.current import durable_call, in_run
from helmr.errors import TooLarge, UsageError, WaitTimeout
from helmr.integrations import closing, retried
from helmr.integrations._langgraph_history import Saver, behind, conversation_in, said_in
from helmr.integrations.tool_context import step_in_context
from helmr.person.forms.tool_call import APPROVE, DECLINE, RESPOND, call_body, call_subject
from helmr.steps import StepOptions, step_call
from helmr.streams import InputStream, OutputStream, turn
from helmr.wait_details import WaitOptions
from helmr.wire.durations import Duration

OnChunk = Callable[[BaseMessageChunk], None]
MODEL: StepOptions = {"retries": 3}
MESSAGE, COMMAND, SEND = "langchain_message", "langgraph_command", "langgraph_send"
TOOL_ERROR = "langchain_tool_error"
"""The one key of a message, a command, a send, or a tool's own error among recorded values."""
IS_STEP = "helmr_is_step"
log = logging.getLogger("helmr.langgraph")
_named: set[tuple[str, str]] = set()
"""Tools that the log has already named."""


@durable_call("run_graph()")
async def run_graph(
    graph: StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any],
    input: Any,
    *,
    answers: InputStream[Any],
    history: OutputStream[Any] | None = None,
    timeout: Duration | None = None,
    options: Callable[[Any], WaitOptions] | None = None,
    config: Mapping[str, Any] | None = None,
    **invoke: Any,
) -> Any:
    """Run a graph to its end; each `interrupt()` in it is a wait, whose answer the interrupted node gets.

    An interrupt may show a mapping: its `subject` or `question`, `body` and `initial` become the wait's, and the answer
    must fit its `schema`, a JSON Schema. A tool call of LangChain's `HumanInTheLoopMiddleware` asks for an `Approval`,
    like any tool call. Several interrupts at once are asked about in turn, and the nodes go on when all are answered.
    An interrupted node begins again, as everywhere in LangGraph.

    Args:
        graph: A builder, or a compiled graph; a checkpointer that it has is not used.
        input: Input of the graph.
        answers: Stream on which people answer.
        history: Stream that keeps the conversation, and nothing else: the state's `messages` begin with its content,
            and the graph's result replaces it. Anyone who may read it sees what the model sees.
        timeout: Timeout of each wait; then a tool's call is rejected.
        options: Returns the wait's options for the value of an interrupt, in place of those read from it; for a tool
            call, which has `name` and `args`, more options.
        config: Passed to `ainvoke`.
        invoke: More arguments of `ainvoke`.

    Raises:
        WaitTimeout: No one answered in time.
        NotInTask: There was an interrupt outside a run.
        UsageError: The graph stops before or after a node without asking anything, or it has a history and no
            `messages`.
    """
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    _check_stops(compiled)
    _check_tools(compiled)
    # Of this call only: a replay goes through the graph again and meets what is recorded.
    saver = Saver()
    own = compiled.copy({"checkpointer": saver})
    # Nor does anything read it before the call's end or an interrupt: each step would write the whole state.
    invoke.setdefault("durability", "exit")
    given = dict(config or {})
    given["configurable"] = {"thread_id": "run", **given.get("configurable", {})}
    conversation = conversation_in(history) if history is not None else None
    if conversation is not None:
        input = behind(await conversation.items(), input, own)
    asked = 0
    while True:
        saver.has_interrupts = False
        result = await own.ainvoke(input, cast("Any", given), **invoke)
        is_cut_off = saver.has_interrupts or (isinstance(result, Mapping) and INTERRUPT in result)
        pending = await _pending(own, given) if is_cut_off else ()
        if not pending:
            if conversation is not None:
                await conversation.become(await said_in(own, given, result))
            return result
        resume: dict[str, Any] = {}
        for interrupt in pending:
            asked += 1
            async with turn("interrupt()"):
                resume[interrupt.id] = await _answer(
                    interrupt, answers, f"interrupt-{asked}", timeout, options, compiled
                )
        input = Command(resume=resume)


def _check_stops(graph: CompiledStateGraph[Any, Any, Any, Any]) -> None:
    """Refuse a graph that would end where it means to stop for someone."""
    for when, nodes in (
        ("before", graph.interrupt_before_nodes),
        ("after", graph.interrupt_after_nodes),
    ):
        if nodes:
            named = "each node" if nodes == "*" else f"node {', '.join(nodes)}"
            raise UsageError(
                f"the graph stops {when} {named} (interrupt_{when}) and says to no one what it waits for",
                hint="Call interrupt() in a node: what it is given is the question.",
            )


def _check_tools(graph: CompiledStateGraph[Any, Any, Any, Any]) -> None:
    """Say once of each tool that it is executed again whenever its run comes back."""
    for node, tool, is_step in _tools(graph):
        if is_step or _is_left(tool) or (node, tool.name) in _named:
            continue
        _named.add((node, tool.name))
        log.warning(
            "node %s: tool %s is not a step, so it is called again each time the run comes back. "
            'durable_tools([…]) makes it one; metadata={"helmr": False} says that it calls steps of its own.',
            node,
            tool.name,
        )


async def _pending(
    graph: CompiledStateGraph[Any, Any, Any, Any], config: dict[str, Any]
) -> tuple[Interrupt, ...]:
    """Return the graph's pending interrupts, in the order of its nodes and not of their ends."""
    state = await graph.aget_state(cast("Any", config))
    return tuple(interrupt for task in state.tasks for interrupt in task.interrupts)


async def _answer(
    interrupt: Interrupt,
    answers: InputStream[Any],
    correlation_id: str,
    timeout: Duration | None,
    options: Callable[[Any], WaitOptions] | None,
    graph: CompiledStateGraph[Any, Any, Any, Any],
) -> Any:
    shown = interrupt.value
    reviews = _reviews(interrupt)
    if reviews:
        return await _decisions(reviews, answers, correlation_id, timeout, options, graph)
    said = _said(shown) if options is None else options(shown)
    schema = shown.get("schema") if isinstance(shown, Mapping) else None
    schema = getattr(interrupt, "response_schema", None) if schema is None else schema
    return await answers.wait(
        schema=schema, timeout=timeout, correlation_id=correlation_id, **said
    ).unwrap()


def _said(shown: Any) -> WaitOptions:
    """Return the wait's options for the value that an interrupt shows."""
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


# --- tools' calls that people review


@dataclass(frozen=True)
class _Review:
    """A tool's call that `HumanInTheLoopMiddleware` asks about; `allowed` are LangChain's words."""

    request: Mapping[str, Any]
    allowed: tuple[str, ...]
    is_alone: bool
    """The interrupt is about this call only, and takes one decision instead of a list."""

    @property
    def name(self) -> str:
        return str(self.request["name"])

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.request["args"])

    def schema(self, of_arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the schema of the answer: an `Approval` with the allowed decisions."""
        schema = approval_schema(self.name, of_arguments)
        words = {APPROVE: ("approve", "edit"), RESPOND: ("respond",), DECLINE: ("reject",)}
        properties = schema["properties"]
        decisions = [ours for ours, theirs in words.items() if {*theirs} & {*self.allowed}]
        properties["decision"] = {**properties["decision"], "enum": decisions}
        if "edit" not in self.allowed:
            properties["arguments"]["anyOf"] = [{"const": self.arguments}, {"type": "null"}]
        return schema

    def says(self) -> WaitOptions:
        """Return the wait's subject, body and initial value."""
        description = str(self.request.get("description") or "")
        is_own = description and not description.endswith(
            f"Tool: {self.name}\nArgs: {self.request['args']}"
        )
        said: WaitOptions = {
            "subject": call_subject(self.name),
            "body": description if is_own else call_body(self.name, self.arguments),
            "initial": {"arguments": self.arguments},
        }
        if "reject" in self.allowed:
            said["on_decline"] = {"decision": DECLINE}
        return said

    def decision(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """An answer in LangChain's words."""
        decided, reason = answer["decision"], answer.get("reason")
        if decided == DECLINE:
            return {"type": "reject", **({"message": reason} if reason else {})}
        if decided == RESPOND:
            return {"type": "respond", "message": reason or ""}
        given = answer.get("arguments")
        arguments = self.arguments if given is None else given
        if "approve" in self.allowed and arguments == self.arguments:
            return {"type": "approve"}
        return {"type": "edit", "edited_action": {"name": self.name, "args": arguments}}


def _reviews(interrupt: Interrupt) -> list[_Review]:
    """The tools' calls that an interrupt asks about; none of one that asks for something else."""
    shown = interrupt.value
    if not isinstance(shown, Mapping):
        return []
    requests = shown.get("action_requests")
    if isinstance(requests, list):
        configs = {one["action_name"]: one for one in shown.get("review_configs", ())}
        return [
            _Review(one, tuple(configs[one["name"]]["allowed_decisions"]), is_alone=False)
            for one in requests
        ]
    schema = getattr(interrupt, "response_schema", None)
    if shown.get("type") == "tool_approval" and isinstance(schema, Mapping):
        mapping = schema.get("discriminator", {}).get("mapping")
        allowed = mapping or (schema.get("properties", {}).get("type", {}).get("const"),)
        return [_Review(shown, tuple(allowed), is_alone=True)]
    return []


async def _decisions(
    reviews: Sequence[_Review],
    answers: InputStream[Any],
    correlation_id: str,
    timeout: Duration | None,
    options: Callable[[Any], WaitOptions] | None,
    graph: CompiledStateGraph[Any, Any, Any, Any],
) -> Any:
    """Ask people about each call, and return their decisions in the middleware's format."""
    schemas = {tool.name: _arguments_schema(tool) for _, tool, _ in _tools(graph)}
    decisions = []
    for number, review in enumerate(reviews, 1):
        said = review.says()
        if options is not None:
            said = {**said, **options(review.request)}
        schema: Any = review.schema(schemas.get(review.name))
        result = await answers.wait(
            schema=schema,
            timeout=timeout,
            correlation_id=correlation_id if number == 1 else f"{correlation_id}-{number}",
            **said,
        )
        if not result.ok:
            if not isinstance(result.error, WaitTimeout) or "reject" not in review.allowed:
                raise result.error
            decisions.append({"type": "reject", "message": UNANSWERED})
        elif "decision" not in result.value:
            return result.value  # of a wait that took the middleware's own form of an answer
        else:
            decisions.append(review.decision(result.value))
    return decisions[0] if reviews[0].is_alone else {"decisions": decisions}


def _tools(
    graph: CompiledStateGraph[Any, Any, Any, Any],
) -> Iterator[tuple[str, BaseTool, bool]]:
    """Tools of a graph and its subgraphs: the node, the tool, whether its calls are steps."""
    for _, one in (("", graph), *graph.get_subgraphs(recurse=True)):
        if not isinstance(one, CompiledStateGraph):
            continue  # a function, which has no nodes
        for node, spec in one.builder.nodes.items():
            step = getattr(spec.runnable, "afunc", None)
            for holder in (spec.runnable, step):
                for tool in getattr(holder, "tools_by_name", {}).values():
                    is_step = hasattr(getattr(tool, "coroutine", None), IS_STEP)
                    yield node, tool, is_step or holder is step


def _arguments_schema(tool: BaseTool) -> dict[str, Any]:
    """The JSON Schema of what a model calls a tool with."""
    schema: Any = tool.tool_call_schema
    found: dict[str, Any] = schema if isinstance(schema, dict) else schema.model_json_schema()
    return found


# --- nodes and tools


def durable(
    node: Any, *, name: str | None = None, **options: Unpack[StepOptions]
) -> Callable[..., Any]:
    """A node as a step: in a run it is executed once, and its update of the state is recorded.

    It can't interrupt: a node that asks stays as it is.

    Args:
        node: A function, sync or async, an object that is called, a tool node, a subgraph, or any other runnable. Its
            update is JSON, with LangChain's messages, commands and sends anywhere in it.
        name: Name of the step; the node's by default.
        options: As of `step`.

    Raises:
        UsageError: The node can't be a step.
    """
    called = getattr(node, "__name__", None) or type(node).__name__
    step_name = name or (node.get_name() if isinstance(node, Runnable) else called)
    what = f"node {step_name}"
    if isinstance(node, Runnable | StateGraph):
        return _durable_runnable(node, step_name, options)
    function: Any = node if inspect.isroutine(node) else getattr(node, "__call__", None)  # noqa: B004 - the method
    if function is None:
        raise UsageError(f"{what} can't be made durable: a {called} can't be called")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"{what} can't be made durable: it yields its updates one by one",
            hint="Return the whole update.",
        )
    is_async = inspect.iscoroutinefunction(_unwrapped(function))

    @functools.wraps(function)
    async def durable_node(*args: Any, **kwargs: Any) -> Any:
        call = functools.partial(function, *args, **kwargs)
        packing = _packing(call, what) if is_async else _packing_now(call, what)
        packing = functools.partial(packing, *args, **kwargs)
        return unpacked(await step_call(f"node.{step_name}", packing, **options))

    durable_node.__name__ = called
    return durable_node


def _unwrapped(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _durable_runnable(node: Any, step_name: str, options: StepOptions) -> Callable[..., Any]:
    async def durable_node(state: Any, config: RunnableConfig) -> Any:
        call = functools.partial(_invoked, node, state, config)
        packing = functools.partial(_packing(call, f"node {step_name}"), state)
        return unpacked(await step_call(f"node.{step_name}", packing, **options))

    durable_node.__name__ = durable_node.__qualname__ = step_name
    durable_node.__annotations__ = {
        "config": RunnableConfig
    }  # the first one's would be its input's schema
    vars(durable_node)["tools_by_name"] = getattr(node, "tools_by_name", {})
    return durable_node


async def _invoked(node: Any, state: Any, config: RunnableConfig) -> Any:
    """Invoke a runnable. A subgraph has a run of its own, apart from the graph around it."""
    runnable = node.compile() if isinstance(node, StateGraph) else node
    if isinstance(runnable, Pregel):
        kept = {k: v for k, v in config.get("configurable", {}).items() if not _is_inner(k)}
        config = {**config, "configurable": kept}
    return await runnable.ainvoke(state, config)


def _is_inner(key: str) -> bool:
    """True if a key of a configuration is LangGraph's own, for the current run."""
    return key.startswith(("__pregel", "checkpoint"))


def _packing(call: Callable[[], Awaitable[Any]], what: str) -> Callable[..., Any]:
    """The call, whose value is packed where it was made. It ignores its arguments: a stand-in gets them."""

    async def packing(*_args: Any, **_kwargs: Any) -> Any:
        with _staying_inside(what):
            return packed(await call())

    return packing


def _packing_now(call: Callable[[], Any], what: str) -> Callable[..., Any]:
    """Pack like `_packing`, for a sync call."""

    def packing(*_args: Any, **_kwargs: Any) -> Any:
        with _staying_inside(what):
            value = call()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise UsageError(f"{what} gave a coroutine", hint="Write it with `async def`.")
        return packed(value)

    return packing


@contextlib.contextmanager
def _staying_inside(what: str) -> Iterator[None]:
    try:
        yield
    except GraphBubbleUp as error:
        raise UsageError(
            f"{what} is a step, and an interrupt or a command to the graph around it would leave it",
            hint="Leave a node or a tool that asks as it is.",
        ) from error


def durable_tools(tools: Sequence[Any], **options: Unpack[StepOptions]) -> list[Any]:
    """Tools whose calls are steps, for `create_agent`, a tool node or `bind_tools`.

    A tool's name, description and schema stay what they are. What it changes in the context of its `runtime` is
    recorded with its step. It can't interrupt: leave out a tool that asks.

    Args:
        tools: Tools, and functions, of which tools are made. A mapping, which a model's server executes, stays as it
            is, and so does a tool whose metadata has `"helmr": False`: it runs in the task's code.
        options: As of `step`; one try if nothing is said.
    """
    return [one if _is_left(one) else _durable_tool(one, options) for one in tools]


def _is_left(tool: Any) -> bool:
    return (
        isinstance(tool, Mapping) or (getattr(tool, "metadata", None) or {}).get("helmr") is False
    )


def _durable_tool(tool: Any, options: StepOptions) -> BaseTool:
    if not isinstance(tool, BaseTool):
        tool = make_tool(tool)
    function = getattr(tool, "coroutine", None) or getattr(tool, "func", None) or _whole(tool)

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if not in_run():
            value = function(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value
        whole = functools.partial(_tool_value, function, args, kwargs)
        body = functools.partial(_packing(whole, f"tool {tool.name}"), *args, **kwargs)
        context = getattr(kwargs.get("runtime"), "context", None)
        try:
            value = await step_in_context(
                context, "runtime.context", f"tool.{tool.name}", body, **options
            )
        except TooLarge:
            value = TOO_LARGE if tool.response_format == "content" else [TOO_LARGE, None]
        if isinstance(value, dict) and value.keys() == {TOOL_ERROR}:
            raise ToolException(value[TOOL_ERROR])
        value = unpacked(value)
        return value if tool.response_format == "content" else tuple(value)

    vars(call)[IS_STEP] = True
    if "coroutine" in type(tool).model_fields:
        made: BaseTool = tool.model_copy(update={"coroutine": call})
        return made
    kept = ("return_direct", "handle_tool_error", "handle_validation_error", "tags", "metadata")
    return StructuredTool(
        name=tool.name,
        description=tool.description,
        args_schema=tool.args_schema or tool.get_input_schema(),
        coroutine=call,
        response_format=tool.response_format,
        **{name: getattr(tool, name) for name in kept},
    )


def _whole(tool: BaseTool) -> Callable[..., Awaitable[Any]]:
    """A tool that is a class of its own, by its arguments."""

    async def call(**arguments: Any) -> Any:
        if tool.response_format == "content":
            return await tool.ainvoke(arguments)
        asked = {"type": "tool_call", "id": tool.name, "name": tool.name, "args": arguments}
        message = await tool.ainvoke(asked)
        return message.content, message.artifact

    return call


async def _tool_value(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a tool; returns its value, or the error that it reports."""
    try:
        if inspect.iscoroutinefunction(_unwrapped(function)):
            return await function(*args, **kwargs)
        return await asyncio.to_thread(function, *args, **kwargs)
    except ToolException as error:
        return {TOOL_ERROR: str(error)}


# --- models


@overload
def durable_model(
    model: BaseChatModel, *, on_chunk: OnChunk | None = None, **options: Any
) -> BaseChatModel: ...
@overload
def durable_model(
    model: Runnable[Any, Any], *, on_chunk: OnChunk | None = None, **options: Any
) -> Runnable[Any, Any]: ...
def durable_model(
    model: Runnable[Any, Any], *, on_chunk: OnChunk | None = None, **options: Any
) -> Runnable[Any, Any]:
    """A chat model whose requests are steps.

    Args:
        model: The model, or what its `bind_tools` or `bind` has given.
        on_chunk: Called in the step with each piece of a message; a request that is tried again begins again.
            Nothing comes twice because the run was resumed.
        options: As of `step`; up to four tries if they say nothing, and one where an HTTP status says that the request
            is wrong. Under a `limit` a 429 with Retry-After closes it for that long.

    Raises:
        UsageError: It is no chat model.
    """
    if isinstance(model, RunnableBinding):
        durable = durable_model(model.bound, on_chunk=on_chunk, **options)
        return durable.bind(**model.kwargs).with_config(model.config)
    if not isinstance(model, BaseChatModel):
        raise UsageError(
            f"durable_model() takes a chat model, not {type(model).__name__}: wrap the model, then what is made of it"
        )
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
        """Bind tools through the model, and keep the step around it."""
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
        async def request(_messages: list[BaseMessage]) -> Any:
            if self.on_chunk is None:
                return packed(await self.model.ainvoke(messages, stop=stop, **kwargs))
            return packed(await _streamed(self.model, self.on_chunk, messages, stop=stop, **kwargs))

        options = cast("StepOptions", self.step_options)
        asking = functools.partial(closing(request, options), messages)  # which a stand-in gets
        return _result(_message(unpacked(await step_call("model.request", asking, **options))))


async def _streamed(
    model: BaseChatModel, on_chunk: OnChunk, *args: Any, **kwargs: Any
) -> BaseMessage:
    """The message as a whole, shown while it comes."""
    chunks: list[BaseMessageChunk] = []
    async for chunk in model.astream(*args, **kwargs):
        on_chunk(chunk)
        chunks.append(chunk)
    return message_chunk_to_message(functools.reduce(operator.add, chunks))


def _message(value: Any) -> BaseMessage:
    """Return a model's answer as a message; a stand-in may give plain text."""
    if isinstance(value, BaseMessage):
        return value
    return AIMessage(value) if isinstance(value, str) else AIMessage.model_validate(value)


def _result(message: BaseMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


# --- values


def packed(value: Any) -> Any:
    """A value with its messages, commands and sends as JSON that says which they are."""
    if isinstance(value, BaseMessage):
        return {MESSAGE: message_to_dict(value)}
    if isinstance(value, Command):
        names = ("graph", "update", "resume", "goto")
        return {COMMAND: {name: packed(getattr(value, name)) for name in names}}
    if isinstance(value, Send):
        return {SEND: {"node": value.node, "arg": packed(value.arg)}}
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
        if value.keys() == {COMMAND}:
            return Command(**unpacked(value[COMMAND]))
        if value.keys() == {SEND}:
            return Send(**unpacked(value[SEND]))
        return {key: unpacked(part) for key, part in value.items()}
    if isinstance(value, list):
        return [unpacked(part) for part in value]
    return value
