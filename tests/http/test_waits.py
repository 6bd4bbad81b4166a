"""The inbox, and answering exactly one wait (S-18)."""

from __future__ import annotations

import asyncio

from helmr.wire import ids
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

APPROVE = {"data": {"decision": "approve"}}


async def test_the_inbox_shows_pending_waits_by_deadline_without_body_and_schema(
    stack: Stack,
) -> None:
    review = (await stack.started())["session"]
    echo = (await stack.started("echo", 0))["session"]
    page = (await stack.http.get("/v1/waits")).json()
    waits = page["items"]
    assert {wait["session_id"] for wait in waits} == {review["id"], echo["id"]}
    assert [wait["id"] for wait in waits] == sorted(wait["id"] for wait in waits)
    assert all("body" not in wait and "schema" not in wait for wait in waits)
    for query, count in [
        ({"task": "echo"}, 1),
        ({"stream": "approval"}, 1),
        ({"session_id": review["id"]}, 1),
        ({"kind": "timer"}, 0),
        ({"kind": "input"}, 2),
        ({"status": "fulfilled"}, 0),
        ({"limit": "1"}, 1),
    ]:
        found = (await stack.http.get("/v1/waits", params=query)).json()["items"]
        assert len(found) == count, query
    both = await stack.http.get("/v1/waits?kind=timer&kind=input")
    assert len(both.json()["items"]) == 2
    assert code_of(await stack.http.get("/v1/waits?kind=email")) == "bad_filter"
    assert code_of(await stack.http.get("/v1/waits?session_id=x")) == "bad_id"


async def test_a_wait_is_shown_with_the_schema_of_its_answer(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    wait = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    assert wait["body"] == "# Look"
    assert wait["schema"]["required"] == ["decision"]
    missing = await stack.http.get(f"/v1/waits/{ids.new_id(ids.WAIT)}")
    assert (missing.status_code, code_of(missing)) == (404, "wait_not_found")


async def test_of_many_answers_one_wins_and_the_others_are_told_who_and_what(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    people = [f"person {number}" for number in range(10)]

    async def answer(person: str) -> tuple[int, dict[str, object]]:
        response = await stack.http.post(
            f"/v1/waits/{wait_id}/answer",
            json={"data": {"decision": "approve", "note": person}},
            headers={"On-Behalf-Of": person},
        )
        return response.status_code, response.json()

    answers = await asyncio.gather(*map(answer, people))
    winners = [n for n, (status, _) in enumerate(answers) if status == 200]
    assert len(winners) == 1
    winner = people[winners[0]]
    for status, problem in answers:
        if status == 200:
            continue
        assert (status, problem["code"]) == (409, "wait_resolved")
        facts = problem["facts"]
        assert isinstance(facts, dict)
        assert facts["resolved_by"]["on_behalf_of"] == winner
        assert facts["data"] == {"decision": "approve", "note": winner}
        assert facts["resolved_at"]
        assert winner in str(problem["detail"])


async def test_an_answer_after_the_deadline_is_gone(stack: Stack) -> None:
    receipt = await stack.started("quick-review", {"title": "News"})
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == "late"
    waits = (await stack.http.get("/v1/waits?status=timed_out")).json()["items"]
    response = await stack.http.post(f"/v1/waits/{waits[0]['id']}/answer", json=APPROVE)
    assert (response.status_code, code_of(response)) == (410, "wait_timed_out")
    assert response.json()["facts"]["deadline_at"]
    inputs = await stack.http.get(f"/v1/sessions/{receipt['session']['id']}/inputs/approval")
    assert inputs.json()["items"] == []


async def test_an_answer_to_a_cancelled_wait_says_so(stack: Stack) -> None:
    session = (await stack.started())["session"]
    await stack.http.post(f"/v1/sessions/{session['id']}/cancel")
    response = await stack.http.post(f"/v1/waits/{session['wait']['id']}/answer", json=APPROVE)
    assert (response.status_code, code_of(response)) == (409, "wait_resolved")
    assert response.json()["facts"]["status"] == "cancelled"


async def test_answers_that_are_none(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    path = f"/v1/waits/{wait_id}/answer"
    bad = await stack.http.post(path, json={"data": {"decision": "perhaps"}})
    assert (bad.status_code, code_of(bad)) == (422, "schema_mismatch")
    assert code_of(await stack.http.post(path, json={})) == "bad_request"
    assert code_of(await stack.http.post(path, json={**APPROVE, "by": "me"})) == "bad_request"
    unknown = f"/v1/waits/{ids.new_id(ids.WAIT)}/answer"
    assert code_of(await stack.http.post(unknown, json=APPROVE)) == "wait_not_found"
    assert code_of(await stack.http.post("/v1/waits/wait_x/answer", json=APPROVE)) == "bad_id"


async def test_an_answer_may_be_repeated_under_its_operation_id(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    headers = {"Operation-Id": ids.new_id(ids.OPERATION)}
    path = f"/v1/waits/{wait_id}/answer"
    first = await stack.http.post(path, json=APPROVE, headers=headers)
    again = await stack.http.post(path, json=APPROVE, headers=headers)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
