"""Connections end when they should, and those who open many keep nobody out."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from helmr.models import HTTP_BODY_BYTES_MAX
from helmr_runtime.http.settings import ConnectionBounds
from helmr_runtime.process.gateway import GatewayActor
from tests.http.test_sessions import code_of
from tests.service.stack import BOUND_S, Stack, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = ConnectionBounds(
    head_s=0.4, body_s=0.4, refusal_s=3.0, idle_s=0.4, unread_s=0.4, read_on_silent_s=0.4
)
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
Raw = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Served:
    """A gateway with bounds of its own."""

    def __init__(self, stack: Stack, gateway: GatewayActor, port: int) -> None:
        self.stack, self.gateway, self.port = stack, gateway, port
        self.opened: list[asyncio.StreamWriter] = []
        self.before: set[str] = set()
        """Runs of tests before this one."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self, sent: bytes = b"") -> Raw:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append(writer)
        writer.write(sent)
        return reader, writer

    async def until_connected(self, count: int) -> None:
        await until(lambda: len(self.gateway.connections) == count)

    async def is_well(self) -> bool:
        async with httpx.AsyncClient(base_url=self.url, timeout=BOUND_S) as http:
            return (await http.get("/healthz")).status_code == 200


@asynccontextmanager
async def served(stack: Stack, bounds: ConnectionBounds) -> AsyncIterator[Served]:
    gateway = GatewayActor(stack.make_service(), stack.settings(bounds=bounds))
    limiter = Served(stack, gateway, await gateway.start("127.0.0.1", 0))
    try:
        yield limiter
    finally:
        for writer in limiter.opened:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        await gateway.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One runtime behind the gateways of all tests."""
    stack = Stack(tmp_path_factory.mktemp("connections"))
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def limiter(stack: Stack) -> AsyncIterator[Served]:
    async with served(stack, SHORT) as found:
        found.before = {run["id"] for run in await runs_of(stack)}
        yield found


async def runs_of(stack: Stack) -> list[dict[str, Any]]:
    page: dict[str, Any] = (await stack.http.get("/v1/runs?limit=200")).json()
    assert page["next_cursor"] is None
    found: list[dict[str, Any]] = page["items"]
    return found


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the server ended the connection."""
    got = b""
    async with asyncio.timeout(BOUND_S):
        with suppress(ConnectionResetError):
            while part := await reader.read(65_536):
                got += part
    return got


async def trickle(writer: asyncio.StreamWriter, piece: bytes = b"a") -> None:
    """A little now and then, until the other side has had enough."""
    with suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("sent", [b"", b"GET /he", HEAD, HEAD + b"X-Long: "], ids=repr)
@pytest.mark.parametrize("is_trickled", [False, True])
async def test_a_head_that_does_not_come_ends_its_connection(
    limiter: Served, sent: bytes, is_trickled: bool
) -> None:
    reader, writer = await limiter.connect(sent)
    piece = b"a" if sent else b"\r\n"  # empty lines may stand before a request
    trickling = asyncio.create_task(trickle(writer, piece)) if is_trickled else None
    assert await ended(reader) == b""
    if trickling is not None:
        trickling.cancel()
    await limiter.until_connected(0)


@pytest.mark.parametrize("is_trickled", [False, True])
async def test_a_later_head_that_does_not_come_whole_ends_its_connection(
    limiter: Served, is_trickled: bool
) -> None:
    reader, writer = await limiter.connect(HEAD + b"\r\n")
    assert await reader.readuntil(b"ok\n")
    writer.write(b"GET /he")
    trickling = asyncio.create_task(trickle(writer)) if is_trickled else None
    assert await ended(reader) == b""
    if trickling is not None:
        trickling.cancel()


async def test_an_idle_connection_ends(limiter: Served) -> None:
    reader, _ = await limiter.connect(HEAD + b"\r\n")
    assert (await ended(reader)).endswith(b"ok\n")
    await limiter.until_connected(0)


