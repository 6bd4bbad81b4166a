"""Repeating a call under its Operation-Id: who gets the first receipt, and who learns nothing (S-46, S-61)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.wire import ids
from helmr_runtime.catalog import Registry
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.rpc.calls import LEDGER
from tests.http.test_access_tokens import bearing, echo, public_token
from tests.http.test_sessions import code_of
from tests.service import tasks
from tests.service.stack import Stack, until

SEND = {"data": "x"}


@pytest.fixture
async def parking(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime whose sessions park at once."""
    stack = Stack(tmp_path, linger_s=0.01)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


def named(operation_id: str | None = None) -> dict[str, str]:
    return {"Operation-Id": operation_id or ids.new_id(ids.OPERATION)}


async def wake(stack: Stack, session: str) -> None:
    """Let it park; then a note wakes it."""

    async def is_parked() -> bool:
        return not await stack.calls.call(LEDGER, "held")

    await until(is_parked)
    answer = await stack.http.post(f"/v1/sessions/{session}/notes", json={"text": "hello"})
    assert answer.status_code == 201, answer.text


async def test_the_last_use_repeated_after_parking_gets_its_first_receipt(parking: Stack) -> None:
    session = await echo(parking)
    made = await public_token(parking, session, max_uses=1)
    route, operation = f"/v1/sessions/{session}/inputs/words", named()
    async with bearing(parking, made["public_access_token"]) as http:
        first = await http.post(route, json=SEND, headers=operation)
        await wake(parking, session)
        again = await http.post(route, json=SEND, headers=operation)
        assert (again.status_code, again.json()) == (200, first.json())
        other = await http.post(route, json={"data": "y"}, headers=operation)
        assert (other.status_code, code_of(other)) == (409, "operation_conflict")
        spent = await http.post(route, json=SEND, headers=named())
        assert (spent.status_code, code_of(spent)) == (403, "token_exhausted")


async def test_somebody_else_with_the_operation_id_learns_nothing(parking: Stack) -> None:
    session = await echo(parking)
    used = await public_token(parking, session, max_uses=1)
    others = [await public_token(parking, session, max_uses=n) for n in (1, 9)]
    key = await parking.http.post("/v1/api-keys", json={"role": "admin", "name": "other"})
    route, operation = f"/v1/sessions/{session}/inputs/words", named()
    async with bearing(parking, used["public_access_token"]) as http:
        first = (await http.post(route, json=SEND, headers=operation)).json()
    async with bearing(parking, others[0]["public_access_token"]) as http:
        assert (await http.post(route, json=SEND, headers=named())).status_code == 200
    for is_woken in (False, True):
        if is_woken:
            await wake(parking, session)
        for secret in (*(one["public_access_token"] for one in others), key.json()["secret"]):
            async with bearing(parking, secret) as http:
                answer = await http.post(route, json=SEND, headers=operation)
            assert (answer.status_code, code_of(answer)) == (409, "operation_conflict")
            assert first["record_id"] not in answer.text


async def test_somebody_elses_operation_id_shows_no_secret(stack: Stack) -> None:
    operation = named()
    key = (await stack.http.post("/v1/api-keys", json={"role": "admin", "name": "b"})).json()
    for route, body in (
        ("/v1/tokens", {}),
        ("/v1/api-keys", {"role": "viewer", "name": "looks"}),
    ):
        operation = named()
        first = await stack.http.post(route, json=body, headers=operation)
        assert first.status_code == 201
        again = await stack.http.post(route, json=body, headers=operation)
        assert again.json() == first.json()
        async with bearing(stack, key["secret"]) as http:
            answer = await http.post(route, json=body, headers=operation)
        assert (answer.status_code, code_of(answer)) == (409, "operation_conflict")
        assert "hlmr_" not in answer.text


async def test_a_revoked_public_token_gets_no_receipt(parking: Stack) -> None:
    session = await echo(parking)
    made = await public_token(parking, session)
    route, operation = f"/v1/sessions/{session}/inputs/words", named()
    async with bearing(parking, made["public_access_token"]) as http:
        assert (await http.post(route, json=SEND, headers=operation)).status_code == 200
        await parking.http.delete(f"/v1/public-tokens/{made['id']}")
        again = await http.post(route, json=SEND, headers=operation)
    async with bearing(parking, "hlmr_pat_nonsense") as http:
        nobody = await http.post(route, json=SEND, headers=operation)
    assert (again.status_code, again.json()) == (401, nobody.json())


