"""How many open sessions do what. Pure, kept up as their heads change."""

from __future__ import annotations

from collections import Counter

from helmr.models import Activity, SessionStatus
from helmr_runtime.ledger.heads import Head

_KINDS = {(one, is_held): (one, is_held) for one in Activity for is_held in (False, True)}
"""One pair for all sessions that are counted under it."""


class Census:
    """Sessions by what they do, and whether somebody holds them."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Activity, bool]] = Counter()

    def recount(self, head: Head) -> None:
        """The head has changed."""
        counted = (
            _KINDS[head.activity, head.is_held]
            if head.status is SessionStatus.OPEN or head.has_active_run
            else None
        )
        if counted == head.counted_as:
            return
        if head.counted_as is not None:
            self._counts[head.counted_as] -= 1
        if counted is not None:
            self._counts[counted] += 1
        head.counted_as = counted

    @property
    def held(self) -> int:
        """Those that somebody holds."""
        return sum(count for (_, is_held), count in self._counts.items() if is_held)

    @property
    def parked(self) -> int:
        """Those that wait and that nobody holds."""
        return self._counts[Activity.WAITING, False]

    def by_activity(self) -> dict[str, int]:
        """By the names of activities."""
        return {one.value: self._counts[one, True] + self._counts[one, False] for one in Activity}
