"""A task that asks as it is told, for inboxes of mixed waits."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from helmr import streams, task


class Verdict(BaseModel):
    """What a person says."""

    decision: Literal["approve", "reject"]
    note: str | None = None


verdicts = streams.input("verdicts", schema=Verdict)


@task(id="ask")
async def ask(how: dict[str, Any]) -> str:
    """Asks with these options."""
    verdict: Verdict = await verdicts.wait(**how).unwrap()
    return verdict.decision
