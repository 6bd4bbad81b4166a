"""A support agent of the OpenAI Agents SDK: a refund needs a person's leave, who may change its amount.

    helmr up helmr.examples.openai_agents_support
    helmr session start openai-agents-support --payload '"Please refund Ada"'

The model here is a script, so that it runs without a key; leave `model=` out to have OpenAI's.
"""

from __future__ import annotations

from typing import Any

from agents import Agent, ModelResponse, Usage, function_tool
from agents.models.interface import Model
from agents.testing import assistant_message, function_call

from helmr import Approval, streams, task
from helmr.integrations.openai_agents import run

approvals = streams.input("approvals", schema=Approval)


class Script(Model):
    """Look the customer up, refund, and say what came of it."""

    async def get_response(
        self, system_instructions: str | None, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        """The next thing to do, by what tools have returned."""
        items = [] if isinstance(input, str) else input
        returned = [i["output"] for i in items if i.get("type") == "function_call_output"]
        if returned:
            output = [assistant_message("; ".join(returned))]
        else:
            refund = {"customer": "ada", "cents": 4200}
            output = [
                function_call("look_up", {"customer": "ada"}, call_id="call-1"),
                function_call("refund", refund, call_id="call-2"),
            ]
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        """Not needed here."""
        raise NotImplementedError


@function_tool
async def look_up(customer: str) -> str:
    """What is known of a customer."""
    return f"{customer} is a customer"


@function_tool(needs_approval=True)
async def refund(customer: str, cents: int) -> str:
    """Pay money back."""
    return f"refunded {cents} to {customer}"


agent = Agent(name="support", model=Script(), tools=[look_up, refund])


@task(id="openai-agents-support")
async def support(prompt: str) -> str:
    """Answer a customer's request."""
    return str((await run(agent, prompt, approvals=approvals, timeout="2d")).final_output)
