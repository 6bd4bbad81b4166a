"""What a caller's span has below it, whichever way it calls and whatever lies between the call and the code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from helmr.client import AsyncClient, Client
from helmr.client.calls import trace_headers
from helmr.client.endpoint import Endpoint
from helmr.client.http import AsyncHttpTransport
from helmr.client.inprocess import AppTransport
from helmr_runtime import tracing
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.core.entries import Principal
from helmr_runtime.process.job import JobGateway
from helmr_runtime.rpc.calls import GATEWAY
from helmr_runtime.session.host import HostActor
from tests.contract.test_transports import Introducing
from tests.service.stack import Stack, until
from tests.tracing.conftest import Seen
from tests.tracing.test_spans import CALLER, SENT, asked, parked, until_seen

TRACE = int(CALLER, 16)
BELOW = "  turn publish\n    step release"


@contextmanager
def span_of_caller() -> Iterator[None]:
    """As the code of a program that has a span of its own open."""
    place = SpanContext(TRACE, 7, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    token = otel_context.attach(set_span_in_context(NonRecordingSpan(place)))
    try:
        yield
    finally:
        otel_context.detach(token)


async def until_picture(seen: Seen, wanted: str) -> None:
    await until_seen(seen, "step release")
    async with asyncio.timeout(10):
        while seen.picture(TRACE) != wanted:
            await asyncio.sleep(0.01)


async def test_an_async_client_carries_the_span_that_its_caller_is_below(
    stack: Stack, seen: Seen
) -> None:
    started = await asked(stack)
    async with AsyncClient(url=stack.url, key=stack.key) as client:
        with span_of_caller():
            await client.waits.answer(started["session"]["wait"]["id"], "yes")
    await until_picture(seen, f"POST /v1/waits/{{wait_id}}/answer\n{BELOW}")


async def test_a_blocking_client_does_too(stack: Stack, seen: Seen) -> None:
    started = await asked(stack)

    def sends() -> None:
        with Client(url=stack.url, key=stack.key) as client, span_of_caller():
            session = client.sessions.open(started["session"]["id"])
            session.input("approval").send("yes")

    await asyncio.to_thread(sends)
    await until_picture(seen, f"POST /v1/sessions/{{session_id}}/inputs/{{stream}}\n{BELOW}")


def test_without_a_span_a_client_says_nothing() -> None:
    assert trace_headers() == {}


async def test_a_start_is_carried_to_its_first_turn(stack: Stack, seen: Seen) -> None:
    body = {"task": "publish", "payload": {"title": "News"}, "result_timeout_s": 10}
    response = await stack.http.post("/v1/sessions", json=body, headers=SENT)
    assert response.status_code == 201
    await until_seen(seen, "turn publish")
    assert seen.picture(TRACE) == "POST /v1/sessions\n  turn publish\n    step prepare"


async def test_an_answer_to_a_run_that_has_to_wait_for_room_is_carried_to_its_turn(
    stack: Stack, seen: Seen
) -> None:
    started = await asked(stack)
    await parked(stack, started["session"]["id"])
    assert stack.directory is not None
    await stack.directory.set_room(0, why=None)
    answer = f"/v1/waits/{started['session']['wait']['id']}/answer"
    response = await stack.http.post(answer, json={"data": "yes"}, headers=SENT)
    assert response.status_code == 200, response.text
    assert not seen.named("step release"), "nowhere is room"
    await stack.directory.set_room(2, why=None)
    await until_picture(seen, f"POST /v1/waits/{{wait_id}}/answer\n{BELOW}")


async def test_a_completed_token_is_carried_to_the_turn_that_awaited_it(
    stack: Stack, seen: Seen
) -> None:
    token = (await stack.http.post("/v1/tokens", json={})).json()
    await stack.started("awaits", token["id"])
    completion = f"/v1/tokens/{token['id']}/complete"
    response = await stack.http.post(completion, json={"data": "News"}, headers=SENT)
    assert response.status_code == 200, response.text
    below = BELOW.replace("publish", "awaits")
    await until_picture(seen, f"POST /v1/tokens/{{token_id}}/complete\n{below}")


async def test_a_call_that_nothing_came_of_owns_nothing_that_comes_later(
    stack: Stack, seen: Seen
) -> None:
    started = await stack.started("publish", {"title": "News"})
    claim = f"/v1/waits/{started['session']['wait']['id']}/answer"
    refused = await stack.http.post(claim, json={"data": {"no": "text"}}, headers=SENT)
    assert refused.status_code == 422
    await stack.http.post(claim, json={"data": "yes"})
    await until_seen(seen, "step release")
    assert seen.picture(TRACE) == "POST /v1/waits/{wait_id}/answer", "the refused one"


def mcp(name: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A call of a tool, and its headers."""
    version = "2026-07-28"
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": dict(arguments), "_meta": meta}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": version,
        "Mcp-Method": "tools/call",
        "Mcp-Name": name,
    }
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers


async def test_a_tools_call_is_carried_to_the_turn_that_it_starts(stack: Stack, seen: Seen) -> None:
    sent, headers = mcp("broken", {"payload": 1})
    response = await stack.http.post("/mcp", json=sent, headers=headers | SENT)
    assert response.status_code == 200, response.text
    await until_seen(seen, "turn broken")
    assert seen.picture(TRACE) == "POST /mcp\n  turn broken\n    step fails", response.text


async def test_a_jobs_span_is_carried_with_its_commands(
    stack: Stack, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job calls the actors itself, and no gateway makes a span of its request."""
    started = await asked(stack)
    tracing.use(None)  # as in a job's process
    stack.calls.register(GATEWAY, Introducing())
    commands: list[SessionCommand] = []
    real = HostActor.command

    async def command(self: HostActor, session_id: str, command: SessionCommand) -> Any:
        commands.append(command)
        return await real(self, session_id, command)

    monkeypatch.setattr(HostActor, "command", command)
    carrier = AppTransport(JobGateway(Principal("ray_job", "0a000000"), stack.calls))
    endpoint = Endpoint(url=stack.url, key=None, found_by="test")
    client = AsyncClient._over(AsyncHttpTransport(endpoint, carrier=carrier))
    with span_of_caller():
        await client.waits.answer(started["session"]["wait"]["id"], "yes")
    await client.close()
    assert [one.trace for one in commands] == [f"00-{CALLER}-0000000000000007-01"]
    await stack.run_until(started["run"]["id"], "succeeded")
    await until(lambda: not seen.named("step release"))
