"""A real gateway that is sent requests which are nearly right; it answers them all, none with 5xx."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from helmr.tasks import Task
from helmr_runtime.catalog import Registry
from helmr_runtime.features.mcp import handlers as mcp
from helmr_runtime.security.secrets import SecretKind, make_secret
from tests.features.mcp import asking_tasks
from tests.programs.fuzz.damage import altered, damaged
from tests.programs.fuzz.parsers import BODIES, JSONS, MEDIA, SCHEMAS, SESSION, SIGNED, WAIT, Parser
from tests.service.stack import Stack

ANSWER_S = 20.0
HEAD_BYTES_MAX = 64 * 1024
TASKS: list[Task[..., Any]] = [asking_tasks.greet, asking_tasks.release, asking_tasks.fail]
SECRET = "{secret}"
"""A callback's, put in where a request is sent: no secret is to stand in what a failure prints."""
RPC: list[Any] = [
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "greet",
            "arguments": {"name": "Ada"},
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
        },
    },
    {"jsonrpc": "2.0", "id": "a", "method": "tools/list", "params": {"cursor": "x"}},
    {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "a", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
]
START = {"task": "greet", "payload": {"name": "Ada"}, "tags": ["a"], "external_id": "x"}
TOKEN = {"subject": "s", "schema": SCHEMAS[0], "timeout": "1h", "raw": True, "tags": ["t"]}
QUERY = {"sql": "SELECT count(*) FROM sessions", "limit": 3}
POSTED: list[tuple[str, Sequence[Any]]] = [
    ("/v1/sessions", [START]),
    ("/v1/tokens", [TOKEN]),
    ("/mcp", RPC),
    (f"/v1/waits/{WAIT}/answer", [{"data": {"a": 1}, "note": "n"}]),
    (f"/v1/sessions/{SESSION}/inputs/approval", [{"data": 1, "correlation_id": "c"}]),
    ("/v1/query", [QUERY]),
    ("/v1/schedules", [{"name": "n", "task": "greet", "cron": "0 3 * * *", "payload": {}}]),
    ("/v1/public-tokens", [{"scope": {"type": "token.complete", "token_id": "tok_1"}}]),
    ("/v1/prune", [{"closed_after_s": 86400, "dry_run": True}]),
    (f"/v1/callbacks/{SECRET}?raw=1", JSONS),
]
GOT = [
    "/v1/waits?limit=2&status=pending&cursor=WyJ3YWl0cyIsMSwid2FpdF8wMSJd&tag=a",
    "/v1/sessions?cursor=WyJzZXNzaW9ucyIsNzdd&task=greet&since=2026-01-01T00:00:00Z",
    f"/v1/sessions/{SESSION}/transcript?after=0&limit=10",
    "/v1/schedules/nightly",
    f"/v1/callbacks/{SECRET}",
    "/v1/events?after=3&follow=false",
    "/metrics",
]
HEADERS = {
    "Content-Type": [*MEDIA, "application/json; charset*0=a; charset*=b"],
    "Origin": ["http://helmr.test", "http://[::1]:80", "null"],
    "Last-Event-ID": ["17"],
    "Idempotency-Key": ["k-1"],
    "Helmr-Operation-Id": ["op_01m8bc7wc1ejdte581nx7revtp"],
    "On-Behalf-Of": ["Ada%20L"],
    "traceparent": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
    "X-Forwarded-For": ["10.0.0.1, 1.2.3.4"],
    "Accept": ["text/event-stream;q=0.5, text/html", "application/vnd.apache.arrow.stream"],
    "Mcp-Method": ["tools/call"],
    "MCP-Protocol-Version": ["2026-07-28"],
    "Content-Encoding": ["gzip"],
    **{name: [value] for name, value in SIGNED.items()},
}


@st.composite
def requests(draw: DrawFn) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    """Method, target, headers and body."""
    names = draw(st.lists(st.sampled_from(sorted(HEADERS)), unique=True, max_size=3))
    headers = {
        name.encode(): draw(damaged([one.encode() for one in HEADERS[name]])) for name in names
    }
    if draw(st.booleans()):
        target = draw(damaged([one.encode() for one in GOT]))
        return b"GET", target, list(headers.items()), b""
    path, samples = draw(st.sampled_from(POSTED))
    headers.setdefault(b"Content-Type", b"application/json")
    if isinstance(samples[0], bytes):
        body = draw(damaged([*samples, *BODIES]))
    else:
        body = json.dumps(draw(altered(samples))).encode()
    return b"POST", path.encode(), list(headers.items()), body


def as_line(part: bytes) -> bytes:
    """What can stand in a head: no line breaks; other signs that no client sends are the server's to refuse."""
    return part.replace(b"\r", b"").replace(b"\n", b"")


class Served:
    """The gateway of a whole runtime in this process, on a loop that runs while it is asked."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._secret = make_secret(SecretKind.CALLBACK).encode()
        self._stack = Stack(
            folder,
            registry=Registry(TASKS, modules=["tests.features.mcp.asking_tasks"], code_hash="1"),
        )

    def start(self) -> None:
        """Ready when this returns."""
        self._runner.run(self._stack.start())
        importlib.import_module(mcp.SERVER)  # else the first request for it waits some seconds

    def stop(self) -> None:
        """End all of it."""
        self._runner.run(self._stack.stop())
        self._runner.close()

    def ask(self, given: tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]) -> None:
        """Send a request; a refusal is an answer."""
        method, target, headers, body = given
        own = [
            (b"Host", b"127.0.0.1"),
            (b"Authorization", b"Bearer " + self._stack.key.encode()),
            (b"Content-Length", str(len(body)).encode()),
            (b"Connection", b"close"),
        ]
        path = quote(target.replace(SECRET.encode(), self._secret), safe="/?&=%:+-._~*").encode()
        lines = [method + b" " + path + b" HTTP/1.1"]
        lines += [name + b": " + as_line(value) for name, value in (*own, *headers)]
        status = self._runner.run(self._status(b"\r\n".join(lines) + b"\r\n\r\n" + body))
        assert status < 500, f"{method.decode()} {target!r} was answered with {status}"

    async def _status(self, raw: bytes) -> int:
        place = urlsplit(self._stack.url)
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                writer.write(raw)
                head = await reader.readline()
                return int(head.split(b" ", 2)[1])
            finally:
                writer.close()


@contextmanager
def served() -> Iterator[Parser]:
    """The parser that a gateway is."""
    logger = logging.getLogger("helmr_runtime")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        gateway = Served(Path(folder))
        gateway.start()
        try:
            yield Parser("http", requests(), gateway.ask)
        finally:
            gateway.stop()
            logger.setLevel(level)
