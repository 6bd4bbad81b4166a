"""An agent of the page on other frameworks. Argument: the module of its task."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

from helmr.testing import Harness

module: Any = importlib.import_module(sys.argv[1])
script, asked = module.script, 0
SMALLER = {"decision": "approve", "arguments": {"order": "A7", "cents": 700}}
ANSWERS: dict[str, dict[str, Any]] = {
    "refunded 700 for A7": SMALLER,
    "declined: no": {"decision": "decline", "reason": "no"},
}


def counted(*args: Any) -> Any:
    """The script in place of the model, which no replay asks again."""
    global asked
    asked += 1
    return script(*args)


async def case(answer: dict[str, Any], told: str, *, replay_always: bool) -> None:
    """One session, whose process dies while it waits."""
    global asked
    asked = 0
    async with Harness(module.support, replay_always=replay_always) as harness:
        session = await harness.start(module.support, "Please refund A7")
        assert (await session.wait())["subject"] == "Call refund?"
        await session.kill()
        await session.answer(answer)
        await session.result()
        entries = await session.transcript()
    steps = [entry.body["name"] for entry in entries if entry.kind == "step.started"]
    values = str([entry.body["value"] for entry in entries if entry.kind == "step.succeeded"])
    assert asked == steps.count("model.request") >= 2, (asked, steps)
    assert steps.count("pay") == (answer["decision"] == "approve"), steps
    assert told in values or answer["decision"] == "decline", values


async def main() -> None:
    """Every case."""
    for replay_always in (False, True):
        for told, answer in ANSWERS.items():
            await case(answer, told, replay_always=replay_always)


module.script = counted
asyncio.run(main())
