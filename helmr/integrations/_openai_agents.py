"""Implements `helmr.integrations.openai_agents`: copies agents, with steps around their side effects."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from agents import (
    Agent,
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    FunctionTool,
    Handoff,
    LocalShellTool,
    ModelProvider,
    ModelResponse,
    RunConfig,
    Runner,
    RunResult,
    RunState,
    ShellTool,
    Usage,
)
from agents.exceptions import ModelBehaviorError
from agents.items import ToolApprovalItem, TResponseInputItem, TResponseStreamEvent
from agents.mcp import MCPServer
from agents.memory import SessionABC
from agents.models.interface import Model
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest
from agents.tool import Tool
from agents.tool_context import ToolContext
from mcp.types import CallToolResult
from mcp.types import Tool as McpTool
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputItem,
    ResponseOutputItemDoneEvent,
)

from helmr.approvals import TOO_LARGE, Approval, ask_approval
from helmr.current import durable_call, in_run
from helmr.errors import BadJson, TooLarge, UsageError
from helmr.integrations import closing, retried
from helmr.integrations.conversation import ItemForm, KeptConversation
from helmr.integrations.tool_context import step_in_context
from helmr.limits import LimitName
from helmr.steps import StepOptions, step_call
from helmr.streams import InputStream, OutputStream
from helmr.wait_details import WaitOptions
from helmr.wire.durations import Duration
from helmr.wire.jsonio import loads

T = TypeVar("T")

OnEvent = Callable[[TResponseStreamEvent], None]

NOTHING_SAID: StepOptions = {}
MODEL: StepOptions = {"retries": 3}
EXECUTED_HERE = (ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool, ShellTool)
"""Tools whose calls the SDK executes itself: nothing lies between its loop and the world that could be a step."""


@durable_call("run()")
async def run(
    agent: Agent[T],
    input: str | list[TResponseInputItem],
    *,
    approvals: InputStream[Approval] | None = None,
    timeout: Duration | None = None,
    options: Callable[[ToolApprovalItem], WaitOptions] | None = None,
    on_event: OnEvent | None = None,
    model: StepOptions = MODEL,
    limit: LimitName | None = None,
    tool: StepOptions = NOTHING_SAID,
    inline: Collection[str] = (),
    run_config: RunConfig | None = None,
    **runner: Any,
) -> RunResult:
    """Run an agent to its end; in a durable run its model requests, tool calls and MCP calls are steps.

    Args:
        agent: It and the agents that it hands off to are copied, not changed.
        input: Passed to `Runner.run`.
        approvals: Stream for approvals of tools with `needs_approval`; None leaves them in `interruptions`.
        timeout: Timeout of each approval; then the call is rejected.
        options: Returns more options of the wait for a call.
        on_event: Called in the step with each event of a model's response; a request that is tried again begins
            again. Nothing comes twice because the run was resumed. Outside a run it is not called.
        model: Options of model requests; up to four tries if not given, one where an HTTP status says that the
            request is wrong.
        limit: Limit for model requests; a 429 with Retry-After closes it for that long.
        tool: Options of tool calls and of what MCP servers are asked; one try if not given.
        inline: Names of tools that run in the task's code, so that they can call steps and wait.
        run_config: Passed to `Runner.run`. Without one a durable run is not traced: each resume would trace it again.
        runner: More arguments of `Runner.run`.

    Raises:
        UsageError: An agent has a tool whose calls the SDK executes itself, a shell for one, or an agent as a tool that
            would ask people.
    """
    if not in_run():
        return await Runner.run(agent, input, run_config=run_config, **runner)
    durable = _Durable(retried(model, limit), tool, inline, on_event)
    own = durable.agent(agent)
    config = durable.config(run_config or RunConfig(tracing_disabled=True))
    result = await Runner.run(own, input, run_config=config, **runner)
    while result.interruptions and approvals is not None:
        state: RunState[T] = result.to_state()
        for item in result.interruptions:
            said = options(item) if options is not None else WaitOptions()
            await durable.decide(state, item, approvals, timeout, said)
        result = await Runner.run(own, state, run_config=config, **runner)
    return result


class _Durable:
    """The durable copies of a run's agents, and the arguments that people have changed."""

    def __init__(
        self,
        model: StepOptions,
        tool: StepOptions,
        inline: Collection[str],
        on_event: OnEvent | None,
    ) -> None:
        self._model_options, self._tool_options, self._inline = model, tool, inline
        self._on_event = on_event
        self._copies: dict[int, tuple[Agent[Any], Agent[Any]]] = {}
        self._edited: dict[str, str] = {}

    def config(self, config: RunConfig) -> RunConfig:
        """The configuration with durable models."""
        return dataclasses.replace(
            config,
            model=self._model(config.model),
            model_provider=_DurableProvider(config.model_provider, self._model),
        )

    def agent(self, agent: Agent[Any]) -> Agent[Any]:
        """An agent's copy, the same each time: agents may hand off to each other in a circle."""
        if id(agent) not in self._copies:
            made = agent.clone()
            self._copies[id(agent)] = (agent, made)
            made.model = self._model(agent.model)
            made.tools = [self._tool(one) for one in agent.tools]
            made.handoffs = [self._handoff(one) for one in agent.handoffs]
            made.mcp_servers = [self._server(one) for one in agent.mcp_servers]
        return self._copies[id(agent)][1]

    def _model(self, model: str | Model | None) -> Any:
        if not isinstance(model, Model):
            return model
        return _DurableModel(model, self._model_options, self._on_event)

    def _handoff(self, handoff: Agent[Any] | Handoff[Any, Any]) -> Agent[Any] | Handoff[Any, Any]:
        if isinstance(handoff, Agent):
            return self.agent(handoff)
        if (known := _of_handoff(handoff)) is not None:
            self.agent(known)  # refused now, not in the middle of the run

        async def invoke(context: Any, arguments: str) -> Agent[Any]:
            return self.agent(await handoff.on_invoke_handoff(context, arguments))

        return dataclasses.replace(handoff, on_invoke_handoff=invoke)

    def _tool(self, tool: Tool) -> Tool:
        if isinstance(tool, EXECUTED_HERE):
            raise UsageError(
                f"calls of {tool.name} are executed by the SDK itself, and would be executed again at each resume",
                hint="Give the agent a function tool that does it.",
            )
        if not isinstance(tool, FunctionTool):
            return tool  # executed where the model is
        _check_agent_tool(tool)

        async def invoke(context: ToolContext[Any], arguments: str) -> Any:
            given = self._edited.get(context.tool_call_id, arguments)
            if tool.name in self._inline:
                return await tool.on_invoke_tool(context, given)
            call = functools.partial(tool.on_invoke_tool, context, given)
            try:
                return await step_in_context(
                    context.context, "context", f"tool.{tool.name}", call, **self._tool_options
                )
            except TooLarge:
                return TOO_LARGE

        return dataclasses.replace(tool, on_invoke_tool=invoke)

    def _server(self, server: MCPServer) -> MCPServer:
        durable: Any = copy.copy(server)

        async def list_tools(*args: Any, **kwargs: Any) -> list[McpTool]:
            call = functools.partial(_asked, server, server.list_tools, *args, **kwargs)
            name = f"mcp.{server.name}.list_tools"
            return await step_call(name, call, result=list[McpTool], **self._tool_options)

        async def call_tool(tool_name: str, *args: Any, **kwargs: Any) -> CallToolResult:
            call = functools.partial(_asked, server, server.call_tool, tool_name, *args, **kwargs)
            name = f"mcp.{server.name}.{tool_name}"
            try:
                return await step_call(name, call, result=CallToolResult, **self._tool_options)
            except TooLarge:
                said = {"content": [{"type": "text", "text": TOO_LARGE}], "isError": True}
                return CallToolResult.model_validate(said)

        durable.list_tools, durable.call_tool = list_tools, call_tool
        made: MCPServer = durable
        return made

    async def decide(
        self,
        state: RunState[Any],
        item: ToolApprovalItem,
        stream: InputStream[Approval],
        timeout: Duration | None,
        said: WaitOptions,
    ) -> None:
        """Ask a person to approve a call or reject it."""
        schemas = [
            tool.params_json_schema
            for tool in item.agent.tools
            if isinstance(tool, FunctionTool) and tool.name == item.name
        ]
        answer = await ask_approval(
            stream,
            item.name or "a tool",
            _arguments(item),
            call_id=item.call_id,
            arguments_schema=schemas[0] if schemas else None,
            timeout=timeout,
            **said,
        )
        if not answer.approved:
            state.reject(item, rejection_message=answer.reason)
            return
        if answer.arguments is not None and item.call_id is not None:
            self._edited[item.call_id] = json.dumps(answer.arguments)
        state.approve(item)


