"""Calls as frames on unix sockets, between processes of one machine and one user.

One socket file for each process that is called, `<run_dir>/sockets/<name>.sock`; a connection for each caller, which
greets first: version, name, and in return the incarnation, random for each process. Answers come in any order. What is
sent in one turn of a loop goes out together, and what arrives together starts together. Every queue has a bound.

`socket_server` answers, `socket_client` calls; here is what both ends have in common.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import struct
from pathlib import Path
from typing import cast

from helmr_runtime.rpc import descriptors
from helmr_runtime.rpc.frames import Frame, FrameError, FrameReader

logger = logging.getLogger(__name__)

FOLDER = "sockets"
PATH_BYTES_MAX = 100
"""The kernel takes 107."""

OPEN_MAX = 1_000
"""Calls of one caller that one process has not answered."""

CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid of a peer."""


def socket_path(run_dir: str | Path, name: str) -> Path | None:
    """Where the process of that name listens; None if the kernel takes no path that long."""
    folder = Path(run_dir) / FOLDER
    short = hashlib.sha256(name.encode()).hexdigest()[:16]
    paths = (folder / f"{name}.sock", folder / f"{short}.sock")
    return next((path for path in paths if len(os.fsencode(path)) <= PATH_BYTES_MAX), None)


def is_own_user(uid: int) -> bool:
    """Whether a peer with this user id may be spoken to."""
    return uid == os.getuid()


def peer_uid(connection: socket.socket) -> int:
    """The user id of the process at the other end, as it was when it connected or listened."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    uid: int = CREDENTIALS.unpack(packed)[1]
    return uid


def hold_open(connection: socket.socket) -> int:
    """Its file descriptor, which no forked child keeps open: the end of this process must end its connections."""
    return descriptors.hold(connection.fileno())


class Connection(asyncio.Protocol):
    """Either end of a connection: cuts frames, gathers what is sent."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._descriptor = -1
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak with processes of this user only."""
        self.transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        self._descriptor = hold_open(connection)
        uid = peer_uid(connection)
        if not is_own_user(uid):
            logger.warning("a process of user %d was refused", uid)
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing is sent any more."""
        descriptors.release(self._descriptor)
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        try:
            for frame in self._reader.feed(data):
                self.received(frame)
        except FrameError as error:
            self.give_up(f"it sends what can't be read: {error}")

    def received(self, frame: Frame) -> None:
        """Take one frame."""
        raise NotImplementedError

    def give_up(self, reason: str) -> None:
        """End the connection at once, whatever waits on it."""
        if self.transport is not None:
            logger.warning("a connection is ended: %s", reason)
            self.transport.abort()

    @property
    def unsent_bytes(self) -> int:
        """What the peer has not taken yet."""
        waiting = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return waiting + self._outbox_bytes

    def send(self, data: bytes) -> None:
        """Send it with whatever else this turn of the loop sends."""
        if not self._outbox:
            self._loop.call_soon(self.flush)
        self._outbox.append(data)
        self._outbox_bytes += len(data)

    def flush(self) -> None:
        """Hand over what this turn has sent."""
        data = b"".join(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
