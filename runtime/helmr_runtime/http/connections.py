"""Connections of the gateway, each bounded in time, and all of them in number.

The parser is uvicorn's, which waits for ever for what a client has begun. Around it: a request's head and its body
arrive in time, an answer is read in time, and a client that is still sending when it is refused gets to read why.
Where there are too many, the oldest that nobody works on makes room: a client that opens connections and sends
nothing keeps nobody else out.

Invariants: S-64 (refused before any durable effect).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import h11
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from helmr_runtime.http.settings import ConnectionBounds
from helmr_runtime.security.limits import source_key

BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"retry-after: 1\r\ncontent-length: 21\r\nconnection: close\r\n\r\ntoo many connections\n"
)


class Phase(IntEnum):
    """What a connection is at. Those with a lower number go first where room is needed."""

    HEAD = 0
    """A request's head has not arrived whole."""
    IDLE = 1
    """Between two requests."""
    BODY = 2
    """A request's body has not arrived whole."""
    ANSWER = 3
    """A whole request is worked on, or followed."""
    CLOSING = 4


class Connections:
    """Those that are open.

    Args:
        bounds: How many, and for how long.
        trusted_proxies: Networks whose addresses stand for many clients: not bounded per source.
    """

    def __init__(self, bounds: ConnectionBounds, trusted_proxies: tuple[str, ...] = ()) -> None:
        self.bounds = bounds
        self._proxies = [ipaddress.ip_network(text) for text in trusted_proxies]
        self._all: dict[BoundedProtocol, str] = {}
        self._by_source: dict[str, dict[BoundedProtocol, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def protocol(self) -> type[H11Protocol]:
        """What uvicorn makes for each connection."""
        return type("BoundConnection", (BoundedProtocol,), {"registry": self})

    def add(self, one: BoundedProtocol, address: str) -> bool:
        """Take a connection in, if need be in place of one that nobody works on."""
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

    def remove(self, one: BoundedProtocol) -> None:
        """It is gone, or about to be."""
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


class BoundedProtocol(H11Protocol):
    """One connection; see the module."""

    registry: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        self.phase = Phase.HEAD
        self._real = transport
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._is_late = False
        self._read_on_bytes = 0
        self._closes_at_s = 0.0
        self._bounds = self.registry.bounds
        super().connection_made(_ClosedByUs(transport, self._close))  # type: ignore[arg-type]
        if self.registry.add(self, self.client[0] if self.client is not None else ""):
            self._within(self._bounds.head_s)
        else:
            self._real.write(BUSY)
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.phase = Phase.CLOSING
        self.registry.remove(self)
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.phase is Phase.CLOSING:
            self._read_on(len(data))
            return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        if self._is_late:
            self._close()
        elif self.phase is not Phase.CLOSING and self.conn.their_state is h11.IDLE:
            self._enter(Phase.IDLE, None)  # how long that may last is uvicorn's to time
        else:
            self._look()

    def pause_writing(self) -> None:
        """See asyncio: the client reads too slowly, or not at all."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._bounds.unread_s, self.drop)

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def shutdown(self) -> None:
        """See uvicorn."""
        if self.phase is Phase.CLOSING:
            self._real.abort()
        else:
            super().shutdown()

    def drop(self) -> None:
        """End it now, with whatever was not sent."""
        self.phase = Phase.CLOSING
        self.registry.remove(self)
        self._real.abort()

    # --- time ---------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Something has arrived: begin to time what is to come."""
        if self.phase is Phase.CLOSING:
            return
        if self.conn.their_state is h11.IDLE:
            self._enter(Phase.HEAD, self._bounds.head_s)
        elif self.conn.their_state is h11.SEND_BODY:
            self._enter(Phase.BODY, self._bounds.body_s)
        else:
            self._enter(Phase.ANSWER, None)

    def _enter(self, phase: Phase, within_s: float | None) -> None:
        if self.phase is not phase:
            self.phase = phase
            self._within(within_s)

    def _within(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._end) if seconds is not None else None

    def _end(self) -> None:
        """The time is over. A route that waits for a body finds that out itself, and says so first."""
        if self.phase is Phase.BODY and not self._is_late and not self.cycle.response_complete:
            self._is_late = True
            self._within(self._bounds.refusal_s)
        else:
            self.drop()

    # --- the end ------------------------------------------------------------------------------------

    def _close(self) -> None:
        """End it once all is sent. If the client still sends, read on for a while, or it would lose the answer."""
        if self.phase is Phase.CLOSING:
            return
        is_sending = self.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        self.phase = Phase.CLOSING
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


class _ClosedByUs:
    """A transport whose end is the protocol's to make."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._is_closing = False
        self._transport = transport
        self._close = close
        self.write = transport.write
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        self._is_closing = True
        self._close()


def behind_proxies(app: ASGIApp, trusted: tuple[str, ...]) -> ASGIApp:
    """The app; what these networks' proxies say of who asks is believed, and nobody else.

    `Forwarded` is never read: proxies that write it pass on a client's own one more often than not.
    """
    if not trusted:
        return app
    # Of X-Forwarded-For the last address that is no trusted proxy's counts: a client can write what stands before.
    return ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type, return-value]
