"""Tasks that would do what nobody has approved."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from helmr import step, step_call, streams, task

approval = streams.input("approval", schema=bool)


@step
async def send_mail(text: str) -> str:
    with (Path(os.environ["HELMR_TEST_MARKS"]) / "mails").open("a") as file:
        file.write("x")
    return text


@task(id="skips-its-approval")
async def skips_its_approval(text: str) -> str:
    approval.wait(timeout="7d", subject=f"Send {text}?")
    return await send_mail(text)


@task(id="drifts-from-its-approval")
async def drifts_from_its_approval(text: str) -> str:
    drawn = f"{text} {uuid4()}"  # outside of steps: another one at each resume
    if await approval.wait(timeout="7d", subject=f"Send {drawn}?").unwrap():
        return await send_mail(drawn)
    return "declined"


@task(id="goes-through-a-set")
async def goes_through_a_set(payload: None) -> list[str]:
    names = {
        f"step-{color}" for color in ("red", "green", "blue", "black", "white", "grey", "pink")
    }
    found = [await step_call(name, str, name) for name in names]
    await approval.wait(subject="Go on?")
    return found
