"""Schedules over HTTP: made, listed, paused, run, deleted, and refused (S-93)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.wire import ids
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

HOURLY = {"name": "hourly", "task": "return", "every": "1h", "payload": 1}


async def made(stack: Stack, **parts: Any) -> dict[str, Any]:
    """A schedule."""
    response = await stack.http.post("/v1/schedules", json={**HOURLY, **parts})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_schedule_is_made_read_and_listed(stack: Stack) -> None:
    nightly = await made(
        stack, name="nightly", every=None, cron="0 3 * * mon-fri", zone="Europe/Berlin"
    )
    assert (nightly["status"], nightly["declared_in"]) == ("active", "api")
    assert nightly["next_due_at"] is not None
    hourly = await made(stack)
    assert hourly["every_s"] == 3600.0
    page = (await stack.http.get("/v1/schedules?limit=1")).json()
    assert [one["name"] for one in page["items"]] == ["hourly"]
    rest = await stack.http.get("/v1/schedules", params={"cursor": page["next_cursor"]})
    assert rest.json()["items"] == [nightly]
    assert (await stack.http.get("/v1/schedules/hourly")).json() == hourly


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ({"every": None}, 400, "bad_request"),
        ({"cron": "0 3 * * *"}, 400, "bad_request"),
        ({"every": None, "cron": "0 0 30 2 *"}, 400, "bad_request"),
        ({"every": None, "cron": "0 3 * * *", "zone": "Mars/Olympus"}, 400, "bad_request"),
        ({"every": "soon"}, 400, "bad_duration"),
        ({"every": 0.5}, 400, "bad_request"),
        ({"missed": "all"}, 400, "bad_request"),
        ({"missed": "never"}, 400, "bad_request"),
        ({"name": "../x"}, 400, "bad_request"),
        ({"name": "n" * 65}, 400, "bad_request"),
        ({"surplus": 1}, 400, "bad_request"),
        ({"task": "retrun"}, 404, "task_not_found"),
    ],
)
async def test_a_schedule_that_can_not_be_is_refused_with_what_to_do(
    shared_stack: Stack, parts: dict[str, Any], status: int, code: str
) -> None:
    response = await shared_stack.http.post("/v1/schedules", json={**HOURLY, **parts})
    assert (response.status_code, code_of(response)) == (status, code), response.text
    assert (await shared_stack.http.get("/v1/schedules")).json()["items"] == []


async def test_a_payload_that_does_not_fit_its_task_is_refused(stack: Stack) -> None:
    parts = {**HOURLY, "task": "review", "payload": 7}
    response = await stack.http.post("/v1/schedules", json=parts)
    assert (response.status_code, code_of(response)) == (422, "schema_mismatch"), response.text


async def test_pausing_resuming_and_deleting_say_what_is(stack: Stack) -> None:
    await made(stack)
    for _ in range(2):
        paused = (await stack.http.post("/v1/schedules/hourly/pause")).json()
        assert (paused["status"], paused["next_due_at"]) == ("paused", None)
    for _ in range(2):
        resumed = (await stack.http.post("/v1/schedules/hourly/resume")).json()
        assert resumed["status"] == "active"
    deleted = await stack.http.delete("/v1/schedules/hourly")
    assert (deleted.status_code, deleted.json()) == (200, {"name": "hourly"})
    for method, verb in (("POST", "/pause"), ("POST", "/run"), ("GET", ""), ("DELETE", "")):
        gone = await stack.http.request(method, f"/v1/schedules/hourly{verb}")
        assert (gone.status_code, code_of(gone)) == (404, "schedule_not_found")
    assert (await stack.http.get("/v1/schedules/a%00b")).status_code == 404


async def test_a_run_starts_a_session_now_and_none_beside_one_that_is_active(stack: Stack) -> None:
    await made(stack, name="reviews", task="review", payload={"title": "Otters"})
    response = await stack.http.post("/v1/schedules/reviews/run")
    assert response.status_code == 201, response.text
    session = response.json()["session"]
    assert session["tags"] == ["schedule:reviews"]
    info = (await stack.http.get("/v1/schedules/reviews")).json()
    assert (info["last_session_id"], info["last_due_at"]) == (session["id"], None)
    refused = await stack.http.post("/v1/schedules/reviews/run")
    assert (refused.status_code, code_of(refused)) == (409, "run_active")
    assert session["id"] in refused.json()["detail"]
    assert (await stack.http.post(f"/v1/sessions/{session['id']}/cancel")).status_code == 200
    assert (await stack.http.post("/v1/schedules/reviews/run")).status_code == 201


async def test_repeated_operations_act_once(stack: Stack) -> None:
    def named() -> dict[str, str]:
        return {"Operation-Id": ids.new_id(ids.OPERATION)}

    headers = named()
    for _ in range(2):
        response = await stack.http.post("/v1/schedules", json=HOURLY, headers=headers)
        assert response.status_code == 201, response.text
    other = await stack.http.post("/v1/schedules", json=HOURLY, headers=named())
    assert (other.status_code, code_of(other)) == (409, "conflict")
    headers = named()
    runs = [await stack.http.post("/v1/schedules/hourly/run", headers=headers) for _ in range(2)]
    assert len({run.json()["session"]["id"] for run in runs}) == 1
    headers = named()
    for _ in range(2):
        deleted = await stack.http.delete("/v1/schedules/hourly", headers=headers)
        assert deleted.status_code == 200, deleted.text


async def test_a_repeated_pause_gets_its_first_receipt_whatever_came_since(stack: Stack) -> None:
    made_one = await made(stack)
    headers = {verb: {"Operation-Id": ids.new_id(ids.OPERATION)} for verb in ("pause", "resume")}

    async def say(verb: str) -> dict[str, Any]:
        response = await stack.http.post(f"/v1/schedules/hourly/{verb}", headers=headers[verb])
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    paused, resumed = await say("pause"), await say("resume")
    assert paused == made_one | {"status": "paused", "next_due_at": None}
    assert (resumed["status"], resumed["payload"]) == ("active", 1)
    assert await say("pause") == paused
    assert (await stack.http.post("/v1/schedules/hourly/pause")).status_code == 200
    assert await say("resume") == resumed
    assert (await stack.http.delete("/v1/schedules/hourly")).status_code == 200
    assert await say("pause") == paused | {"payload": None}
