"""Schedules in the ledger's memory, and when the next one is due. Pure, folded from entries.

Invariants: S-93 (a due time is done with once the entry that says so is stored, and not before).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from helmr import ids
from helmr.errors import ScheduleNotFound
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Draft, Entry, EntryKind, iso
from helmr_runtime.core.schedules import Schedule, changed, decide_due, tag_of, written
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.views import Json, iso_or_none
from helmr_runtime.ports import StartSession

_ABOUT_ONE = frozenset(
    {
        EntryKind.SCHEDULE_PAUSED,
        EntryKind.SCHEDULE_RESUMED,
        EntryKind.SCHEDULE_SKIPPED,
        EntryKind.SESSION_CREATED,
    }
)

OF_SCHEDULES = _ABOUT_ONE | {EntryKind.SCHEDULE_WRITTEN, EntryKind.SCHEDULE_DELETED}
"""What changes something here."""


class ScheduleIndex:
    """All schedules by name.

    Attributes:
        touched: Names whose rows are to be written again.
        held_until: Nothing is due before. A runtime that begins with other code says first what that schedules.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Schedule] = {}
        self.touched: set[str] = set()
        self.held_until: datetime | None = None
        self._due_at: dict[str, datetime] = {}
        self._next_at: datetime | None = None

    def apply(self, entry: Entry) -> None:
        """Fold one stored entry."""
        if entry.kind is EntryKind.SCHEDULE_WRITTEN:
            self._set(written(entry, self.by_name.get(entry.body["name"])))
        elif entry.kind is EntryKind.SCHEDULE_DELETED:
            self._forget(entry.body["name"])
        elif entry.kind in _ABOUT_ONE:
            name = _named(entry)
            known = self.by_name.get(name) if name is not None else None
            if known is not None:
                self._set(changed(known, entry))

    def admit(self, schedule: Schedule) -> None:
        """Take in a schedule that was read from the tables."""
        self.by_name[schedule.name] = schedule
        self._arm(schedule)

    def next_at(self) -> datetime | None:
        """When the next one is due."""
        if self._next_at is None or self.held_until is None:
            return self._next_at
        return max(self._next_at, self.held_until)

    def due(
        self, now: datetime, is_active: Callable[[str], bool]
    ) -> Iterator[StartSession | Draft]:
        """What is to be written: starts, and the entries of due times that start nothing; the longest due first.

        What is not written stays due.

        Args:
            now: The ledger's time.
            is_active: Whether a session's newest run has not ended.
        """
        if self.held_until is not None and now < self.held_until:
            return
        for name in sorted(self._due_at, key=lambda one: self._due_at[one]):
            if self._due_at[name] > now:
                return
            schedule = self.by_name[name]
            due = decide_due(schedule, now, is_active)
            if due is None:
                continue
            if due.skipped is not None:
                yield due.skipped
            for due_at in due.starts:
                yield _start_of(schedule, due_at)

    def get(self, name: str) -> Json:
        """A `ScheduleInfo`.

        Raises:
            ScheduleNotFound: None with that name.
        """
        schedule = self.by_name.get(name)
        if schedule is None:
            raise ScheduleNotFound(f"there is no schedule {name!r}", name=name)
        return schedule_json(schedule)

    def page(self, cursor: str | None, limit: int) -> Json:
        """A page of `ScheduleInfo`, by name."""
        key = views.decode_cursor("schedules", cursor, (str,))
        left = [name for name in sorted(self.by_name) if key is None or name > str(key[0])]
        following = (
            views.encode_cursor("schedules", [left[limit - 1]]) if len(left) > limit else None
        )
        return views.page([schedule_json(self.by_name[name]) for name in left[:limit]], following)

    def _set(self, schedule: Schedule) -> None:
        self.by_name[schedule.name] = schedule
        self.touched.add(schedule.name)
        self._arm(schedule)

    def _forget(self, name: str) -> None:
        self.by_name.pop(name, None)
        self.touched.add(name)
        self._due_at.pop(name, None)
        self._next_at = min(self._due_at.values(), default=None)

    def _arm(self, schedule: Schedule) -> None:
        due_at = schedule.next_due_at()
        if due_at is None:
            self._due_at.pop(schedule.name, None)
        else:
            self._due_at[schedule.name] = due_at
        self._next_at = min(self._due_at.values(), default=None)


def _start_of(schedule: Schedule, due_at: datetime) -> StartSession:
    """The start that is due."""
    return StartSession(
        session_id=ids.new_id(ids.SESSION),
        run_id=ids.new_id(ids.RUN),
        task=schedule.task,
        payload=schedule.payload,
        external_id=None,
        tags=(tag_of(schedule.name),),
        metadata={},
        idempotency_key=None,
        principal=schedule.principal,
        operation=None,
        request_hash=jsontext.same_data_hash([schedule.task, schedule.payload]),
        schedule={"name": schedule.name, "due_at": iso(due_at)},
    )


def _named(entry: Entry) -> str | None:
    name: str | None
    if entry.kind is EntryKind.SESSION_CREATED:
        name = entry.body.get("schedule", {}).get("name")
    else:
        name = entry.body["name"]
    return name


def schedule_json(schedule: Schedule) -> Json:
    """A `ScheduleInfo`."""
    when = schedule.timing
    return {
        "name": schedule.name,
        "task": schedule.task,
        "payload": schedule.payload,
        "cron": when.cron,
        "every_s": when.every_s,
        "zone": when.zone,
        "missed": when.missed,
        "overlap": when.overlap,
        "declared_in": schedule.declared_in,
        "status": schedule.status,
        "next_due_at": iso_or_none(schedule.next_due_at()),
        "last_due_at": iso_or_none(schedule.last_due_at),
        "last_outcome": schedule.outcome,
        "last_session_id": schedule.session_id,
        "created_at": iso(schedule.created_at),
    }
