"""Calls as frames on unix sockets of one machine and one user: the parts shared by both ends, and the server.

Each called process has a socket file, `<run_dir>/sockets/<name>.sock`, with a connection for each caller. The caller
greets first with version and name, and gets the incarnation, random for each process. Replies come in any order. Frames
of one turn of the loop are sent together, and those that arrive together start together. Every queue has a bound.

Task code may fork. A forked child must not keep this process's connections, port or lock of the data directory open:
descriptors passed to `hold` are closed in the child.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, cast

from helmr.errors import HelmrError, Unavailable
from helmr.platform import peer_uid
from helmr_runtime.rpc.calls import LONG_POLLS, CallFailure
from helmr_runtime.rpc.frames import (
    Frame,
    FrameError,
    FrameKind,
    FrameReader,
    FrameTooLarge,
    decode,
    decode_call,
    encode,
)

logger = logging.getLogger(__name__)

FOLDER = "sockets"
PATH_BYTES_MAX = 100
"""Longest path of a socket; the kernel takes 107 bytes."""

OPEN_MAX = 1_000
"""Open calls of one caller to one process."""


def socket_path(run_dir: str | Path, name: str) -> Path | None:
    """Return the path at which the process of that name listens; None if the kernel takes no path that long."""
    folder = Path(run_dir) / FOLDER
    short = hashlib.sha256(name.encode()).hexdigest()[:16]
    paths = (folder / f"{name}.sock", folder / f"{short}.sock")
    return next((path for path in paths if len(os.fsencode(path)) <= PATH_BYTES_MAX), None)


def is_own_user(uid: int) -> bool:
    """True if a peer with this user id may connect."""
    return uid == os.getuid()


def hold_open(connection: socket.socket) -> int:
    """Return the connection's descriptor and `hold` it: the end of this process must end its connections."""
    return hold(connection.fileno())


class Connection(asyncio.Protocol):
    """Either end of a connection: cuts frames, and batches sent ones."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._descriptor = -1
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept only processes of this user."""
        self.transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        self._descriptor = hold_open(connection)
        uid = peer_uid(connection)
        if not is_own_user(uid):
            logger.warning("a process of user %d was refused", uid)
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Stop sending."""
        release(self._descriptor)
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Take received bytes."""
        try:
            for frame in self._reader.feed(data):
                self.received(frame)
        except FrameError as error:
            self.give_up(f"it sends what can't be read: {error}")

    def received(self, frame: Frame) -> None:
        """Take one frame."""
        raise NotImplementedError

    def give_up(self, reason: str) -> None:
        """End the connection at once, even if calls wait on it."""
        if self.transport is not None:
            logger.warning("a connection is ended: %s", reason)
            self.transport.abort()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the peer has not taken yet."""
        waiting = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return waiting + self._outbox_bytes

    def send(self, data: bytes) -> None:
        """Send bytes together with the others of this turn of the loop."""
        if not self._outbox:
            self._loop.call_soon(self.flush)
        self._outbox.append(data)
        self._outbox_bytes += len(data)

    def flush(self) -> None:
        """Write the frames of this turn."""
        data = b"".join(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


_held: set[int] = set()


def hold(descriptor: int) -> int:
    """Close the descriptor in forked children until `release`; returns it."""
    _held.add(descriptor)
    return descriptor


def release(descriptor: int) -> None:
    """End `hold` for a descriptor that is or will be closed, since its number may become another file's."""
    _held.discard(descriptor)


def _let_go_in_child() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in _held:
        # If it were closed, another file could get its number, which an object of the parent's may then close.
        os.dup2(nothing, descriptor, inheritable=False)
    _held.clear()
    os.close(nothing)


os.register_at_fork(after_in_child=_let_go_in_child)


SERVED_MAX = 2 * OPEN_MAX
"""Open calls served for one caller; above `OPEN_MAX`, since pings and ending long polls are extra."""

UNREAD_BYTES_MAX = 64 * 1024 * 1024
"""Most bytes of replies that wait for a caller to read them; beyond that, the connection is closed."""

LARGE_KEPT_S = 60.0
LARGE_MAX = 16
"""Results too large for a frame that wait to be fetched."""

BACKLOG = 128
Handle = Callable[..., Coroutine[Any, Any, Any]]
"""`handle(method, *args, **kwargs)` returns the reply; errors are a `CallFailure`."""


