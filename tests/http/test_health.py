"""Health, readiness, numbers, the catalog, and the OpenAPI document."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr import features
from helmr.models import Health
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.rpc.calls import LEDGER
from helmr_runtime.service.health import _stall
from helmr_runtime.session.live_session import LiveSession
from tests.http.test_sessions import code_of
from tests.service.stack import Stack, until

"""Routes of the table that do not exist yet."""


async def test_a_probe_needs_no_key_and_learns_nothing_of_the_machine(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        assert (await http.get("/healthz")).text == "ok\n"
        ready = await http.get("/readyz")
    assert ready.status_code == 200
    assert set(ready.json()) == {"ready", "reasons", "version", "now"}


async def test_a_probe_learns_that_the_disk_is_full_and_not_where(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = "IO Error: could not write to file '/srv/my data/ledger.duckdb.wal' /data/x.tmp: full"

    async def stats() -> dict[str, Any]:
        return {"failure": failure}

    monkeypatch.setattr(stack.reads, "stats", stats)
    async with httpx.AsyncClient(base_url=stack.url) as http:
        ready = await http.get("/readyz")
    assert ready.status_code == 503
    (reason,) = ready.json()["reasons"]
    assert "ledger.duckdb.wal" in reason
    assert "full" in reason
    assert "/" not in reason
    assert failure in (await stack.http.get("/readyz")).text


async def test_a_runtime_is_not_ready_while_the_store_of_its_log_is_away(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = stack.reads.stats
    said: dict[str, Any] = {"store_away_since": "2026-01-02T03:04:05.678901Z"}

    async def away() -> dict[str, Any]:
        return {**await stats(), **said}

    monkeypatch.setattr(stack.reads, "stats", away)
    answer = await stack.http.get("/readyz")
    assert answer.status_code == 503
    health = Health.model_validate(answer.json())
    assert health.degraded == ["not_ready", "store_away"]
    (reason,) = health.reasons
    assert "not answered since 2026-01-02T03:04:05Z" in reason
    said.clear()
    assert (await stack.http.get("/readyz")).status_code == 200


async def test_readyz_is_200_only_once_local_programs_can_find_the_runtime(
    stack: Stack, tmp_path: Path
) -> None:
    found: list[int] = []
    service = stack.make_service(is_published=lambda: bool(found))
    gateway = GatewayActor(service, stack.settings())
    port = await gateway.start("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            before = await http.get("/readyz")
            found.append(1)
            after = await http.get("/readyz")
    finally:
        await gateway.stop()
    assert (before.status_code, after.status_code) == (503, 200)
    assert before.json()["reasons"] == ["starting: local programs can't find it yet"]


async def test_with_a_key_readyz_tells_pool_ledger_and_counts(stack: Stack) -> None:
    await stack.started()
    response = await stack.http.get("/readyz")
    health = Health.model_validate(response.json())
    assert health.ready
    assert health.data_dir == "/data"
    assert health.pool["hosts"]["total"] == 1
    assert health.feed_offset == stack.service.hub.offset
    assert health.counts["sessions_open"] == 1
    assert health.counts["waits_pending"] == 1


HELD = {"waiting_held_since": "2026-03-01T12:00:00.000000Z", "counts": {"waiting_held": 4}}


@pytest.mark.parametrize(
    ("oldest_s", "later_s", "warns"),
    [(5.1, 5.1, True), (5.0, 60, False), (60, 5.0, False), (0.0, 600, False)],
)
def test_runs_that_wait_for_room_beside_sessions_that_only_wait_are_warned_of(
    oldest_s: float, later_s: float, warns: bool
) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(seconds=later_s)
    pool = {"queue": 1, "queue_oldest_s": oldest_s}
    assert bool(_stall(HELD, pool, now)) is warns
    assert not _stall({**HELD, "waiting_held_since": None}, pool, now), "every slot works"


async def test_a_slot_that_is_kept_by_a_session_that_only_waits_is_no_secret(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an actor tells: here none tells that its session can be parked."""
    monkeypatch.setattr("helmr_runtime.service.health.STALL_S", 0.2)
    monkeypatch.setattr(LiveSession, "is_parkable", property(lambda held: False))
    for _ in range(2):
        await stack.started()
    assert (await stack.service.health.ready()).warnings == [], "nothing waits for room"
    late = {"task": "review", "payload": {"title": "Late"}}
    queued = (await stack.http.post("/v1/sessions", json=late)).json()["session"]
    found: dict[str, Any] = {}

    async def is_warned_of() -> bool:
        found.update((await stack.http.get("/readyz")).json())
        return bool(found["warnings"])

    await until(is_warned_of)
    assert found["ready"]
    assert found["warnings"][0].startswith("1 run waits for room, the oldest for ")
    assert "hosts hold 2 sessions that only wait" in found["warnings"][0]
    assert found["pool"]["queue_oldest_s"] > 0.2
    shown = (await stack.http.get(f"/v1/sessions/{queued['id']}")).json()
    assert (shown["activity"], shown["queued_at"]) == ("queued", queued["created_at"])
    [listed] = (await stack.http.get("/v1/sessions?activity=queued")).json()["items"]
    assert listed["queued_at"] == queued["created_at"]


