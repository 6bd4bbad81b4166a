"""What the chats of the peers say: the same as `tests/integrations/long_chats.py`, with a tool at each turn."""

from pydantic_ai import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.messages import ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo

REPLY_CHARS = 400
RETURN_CHARS = 150


def script(known: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """The model; which turn it is, it hears."""
    parts = [part for message in known for part in message.parts]
    said = [str(part.content) for part in parts if isinstance(part, UserPromptPart)]
    if isinstance(parts[-1], ToolReturnPart):
        found = str(parts[-1].content).strip(".")
        return ModelResponse(parts=[TextPart(f"{len(said)}: {found}".ljust(REPLY_CHARS, "."))])
    call = ToolCallPart("look_up", {"what": said[-1]}, tool_call_id=f"call-{len(said)}")
    return ModelResponse(parts=[call])


def returned(what: str) -> str:
    """What the tool gives."""
    return f"done {what} ".ljust(RETURN_CHARS, ".")


def message(turn: int) -> str:
    """What the customer says."""
    return f"pen {turn:04}"