@pytest.mark.parametrize("is_trickled", [False, True])
@pytest.mark.parametrize("has_key", [False, True])
async def test_a_body_that_does_not_come_is_refused_and_its_connection_ends(
    limiter: Served, is_trickled: bool, has_key: bool
) -> None:
    key = f"Authorization: Bearer {limiter.stack.key}\r\n" if has_key else ""
    sent = (
        f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\n{key}Content-Type: application/json\r\n"
    )
    reader, writer = await limiter.connect(sent.encode() + b"Content-Length: 1000\r\n\r\n{")
    trickling = asyncio.create_task(trickle(writer)) if is_trickled else None
    answer = await ended(reader)
    assert answer.startswith(b"HTTP/1.1 400" if has_key else b"HTTP/1.1 401")
    if trickling is not None:
        trickling.cancel()
    await limiter.until_connected(0)


async def test_an_answer_that_nobody_reads_ends_its_connection(stack: Stack) -> None:
    async with served(stack, SHORT) as limiter:
        session = (await stack.started("echo", 0))["session"]["id"]
        for _ in range(30):
            answer = await stack.http.post(
                f"/v1/sessions/{session}/inputs/words", json={"data": "x" * 100_000}
            )
            assert answer.status_code == 200
        key = f"Authorization: Bearer {stack.key}\r\n"
        sent = f"GET /v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\n{key}\r\n"
        with socket.socket() as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            silent.connect(("127.0.0.1", limiter.port))
            silent.sendall(sent.encode())
            await limiter.until_connected(1)
            await limiter.until_connected(0)


async def test_a_follower_that_reads_lives_on_beyond_all_bounds(stack: Stack) -> None:
    async with (
        served(stack, SHORT) as limiter,
        httpx.AsyncClient(base_url=limiter.url, timeout=BOUND_S) as http,
        http.stream(
            "GET", "/v1/events", headers={"Authorization": f"Bearer {stack.key}"}
        ) as response,
    ):
        chunks = response.aiter_text()
        await anext(chunks)
        await asyncio.sleep(2 * max(SHORT.head_s, SHORT.body_s, SHORT.idle_s, SHORT.unread_s))
        await stack.started("return", 4_242_424_242)
        async with asyncio.timeout(BOUND_S):
            while "4242424242" not in await anext(chunks):
                pass


async def test_a_slow_client_that_keeps_within_the_bounds_is_served(stack: Stack) -> None:
    async with served(stack, replace(SHORT, head_s=BOUND_S, body_s=BOUND_S)) as limiter:
        reader, writer = await limiter.connect()
        body = b'{"task": "return", "payload": 1}'
        head = f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {stack.key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        for byte in head.encode() + body:
            writer.write(bytes([byte]))
            await writer.drain()
        async with asyncio.timeout(BOUND_S):
            assert b" 201 " in await reader.readline()


# --- how many -------------------------------------------------------------------------------------


async def test_half_open_connections_make_room_for_whole_requests(stack: Stack) -> None:
    async with served(stack, ConnectionBounds(per_source_max=10)) as limiter:
        half_open = [await limiter.connect(HEAD) for _ in range(30)]
        assert await limiter.is_well()
        assert len(limiter.gateway.connections) <= 10
        for reader, _ in half_open[:20]:
            assert await ended(reader) == b""


async def test_idle_connections_make_room_before_those_that_send(stack: Stack) -> None:
    async with served(stack, ConnectionBounds(connections_max=2)) as limiter:
        post = b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        sending, _ = await limiter.connect(post)
        await sending.readuntil(b"\r\n\r\n")
        idle, _ = await limiter.connect(HEAD + b"\r\n")
        await idle.readuntil(b"ok\n")
        assert await limiter.is_well()
        assert await ended(idle) == b""
        assert not sending.at_eof()


async def test_where_all_are_being_served_the_next_is_told_to_come_back(stack: Stack) -> None:
    follow = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.key}\r\n\r\n"
    follow = follow.replace("Host: x", "Host: localhost")
    async with served(stack, ConnectionBounds(per_source_max=3)) as limiter:
        for _ in range(3):
            reader, _ = await limiter.connect(follow.encode())
            await reader.readuntil(b"id: ")
        refused, _ = await limiter.connect()
        answer = await ended(refused)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert len(limiter.gateway.connections) == 3


