"""Actor calls inside one process, for tests: the same rules as between processes.

Arguments and answers are pickled and unpickled, so that nothing is shared that could not cross a
process boundary; an actor can be killed (its pending and later calls fail) or stopped (it answers
nothing).
"""

from __future__ import annotations

import asyncio
import pickle
from collections import defaultdict
from typing import Any

from helmr_runtime.rpc.calls import InProcessCalls


class LocalCalls(InProcessCalls):
    """A registry of actors that live in this process and loop, each as if in a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._awake: dict[str, asyncio.Event] = defaultdict(_set)

    def register(self, name: str, target: object) -> None:
        """Let `target` answer to `name`, also if an earlier one with that name was stopped."""
        self._awake.pop(name, None)
        super().register(name, target)

    def stop(self, name: str) -> None:
        """Let an actor take calls and answer none, like a process that got SIGSTOP."""
        self._awake[name].clear()

    def resume(self, name: str) -> None:
        """Let a stopped actor go on; it answers what it was asked meanwhile."""
        self._awake[name].set()

    async def serve(
        self, name: str, target: object, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run one call, of copies."""
        packed = pickle.dumps((args, kwargs))
        await self._awake[name].wait()
        args, kwargs = pickle.loads(packed)
        answer = pickle.dumps(await super().serve(name, target, method, args, kwargs))
        await self._awake[name].wait()
        return pickle.loads(answer)


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
