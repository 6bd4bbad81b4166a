"""Standing grants on a whole runtime: given at a call, they allow the next ones until they end (S-107)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.gate import RUN_TASK, GateAction
from helmr.gate.claude_code import call_of_event
from helmr.matching import DeclaredRule
from helmr.wire import ids
from helmr_runtime.features.gate import decisions
from helmr_runtime.process.gateway import GatewayActor
from tests.gate.sections import sections
from tests.http.test_access_tokens import bearing, key
from tests.http.test_gate import (
    HEADLESS,
    NOW,
    REGISTRY,
    answer,
    ask,
    asker,
    calls,
    event,
    said,
    waiting,
)
from tests.http.test_sessions import code_of
from tests.longer import long_but
from tests.service.stack import Stack

SECTIONS = sections(
    DeclaredRule("never", GateAction.DENY, ("Bash",), matches={"command": ("git push --force*",)}),
    DeclaredRule("pushes", GateAction.ASK, ("Bash",), matches={"command": ("git push*",)}),
)
PUSH = {"command": "git push origin main"}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with a gate and these rules."""
    stack = Stack(tmp_path, registry=REGISTRY)
    stack.service = stack.make_service(sections=SECTIONS)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start(sessions_per_host=20)
        yield stack
    finally:
        await stack.stop()


async def give(http: httpx.AsyncClient, session_id: str, **parts: Any) -> dict[str, Any]:
    made = await http.post("/v1/gate/grants", json={"session_id": session_id, **parts})
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


async def approved(stack: Stack, http: httpx.AsyncClient, **posted: Any) -> str:
    """The session of a call that a person has approved."""
    asking = asyncio.ensure_future(ask(http, event(**posted)))
    wait = await answer(stack, decision="approve")
    await asking
    return str(wait["session_id"])


async def verdict(http: httpx.AsyncClient, call_id: str, **posted: Any) -> str:
    """`asked` if a person would have to say it."""
    output = await ask(http, event(call_id=call_id, **posted), timeout_s=0)
    return said(output)[0] if output is not None else "asked"


async def defer(http: httpx.AsyncClient, call_id: str, **posted: Any) -> None:
    """Have the call wait for a person, with a client that asks about it again."""
    output = await ask(http, event(call_id=call_id, **posted), **NOW)
    assert said(output)[0] == "defer"


async def test_what_is_granted_is_allowed_and_recorded_until_it_is_revoked(stack: Stack) -> None:
    async with asker(stack) as http:
        session_id = await approved(stack, http, tool_input=PUSH)
        # An answer implies no grant.
        assert await verdict(http, "toolu_2", tool_input=PUSH) == "asked"
        grant = await give(stack.http, session_id, matches={"command": "git push*"})
        assert (grant["tool"], grant["agent"]) == ("Bash", "agent-1")
        output = await ask(
            http, event(call_id="toolu_3", tool_input={"command": "git push"}), timeout_s=0
        )
        assert said(output)[0] == "allow"
        assert grant["id"] in (said(output)[1] or "")
        assert await verdict(http, "toolu_4", tool_input={"command": "git push --force"}) == "deny"
        assert await verdict(http, "toolu_5", tool_input={"command": "git push; x"}) == "asked"
        agents = (await stack.http.get("/v1/sessions", params={"task": "helmr.gate.agent"})).json()
        (agent,) = agents["items"]
        records = (await stack.http.get(f"/v1/sessions/{agent['id']}/inputs/ruled")).json()["items"]
        data = [one["data"] for one in records if "session_id" not in one["data"]]
        shown = [(one["call_id"], one.get("grant")) for one in data]
        assert shown == [("toolu_3", grant["id"]), ("toolu_4", None)]
        revoked = await stack.http.delete(f"/v1/gate/grants/{grant['id']}")
        assert revoked.json()["revoked_at"] is not None
        # Also the same call asked again is asked about, and one that is new.
        assert await verdict(http, "toolu_3", tool_input={"command": "git push"}) == "asked"
    listed = (await stack.http.get("/v1/gate/grants")).json()["items"]
    assert [one["id"] for one in listed] == [grant["id"]]


async def test_it_is_for_the_same_agent_and_key_only(stack: Stack) -> None:
    async with asker(stack) as http, asker(stack, "other") as other:
        session_id = await approved(stack, http, tool_input=PUSH)
        await give(stack.http, session_id, matches={})
        assert await verdict(http, "toolu_2", tool_input={"command": "any"}) == "allow"
        assert await verdict(http, "toolu_3", session_id="agent-2") == "asked"
        assert await verdict(other, "toolu_4") == "asked"
        assert await verdict(http, "toolu_5", tool_name="Write") == "asked"


async def test_a_call_that_was_denied_stays_denied_and_grants_nothing(stack: Stack) -> None:
    async with asker(stack) as http:
        session_id = await approved(stack, http)
        asking = asyncio.ensure_future(ask(http, event(call_id="toolu_2")))
        denied = await answer(stack, decision="decline", reason="no")
        await asking
        refused = await stack.http.post(
            "/v1/gate/grants", json={"session_id": denied["session_id"]}
        )
        assert (refused.status_code, code_of(refused)) == (409, "conflict")
        await give(stack.http, session_id)
        assert await verdict(http, "toolu_2") == "deny"
        assert await verdict(http, "toolu_3") == "allow"


async def test_a_call_that_waits_already_waits_on_and_can_be_granted(stack: Stack) -> None:
    async with asker(stack) as http:
        await defer(http, "toolu_1")
        (wait,) = await waiting(stack)
        await give(stack.http, wait["session_id"])
        await defer(http, "toolu_1")
        await answer(stack, decision="approve")


