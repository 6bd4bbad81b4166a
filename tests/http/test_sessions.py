"""Sessions over HTTP."""

from __future__ import annotations

from tests.service.stack import Stack


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
