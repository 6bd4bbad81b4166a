"""The tools: one for each task, and the runtime's own by what the caller's role may do.

A client without the Tasks extension hears of a run by `helmr_result`. Answering by a tool needs a role that may answer
any wait: a model that holds a key to start tasks does not answer in its user's place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from pydantic import BaseModel, ConfigDict, Field

from helmr.forms.reader import find_reference
from helmr.models import (
    ASSIGNEE_MAX,
    TOKEN_TAG_MAX,
    AfterQuery,
    AnswerRequest,
    SendRequest,
    TaskInfo,
    WaitsQuery,
)
from helmr.roles import Need
from helmr_runtime.http.mcp.calls import HOLD_S, handle_of, result_of, told
from helmr_runtime.http.mcp.runs import McpRuns

PREFIX = "helmr_"
"""Of the runtime's own tools; a task whose id begins so has another name as a tool."""

PAYLOAD = "payload"
"""The argument of a task whose payload is no object."""

ENTRIES_SHOWN = 50

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_NAME_CHARACTERS_MAX = 64
_LISTED = {"body", "json_schema", "initial", "on_decline"}


# --- tasks ------------------------------------------------------------------------------------------


def tool_name(task_id: str) -> str:
    """The task's id; where no client would take that as a tool's name, one made of it."""
    if _NAME.fullmatch(task_id) and not task_id.startswith(PREFIX):
        return task_id
    suffix = hashlib.sha256(task_id.encode()).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", task_id).removeprefix(PREFIX)
    return f"{plain[: _NAME_CHARACTERS_MAX - len(suffix) - 1]}_{suffix}"


def task_tool(task: TaskInfo) -> types.Tool:
    """The task as a tool."""
    return types.Tool(
        name=tool_name(task.id),
        description=task.doc or f"Runs {task.id}.",
        input_schema=arguments_schema(task.payload_schema),
    )


def is_wrapped(schema: dict[str, Any] | bool) -> bool:
    """True if the payload need not be an object, so that it is one argument."""
    if isinstance(schema, bool):
        return False
    return _resolved(schema).get("type") != "object"


def arguments_schema(schema: dict[str, Any] | bool) -> dict[str, Any]:
    """The payload's schema as that of a tool's arguments, which are an object."""
    if isinstance(schema, bool):
        return {"type": "object"}
    if not is_wrapped(schema):
        return {**schema, "type": "object"}
    shared: dict[str, Any] = {
        name: schema[name] for name in ("$defs", "definitions") if name in schema
    }
    own = {name: part for name, part in schema.items() if name not in shared}
    return {"type": "object", "properties": {PAYLOAD: own}, "required": [PAYLOAD], **shared}


def payload_of(task: TaskInfo, arguments: Mapping[str, Any] | None) -> Any:
    """What a call's arguments are for the task."""
    given = dict(arguments or {})
    return given.get(PAYLOAD) if is_wrapped(task.payload_schema) else given


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    target = find_reference(schema, schema.get("$ref"))
    return target if isinstance(target, dict) else schema


# --- the runtime's own ------------------------------------------------------------------------------


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _RunArguments(_Arguments):
    run_id: str = Field(max_length=64, description="As the call that started it gave.")


class _ResultArguments(_RunArguments):
    wait_s: float = Field(
        default=0, ge=0, le=HOLD_S, description="Seconds to hold the answer until there is news."
    )


class _WaitsArguments(_Arguments):
    task: str | None = Field(default=None, min_length=1, max_length=200)
    stream: str | None = Field(default=None, min_length=1, max_length=128)
    tag: str | None = Field(default=None, min_length=1, max_length=TOKEN_TAG_MAX)
    assignee: str | None = Field(default=None, min_length=1, max_length=ASSIGNEE_MAX)
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, min_length=1, max_length=2_000)


class _WaitArguments(_Arguments):
    wait_id: str = Field(max_length=64)


class _AnswerArguments(_WaitArguments):
    data: Any = Field(description="JSON that fits the wait's schema.")


class _SessionArguments(_Arguments):
    session_id: str = Field(max_length=64)


class _SendArguments(_SessionArguments):
    stream: str = Field(max_length=128)
    data: Any = Field(description="JSON that fits the stream's schema.")
    correlation_id: str | None = None
    idempotency_key: str | None = Field(
        default=None, min_length=1, description="A second call with it sends nothing."
    )


