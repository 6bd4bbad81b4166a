"""Calls between a run's loop and its host's, each on a thread of its own.

Both sides count, so that it can be told whether anything is still on its way (S-34: a run is quiet only then).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("helmr.run")


class LoopCalls:
    """The calls of one run. `give` belongs to the host's loop, `tell` to the run's; made on the host's."""

    def __init__(self, run_id: str, run_loop: asyncio.AbstractEventLoop) -> None:
        self._run_id = run_id
        self._run_loop = run_loop
        self.host_loop = asyncio.get_running_loop()
        self._given = self._taken = self._told = self._heard = 0
        """Calls given to the run's loop, and taken up by it; told to the host's loop, and heard by it."""

    @property
    def are_taken(self) -> bool:
        """The run's loop has taken up all that it was given."""
        return self._taken == self._given

    @property
    def are_heard(self) -> bool:
        """The host's loop has heard all that it was told."""
        return self._heard == self._told

    def give(self, call: Callable[[], None]) -> None:
        """Have it called on the run's loop, which wakes up."""
        self._given += 1
        try:
            self._run_loop.call_soon_threadsafe(self._take, call)
        except RuntimeError:  # the loop is closed: the tree has ended
            log.debug("%s: the tree has ended", self._run_id)

    def _take(self, call: Callable[[], None]) -> None:
        call()
        self._taken += 1

    def tell(self, call: Callable[..., None], *arguments: Any) -> None:
        """Have it called on the host's loop."""
        self._told += 1
        try:
            self.host_loop.call_soon_threadsafe(self._hear, call, *arguments)
        except RuntimeError:  # the host's loop is closed: nobody is left to tell
            log.debug("%s: the host has ended", self._run_id)

    def _hear(self, call: Callable[..., None], *arguments: Any) -> None:
        self._heard += 1
        call(*arguments)