async def test_without_a_ledger_nothing_is_ready_and_calls_say_so(stack: Stack) -> None:
    stack.calls.kill(LEDGER, "signal 9")
    ready = await stack.http.get("/readyz")
    assert ready.status_code == 503
    assert any("ledger" in reason for reason in ready.json()["reasons"])
    response = await stack.http.get("/v1/sessions")
    assert (response.status_code, code_of(response)) == (503, "unavailable")
    assert response.headers["retry-after"] == "1"
    assert (await stack.http.get("/healthz")).status_code == 200
    assert (await stack.http.get("/metrics")).status_code == 200


async def test_tasks_and_streams_are_listed(stack: Stack) -> None:
    tasks = (await stack.http.get("/v1/tasks")).json()["items"]
    assert [task["id"] for task in tasks] == [
        "by-link",
        "by-token",
        "echo",
        "fail-once",
        "quick-review",
        "return",
        "review",
    ]
    assert tasks[-1]["payload_schema"]["required"] == ["title"]
    streams = (await stack.http.get("/v1/streams")).json()["items"]
    assert [stream["name"] for stream in streams] == ["approval", "echoes", "progress", "words"]
    assert streams[0]["schema"]["properties"]["decision"]
    page = (await stack.http.get("/v1/tasks?limit=2")).json()
    rest = (await stack.http.get(f"/v1/tasks?limit=200&cursor={page['next_cursor']}")).json()
    assert len(page["items"]) + len(rest["items"]) == 7
    assert rest["next_cursor"] is None
    assert code_of(await stack.http.get("/v1/tasks?cursor=x")) == "bad_cursor"


PROBLEM = ["application/problem+json"]
JSON = ["application/json"]
OF_JSON_RPC = {("/mcp", "400"), ("/mcp", "404")}
"""What the Model Context Protocol sends as an error of its own, with a status of HTTP."""


async def test_the_document_has_every_route_and_every_status(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        document = (await http.get("/v1/openapi.json")).json()
    documented = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    expected = {
        (route.method, route.path)
        for route in features.OPERATIONS
        if route.path != "/v1/openapi.json"
    }
    assert documented == expected
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            for status, response in operation["responses"].items():
                if status >= "400" and operation["operationId"] != "readyz":
                    errors = PROBLEM if (path, status) not in OF_JSON_RPC else PROBLEM + JSON
                    assert list(response["content"]) == errors
    assert len(names) == len(set(names))
    assert "HTTPValidationError" not in str(document)
    start = document["paths"]["/v1/sessions"]["post"]
    assert set(start["responses"]) == {
        "200", "201", "400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503",
    }  # fmt: skip
    references = {
        part.split('"')[0]
        for part in str(document).replace("'", '"').split("#/components/schemas/")[1:]
    }
    assert references <= set(document["components"]["schemas"])
