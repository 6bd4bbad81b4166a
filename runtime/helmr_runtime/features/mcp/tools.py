"""The tools: one for each task, and the runtime's own as the caller's role allows.

A client without the Tasks extension gets results by `helmr_result`. The tool that answers needs a role that may answer
any wait: a model with a key that starts tasks must not answer in its user's place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import mcp_types as types
from pydantic import BaseModel, ConfigDict, Field, create_model

from helmr.models import TaskInfo
from helmr.person.forms.reader import find_reference
from helmr.wire.operation import PATH_IDS, Operation, Repeat
from helmr.wire.operations import (
    ANSWER_WAIT,
    CANCEL_RUN,
    GET_RUN,
    GET_SESSION,
    GET_WAIT,
    LIST_WAITS,
    READ_TRANSCRIPT,
    SEND_INPUT,
    START_SESSION,
)
from helmr_runtime.features.mcp.calls import HOLD_S, handle_of, result_of, told
from helmr_runtime.features.mcp.runs import McpRuns
from helmr_runtime.http.served_operation import takes_caller

PREFIX = "helmr_"
"""Prefix of the runtime's own tools; a task whose id begins so gets another name as a tool."""

PAYLOAD = "payload"
"""The argument that holds a payload that is not an object."""

ENTRIES_SHOWN = 50

STREAM_NAME_MAX = 128

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_NAME_CHARACTERS_MAX = 64


# --- tasks ------------------------------------------------------------------------------------------


def tool_name(task_id: str) -> str:
    """The task's id, or a name derived from it if clients would refuse the id as a tool's name."""
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
    """True if the payload need not be an object, so it becomes one argument."""
    if isinstance(schema, bool):
        return False
    return _resolved(schema).get("type") != "object"


def arguments_schema(schema: dict[str, Any] | bool) -> dict[str, Any]:
    """The schema of a tool's arguments, always an object, from the payload's schema."""
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
    """The task's payload from a call's arguments."""
    given = dict(arguments or {})
    return given.get(PAYLOAD) if is_wrapped(task.payload_schema) else given


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    target = find_reference(schema, schema.get("$ref"))
    return target if isinstance(target, dict) else schema


# --- the runtime's own ------------------------------------------------------------------------------


STRICT = ConfigDict(extra="forbid", strict=True)

ID_MAX = 64
"""The longest id."""


def taking(row: Operation[Any], *names: str, **more: Any) -> type[BaseModel]:
    """Make the model of a tool's arguments: an operation's path values, and these fields of its body or query.

    Args:
        row: The operation.
        names: The fields.
        more: Overrides of such a field as a `Field`, or a field of the tool's own with its type.
    """
    model = row.body or row.query
    fields: dict[str, Any] = {
        name: Annotated[str, Field(max_length=ID_MAX if name in PATH_IDS else STREAM_NAME_MAX)]
        for name in row.path_names
    }
    for name in names:
        assert model is not None
        field = model.model_fields[name]
        fields[name] = Annotated[field.annotation, field, more.pop(name, Field())]
    for name, extra in more.items():
        fields[name] = Annotated[fields[name], extra] if name in fields else extra
    return create_model(row.name, __config__=STRICT, **fields)


@dataclass(frozen=True, slots=True)
class OwnTool:
    """A tool of the runtime's own.

    Attributes:
        name: The tool's name.
        description: For the model.
        rows: Its operations. A caller whose role covers one of them has the tool.
        arguments: The model of its arguments.
        run: Runs it; without it the one operation is called.
    """

    name: str
    description: str
    rows: tuple[Operation[Any], ...]
    arguments: type[BaseModel]
    run: Callable[[McpRuns, Any], Awaitable[types.CallToolResult]] | None = None

    def is_for(self, runs: McpRuns) -> bool:
        """True if the caller has the tool."""
        return any(runs.may(row.need) for row in self.rows)

    async def call(self, runs: McpRuns, given: Any) -> types.CallToolResult:
        """Call the tool with these arguments."""
        if self.run is not None:
            return await self.run(runs, given)
        (row,) = self.rows
        reply = await called(runs, row, dict(given))
        return _shown(reply, exclude=row.excluded)

    def listed(self) -> types.Tool:
        """The tool as clients see it."""
        reads = self.rows[-1].repeat is Repeat.READ
        return types.Tool(
            name=self.name,
            description=self.description,
            input_schema=self.arguments.model_json_schema(),
            annotations=types.ToolAnnotations(read_only_hint=reads, open_world_hint=False),
        )


