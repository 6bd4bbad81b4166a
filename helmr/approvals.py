"""Approval of a tool call by a person: what they are asked, and what they say.

```python
approvals = streams.input("approvals", schema=Approval)

answer = await ask_approval(approvals, "refund", {"customer": "ada", "cents": 4200}, timeout="2d")
if answer.approved:
    await refund(**answer.edited({"customer": "ada", "cents": 4200}))
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Unpack

from pydantic import BaseModel, Field

from helmr.current import durable_call
from helmr.errors import WaitTimeout
from helmr.models import VALUE_BYTES_MAX
from helmr.person.forms.tool_call import call_body, call_schema, call_subject
from helmr.streams import InputStream, turn
from helmr.wait_details import WaitOptions
from helmr.wire.durations import Duration
from helmr.wire.truth import NoTruth

UNANSWERED = "No one answered in time."
TOO_LARGE = (
    f"The tool was called, but its result is too large to be passed on: it has more than {VALUE_BYTES_MAX} bytes of "
    "JSON. Ask for less of it."
)
"""Text that the model sees in place of a result that is too large."""


class Approval(NoTruth, BaseModel):
    """What a person says to a tool call that needs their leave."""

    _ask: ClassVar[str] = ".approved"

    decision: Literal["approve", "decline"] = Field(description="May the tool be called?")
    arguments: dict[str, Any] | None = Field(
        default=None, description="What it is called with; change what is to be different."
    )
    reason: str | None = Field(default=None, description="Why. The model that asked sees it.")

    @property
    def approved(self) -> bool:
        """The tool may be called."""
        return self.decision == "approve"

    def edited(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments to call the tool with: the person's if they changed them, else `asked`."""
        return dict(asked if self.arguments is None else self.arguments)


def approval_schema(tool: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON Schema of an `Approval` of a tool's call: it names the tool, and has its arguments' own schema in it.

    Args:
        tool: Its name.
        arguments: An object's JSON Schema, with its `$defs` if it has some. None allows any object.
    """
    schema = Approval.model_json_schema()
    if arguments is not None:
        own = {key: value for key, value in arguments.items() if key not in ("$defs", "title")}
        if definitions := arguments.get("$defs"):
            schema["$defs"] = definitions
        schema["properties"]["arguments"] = {
            "anyOf": [own, {"type": "null"}],
            "default": None,
            "description": schema["properties"]["arguments"]["description"],
        }
    return call_schema(schema, tool)


@durable_call("ask_approval()")
async def ask_approval(
    stream: InputStream[Approval],
    tool: str,
    arguments: Mapping[str, Any],
    *,
    call_id: str | None = None,
    arguments_schema: Mapping[str, Any] | None = None,
    timeout: Duration | None = None,
    **options: Unpack[WaitOptions],
) -> Approval:
    """Wait until a person approves or declines a tool call.

    The form starts with the requested arguments and no decision. Declining the wait declines the call, and so does its
    timeout. A run has one wait at a time, so parallel branches ask one after the other.

    Args:
        stream: Where people answer.
        tool: Its name.
        arguments: What it is to be called with.
        call_id: Becomes the wait's correlation id.
        arguments_schema: The tool's own JSON Schema. The form then has a field for each argument, and rejects
            arguments that do not fit.
        timeout: Of the wait; None waits for ever.
        options: Of the wait, instead of what this call would say.

    Raises:
        WaitCancelled: The session's input was ended.
    """
    said: WaitOptions = {
        "subject": call_subject(tool),
        "body": call_body(tool, arguments),
        "initial": {"arguments": dict(arguments)},
        "on_decline": {"decision": "decline"},
        "comments": ["reason"],
        **stream.asks,
        **options,
    }
    async with turn("ask_approval()"):
        schema: Any = approval_schema(tool, arguments_schema)
        result = await stream.wait(
            schema=schema,
            timeout=timeout,
            correlation_id=call_id,
            **said,
        )
    if result.ok:
        return Approval.model_validate(result.value)
    if isinstance(result.error, WaitTimeout):
        return Approval(decision="decline", reason=UNANSWERED)
    raise result.error
