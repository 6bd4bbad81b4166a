"""Schedules in the ledger's memory, and when the next one is due. Pure, folded from entries.

Invariants: S-93 (a due time is done with once the entry that says so is stored, and not before).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime

from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Draft, Entry, EntryKind, iso
from helmr_runtime.features.schedules.facts import (
    DELETED,
    PAUSED,
    RESUMED,
    SKIPPED,
    WRITTEN,
    Schedule,
    ScheduleRow,
    cause,
    changed,
    decide_due,
    receipt,
    reconcile,
    restored,
    tag_of,
    warm,
    written,
)
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.features import FactTable, FeatureMemory, LedgerPart
from helmr_runtime.ledger.index.views import Json
from helmr_runtime.ports import StartSession


class ScheduleMemory(FeatureMemory[Schedule]):
    """All schedules by name."""

    def __init__(self) -> None:
        super().__init__()
        self._due_at: dict[str, datetime] = {}
        self._next_at: datetime | None = None

    def apply(self, entry: Entry) -> None:
        """Fold one stored entry."""
        if entry.kind is WRITTEN:
            self._set(written(entry, self.things.get(entry.body["name"])))
        elif entry.kind is DELETED:
            self._forget(entry.body["name"])
        else:
            name = _named(entry)
            known = self.things.get(name) if name is not None else None
            if known is not None:
                self._set(changed(known, entry))

    def admit(self, row: ScheduleRow, entry: Entry) -> None:
        """Take in a schedule that was read from the tables."""
        names = (one.name for one in fields(row))
        since = {one: getattr(row, one) for one in names if one not in ("name", "written_offset")}
        schedule = restored(entry, **since)
        self.things[schedule.name] = schedule
        self._arm(schedule)

    def next_at(self) -> datetime | None:
        """The next due time of any; None without one."""
        return self._next_at

    def due(
        self, now: datetime, is_active: Callable[[str], bool]
    ) -> Iterator[StartSession | Draft]:
        """Yield starts, and the entries of due times that start nothing; the longest due first.

        A due time that is not written stays due.

        Args:
            now: The ledger's time.
            is_active: True if a session's newest run has not ended.
        """
        for name in sorted(self._due_at, key=lambda one: self._due_at[one]):
            if self._due_at[name] > now:
                return
            schedule = self.things[name]
            due = decide_due(schedule, now, is_active)
            if due is None:
                continue
            if due.skipped is not None:
                yield due.skipped
            for due_at in due.starts:
                yield _start_of(schedule, due_at)

    def follows(self, fact: Draft, now: datetime) -> Sequence[Draft]:
        """Follow new code: write its schedules, and pause those that it lacks."""
        if fact.kind is not EntryKind.CATALOG_WRITTEN:
            return ()
        return reconcile(self.things, fact.body.get("tasks", ()))

    def numbers(self) -> Json:
        """The numbers of schedules: `{active, paused}`."""
        paused = sum(one.paused for one in self.things.values())
        return {"active": len(self.things) - paused, "paused": paused}

    def page(self, cursor: str | None, limit: int | None) -> Json:
        """A page of `ScheduleInfo`, by name."""
        limit = views.limit_of(limit)
        key = views.decode_cursor("schedules", cursor, (str,))
        left = [name for name in sorted(self.things) if key is None or name > str(key[0])]
        following = (
            views.encode_cursor("schedules", [left[limit - 1]]) if len(left) > limit else None
        )
        return views.page([self.things[name].to_json() for name in left[:limit]], following)

    def _set(self, schedule: Schedule) -> None:
        self.things[schedule.name] = schedule
        self.touched.add(schedule.name)
        self._arm(schedule)

    def _forget(self, name: str) -> None:
        self.things.pop(name, None)
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
        cause=cause(schedule.name, iso(due_at)),
    )


def _named(entry: Entry) -> str | None:
    name: str | None
    if entry.kind is EntryKind.SESSION_CREATED:
        name = entry.body.get("schedule", {}).get("name")
    else:
        name = entry.body["name"]
    return name


TABLE = FactTable("schedules", ScheduleRow, "schedule_rows", "written_offset")

PART = LedgerPart(
    memory=ScheduleMemory,
    kinds={WRITTEN: receipt, PAUSED: receipt, RESUMED: receipt, SKIPPED: None, DELETED: receipt},
    hears=frozenset({EntryKind.SESSION_CREATED}),
    table=TABLE,
    warm=warm,
)
