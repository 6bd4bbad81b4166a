import asyncio
from typing import Literal

from dbos import DBOS, DBOSConfig, SetWorkflowID
from pydantic import BaseModel


class Verdict(BaseModel):
    decision: Literal["send", "drop"]


@DBOS.step()
async def draft(topic: str) -> str:
    return f"News about {topic}"


@DBOS.step(retries_allowed=True, max_attempts=4)
async def mail(text: str) -> str:
    return f"sent {text}"


@DBOS.workflow()
async def newsletter(topic: str) -> str:
    text = await draft(topic)
    # An event, so that somebody can see what is waited for.
    await DBOS.set_event_async("question", {"subject": f"Send {topic}?", "body": text})
    data = await DBOS.recv_async("verdict", timeout_seconds=7 * 86_400)
    # Checked here, when its sender has gone.
    answer = Verdict.model_validate(data) if data is not None else None
    if answer is None or answer.decision == "drop":
        return "dropped"
    return await mail(text)


async def main() -> str:
    with SetWorkflowID("newsletter-1"):
        handle = await DBOS.start_workflow_async(newsletter, "otters")
    await DBOS.get_event_async("newsletter-1", "question")
    await DBOS.send_async("newsletter-1", {"decision": "send"}, "verdict")
    return await handle.get_result()


if __name__ == "__main__":
    DBOS(config=DBOSConfig(name="newsletter", system_database_url="sqlite:///newsletter.sqlite"))
    DBOS.launch()
    print(asyncio.run(main()))
    DBOS.destroy()
