"""Answers that were given as one, in entries, waits, lists and SQL; and which waits are over since a time."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from helmr.client import AsyncClient
from tests.http.test_sessions import code_of
from tests.service.stack import Stack, until

APPROVE = {"decision": "approve", "note": None}


async def wait_of(stack: Stack, task: str = "review") -> str:
    """The wait of a session that has just begun to ask."""
    session = (await stack.started(task))["session"]
    return str(session["wait"]["id"])


async def answered(stack: Stack, wait_id: str, **parts: Any) -> None:
    path = f"/v1/waits/{wait_id}/answer"
    response = await stack.http.post(path, json={"data": APPROVE, **parts})
    assert response.status_code == 200, response.text


async def batch_entries(stack: Stack, wait_id: str) -> list[str]:
    """The kinds of the entries of a wait's session that name a batch."""
    wait = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    path = f"/v1/sessions/{wait['session_id']}/transcript"
    entries = (await stack.http.get(path, params={"limit": 200})).json()["items"]
    return [one["kind"] for one in entries if one["body"].get("batch_id") == "monday-1"]


async def test_a_batch_is_in_the_entry_the_wait_lists_and_sql(stack: Stack) -> None:
    first, second, alone = [await wait_of(stack) for _ in range(3)]
    for wait_id in (first, second):
        await answered(stack, wait_id, batch_id="monday-1")
    await answered(stack, alone)
    assert await batch_entries(stack, first) == ["wait.fulfilled"]
    assert await batch_entries(stack, alone) == []
    found = (await stack.http.get(f"/v1/waits/{first}")).json()
    assert (found["batch_id"], found["answer"]) == ("monday-1", APPROVE)
    assert (await stack.http.get(f"/v1/waits/{alone}")).json()["batch_id"] is None
    path = "/v1/waits?status=fulfilled&batch_id=monday-1"
    listed = (await stack.http.get(path)).json()["items"]
    assert {one["id"] for one in listed} == {first, second}
    assert all("answer" not in one for one in listed)
    sql = "SELECT batch_id, count(*) FROM waits GROUP BY batch_id ORDER BY batch_id"
    rows = (await stack.http.post("/v1/query", json={"sql": sql})).json()["rows"]
    assert rows == [["monday-1", 2], [None, 1]]


async def test_a_batch_answers_tokens_too_and_is_told_again_behind_a_restart(stack: Stack) -> None:
    wait_id = await wait_of(stack, "by-link")
    await answered(stack, wait_id, batch_id="monday-1")

    async def is_delivered() -> bool:
        return bool((await stack.http.get(f"/v1/waits/{wait_id}")).json()["status"] == "fulfilled")

    await until(is_delivered)
    assert await batch_entries(stack, wait_id) == ["wait.fulfilled"]
    ledger = stack.ledger._ledger
    assert ledger is not None
    await ledger.close()
    stack.ledger._ledger = None
    found = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    assert (found["batch_id"], found["answer"]) == ("monday-1", APPROVE)
    assert (found["status"], found["kind"]) == ("fulfilled", "token")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("batch_id", ["", "a b", "-x", "é", "x" * 129, "a\n", 7])
async def test_what_names_no_batch_is_refused_and_nothing_is_stored(
    shared_stack: Stack, batch_id: Any
) -> None:
    wait_id = await wait_of(shared_stack)
    parts = {"data": APPROVE, "batch_id": batch_id}
    refused = await shared_stack.http.post(f"/v1/waits/{wait_id}/answer", json=parts)
    assert (refused.status_code, code_of(refused)) == (400, "bad_request")
    assert (await shared_stack.http.get(f"/v1/waits/{wait_id}")).json()["status"] == "pending"


async def test_lists_say_what_is_over_since_a_time(stack: Stack) -> None:
    before, after = await wait_of(stack), await wait_of(stack)
    await answered(stack, before)
    moment = (await stack.http.get(f"/v1/waits/{before}")).json()["resolved_at"]
    await answered(stack, after)
    async with AsyncClient(url=stack.url, key=stack.key) as client:
        since = datetime.fromisoformat(moment)
        both = [w async for w in client.waits.list(status="fulfilled", resolved_since=since)]
        later = (await client.waits.get(after)).resolved_at
        newer = [w async for w in client.waits.list(status="fulfilled", resolved_since=later)]
    assert {one.id for one in both} == {before, after}
    assert [one.id for one in newer] == [after]
    query = {"status": "pending", "resolved_since": moment}
    assert (await stack.http.get("/v1/waits", params=query)).json()["items"] == []
    naive = await stack.http.get("/v1/waits?resolved_since=2026-01-01T00:00:00")
    assert (naive.status_code, code_of(naive)) == (400, "bad_filter")


async def test_a_batch_is_sealed_and_readable_where_payloads_are(tmp_path: Path) -> None:
    stack = Stack(tmp_path, encrypts=True)
    try:
        await stack.start()
        wait_id = await wait_of(stack)
        await answered(stack, wait_id, batch_id="monday-1")
        assert await batch_entries(stack, wait_id) == ["wait.fulfilled"]
        found = (await stack.http.get("/v1/waits?status=fulfilled&batch_id=monday-1")).json()
        assert [one["id"] for one in found["items"]] == [wait_id]
    finally:
        await stack.stop()


async def test_a_repeated_answer_keeps_the_batch_it_was_first_given_in(stack: Stack) -> None:
    wait_id = await wait_of(stack)
    async with AsyncClient(url=stack.url, key=stack.key) as client:
        first, again = [
            await client.waits.answer(
                wait_id, APPROVE, batch_id=batch_id, operation_id="op_01k00000000000000000000000"
            )
            for batch_id in ("monday-1", "tuesday-2")
        ]
        assert first == again
        assert (await client.waits.get(wait_id)).batch_id == "monday-1"
