"""The gate's routes on a whole runtime: an agent asks, a person or a rule decides, the client reports what it did."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr import sessions
from helmr.gate import (
    AGENT_TASK,
    CALL_TASK,
    RUN_TASK,
    GateAction,
    call_metadata,
    call_of,
    rules_copy,
    tasks,
)
from helmr.gate.claude_code import call_of_event
from helmr.gate.reach import OwnFolder
from helmr.matching import DeclaredRule, DeclaredRules, read_rules
from helmr.models import GATE_TIMEOUT_MAX_S
from helmr.tasks import task
from helmr.wire import ids
from helmr_runtime.catalog import Registry
from helmr_runtime.features.gate import decisions, gated_calls
from helmr_runtime.process.gateway import GatewayActor
from tests.gate.sections import sections
from tests.http.test_access_tokens import bearing, key
from tests.longer import long_but
from tests.service.stack import Stack, until

SECTIONS = sections(
    DeclaredRule("looks", GateAction.ALLOW, ("Bash",), matches={"command": ("ls*",)}),
    DeclaredRule(
        "never", GateAction.DENY, ("Bash",), matches={"command": ("rm *",)}, reason="never"
    ),
    DeclaredRule("pushes", GateAction.ASK, ("Bash",), matches={"command": ("git push*",)}),
)
RULES = read_rules(SECTIONS["gate"], "helmr.toml")


@task(id=RUN_TASK, mcp=False)
async def headless_run(call: dict[str, Any]) -> None:
    """A headless run whose client has deferred this call."""
    asked = call_of(call)
    child = await sessions.start(
        tasks.gate_call, call, tags=[asked.tag], metadata=call_metadata(asked)
    )
    await child.result()


REGISTRY = Registry.of_modules([tasks, sys.modules[__name__]])
HEADLESS: dict[str, Any] = {"mode": "headless", "timeout_s": 60}
NOW: dict[str, Any] = {"mode": "headless", "timeout_s": 0}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with a gate and these rules."""
    stack = Stack(tmp_path, registry=REGISTRY)
    stack.service = stack.make_service(sections=SECTIONS)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    async with running(stack):
        yield stack


@asynccontextmanager
async def running(stack: Stack) -> AsyncIterator[Stack]:
    try:
        await stack.start(sessions_per_host=20)
        yield stack
    finally:
        await stack.stop()


def event(kind: str = "PreToolUse", call_id: str = "toolu_1", **changes: Any) -> dict[str, Any]:
    """As Claude Code posts it; a permission request names no call."""
    found = {
        "session_id": "agent-1",
        "cwd": "/srv/shop",
        "permission_mode": "default",
        "hook_event_name": kind,
        "tool_name": "Bash",
        "tool_input": {"command": "touch one", "description": "x"},
        **changes,
    }
    return found if kind == "PermissionRequest" else {**found, "tool_use_id": call_id}


async def ask(http: httpx.AsyncClient, posted: dict[str, Any], **query: Any) -> Any:
    response = await http.post("/v1/gate/claude-code", json=posted, params=query or HEADLESS)
    assert response.status_code == 200, response.text
    return response.json().get("hookSpecificOutput")


def said(output: Any) -> tuple[str, str | None]:
    """The verdict and the reason."""
    if "decision" in output:
        return output["decision"]["behavior"], output["decision"].get("message")
    return output["permissionDecision"], output.get("permissionDecisionReason")


async def calls(stack: Stack) -> list[dict[str, Any]]:
    found = await stack.http.get("/v1/sessions", params={"task": CALL_TASK})
    items: list[dict[str, Any]] = found.json()["items"]
    return items


async def waiting(stack: Stack, count: int = 1) -> list[dict[str, Any]]:
    """The waits that people see, once there are so many."""
    found: list[dict[str, Any]] = []

    async def are_there() -> bool:
        found[:] = (await stack.http.get("/v1/waits")).json()["items"]
        return len(found) == count

    await until(are_there)
    return found


async def answer(stack: Stack, **data: Any) -> dict[str, Any]:
    """Answer the one wait that there is."""
    wait = (await waiting(stack))[0]
    response = await stack.http.post(f"/v1/waits/{wait['id']}/answer", json={"data": data})
    assert response.status_code == 200, response.text
    return wait


async def is_closed(stack: Stack) -> bool:
    return all(one["status"] != "open" for one in await calls(stack))


@asynccontextmanager
async def asker(stack: Stack, name: str = "laptop") -> AsyncIterator[httpx.AsyncClient]:
    async with bearing(stack, await key(stack, "asker", name)) as http:
        yield http