async def test_connections_of_another_source_have_a_bound_of_their_own(stack: Stack) -> None:
    follow = f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {stack.key}\r\n"
    async with served(stack, ConnectionBounds(per_source_max=2)) as limiter:
        for _ in range(2):
            reader, _ = await limiter.connect(follow.encode() + b"\r\n")
            await reader.readuntil(b"id: ")
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(base_url=limiter.url, transport=transport) as http:
            assert (await http.get("/healthz")).status_code == 200


# --- refused while it still sends -------------------------------------------------------------------


def said(port: int, key: str, size_bytes: int) -> bytes:
    """The first line of the answer to a body of that size, by a client that sends all before it reads."""
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {size_bytes}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=BOUND_S) as client:
        client.sendall(head.encode())
        client.sendall(b"[" * size_bytes)
        return client.makefile("rb").readline()


@pytest.mark.parametrize("size_mb", [3, 20])
async def test_a_large_body_is_told_that_it_is_too_large(stack: Stack, size_mb: int) -> None:
    port = int(stack.url.rpartition(":")[2])
    for _ in range(20):
        line = await asyncio.to_thread(said, port, stack.key, size_mb * 1_000_000)
        assert line == b"HTTP/1.1 413 Content Too Large\r\n" or line.startswith(b"HTTP/1.1 413 ")
    await until(lambda: len(stack.gateway.connections) <= 1)


@pytest.mark.parametrize("key", ["its key", "a wrong one", "none"])
@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", f"Content-Length: {2**40}"])
async def test_a_client_that_never_ends_is_not_read_on_for_ever(
    stack: Stack, key: str, framing: str
) -> None:
    """Whatever refuses it: the body's size, or the key, for which the body is not looked at."""
    keys = {"its key": stack.key, "a wrong one": f"{stack.key[:-4]}aaaa"}
    given = f"Authorization: Bearer {keys[key]}\r\n" if key in keys else ""

    def parts() -> Iterator[bytes]:
        while True:
            yield b"[" * 65_536

    def send() -> int:
        sent = 0
        head = f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\n{given}"
        head += f"Content-Type: application/json\r\n{framing}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=BOUND_S) as client:
            client.sendall(head.encode())
            with suppress(ConnectionError):
                for part in parts():
                    whole = b"%x\r\n%s\r\n" % (len(part), part)
                    client.sendall(whole if "chunked" in framing else part)
                    sent += len(part)
        return sent

    port = int(stack.url.rpartition(":")[2])
    async with asyncio.timeout(BOUND_S):
        sent = await asyncio.to_thread(send)
    assert sent < ConnectionBounds().read_on_bytes_max + 16 * 1024 * 1024
    assert (await stack.http.get("/healthz")).status_code == 200


