"""When the head mark is brought to disk: a second after a commit, beside the commits that follow.

A commit waits for nothing more than its own record. What the mark on disk lacks is at most what was committed in that
second, so that after a loss of power it still shows the loss of everything before.

Invariants: S-52.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

SYNC_AFTER_S = 1.0


class MarkTimer:
    """One ledger's.

    Args:
        sync: Begins to bring the mark to disk, in another thread; raises nothing, now or later.
    """

    def __init__(self, sync: Callable[[], asyncio.Future[Any]]) -> None:
        self._sync = sync
        self._timer: asyncio.TimerHandle | None = None

    def committed(self) -> None:
        """Have the mark on disk within a second, unless the disk is slower."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SYNC_AFTER_S, self._begin)

    def cancel(self) -> None:
        """Begin no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        self._sync().add_done_callback(self._ended)

    def _ended(self, synced: asyncio.Future[Any]) -> None:
        self._timer = None