async def called(runs: McpRuns, row: Operation[Any], given: dict[str, Any]) -> Any:
    """Call an operation with these values of its path, and of its body or query string; returns the reply."""
    noun, verb = row.served_at
    parts = [given.pop(name) for name in row.path_names]
    model = row.body or row.query
    if model is not None:
        parts.append(model(**given))
    method = getattr(getattr(runs.service, noun), verb)
    if takes_caller(method):
        parts.insert(0, runs.own_caller)
    return await method(*parts)


def _shown(model: BaseModel, *, exclude: Any = None) -> types.CallToolResult:
    text = model.model_dump_json(by_alias=True, exclude=exclude, exclude_none=True)
    structured = model.model_dump(by_alias=True, mode="json", exclude=exclude, exclude_none=True)
    return told(text, structured=structured)


async def _result(runs: McpRuns, given: Any) -> types.CallToolResult:
    view = await runs.view(given.run_id)
    if given.wait_s:
        passing = view.wait.id if view.wait is not None else None
        view = await runs.settled(view, given.wait_s, passing=passing)
    return result_of(view) if view.run.status.is_final else handle_of(view)


async def _cancel(runs: McpRuns, given: Any) -> types.CallToolResult:
    await runs.cancel(await runs.view(given.run_id, CANCEL_RUN.need))
    return told(f"{given.run_id} is cancelled, unless it had ended")


async def _session(runs: McpRuns, given: Any) -> types.CallToolResult:
    session = await called(runs, GET_SESSION, {"session_id": given.session_id})
    after = max(0, session.last_seq - ENTRIES_SHOWN)
    newest = {"session_id": session.id, "after": after, "limit": ENTRIES_SHOWN}
    page = await called(runs, READ_TRANSCRIPT, newest)
    shown = {
        "session": session.model_dump(by_alias=True, mode="json"),
        "newest_entries": [entry.model_dump(by_alias=True, mode="json") for entry in page.items],
    }
    return told(f"{session.id} is {session.activity.value}", structured=shown)


_RUN = Field(description="As the call that started it gave.")
_HOLD = Field(
    default=0, ge=0, le=HOLD_S, description="Seconds to hold the answer until there is news."
)

OWN_TOOLS = (
    OwnTool(
        "helmr_result",
        "What a run that was started by a task's tool came to, or where it stands.",
        (START_SESSION, GET_RUN),
        taking(GET_RUN, run_id=_RUN, wait_s=Annotated[float, _HOLD]),
        _result,
    ),
    OwnTool(
        "helmr_cancel",
        "Cancel a run that was started by a task's tool.",
        (START_SESSION, CANCEL_RUN),
        taking(CANCEL_RUN, run_id=_RUN),
        _cancel,
    ),
    OwnTool(
        "helmr_waits",
        "What waits for people: soonest end first, without question and schema.",
        (LIST_WAITS,),
        taking(
            LIST_WAITS,
            *("task", "stream", "tag", "assignee", "limit", "cursor"),
            limit=Field(default=20, le=100),
        ),
    ),
    OwnTool(
        "helmr_wait",
        "One wait in full: its question, and the JSON Schema that its answer must fit.",
        (GET_WAIT,),
        taking(GET_WAIT),
    ),
    OwnTool(
        "helmr_answer",
        "Answer exactly this wait. Only with what a person has decided.",
        (ANSWER_WAIT,),
        taking(ANSWER_WAIT, "data", data=Field(description="JSON that fits the wait's schema.")),
    ),
    OwnTool(
        "helmr_session",
        f"A session: its state, and its newest {ENTRIES_SHOWN} entries.",
        (GET_SESSION, READ_TRANSCRIPT),
        taking(GET_SESSION),
        _session,
    ),
    OwnTool(
        "helmr_send",
        "Append a record to a session's input stream.",
        (SEND_INPUT,),
        taking(
            SEND_INPUT,
            *("data", "correlation_id", "idempotency_key"),
            data=Field(description="JSON that fits the stream's schema."),
            idempotency_key=Field(description="A second call with it sends nothing."),
        ),
    ),
)