async def _result(runs: McpRuns, given: _ResultArguments) -> types.CallToolResult:
    view = await runs.view(given.run_id)
    if given.wait_s:
        passing = view.wait.id if view.wait is not None else None
        view = await runs.settled(view, given.wait_s, passing=passing)
    return result_of(view) if view.run.status.is_final else handle_of(view)


async def _cancel(runs: McpRuns, given: _RunArguments) -> types.CallToolResult:
    await runs.cancel(await runs.view(given.run_id, Need.STEER))
    return told(f"{given.run_id} is cancelled, unless it had ended")


async def _waits(runs: McpRuns, given: _WaitsArguments) -> types.CallToolResult:
    page = await runs.service.waits.list(WaitsQuery(**given.model_dump(exclude_none=True)))
    return _shown(page, exclude={"items": {"__all__": _LISTED}})


async def _wait(runs: McpRuns, given: _WaitArguments) -> types.CallToolResult:
    return _shown(await runs.service.waits.get(given.wait_id))


async def _answer(runs: McpRuns, given: _AnswerArguments) -> types.CallToolResult:
    request = AnswerRequest(data=given.data)
    return _shown(await runs.service.waits.answer(runs.own_caller, given.wait_id, request))


async def _session(runs: McpRuns, given: _SessionArguments) -> types.CallToolResult:
    session = await runs.service.sessions.get(given.session_id)
    page = await runs.service.sessions.transcript(
        session.id,
        AfterQuery(after=max(0, session.last_seq - ENTRIES_SHOWN), limit=ENTRIES_SHOWN),
    )
    shown = {
        "session": session.model_dump(by_alias=True, mode="json"),
        "newest_entries": [entry.model_dump(by_alias=True, mode="json") for entry in page.items],
    }
    return told(f"{session.id} is {session.activity.value}", structured=shown)


async def _send(runs: McpRuns, given: _SendArguments) -> types.CallToolResult:
    request = SendRequest(**given.model_dump(exclude={"session_id", "stream"}))
    receipt = await runs.service.sessions.send(
        runs.own_caller, given.session_id, given.stream, request
    )
    return _shown(receipt)


def _shown(model: BaseModel, *, exclude: Any = None) -> types.CallToolResult:
    text = model.model_dump_json(by_alias=True, exclude=exclude, exclude_none=True)
    structured = model.model_dump(by_alias=True, mode="json", exclude=exclude, exclude_none=True)
    return told(text, structured=structured)


@dataclass(frozen=True, slots=True)
class OwnTool:
    """A tool of the runtime's own: who has it, what it takes and does. `needs`: one of them is enough."""

    name: str
    description: str
    needs: tuple[Need, ...]
    arguments: type[BaseModel]
    run: Callable[[McpRuns, Any], Awaitable[types.CallToolResult]]
    is_read: bool = False

    def is_for(self, runs: McpRuns) -> bool:
        """True if the caller has it."""
        return any(runs.may(need) for need in self.needs)

    def listed(self) -> types.Tool:
        """As clients see it."""
        return types.Tool(
            name=self.name,
            description=self.description,
            input_schema=self.arguments.model_json_schema(),
            annotations=types.ToolAnnotations(read_only_hint=self.is_read, open_world_hint=False),
        )


OWN_TOOLS = (
    OwnTool(
        "helmr_result",
        "What a run that was started by a task's tool came to, or where it stands.",
        (Need.START, Need.READ),
        _ResultArguments,
        _result,
        is_read=True,
    ),
    OwnTool(
        "helmr_cancel",
        "Cancel a run that was started by a task's tool.",
        (Need.START, Need.STEER),
        _RunArguments,
        _cancel,
    ),
    OwnTool(
        "helmr_waits",
        "What waits for people: soonest end first, without question and schema.",
        (Need.READ,),
        _WaitsArguments,
        _waits,
        is_read=True,
    ),
    OwnTool(
        "helmr_wait",
        "One wait in full: its question, and the JSON Schema that its answer must fit.",
        (Need.READ,),
        _WaitArguments,
        _wait,
        is_read=True,
    ),
    OwnTool(
        "helmr_answer",
        "Answer exactly this wait. Only with what a person has decided.",
        (Need.ANSWER,),
        _AnswerArguments,
        _answer,
    ),
    OwnTool(
        "helmr_session",
        f"A session: its state, and its newest {ENTRIES_SHOWN} entries.",
        (Need.READ,),
        _SessionArguments,
        _session,
        is_read=True,
    ),
    OwnTool(
        "helmr_send",
        "Append a record to a session's input stream.",
        (Need.SEND,),
        _SendArguments,
        _send,
    ),
)
