"""Tasks that are taken back. They mark what they do in files, with the key of the step that did it."""

import os
from pathlib import Path
from typing import Any

from helmr import step, step_key, streams, task

MARKS = Path(os.environ.get("HELMR_TEST_MARKS", "."))
WORDING = "{name}-wording"
"""If that mark is there, the third question reads otherwise: code that was changed."""

answers = streams.input("answers", schema=str)
chat = streams.input("chat", schema=str)
replies = streams.output("replies", schema=str)


@step
async def act(name: str) -> str:
    """What must not be done twice unless somebody said so."""
    with (MARKS / name).open("a") as file:
        file.write(f"{step_key()}\n")
    return name


@task
async def asks_thrice(name: str) -> list[str]:
    """Five steps around three questions."""
    said = []
    await act(f"{name}-1")
    said.append(await answers.wait(subject="first?").unwrap())
    await act(f"{name}-2")
    said.append(await answers.wait(subject="second?").unwrap())
    await act(f"{name}-3")
    third = "third, really?" if (MARKS / WORDING.format(name=name)).exists() else "third?"
    said.append(await answers.wait(subject=third).unwrap())
    await act(f"{name}-4")
    await act(f"{name}-5")
    return said


@task
async def chats(payload: Any) -> list[str]:
    """A turn for each message, until somebody says bye."""
    heard = []
    async for text in chat.iter():
        heard.append(text)
        await replies.append(f"{len(heard)}: {text}")
        if text == "bye":
            break
    return heard