async def test_a_call_is_asked_about_once_and_its_answer_goes_to_the_agent(stack: Stack) -> None:
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event()))
        wait = await answer(stack, decision="approve")
        assert said(await asking) == ("allow", None)
        assert wait["subject"] == "Run touch one"
        assert wait["task"] == CALL_TASK
        assert (await calls(stack))[0]["tags"] == ["claude-code:agent-1"]
        # The same call again gets the same decision, and no one is asked.
        assert said(await ask(http, event(), **NOW)) == ("allow", None)
        assert len(await calls(stack)) == 1
        await ask(http, event("PostToolUse"))
        assert await is_closed(stack)
        # Also when it is closed; another call with the same input is another question.
        assert said(await ask(http, event(), **NOW)) == ("allow", None)
        assert said(await ask(http, event(call_id="toolu_2"), **NOW))[0] == "defer"
        assert len(await calls(stack)) == 2


async def test_a_denial_says_why_and_closes_the_call(stack: Stack) -> None:
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event()))
        await answer(stack, decision="decline", reason="not on Friday")
        assert said(await asking) == ("deny", "not on Friday")
        assert await is_closed(stack)
        assert said(await ask(http, event(), **NOW)) == ("deny", "not on Friday")


async def test_what_a_person_has_changed_is_what_the_tool_gets(stack: Stack) -> None:
    changed = {"command": "touch other"}
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event("PermissionRequest"), timeout_s=60))
        await answer(stack, decision="approve", arguments=changed)
        assert (await asking)["decision"] == {"behavior": "allow", "updatedInput": changed}
        # The client reports what it has run, which is not what it had asked about.
        await ask(http, event("PostToolUse", tool_input=changed))
        assert await is_closed(stack)
        one = (await calls(stack))[0]["id"]
        info = (await http.get(f"/v1/gate/calls/{one}")).json()
        assert (info["verdict"], info["input"], info["outcome"]) == ("allow", changed, "succeeded")


QUESTION = {"question": "Which color?", "header": "Color", "options": [{"label": "Blue"}]}


@long_but(
    1,
    ("tool", "given", "answered", "output"),
    [
        (
            "AskUserQuestion",
            {"questions": [QUESTION]},
            {"q1": "Blue"},
            {"questions": [QUESTION], "answers": {"Which color?": "Blue"}},
        ),
        ("ExitPlanMode", {"plan": "# Plan"}, {"decision": "approve"}, {"plan": "# Plan"}),
    ],
)
async def test_what_the_agent_asks_itself_has_a_form(
    stack: Stack, tool: str, given: Any, answered: Any, output: Any
) -> None:
    asked = event("PermissionRequest", tool_name=tool, tool_input=given)
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, asked, timeout_s=60))
        await answer(stack, **answered)
        assert (await asking)["decision"].get("updatedInput") == output


async def test_rules_decide_without_a_person_and_leave_an_entry(stack: Stack) -> None:
    async with asker(stack) as http:
        allowed = await ask(http, event(tool_input={"command": "ls -l"}), **NOW)
        assert said(allowed) == ("allow", "The rule 'looks' allows it.")
        denied = await ask(http, event(call_id="toolu_2", tool_input={"command": "rm x"}), **NOW)
        assert said(denied) == ("deny", "never")
    assert await calls(stack) == []
    (agent,) = (await stack.http.get("/v1/sessions")).json()["items"]
    records = (await stack.http.get(f"/v1/sessions/{agent['id']}/inputs/ruled")).json()["items"]
    assert [(one["data"]["rule"], one["data"]["action"]) for one in records] == [
        ("looks", "allow"),
        ("never", "deny"),
    ]
    assert {one["data"]["rules_hash"] for one in records} == {RULES.hash}
    assert records[0]["data"]["input"] == {"command": "ls -l"}


async def test_an_agents_own_session_says_what_people_were_asked_and_have_said(
    stack: Stack,
) -> None:
    async with asker(stack) as http:
        await ask(http, event(tool_input={"command": "ls"}), **NOW)
        asking = asyncio.ensure_future(ask(http, event(call_id="toolu_2")))
        first = await answer(stack, decision="approve")
        await asking
        await ask(http, event(call_id="toolu_2"), **NOW)
        asking = asyncio.ensure_future(ask(http, event("PermissionRequest"), timeout_s=60))
        second = await answer(stack, decision="decline")
        await asking
    found = await stack.http.get("/v1/sessions", params={"task": AGENT_TASK})
    (agent,) = found.json()["items"]
    records = (await stack.http.get(f"/v1/sessions/{agent['id']}/inputs/ruled")).json()["items"]
    decided = [(one["data"]["action"], one["data"].get("session_id")) for one in records]
    assert decided == [
        ("allow", None),
        ("ask", first["session_id"]),
        ("allow", first["session_id"]),
        ("ask", second["session_id"]),
        ("deny", second["session_id"]),
    ]


