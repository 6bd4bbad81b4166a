"""What asks a hurried hand beside the rest: forms that are filled already, and calls of tools that need leave."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, Field

from helmr import Approval, ask_approval, streams, task


class Asks(BaseModel):
    subject: str
    body: str | None = None
    timeout: str
    initial: dict[str, Any] = {}


class Correction(BaseModel):
    code: str = Field(max_length=20)
    amount: int = Field(ge=0)
    reason: Literal["goodwill", "damaged", "late"]


corrections = streams.input("corrections", schema=Correction)
calls = streams.input("calls", schema=Approval)


@task(id="correct", streams=[corrections])
async def correct(asks: Asks) -> str:
    """Asks to look over a code, a number and a choice that stand there."""
    found = await corrections.wait(
        subject=asks.subject, body=asks.body, timeout=asks.timeout, initial=asks.initial
    )
    return found.value.model_dump_json() if found.value is not None else "nothing"


@task(id="call", streams=[calls])
async def call(asks: Asks) -> str:
    """Asks leave for a tool's call."""
    found = await ask_approval(
        calls, "refund", asks.initial, timeout=asks.timeout, subject=asks.subject
    )
    called = found.edited(asks.initial) if found.approved else found.arguments
    return json.dumps([found.decision, called, found.reason])
