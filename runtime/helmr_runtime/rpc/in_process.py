"""Actor calls inside one process and loop, which travel nowhere: arguments and answers are handed over as they are.

What crosses is frozen or JSON that nobody changes, so no copy is made. The rules are those of calls between processes:
what a handler raises is an error of the call, a bug ends one call only, and an actor that has ended answers nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from helmr_runtime.rpc.protocol import (
    LONG_POLLS,
    ActorDied,
    ActorNotFound,
    Failure,
    kind_of,
    serve,
)


@dataclass(slots=True, eq=False)
class _Actor:
    target: object
    cause: str | None = None
    running: set[asyncio.Task[Any]] = field(default_factory=set)
    died: asyncio.Event = field(default_factory=asyncio.Event)


class InProcessCalls:
    """A registry of actors that live in this process and loop."""

    def __init__(self) -> None:
        self.counter: Counter[tuple[str, str]] = Counter()
        self._actors: dict[str, _Actor] = {}

    def register(self, name: str, target: object) -> None:
        """Let `target` answer to `name`, also after an earlier one with that name has ended."""
        self._actors[name] = _Actor(target)

    def names(self) -> list[str]:
        """The actors that live."""
        return [name for name, actor in self._actors.items() if actor.cause is None]

    def kill(self, name: str, cause: str = "killed") -> None:
        """End an actor: its running calls stop where they are; they and all later ones fail."""
        actor = self._actors[name]
        actor.cause = actor.cause or cause
        actor.died.set()
        for call in actor.running:
            call.cancel()

    async def death(self, name: str) -> str:
        """Return when the actor is killed: of what."""
        actor = self._actors[name]
        await actor.died.wait()
        return actor.cause or ""

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call `method` of the actor with that name (see `Calls`)."""
        self.counter[kind_of(actor), method] += 1
        found = self._actors.get(actor)
        if found is None:
            raise ActorNotFound(actor=actor, method=method)
        if found.cause is not None:
            raise ActorDied(actor=actor, method=method, cause=found.cause)
        call = asyncio.create_task(self.serve(actor, found.target, method, args, kwargs))
        found.running.add(call)
        call.add_done_callback(found.running.discard)
        try:
            # A caller that gives up does not stop what it asked for.
            await asyncio.wait({call})
        except asyncio.CancelledError:
            if method in LONG_POLLS:
                call.cancel()
            raise
        if found.cause is not None:
            raise ActorDied(actor=actor, method=method, cause=found.cause)
        answer = call.result()
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    async def serve(
        self, name: str, target: object, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run one call: its value, or the `Failure` that stands for its error."""
        return await serve(target, method, args, kwargs)
