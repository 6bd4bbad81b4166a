"""A relay between clients and gateway: its connections can be reset and held, and it finds a gateway that has moved."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

NO_LINGER = struct.pack("ii", 1, 0)
"""A socket that has this option is closed with RST, any other with FIN."""


class Wire:
    """The relay, at a port that stays.

    Args:
        url: Where the gateway is now.

    Raises:
        OSError: From `url`, when there is none; such a connection is closed.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._ends: set[_End] = set()
        self._server: asyncio.Server | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> str:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self._ends, self._met), "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connecting)

    def cut(self) -> None:
        """Reset every connection, whatever is on it."""
        for end in tuple(self._ends):
            end.reset()

    async def hold(self, duration_s: float) -> None:
        """Let nothing through on the connections there are, then everything that was sent meanwhile."""
        held = tuple(self._ends)
        for end in held:
            end.hold()
        await asyncio.sleep(duration_s)
        for end in held:
            end.release()

    def _met(self, front: _End) -> None:
        task = asyncio.ensure_future(self._connect(front))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, front: _End) -> None:
        loop = asyncio.get_running_loop()
        try:
            address = urlsplit(self._url())
            assert address.hostname is not None
            assert address.port is not None
            _, back = await loop.create_connection(
                lambda: _End(self._ends), address.hostname, address.port
            )
        except OSError:
            front.reset()
            return
        front.join(back)


class _End(asyncio.Protocol):
    """One end of a relayed connection; what it reads it hands to the other."""

    transport: asyncio.Transport

    def __init__(self, ends: set[_End], met: Callable[[_End], None] | None = None) -> None:
        self._ends = ends
        self._met = met
        self._other: _End | None = None
        self._early = bytearray()
        """What came before there was another end: a pause that is asked for at once, uvloop forgets."""
        self._is_held = False
        self._is_full = False

    def join(self, other: _End) -> None:
        """Carry between the two; if one has gone, neither stays."""
        self._other, other._other = other, self
        if self.transport.is_closing() or other.transport.is_closing():
            self.reset()
            other.reset()
            return
        if self._early:
            other.transport.write(bytes(self._early))
            self._early.clear()
        self._flow()

    def reset(self) -> None:
        """Close it so that the other side is told that what was on it may be lost."""
        raw = self.transport.get_extra_info("socket")
        if not self.transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.transport.abort()

    def hold(self) -> None:
        """Read nothing."""
        self._is_held = True
        self._flow()

    def release(self) -> None:
        """Read again."""
        self._is_held = False
        self._flow()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There it is; the one that came from a client waits for its other end."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._ends.add(self)
        if self._met is not None:
            self.transport.pause_reading()
            self._met(self)

    def data_received(self, data: bytes) -> None:
        """On to the other end."""
        if self._other is None:
            self._early += data
        else:
            self._other.transport.write(data)

    def pause_writing(self) -> None:
        """This end takes no more."""
        if self._other is not None:
            self._other._is_full = True
            self._other._flow()

    def resume_writing(self) -> None:
        """It does again."""
        if self._other is not None:
            self._other._is_full = False
            self._other._flow()

    def connection_lost(self, exc: Exception | None) -> None:
        """So is the other end, as soon as it has sent what it was given."""
        self._ends.discard(self)
        if self._other is not None:
            (self._other.transport.close if exc is None else self._other.reset)()

    def _flow(self) -> None:
        if self._other is None or self.transport.is_closing():
            return
        if self._is_held or self._is_full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