async def test_what_is_no_http_is_told_so(stack: Stack) -> None:
    port = int(stack.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01" + b"\x00" * 200_000)
    answer = await ended(reader)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "bad_request"


# --- what is not read as a request --------------------------------------------------------------------


def start_request(key: str, payload: int, more: str = "") -> bytes:
    body = f'{{"task": "return", "payload": {payload}}}'
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return f"{head}{body}".encode()


async def said_to(limiter: Served, sent: bytes) -> bytes:
    """All that is answered to these bytes, by a client that then only reads."""
    reader, _ = await limiter.connect(sent)
    return await ended(reader)


async def payloads(limiter: Served) -> list[int]:
    runs = await runs_of(limiter.stack)
    return sorted(run["payload"] for run in runs if run["id"] not in limiter.before)


GET = b"GET /healthz HTTP/1.1\r\n"
LOCAL = b"Host: localhost\r\n"
CHUNKED = b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        GET + b"\r\n",
        GET + LOCAL + LOCAL + b"\r\n",
        GET + LOCAL + b"Host: elsewhere.example\r\n\r\n",
        GET + LOCAL + b"X-Folded: a\r\n b\r\n\r\n",
        GET + LOCAL + b"X-Space : a\r\n\r\n",
        GET + LOCAL + b"X-Nul: a\x00b\r\n\r\n",
        GET + LOCAL + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        GET + LOCAL + b"Content-Length: +1\r\n\r\na",
        GET + LOCAL + b"X-Long: " + b"a" * 600_000,
        GET + LOCAL + b"X-One-Piece: " + b"a" * 17_000 + b"\r\n\r\n",
        GET
        + LOCAL
        + b"".join(b"X-%04d: %s\r\n" % (one, b"a" * 50) for one in range(300))
        + b"\r\n",
        b"GET /healthz?" + b"a" * 17_000 + b" HTTP/1.1\r\n" + LOCAL + b"\r\n",
        b"GET http://localhost/healthz HTTP/1.1\r\n" + LOCAL + b"\r\n",
        b"GET /healthz#part HTTP/1.1\r\n" + LOCAL + b"\r\n",
        b"GET /healthz?\xff HTTP/1.1\r\n" + LOCAL + b"\r\n",
        b"GET healthz HTTP/1.1\r\n" + LOCAL + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + LOCAL + b"\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\n" + LOCAL + b"\r\n",
        CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:80]),
)
async def test_what_readers_could_take_differently_is_refused(limiter: Served, sent: bytes) -> None:
    answer = await said_to(limiter, sent)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_head_within_the_bound_is_served_in_one_piece(limiter: Served) -> None:
    long = b"X-Long: " + b"a" * 15_000 + b"\r\nConnection: close\r\n\r\n"
    assert (await said_to(limiter, GET + LOCAL + long)).startswith(b"HTTP/1.1 200 ")
    two = GET + LOCAL + b"X-Long: " + b"a" * 10_000 + b"\r\n\r\n"
    reader, writer = await limiter.connect(two)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(two)  # each head has the bound for itself
    assert (await ended(reader)).count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize(
    "behind",
    [
        b"\x00nonsense",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HT",
        b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=repr,
)
async def test_what_stands_behind_a_whole_request_changes_nothing_of_its_answer(
    limiter: Served, behind: bytes
) -> None:
    """A 400 would say that nothing was done."""
    answer = await said_to(limiter, start_request(limiter.stack.key, 1) + behind)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert await payloads(limiter) == [1]


async def test_a_second_request_in_one_piece_is_not_carried_out(limiter: Served) -> None:
    both = start_request(limiter.stack.key, 1) + start_request(limiter.stack.key, 2)
    answer = await said_to(limiter, both)
    assert answer.count(b"HTTP/1.1 201 ") == 1
    assert await payloads(limiter) == [1]


async def test_a_body_that_breaks_off_in_nonsense_is_refused_and_starts_nothing(
    limiter: Served,
) -> None:
    head = CHUNKED + f"Authorization: Bearer {limiter.stack.key}\r\n".encode()
    sent = head + b"Content-Type: application/json\r\n\r\n1\r\n{\r\nnonsense\r\n"
    assert (await said_to(limiter, sent)).startswith(b"HTTP/1.1 400 ")
    assert await payloads(limiter) == []


async def test_trailers_are_no_headers_and_have_an_end(limiter: Served) -> None:
    head = CHUNKED + b"Content-Type: application/json\r\n\r\n2\r\n{}\r\n0\r\n"
    trailer = f"Authorization: Bearer {limiter.stack.key}\r\n".encode()
    assert (await said_to(limiter, head + trailer + b"\r\n")).startswith(b"HTTP/1.1 401 ")
    keyed = CHUNKED + trailer + b"Content-Type: application/json\r\n\r\n0\r\nX-Long: "
    assert (await said_to(limiter, keyed + b"a" * 600_000)).startswith(b"HTTP/1.1 400 ")


async def test_an_upgrade_that_is_not_served_is_answered_as_any_request(limiter: Served) -> None:
    more = "Connection: Upgrade, close\r\nUpgrade: h2c\r\n"
    sent = start_request(limiter.stack.key, 1, more)
    reader, writer = await limiter.connect(sent[:-5])
    writer.write(sent[-5:])
    assert (await ended(reader)).startswith(b"HTTP/1.1 201 ")
    older = start_request(limiter.stack.key, 2, more).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert (await said_to(limiter, older)).startswith(b"HTTP/1.1 201 ")
    assert await payloads(limiter) == [1, 2]


async def test_a_refused_body_of_the_right_size_leaves_the_connection_in_use(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url, timeout=BOUND_S) as http:
        for _ in range(2):
            answer = await http.post("/v1/sessions", content=b"[" * HTTP_BODY_BYTES_MAX)
            assert (answer.status_code, code_of(answer)) == (401, "unauthenticated")
        assert (await http.get("/healthz")).status_code == 200


# --- who asks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_nobody_chooses_its_own_source(tmp_path: Path, stack: Stack, header: str) -> None:
    settings = stack.settings()
    limits = replace(settings.limits, per_source="5/minute")
    gateway = GatewayActor(stack.make_service(), replace(settings, limits=limits))
    port = await gateway.start("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            statuses = [
                (
                    await http.get(
                        "/v1/waits", headers={header: f"for=192.0.2.{n}, 192.0.2.{n}, 192.0.2.{n}"}
                    )
                ).status_code
                for n in range(8)
            ]
    finally:
        await gateway.stop()
    assert statuses == [401] * 5 + [429] * 3


@pytest.mark.parametrize(
    ("said_by_proxy", "statuses"),
    [
        (lambda n: f"192.0.2.{n}", [401] * 8),
        # What stands before the proxy's own word is the client's, who may write anything.
        (lambda n: f"192.0.2.{n}, 198.51.100.7", [401] * 5 + [429] * 3),
        (lambda n: f"192.0.2.{n}, 198.51.100.7, 127.0.0.9", [401] * 5 + [429] * 3),
    ],
    ids=["one client each", "a client that lies", "two proxies"],
)
async def test_a_trusted_proxy_says_who_asks(stack: Stack, said_by_proxy, statuses) -> None:
    settings = stack.settings(trusted_proxies=("127.0.0.0/8",))
    limits = replace(settings.limits, per_source="5/minute")
    gateway = GatewayActor(stack.make_service(), replace(settings, limits=limits))
    port = await gateway.start("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            found = [
                (
                    await http.get("/v1/waits", headers={"X-Forwarded-For": said_by_proxy(n)})
                ).status_code
                for n in range(8)
            ]
    finally:
        await gateway.stop()
    assert found == statuses


async def test_a_trusted_proxy_has_as_many_connections_as_there_may_be(stack: Stack) -> None:
    settings = stack.settings(
        bounds=ConnectionBounds(per_source_max=2), trusted_proxies=("127.0.0.1/32",)
    )
    gateway = GatewayActor(stack.make_service(), settings)
    limiter = Served(stack, gateway, await gateway.start("127.0.0.1", 0))
    try:
        for _ in range(5):
            await limiter.connect(HEAD)
        await limiter.until_connected(5)
    finally:
        for writer in limiter.opened:
            writer.close()
        await gateway.stop()


async def test_five_hundred_half_open_requests_slow_nobody_down_for_long(stack: Stack) -> None:
    """A hang guard; how long they live is measured on a whole runtime."""
    async with served(stack, replace(SHORT, head_s=1.0)) as limiter:
        began_s = time.monotonic()
        for _ in range(500):
            await limiter.connect(HEAD)
        assert await limiter.is_well()
        await limiter.until_connected(0)
        assert time.monotonic() - began_s < BOUND_S


# --- the end of the runtime -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "code"), [("POST", "outcome_unknown"), ("GET", "not_ready")], ids=str
)
async def test_what_the_end_of_the_runtime_cuts_off_is_told_what_became_of_it(
    stack: Stack, caplog: pytest.LogCaptureFixture, method: str, code: str
) -> None:
    async with served(stack, ConnectionBounds()) as limiter:
        asked = asyncio.Event()

        async def hang(*given: Any) -> Any:
            asked.set()
            await asyncio.Event().wait()

        sessions: Any = limiter.gateway._service.sessions
        server = limiter.gateway._server
        sessions.start = sessions.list = hang
        headers = {"Authorization": f"Bearer {stack.key}"}
        async with httpx.AsyncClient(base_url=limiter.url, headers=headers) as http:
            body = {"task": "echo"} if method == "POST" else None
            asking = asyncio.create_task(http.request(method, "/v1/sessions", json=body))
            await asked.wait()
            assert server is not None
            for task in server.server_state.tasks:
                task.cancel()
            answer = await asking
        assert (answer.status_code, code_of(answer)) == (503, code)
        assert answer.headers["retry-after"]
    assert "Traceback" not in caplog.text
