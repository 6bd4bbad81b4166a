"""An attacker beside people at work, on a whole runtime: its gateway is a process as `helmr up` starts it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from contextlib import ExitStack, suppress

import httpx
import pytest

from helmr_runtime.http.settings import ConnectionBounds
from helmr_runtime.security.rate_limits import RateLimits
from helmr_runtime.security.secrets import SecretKind, make_secret
from tests.stack.live import LiveRuntime

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.allows_blocking,
]

BOUNDS = ConnectionBounds()
FLOOD_WITHIN_S = 60.0
HALF_OPEN = 500


def client(live: LiveRuntime, address: str, key: str | None = None) -> httpx.AsyncClient:
    """A client from an address of this machine."""
    return httpx.AsyncClient(
        base_url=live.credentials.url,
        headers={"Authorization": f"Bearer {key}"} if key is not None else {},
        transport=httpx.AsyncHTTPTransport(local_address=address),
        timeout=30,
    )


def malformed(kind: SecretKind) -> str:
    secret = make_secret(kind)
    return secret[:-1] + ("a" if secret[-1] != "a" else "b")


class Rightful:
    """People with good secrets, each secret used for the first time while others guess."""

    def __init__(self, live: LiveRuntime, address: str) -> None:
        self._live, self._address = live, address

    async def prepare(self, count: int) -> None:
        """Make the secrets."""
        self._session = self._live.begin("echo", None)
        sends = {"type": "session.input.send", "session": self._session, "stream": "messages"}
        async with client(self._live, "127.0.0.1", self._live.credentials.key) as http:
            self._sends, self._links, self._keys = [], [], []
            for number in range(count):
                token = await http.post("/v1/public-tokens", json={"scope": sends})
                self._sends.append(token.json()["public_access_token"])
                link = (await http.post("/v1/tokens", json={"schema": {"type": "string"}})).json()
                self._links.append("/v1/callbacks/" + link["callback_url"].rpartition("/")[2])
                key = {"role": "viewer", "name": f"viewer {number}"}
                self._keys.append((await http.post("/v1/api-keys", json=key)).json()["secret"])

    async def work(self, number: int) -> list[int]:
        """Use one of each, from the attacker's own address."""
        async with client(self._live, self._address) as http:
            bearer = {"Authorization": f"Bearer {self._sends[number]}"}
            path = f"/v1/sessions/{self._session}/inputs/messages"
            sent = await http.post(path, json={"data": f"word {number}"}, headers=bearer)
            shown = await http.get(self._links[number])
            done = await http.post(self._links[number], json={"data": "yes"})
            bearer = {"Authorization": f"Bearer {self._keys[number]}"}
            read = await http.get("/v1/waits", headers=bearer)
        return [answer.status_code for answer in (sent, shown, done, read)]


@pytest.mark.long  # tests/security/test_rate_limits.py
@pytest.mark.parametrize("what", [pytest.param("malformed", marks=pytest.mark.long), "unknown"])
async def test_a_thousand_wrong_links_in_a_minute_shut_out_nobody_with_a_good_one(
    shared: LiveRuntime, what: str
) -> None:
    address = f"127.9.1.{len(what)}"
    rightful = Rightful(shared, address)
    await rightful.prepare(20)
    make = malformed if what == "malformed" else make_secret
    statuses: Counter[int] = Counter()
    worked = []
    began_s = time.monotonic()
    async with client(shared, address) as stranger:
        for number in range(20):

            async def guess() -> None:
                link = await stranger.get(f"/v1/callbacks/{make(SecretKind.CALLBACK)}")
                statuses[link.status_code] += 1

            *_, statuses_of_good = await asyncio.gather(
                *(guess() for _ in range(50)), rightful.work(number)
            )
            worked.append(statuses_of_good)
    took_s = time.monotonic() - began_s
    assert worked == [[200, 200, 200, 200]] * 20
    assert took_s < FLOOD_WITHIN_S
    # A minute's window may begin anew meanwhile.
    config = RateLimits()
    budget = config.malformed_per_source if what == "malformed" else config.failures_per_source
    assert sum(statuses.values()) == 1_000
    assert set(statuses) == {404, 429}
    assert statuses[404] <= 2 * int(budget.partition("/")[0])


async def test_forwarded_headers_of_this_machine_are_not_believed(shared: LiveRuntime) -> None:
    statuses: Counter[int] = Counter()
    async with client(shared, "127.9.2.1") as stranger:
        for number in range(400):
            answer = await stranger.get(
                f"/v1/callbacks/{malformed(SecretKind.CALLBACK)}",
                headers={"X-Forwarded-For": f"192.0.{number % 250}.{number // 250}"},
            )
            statuses[answer.status_code] += 1
    assert statuses[429] > 0


@pytest.mark.long  # with shorter bounds: tests/http/test_connections.py
async def test_five_hundred_half_open_requests_are_gone_after_their_bounds(
    shared: LiveRuntime,
) -> None:
    port = int(shared.credentials.url.rpartition(":")[2])
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    keyed = f"{head}Authorization: Bearer {shared.credentials.key}\r\n"
    body = "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    beginnings = [head, head + body, keyed + body]
    rightful = Rightful(shared, "127.9.3.1")
    await rightful.prepare(1)
    with ExitStack() as opened:
        half_open = []
        for number in range(HALF_OPEN):
            one = opened.enter_context(socket.socket())
            one.bind(("127.9.3.1", 0))
            one.connect(("127.0.0.1", port))
            one.sendall(beginnings[number % 3].encode())
            one.setblocking(False)
            half_open.append(one)
        opened_at_s = time.monotonic()
        assert await rightful.work(0) == [200, 200, 200, 200]
        while half_open:
            assert time.monotonic() - opened_at_s < BOUNDS.body_s + BOUNDS.refusal_s + 10
            # Every other one goes on, a byte at a time.
            half_open = [
                one for number, one in enumerate(half_open) if not has_ended(one, number % 2 == 0)
            ]
            await asyncio.sleep(0.25)
    assert shared.client.health().ready


def has_ended(one: socket.socket, is_trickled: bool) -> bool:
    """The server has closed it."""
    try:
        if is_trickled:
            one.send(b"a")
        while part := one.recv(65_536):
            assert part
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


@pytest.mark.long  # beside a gateway of the tests: tests/http/test_connections.py
async def test_a_body_of_twenty_megabytes_is_told_that_it_is_too_large(
    shared: LiveRuntime,
) -> None:
    found = shared.credentials
    for size_mb in (3, 20):
        for _ in range(20):
            async with httpx.AsyncClient(base_url=found.url, timeout=30) as http:
                answer = None
                with suppress(httpx.WriteError):
                    answer = await http.post(
                        "/v1/sessions",
                        content=b"[" * (size_mb * 1_000_000),
                        headers={
                            "Authorization": f"Bearer {found.key}",
                            "Content-Type": "application/json",
                        },
                    )
            assert answer is not None
            assert answer.status_code == 413
