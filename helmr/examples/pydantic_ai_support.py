"""A support agent of Pydantic AI: a refund needs a person's leave, who may change its amount.

    helmr up helmr.examples.pydantic_ai_support
    helmr session start pydantic-ai-support --payload '"Please refund Ada"'

The model here is a script, so that it runs without a key; put the name of yours in its place.
"""

from __future__ import annotations

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr import Approval, streams, task
from helmr.integrations.pydantic_ai import DeferredToolWaits, HelmrDurability

approvals = streams.input("approvals", schema=Approval)


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Look the customer up, refund, and say what came of it."""
    parts = [part for message in messages for part in message.parts]
    returned = [str(part.content) for part in parts if isinstance(part, ToolReturnPart)]
    if returned:
        return ModelResponse(parts=[TextPart("; ".join(returned))])
    return ModelResponse(
        parts=[
            ToolCallPart("look_up", {"customer": "ada"}),
            ToolCallPart("refund", {"customer": "ada", "cents": 4200}),
        ]
    )


agent = Agent(
    FunctionModel(script),
    name="support",
    capabilities=[HelmrDurability(), DeferredToolWaits(approvals, timeout="2d")],
)


@agent.tool_plain
async def look_up(customer: str) -> str:
    """What is known of a customer."""
    return f"{customer} is a customer"


@agent.tool_plain(requires_approval=True)
async def refund(customer: str, cents: int) -> str:
    """Pay money back."""
    return f"refunded {cents} to {customer}"


@task(id="pydantic-ai-support")
async def support(prompt: str) -> str:
    """Answer a customer's request."""
    return (await agent.run(prompt)).output
