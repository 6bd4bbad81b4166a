"""A task that newer code does not have, through the real routes: answers are kept, and no slot is held for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.client import AsyncClient
from helmr.errors import StreamNotFound
from helmr_runtime.catalog import Registry
from tests.service import tasks
from tests.service.stack import BOUND_S, Stack

WITHOUT = Registry([tasks.give_back], modules=["tests.service.tasks"], code_hash="code-2")


async def test_answers_are_stored_and_the_slot_is_free_for_others(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    await stack.start()
    try:
        receipts = [await stack.started() for _ in range(3)]
    finally:
        await stack.stop()

    stack = Stack(tmp_path, registry=WITHOUT)
    await stack.start(sessions_per_host=1)
    try:
        async with AsyncClient(url=stack.url, key=stack.key) as client:
            answered, sent, untouched = receipts
            session = await client.sessions.open(answered["session"]["id"]).get()
            assert session.wait is not None, "the wait is still in the inbox"
            receipt = await client.waits.answer(session.wait.id, {"decision": "approve"})
            assert receipt.outcome == "fulfilled"
            stream = client.sessions.open(sent["session"]["id"]).input("approval")
            told = await stream.send({"decision": "reject"}, correlation_id="review-1")
            assert told.outcome == "fulfilled"
            for one in (answered, sent):
                run = await client.runs.wait(one["run"]["id"], until="stopped", timeout=BOUND_S)
                assert run.status == "blocked"
                assert run.error is not None
                assert run.error.code == "task_missing"
            with pytest.raises(StreamNotFound, match="not in the code"):
                await client.sessions.open(untouched["session"]["id"]).input("words").send("x")
            started = await client.sessions.start_and_wait(tasks.give_back, 3, timeout=BOUND_S)
            assert started.started_run.result == 3, "its only slot is free"
    finally:
        await stack.stop()
