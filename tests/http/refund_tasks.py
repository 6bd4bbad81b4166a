"""A refund that one person of finance allows, above 1,000 two, and never the person who started it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from helmr import streams, task
from helmr_runtime.catalog import Registry

TWO_ABOVE = 1_000


class Refund(BaseModel):
    """What is to be paid back."""

    euros: int


class Decision(BaseModel):
    """What those who agree say alike."""

    decision: Literal["approve", "reject"]
    euros: int


decisions = streams.input("decisions", schema=Decision, answerers=["group:finance"])


@task
async def pay_back(payload: Refund) -> list[object]:
    """Asks as many as the amount needs."""
    said = await decisions.wait(
        subject=f"Refund {payload.euros} euros?",
        approvals=2 if payload.euros > TWO_ABOVE else 1,
        not_by=["starter"],
        initial={"decision": "approve", "euros": payload.euros},
    ).unwrap()
    return [said.decision, said.euros]


REGISTRY = Registry([pay_back], modules=["tests.http.refund_tasks"], code_hash="code-refund")