async def test_a_rule_that_asks_is_named_by_the_call(stack: Stack) -> None:
    async with asker(stack) as http:
        await ask(http, event(tool_input={"command": "git push"}), **NOW)
    metadata = (await calls(stack))[0]["metadata"]
    assert (metadata["rule"], metadata["rules_hash"]) == ("pushes", RULES.hash)


async def test_without_an_answer_a_headless_client_defers_and_an_interactive_one_decides(
    stack: Stack,
) -> None:
    async with asker(stack) as http:
        assert said(await ask(http, event(), **NOW))[0] == "defer"
        # One that waits no longer is not asked about.
        assert await ask(http, event("PermissionRequest"), timeout_s=0) is None
        await waiting(stack, 1)


async def test_a_call_whose_client_holds_the_line_has_its_deadline(stack: Stack) -> None:
    """S-138: left to the client after it, and the same call asked again is a new question."""
    asked = event("PermissionRequest")
    async with asker(stack) as http:
        before = stack.service.now()
        asking = asyncio.ensure_future(ask(http, asked, timeout_s=14))
        (wait,) = await waiting(stack)
        due = datetime.fromisoformat(wait["deadline_at"]) - before
        assert timedelta(seconds=3) < due < timedelta(seconds=8)
        assert await asking is None
        await waiting(stack, 0)
        (left,) = (await stack.http.get("/v1/waits?status=timed_out")).json()["items"]
        assert left["id"] == wait["id"]
        info = (await http.get(f"/v1/gate/calls/{wait['session_id']}")).json()
        assert (info["status"], info["verdict"]) == ("left", None)
        late = await stack.http.post(f"/v1/waits/{wait['id']}/answer", json={"data": APPROVED})
        assert late.status_code == 410
        # No approval of it is left over, and no one is asked what became of it.
        asking = asyncio.ensure_future(ask(http, asked, timeout_s=60))
        new = await answer(stack, decision="decline")
        assert said(await asking)[0] == "deny"
        assert new["session_id"] != wait["session_id"]
        await ask(http, event("SessionEnd"), **HEADLESS)
        assert (await stack.http.get("/v1/gate/unknown")).json()["items"] == []
        # What a client asks about again has no such end.
        await ask(http, event(), **NOW)
        assert (await waiting(stack))[0]["deadline_at"] is None


async def test_a_question_of_a_client_that_has_gone_is_no_answer_to_the_next(stack: Stack) -> None:
    asked = event("PermissionRequest")
    async with asker(stack) as http:
        gone = asyncio.ensure_future(ask(http, asked, timeout_s=12))
        (wait,) = await waiting(stack)
        gone.cancel()
        # It asks again, and waits on when the time of the first question is over.
        asking = asyncio.ensure_future(ask(http, asked, timeout_s=60))
        await stack.run_until(wait["run_id"], "succeeded")
        new = await answer(stack, decision="approve")
        assert said(await asking)[0] == "allow"
        assert new["session_id"] != wait["session_id"]


APPROVED = {"decision": "approve"}
RULES_ONLY: dict[str, Any] = {"mode": "rules"}


@long_but(
    2,
    ("command", "verdict"),
    [("ls -l", None), ("touch one", None), ("git push x", "ask"), ("rm x", "deny")],
)
async def test_rules_are_asked_without_a_person(
    stack: Stack, command: str, verdict: str | None
) -> None:
    """S-137: a denial is recorded before it is said, `ask` by its wait, no opinion not at all."""
    posted = event(tool_input={"command": command})
    async with asker(stack) as http:
        output = await ask(http, posted, **RULES_ONLY)
        assert (said(output)[0] if output else None) == verdict
        agents = (await stack.http.get("/v1/sessions")).json()["items"]
        assert len(agents) == (verdict == "deny")
        for agent in agents:
            path = f"/v1/sessions/{agent['id']}/inputs/ruled"
            (record,) = (await stack.http.get(path)).json()["items"]
            assert (record["data"]["rule"], record["data"]["action"]) == ("never", "deny")
        assert await waiting(stack, 0) == []


async def test_a_copy_of_the_rules_comes_with_the_answer_to_a_hook_that_has_others(
    stack: Stack,
) -> None:
    async def copy(http: httpx.AsyncClient, **query: Any) -> Any:
        found = await http.post("/v1/gate/claude-code", json=event(), params=RULES_ONLY | query)
        return found.json().get("rules")

    async with asker(stack) as http:
        brought = await copy(http)
        assert rules_copy.decode_rules(brought).rules == RULES.rules
        assert brought["hash"] == RULES.hash
        assert await copy(http, rules="other") == brought
        assert await copy(http, rules=RULES.hash) is None


