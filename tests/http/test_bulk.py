"""Many runs over HTTP: shown as one batch, done each as it was shown, gone on with by the same call (S-124)."""

from __future__ import annotations

from typing import Any

from helmr.wire import ids
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

FAILS = "fail-once"


async def failed(stack: Stack, count: int) -> list[str]:
    """Ids of so many runs that failed."""
    return [(await stack.started(FAILS, f"no luck {n}"))["run"]["id"] for n in range(count)]


async def preview(stack: Stack, verb: str, **more: Any) -> dict[str, Any]:
    response = await stack.http.post("/v1/bulk/preview", json={"verb": verb, **more})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def do(stack: Stack, plan: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """What became of each run of the plan."""
    named = ("run_id", "session_id", "attempt", "operation_id")
    runs = [{name: one[name] for name in named} for one in plan["runs"]]
    asked = {"verb": plan["verb"], "end_input": plan["end_input"], "runs": runs, **more}
    response = await stack.http.post("/v1/bulk", json=asked)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    assert [one["run_id"] for one in items] == [one["run_id"] for one in runs]
    return items


async def test_each_run_is_retried_once_however_often_the_call_is_made(stack: Stack) -> None:
    runs = await failed(stack, 3)
    plan = await preview(stack, "retry", batch_id="monday")
    assert (plan["id"], plan["verb"], plan["more"]) == ("monday", "retry", False)
    assert [one["run_id"] for one in plan["runs"]] == runs[::-1]
    assert {(one["attempt"], one["status"], one["task"]) for one in plan["runs"]} == {
        (1, "failed", FAILS)
    }
    assert plan["runs"][0]["why"] == "ValueError: no luck 2"
    await stack.http.post(f"/v1/runs/{runs[0]}/retry")
    await stack.run_until(runs[0], "failed")
    for _ in range(2):
        *done, other = await do(stack, plan)
        assert [(one["progress"], one["detail"]) for one in done] == [("accepted", "attempt 2")] * 2
        assert (other["progress"], other["error"]) == ("skipped", "session_changed")
        for run_id in runs:
            await stack.run_until(run_id, "failed")
    for run_id in runs:
        assert (await stack.http.get(f"/v1/runs/{run_id}")).json()["attempt"] == 2


async def test_a_filter_or_ids_say_which_and_a_limit_how_many(stack: Stack) -> None:
    runs = await failed(stack, 3)
    found = await preview(stack, "retry", filter=f"task:{FAILS} error:valueerror", limit=2)
    assert ([one["run_id"] for one in found["runs"]], found["more"]) == (runs[:0:-1], True)
    sessions = [(await stack.http.get(f"/v1/runs/{one}")).json()["session_id"] for one in runs]
    waits = (await stack.started())["session"]["id"]
    named = await preview(stack, "retry", session_ids=[sessions[1], waits])
    assert [one["run_id"] for one in named["runs"]] == [runs[1]]
    assert (await preview(stack, "cancel", filter="task:nothing"))["runs"] == []


async def test_only_sessions_that_are_as_they_were_seen_are_closed(stack: Stack) -> None:
    idle = [(await stack.started("return", n))["session"]["id"] for n in range(2)]
    waits = (await stack.started())["session"]["id"]
    plan = await preview(stack, "close", filter="")
    assert {one["session_id"] for one in plan["runs"]} == set(idle)
    plan = await preview(stack, "close", filter="", end_input=True)
    assert {one["session_id"] for one in plan["runs"]} == {*idle, waits}
    await stack.http.post(f"/v1/sessions/{idle[0]}/runs", json={})
    for _ in range(2):
        came = {one["session_id"]: one for one in await do(stack, plan)}
        assert (came[idle[0]]["progress"], came[idle[0]]["error"]) == ("skipped", "session_changed")
        assert {came[one]["progress"] for one in (idle[1], waits)} == {"accepted"}
    status = (await stack.http.get(f"/v1/sessions/{idle[0]}")).json()["status"]
    assert status == "open"


async def test_runs_are_cancelled_but_those_that_have_ended(stack: Stack) -> None:
    goes_on, ends = [(await stack.started())["run"]["id"] for _ in range(2)]
    plan = await preview(stack, "cancel", filter="run:waiting")
    wait = (await stack.http.get("/v1/waits")).json()["items"]
    [its] = [one["id"] for one in wait if one["run_id"] == ends]
    answer = {"data": {"decision": "approve"}}
    await stack.http.post(f"/v1/waits/{its}/answer", json=answer)
    await stack.run_until(ends, "succeeded")
    came = {one["run_id"]: (one["progress"], one["detail"]) for one in await do(stack, plan)}
    assert came == {goes_on: ("accepted", ""), ends: ("skipped", "it is succeeded meanwhile")}


async def test_young_sessions_are_not_pruned(stack: Stack) -> None:
    session_id = (await stack.started("return", 1))["session"]["id"]
    await stack.http.post(f"/v1/sessions/{session_id}/close")
    assert (await preview(stack, "prune", filter="status:closed"))["runs"] == []
    run = (await stack.http.get("/v1/runs")).json()["items"][0]
    one = {"run_id": run["id"], "session_id": session_id, "attempt": 1}
    plan = {"verb": "prune", "end_input": False, "runs": [one | {"operation_id": ids.new_id("op")}]}
    [came] = await do(stack, plan, reason="too much")
    assert came["progress"] == "skipped"
    assert "it stays" in came["detail"]


async def test_what_says_nothing_is_refused(stack: Stack) -> None:
    async def refused(path: str, body: dict[str, Any]) -> str:
        return code_of(await stack.http.post(path, json=body))

    where = "/v1/bulk/preview"
    assert await refused(where, {"verb": "cancel"}) == "bad_request"
    assert await refused(where, {"verb": "explode"}) == "bad_request"
    assert await refused(where, {"verb": "retry", "filter": "is:fine"}) == "bad_filter"
    unknown = {"verb": "retry", "session_ids": [ids.new_id(ids.SESSION)]}
    assert await refused(where, unknown) == "session_not_found"
    one = {"run_id": ids.new_id("run"), "session_id": ids.new_id("ses"), "attempt": 1}
    assert await refused("/v1/bulk", {"verb": "retry", "runs": []}) == "bad_request"
    runs = [one | {"operation_id": "monday"}]
    assert await refused("/v1/bulk", {"verb": "retry", "runs": runs}) == "bad_id"
    runs = [one | {"operation_id": ids.new_id("op")}]
    [came] = (await stack.http.post("/v1/bulk", json={"verb": "retry", "runs": runs})).json()[
        "items"
    ]
    assert (came["progress"], came["error"]) == ("skipped", "run_not_found")
