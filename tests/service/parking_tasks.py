"""A task that waits in every way there is, as its payload says; the tests of the real stack start this file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from helmr import step, streams, task, timers, tokens

answers = streams.input("answers", schema=str)

WAY_S = 4
"""How long what ends by itself takes to end: waits for everybody to be there, on a busy machine."""

WAYS = (
    "input",
    "input with timeout",
    "timer",
    "token",
    "token with timeout",
    "token of a client",
    "step backoff",
    "next attempt",
)

_seen: set[str] = set()


def is_first(name: str) -> bool:
    """Whether nothing of that name has failed yet; on the real stack a file remembers, as processes change."""
    marks = os.environ.get("HELMR_TEST_MARKS")
    if marks is None:
        is_new = name not in _seen
        _seen.add(name)
        return is_new
    mark = Path(marks) / name.replace(" ", "-")
    is_new = not mark.exists()
    mark.touch()
    return is_new


@step(retries=1, backoff=WAY_S)
def fails_once(name: str) -> str:
    """Fails at its first try."""
    if is_first(name):
        raise ValueError("not yet")
    return "done"


@step
def fails_its_attempt(name: str) -> str:
    """Fails in a run's first attempt."""
    if is_first(name):
        raise ValueError("not yet")
    return "done"


@task(id="waits", retries=3, backoff=WAY_S)
async def waits(payload: dict[str, Any]) -> str:
    """Waits once, in the way of the payload."""
    match payload["way"]:
        case "input":
            return await answers.wait().unwrap()
        case "input with timeout":
            return await answers.wait(timeout="1h").unwrap()
        case "timer":
            await timers.sleep(WAY_S)
        case "token":
            token = await tokens.create(timeout="1h", subject="Is it done?")
            return str(await token.wait().unwrap())
        case "token with timeout":
            token = await tokens.create(timeout="1d", subject="Is it done?")
            return str(await token.wait(timeout="1h").unwrap())
        case "token of a client":
            return str((await tokens.wait(payload["token"])).value)
        case "step backoff":
            return await fails_once(payload["name"])
        case "next attempt":
            return await fails_its_attempt(payload["name"])
        case way:
            raise ValueError(f"no way to wait: {way}")
    return "done"
