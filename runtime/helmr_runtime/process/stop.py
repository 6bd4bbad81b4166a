"""How a runtime in the foreground is told to stop: once to park what waits, twice to end at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from helmr_runtime.process import service_manager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """What signals ask of one runtime.

    Args:
        say: One line for the person at the terminal.

    Attributes:
        asked: Set when it is to stop.
        hurried: Set when it is to end at once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def on_signals(self) -> None:
        """Take this process's signals from now on; in the main thread, inside its loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self.asked.is_set():
            self._say("ending at once")
            self.hurried.set()
            return
        self._say("stopping: waiting sessions are parked")
        service_manager.tell(service_manager.STOPPING)
        self.asked.set()

    async def before(self, work: Awaitable[None]) -> bool:
        """Do the work; False if it was told to stop before it was done."""
        return await _done_before(work, self.asked)

    async def unless_hurried(self, work: Awaitable[None]) -> bool:
        """Do what comes at the end; False if it was told to end at once meanwhile."""
        return await _done_before(work, self.hurried)


async def _done_before(work: Awaitable[None], event: asyncio.Event) -> bool:
    doing = asyncio.ensure_future(work)
    happening = asyncio.ensure_future(event.wait())
    await asyncio.wait({doing, happening}, return_when=asyncio.FIRST_COMPLETED)
    happening.cancel()
    if not doing.done():
        doing.cancel()
        return False
    doing.result()
    return True
