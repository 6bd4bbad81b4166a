"""How many open sessions do what. Pure, kept up as their heads change."""

from __future__ import annotations

from collections import Counter

from helmr.models import Activity, RunStatus, SessionStatus
from helmr_runtime.ledger.index.heads import Head

Kind = tuple[Activity, bool, bool]

_KINDS: dict[Kind, Kind] = {
    (one, is_held, has_failed): (one, is_held, has_failed)
    for one in Activity
    for is_held in (False, True)
    for has_failed in (False, True)
}
"""One triple for all sessions that are counted under it: what they do, held, their newest run has failed."""


class Census:
    """Sessions by what they do, and whether somebody holds them."""

    def __init__(self) -> None:
        self._counts: Counter[Kind] = Counter()

    def recount(self, head: Head) -> None:
        """The head has changed."""
        counted = (
            _KINDS[head.activity, head.is_held, head.run_status is RunStatus.FAILED]
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
        return sum(count for (_, is_held, _), count in self._counts.items() if is_held)

    @property
    def parked(self) -> int:
        """Those that wait and that nobody holds."""
        return self._counts[Activity.WAITING, False, False]

    @property
    def failed(self) -> int:
        """Those whose newest run has failed."""
        return sum(count for (_, _, has_failed), count in self._counts.items() if has_failed)

    def by_activity(self) -> dict[str, int]:
        """By the names of activities."""
        found = dict.fromkeys((one.value for one in Activity), 0)
        for (activity, _, _), count in self._counts.items():
            found[activity.value] += count
        return found
