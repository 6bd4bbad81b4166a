"""An event loop that says when it has nothing ready."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from selectors import SelectorKey

SELF_PIPE_FILES = 1
"""Files that the loop itself watches."""


class IdleSelector(selectors.DefaultSelector):
    """Calls `on_idle` whenever the loop is about to wait; true means it has made something ready.

    A loop with something ready selects with a timeout of 0, else with None or more: that is the moment when the
    next outcome may be delivered without overtaking what earlier ones set off (S-30).

    Source: CPython, asyncio/base_events.py, `_run_once`.
    """

    def __init__(
        self,
        on_idle: Callable[[], bool],
        on_wake: Callable[[], None],
        on_silence: Callable[[], None],
        silence_s: float,
    ) -> None:
        super().__init__()
        self._on_idle = on_idle
        self._on_wake = on_wake
        self._on_silence = on_silence
        self._silence_s = silence_s

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """As the base class; with nothing ready the idle call comes first."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        if self._on_idle():
            return []
        if timeout is not None or len(self.get_map()) > SELF_PIPE_FILES:
            ready = super().select(timeout)
            self._on_wake()
            return ready
        ready = super().select(self._silence_s)
        self._on_wake()
        if not ready:
            self._on_silence()
        return ready


def make_loop(
    on_idle: Callable[[], bool],
    on_wake: Callable[[], None],
    on_silence: Callable[[], None],
    silence_s: float,
) -> asyncio.SelectorEventLoop:
    """A loop for one run.

    Args:
        on_idle: Called when the loop is about to wait; true if that made something ready.
        on_wake: Called when it has waited.
        on_silence: Called when nothing at all happened for `silence_s` seconds.
        silence_s: Seconds.
    """
    return asyncio.SelectorEventLoop(IdleSelector(on_idle, on_wake, on_silence, silence_s))