def _check_agent_tool(tool: FunctionTool) -> None:
    """Refuse an agent as a tool that would ask people: its run is one step, and is gone when they have answered."""
    agent: Agent[Any] | None = getattr(tool, "_agent_instance", None)
    for owner, name in _asked_about(agent, set()) if agent is not None else ():
        raise UsageError(
            f"agent {owner.name} is reached by the tool {tool.name}, which is an agent as a tool, and its {name} needs "
            "approval: a call of such a tool is one step, which can't wait for a person",
            hint="Hand off to the agent; or write a function tool that awaits run() for it, and name it in inline=.",
        )


def _asked_about(agent: Agent[Any], seen: set[int]) -> Iterator[tuple[Agent[Any], str]]:
    """Yield the tools that need approval, of an agent and of those that it hands off to or calls."""
    if id(agent) in seen:
        return
    seen.add(id(agent))
    others: list[Agent[Any] | None] = [_of_handoff(one) for one in agent.handoffs]
    for tool in agent.tools:
        if getattr(tool, "is_enabled", True) is False:
            continue
        if getattr(tool, "needs_approval", False):
            yield agent, f"tool {tool.name}"
        others.append(getattr(tool, "_agent_instance", None))
    for server in agent.mcp_servers:
        if getattr(server, "_needs_approval_policy", False):
            yield agent, f"MCP server {server.name}"
    for other in others:
        if other is not None:
            yield from _asked_about(other, seen)


