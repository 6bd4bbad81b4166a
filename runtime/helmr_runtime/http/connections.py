"""Connections of the gateway are bounded, each in time and all of them in number.

The parser is httptools', driven by uvicorn, which waits without limit for the rest of a request and buffers all of it.
This module adds bounds. A request's head and body must arrive in time, and the client must read the answer in time. A
client that is still sending when it is refused gets to read the refusal. Bytes between two events of the parser are
bounded. A connection serves one request at a time: bytes behind a request in work are ignored, and the connection ends
with its answer. At the limit, the oldest connection without work makes room, so a client that opens connections and
sends nothing keeps no one else out.

The overridden parts of uvicorn are undocumented. They were read in 0.54; `tests/http/test_inside_uvicorn.py` fails when
a name goes or changes its meaning, and docs/upstream/uvicorn.md says which changes would make this module needless.

Invariants: S-64 (refused before any durable effect); a request refused with 400 here never reached a route in full.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from helmr.errors import BadRequest, NotReady, OutcomeUnknown, Unavailable
from helmr_runtime.http.problems import problem_response
from helmr_runtime.http.settings import PEER, ConnectionBounds
from helmr_runtime.security.rate_limits import source_key

BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"retry-after: 1\r\ncontent-length: 21\r\nconnection: close\r\n\r\ntoo many connections\n"
)

UNREADABLE = (
    b"HTTP/1.1 400 Bad Request\r\n%scontent-type: application/problem+json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n"
)

INCOMPLETE_BYTES_MAX = 16 * 1024
"""Bytes since the parser's last whole item: a head, a piece of a body, its end. Trailers and the extensions of chunks
count too."""

HEAD_BYTES_MAX = 16 * 1024
"""Bytes of a request's head, even in one piece: its target, and the names and values of its headers."""

_AROUND_HEADER_BYTES = len(b": \r\n")

TARGET = re.compile(rb"/[!-\"$-~]*")
"""A path and query in visible ASCII. uvicorn would cut a whole URL or a fragment down to its path, and so differ from a
proxy in front."""


class Phase(IntEnum):
    """The phase of a connection. Lower ones are dropped first to make room."""

    HEAD = 0
    """The request's head is incomplete."""
    IDLE = 1
    """Between two requests."""
    BODY = 2
    """The request's body is incomplete."""
    ANSWER = 3
    """A whole request is in work, or its stream is followed."""
    CLOSING = 4


