"""Lines that tests of tasks get wrong: the harness says what to pass, and has done nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from helmr import step, streams, task
from helmr.errors import UsageError
from helmr.testing import Harness, HarnessSession

inbox = streams.input("inbox")
said = streams.output("said")


@step
async def look() -> int:
    """Is replaced."""
    return 1


@task
async def listens(payload: int) -> int:
    """Waits for a record."""
    return int(await inbox.wait().unwrap())


@dataclass
class Wrong:
    """What the lines are given."""

    harness: Any
    session: Any
    handle: HarnessSession


TASK = "Pass the function that @task decorates, uncalled."
STEP = "Pass the function that @step decorates, uncalled."
TOKEN = "Pass its id, its handle or its callback URL."
LINES: dict[str, tuple[Callable[[Wrong], Any], str]] = {
    "send": (lambda w: w.session.send(inbox, 1), "session.send('inbox', data)"),
    "outputs": (lambda w: w.session.outputs(said), "session.outputs('said')"),
    "chunks": (lambda w: w.session.chunks(said), "session.chunks('said')"),
    "a stream of another kind": (lambda w: w.session.send(5, 1), 'session.send("NAME", data)'),
    "result": (lambda w: w.session.result("listens"), TASK),
    "start": (lambda w: w.harness.start(listens(1)), TASK),
    "deploy": (lambda w: w.harness.deploy("listens"), TASK),
    "check": (lambda w: w.harness.check("listens"), TASK),
    "replay with": (lambda w: w.harness.replay("a.jsonl", "listens"), TASK),
    "replay": (lambda w: w.harness.replay(5), "`helmr session export`"),
    "made of": (lambda w: Harness("listens"), TASK),  # type: ignore[arg-type]
    "kill": (lambda w: w.harness.kill(w.handle), "`session.id`"),
    "park": (lambda w: w.harness.park(w.handle), "`session.id`"),
    "emitted": (lambda w: w.harness.emitted(w.handle), "`session.id`"),
    "replace": (lambda w: w.harness.replace("look", lambda: 2), STEP),
    "replace by": (lambda w: w.harness.replace(look, 2), "`lambda *args: …`"),
    "complete": (lambda w: w.harness.complete_token(5, 1), TOKEN),
    "cancel": (lambda w: w.harness.cancel_token(None), TOKEN),
    "token": (lambda w: w.harness.token(None), TOKEN),
}


@pytest.mark.parametrize("line", LINES)
async def test_a_wrong_line_says_what_to_pass(line: str) -> None:
    does, hint = LINES[line]
    async with Harness(listens) as harness:
        session = await harness.start(listens, 1)
        before = harness.entries()
        with pytest.raises(UsageError) as raised:
            await _done(does, Wrong(harness, session, session))
        assert hint in (raised.value.hint or "")
        assert harness.entries() == before
        await session.send("inbox", 7)
        assert await session.result(listens) == 7


async def _done(does: Callable[[Wrong], Any], given: Wrong) -> None:
    found = does(given)
    if inspect.isawaitable(found):
        await found
