"""What always holds of pruning: what is open or young stays, and what is referred to; a session goes whole (S-69)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from helmr_runtime.core.entries import Entry
from tests.programs.simulation.counts import Counts

if TYPE_CHECKING:
    from tests.programs.simulation.invariants import Invariants


class Pruning:
    """Which sessions are gone.

    Args:
        known: What entries tell of sessions, tokens and schedules.
        counts: Told of what came by.
        check: Notes what does not hold: whether, the rule, and what is said of it.
    """

    def __init__(
        self, known: Invariants, counts: Counts, check: Callable[[bool, str, str], None]
    ) -> None:
        self._known = known
        self._counts = counts
        self._check = check
        self.gone: set[str] = set()
        self.day_s = 86_400.0
        """After so long sessions that are over may be pruned."""
        self._kins: dict[str, set[str]] = {}
        """By session, its parent and its children."""

    def kin(self, child_id: str, parent_id: str) -> None:
        """They go together."""
        self._kins.setdefault(child_id, set()).add(parent_id)
        self._kins.setdefault(parent_id, set()).add(child_id)

    def pruned(self, entry: Entry) -> frozenset[str]:
        """An entry says that sessions are gone: which ones."""
        known, gone = self._known, frozenset(entry.body["sessions"])
        before = entry.recorded_at - timedelta(seconds=self.day_s)
        for session_id in gone:
            runs, what = known.sessions[session_id].runs, f"{session_id} is pruned"
            self._check(self._is_old(session_id, before), "S-69", f"{what}, and open or young")
            newest = list(runs.values())[-1].status if runs else "ended"
            self._check(newest in ("ended", "failed"), "S-69", f"{what}, its run is {newest}")
            stay = self._kins.get(session_id, set()) - gone - self.gone
            are_old = all(self._is_old(one, before) for one in stay)
            self._check(are_old, "S-69", f"{what}, {sorted(stay)} stay")
        owners = known.token_owners.items()
        pending = [one for one, by in owners if by in gone and known.tokens[one] == "pending"]
        self._check(not pending, "S-69", f"{pending} are pending")
        last = gone & set(known.schedules.last.values())
        self._check(not last, "S-69", f"{last} are the last of their schedules")
        counted = sum(known.sessions[one].seq for one in gone)
        self._check(counted == entry.body["entries"], "S-69", f"{counted} entries, not as it says")
        self.gone |= gone
        self._counts.reached("sessions pruned")
        return gone

    def removed(self, gone: Collection[str], left: Sequence[str]) -> None:
        """The ledger has removed sessions; of which something is left in its memory."""
        self._check(not left, "S-69", f"of {sorted(gone)} there is still {left}")

    def _is_old(self, session_id: str, before: datetime) -> bool:
        session = self._known.sessions[session_id]
        return session.status != "open" and session.at is not None and session.at <= before
