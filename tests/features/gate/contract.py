"""What a client of any kind is promised of the gate, and how each of its operations is repeated."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.errors import BadRequest, Conflict, GrantNotFound, SessionNotFound
from helmr.features.gate import operations
from helmr.gate import CALL_TASK
from helmr.wire import ids
from tests.contract.faces import as_an_agent
from tests.contract.repeating import BOUND_S, Prepared, Receipt, repeats


def _call(client: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """A call of an agent of its own."""
    return {
        "client": client,
        "agent": ids.new_id(ids.OPERATION),
        "tool": tool,
        "input": arguments,
    }


async def agents_ask_before_they_call(client: Any, way: Any) -> None:
    call = _call("proxy", "mail", to="ana")

    async def ask() -> Any:
        body = {**call, "hold_s": 0}
        return await as_an_agent(client, operations.ASK_GATED_CALL, body=body)

    asked = await ask()
    assert asked.verdict == "pending"
    [wait] = await _asked(client, asked.session_id)
    assert (await ask()).session_id == asked.session_id
    await client.waits.answer(wait.id, {"decision": "approve"})
    await _decided(client, asked.session_id)
    taken = await ask()
    assert (taken.verdict, taken.session_id) == ("allow", asked.session_id)
    reported = await as_an_agent(
        client, operations.REPORT_GATED_CALL, asked.session_id, body={"outcome": "succeeded"}
    )
    assert (reported.status, reported.verdict, reported.outcome) == (
        "decided",
        "allow",
        "succeeded",
    )
    found = await as_an_agent(client, operations.GET_GATED_CALL, asked.session_id)
    assert found == reported
    # The first word counts.
    assert await client.outcomes.say(asked.session_id, outcome="not_made") == reported
    assert asked.session_id not in [one.session_id async for one in client.outcomes.list()]
    assert asked.session_id not in [one.session_id for one in (await client.outcomes.page()).items]
    again = await ask()  # the decision was for one call
    assert again.verdict == "pending"
    assert again.session_id != asked.session_id
    await _asked(client, again.session_id)
    for _ in range(2):
        withdrawn = await as_an_agent(client, operations.WITHDRAW_GATED_CALL, again.session_id)
        assert (withdrawn.status, withdrawn.verdict) == ("withdrawn", None)
    other = await client.sessions.start("contract-echo", 0)
    for row, parts in (
        (operations.GET_GATED_CALL, {}),
        (operations.WITHDRAW_GATED_CALL, {}),
        (operations.REPORT_GATED_CALL, {"body": {"outcome": "failed"}}),
    ):
        for session_id in (ids.new_id(ids.SESSION), other.id):
            with pytest.raises(SessionNotFound):
                await as_an_agent(client, row, session_id, **parts)
    with pytest.raises(BadRequest):
        await as_an_agent(client, operations.ASK_GATED_CALL, body={**call, "tool": ""})


async def hooks_of_coding_agents_are_answered(client: Any, way: Any) -> None:
    agent = ids.new_id(ids.OPERATION)

    async def hook(kind: str, **fields: Any) -> Any:
        event = {"session_id": agent, "hook_event_name": kind, "cwd": "/work", **fields}
        query = {"mode": "headless", "timeout_s": 0}
        return await as_an_agent(client, operations.GATE_CLAUDE_CODE, body=event, query=query)

    called = {"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "toolu_1"}
    deferred = await hook("PreToolUse", **called)
    assert deferred["hookSpecificOutput"]["permissionDecision"] == "defer"
    [session] = await _all(client.sessions.list(task=CALL_TASK, tag=f"claude-code:{agent}"))
    [wait] = await _asked(client, session.id)
    assert wait.subject == "Run ls"
    await client.waits.answer(wait.id, {"decision": "decline", "reason": "not on Friday"})
    await _decided(client, session.id)
    denied = (await hook("PreToolUse", **called))["hookSpecificOutput"]
    assert denied["permissionDecision"] == "deny"
    assert denied["permissionDecisionReason"] == "not on Friday"
    assert (await client.sessions.open(session.id).get()).status == "closed"
    assert await hook("SessionEnd") == {}
    with pytest.raises(BadRequest):
        await hook("PreToolUse")  # which names no tool


async def _asked(client: Any, session_id: str) -> list[Any]:
    """The waits of a session, once its run has stopped at them."""
    await _run_of(client, session_id, until="stopped")
    return await _all(client.waits.list(session_id=session_id))


async def _decided(client: Any, session_id: str) -> None:
    await _run_of(client, session_id)


async def _run_of(client: Any, session_id: str, **options: Any) -> None:
    [run] = await _all(client.runs.list(session_id=session_id))
    await client.runs.wait(run.id, timeout=BOUND_S, **options)


async def agents_calls_are_granted_for_a_while(client: Any, way: Any) -> None:
    call = _call("own", "Shell", command="ls")
    started = await client.sessions.start_and_wait(CALL_TASK, call, timeout=BOUND_S)
    made = await client.grants.create(started.id, matches={"command": "ls*"}, expires_in="2h")
    assert (made.agent, made.tool, made.matches) == (call["agent"], "Shell", {"command": ["ls*"]})
    assert made.created_by.type == way.principal
    assert await client.grants.get(made.id) == made
    assert made.id in [one.id async for one in client.grants.list()]
    with pytest.raises(Conflict):
        await client.grants.create(started.id, matches={"command": "git*"})
    with pytest.raises(BadRequest):
        await client.grants.create(started.id, expires_in="30d")
    with pytest.raises(SessionNotFound):
        await client.grants.create(ids.new_id(ids.SESSION))
    assert (await client.grants.revoke(made.id)).revoked_at is not None
    assert [one.id for one in (await client.grants.page(limit=1)).items] == [made.id]
    with pytest.raises(GrantNotFound):
        await client.grants.revoke(ids.new_id(ids.GRANT))
    await client.sessions.open(started.id).cancel()


CASES = (
    agents_ask_before_they_call,
    hooks_of_coding_agents_are_answered,
    agents_calls_are_granted_for_a_while,
)


async def _granted(client: Any) -> Any:
    return await client.sessions.start_and_wait(CALL_TASK, _call("own", "Look"), timeout=BOUND_S)


@repeats(operations.CREATE_GRANT)
async def create_grant(client: Any) -> Prepared:
    session = await _granted(client)

    async def call(operation_id: str) -> Receipt:
        return (await client.grants.create(session.id, operation_id=operation_id)).id

    return Prepared(call)


@repeats(operations.REVOKE_GRANT)
async def revoke_grant(client: Any) -> Prepared:
    grant = await client.grants.create((await _granted(client)).id)

    async def call(operation_id: str) -> Receipt:
        found = await client.grants.revoke(grant.id, operation_id=operation_id)
        return [found.id, found.revoked_at.isoformat()]

    return Prepared(call)


async def _all(found: Any) -> list[Any]:
    return [one async for one in found]
