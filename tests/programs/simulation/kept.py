"""What a host keeps of the sessions that it gave up, compared with what is stored when one is adopted again."""

from __future__ import annotations

from helmr_runtime.session.warm_cache import WarmCache, WarmState
from tests.programs.simulation.invariants import Invariants


class WatchedStates(WarmCache):
    """The states of one host."""

    def __init__(self, invariants: Invariants) -> None:
        super().__init__()
        self._invariants = invariants

    def take(self, session_id: str) -> WarmState | None:
        """An adoption goes on from this if nothing was written meanwhile: then it is the fold of what is stored."""
        kept = super().take(session_id)
        if kept is not None and self._invariants.is_newest(session_id, kept.known):
            self._invariants.counts.reached("warm state compared")
            self._invariants.is_fold(kept.state)
        return kept
