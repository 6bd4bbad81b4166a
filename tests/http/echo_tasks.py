"""The task whose outputs `secret_timing` reads, for a runtime of its own."""

from __future__ import annotations

from typing import Any

from helmr import streams, task

words = streams.input("words", schema=str)
echoes = streams.output("echoes", schema=dict[str, Any])


@task(id="echo", streams=[words, echoes])
async def echo(payload: int) -> int:
    """Echoes words until its input ends."""
    async for word in words.iter():
        await echoes.append({"word": word})
    return payload
