"""Calling actors: as frames where the actor listens on this machine, through Ray otherwise.

Each called process has one connection, made at the first call. A call that was not sent has not run (`NotSent`); a sent
call may have run if the connection ends (`ConnectionEnded`). Ray carries calls to other nodes, and to actors that are
not built or not there, and it reports crashes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from helmr_runtime.rpc.calls import (
    DIRECTORY,
    GATEWAY,
    LEDGER,
    LONG_POLLS,
    PING,
    ActorDied,
    ActorNotFound,
    ActorOverloaded,
    ActorUnavailable,
    CallError,
    CallFailure,
    kind_of,
)
from helmr_runtime.rpc.frames import NO_INCARNATION, Frame, FrameKind, FrameTooLarge, decode, encode
from helmr_runtime.rpc.ray import RayCalls
from helmr_runtime.rpc.sockets import OPEN_MAX, Connection, socket_path

logger = logging.getLogger(__name__)

UNSENT_BYTES_MAX = 16 * 1024 * 1024
"""Most bytes that wait for a process to read them, unless they are a single call."""

GREET_WITHIN_S = 10.0
"""Seconds for a process to greet; a busier one is called through Ray, where its silence is noticed."""


class NotSent(Exception):
    """The call has not run: no process listens at that socket, or none that can be called."""


class ConnectionEnded(Exception):
    """The call was sent and not answered: it may have run."""


@dataclass(frozen=True, slots=True)
class LargeAnswer:
    """The call has run; its result is fetched under this key, not by a frame."""

    key: str


class Peer(Connection):
    """The connection to one called process. `Sockets` makes them."""

    def __init__(self, name: str, version: str, on_lost: Callable[[Peer], None]) -> None:
        super().__init__()
        self.name = name
        self._version = version
        self._on_lost = on_lost
        self._incarnation = NO_INCARNATION
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._in_outbox: list[int] = []
        self._count = 0
        self.greeted: asyncio.Future[bool] = self._loop.create_future()

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result; a `LargeAnswer` stands for one too large for a frame.

        A caller that gives up ends only a long poll: other calls run on, and count as open.

        Raises:
            NotSent: The connection had ended, or the call is too large.
            ActorOverloaded: Too many calls are open; nothing was sent.
            ConnectionEnded: It may have run.
            FrameError: An argument or the result is not a value that may be sent.
        """
        if self.transport is None or self.transport.is_closing():
            raise NotSent
        # Pings tell the directory a stopped process from a busy one; it has one open at a time.
        is_bounded = method != PING
        if is_bounded and len(self._calls) >= OPEN_MAX:
            raise ActorOverloaded(f"{OPEN_MAX} calls are open", actor=self.name)
        request = self._count
        try:
            data = encode(FrameKind.CALL, self._incarnation, request, (method, args, kwargs))
        except FrameTooLarge as error:
            raise NotSent from error
        unsent_bytes = self.unsent_bytes
        if is_bounded and unsent_bytes and unsent_bytes + len(data) > UNSENT_BYTES_MAX:
            raise ActorOverloaded(f"{unsent_bytes} bytes are not read", actor=self.name)
        self._count += 1
        answer = self._calls[request] = self._loop.create_future()
        self._in_outbox.append(request)
        self.send(data)
        try:
            frame: Frame = await answer
        except asyncio.CancelledError:
            if method in LONG_POLLS and self._calls.pop(request, None) is not None:
                self.send(encode(FrameKind.CANCEL, self._incarnation, request))
            raise
        value = decode(frame.body)
        return LargeAnswer(value) if frame.kind is FrameKind.LARGE else value

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the name of the wanted actor."""
        super().connection_made(transport)
        hello = {"name": self.name, "version": self._version}
        self.send(encode(FrameKind.HELLO, NO_INCARNATION, 0, hello))

    def received(self, frame: Frame) -> None:
        """Pass a reply to its caller."""
        if not self.greeted.done():
            if frame.kind is FrameKind.WELCOME:
                self._incarnation = frame.incarnation
                self.greeted.set_result(True)
            else:
                self.give_up(f"{self.name} refuses: {decode(frame.body)}")
            return
        answer = self._calls.pop(frame.request, None)
        if answer is None or answer.done():
            return
        if frame.kind is FrameKind.REFUSED:
            answer.set_exception(NotSent(decode(frame.body)))
        else:
            answer.set_result(frame)

    def flush(self) -> None:
        """Write the frames of this turn; from now on they may run."""
        self._in_outbox.clear()
        super().flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail each open call with what is known about it."""
        super().connection_lost(error)
        self._on_lost(self)
        if not self.greeted.done():
            self.greeted.set_result(False)
        not_sent = set(self._in_outbox)
        for request, answer in self._calls.items():
            if not answer.done():
                answer.set_exception(NotSent() if request in not_sent else ConnectionEnded())
        self._calls.clear()


