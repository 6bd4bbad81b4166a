"""What always holds of schedules, from their entries alone (S-93): intervals; of missed times the newest counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from helmr_runtime.core.entries import Entry, EntryKind, from_iso
from helmr_runtime.features.schedules.facts import PAUSED, RESUMED, SKIPPED, WRITTEN
from tests.programs.simulation.counts import Counts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Schedule:
    """A schedule. Due times up to `settled_at` are done with."""

    every: timedelta
    settled_at: datetime
    is_paused: bool = False

    def newest(self, now: datetime) -> datetime:
        """The newest due time until then, whether or not it is done with."""
        return EPOCH + (now - EPOCH) // self.every * self.every


class Schedules:
    """All schedules.

    Args:
        counts: Told of what came by.
        check: Notes what does not hold: whether, the rule, and what is said of it.
    """

    def __init__(self, counts: Counts, check: Callable[[bool, str, str], None]) -> None:
        self._counts = counts
        self._check = check
        self.by_name: dict[str, Schedule] = {}
        self.last: dict[str, str] = {}
        """By name, the newest session that was due."""

    def entry(self, entry: Entry) -> None:
        """An entry is stored."""
        body, kind = entry.body, entry.kind
        match kind:
            case _ if kind is WRITTEN:
                every = timedelta(seconds=body["timing"]["every_s"])
                self.by_name[body["name"]] = Schedule(every, entry.recorded_at)
            case _ if kind in (PAUSED, RESUMED):
                known = self.by_name[body["name"]]
                known.is_paused = kind is PAUSED
                known.settled_at = max(known.settled_at, entry.recorded_at)
            case _ if kind is SKIPPED:
                self._counts.reached(f"schedule skipped:{body['reason']}")
                self._check(
                    body["reason"] == "overlap", "S-93", f"{body}: the newest is not missed"
                )
                self._settles(entry, body["name"], body["due_at"])
            case EntryKind.SESSION_CREATED if "copied_from" not in body:
                named = body.get("schedule", {})
                if "due_at" in named:
                    self._counts.reached("schedule started")
                    self._settles(entry, named["name"], named["due_at"])
                    self.last[named["name"]] = entry.session_id

    def _settles(self, entry: Entry, name: str, due_text: str) -> None:
        known, due_at = self.by_name[name], from_iso(due_text)
        where = f"{name}, due {due_text}, by {entry.session_id} at {entry.recorded_at}"
        self._check(not known.is_paused, "S-93", f"{where}: it is paused")
        self._check(due_at > known.settled_at, "S-93", f"{where}: done until {known.settled_at}")
        self._check(due_at <= entry.recorded_at, "S-93", f"{where}: not due yet")
        self._check(known.newest(due_at) == due_at, "S-93", f"{where}: no due time")
        if entry.kind is EntryKind.SESSION_CREATED:
            newest = known.newest(entry.recorded_at)
            self._check(due_at == newest, "S-93", f"{where}: {newest} is due too")
            if due_at - known.newest(known.settled_at) > known.every:
                self._counts.reached("schedule caught up")
        known.settled_at = due_at

    def behind(self, now: datetime) -> str | None:
        """A schedule of which the newest due time is not done with; None if there is none."""
        for name, known in self.by_name.items():
            if not known.is_paused and known.newest(now) > known.settled_at:
                return f"{name} was due at {known.newest(now)}"
        return None