async def test_what_codex_held_before_the_call_is_not_asked_about_at_its_prompt(
    stack: Stack,
) -> None:
    given = {"command": "touch one"}
    at_prompt = event("PermissionRequest", tool_input={**given, "description": "May I?"})
    codex = {"client": "codex"}
    async with asker(stack) as http:
        before = ask(http, event(tool_input=given), **codex, **HEADLESS)
        asking = asyncio.ensure_future(before)
        await answer(stack, decision="approve")
        assert said(await asking) == ("allow", None)
        assert said(await ask(http, at_prompt, **codex, timeout_s=60))[0] == "allow"
        await ask(http, event("PostToolUse", tool_input=given), **codex)
        # Made once; the next is another call.
        asking = asyncio.ensure_future(ask(http, at_prompt, **codex, timeout_s=60))
        await answer(stack, decision="decline")
        assert said(await asking)[0] == "deny"


@pytest.mark.long
async def test_the_client_is_answered_ten_seconds_before_its_time(stack: Stack) -> None:
    async with asker(stack) as http:
        async with asyncio.timeout(8):
            assert said(await ask(http, event(), mode="headless", timeout_s=10.5))[0] == "defer"


async def test_codex_defers_nothing_and_has_calls_of_its_own(stack: Stack) -> None:
    codex = {"client": "codex", **NOW}
    async with asker(stack) as http:
        verdict, reason = said(await ask(http, event(), **codex))
        assert verdict == "deny"
        assert "Call it again" in (reason or "")
        assert await calls(stack) == []
        asking = asyncio.ensure_future(ask(http, event(call_id="toolu_2"), **{**codex, **HEADLESS}))
        await answer(stack, decision="approve")
        assert said(await asking) == ("allow", None)
        await ask(http, event("PostToolUse", "toolu_2"), **codex)
        found = await calls(stack)
    assert {one["tags"][0] for one in found} == {"codex:agent-1"}
    assert {one["status"] for one in found} == {"closed"}


async def test_a_deferred_call_is_asked_about_again_when_the_client_is_resumed(
    stack: Stack,
) -> None:
    async with asker(stack) as http:
        assert said(await ask(http, event(), **NOW))[0] == "defer"
        # The client ends with the deferral: what it deferred is still to be decided.
        await ask(http, event("SessionEnd"), **HEADLESS)
        await answer(stack, decision="approve")
        assert said(await ask(http, event())) == ("allow", None)
        assert len(await calls(stack)) == 1


async def test_of_two_calls_in_a_turn_the_second_is_to_be_called_again_alone(stack: Stack) -> None:
    async with asker(stack) as http:
        assert said(await ask(http, event(), **NOW))[0] == "defer"
        verdict, reason = said(await ask(http, event(call_id="toolu_2"), **NOW))
        assert verdict == "deny"
        assert "Call it again, alone" in (reason or "")
        assert len(await calls(stack)) == 1
        await ask(http, event("SessionEnd"), **HEADLESS)
        assert said(await ask(http, event(call_id="toolu_3"), **NOW))[0] == "defer"


async def test_a_call_without_an_id_takes_a_decision_once(stack: Stack) -> None:
    asked = event("PermissionRequest")
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, asked, timeout_s=60))
        await answer(stack, decision="approve")
        assert said(await asking)[0] == "allow"
        # The same request again is another call.
        asking = asyncio.ensure_future(ask(http, asked, timeout_s=60))
        await answer(stack, decision="decline")
        assert said(await asking)[0] == "deny"
        assert len(await calls(stack)) == 2
        asking = asyncio.ensure_future(ask(http, asked, timeout_s=60))
        await waiting(stack)
        assert len(await calls(stack)) == 3
        asking.cancel()


async def test_a_late_decision_is_taken_within_an_hour(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asker(stack) as http:

        async def verdict(hold_s: float) -> str:
            asked = await http.post("/v1/gate/calls", json=nameless(hold_s=hold_s))
            return str(asked.json()["verdict"])

        assert await verdict(0) == "pending"
        wait = await answer(stack, decision="approve")
        await stack.run_until(wait["run_id"], "succeeded")
        monkeypatch.setattr(gated_calls, "VALID_FOR", timedelta())
        assert await verdict(0) == "pending"
        assert len(await calls(stack)) == 2
        monkeypatch.undo()
        await answer(stack, decision="approve")
        assert await verdict(30) == "allow"


@long_but(
    1,
    "report",
    [event("PostToolUse"), event("PostToolUseFailure"), event("PermissionDenied"), event("Stop")],
    ids=lambda one: one["hook_event_name"],
)
async def test_what_was_decided_at_the_client_is_not_asked_any_more(
    stack: Stack, report: dict[str, Any]
) -> None:
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event("PermissionRequest"), timeout_s=60))
        await waiting(stack)
        assert await ask(http, report, timeout_s=10) is None
        assert await asking is None
        await waiting(stack, 0)
    session = (await calls(stack))[0]
    assert session["status"] == "cancelled"
    entries = (await stack.http.get(f"/v1/sessions/{session['id']}/transcript")).json()["items"]
    assert entries[-1]["body"]["reason"] == "decided_elsewhere"


