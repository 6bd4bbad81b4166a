"""Ten thousand sends towards a host that is stopped: the gateway takes little memory, and others are served."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from urllib.parse import SplitResult, urlsplit

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
log = logging.getLogger("helmr.tests")
AT_ONCE = 1_500
"""More than may be open to one process."""

STOPPED_S = 1.5
"""A host that is stopped for longer is replaced, and its sessions go on elsewhere."""


class Sender:
    """Sends over plain connections: a client's pool would take longer for so many than the runtime."""

    def __init__(self, live: LiveRuntime, sessions: Sequence[str]) -> None:
        self._credentials = live.credentials
        self._sessions = sessions
        self._number = 0
        self.statuses: Counter[int] = Counter()
        self.receipts: list[str] = []

    async def send_all(self) -> None:
        """Send until enough are sent; a connection that the gateway ends is made again."""
        while self._number < SENDS:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._send_some()

    async def _send_some(self) -> None:
        url = urlsplit(self._credentials.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        with closing(writer):
            await self._send_on(reader, writer, url)

    async def _send_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: SplitResult
    ) -> None:
        while self._number < SENDS:
            self._number += 1
            session_id = self._sessions[self._number % len(self._sessions)]
            body = json.dumps({"data": f"{self._number} {'x' * 200}"}).encode()
            head = (
                f"POST /v1/sessions/{session_id}/inputs/messages HTTP/1.1\r\n"
                f"Host: {url.netloc}\r\nAuthorization: Bearer {self._credentials.key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            status, answer = await self._answer(reader)
            self.statuses[status] += 1
            if status == 200:
                self.receipts.append(json.loads(answer)["record_id"])

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        return int(head.split()[1]), await reader.readexactly(length)


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
    sender = Sender(live, towards)
    os.kill(stopped["pid"], signal.SIGSTOP)
    asyncio.get_running_loop().call_later(STOPPED_S, os.kill, stopped["pid"], signal.SIGCONT)
    sending = [asyncio.create_task(sender.send_all()) for _ in range(AT_ONCE)]
    for session_id in beside:
        await asyncio.to_thread(
            live.client.waits.answer, waits[session_id].id, {"decision": "approve"}
        )
    at_most_mb = 0.0
    while not all(one.done() for one in sending):
        at_most_mb = max(at_most_mb, pss_mb(gateway) or 0.0)
        await asyncio.sleep(0.2)
    await asyncio.gather(*sending)
    statuses, receipts = sender.statuses, sender.receipts
    kill(stopped["pid"], signal.SIGCONT)
    assert before_mb is not None
    assert at_most_mb - before_mb < 150
    assert set(statuses) <= {200, 429, 503}, statuses
    assert statuses[200] > 0
    log.info("%s; the gateway had %.0f MB more at most", dict(statuses), at_most_mb - before_mb)
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