class SocketServer:
    """Serves the calls of other processes at one socket file.

    Args:
        path: Path of the socket file; an existing one is replaced.
        name: Name of the actor that answers.
        version: Helmr's version; callers of another one are refused.
        handle: Answers a call.
    """

    def __init__(self, path: Path, *, name: str, version: str, handle: Handle) -> None:
        self._path = path
        self.hello = {"name": name, "version": version}
        self.handle = handle
        self.incarnation = secrets.randbelow(2**64 - 1) + 1
        self.running: set[asyncio.Task[Any]] = set()
        self._large: dict[str, Any] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The file can't be made.
        """
        listening = await asyncio.to_thread(_listen, self._path)
        hold_open(listening)
        loop = asyncio.get_running_loop()
        # uvloop ends an unreferenced server.
        self._server = await loop.create_unix_server(partial(_Served, self), sock=listening)

    def keep(self, answer: Any) -> str:
        """Keep a result that is too large for a frame; return the key to fetch it by."""
        key = secrets.token_hex(8)
        self._large[key] = answer
        while len(self._large) > LARGE_MAX:
            self._large.pop(next(iter(self._large)))
        asyncio.get_running_loop().call_later(LARGE_KEPT_S, self._large.pop, key, None)
        return key

    def take_large(self, key: str) -> Any:
        """Return and drop the result that was kept under that key."""
        lost = CallFailure.of(Unavailable("an answer that was too large for a frame is gone"))
        return self._large.pop(key, lost)


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


class _Served(Connection):
    """The server's end of a connection to one caller."""

    def __init__(self, server: SocketServer) -> None:
        super().__init__()
        self._server = server
        self._running: dict[int, tuple[str, asyncio.Task[Any]]] = {}
        self._is_greeted = False

    def received(self, frame: Frame) -> None:
        """Start a call, or end one that its caller gave up."""
        if not self._is_greeted:
            self._greet(frame)
        elif frame.kind is FrameKind.CANCEL:
            method, task = self._running.get(frame.request, ("", None))
            if task is not None and method in LONG_POLLS:
                task.cancel()
        elif frame.incarnation != self._server.incarnation:
            self._refuse(frame, "it is meant for an earlier process")
        elif frame.kind is not FrameKind.CALL or frame.request in self._running:
            self._refuse(frame, "it is not a call")
        elif len(self._running) >= SERVED_MAX:
            self._refuse(frame, "too many calls are open")
        else:
            self._start(frame)

    def connection_lost(self, error: Exception | None) -> None:
        """End the caller's long polls; its other calls go on."""
        super().connection_lost(error)
        for method, task in self._running.values():
            if method in LONG_POLLS:
                task.cancel()

    def _greet(self, frame: Frame) -> None:
        if frame.kind is not FrameKind.HELLO or decode(frame.body) != self._server.hello:
            self._refuse(frame, f"here is {self._server.hello}")
            return
        self._is_greeted = True
        self.send(encode(FrameKind.WELCOME, self._server.incarnation, frame.request))

    def _refuse(self, frame: Frame, reason: str) -> None:
        self.send(encode(FrameKind.REFUSED, self._server.incarnation, frame.request, reason))
        self.flush()
        if self.transport is not None:
            self.transport.close()

    def _start(self, frame: Frame) -> None:
        try:
            method, args, kwargs = decode_call(frame.body)
        except FrameError as error:
            self._answer(frame.request, CallFailure.of(HelmrError(f"a call has not run: {error}")))
            return
        task = self._loop.create_task(self._server.handle(method, *args, **kwargs))
        self._running[frame.request] = (method, task)
        # A call goes on without its caller.
        self._server.running.add(task)
        task.add_done_callback(partial(self._ended, frame.request))

    def _ended(self, request: int, task: asyncio.Task[Any]) -> None:
        self._server.running.discard(task)
        del self._running[request]
        if task.cancelled():
            answer: Any = CallFailure.of(HelmrError("the call was cancelled"))
        elif (error := task.exception()) is not None:  # only a bug in the handler gets here
            logger.error("a call failed", exc_info=error)
            answer = CallFailure.of(HelmrError(f"{type(error).__name__}: {error}"))
        else:
            answer = task.result()
        self._answer(request, answer)

    def _answer(self, request: int, answer: Any) -> None:
        if self.transport is None:
            return
        incarnation = self._server.incarnation
        try:
            data = encode(FrameKind.ANSWER, incarnation, request, answer)
        except FrameTooLarge:
            data = encode(FrameKind.LARGE, incarnation, request, self._server.keep(answer))
        except FrameError as error:
            data = encode(
                FrameKind.ANSWER, incarnation, request, CallFailure.of(HelmrError(str(error)))
            )
        self.send(data)
        if self.unsent_bytes > UNREAD_BYTES_MAX:
            self.give_up("its caller reads no answers")
