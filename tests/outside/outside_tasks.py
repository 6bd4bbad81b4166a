"""Tasks that somebody outside answers; run by the runtime of test_outside.py."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from helmr import step, streams, task, tokens

words = streams.input("words", schema=str)


class Decision(BaseModel):
    """What the person behind the link may say."""

    decision: Literal["approve", "reject"] = Field(description="Shall it go out?")
    amount: int = Field(ge=1, le=9, description="How many?")
    note: str | None = None


class Mail(BaseModel):
    """Where the e-mail goes, and for how long its link is good."""

    path: str
    timeout: str = "1d"
    wait_timeout: str | None = None


@step
def send_mail(path: str, link: str, secret: str) -> None:
    """The e-mail is a file."""
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(f"{link}\n{secret}\n")


@task(id="by-link")
async def by_link(mail: Mail) -> dict[str, object]:
    """Asks by an emailed link."""
    token = await tokens.create(timeout=mail.timeout, tags=["mail"])
    await send_mail(mail.path, token.callback_url, token.public_access_token)
    result = await token.wait(
        schema=Decision,
        timeout=mail.wait_timeout,
        subject="Publish the review of octo/hello#7?",
        body="It has **three** remarks:\n\n- one\n- two\n- three",
    )
    return result.value.model_dump() if result.value is not None else {"timed_out": True}


@task(id="by-token")
async def by_token(token_id: str) -> object:
    """Waits on somebody else's token."""
    result = await tokens.wait(token_id)
    return result.value if result.ok else type(result.error).__name__


@task(id="talk")
async def talk(payload: None) -> list[str]:
    """Takes words until its input ends."""
    return [word async for word in words.iter()]
