"""How long a harness waits for code that awaits a thread, a socket or a timer of its own."""

from __future__ import annotations

import logging
import time

from helmr_runtime.session.host import HostActor
from helmr_runtime.session.live_session import LiveSession

PATIENCE_S = 10.0
"""Real seconds. Code that awaits what the test is yet to bring would hold it up for ever."""

log = logging.getLogger("helmr.testing")


class Patience:
    """Knows of each session since when its code has awaited something at this place of its transcript."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, float]] = {}

    def is_over(self, host: HostActor) -> bool:
        """All its code waits or has ended, or has had its time."""
        return host.is_settled and not any(self._is_wanted(s.live) for s in host.slots.values())

    def _is_wanted(self, live: LiveSession) -> bool:
        """The code has come to no wait and to no end, and something of its own will make it go on."""
        if not live.execution.is_expecting:
            self._since.pop(live.state.id, None)
            return False
        seq, now = live.state.seq, time.monotonic()
        known, since = self._since.get(live.state.id, (seq, now))
        if known != seq:
            since = now
        elif since >= 0 and now - since > PATIENCE_S:
            log.warning(
                "%s: the code has awaited a thread, a socket or a timer that is no durable call for %g s",
                live.state.id,
                PATIENCE_S,
            )
            since = -1.0
        self._since[live.state.id] = seq, since
        return since >= 0
