"""Actor calls inside one process, for tests: the same rules as between processes.

Arguments and answers are pickled and unpickled, so that nothing is shared that could not cross a
process boundary; an actor can be killed (its pending and later calls fail) or stopped (it answers
nothing).
"""

from __future__ import annotations

import asyncio
import pickle  # noqa: TID251 - stands for the process boundary, which pickles
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from helmr_runtime.rpc.protocol import ActorDied, ActorNotFound, Failure, kind_of, serve


@dataclass(slots=True, eq=False)
class _Local:
    target: object
    cause: str | None = None
    running: set[asyncio.Task[Any]] = field(default_factory=set)
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    died: asyncio.Event = field(default_factory=asyncio.Event)


class LocalCalls:
    """A registry of actors that live in this process and loop."""

    def __init__(self) -> None:
        self.counter: Counter[tuple[str, str]] = Counter()
        self._actors: dict[str, _Local] = {}

    def register(self, name: str, target: object) -> None:
        """Let `target` answer to `name`, also after an earlier one with that name was killed."""
        local = _Local(target)
        local.awake.set()
        self._actors[name] = local

    def names(self) -> list[str]:
        """The actors that live."""
        return [name for name, local in self._actors.items() if local.cause is None]

    def kill(self, name: str, cause: str = "killed") -> None:
        """End an actor: its running calls stop where they are; they and all later ones fail."""
        local = self._actors[name]
        local.cause = local.cause or cause
        local.died.set()
        for task in local.running:
            task.cancel()

    async def death(self, name: str) -> str:
        """Return when the actor is killed: of what."""
        local = self._actors[name]
        await local.died.wait()
        return local.cause or ""

    def stop(self, name: str) -> None:
        """Let an actor take calls and answer none, like a process that got SIGSTOP."""
        self._actors[name].awake.clear()

    def resume(self, name: str) -> None:
        """Let a stopped actor go on; it answers what it was asked meanwhile."""
        self._actors[name].awake.set()

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call `method` of the actor with that name (see `Calls`)."""
        self.counter[kind_of(actor), method] += 1
        local = self._actors.get(actor)
        if local is None:
            raise ActorNotFound(actor=actor, method=method)
        if local.cause is not None:
            raise ActorDied(actor=actor, method=method, cause=local.cause)
        call = asyncio.create_task(_run(local, method, pickle.dumps((args, kwargs))))
        local.running.add(call)
        call.add_done_callback(local.running.discard)
        death = asyncio.create_task(local.died.wait())
        try:
            # A caller that gives up does not stop what it asked for.
            await asyncio.wait({call, death}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
        if local.cause is not None:
            raise ActorDied(actor=actor, method=method, cause=local.cause)
        answer = pickle.loads(call.result())  # noqa: S301 - made a moment ago, here
        if isinstance(answer, Failure):
            raise answer.error()
        return answer


async def _run(local: _Local, method: str, packed: bytes) -> bytes:
    await local.awake.wait()
    args, kwargs = pickle.loads(packed)  # noqa: S301 - made a moment ago, here
    answer = await serve(local.target, method, args, kwargs)
    await local.awake.wait()
    return pickle.dumps(answer)
