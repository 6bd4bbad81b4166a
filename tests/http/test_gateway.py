"""The gateway's life, and what it does when actors move, die or are silent."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from helmr.errors import Conflict, UsageError
from helmr.wire import ids
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.rpc.calls import LEDGER
from tests.http.test_sessions import code_of
from tests.service.stack import BOUND_S, Stack, until

APPROVE = {"data": {"decision": "approve"}}


async def test_a_taken_port_is_said(stack: Stack) -> None:
    port = int(stack.url.rpartition(":")[2])
    other = GatewayActor(stack.make_service(), stack.settings())
    with pytest.raises(Conflict, match=f"127.0.0.1:{port}"):
        await other.start("127.0.0.1", port)
    await other.stop()


async def test_a_host_that_is_none_is_said(stack: Stack) -> None:
    other = GatewayActor(stack.make_service(), stack.settings())
    with pytest.raises(UsageError):
        await other.start("no-such-host.invalid", 0)


async def test_stopping_twice_is_harmless(stack: Stack) -> None:
    async with asyncio.timeout(BOUND_S):
        await stack.gateway.stop()
        await stack.gateway.stop()


async def test_a_known_wait_is_answered_without_asking_where_it_is(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    before = Counter(stack.calls.counter)
    response = await stack.http.post(f"/v1/waits/{wait_id}/answer", json=APPROVE)
    assert response.status_code == 200
    made = Counter(stack.calls.counter) - before
    assert ("ledger", "get_wait") not in made


async def test_a_session_whose_actor_died_answers_in_another(stack: Stack) -> None:
    receipt = await stack.started("echo", 0)
    path = f"/v1/sessions/{receipt['session']['id']}/inputs/words"
    await stack.http.post(path, json={"data": "one"})
    assert stack.directory is not None
    holder = await stack.directory.locate(receipt["session"]["id"])
    assert holder is not None
    stack.kill(holder, "signal 9")
    response = await stack.http.post(path, json={"data": "two"})
    assert (response.status_code, response.json()["seq"]) == (200, 2)


async def test_a_start_is_made_once_although_the_ledger_was_away(stack: Stack) -> None:
    stack.calls.stop(LEDGER)
    starting = asyncio.create_task(
        stack.http.post("/v1/sessions", json={"task": "return", "payload": 1})
    )
    await until(lambda: stack.calls.counter["ledger", "start_session"] == 1)
    stack.calls.kill(LEDGER, "signal 9")
    stack.calls.register(LEDGER, stack.ledger)
    response = await starting
    assert response.status_code == 201
    assert len((await stack.http.get("/v1/sessions")).json()["items"]) == 1


async def test_a_silent_actor_leaves_the_outcome_unknown(stack: Stack) -> None:
    receipt = await stack.started("echo", 0)
    path = f"/v1/sessions/{receipt['session']['id']}/inputs/words"
    await stack.http.post(path, json={"data": "one"})
    assert stack.directory is not None
    holder = await stack.directory.locate(receipt["session"]["id"])
    assert holder is not None
    service = stack.make_service(commit_timeout_s=0.2)
    gateway = GatewayActor(service, stack.settings())
    port = await gateway.start("127.0.0.1", 0)
    try:
        stack.calls.stop(holder)
        headers = {"Operation-Id": ids.new_id(ids.OPERATION)}
        url = f"http://127.0.0.1:{port}{path}"
        response = await stack.http.post(url, json={"data": "two"}, headers=headers)
        assert (response.status_code, code_of(response)) == (503, "outcome_unknown")
        assert response.headers["retry-after"]
        stack.calls.resume(holder)
        again = await stack.http.post(path, json={"data": "two"}, headers=headers)
        assert (again.status_code, again.json()["seq"]) == (200, 2)
    finally:
        await gateway.stop()