async def test_what_became_of_a_call_is_recorded_or_unknown(stack: Stack) -> None:
    async with asker(stack) as http:
        for call_id in ("toolu_1", "toolu_2", "toolu_3"):
            asking = asyncio.ensure_future(ask(http, event(call_id=call_id)))
            await answer(stack, decision="approve")
            assert said(await asking)[0] == "allow"
        await ask(http, event("PostToolUse", "toolu_1"))
        await ask(http, event("PostToolUseFailure", "toolu_2"))
        await ask(http, event("SessionEnd"))
        found = {one["metadata"]["call_id"]: one for one in await calls(stack)}
        assert {name: one["status"] for name, one in found.items()} == {
            "toolu_1": "closed",
            "toolu_2": "closed",
            "toolu_3": "open",
        }
        outcomes = {}
        for name, one in found.items():
            read = await http.get(f"/v1/gate/calls/{one['id']}")
            outcomes[name] = read.json()["outcome"]
        assert outcomes == {"toolu_1": "succeeded", "toolu_2": "failed", "toolu_3": None}
        path = f"/v1/sessions/{found['toolu_3']['id']}/inputs/outcomes"
        (unknown,) = (await stack.http.get(path)).json()["items"]
        assert unknown["data"]["unknown"] is True


async def test_a_run_asks_itself_and_its_client_gets_the_decision(stack: Stack) -> None:
    call = call_of_event(event()).to_json()
    async with asker(stack) as http:
        none_yet = {"task": RUN_TASK, "payload": call_of_event(event(call_id="toolu_0")).to_json()}
        other = (await stack.http.post("/v1/sessions", json=none_yet)).json()["session"]["id"]
        await answer(stack, decision="approve")
        run = {**HEADLESS, "run": other}
        # Not asked about yet: deferred at once, and the second of the turn is to be called again.
        assert said(await ask(http, event(), **run))[0] == "defer"
        assert said(await ask(http, event(call_id="toolu_2"), **run))[0] == "deny"
        begun = await stack.http.post("/v1/sessions", json={"task": RUN_TASK, "payload": call})
        run["run"] = begun.json()["session"]["id"]
        await waiting(stack)
        assert said(await ask(http, event(), **run))[0] == "defer"
        wait = await answer(stack, decision="approve")
        await stack.run_until(wait["run_id"], "succeeded")
        assert said(await ask(http, event(), **run)) == ("allow", None)
        # Another input under its id is another call.
        forged = event(tool_input={"command": "rm -r ."})
        assert said(await ask(http, forged, **run))[0] == "deny"
        await ask(http, event("PostToolUse"), **run)
        found = await stack.http.get("/v1/sessions", params={"parent": run["run"]})
        assert [one["status"] for one in found.json()["items"]] == ["closed"]
        # What is no run decides nothing.
        run["run"] = found.json()["items"][0]["id"]
        assert said(await ask(http, event(call_id="toolu_9"), **run))[0] == "deny"


def nameless(**changes: Any) -> dict[str, Any]:
    """A call as the proxy of MCP asks about it."""
    found = {"client": "mcp", "agent": "shop", "tool": "shop.charge", "input": {"order": "a"}}
    return {**found, **changes}


async def test_a_call_without_an_id_is_pending_until_it_is_asked_again(stack: Stack) -> None:
    async with asker(stack) as http:

        async def decide(hold_s: float) -> dict[str, Any]:
            answered = await http.post("/v1/gate/calls", json=nameless(hold_s=hold_s))
            assert answered.status_code == 200, answered.text
            found: dict[str, Any] = answered.json()
            return found

        first = await decide(0)
        assert (first["verdict"], first["input"]) == ("pending", None)
        assert (await decide(0))["session_id"] == first["session_id"]
        await answer(stack, decision="approve", arguments={"order": "b"})
        allowed = await decide(30)
        assert (allowed["verdict"], allowed["input"]) == ("allow", {"order": "b"})
        assert allowed["session_id"] == first["session_id"]
        # It was taken; the next is another question.
        second = await decide(0)
        assert second["verdict"] == "pending"
        assert second["session_id"] != first["session_id"]
        await answer(stack, decision="decline", reason="no")
        denied = await decide(30)
        assert (denied["verdict"], denied["reason"]) == ("deny", "no")


