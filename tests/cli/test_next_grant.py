"""`helmr next` approves an agent's call and allows calls like it for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from helmr.gate import CALL_TASK, tasks
from helmr_runtime.catalog import Registry
from tests.cli.test_next import Person, asks, output
from tests.service.stack import Stack

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

CALL: dict[str, Any] = {
    "client": "claude-code",
    "agent": "a1",
    "tool": "Bash",
    "input": {"command": "git push origin main"},
}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with the gate's tasks."""
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=Registry.of_modules([tasks]))
    try:
        await found.start(sessions_per_host=8)
        yield found
    finally:
        await found.stop()


@pytest.fixture
async def person(stack: Stack, tmp_path: Path) -> AsyncIterator[Person]:
    found = Person(stack, tmp_path)
    yield found
    await found.terminal.close()


async def test_a_call_is_approved_and_calls_like_it_allowed(stack: Stack, person: Person) -> None:
    receipt = await asks(stack, CALL_TASK, **CALL)
    await person.begins()
    assert ", g, l, c," in await person.reads("] ")
    await person.types("g")
    assert "allows Bash in this agent's session" in await person.reads("main]: ")
    await person.types("git push*")
    await person.reads("[8h]: ")
    await person.types("2h")
    told = await person.reads("grant_")
    assert "accepted: Run git push origin main" in told
    assert "Bash, command = git push*" in told
    assert await person.terminal.ended() == 0
    assert (await output(stack, receipt))["decision"] == "approve"
    [grant] = (await stack.http.get("/v1/gate/grants")).json()["items"]
    assert grant["matches"] == {"command": ["git push*"]}
    assert grant["created_by"]["on_behalf_of"] == "ana"
