"""Implements `helmr.integrations.pydantic_ai`, on the surface that Pydantic AI has for durable engines."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, TypeVar, cast

from pydantic import JsonValue
from pydantic_ai import ToolApproved, ToolDenied
from pydantic_ai.agent import AgentRunResult, EventStreamHandler
from pydantic_ai.capabilities import AbstractCapability, WrapModelRequestHandler, WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    BoundDurableOperation,
    DurabilityEngineSpec,
    DurableOperation,
    DurableOperationBackend,
    DurableOperationId,
    JournalCallableOperationBackend,
    ModelRequestId,
    ModelRequestParams,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    conversation_id_from_run_id,
)
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.external_events import (
    ExternalEventError,
    ExternalEventWaiter,
    external_event_scope,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    ToolCallPart,
)
from pydantic_ai.models import Model, ModelRequestContext, ModelResolutionContext
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.tools import (
    AgentDepsT,
    DeferredToolApprovalResult,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
)
from pydantic_ai.toolsets import ToolsetTool

from helmr import tokens
from helmr.approvals import TOO_LARGE, UNANSWERED, Approval, ask_approval
from helmr.current import durable_call, in_run, require_run
from helmr.errors import TooLarge, WaitTimeout
from helmr.integrations import closing, retried
from helmr.integrations.conversation import ItemForm, KeptConversation
from helmr.integrations.tool_context import step_in_context, with_arguments
from helmr.limits import LimitName
from helmr.person.forms.tool_call import call_body, call_subject
from helmr.steps import StepOptions, step_call
from helmr.streams import InputStream, OutputStream, turn
from helmr.wait_details import WaitOptions
from helmr.wire.durations import Duration

NOTHING_SAID: StepOptions = {}
MODEL: StepOptions = {"retries": 3}
TOKEN_LIFE = timedelta(days=365)
"""Lifetime of a wait for an outside event that sets no limit."""


ParamsT = TypeVar("ParamsT")
WireT = TypeVar("WireT")
ResultT = TypeVar("ResultT")
_params: ContextVar[Any] = ContextVar("helmr_pydantic_ai_params", default=None)
"""Parameters of the current operation."""


DEFAULT = "default"
"""Pydantic AI's id for an agent's own model; names of its steps leave it out."""


class _WithDeps(BoundDurableOperation[ParamsT, WireT, ResultT]):
    """An operation whose step knows the parameters of its body."""

    def __init__(self, bound: BoundDurableOperation[ParamsT, WireT, ResultT]) -> None:
        self._bound = bound

    @property
    def operation(self) -> DurableOperation[ParamsT, WireT, ResultT]:
        return self._bound.operation

    async def __call__(self, params: ParamsT, *, config: object | None = None) -> ResultT:
        token = _params.set(params)
        try:
            return await self._bound(params, config=config)
        finally:
            _params.reset(token)


def _shown(params: Any, body: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    """Give the body the arguments that its stand-in in a `replay` gets: a model's messages, a tool's arguments."""
    if isinstance(params, ModelRequestParams):
        return with_arguments(body, params.messages, params.model_request_parameters)
    if isinstance(arguments := getattr(params, "tool_args", None), dict):
        return with_arguments(body, **arguments)
    return with_arguments(body)


def _payload(operation_id: DurableOperationId, value: object) -> object:
    """A recorded value, or what a stand-in gave, as Pydantic AI has it recorded."""
    if isinstance(operation_id, ModelRequestId) and isinstance(value, str):
        part = {"part_kind": "text", "content": value}
        return {"kind": "response", "parts": [part]}
    if isinstance(operation_id, ToolsetCallToolId) and not (
        isinstance(value, dict) and "kind" in value
    ):
        return {"kind": "tool_return", "result": value}
    return value


class _Steps(JournalCallableOperationBackend[StepOptions]):
    """Executes each operation of an agent as a step, whose name is the one that Pydantic AI promises to keep."""

    def bind(
        self, operation: DurableOperation[ParamsT, WireT, ResultT]
    ) -> BoundDurableOperation[ParamsT, WireT, ResultT]:
        return _WithDeps(super().bind(operation))

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: StepOptions,
    ) -> object:
        params = _params.get()
        context = getattr(params, "ctx", None) or getattr(params, "run_context", None)
        deps = getattr(context, "deps", None)
        asks_model = isinstance(params, ModelRequestParams)
        shown = _shown(params, closing(body, config) if asks_model else body)
        try:
            value = await step_in_context(deps, "deps", name, shown, **config)
            return _payload(operation_id, value)
        except TooLarge as error:
            if not isinstance(operation_id, ToolsetCallToolId):
                raise
            raise ToolFailed(TOO_LARGE) from error


class _Waiter(ExternalEventWaiter):
    """An outside event is the completion of a token."""

    async def wait(
        self,
        name: str,
        *,
        ask: Callable[[str], Awaitable[JsonValue]],
        timeout: timedelta | None,
    ) -> JsonValue:
        token = await tokens.create(timeout=timeout or TOKEN_LIFE, subject=name)
        answer: JsonValue = await step_call(f"ask:{name}", ask, token.id)
        if answer is not None:
            await tokens.cancel(token.id)
            return answer
        async with turn("wait_for_external_event()"):
            result = await token.wait()
        if not result.ok:
            raise ExternalEventError(str(result.error))
        return cast("JsonValue", result.value)


@dataclass(init=False, kw_only=True)
class HelmrDurability(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent durable: in a run, its model requests, tool calls and MCP calls are steps.

    Tools and model know nothing of it. In a run an agent needs a name, which is part of the names of its steps. A tool
    opts out, so that it can wait and call steps of its own, by `metadata={"helmr": False}`;
    `{"helmr": {"retries": 2}}` gives it options of its own.

    Args:
        models: More models than the agent's own, by the ids that `agent.run(model=…)` names them by.
        event_stream_handler: Gets the events of the run, in steps.
        name: Instead of the agent's, in the names of steps.
        model: Options of model requests; up to four tries if not given, one where an HTTP status says that the
            request is wrong.
        limit: Limit for model requests; a 429 with Retry-After closes it for that long.
        tool: Options of tool calls; one try if not given.
        mcp: Options of what is asked of MCP servers, as for tools.
    """

    # Each step enters its own MCP session, on the loop that all steps of a process share: one that was held for a run
    # would not outlive a park, and would end on another loop than the one it began on.
    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="Helmr",
        durable_unit_noun="step",
        durable_container_noun="task",
        codec=JSON_CODEC,
        toolset_lifecycles={
            "function": "enter-always",
            "mcp": "enter-never",
            "dynamic": "enter-never",
        },
        tool_config_key="helmr",
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
        model: StepOptions = MODEL,
        limit: LimitName | None = None,
        tool: StepOptions = NOTHING_SAID,
        mcp: StepOptions = NOTHING_SAID,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._named_models = tuple((models or {}).values())
        self._model_options = retried(model, limit)
        self._tool_options, self._mcp_options = tool, mcp

    @property
    def in_durable_context(self) -> bool:
        """True in a run's code, but not in a step."""
        return in_run()

    def get_default_run_id(self) -> str | None:
        """Return an id that is the same at each replay; None outside a run."""
        return str(require_run("agent.run()").uuid()) if in_run() else None

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Return an id that is the same at each replay; None outside a run."""
        return conversation_id_from_run_id(run_id) if in_run() else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:
        """Return the journal's time, which replays; None outside a run."""
        return require_run("agent.run()").now() if in_run() else None

    def get_durable_operation_backend(self) -> DurableOperationBackend[StepOptions]:
        """Return the backend that makes operations steps."""

        def of_tool(
            operation_id: DurableOperationId, tool: object | None, tool_name: str
        ) -> StepOptions | Literal[False]:
            kind = getattr(operation_id, "toolset_kind", "mcp")
            options = self._tool_options if kind == "function" else self._mcp_options
            resolve = self._build_resolve_tool_config(options)
            found = resolve(cast("ToolsetTool[Any] | None", tool), tool_name)
            return cast("StepOptions | Literal[False]", found)

        return _Steps(
            agent_name=self.name,
            config=RoleBasedOperationConfig(
                model=self._model_options,
                event=NOTHING_SAID,
                capability=NOTHING_SAID,
                tool=self._tool_options,
                resolve_tool=of_tool,
            ),
        )

    async def wrap_model_request(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        request_context: ModelRequestContext,
        handler: WrapModelRequestHandler,
    ) -> ModelResponse:
        """Allow any model: a step has the very object that the run has, and a replay makes it again."""
        if in_run() and request_context.model_id is None:
            asked = request_context.model
            if not self._is_named(asked):
                # What a request is made with goes to its step. Who asks for it, a task that reads its stream for one,
                # is not in this call.
                request_context.model_id = DEFAULT
                ctx = replace(ctx, model=asked)
        return await super().wrap_model_request(
            ctx, request_context=request_context, handler=handler
        )

    def _is_named(self, model: Model) -> bool:
        """True for one of `models`, whose names are part of their steps' names."""
        while model not in self._named_models:
            if not isinstance(model, WrapperModel):
                return False
            model = model.wrapped
        return True

    async def resolve_model_id(
        self, ctx: ModelResolutionContext[AgentDepsT], *, model_id: str
    ) -> Model | None:
        """Return the very model that the request is made with."""
        asked = getattr(getattr(_params.get(), "run_context", None), "model", None)
        if model_id == DEFAULT and isinstance(asked, Model):
            return asked
        return await super().resolve_model_id(ctx, model_id=model_id)

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        """Turn waits for outside events, such as `RequestInput`, into waits on tokens."""
        if not in_run():
            return await super().wrap_run(ctx, handler=handler)
        with external_event_scope(_Waiter()):
            return await super().wrap_run(ctx, handler=handler)


