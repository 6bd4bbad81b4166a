"""A rule of the gate that says who answers: no one else decides its calls, and no grant does (S-109, S-112)."""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from helmr import sessions, streams
from helmr.gate import RESTRICTED, RUN_TASK, call_metadata, call_of
from helmr.gate import tasks as gate_tasks
from helmr.gate.claude_code import call_of_event
from helmr.tasks import task
from helmr_runtime.catalog import Registry
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.http.test_access_tokens import bearing
from tests.http.test_gate import HEADLESS, ask, asker, event, said, waiting
from tests.http.test_grants import give
from tests.http.test_rights import personal
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

RULES = """
[[gate.rule]]
name = "pushes"
tool = "Bash"
matches.command = "git push*"
action = "ask"
answerers = ["group:ops", "Ada@example.com"]
not_by = ["cy"]
approvals = 2
"""
PEOPLE = {
    "domains": ["example.com"],
    "ada": {"email": "ada@example.com"},
    "bo": {"groups": ["ops"]},
    "cy": {"groups": ["ops"]},
}
go = streams.input("go", schema=bool)
restricted = streams.input(RESTRICTED, schema=dict[str, Any])


@task(id=RUN_TASK, mcp=False)
async def heedless_run(call: dict[str, Any]) -> None:
    """A headless run that has anyone answer."""
    await go.wait()
    asked = call_of(call)
    child = await sessions.start(
        gate_tasks.gate_call, call, tags=[asked.tag], metadata=call_metadata(asked)
    )
    await child.result()


REGISTRY = Registry.of_modules([gate_tasks, sys.modules[__name__]])
PUSH = {"command": "git push origin main"}
APPROVE = {"decision": "approve", "arguments": PUSH}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, registry=REGISTRY)
    people = read_people(PEOPLE, "helmr.toml")
    stack.service = stack.make_service(sections=tomllib.loads(RULES), people=people)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start(sessions_per_host=20)
        yield stack
    finally:
        await stack.stop()


async def answers(stack: Stack, secret: str, wait_id: str, **data: Any) -> tuple[int, Any]:
    async with bearing(stack, secret) as http:
        response = await http.post(f"/v1/waits/{wait_id}/answer", json={"data": data})
    return response.status_code, response.json()


async def test_the_people_of_the_rule_decide_and_no_one_else(stack: Stack) -> None:
    keys = {name: await personal(stack, name) for name in ("ada", "bo", "cy")}
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event(tool_input=PUSH)))
        wait = (await waiting(stack))[0]
        assert (wait["answerers"], wait["approvals"]) == (["group:ops", "ada@example.com"], 2)
        for secret in (keys["cy"], stack.key):
            status, problem = await answers(stack, secret, wait["id"], **APPROVE)
            assert (status, problem["code"]) == (403, "not_an_answerer")
            assert "by 2 people: group ops or ada@example.com, but not by cy" in problem["detail"]
        _, vote = await answers(stack, keys["ada"], wait["id"], reason="It is Monday.", **APPROVE)
        assert (vote["outcome"], asking.done()) == ("voted", False)
        await answers(stack, keys["bo"], wait["id"], **APPROVE)
        assert said(await asking)[0] == "allow"


async def test_one_refusal_denies(stack: Stack) -> None:
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event(tool_input=PUSH)))
        wait = (await waiting(stack))[0]
        no = {"decision": "decline", "reason": "Not on Fridays."}
        await answers(stack, await personal(stack, "bo"), wait["id"], **no)
        assert said(await asking) == ("deny", "Not on Fridays.")


async def test_no_grant_is_given_at_such_a_call_and_none_covers_it(stack: Stack) -> None:
    async with asker(stack) as http:
        other = asyncio.ensure_future(ask(http, event(call_id="toolu_0")))
        wait = (await waiting(stack))[0]
        await answers(stack, stack.key, wait["id"], decision="approve")
        await other
        await give(stack.http, wait["session_id"], matches={})
        asking = asyncio.ensure_future(ask(http, event(tool_input=PUSH)))
        wait = (await waiting(stack))[0]
        asked = {"session_id": wait["session_id"]}
        refused = await stack.http.post("/v1/gate/grants", json=asked)
        assert (refused.status_code, code_of(refused)) == (409, "conflict")
        assert "a rule says who answers this call" in refused.json()["detail"]
        no = {"decision": "decline"}
        await answers(stack, await personal(stack, "bo"), wait["id"], **no)
        assert said(await asking)[0] == "deny"


async def test_a_headless_run_is_told_who_answers_and_gets_nothing_that_others_could_say(
    stack: Stack,
) -> None:
    """The run's own code asks, so what was said is held to the rule when it is fetched."""
    call = call_of_event(event(tool_input=PUSH))
    begun = await stack.started(RUN_TASK, call.to_json())
    run = begun["session"]["id"]
    async with asker(stack) as http:
        query = {**HEADLESS, "run": run}
        assert said(await ask(http, event(tool_input=PUSH), **query))[0] == "defer"
        told = await stack.http.get(f"/v1/sessions/{run}/inputs/{RESTRICTED}")
        [record] = told.json()["items"]
        assert record["data"]["call_id"] == call.call_id
        assert record["data"]["restriction"]["approvals"] == 2
        await stack.http.post(f"/v1/sessions/{run}/inputs/go", json={"data": True})
        wait = (await waiting(stack))[0]
        assert wait["answerers"] == [], "this run heeds no one"
        await answers(stack, stack.key, wait["id"], decision="approve")
        await stack.run_until(wait["run_id"], "succeeded")
        assert said(await ask(http, event(tool_input=PUSH), **query))[0] == "deny"