async def test_a_start_whose_task_is_gone_meanwhile_gets_its_first_receipt(stack: Stack) -> None:
    operation = named()
    body: dict[str, Any] = {"task": "echo", "payload": 0}
    first = (await stack.http.post("/v1/sessions", json=body, headers=operation)).json()
    less = Registry([tasks.review], modules=["tests.service.tasks"], code_hash="code-2")
    await stack.ledger.write_catalog(less.catalog().model_dump(by_alias=True), RUNTIME)

    async def is_gone() -> bool:
        return (await stack.http.post("/v1/sessions", json=body)).status_code == 404

    await until(is_gone)
    again = await stack.http.post("/v1/sessions", json=body, headers=operation)
    assert again.status_code == 201, again.text
    assert again.json()["run"]["id"] == first["run"]["id"]
    other = await stack.http.post("/v1/sessions", json={**body, "payload": 1}, headers=operation)
    assert (other.status_code, code_of(other)) == (409, "operation_conflict")


async def test_a_repeated_call_acts_once_and_shows_what_it_made_as_it_is_by_then(
    stack: Stack,
) -> None:
    hourly = {"name": "hourly", "task": "echo", "payload": 1, "every": "1h"}
    calls: dict[str, dict[str, Any]] = {
        "/v1/sessions": {"task": "echo", "payload": 0},
        "/v1/tokens": {},
        "/v1/schedules": hourly,
    }
    headers = {route: named() for route in calls}

    async def say(route: str) -> httpx.Response:
        return await stack.http.post(route, json=calls[route], headers=headers[route])

    first = {route: (await say(route)).json() for route in calls}
    session, token = first["/v1/sessions"]["session"]["id"], first["/v1/tokens"]["id"]
    for ends in (
        f"/v1/sessions/{session}/cancel",
        f"/v1/tokens/{token}/cancel",
        "/v1/schedules/hourly/pause",
    ):
        assert (await stack.http.post(ends)).status_code == 200, ends
    again = {route: (await say(route)).json() for route in calls}
    started, made = again["/v1/sessions"], again["/v1/tokens"]
    assert (started["session"]["id"], started["created"]) == (session, True)
    assert started["run"]["status"] == made["status"] == "cancelled"
    for secret in ("id", "callback_url", "public_access_token"):
        assert made[secret] == first["/v1/tokens"][secret]
    assert again["/v1/schedules"]["status"] == "paused"
    await stack.http.delete("/v1/schedules/hourly")
    gone = await say("/v1/schedules")
    assert (gone.status_code, code_of(gone)) == (404, "schedule_not_found")
    assert (await stack.http.get("/v1/schedules")).json()["items"] == []


async def test_an_operation_id_that_was_used_is_a_conflict_where_nothing_would_change(
    stack: Stack,
) -> None:
    session = await echo(stack)
    operation = named()
    await stack.http.post(f"/v1/sessions/{session}/notes", json={"text": "x"}, headers=operation)
    [run] = (await stack.http.get(f"/v1/sessions/{session}/runs")).json()["items"]
    assert (await stack.http.post(f"/v1/sessions/{session}/cancel")).status_code == 200
    for route in (
        f"/v1/runs/{run['id']}/cancel",
        f"/v1/sessions/{session}/cancel",
        f"/v1/sessions/{session}/close",
    ):
        answer = await stack.http.post(route, headers=operation)
        assert (answer.status_code, code_of(answer)) == (409, "operation_conflict"), route


async def test_an_operation_id_that_was_refused_here_and_used_elsewhere_is_a_conflict(
    parking: Stack,
) -> None:
    session, operation = await echo(parking), named()
    route = f"/v1/sessions/{session}/inputs/words"
    refused = await parking.http.post(route, json={"data": 1}, headers=operation)
    assert (refused.status_code, code_of(refused)) == (422, "schema_mismatch")
    made = await parking.http.post("/v1/tokens", json={}, headers=operation)
    assert made.status_code == 201, made.text
    again = await parking.http.post(route, json={"data": 1}, headers=operation)
    assert (again.status_code, code_of(again)) == (409, "operation_conflict")


@pytest.mark.parametrize("value", ["", "op_", "x", "ses_01h455vb4pex5vsknk084sn02q"])
async def test_an_operation_id_that_is_none_is_refused_and_says_the_pattern(
    stack: Stack, value: str
) -> None:
    session = await echo(stack)
    token = (await stack.http.post("/v1/tokens", json={})).json()
    for url, body in (
        (f"/v1/sessions/{session}/inputs/words", SEND),
        (token["callback_url"].replace("http://helmr.test", ""), {"data": 1}),
    ):
        answer: httpx.Response = await stack.http.post(
            url, json=body, headers={"Operation-Id": value}
        )
        assert (answer.status_code, code_of(answer)) == (400, "bad_id"), answer.text
        assert "Operation-Id" in answer.json()["detail"]
        assert "^op_[0-7]" in answer.json()["hint"]
    assert (await stack.http.get(f"/v1/sessions/{session}/inputs/words")).json()["items"] == []