@dataclass
class DeferredToolWaits(AbstractCapability[AgentDepsT]):
    """In a run, people approve the calls of tools that need it, and give results of tools that are executed elsewhere.

    Each call is a wait, with the call's id as correlation id. Outside a run the calls are left to the agent's caller.

    Attributes:
        approvals: Stream on which people approve; None leaves approvals to other capabilities.
        calls: Stream on which results of calls that are executed elsewhere arrive.
        timeout: Timeout of each wait; then an approval is denied, and a call has failed.
        options: Returns more options of the wait for a call.
    """

    approvals: InputStream[Approval] | None = None
    calls: InputStream[Any] | None = None
    timeout: Duration | None = None
    options: Callable[[ToolCallPart], WaitOptions] | None = None

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """None: streams are objects of the code."""
        return None

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Ask about each call, in the order in which the model made them."""
        if not in_run():
            return None
        results = DeferredToolResults()
        if self.approvals is not None:
            for call in requests.approvals:
                results.approvals[call.tool_call_id] = await self._approve(
                    ctx, call, self.approvals
                )
        if self.calls is not None:
            for call in requests.calls:
                results.calls[call.tool_call_id] = await self._result(call, self.calls)
        return results

    async def _approve(
        self, ctx: RunContext[AgentDepsT], call: ToolCallPart, stream: InputStream[Approval]
    ) -> DeferredToolApprovalResult:
        definition = ctx.tools.get(call.tool_name)
        answer = await ask_approval(
            stream,
            call.tool_name,
            call.args_as_dict(),
            call_id=call.tool_call_id,
            arguments_schema=definition.parameters_json_schema if definition else None,
            timeout=self.timeout,
            **self._said(call),
        )
        if answer.approved:
            return ToolApproved(override_args=answer.arguments)
        return ToolDenied(answer.reason) if answer.reason else ToolDenied()

    async def _result(self, call: ToolCallPart, stream: InputStream[Any]) -> Any:
        said: WaitOptions = {
            "subject": call_subject(call.tool_name),
            "body": call_body(call.tool_name, call.args_as_dict()),
            **self._said(call),
        }
        async with turn("agent.run()"):
            result = await stream.wait(
                timeout=self.timeout, correlation_id=call.tool_call_id, **said
            )
        if result.ok:
            return result.value
        if isinstance(result.error, WaitTimeout):
            return ToolFailed(UNANSWERED)
        raise result.error

    def _said(self, call: ToolCallPart) -> WaitOptions:
        return self.options(call) if self.options is not None else {}


class HelmrHistory:
    """The messages of a session's conversation, kept in an output stream: `continue_as` needs no copy of them.

    ```python
    result = await agent.run(text, message_history=await history.messages())
    await history.add(result.new_messages())
    ```

    Args:
        stream: Holds this conversation and nothing else: `streams.output("turns")`. Anyone who may read it reads all
            that the model sees.
    """

    def __init__(self, stream: OutputStream[Any]) -> None:
        self._conversation = KeptConversation(stream, FORM)

    @durable_call("HelmrHistory.messages()")
    async def messages(self) -> list[ModelMessage]:
        """The conversation so far.

        Raises:
            NotInTask: Outside a run's code.
        """
        return await self._conversation.items()

    @durable_call("HelmrHistory.add()")
    async def add(self, messages: Sequence[ModelMessage]) -> None:
        """Append the messages of a turn. One turn at a time."""
        await self._conversation.add(messages)

    @durable_call("HelmrHistory.replace()")
    async def replace(self, messages: Sequence[ModelMessage]) -> None:
        """Make the conversation these messages, a summary for one; those that it has are not stored again."""
        await self._conversation.become(messages)


def _messages_of(text: str) -> list[ModelMessage]:
    return ModelMessagesTypeAdapter.validate_json(text)


def _json_of(messages: Sequence[ModelMessage]) -> list[Any]:
    return [_json_of_one(message) for message in messages]


def _json_of_one(message: ModelMessage) -> Any:
    """Encode a message without null fields, of which most have twenty, unless it would read back differently."""
    whole, bare = _dumped(message), _dumped(message, exclude_none=True)
    try:
        [read] = _messages_of(json.dumps([bare]))
    except ValueError:
        return whole
    return bare if _dumped(read) == whole else whole


def _dumped(message: ModelMessage, *, exclude_none: bool = False) -> Any:
    dump = ModelMessagesTypeAdapter.dump_python
    [found] = dump([message], mode="json", exclude_none=exclude_none)
    return found


FORM = ItemForm(_messages_of, _json_of)
