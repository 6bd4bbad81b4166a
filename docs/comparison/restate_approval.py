from datetime import timedelta
from typing import Literal

import restate
from pydantic import BaseModel


class Verdict(BaseModel):
    decision: Literal["send", "drop"]


newsletter = restate.Workflow("newsletter")


async def draft(topic: str) -> str:
    return f"News about {topic}"


async def mail(text: str) -> str:
    return f"sent {text}"


@newsletter.main()
async def run(ctx: restate.WorkflowContext, topic: str) -> str:
    text = await ctx.run_typed("draft", draft, topic=topic)
    ctx.set("question", {"subject": f"Send {topic}?", "body": text})
    promise = ctx.promise("verdict", type_hint=Verdict)
    match await restate.select(answer=promise.value(), late=ctx.sleep(timedelta(days=7))):
        case ["answer", Verdict(decision="send")]:
            return await ctx.run_typed("mail", mail, text=text)
    return "dropped"


@newsletter.handler()
async def verdict(ctx: restate.WorkflowSharedContext, answer: Verdict) -> None:
    await ctx.promise("verdict", type_hint=Verdict).resolve(answer)


app = restate.app([newsletter])