class Sockets:
    """The connections of one process to others, made when first needed. Belongs to one loop.

    Args:
        run_dir: Where the socket files are.
        version: Of Helmr.
    """

    def __init__(self, run_dir: str | Path, version: str) -> None:
        self._run_dir = run_dir
        self._version = version
        self._peers: dict[str, Peer] = {}
        self._opening: dict[str, asyncio.Task[Peer | None]] = {}
        self._waiting: dict[str, int] = {}

    async def peer(self, name: str) -> Peer | None:
        """Return the connection to that process; None if none listens at its socket.

        Raises:
            ActorOverloaded: Too many calls wait for its greeting.
        """
        return self._peers.get(name) or await self._opened(name)

    async def _opened(self, name: str) -> Peer | None:
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = asyncio.create_task(self._open(name))
            opening.add_done_callback(lambda _: self._opening.pop(name, None))
        waiting = self._waiting.get(name, 0)
        if waiting >= OPEN_MAX:
            raise ActorOverloaded(f"{OPEN_MAX} calls wait for its greeting", actor=name)
        self._waiting[name] = waiting + 1
        try:
            return await asyncio.shield(opening)
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name]

    async def _open(self, name: str) -> Peer | None:
        path = socket_path(self._run_dir, name)
        if path is None:
            return None
        peer: Peer | None = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(GREET_WITHIN_S):
                make = partial(Peer, name, self._version, self._lost)
                _, peer = await loop.create_unix_connection(make, str(path))
                if await asyncio.shield(peer.greeted) and peer.transport is not None:
                    self._peers[name] = peer
                    return peer
        except (OSError, TimeoutError) as error:
            logger.debug("no one greets at the socket of %s: %s", name, error)
        if peer is not None and peer.transport is not None:
            peer.transport.abort()
        return None

    def _lost(self, peer: Peer) -> None:
        if self._peers.get(peer.name) is peer:
            del self._peers[peer.name]


BY_RAY = frozenset({"build", "forever", "spec"})
"""Methods of an actor's process instead of the actor; `forever` ends at a crash."""

ONCE = frozenset({LEDGER, DIRECTORY, GATEWAY})
"""Actors that their starter builds again after a crash: callers need not wake them."""

AWAY_S = 5.0
"""Seconds in which one of them that was here is not looked up at Ray: while it restarts, Ray knows no more, and every
try of every caller would ask it. Later its socket file may be impossible to make."""

FATE_WITHIN_S = 2.0
FATE_PAUSE_S = 0.02
"""Seconds between questions to Ray, which knows of a crash some 10 ms after the connection's end."""


class SocketCalls(RayCalls):
    """Calls named actors by frames or through Ray.

    Args:
        run_dir: Where their socket files are.
        version: Of Helmr.

    Attributes:
        frames: Counts the calls that went as frames.
    """

    def __init__(self, run_dir: str, version: str) -> None:
        super().__init__()
        self.frames: Counter[tuple[str, str]] = Counter()
        self._sockets = Sockets(run_dir, version)
        self._here: set[str] = set()
        self._away_since_s: dict[str, float] = {}
        self._fates: dict[str, asyncio.Task[str | None]] = {}

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call `method` of the actor with that name (see `Calls`)."""
        if method in BY_RAY:
            return await super().call(actor, method, *args, **kwargs)
        peer = await self._sockets.peer(actor)
        if peer is None:
            if self._is_coming_back(actor):
                raise ActorNotFound(actor=actor, method=method)
            return await super().call(actor, method, *args, **kwargs)
        if actor in ONCE:
            self._here.add(actor)
            self._away_since_s.pop(actor, None)
        self.counter[kind_of(actor), method] += 1
        self.frames[kind_of(actor), method] += 1
        try:
            answer = await peer.call(method, args, kwargs)
        except NotSent:
            return await super().call(actor, method, *args, **kwargs)
        except ConnectionEnded as error:
            raise await self._lost(actor, method) from error
        if isinstance(answer, LargeAnswer):
            return await super().call(actor, "large_answer", answer.key)
        if isinstance(answer, CallFailure):
            raise answer.error()
        return answer

    def _is_coming_back(self, actor: str) -> bool:
        """True if no process listens at its socket now, but one did a moment ago."""
        if actor not in self._here:
            return False
        now_s = asyncio.get_running_loop().time()
        return now_s - self._away_since_s.setdefault(actor, now_s) < AWAY_S

    async def _lost(self, actor: str, method: str) -> CallError:
        """Return the error for a connection's end: only actors that exist once may come back."""
        if actor not in ONCE:
            asking = self._fates.get(actor)
            if asking is None:
                asking = self._fates[actor] = asyncio.create_task(self._crash_cause(actor))
                asking.add_done_callback(lambda _: self._fates.pop(actor, None))
            cause = await asyncio.shield(asking)
            if cause is not None:
                return ActorDied(actor=actor, method=method, cause=cause)
        return ActorUnavailable(actor=actor, method=method, detail="the connection ended")

    async def _crash_cause(self, actor: str) -> str | None:
        """Return Ray's cause of its crash; None if it lives, or Ray does not know in time."""
        ends_at = asyncio.get_running_loop().time() + FATE_WITHIN_S
        while asyncio.get_running_loop().time() < ends_at:
            try:
                async with asyncio.timeout_at(ends_at):
                    await self.reach(actor)
                return None
            except ActorDied as error:
                return error.cause
            except ActorNotFound:
                return "the process ended"
            except (CallError, TimeoutError):
                await asyncio.sleep(FATE_PAUSE_S)
        return None
