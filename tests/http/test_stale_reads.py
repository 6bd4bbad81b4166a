"""A runtime whose log other machines reach says of a read that it may be stale, whatever way it is asked (S-102)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helmr.client import AsyncClient
from helmr.client.endpoint import Endpoint
from helmr.client.http import AsyncHttpTransport
from helmr.client.inprocess import AppTransport
from helmr.errors import StoreUnavailable
from helmr.models import STALE_HEADER
from helmr_runtime.core.entries import Principal
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ports.ledger import ReadFreshness
from helmr_runtime.process.job import JobGateway
from helmr_runtime.rpc.calls import GATEWAY
from helmr_runtime.service import staleness
from tests.contract.test_transports import Introducing
from tests.features.mcp.test_endpoint import headers, message
from tests.http.test_following import following
from tests.service.stack import Events, Stack

AS_OF = "2026-11-30T12:00:00.000000Z"
READS = (
    "/v1/sessions",
    "/v1/waits",
    "/v1/tasks",
    "/v1/sessions/{session_id}",
    "/v1/sessions/{session_id}/transcript",
    "/v1/sessions/{session_id}/events?after=0",
)
LONG_S = 3_600.0


class Lease:
    """What the ledger says of its reads, and how often it was asked."""

    def __init__(self) -> None:
        self.freshness = ReadFreshness(for_s=0.0)
        self.asked = 0

    def lapse(self) -> None:
        """From now on another runtime may be at work."""
        self.freshness = ReadFreshness(stale_as_of=AS_OF, for_s=0.0)


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> Lease:
    """Of a log that other machines reach; it has lapsed when the next read comes, so that each read asks."""
    found = Lease()

    async def freshness(self: LedgerActor) -> ReadFreshness:
        found.asked += 1
        return found.freshness

    monkeypatch.setattr(LedgerActor, "freshness", freshness)
    return found


@pytest.fixture
async def stack(tmp_path: Path, lease: Lease) -> AsyncIterator[Stack]:
    made = Stack(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_every_read_says_that_it_may_be_stale(
    stack: Stack, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = (await stack.started())["session"]["id"]
    paths = [path.format(session_id=session_id) for path in READS]
    for path in paths:
        async with stack.http.stream("GET", path) as answer:
            assert STALE_HEADER not in answer.headers
    lease.lapse()
    for path in paths:
        async with stack.http.stream("GET", path) as answer:
            assert answer.status_code == 200
            assert answer.headers[STALE_HEADER] == AS_OF
    told = await stack.http.post("/v1/query", json={"sql": "SELECT 1"})
    assert told.headers[STALE_HEADER] == AS_OF
    # What is acknowledged is on disk, whatever the lease says; and probes say what they know themselves.
    noted = await stack.http.post(f"/v1/sessions/{session_id}/notes", json={"text": "n"})
    assert noted.is_success, noted.text
    for answer in (noted, await stack.http.get("/healthz"), await stack.http.get("/readyz")):
        assert STALE_HEADER not in answer.headers
    async with AsyncClient(url=stack.url, key=stack.key) as client:
        await client.sessions.open(session_id).get()
    assert f"may lack what another runtime has taken since {AS_OF}" in caplog.text


async def test_a_stream_that_does_not_say_so_ends_when_it_may_be_stale(
    stack: Stack, lease: Lease
) -> None:
    session_id = (await stack.started())["session"]["id"]
    path = f"/v1/sessions/{session_id}"
    async with following(stack, f"{path}/events") as events:
        await events.first_bytes()
        lease.lapse()
        await events.end()
    past = (await stack.http.get(f"{path}/transcript")).json()["items"]
    async with stack.http.stream("GET", f"{path}/events?after=0") as answer:
        assert answer.headers[STALE_HEADER] == AS_OF
        events = Events(answer)
        await events.take(len(past))
        noted = await stack.http.post(f"{path}/notes", json={"text": "n"})
        assert noted.is_success, noted.text
        await events.take(1)


async def test_a_program_in_the_ray_cluster_hears_it_too(
    stack: Stack, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = (await stack.started())["session"]["id"]
    stack.calls.register(GATEWAY, Introducing())
    carrier = AppTransport(JobGateway(Principal("ray_job", "0a000000"), stack.calls))
    endpoint = Endpoint(url=stack.url, key=None, found_by="test")
    client = AsyncClient._over(AsyncHttpTransport(endpoint, carrier=carrier))
    session = client.sessions.open(session_id)
    await session.get()
    assert "may lack" not in caplog.text
    lease.lapse()
    await session.get()
    await client.close()
    assert f"may lack what another runtime has taken since {AS_OF}" in caplog.text


async def test_results_of_mcp_say_it(stack: Stack, lease: Lease) -> None:
    lease.lapse()
    listed = await stack.http.post(
        "/mcp", json=message("tools/list"), headers=headers("tools/list")
    )
    assert listed.headers[STALE_HEADER] == AS_OF
    assert listed.json()["result"]["_meta"]["helmr/stale-as-of"] == AS_OF
    name = listed.json()["result"]["tools"][0]["name"]
    called = await stack.http.post(
        "/mcp",
        json=message("tools/call", name=name, arguments={"payload": 1}),
        headers=headers("tools/call", name),
    )
    assert called.json()["result"]["_meta"]["helmr/stale-as-of"] == AS_OF


async def test_the_ledger_is_asked_once_for_many_reads(
    stack: Stack, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stack.http.get("/v1/sessions")
    monkeypatch.setattr(staleness, "ASK_S", LONG_S)
    lease.freshness, before = ReadFreshness(for_s=LONG_S), lease.asked
    for _ in range(10):
        await stack.http.get("/v1/sessions")
    assert lease.asked == before + 1


async def test_one_whose_log_is_its_own_is_asked_once(stack: Stack, lease: Lease) -> None:
    await stack.http.get("/v1/sessions")
    lease.freshness, before = ReadFreshness(), lease.asked
    for _ in range(3):
        await stack.http.get("/v1/sessions")
    assert lease.asked == before + 1


async def test_a_ledger_that_can_not_be_asked_was_fresh_when_it_was_asked_last(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read beside it, as metrics are, is answered all the same."""
    await stack.http.get("/v1/sessions")
    at = stack.clock.now()

    async def gone(self: LedgerActor) -> ReadFreshness:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(LedgerActor, "freshness", gone)
    answer = await stack.http.get("/v1/sessions")
    assert answer.status_code == 200
    assert answer.headers[STALE_HEADER] <= at.isoformat().replace("+00:00", "Z")
