"""What the measured calls are about: a task that asks once."""

from __future__ import annotations

from pydantic import BaseModel

from helmr import streams, task


class Decision(BaseModel):
    """What a person says."""

    ok: bool


decision = streams.input("decision", schema=Decision)


@task(id="ask")
async def ask(payload: str) -> bool:
    """Ask, and return what was said."""
    return (await decision.wait(subject=payload).unwrap()).ok
