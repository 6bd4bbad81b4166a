from typing import Literal

from pydantic import BaseModel

from helmr import step, streams, task


class Verdict(BaseModel):
    decision: Literal["send", "drop"]


verdict = streams.input("verdict", schema=Verdict)


@step
async def draft(topic: str) -> str:
    return f"News about {topic}"


@step(retries=3)
async def mail(text: str) -> str:
    return f"sent {text}"


@task(id="newsletter")
async def newsletter(topic: str) -> str:
    text = await draft(topic)
    answer = await verdict.wait(timeout="7d", subject=f"Send {topic}?", body=text)
    if answer.value is None or answer.value.decision == "drop":
        return "dropped"
    return await mail(text)