async def test_a_client_without_ids_that_goes_away_takes_no_approval(stack: Stack) -> None:
    async with asker(stack) as http:
        asking = asyncio.ensure_future(http.post("/v1/gate/calls", json=nameless()))
        (wait,) = await waiting(stack)
        asking.cancel()
        await until(lambda: stack.service.part("gate").held == 0)
        await answer(stack, decision="approve")
        allowed = (await http.post("/v1/gate/calls", json=nameless())).json()
        assert (allowed["verdict"], allowed["session_id"]) == ("allow", wait["session_id"])


@long_but(1, "decision", ["approve", "decline"])
async def test_a_request_repeated_for_a_lost_answer_gets_the_same_decision(
    stack: Stack, decision: str
) -> None:
    async with asker(stack) as http:
        repeated = {"Operation-Id": ids.new_id(ids.OPERATION)}

        async def decide(**headers: str) -> dict[str, Any]:
            body = nameless(hold_s=30 if headers else 0)
            found = await http.post("/v1/gate/calls", json=body, headers=headers)
            return {name: found.json()[name] for name in ("verdict", "session_id")}

        asking = asyncio.ensure_future(decide(**repeated))
        wait = await answer(stack, decision=decision)
        verdict = "allow" if decision == "approve" else "deny"
        assert await asking == {"verdict": verdict, "session_id": wait["session_id"]}
        assert await decide(**repeated) == await asking
        # Any other request is another call.
        assert (await decide())["verdict"] == "pending"


async def test_an_event_repeated_for_a_lost_answer_gets_the_same_decision(stack: Stack) -> None:
    async with asker(stack) as http:
        repeated = {"Operation-Id": ids.new_id(ids.OPERATION)}
        query: dict[str, Any] = {"client": "codex", "timeout_s": 60}

        async def decide(**headers: str) -> Any:
            posted = event("PermissionRequest")
            found = await http.post(
                "/v1/gate/claude-code",
                json=posted,
                headers=headers,
                params=query,
            )
            return found.json()

        asking = asyncio.ensure_future(decide(**repeated))
        await answer(stack, decision="approve")
        assert said((await asking)["hookSpecificOutput"])[0] == "allow"
        assert await decide(**repeated) == await asking
        other = asyncio.ensure_future(decide())
        await waiting(stack)  # any other request is another call
        assert len(await calls(stack)) == 2
        other.cancel()


async def test_what_became_of_an_allowed_call_is_reported_once(stack: Stack) -> None:
    async with asker(stack) as http, asker(stack, "other") as other:
        asking = asyncio.ensure_future(http.post("/v1/gate/calls", json=nameless()))
        await answer(stack, decision="approve")
        path = f"/v1/gate/calls/{(await asking).json()['session_id']}/outcome"
        assert (await other.post(path, json={"outcome": "failed"})).status_code == 403
        assert (await http.post(path, json={"outcome": "lost"})).status_code == 400
        for outcome in ("succeeded", "failed"):
            said_so = await http.post(path, json={"outcome": outcome})
            assert said_so.json()["outcome"] == "succeeded"
        assert await is_closed(stack)


async def test_an_asker_sees_and_withdraws_its_own_calls_and_nothing_else(stack: Stack) -> None:
    async with asker(stack) as http, asker(stack, "other") as other:
        await ask(http, event(), **NOW)
        one = (await calls(stack))[0]["id"]
        path = f"/v1/gate/calls/{one}"
        info = (await http.get(path)).json()
        assert (info["status"], info["tool"], info["verdict"]) == ("asked", "Bash", None)
        for refused in (
            await other.get(path),
            await other.post(f"{path}/withdraw"),
            await http.get("/v1/waits"),
            await http.get(f"/v1/sessions/{one}"),
            await http.post("/v1/sessions", json={"task": CALL_TASK, "payload": {}}),
            await http.post(f"/v1/sessions/{one}/inputs/decisions", json={"data": {}}),
        ):
            assert refused.status_code == 403, refused.text
        # The same call by another key is no way to another's decision.
        verdict, reason = said(await ask(other, event(), **NOW))
        assert verdict == "deny"
        assert "another key" in (reason or "")
        assert (await http.post(f"{path}/withdraw")).json()["status"] == "withdrawn"
        assert (await http.post(f"{path}/withdraw")).json()["status"] == "withdrawn"
        await waiting(stack, 0)
        assert said(await ask(http, event(), **NOW))[0] == "deny"
        assert (await stack.http.get(path)).json()["status"] == "withdrawn"


