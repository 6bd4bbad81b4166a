"""The task that the TypeScript client's test starts: it asks, and says how far it is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from helmr import streams, task


class Verdict(BaseModel):
    """What a person says of the draft."""

    decision: Literal["send", "drop"]


verdict = streams.input("verdict", schema=Verdict)
progress = streams.output("progress", schema=str)


@task(id="newsletter")
async def newsletter(topic: str) -> str:
    await progress.append("written")
    answer = await verdict.wait(subject=f"Send the newsletter about {topic}?")
    assert answer.value is not None
    await progress.append(answer.value.decision)
    return answer.value.decision
