"""A task that asks leave for a tool's call, for the tests of every face that shows one."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from helmr import Approval, ask_approval, streams, task
from helmr_runtime.catalog import Registry


class Money(BaseModel):
    cents: int
    currency: str = "EUR"


class Refund(BaseModel):
    """The arguments of the tool whose schema is known."""

    customer: str
    amount: Money


ASKED: dict[str, Any] = {"customer": "ada", "amount": {"cents": 4200, "currency": "EUR"}}


class Call(BaseModel):
    """Which tool is to be called, with what; `known` has the tool's own schema in the wait."""

    tool: str = "refund"
    arguments: dict[str, Any] = ASKED
    known: bool = True
    body: str | None = None


approvals = streams.input("approvals", schema=Approval)


@task(id="call", streams=[approvals])
async def call(asked: Call) -> dict[str, Any]:
    """What came of it."""
    schema = Refund.model_json_schema() if asked.known else None
    said: Any = {} if asked.body is None else {"body": asked.body}
    answer = await ask_approval(
        approvals, asked.tool, asked.arguments, arguments_schema=schema, **said
    )
    if not answer.approved:
        return {"declined": answer.reason}
    return {"called with": answer.edited(asked.arguments)}


REGISTRY = Registry([call], modules=["tests.call_tasks"], code_hash="calls-1")