async def test_an_agent_that_asks_too_much_is_denied_and_people_see_one_line(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "PER_MINUTE", 2)
    async with asker(stack) as http:
        first = asyncio.ensure_future(ask(http, event("PermissionRequest"), timeout_s=60))
        await waiting(stack)
        verdicts = [
            said(await ask(http, event(call_id=f"toolu_{n}", session_id=f"a{n}"), **NOW))[0]
            for n in range(4)
        ]
        assert verdicts == ["defer", "deny", "deny", "deny"]
        found = await waiting(stack, 3)
        lines = [one["subject"] for one in found if one["subject"].startswith("The key")]
        assert lines == ["The key laptop asks too much"]
        # What rules decide is not counted.
        assert said(await ask(http, event(tool_input={"command": "ls"}), **NOW))[0] == "allow"
        first.cancel()


async def test_what_can_not_be_asked_is_denied_or_left_to_the_clients_own_prompt(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "HELD_MAX", 0)
    async with asker(stack) as http:
        assert said(await ask(http, event()))[0] == "deny"
        assert await ask(http, event("PermissionRequest"), timeout_s=60) is None
    assert await calls(stack) == []


async def test_a_question_that_a_person_cancels_is_no_approval(stack: Stack) -> None:
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event()))
        wait = (await waiting(stack))[0]
        await stack.http.post(f"/v1/sessions/{wait['session_id']}/cancel", json={})
        assert said(await asking)[0] == "deny"


async def test_a_client_that_goes_away_holds_nothing(stack: Stack) -> None:
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event()))
        await waiting(stack)
        assert stack.service.part("gate").held == 1
        asking.cancel()
        await until(lambda: stack.service.part("gate").held == 0)
        # Its question stays: it may ask again.
        await answer(stack, decision="approve")
        assert said(await ask(http, event())) == ("allow", None)


@long_but(
    2,
    ("posted", "query", "status"),
    [
        ([], HEADLESS, 400),
        ({"hook_event_name": "PreToolUse"}, HEADLESS, 400),
        (event(tool_input=None), HEADLESS, 400),
        (event(), {"mode": "silent"}, 400),
        (event(), {"timeout_s": GATE_TIMEOUT_MAX_S + 1}, 400),
        ({"hook_event_name": "SessionStart"}, HEADLESS, 200),
    ],
)
async def test_what_is_no_event_is_refused(
    stack: Stack, posted: Any, query: Any, status: int
) -> None:
    async with asker(stack) as http:
        response = await http.post("/v1/gate/claude-code", json=posted, params=query)
    assert response.status_code == status, response.text