def _of_handoff(handoff: Agent[Any] | Handoff[Any, Any]) -> Agent[Any] | None:
    """The agent, unless only the call will tell it."""
    if isinstance(handoff, Agent):
        return handoff
    known = getattr(handoff, "_agent_ref", None)
    return known() if known is not None else None


_sessions: WeakKeyDictionary[MCPServer, asyncio.Lock] = WeakKeyDictionary()
"""A server object has one session at a time."""


async def _asked(
    server: MCPServer, ask: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
) -> Any:
    """Ask in a separate MCP session: one held for a run would not outlive a park."""
    async with _sessions.setdefault(server, asyncio.Lock()), server:  # type: ignore[attr-defined]
        return await ask(*args, **kwargs)


def _arguments(item: ToolApprovalItem) -> dict[str, Any]:
    """Return the arguments of a tool call, whatever a model wrote there."""
    try:
        found = loads(item.arguments or "{}")
    except BadJson:
        return {"arguments": item.arguments}
    return found if isinstance(found, dict) else {"arguments": found}


class _DurableModel(Model):
    """Each request is a step. The model's clients live on the loop that all steps share."""

    def __init__(self, model: Model, options: StepOptions, on_event: OnEvent | None) -> None:
        self._wrapped, self._options, self._on_event = model, options, on_event

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        return self._wrapped.get_retry_advice(request)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        if self._on_event is None:
            asking = closing(self._wrapped.get_response, self._options)
            call = functools.partial(asking, *args, **kwargs)
        else:
            streamed = closing(_streamed, self._options)
            call = functools.partial(streamed, self._wrapped, self._on_event, *args, **kwargs)
        return await step_call("model.request", call, result=ModelResponse, **self._options)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        raise UsageError(
            "in a durable run a model's response is one step",
            hint="run(…, on_event=…) gets its events as they come.",
        )


async def _streamed(model: Model, on_event: OnEvent, *args: Any, **kwargs: Any) -> ModelResponse:
    """The response as a whole, shown while it comes.

    Raises:
        ModelBehaviorError: It broke off.
    """
    items: list[ResponseOutputItem] = []
    done: Response | None = None
    last = "nothing"
    async for event in model.stream_response(*args, **kwargs):
        on_event(event)
        last = event.type
        if isinstance(event, ResponseOutputItemDoneEvent):
            items.append(event.item)
        elif isinstance(event, ResponseCompletedEvent):
            done = event.response
    if done is None:
        raise ModelBehaviorError(f"the model's response broke off after {last}")
    used = done.usage
    usage = Usage(requests=1)
    if used is not None:
        usage = Usage(
            requests=1,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            total_tokens=used.total_tokens,
            input_tokens_details=used.input_tokens_details,
            output_tokens_details=used.output_tokens_details,
        )
    # Some servers say the items one by one and leave the list empty.
    return ModelResponse(output=done.output or items, usage=usage, response_id=done.id)


class _DurableProvider(ModelProvider):
    """Durable models by name."""

    def __init__(self, provider: ModelProvider, durable: Callable[[Model], Model]) -> None:
        self._wrapped, self._durable = provider, durable

    def get_model(self, model_name: str | None) -> Model:
        return self._durable(self._wrapped.get_model(model_name))


FORM: ItemForm[TResponseInputItem] = ItemForm(json.loads, list)


class HelmrSession(SessionABC):
    """A session of the SDK whose items an output stream keeps: `continue_as` needs no copy of them.

    ```python
    result = await run(agent, text, session=HelmrSession(turns))
    ```

    Args:
        stream: Holds this conversation and nothing else: `streams.output("turns")`. Anyone who may read it reads all
            that the model sees.
    """

    def __init__(self, stream: OutputStream[Any]) -> None:
        self.session_id = stream.id
        self._conversation = _conversation(stream)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The items so far, or the newest of them.

        Raises:
            NotInTask: Outside a run's code.
        """
        items = await self._conversation.items()
        return items if limit is None else items[len(items) - min(limit, len(items)) :]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items."""
        await self._conversation.add(items)

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the newest item away."""
        items = await self._conversation.items()
        if not items:
            return None
        await self._conversation.become(items[:-1])
        return items[-1]

    async def clear_session(self) -> None:
        """Take all items away."""
        await self._conversation.become([])


@functools.cache
def _conversation(stream: OutputStream[Any]) -> KeptConversation[TResponseInputItem]:
    """Return the conversation of a stream; several session objects share it."""
    return KeptConversation(stream, FORM)
