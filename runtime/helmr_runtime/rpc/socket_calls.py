"""Actor calls as frames where the actor listens on this machine, through Ray otherwise.

Ray stays the way to other nodes, to an actor that is not built or not there, and the one that knows of a death.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from helmr_runtime.rpc.protocol import (
    DIRECTORY,
    GATEWAY,
    LEDGER,
    ActorDied,
    ActorNotFound,
    ActorUnavailable,
    CallError,
    Failure,
    kind_of,
)
from helmr_runtime.rpc.ray import RayCalls
from helmr_runtime.rpc.socket_client import ConnectionEnded, LargeAnswer, NotSent, Sockets

BY_RAY = frozenset({"build", "forever", "spec"})
"""What is asked of an actor's process, not of the actor; `forever` tells of a death."""

ONCE = frozenset({LEDGER, DIRECTORY, GATEWAY})
"""Whoever started them has them built again when they have died: nobody who calls them need wake them."""

AWAY_S = 5.0
"""One of them that was here is not looked for at Ray for so long: it would know no more, and be asked by every try of
everybody while that one restarts. Later it may be that its socket file can't be made."""

FATE_WITHIN_S = 2.0
FATE_PAUSE_S = 0.02
"""Ray knows of a death some 10 ms after the connection's end."""


class SocketCalls(RayCalls):
    """Calls named actors.

    Args:
        run_dir: Where their socket files are.
        version: Of Helmr.

    Attributes:
        frames: Those of the counted calls that went as frames.
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
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    def _is_coming_back(self, actor: str) -> bool:
        """Nobody is at its socket now, but was a moment ago."""
        if actor not in self._here:
            return False
        now_s = asyncio.get_running_loop().time()
        return now_s - self._away_since_s.setdefault(actor, now_s) < AWAY_S

    async def _lost(self, actor: str, method: str) -> CallError:
        """What the end of a connection means: all but those that exist once stay dead."""
        if actor not in ONCE:
            asking = self._fates.get(actor)
            if asking is None:
                asking = self._fates[actor] = asyncio.create_task(self._cause_of_death(actor))
                asking.add_done_callback(lambda _: self._fates.pop(actor, None))
            cause = await asyncio.shield(asking)
            if cause is not None:
                return ActorDied(actor=actor, method=method, cause=cause)
        return ActorUnavailable(actor=actor, method=method, detail="the connection ended")

    async def _cause_of_death(self, actor: str) -> str | None:
        """Why it died, as Ray has it; None if it lives, or Ray does not know in time."""
        ends_at = asyncio.get_running_loop().time() + FATE_WITHIN_S
        while asyncio.get_running_loop().time() < ends_at:
            try:
                async with asyncio.timeout_at(ends_at):
                    await super().call(actor, "build")
                return None
            except ActorDied as error:
                return error.cause
            except ActorNotFound:
                return "the process ended"
            except (CallError, TimeoutError):
                await asyncio.sleep(FATE_PAUSE_S)
        return None
