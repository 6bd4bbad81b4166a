"""Sending input over HTTP, and reading it back."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from helmr.wire import ids
from tests.http.test_sessions import code_of
from tests.service.stack import Stack


async def send(
    stack: Stack, session_id: str, stream: str, body: dict[str, Any], **headers: str
) -> httpx.Response:
    path = f"/v1/sessions/{session_id}/inputs/{stream}"
    return await stack.http.post(path, json=body, headers=headers)


APPROVE = {"decision": "approve"}


async def test_the_receipt_says_what_the_send_did(stack: Stack) -> None:
    session_id = (await stack.started())["session"]["id"]
    unmatched = await send(stack, session_id, "approval", {"data": APPROVE, "correlation_id": "x"})
    assert unmatched.status_code == 200, unmatched.text
    assert unmatched.json()["outcome"] == "unmatched"
    fulfilled = await send(
        stack, session_id, "approval", {"data": APPROVE, "correlation_id": " review-1 "}
    )
    assert fulfilled.json()["outcome"] == "fulfilled"
    assert fulfilled.json()["wait_id"].startswith("wait_")
    assert fulfilled.json()["seq"] == 2
    records = (await stack.http.get(f"/v1/sessions/{session_id}/inputs/approval")).json()["items"]
    assert [record["seq"] for record in records] == [1, 2]
    assert records[0]["consumed_by"] is None
    assert records[1]["consumed_by"] == fulfilled.json()["wait_id"]
    assert records[1]["correlation_id"] == "review-1"
    after = {"after": 1}
    page = await stack.http.get(f"/v1/sessions/{session_id}/inputs/approval", params=after)
    assert [record["seq"] for record in page.json()["items"]] == [2]


async def test_a_hundred_concurrent_sends_are_1_to_100(stack: Stack) -> None:
    session_id = (await stack.started())["session"]["id"]
    body = {"data": APPROVE, "correlation_id": "other"}
    sends = (send(stack, session_id, "approval", body) for _ in range(100))
    answers = await asyncio.gather(*sends)
    assert sorted(answer.json()["seq"] for answer in answers) == list(range(1, 101))


@pytest.mark.parametrize("path", ["inputs/nothing", "inputs/progress", "inputs/a%2Fb"])
async def test_another_stream_is_404_and_lists_those_there_are(stack: Stack, path: str) -> None:
    session_id = (await stack.started())["session"]["id"]
    url = f"/v1/sessions/{session_id}/{path}"
    for response in (await stack.http.post(url, json={"data": 1}), await stack.http.get(url)):
        assert response.status_code == 404
        if path != "inputs/a%2Fb":  # the framework decodes the slash: no such route
            assert code_of(response) == "stream_not_found"
            assert response.json()["facts"]["streams"] == ["approval", "words"]
            assert response.json()["detail"].endswith("; it has approval, words")


async def test_data_that_does_not_fit_is_refused_with_its_paths(stack: Stack) -> None:
    session_id = (await stack.started())["session"]["id"]
    response = await send(stack, session_id, "approval", {"data": {"decision": "maybe"}})
    assert (response.status_code, code_of(response)) == (422, "schema_mismatch")
    assert [error["path"] for error in response.json()["errors"]] == ["decision"]
    page = await stack.http.get(f"/v1/sessions/{session_id}/inputs/approval")
    assert page.json()["items"] == []


async def test_data_is_needed_and_may_be_null(stack: Stack) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    assert code_of(await send(stack, session_id, "words", {})) == "bad_request"
    null = await send(stack, session_id, "words", {"data": None})
    assert code_of(null) == "schema_mismatch"  # it was given, and is not a text


async def test_an_idempotency_key_sends_once(stack: Stack) -> None:
    session_id = (await stack.started())["session"]["id"]
    body = {"data": APPROVE, "correlation_id": "later", "idempotency_key": "k"}
    answers = await asyncio.gather(*(send(stack, session_id, "approval", body) for _ in range(20)))
    assert len({answer.json()["record_id"] for answer in answers}) == 1
    assert sum(answer.json()["duplicate"] for answer in answers) == 19
    other = await send(stack, session_id, "approval", {**body, "data": {"decision": "reject"}})
    assert (other.status_code, code_of(other)) == (409, "idempotency_conflict")


async def test_an_operation_id_makes_a_send_repeatable(stack: Stack) -> None:
    session_id = (await stack.started())["session"]["id"]
    operation = {"Operation-Id": ids.new_id(ids.OPERATION)}
    body = {"data": APPROVE, "correlation_id": "review-1"}
    first = await send(stack, session_id, "approval", body, **operation)
    again = await send(stack, session_id, "approval", body, **operation)
    assert again.json() == first.json()
    other = await send(stack, session_id, "approval", {"data": APPROVE}, **operation)
    assert (other.status_code, code_of(other)) == (409, "operation_conflict")
    wrong = await send(stack, session_id, "approval", body, **{"Operation-Id": "mine"})
    assert (wrong.status_code, code_of(wrong)) == (400, "bad_id")


async def test_an_empty_correlation_id_is_none(stack: Stack) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    response = await send(stack, session_id, "words", {"data": "hi", "correlation_id": "  "})
    assert response.json()["outcome"] == "fulfilled"
    page = await stack.http.get(f"/v1/sessions/{session_id}/inputs/words")
    assert page.json()["items"][0]["correlation_id"] is None


async def test_a_closed_session_takes_no_input(stack: Stack) -> None:
    session_id = (await stack.started("return", 1))["session"]["id"]
    await stack.http.post(f"/v1/sessions/{session_id}/close")
    response = await send(stack, session_id, "words", {"data": "hi"})
    assert (response.status_code, code_of(response)) == (409, "session_terminal")


async def test_a_record_over_its_limit_is_refused(stack: Stack) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    response = await send(stack, session_id, "words", {"data": "x" * 300_000})
    assert (response.status_code, code_of(response)) == (413, "too_large")


async def test_input_of_no_session_is_404(stack: Stack) -> None:
    unknown = ids.new_id(ids.SESSION)
    assert code_of(await send(stack, unknown, "words", {"data": "x"})) == "session_not_found"
    page = await stack.http.get(f"/v1/sessions/{unknown}/inputs/words")
    assert code_of(page) == "session_not_found"