class Connections:
    """The open connections.

    Args:
        bounds: Bounds in number and time.
        trusted_proxies: Networks of proxies, whose addresses stand for many clients and are not bounded per source.
    """

    def __init__(self, bounds: ConnectionBounds, trusted_proxies: tuple[str, ...] = ()) -> None:
        self.bounds = bounds
        self._proxies = [ipaddress.ip_network(text) for text in trusted_proxies]
        self._all: dict[BoundedProtocol, str] = {}
        self._by_source: dict[str, dict[BoundedProtocol, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def protocol(self) -> type[HttpToolsProtocol]:
        """The protocol class that uvicorn instantiates for each connection."""
        return type("BoundConnection", (BoundedProtocol,), {"registry": self})

    def add(self, one: BoundedProtocol, address: str) -> bool:
        """Add a connection, if need be in place of one without work; False if there is no room."""
        source = source_key(address)
        some = self._by_source.get(source, {})
        if len(some) >= self.bounds.per_source_max and not self._is_proxy(address):
            if not _drop_one(some):
                return False
        elif len(self._all) >= self.bounds.connections_max and not _drop_one(self._all):
            return False
        self._all[one] = source
        self._by_source.setdefault(source, {})[one] = None
        return True

    def make_room(self) -> bool:
        """Drop the oldest connection without work; False if all of them work."""
        return _drop_one(self._all)

    def remove(self, one: BoundedProtocol) -> None:
        """Forget a connection that is gone or about to be."""
        source = self._all.pop(one, None)
        if source is not None:
            some = self._by_source[source]
            del some[one]
            if not some:
                del self._by_source[source]

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._proxies)


def _drop_one(some: dict[BoundedProtocol, Any]) -> bool:
    spare = [one for one in some if one.phase < Phase.ANSWER]
    if spare:
        min(spare, key=lambda one: one.phase).drop()  # the oldest of its kind
    return bool(spare)


class BoundedProtocol(HttpToolsProtocol):
    """One connection; see the module."""

    registry: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection and time its first head; at the limit, answer 503 and close."""
        self.phase = Phase.HEAD
        self._real = transport
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._is_late = False
        self._is_unreadable = False
        self._arriving = Phase.IDLE  # HEAD or BODY of a request, or IDLE
        self._incomplete_bytes = 0
        self._head_bytes = 0
        self._read_on_bytes = 0
        self._closes_at_s = 0.0
        self._bounds = self.registry.bounds
        self._outgoing = _Outgoing(transport, self.loop, self._close)
        super().connection_made(self._outgoing)  # type: ignore[arg-type]
        if self.registry.add(self, self.client[0] if self.client is not None else ""):
            self._within(self._bounds.head_s)
        else:
            self._real.write(BUSY)
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and stop its timers."""
        self.phase = Phase.CLOSING
        self.registry.remove(self)
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes and bound those without a whole item; a closing connection only counts them."""
        if self.phase is Phase.CLOSING:
            self._read_on(len(data))
        elif not self._is_unreadable:
            self._incomplete_bytes += len(data)
            self._is_asked_again()
            self._feed(data)
            if self._incomplete_bytes > INCOMPLETE_BYTES_MAX and not self._is_unreadable:
                self.send_400_response("the request has too much without an end")
            self._look()

    def _is_asked_again(self) -> None:
        """Stop uvicorn's timer of the pause between two requests."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _feed(self, data: bytes) -> None:
        """Feed the parser. A request to upgrade the protocol is parsed again without that wish."""
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as end:
            version = self.parser.get_http_version().encode()
            lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
            lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = HttpRequestParser(self)
            self._feed(b"\r\n".join((*lines, b"", b"")) + data[end.args[0] :])
        except HttpParserError:
            self.send_400_response("this is not an HTTP request that can be read")

    # --- events of the parser -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request; a second one behind a request in work is refused."""
        if self._is_working:
            raise ValueError("a request behind one that is worked on")
        super().on_message_begin()
        self._arriving = Phase.HEAD
        self._head_bytes = self._read_on_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count the target towards the head."""
        self._take_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header towards the head; drop trailers, which are not headers of the request."""
        if self._arriving is Phase.HEAD:
            self._take_head(len(name) + len(value) + _AROUND_HEADER_BYTES)
            super().on_header(name, value)

    def _take_head(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("the head is too large")

    def on_headers_complete(self) -> None:
        """Check the target and the Host header, then let uvicorn start the app."""
        if TARGET.fullmatch(self.url) is None:
            raise ValueError("the target is not a path")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1 and (hosts > 1 or self.parser.get_http_version() != "1.0"):
            raise ValueError("not one Host header")
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self._arriving = Phase.BODY
        self._incomplete_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on; behind a refusal, count it up to a bound."""
        self._incomplete_bytes = 0
        if (
            self.cycle.response_complete
        ):  # refused meanwhile: the rest is read so that the client sees the refusal, up to a bound
            self._read_on_bytes += len(body)
            if self._read_on_bytes > self._bounds.read_on_bytes_max:
                self.drop()
                return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request's body. The parser also calls this for an upgrade request, before it reads the body."""
        if self._arriving is Phase.BODY:
            self._arriving = Phase.IDLE
            self._incomplete_bytes = 0
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse unreadable bytes. Behind a whole request, they do not change that request's answer."""
        self._is_unreadable = True
        if self._is_working and self._arriving is not Phase.BODY:
            self.cycle.keep_alive = False
            return
        if self._arriving is Phase.BODY:
            is_answered = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if is_answered:
                self._close()
                return
        body = bytes(problem_response(BadRequest(msg)).body)
        head = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(UNREADABLE % (head, len(body)) + body)
        self.transport.close()

    def on_response_complete(self) -> None:
        """Close a late connection, or enter the next phase."""
        super().on_response_complete()
        if self._is_late:
            self._close()
        elif self.phase is not Phase.CLOSING and self._arriving is Phase.IDLE:
            self._enter(Phase.IDLE, None)  # uvicorn times this phase
        else:
            self._look()

    @property
    def _is_working(self) -> bool:
        """True while a request has no whole answer; its body may still be coming."""
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    def pause_writing(self) -> None:
        """Start a timer: the client reads too slowly, or not at all."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._bounds.unread_s, self.drop)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def shutdown(self) -> None:
        """End the connection as the server stops, at once if it is already closing."""
        if self.phase is Phase.CLOSING:
            self._real.abort()
        else:
            super().shutdown()

    def drop(self) -> None:
        """Abort the connection; unsent bytes are lost."""
        self.phase = Phase.CLOSING
        self.registry.remove(self)
        self._real.abort()

    # --- time ---------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Start the timer of the next phase, after bytes arrived."""
        if self.phase is Phase.CLOSING:
            return
        if self._arriving is Phase.BODY:
            self._enter(Phase.BODY, self._bounds.body_s)
        elif self._is_working:
            self._enter(Phase.ANSWER, None)
        else:
            self._enter(Phase.HEAD, self._bounds.head_s)

    def _enter(self, phase: Phase, within_s: float | None) -> None:
        if self.phase is not phase:
            self.phase = phase
            self._within(within_s)

    def _within(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._end) if seconds is not None else None

    def _end(self) -> None:
        """Drop the connection: its time is up. A route that waits for a body first gets time to answer."""
        if self.phase is Phase.BODY and not self._is_late and not self.cycle.response_complete:
            self._is_late = True
            self._within(self._bounds.refusal_s)
        else:
            self.drop()

    # --- the end ------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Close once everything is sent. While the client still sends, read on, or it would lose the answer."""
        if self.phase is Phase.CLOSING:
            return
        is_sending = self._arriving is Phase.BODY or self._is_unreadable
        self.phase = Phase.CLOSING
        self._outgoing.flush()
        self.registry.remove(self)
        if not is_sending or self._real.is_closing() or not self._real.can_write_eof():
            self._real.close()
            self._within(self._bounds.unread_s)
            return
        read_on_s = self._bounds.refusal_s if self._is_late else self._bounds.read_on_s
        self._closes_at_s = self.loop.time() + read_on_s
        self._real.write_eof()
        self._real.resume_reading()
        self._read_on(0)

    def _read_on(self, size_bytes: int) -> None:
        self._read_on_bytes += size_bytes
        left_s = self._closes_at_s - self.loop.time()
        if self._read_on_bytes > self._bounds.read_on_bytes_max or left_s <= 0:
            self._real.abort()
        else:
            self._within(min(left_s, self._bounds.read_on_silent_s))


class _Outgoing:
    """A transport that leaves closing to the protocol, and sends once in a turn of the loop: a head and the body behind
    it go out together, in one system call, and wake the client once."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        close: Callable[[], None],
    ) -> None:
        self._is_closing = False
        self._transport = transport
        self._loop = loop
        self._close = close
        self._unsent: list[bytes] = []
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent.append(data)

    def flush(self) -> None:
        """Send everything written so far."""
        if self._unsent and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        self._is_closing = True
        self._close()


def behind_proxies(app: ASGIApp, trusted: tuple[str, ...]) -> ASGIApp:
    """Wrap the app so that it believes these networks' proxies, and no one else, about the client's address.

    `Forwarded` is never read: most proxies that write it also pass on a client's own.
    """
    if not trusted:
        return app
    # The last address in X-Forwarded-For that is not a trusted proxy's counts: a client can forge those before it.
    proxied = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type]

    async def keeping_peer(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = scope.get("client")
        await proxied(scope, receive, send)  # type: ignore[arg-type]

    return keeping_peer


def answering_to_the_end(app: ASGIApp) -> ASGIApp:
    """Wrap the app so that a request cut off by the end of the runtime gets a 503, if its answer has not begun.

    Only for a server, where nothing else cancels a request and nothing follows it.
    """

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await app(scope, receive, sending)
        except asyncio.CancelledError:
            # A begun answer stays without an end: else a part of a file would pass for the whole.
            if not has_begun:
                await problem_response(_cut_off(scope["method"]))(scope, receive, send)

    return answering


def _cut_off(method: str) -> Unavailable:
    if method in ("GET", "HEAD", "OPTIONS"):
        return NotReady("the runtime has ended before this was answered")
    return OutcomeUnknown("the runtime has ended before this was answered: it may have been done")