async def test_what_is_granted_is_allowed_also_beside_a_deferred_call(stack: Stack) -> None:
    async with asker(stack) as http:
        session_id = await approved(stack, http)
        await give(stack.http, session_id, matches={"command": "touch*"})
        assert await verdict(http, "toolu_2", tool_input=PUSH) == "asked"
        # Deferred by a headless client: what is granted is allowed, what isn't is to be called again.
        deferred = await ask(http, event(call_id="toolu_3", tool_input=PUSH), **NOW)
        assert said(deferred)[0] == "defer"
        assert said(await ask(http, event(call_id="toolu_4"), **NOW))[0] == "allow"
        other = await ask(http, event(call_id="toolu_5", tool_name="Write"), **NOW)
        assert said(other)[0] == "deny"


async def test_what_is_granted_is_no_question(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "PER_MINUTE", 1)
    async with asker(stack) as http:
        await give(stack.http, await approved(stack, http))
        assert await verdict(http, "toolu_2") == "allow"
        assert await verdict(http, "toolu_3", tool_name="Write") == "deny"
        assert await verdict(http, "toolu_4") == "allow"


async def test_what_is_granted_in_a_run_is_not_deferred(stack: Stack) -> None:
    call = call_of_event(event()).to_json()
    async with asker(stack) as http:
        begun = await stack.http.post("/v1/sessions", json={"task": RUN_TASK, "payload": call})
        run = {**HEADLESS, "run": begun.json()["session"]["id"]}
        wait = await answer(stack, decision="approve")
        await stack.run_until(wait["run_id"], "succeeded")
        await give(stack.http, wait["session_id"], matches={"command": "touch*"})
        assert said(await ask(http, event(), **run)) == ("allow", None)
        touched = event(call_id="toolu_2", tool_input={"command": "touch two"})
        assert said(await ask(http, touched, **run))[0] == "allow"
        pushed = event(call_id="toolu_3", tool_input=PUSH)
        assert said(await ask(http, pushed, **run))[0] == "defer"
        # Of the same turn: what is granted is allowed, what isn't is to be called again.
        assert said(await ask(http, {**touched, "tool_use_id": "toolu_4"}, **run))[0] == "allow"
        assert said(await ask(http, {**pushed, "tool_use_id": "toolu_5"}, **run))[0] == "deny"
        # It is the run's: the same key outside of it is asked.
        assert said(await ask(http, event(call_id="toolu_6"), **NOW))[0] != "allow"


async def test_what_a_person_has_changed_is_what_is_granted(stack: Stack) -> None:
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event()))
        wait = await answer(stack, decision="approve", arguments={"command": "touch two"})
        await asking
        grant = await give(stack.http, wait["session_id"])
        assert grant["matches"] == {"command": ["touch two"]}


async def test_calls_without_an_id_are_granted_too(stack: Stack) -> None:
    posted = {"client": "mcp", "agent": "files@/srv", "tool": "files.write", "input": {"path": "a"}}
    async with asker(stack) as http:
        first = await http.post("/v1/gate/calls", json={**posted, "hold_s": 0})
        assert first.json()["verdict"] == "pending"
        await give(stack.http, first.json()["session_id"], matches={"path": "*"})
        await answer(stack, decision="approve")
        second = (await http.post("/v1/gate/calls", json=posted)).json()
        assert (second["verdict"], second["session_id"]) == ("allow", first.json()["session_id"])
        for path in ("a", "b"):
            more = {**posted, "input": {"path": path}}
            found = (await http.post("/v1/gate/calls", json=more)).json()
            assert (found["verdict"], found["session_id"]) == ("allow", None)
    assert len(await calls(stack)) == 1


@long_but(
    2,
    ("parts", "code"),
    [
        ({"matches": {"command": "git *"}}, "conflict"),
        ({"expires_in": "8d"}, "bad_request"),
        ({"expires_in": 0}, "bad_duration"),
        ({"matches": {"command": "x" * 1_001}}, "bad_request"),
        ({"session_id": ids.new_id(ids.SESSION)}, "session_not_found"),
    ],
)
async def test_what_can_not_be_granted(stack: Stack, parts: dict[str, Any], code: str) -> None:
    async with asker(stack) as http:
        await defer(http, "toolu_1")
    (wait,) = await waiting(stack)
    body = {"session_id": wait["session_id"], **parts}
    assert code_of(await stack.http.post("/v1/gate/grants", json=body)) == code
    assert (await stack.http.get("/v1/gate/grants")).json()["items"] == []


@long_but(
    1,
    ("tool", "given"),
    [("ExitPlanMode", {"plan": "x"}), ("AskUserQuestion", {"questions": [{"question": "Which?"}]})],
)
async def test_no_one_allows_a_question_or_a_plan_for_later(
    stack: Stack, tool: str, given: Any
) -> None:
    async with asker(stack) as http:
        await defer(http, "toolu_1", tool_name=tool, tool_input=given)
    (wait,) = await waiting(stack)
    response = await stack.http.post("/v1/gate/grants", json={"session_id": wait["session_id"]})
    assert code_of(response) == "conflict"


@long_but(1, "role", ["asker", "viewer", "sender"])
async def test_who_may_not_answer_grants_and_revokes_nothing(stack: Stack, role: str) -> None:
    async with asker(stack) as http:
        await defer(http, "toolu_1")
    (wait,) = await waiting(stack)
    grant = await give(stack.http, wait["session_id"])
    async with bearing(stack, await key(stack, role, "k")) as http:
        body = {"session_id": wait["session_id"]}
        assert (await http.post("/v1/gate/grants", json=body)).status_code == 403
        assert (await http.delete(f"/v1/gate/grants/{grant['id']}")).status_code == 403
