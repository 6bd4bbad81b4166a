"""The path of one answer makes the calls that its budget allows, and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from helmr_runtime.rpc.protocol import kind_of
from tests.service.stack import Stack, until

LONG_POLLS = {"feed", "work", "watch", "ping"}
"""Calls that stay pending, whatever is answered."""


@asynccontextmanager
async def running(folder: Path, **limits: Any) -> AsyncIterator[Stack]:
    """A runtime in this process."""
    stack = Stack(folder, **limits)
    await stack.start(slots=2, desks=1)
    try:
        yield stack
    finally:
        await stack.stop()


async def calls_of_an_answer(stack: Stack, wait_id: str) -> Counter[str]:
    """The calls that one answer made, until the session actor had answered."""
    made: list[str] = []
    is_answered = False
    call = stack.calls.call

    async def watched(actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        nonlocal is_answered
        name = f"{kind_of(actor)}.{method}"
        # A commit counts when it is on disk: the next one begins as soon as one returns, and the
        # answer does not wait for it.
        if not is_answered and method not in LONG_POLLS and method != "commit":
            made.append(name)
        try:
            return await call(actor, method, *args, **kwargs)
        finally:
            if not is_answered and method == "commit":
                made.append(name)
            is_answered = is_answered or method in ("command", "adopt")

    stack.calls.call = watched  # type: ignore[method-assign]
    response = await stack.http.post(
        f"/v1/waits/{wait_id}/answer", json={"data": {"decision": "approve"}}
    )
    assert response.status_code == 200, response.text
    return Counter(made)


async def test_a_hot_answer_makes_two_calls_and_one_commit(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        session = (await stack.started())["session"]
        # The first command to a session tells the gateway which actor holds it.
        await stack.http.post(f"/v1/sessions/{session['id']}/notes", json={"text": "hello"})
        made = await calls_of_an_answer(stack, session["wait"]["id"])
        assert made == {"session.command": 1, "ledger.commit": 1}


async def test_a_parked_answer_makes_four_calls(tmp_path: Path) -> None:
    async with running(tmp_path, linger_s=0.01) as stack:
        session = (await stack.started())["session"]

        async def is_parked() -> bool:
            return not await stack.reads.call("held")

        await until(is_parked)
        made = await calls_of_an_answer(stack, session["wait"]["id"])
        assert made == {
            "directory.route": 1,
            "session.adopt": 1,
            "ledger.load": 1,
            "ledger.commit": 1,
        }
