"""Escalations of tokens that clients make over HTTP: run by each wait on the token, or refused with what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from helmr import escalation
from helmr.client import AsyncClient
from helmr.errors import BadEscalation, SchemaMismatch
from tests.http.test_sessions import code_of
from tests.service.stack import Stack, until

DECISION = {"type": "object", "required": ["decision"]}


async def made(stack: Stack, *escalation_steps: dict[str, Any], **parts: Any) -> str:
    response = await stack.http.post(
        "/v1/tokens", json={"escalation": list(escalation_steps), **parts}
    )
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def test_a_client_s_token_reminds_assigns_and_answers_its_waits(stack: Stack) -> None:
    token_id = await made(
        stack,
        {"do": "remind", "after_s": 0.05},
        {"do": "assign", "after_s": 0.1, "to": "lead"},
        {"do": "remind", "after_s": 0.05, "from": "assigned"},
        {"do": "default", "after_s": 0.3, "value": {"decision": "reject"}},
        schema=DECISION,
    )
    started = await stack.started("by-token", token_id)
    wait = (await stack.http.get(f"/v1/waits/{started['session']['wait']['id']}")).json()
    assert [escalation_step["do"] for escalation_step in wait["escalation"]] == [
        "remind",
        "assign",
        "remind",
        "default",
    ]
    run = await stack.run_until(started["run"]["id"], "succeeded")
    assert run["result"] == {"decision": "reject"}
    path = f"/v1/sessions/{started['session']['id']}/transcript"
    entries = (await stack.http.get(path, params={"limit": 200})).json()["items"]
    escalation_steps = [
        one["body"].get("escalation_step")
        for one in entries
        if one["kind"] in ("wait.reminded", "wait.assigned")
    ]
    assert escalation_steps == [0, 1, 2]
    over = (await stack.http.get(f"/v1/waits/{wait['id']}")).json()
    assert (over["status"], over["mode"], over["assignee"]) == ("fulfilled", "default", "lead")
    assert over["answer"] == {"decision": "reject"}
    token = (await stack.http.get(f"/v1/tokens/{token_id}")).json()
    assert token["status"] == "pending", "it is a promise to whoever holds its secret"


async def test_a_completion_before_the_default_stands(stack: Stack) -> None:
    async with AsyncClient(url=stack.url, key=stack.key) as client:
        token = await client.tokens.create(
            schema=dict[str, str], escalation=[escalation.default("1h", {"decision": "reject"})]
        )
        started = await client.sessions.start("by-token", token.id)
        await client.tokens.complete(token.id, {"decision": "approve"})

        async def is_over() -> bool:
            run = await client.runs.get(started.started_run.id)
            return run.status == "succeeded" and run.result == {"decision": "approve"}

        await until(is_over)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("escalation_steps", "code"),
    [
        ([{"do": "assign", "after_s": 1}], "bad_escalation"),
        ([{"do": "assign", "after_s": 1, "to": "a\nb"}], "bad_escalation"),
        ([{"do": "remind", "after_s": 1, "to": "mia"}], "bad_escalation"),
        ([{"do": "remind", "after_s": 1, "value": 1}], "bad_escalation"),
        ([{"do": "default", "after_s": 1}], "bad_escalation"),
        ([{"do": "default", "after_s": 1, "value": {"decision": 1}}] * 2, "bad_escalation"),
        ([{"do": "default", "after_s": 8 * 86_400, "value": {"decision": 1}}], "bad_escalation"),
        ([{"do": "default", "after_s": 1, "value": {}}], "schema_mismatch"),
        ([{"do": "call", "after_s": 1}], "bad_request"),
        ([{"do": "remind", "after_s": 0}], "bad_request"),
        ([{"do": "remind", "after_s": 1e12}], "bad_duration"),
        ([{"do": "remind", "after_s": 1}] * 21, "bad_request"),
        ("1h", "bad_request"),
    ],
)
async def test_an_escalation_that_cannot_be_run_makes_no_token(
    shared_stack: Stack, escalation_steps: Any, code: str
) -> None:
    refused = await shared_stack.http.post(
        "/v1/tokens", json={"escalation": escalation_steps, "schema": DECISION}
    )
    assert (refused.status_code // 100, code_of(refused)) == (4, code), refused.text
    assert (await shared_stack.http.get("/v1/tokens")).json()["items"] == []


async def test_the_client_refuses_before_it_asks(stack: Stack) -> None:
    async with AsyncClient(url=stack.url, key=stack.key) as client:
        with pytest.raises(BadEscalation):
            await client.tokens.create(timeout="1h", escalation=[escalation.default("2h", 1)])
        with pytest.raises(SchemaMismatch):
            await client.tokens.create(schema=int, escalation=[escalation.default("2h", "x")])
    assert (await stack.http.get("/v1/tokens")).json()["items"] == []