async def test_a_runtime_without_a_gate_says_so(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    try:
        await stack.start()
        async with asker(stack) as http:
            verdict, reason = said(await ask(http, event()))
        assert verdict == "deny"
        assert "[gate] in helmr.toml" in (reason or "")
    finally:
        await stack.stop()


async def test_what_is_unknown_is_listed_until_a_person_says_it(stack: Stack) -> None:
    async def listed() -> list[str]:
        return [
            one["call_id"] for one in (await stack.http.get("/v1/gate/unknown")).json()["items"]
        ]

    async with asker(stack) as http:
        for call_id, decision in (
            ("toolu_1", "approve"),
            ("toolu_2", "approve"),
            ("toolu_3", "decline"),
        ):
            asking = asyncio.ensure_future(ask(http, event(call_id=call_id)))
            await answer(stack, decision=decision)
            await asking
        assert await listed() == []
        await ask(http, event("PostToolUse", "toolu_1"))
        await ask(http, event("SessionEnd"))
        assert await listed() == ["toolu_2"]
        (found,) = (await stack.http.get("/v1/gate/unknown")).json()["items"]
        said = {"outcome": "not_made"}
        path = f"/v1/gate/calls/{found['session_id']}/said-outcome"
        assert (await http.post(path, json=said)).status_code == 403
        assert (await stack.http.post(path, json=said)).json()["outcome"] == "not_made"
        assert await listed() == []
        again = await stack.http.post(path, json={"outcome": "succeeded"})
        assert again.json()["outcome"] == "not_made"
        denied = next(one for one in await calls(stack) if one["metadata"]["call_id"] == "toolu_3")
        refused = await stack.http.post(f"/v1/gate/calls/{denied['id']}/said-outcome", json=said)
        assert refused.status_code == 409


async def test_no_rule_and_no_grant_lets_an_agent_at_the_runtimes_own_directory(
    stack: Stack, tmp_path: Path
) -> None:
    own = tmp_path / "shop" / ".helmr"
    own.mkdir(parents=True)
    (own.parent / "link").symlink_to(".helmr")
    rules = DeclaredRules((DeclaredRule("all", GateAction.ALLOW),), own=OwnFolder(str(own)))
    stack.service.part("gate")._rules = rules
    cwd = str(own.parent)

    async def verdict(tool: str, number: int, **given: str) -> str:
        posted = event(call_id=f"t{number}", tool_name=tool, tool_input=given, cwd=cwd)
        return said(await ask(stack.http, posted, **NOW))[0]

    assert await verdict("Read", 1, file_path=f"{cwd}/a.py") == "allow"
    assert await verdict("Read", 2, file_path=f"{cwd}/link/admin.key") == "defer"
    first = (await waiting(stack))[0]
    granted = await stack.http.post(
        "/v1/gate/grants", json={"session_id": first["session_id"], "matches": {}}
    )
    assert granted.status_code == 201, granted.text
    stack.service.part("gate")._rules = replace(rules, rules=())
    assert await verdict("Read", 3, file_path=f"{cwd}/b.py") == "allow", "by the grant"
    other = event(call_id="t4", tool_name="Read", tool_input={"file_path": ".helmr/x"}, cwd=cwd)
    verdict_of_other, _ = said(await ask(stack.http, other, **NOW))
    assert verdict_of_other != "allow"


async def test_the_folder_is_that_of_an_agents_first_call_also_after_a_restart(
    tmp_path: Path,
) -> None:
    inside = DeclaredRule(
        "reads", GateAction.ALLOW, ("Read",), matches={"file_path": ("{folder}/*",)}
    )
    home, away = tmp_path / "shop", tmp_path / "etc"
    home.mkdir()
    away.mkdir()

    def made() -> Stack:
        stack = Stack(tmp_path / "data", registry=REGISTRY)
        stack.service = stack.make_service(sections=sections(inside))
        stack.gateway = GatewayActor(stack.service, stack.settings())
        return stack

    async def verdict(stack: Stack, call_id: str, path: Path, agent: str = "a1") -> str:
        given = {"file_path": str(path)}
        posted = event(
            call_id=call_id,
            session_id=agent,
            tool_name="Read",
            tool_input=given,
            cwd=str(path.parent),
        )
        return said(await ask(stack.http, posted, **NOW))[0]

    (tmp_path / "data").mkdir()
    async with running(made()) as stack:
        assert await verdict(stack, "1", home / "a") == "allow"
        assert await verdict(stack, "2", away / "shadow") != "allow"
        assert await verdict(stack, "3", away / "shadow", "a2") == "allow", "it began there"
    async with running(made()) as stack:
        assert await verdict(stack, "4", away / "passwd") != "allow"
        assert await verdict(stack, "5", away / "x", "a2") == "allow"


@pytest.mark.parametrize("given", [{str(n): n for n in range(60_000)}, {"a": [[0] * 10] * 6_000}])
async def test_a_call_with_more_values_than_anyone_reads_is_denied_and_asks_no_one(
    stack: Stack, given: dict[str, Any]
) -> None:
    verdict, reason = said(await ask(stack.http, event(tool_input=given)))
    assert verdict == "deny"
    assert "more than 5,000 values" in str(reason)
    assert await calls(stack) == []


async def test_rules_alone_know_where_an_agent_began_and_what_is_the_runtimes_own(
    stack: Stack, tmp_path: Path
) -> None:
    home, away = tmp_path / "shop", tmp_path / "etc"
    (home / ".helmr").mkdir(parents=True)
    (home / "link").symlink_to(".helmr")
    away.mkdir()
    inside = {"file_path": ("{folder}/*",)}
    rules = (
        DeclaredRule("reads", GateAction.ALLOW, ("Read",), matches=inside),
        DeclaredRule("searches", GateAction.ALLOW, ("Grep",)),
        DeclaredRule("others", GateAction.ASK, ("Read",)),
    )
    stack.service.part("gate")._rules = DeclaredRules(rules, "h", OwnFolder(str(home / ".helmr")))

    async def verdict(tool: str, cwd: Path, **given: Any) -> str | None:
        posted = event(tool_name=tool, tool_input=given, cwd=str(cwd))
        output = await ask(stack.http, posted, **RULES_ONLY, rules="h")
        return said(output)[0] if output else None

    assert await verdict("Read", home, file_path=str(home / "a.py")) is None
    assert await verdict("Read", away, file_path=str(away / "shadow")) == "ask"
    assert await verdict("Read", home, file_path=str(home / "link" / "admin.key")) == "ask"
    assert await verdict("Grep", home, pattern="key") == "deny"
    assert await verdict("Grep", away, pattern="key") is None
    assert await verdict("Other", home, **{str(n): n for n in range(6_000)}) == "deny"
