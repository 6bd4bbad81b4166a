"""The clock was ahead while a session wrote, and is right again: what begins then is counted from the clock.

Entries keep the later time, since no time in a transcript goes back (S-50).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr import sessions, streams, task, timers, tokens
from helmr_runtime.catalog import Registry
from helmr_runtime.core.entries import from_iso
from tests.ledger.test_set_clock import SetClock
from tests.service import stack as stacks
from tests.service.stack import Stack

AHEAD = timedelta(hours=1)
inbox = streams.input("inbox")
said = streams.output("said")


@task
async def naps(payload: dict[str, Any]) -> int:
    """Sleeps a little after each record."""
    for count in range(9):
        await inbox.wait().unwrap()
        await timers.sleep(0.2)
        await said.append(count)
    return 9


@task
async def asks_outside(payload: dict[str, Any]) -> str:
    """Waits a minute for a token that is completed elsewhere, once it is allowed to."""
    await inbox.wait().unwrap()
    token = await tokens.create(timeout="20m")
    await said.append(token.id)
    found = await token.wait(timeout="1m")
    return "answered" if found.ok else "timed out"


@task
async def has_child(payload: dict[str, Any]) -> str:
    """Waits a minute for a child that is answered at once."""
    await inbox.wait().unwrap()
    child = await sessions.start(echoes, {})
    await said.append(child.id)
    found = await child.result(timeout="1m")
    return "ended" if found.ok else "timed out"


@task
async def echoes(payload: dict[str, Any]) -> int:
    await inbox.wait().unwrap()
    return 1


REGISTRY = Registry(
    [naps, asks_outside, has_child, echoes],
    modules=["tests.service.test_after_a_wrong_clock"],
    code_hash="code-clock",
)


@pytest.fixture
async def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    monkeypatch.setattr(stacks, "SystemClock", SetClock)
    found = Stack(tmp_path, registry=REGISTRY)
    try:
        await found.start()
        yield found
    finally:
        await found.stop()


def clock_of(stack: Stack) -> SetClock:
    assert isinstance(stack.clock, SetClock)
    return stack.clock


async def put(stack: Stack, session_id: str) -> None:
    response = await stack.http.post(f"/v1/sessions/{session_id}/inputs/inbox", json={"data": 1})
    assert response.status_code in (200, 201), response.text


async def outputs(stack: Stack, session_id: str, count: int) -> list[Any]:
    """The first records, once there are so many."""
    async with asyncio.timeout(stacks.BOUND_S):
        while True:
            page = (await stack.http.get(f"/v1/sessions/{session_id}/outputs/said")).json()
            if len(page["items"]) >= count:
                return [one["data"] for one in page["items"]]
            await asyncio.sleep(0.02)


async def wrote_ahead(stack: Stack, session_id: str) -> None:
    """The session and the system stream have an entry of an hour ahead; the clock is right again."""
    clock = clock_of(stack)
    clock.off = AHEAD
    note = await stack.http.post(f"/v1/sessions/{session_id}/notes", json={"text": "later"})
    assert note.status_code in (200, 201), note.text
    made = await stack.http.post("/v1/tokens", json={"timeout": "20m"})
    assert made.status_code == 201, made.text
    clock.off = timedelta()


async def transcript(stack: Stack, session_id: str) -> list[dict[str, Any]]:
    page = (await stack.http.get(f"/v1/sessions/{session_id}/transcript?limit=200")).json()
    items: list[dict[str, Any]] = page["items"]
    return items


def never_back(entries: list[dict[str, Any]]) -> bool:
    times: list[datetime] = [from_iso(one["recorded_at"]) for one in entries]
    return times == sorted(times)


async def test_a_sleep_takes_its_time_and_no_time_goes_back(stack: Stack) -> None:
    session_id = (await stack.started("naps", {}))["session"]["id"]
    await wrote_ahead(stack, session_id)
    await put(stack, session_id)
    assert await outputs(stack, session_id, 1) == [0]
    entries = await transcript(stack, session_id)
    assert never_back(entries)
    [opened] = [
        one for one in entries if one["kind"] == "wait.opened" and one["body"]["kind"] == "timer"
    ]
    assert from_iso(opened["body"]["deadline_at"]) < clock_of(stack).now()
    assert from_iso(opened["recorded_at"]) > clock_of(stack).now()


async def test_a_tokens_time_is_counted_from_the_clock(stack: Stack) -> None:
    session_id = (await stack.started("naps", {}))["session"]["id"]
    await wrote_ahead(stack, session_id)
    made = (await stack.http.post("/v1/tokens", json={"timeout": "20m"})).json()
    left = from_iso(made["expires_at"]) - clock_of(stack).now()
    assert timedelta(minutes=19) < left < timedelta(minutes=21)
    scope = {"type": "session.input.send", "session": session_id, "stream": "inbox"}
    body = {"scope": scope, "expires_in": "10m"}
    public = (await stack.http.post("/v1/public-tokens", json=body)).json()
    left = from_iso(public["expires_at"]) - clock_of(stack).now()
    assert timedelta(minutes=9) < left < timedelta(minutes=11)


async def test_a_completion_in_time_is_in_time(stack: Stack) -> None:
    """Its entry is stamped an hour later than the wait's deadline, behind one that was made ahead."""
    receipt = await stack.started("asks_outside", {})
    await wrote_ahead(stack, receipt["session"]["id"])
    await put(stack, receipt["session"]["id"])
    [token_id] = await outputs(stack, receipt["session"]["id"], 1)
    done = await stack.http.post(f"/v1/tokens/{token_id}/complete", json={"data": 5})
    assert done.status_code == 200, done.text
    assert from_iso(done.json()["completed_at"]) <= clock_of(stack).now()
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == "answered"
    again = await stack.http.post(f"/v1/tokens/{token_id}/complete", json={"data": 5})
    assert again.json()["completed_at"] == done.json()["completed_at"]


async def test_a_childs_end_in_time_is_in_time(stack: Stack) -> None:
    receipt = await stack.started("has_child", {})
    await wrote_ahead(stack, receipt["session"]["id"])
    await put(stack, receipt["session"]["id"])
    [child_id] = await outputs(stack, receipt["session"]["id"], 1)
    await wrote_ahead(stack, child_id)
    await put(stack, child_id)
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == "ended"
