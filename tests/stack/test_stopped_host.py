"""Ten thousand sends towards a host that is stopped: the gateway takes little memory, and others are served."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.stack.live import LiveRuntime, kill, until
from tests.stack.test_growth import pss_mb

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.allows_blocking,
]
SENDS = 10_000
AT_ONCE = 3_000
STOPPED_S = 1.5
"""A host that is stopped for longer is replaced, and its sessions go on elsewhere."""


async def test_a_stopped_host_costs_the_gateway_little_and_the_others_nothing(
    make_runtime: Callable[..., LiveRuntime],
) -> None:
    live = make_runtime(hosts=2)
    until(lambda: all(one["pid"] for one in live.hosts()), within_s=60, what="both hosts")
    sessions = [live.begin("approve", {"name": f"s{n}"}) for n in range(8)]
    waits = {one: live.waiting(one) for one in sessions}
    stopped, other = live.hosts()
    towards, beside = stopped["session_ids"], other["session_ids"]
    assert towards
    assert beside
    gateway = live.pid_of("gateway")
    before_mb = pss_mb(gateway)
    headers = {"Authorization": f"Bearer {live.credentials.key}"}
    limits = httpx.Limits(max_connections=AT_ONCE)
    statuses: Counter[int] = Counter()
    receipts: list[str] = []

    async with httpx.AsyncClient(
        base_url=live.credentials.url, headers=headers, limits=limits, timeout=60
    ) as client:

        async def send(number: int) -> None:
            path = f"/v1/sessions/{towards[number % len(towards)]}/inputs/messages"
            answer = await client.post(path, json={"data": f"{number} {'x' * 200}"})
            statuses[answer.status_code] += 1
            if answer.is_success:
                receipts.append(answer.json()["record_id"])

        os.kill(stopped["pid"], signal.SIGSTOP)
        asyncio.get_running_loop().call_later(STOPPED_S, os.kill, stopped["pid"], signal.SIGCONT)
        sending = [asyncio.create_task(send(number)) for number in range(SENDS)]
        for session_id in beside:
            answer = await client.post(
                f"/v1/waits/{waits[session_id].id}/answer", json={"data": {"decision": "approve"}}
            )
            assert answer.status_code == 200, answer.text
        at_most_mb = 0.0
        while not all(one.done() for one in sending):
            at_most_mb = max(at_most_mb, pss_mb(gateway) or 0.0)
            await asyncio.sleep(0.2)
        await asyncio.gather(*sending)
    kill(stopped["pid"], signal.SIGCONT)
    assert before_mb is not None
    assert at_most_mb - before_mb < 150
    assert set(statuses) <= {201, 429, 503}, statuses
    for session_id in towards:
        live.client.waits.answer(waits[session_id].id, {"decision": "approve"})
    assert {live.ended(one).result for one in sessions} == {"approve"}
    stored = {
        one["id"]
        for one in live.client.query(
            "SELECT body ->> 'record_id' AS id FROM entries WHERE kind = 'input.accepted'"
        )
    }
    assert set(receipts) <= stored, f"of {statuses} some are lost"
