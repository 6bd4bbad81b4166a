"""Runs over HTTP: list, read, cancel, retry."""

from __future__ import annotations

from helmr.wire import ids
from tests.http.test_sessions import code_of
from tests.service.stack import Stack


async def test_runs_are_listed_newest_first(stack: Stack) -> None:
    first = (await stack.started("return", 1))["run"]
    second = (await stack.started())["run"]
    runs = (await stack.http.get("/v1/runs")).json()["items"]
    assert [run["id"] for run in runs] == [second["id"], first["id"]]
    for query, expected in [
        ({"status": "succeeded"}, [first["id"]]),
        ({"task": "review"}, [second["id"]]),
        ({"session_id": second["session_id"]}, [second["id"]]),
        ({"limit": "1"}, [second["id"]]),
    ]:
        page = (await stack.http.get("/v1/runs", params=query)).json()
        assert [run["id"] for run in page["items"]] == expected
    assert code_of(await stack.http.get("/v1/runs?status=done")) == "bad_filter"
    assert code_of(await stack.http.get("/v1/runs?session_id=run_1")) == "bad_id"


async def test_a_run_is_cancelled_and_stays_so(stack: Stack) -> None:
    run_id = (await stack.started())["run"]["id"]
    for _ in range(2):
        response = await stack.http.post(f"/v1/runs/{run_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    refused = await stack.http.post(f"/v1/runs/{run_id}/retry")
    assert (refused.status_code, code_of(refused)) == (409, "run_not_retryable")


async def test_a_failed_run_says_why_and_is_retried(stack: Stack) -> None:
    receipt = await stack.started("fail-once", "no luck")
    run = receipt["run"]
    assert run["status"] == "failed"
    assert run["error"]["type"] == "ValueError"
    assert run["error"]["message"] == "no luck"
    retried = await stack.http.post(f"/v1/runs/{run['id']}/retry")
    assert (retried.status_code, retried.json()["attempt"]) == (200, 2)
    assert (await stack.run_until(run["id"], "failed"))["attempt"] == 2


async def test_unknown_runs_are_404(stack: Stack) -> None:
    unknown = f"/v1/runs/{ids.new_id(ids.RUN)}"
    for response in (
        await stack.http.get(unknown),
        await stack.http.post(f"{unknown}/cancel"),
        await stack.http.post(f"{unknown}/retry"),
    ):
        assert (response.status_code, code_of(response)) == (404, "run_not_found")
    assert code_of(await stack.http.get("/v1/runs/x")) == "bad_id"
