"""What carries clients' calls: the product's own transport, which goes on at another address, or a lean one.

The lean one does it with as little as HTTP/1.1 needs, a fifth of the processor time of httpx. It replaces what is below
`helmr.client`: requests, answers and errors are the client's own. It never asks again: what was sent and not answered
whole has an unknown outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar, cast
from urllib.parse import urlencode, urlsplit

import httptools
import httpx
from pydantic import ValidationError

from helmr.client import AsyncClient, problems
from helmr.client.calls import Call, Download, Feed
from helmr.client.endpoint import Addresses, Endpoint
from helmr.client.http import AsyncHttpTransport
from helmr.errors import HelmrError, OutcomeUnknown, RuntimeNotFound, Unavailable
from helmr.models import STALE_HEADER

T = TypeVar("T")
CONNECT_S = 5.0

Connect = Callable[[str, list[str]], AsyncClient]
"""Makes a client with this key; what answers say of how old they may be is put into the list."""


def lean(url: str) -> Connect:
    """Clients that speak to one address and never ask again."""

    def connect(key: str, ages: list[str]) -> AsyncClient:
        endpoint = Endpoint(url=url, key=key, found_by="the history")
        return AsyncClient._over(LeanTransport(endpoint, ages))

    return connect


def patient(url: str, *others: str) -> Connect:
    """The product's clients, which know several addresses of one runtime."""

    def connect(key: str, ages: list[str]) -> AsyncClient:
        endpoint = Endpoint(url=url, others=others, key=key, found_by="the history")
        return AsyncClient._over(AsyncHttpTransport(endpoint, carrier=_Listening(ages)))

    return connect


class _Listening(httpx.AsyncHTTPTransport):
    """Hears what answers say of their age."""

    def __init__(self, ages: list[str]) -> None:
        super().__init__(verify=False)  # of http; to load certificates takes longer than a call
        self._ages = ages

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        self._ages += answer.headers.get_list(STALE_HEADER)
        return answer


class LeanTransport(AsyncHttpTransport):
    """Of `AsyncClient`; belongs to one event loop. Does calls, and follows and downloads nothing.

    Args:
        endpoint: A runtime's URL and key.
        ages: Gets what answers say of their age.
    """

    def __init__(self, endpoint: Endpoint, ages: list[str] | None = None) -> None:
        assert endpoint.key is not None
        self._ages = ages if ages is not None else []
        self._endpoint = endpoint
        self._addresses = Addresses(endpoint)
        address = urlsplit(endpoint.url)
        assert address.hostname is not None
        assert address.port is not None
        self._host, self._port, self._key = address.hostname, address.port, endpoint.key
        self._idle: list[_Connection] = []
        self._open_ones: set[_Connection] = set()

    async def call(self, call: Call[T]) -> T:
        """Its answer.

        Raises:
            HelmrError: As the product's transport, without a second try.
        """
        request = self._request(call)
        connection = await self._connection()
        try:
            status, headers, body = await connection.ask(request)
        except (OSError, httptools.HttpParserError) as error:
            kind: type[HelmrError] = Unavailable if call.operation_id is None else OutcomeUnknown
            raise kind(f"{call.name}: no whole answer ({error!r})") from error
        finally:
            if connection.is_idle:
                self._idle.append(connection)
            else:
                connection.abort()
                self._open_ones.discard(connection)
        self._ages += [value for name, value in headers if name.lower() == STALE_HEADER.lower()]
        if 200 <= status < 300 and call.read is None:
            try:
                return call.reply.validate_json(body)
            except ValidationError:
                pass  # the client says what is wrong
        answer = httpx.Response(status, headers=headers, content=body)
        return problems.answer(call, answer, url=self.endpoint.url)

    async def close(self) -> None:
        """Close its connections."""
        for connection in self._open_ones:
            connection.abort()

    def items(self, feed: Feed[T]) -> AsyncGenerator[T, None]:
        """Not here."""
        raise NotImplementedError(feed.path)

    def download(self, wanted: Download) -> AsyncGenerator[bytes, None]:
        """Not here."""
        raise NotImplementedError(wanted.path)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle:
                return connection
            self._open_ones.discard(connection)
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, self._host, self._port
                )
        except (OSError, TimeoutError) as error:
            raise RuntimeNotFound(f"no runtime answers ({error!r})", connecting=True) from error
        self._open_ones.add(connection)
        return connection

    def _request(self, call: Call[T]) -> bytes:
        path = f"{call.path}?{urlencode(call.params)}" if call.params else call.path
        lines = [
            f"{call.method} {path} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            f"Accept: {call.accept or 'application/json'}",
            f"Authorization: Bearer {call.bearer or self._key}",
            *(f"{name}: {value}" for name, value in call.headers),
        ]
        if call.operation_id is not None:
            lines.append(f"Operation-Id: {call.operation_id}")
        body = call.body or b""
        if call.body is not None:
            lines.append("Content-Type: application/json")
        if call.method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body


class _Connection(asyncio.Protocol):
    """One request at a time; once an answer was not whole, it is not used again."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, list[tuple[str, str]], bytes]] | None = None
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._is_over = False

    @property
    def is_idle(self) -> bool:
        """It can be asked something."""
        return self._answer is None and not self._is_over

    async def ask(self, request: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of the answer.

        Raises:
            OSError: The connection ended before that.
            httptools.HttpParserError: What came is no answer.
        """
        assert self.is_idle
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._headers, self._body = [], []
        self._transport.write(request)
        answer = await self._answer
        self._answer = None  # whoever is cancelled before leaves it: the answer may come yet
        return answer

    def abort(self) -> None:
        """Close it, whatever is on it."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's and the parser's ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There it is."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """A piece of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """No answer comes any more."""
        self._is_over = True
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("closed"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if not self._parser.should_keep_alive():
            self._is_over = True
        if self._answer is None or self._answer.done():
            self.abort()  # nobody asked, or nobody listens any more
            return
        told = self._parser.get_status_code(), self._headers, b"".join(self._body)
        self._answer.set_result(told)
