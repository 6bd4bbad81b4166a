"""Starting, reading, ending sessions over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from helmr.wire import ids
from tests.service.stack import BOUND_S, Stack

PAYLOAD = {"title": "News"}


def code_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    return str(problem["code"])


async def start(stack: Stack, **body: Any) -> httpx.Response:
    return await stack.http.post(
        "/v1/sessions", json={"task": "review", "payload": PAYLOAD, **body}
    )


async def test_a_started_session_waits_and_is_answered(stack: Stack) -> None:
    receipt = await stack.started()
    assert receipt["created"] is True
    assert receipt["run"]["status"] == "waiting"
    wait = receipt["session"]["wait"]
    assert wait["subject"] == "Publish News?"
    assert wait["body"] == "# Look"
    assert wait["schema"]["properties"]["decision"]["enum"] == ["approve", "reject"]
    answered = await stack.http.post(
        f"/v1/waits/{wait['id']}/answer", json={"data": {"decision": "approve"}}
    )
    assert answered.status_code == 200, answered.text
    assert answered.json()["outcome"] == "fulfilled"
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == {"status": "approve"}


async def test_start_answers_at_once_without_a_result_timeout(stack: Stack) -> None:
    response = await start(stack)
    assert response.status_code == 201
    assert response.json()["session"]["activity"] in ("queued", "running", "waiting")


async def test_start_answers_when_the_run_has_ended(stack: Stack) -> None:
    receipt = await stack.started("return", 7)
    assert receipt["run"]["status"] == "succeeded"
    assert receipt["run"]["result"] == 7


async def test_start_answers_after_its_result_timeout_if_the_run_goes_on(stack: Stack) -> None:
    assert stack.directory is not None
    await stack.directory.stop()  # so nobody runs it
    began = time.monotonic()
    response = await start(stack, result_timeout_s=0.2)
    assert response.status_code == 201
    assert response.json()["run"]["status"] == "queued"
    assert 0.2 <= time.monotonic() - began < BOUND_S


async def test_the_id_of_an_open_session_returns_it(stack: Stack) -> None:
    first = await start(stack, external_id="pr-1")
    again = await start(stack, external_id="pr-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["created"] is False
    assert again.json()["session"]["id"] == first.json()["session"]["id"]


async def test_the_id_of_an_open_session_with_another_payload_is_a_conflict(stack: Stack) -> None:
    await start(stack, external_id="pr-1")
    other = await start(stack, external_id="pr-1", payload={"title": "Other"})
    assert other.status_code == 409
    assert code_of(other) == "external_id_conflict"


async def test_an_idempotency_key_starts_once(stack: Stack) -> None:
    answers = await asyncio.gather(*(start(stack, idempotency_key="k") for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["session"]["id"] for answer in answers}) == 1
    other = await start(stack, idempotency_key="k", payload={"title": "Other"})
    assert code_of(other) == "idempotency_conflict"


async def test_a_payload_that_does_not_fit_is_refused_with_its_paths(stack: Stack) -> None:
    response = await start(stack, payload={"title": "", "size": "big", "more": 1})
    assert response.status_code == 422
    assert code_of(response) == "schema_mismatch"
    assert {error["path"] for error in response.json()["errors"]} == {"title", "size"}
    assert (await stack.http.get("/v1/sessions")).json()["items"] == []


@pytest.mark.timeout(20)
async def test_a_pattern_made_to_backtrack_does_not(stack: Stack) -> None:
    response = await start(stack, payload={"title": "a" * 50_000 + "!"})
    assert response.status_code == 422


async def test_an_unknown_task_names_those_there_are_and_the_nearest(stack: Stack) -> None:
    response = await start(stack, task="reviw")
    assert response.status_code == 404
    assert code_of(response) == "task_not_found"
    problem = response.json()
    assert problem["facts"]["tasks"] == [
        "by-link",
        "by-token",
        "echo",
        "fail-once",
        "quick-review",
        "return",
        "review",
    ]
    assert problem["hint"] == "Did you mean review?"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"tags": ["x" * 129]}, 400, "bad_request"),
        ({"tags": ["two\nlines"]}, 400, "bad_request"),
        ({"tags": ["t"] * 51}, 400, "bad_request"),
        ({"external_id": "x" * 257}, 400, "bad_request"),
        ({"external_id": "a\x1b[31m"}, 400, "bad_request"),
        ({"metadata": {"x": "y" * 20_000}}, 413, "too_large"),
        ({"result_timeout_s": 61}, 400, "bad_request"),
        ({"result_timeout_s": "5"}, 400, "bad_request"),
        ({"payload": {"title": "T" * 1_100_000}}, 413, "too_large"),
    ],
    ids=lambda part: str(part)[:30],
)
async def test_limits_of_a_start(
    shared_stack: Stack, body: dict[str, Any], status: int, code: str
) -> None:
    response = await start(shared_stack, **body)
    assert response.status_code == status
    assert code_of(response) == code


async def test_tags_and_metadata_are_kept(stack: Stack) -> None:
    response = await start(stack, tags=["b", "a", "b"], metadata={"n": 2**70, "x": 1.0})
    session = (await stack.http.get(f"/v1/sessions/{response.json()['session']['id']}")).json()
    assert session["tags"] == ["b", "a"]
    assert session["metadata"] == {"n": 2**70, "x": 1.0}


async def test_an_unknown_session_is_404_and_a_wrong_id_is_400(stack: Stack) -> None:
    unknown = await stack.http.get(f"/v1/sessions/{ids.new_id(ids.SESSION)}")
    assert (unknown.status_code, code_of(unknown)) == (404, "session_not_found")
    wrong = await stack.http.get(f"/v1/sessions/{ids.new_id(ids.RUN)}")
    assert (wrong.status_code, code_of(wrong)) == (400, "bad_id")
    garbage = await stack.http.get("/v1/sessions/%00%F0%9F%98%80")
    assert (garbage.status_code, code_of(garbage)) == (400, "bad_id")


async def test_the_list_filters_and_goes_on_at_its_cursor(stack: Stack) -> None:
    for number in range(5):
        await start(stack, tags=[f"t{number % 2}"])
    await stack.started("return", 1, external_id="one")
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2, "task": "review"}
    while True:
        page = (await stack.http.get("/v1/sessions", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        assert all("schema" not in (item["wait"] or {}) for item in page["items"])
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)
    for filters, count in [
        ({"tag": "t0"}, 3),
        ({"external_id": "one"}, 1),
        ({"activity": "idle"}, 1),
        ({"status": "closed"}, 0),
    ]:
        page = (await stack.http.get("/v1/sessions", params=filters)).json()
        assert len(page["items"]) == count, filters


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("statuss=open", "bad_filter"),
        ("status=opened", "bad_filter"),
        ("limit=0", "bad_request"),
        ("limit=201", "bad_request"),
        ("limit=many", "bad_request"),
        ("cursor=nonsense", "bad_cursor"),
    ],
)
async def test_a_filter_that_is_none_is_refused(shared_stack: Stack, query: str, code: str) -> None:
    response = await shared_stack.http.get(f"/v1/sessions?{query}")
    assert response.status_code == 400
    assert code_of(response) == code


async def test_the_transcript_is_read_by_seq(stack: Stack) -> None:
    session = (await stack.started())["session"]
    path = f"/v1/sessions/{session['id']}/transcript"
    whole = (await stack.http.get(path)).json()["items"]
    assert [entry["seq"] for entry in whole] == list(range(1, len(whole) + 1))
    assert whole[0]["kind"] == "session.created"
    assert whole[0]["principal"] == {
        "type": "api_key", "id": None, "name": "local", "on_behalf_of": None, "via": None
    }  # fmt: skip
    page = (await stack.http.get(path, params={"after": 2, "limit": 1})).json()
    assert [entry["seq"] for entry in page["items"]] == [3]
    missing = await stack.http.get(f"/v1/sessions/{ids.new_id(ids.SESSION)}/transcript")
    assert code_of(missing) == "session_not_found"


async def test_the_next_run_starts_when_the_session_is_idle(stack: Stack) -> None:
    session = (await stack.started("return", 3))["session"]
    path = f"/v1/sessions/{session['id']}/runs"
    same = await stack.http.post(path)
    assert same.status_code == 201, same.text
    assert (await stack.run_until(same.json()["id"], "succeeded"))["result"] == 3
    other = await stack.http.post(path, json={"payload": 4})
    assert (await stack.run_until(other.json()["id"], "succeeded"))["result"] == 4
    bad = await stack.http.post(path, json={"payload": "four"})
    assert (bad.status_code, code_of(bad)) == (422, "schema_mismatch")
    runs = (await stack.http.get(path)).json()["items"]
    assert [run["payload"] for run in runs] == [4, 3, 3]


async def test_a_second_run_is_refused_while_one_is_active(stack: Stack) -> None:
    session = (await stack.started())["session"]
    response = await stack.http.post(f"/v1/sessions/{session['id']}/runs")
    assert (response.status_code, code_of(response)) == (409, "run_active")


async def test_runs_of_no_session_are_404(stack: Stack) -> None:
    path = f"/v1/sessions/{ids.new_id(ids.SESSION)}/runs"
    assert code_of(await stack.http.get(path)) == "session_not_found"
    assert code_of(await stack.http.post(path)) == "session_not_found"


async def test_closing_needs_the_run_to_end_or_its_input(stack: Stack) -> None:
    receipt = await stack.started("echo", 0)
    path = f"/v1/sessions/{receipt['session']['id']}/close"
    refused = await stack.http.post(path)
    assert (refused.status_code, code_of(refused)) == (409, "run_active")
    closed = await stack.http.post(path, json={"end_input": True})
    assert (closed.status_code, closed.json()["status"]) == (200, "closed")
    again = await stack.http.post(path)
    assert (again.status_code, again.json()["status"]) == (200, "closed")
    assert (await stack.run_until(receipt["run"]["id"], "succeeded"))["result"] == 0
    assert code_of(await stack.http.post(path, json={"end_input": "yes"})) == "bad_request"


async def test_cancelling_ends_all_and_may_be_repeated(stack: Stack) -> None:
    receipt = await stack.started()
    path = f"/v1/sessions/{receipt['session']['id']}/cancel"
    for _ in range(2):
        response = await stack.http.post(path)
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        assert response.json()["wait"] is None
    wait = (await stack.http.get(f"/v1/waits/{receipt['session']['wait']['id']}")).json()
    assert wait["status"] == "cancelled"
    refused = await stack.http.post(path, json={"reason": "no"})
    assert code_of(refused) == "bad_request"


async def test_a_note_stands_in_the_transcript(stack: Stack) -> None:
    session = (await stack.started())["session"]
    path = f"/v1/sessions/{session['id']}/notes"
    response = await stack.http.post(path, json={"text": "called them"})
    assert response.status_code == 201
    seq = response.json()["seq"]
    query = {"after": seq - 1, "limit": 1}
    page = await stack.http.get(f"/v1/sessions/{session['id']}/transcript", params=query)
    assert page.json()["items"][0]["body"]["text"] == "called them"
    assert code_of(await stack.http.post(path, json={"text": ""})) == "bad_request"
    missing = f"/v1/sessions/{ids.new_id(ids.SESSION)}/notes"
    assert code_of(await stack.http.post(missing, json={"text": "x"})) == "session_not_found"
