"""A runtime whose log other machines reach says of a read that it may be stale (S-102)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helmr.client import AsyncClient
from helmr.models import STALE_HEADER
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.process.gateway import GatewayActor
from tests.service.stack import Stack

AS_OF = "2026-11-30T12:00:00.000000Z"
READS = (
    "/v1/sessions",
    "/v1/waits",
    "/v1/tasks",
    "/v1/sessions/{session_id}",
    "/v1/sessions/{session_id}/transcript",
)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    made = Stack(tmp_path)
    made.gateway = GatewayActor(made.service, made.settings(is_shared=True))
    await made.start()
    yield made
    await made.stop()


async def test_every_read_says_that_it_may_be_stale(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = (await stack.started())["session"]["id"]
    paths = [path.format(session_id=session_id) for path in READS]
    for path in paths:
        assert STALE_HEADER not in (await stack.http.get(path)).headers

    async def stale(self: LedgerActor) -> str:
        return AS_OF

    monkeypatch.setattr(LedgerActor, "stale_as_of", stale)
    answers = [await stack.http.get(path) for path in paths]
    answers.append(await stack.http.post("/v1/query", json={"sql": "SELECT 1"}))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.headers[STALE_HEADER] == AS_OF
    # What is acknowledged is on disk, whatever the lease says; and probes say what they know themselves.
    noted = await stack.http.post(f"/v1/sessions/{session_id}/notes", json={"text": "n"})
    assert noted.is_success, noted.text
    for answer in (noted, await stack.http.get("/healthz"), await stack.http.get("/readyz")):
        assert STALE_HEADER not in answer.headers
    async with AsyncClient(url=stack.url, key=stack.key) as client:
        await client.sessions.open(session_id).get()
    assert f"may lack what another runtime has taken since {AS_OF}" in caplog.text
