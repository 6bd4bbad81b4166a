"""Schedules: what starts sessions by the clock (S-93). Pure.

A schedule is facts of the system stream. The start of a session names its schedule and its due time in the session's
own first entry, so that the start and "this due time is done with" are one write: whatever is killed, there is no
second.

Bodies of the entries (JSON keys; `?` may be absent):

```
schedule.written   name task payload timing{cron? every_s? zone missed overlap} declared_in: code|api operation?
schedule.paused    name by: person|code operation? receipt?
schedule.resumed   name by: person|code operation? receipt?
schedule.skipped   name due_at reason: missed|overlap session_id?
schedule.deleted   name operation?
```

`by=code`: what declared it, or its task, is not in the code any more, or is again. The two pauses know nothing of each
other. Whenever a schedule begins or begins again, due times count from then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

from helmr.errors import BadDefinition, Conflict, Overloaded, ScheduleNotFound
from helmr.models import TaskSchedule, Timing
from helmr.wire import ids
from helmr.wire.timing import load_zones, newest_due, next_due
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import FeatureFact, FeatureQuestion, carrier
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Principal, from_iso, iso
from helmr_runtime.core.nouns import NounColumn

NAME = "schedules"
"""Of the feature."""

WRITTEN = EntryKind("schedule.written")
PAUSED = EntryKind("schedule.paused")
RESUMED = EntryKind("schedule.resumed")
SKIPPED = EntryKind("schedule.skipped")
DELETED = EntryKind("schedule.deleted")

SCHEDULES_MAX = 1_000
"""All of them are in the ledger's memory."""

ON_TIME = timedelta(seconds=60)
"""A due time that is come to so late was not missed: a restart takes less."""

CATCH_UP_MAX = 100
"""Missed due times for which `missed=all` starts sessions, the newest."""

CODE = "code"
API = "api"
PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule, folded from its entries.

    Attributes:
        written_offset: Feed offset of the entry that says what it is.
        settled_at: Due times up to here are done with.
        paused: By a person.
        gone: What declared it, or its task, is not in the code.
        session_id: The newest session that it started.
        outcome: What became of `last_due_at`: started, missed, overlap.
    """

    name: str
    task: str
    payload: Any
    timing: Timing
    declared_in: str
    created_at: datetime
    written_offset: int
    settled_at: datetime
    paused: bool = False
    gone: bool = False
    session_id: str | None = None
    last_due_at: datetime | None = None
    outcome: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A `ScheduleInfo`."""
        when = self.timing
        return {
            "name": self.name,
            "task": self.task,
            "payload": self.payload,
            "cron": when.cron,
            "every_s": when.every_s,
            "zone": when.zone,
            "missed": when.missed,
            "overlap": when.overlap,
            "declared_in": self.declared_in,
            "status": self.status,
            "next_due_at": _iso(self.next_due_at()),
            "last_due_at": _iso(self.last_due_at),
            "last_outcome": self.outcome,
            "last_session_id": self.session_id,
            "created_at": iso(self.created_at),
        }

    @property
    def status(self) -> str:
        """active, paused or gone."""
        return "paused" if self.paused else "gone" if self.gone else "active"

    @property
    def principal(self) -> Principal:
        """The principal that starts its sessions (S-51)."""
        return Principal("schedule", name=self.name)

    def next_due_at(self) -> datetime | None:
        """The next due time, or one that has passed unseen; None unless it is active."""
        if self.status != "active":
            return None
        try:
            return next_due(self.timing, self.settled_at)
        except BadDefinition:  # a time zone that this machine does not know, or no longer
            return None

    def set_paused(self, paused: bool, at: datetime) -> Schedule:
        """It as a person pauses or resumes it at that time."""
        return replace(self, paused=paused, settled_at=max(self.settled_at, at))


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """Changes of a schedule since the entry at `written_offset`, which holds its terms (S-93).

    It is written again as a whole: the table has no key.
    """

    name: str
    written_offset: int
    created_at: datetime
    settled_at: datetime
    paused: bool
    gone: bool
    session_id: Annotated[str | None, NounColumn("session", id_of=ids.SESSION)]
    last_due_at: datetime | None
    outcome: str | None


def _iso(moment: datetime | None) -> str | None:
    return iso(moment) if moment is not None else None


def tag_of(name: str) -> str:
    """The tag by which its sessions are found."""
    return f"schedule:{name}"


def cause(name: str, due_at: str | None = None) -> dict[str, Any]:
    """The cause in the first entry of a session that a schedule starts; without `due_at` if a person asked for it."""
    return {"schedule": {"name": name} if due_at is None else {"name": name, "due_at": due_at}}


@dataclass(frozen=True, slots=True)
class Due:
    """The result of a look at a schedule: due times that start a session each, or the one that starts none.

    Either ends all due times before it.
    """

    starts: tuple[datetime, ...] = ()
    skipped: Draft | None = None


def decide_due(schedule: Schedule, now: datetime, is_active: Callable[[str], bool]) -> Due | None:
    """Decide the due times at `now`; None if nothing is due.

    Args:
        schedule: An active one.
        now: The ledger's time.
        is_active: True if a session's newest run has not ended.
    """
    when = schedule.timing
    count = CATCH_UP_MAX if when.missed == "all" else 1
    dues = newest_due(when, schedule.settled_at, now, count)
    if not dues:
        return None
    if when.missed == "skip" and now - dues[-1] > ON_TIME:
        return Due(skipped=_skipped(schedule, dues[-1], "missed"))
    if when.overlap == "skip" and schedule.session_id and is_active(schedule.session_id):
        return Due(skipped=_skipped(schedule, dues[-1], "overlap", schedule.session_id))
    return Due(starts=tuple(dues))


def _skipped(
    schedule: Schedule, due_at: datetime, reason: str, session_id: str | None = None
) -> Draft:
    body = {"name": schedule.name, "due_at": iso(due_at), "reason": reason}
    if session_id is not None:
        body["session_id"] = session_id
    return Draft(SKIPPED, body, principal=schedule.principal)


# --- folding --------------------------------------------------------------------------------------


def written(entry: Entry, known: Schedule | None) -> Schedule:
    """The schedule that a `schedule.written` says; what it replaces keeps its past and its pause."""
    assert entry.feed_offset is not None
    body = entry.body
    made = Schedule(
        name=body["name"],
        task=body["task"],
        payload=body["payload"],
        timing=Timing.model_validate(body["timing"]),
        declared_in=body["declared_in"],
        created_at=entry.recorded_at,
        written_offset=entry.feed_offset,
        settled_at=entry.recorded_at,
    )
    if known is None:
        return made
    return replace(
        made,
        created_at=known.created_at,
        settled_at=max(known.settled_at, entry.recorded_at),
        paused=known.paused,
        session_id=known.session_id,
        last_due_at=known.last_due_at,
        outcome=known.outcome,
    )


def restored(entry: Entry, **state: Any) -> Schedule:
    """The schedule of a stored row: what its `schedule.written` says, and what became of it since."""
    return replace(written(entry, None), **state)


def changed(schedule: Schedule, entry: Entry) -> Schedule:
    """The schedule after an entry about it other than `schedule.written` and `schedule.deleted`."""
    body = entry.body
    match entry.kind:
        case kind if kind in (PAUSED, RESUMED):
            stops = kind is PAUSED
            if body["by"] == CODE:
                settled_at = max(schedule.settled_at, entry.recorded_at)
                return replace(schedule, gone=stops, settled_at=settled_at)
            return schedule.set_paused(stops, entry.recorded_at)
        case kind if kind is SKIPPED:
            return _settled(schedule, from_iso(body["due_at"]), body["reason"])
        case EntryKind.SESSION_CREATED:
            due_at = body["schedule"].get("due_at")
            begun = replace(schedule, session_id=entry.session_id)
            return begun if due_at is None else _settled(begun, from_iso(due_at), "started")
        case _:
            return schedule


def _settled(schedule: Schedule, due_at: datetime, outcome: str) -> Schedule:
    settled_at = max(schedule.settled_at, due_at)
    return replace(schedule, settled_at=settled_at, last_due_at=due_at, outcome=outcome)


# --- the code ---------------------------------------------------------------------------------------


def written_body(
    name: str, task: str, payload: Any, when: Mapping[str, Any], declared_in: str
) -> dict[str, Any]:
    """The body of a `schedule.written`; `when` is a `Timing` as JSON."""
    return {
        "name": name,
        "task": task,
        "payload": payload,
        "timing": dict(when),
        "declared_in": declared_in,
    }


def zones_of(tasks: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The time zones of the schedules of a catalog's tasks."""
    return frozenset(task["schedule"].get("zone", "UTC") for task in tasks if task.get("schedule"))


def reconcile(known: Mapping[str, Schedule], tasks: Sequence[Mapping[str, Any]]) -> list[Draft]:
    """Follow new code: write its schedules, and pause those that it lacks.

    Args:
        known: The schedules by name.
        tasks: The catalog's tasks, as they stand in it.
    """
    drafts: list[Draft] = []
    declared = {
        str(task["id"]): TaskSchedule.model_validate(task["schedule"])
        for task in tasks
        if task.get("schedule") is not None
    }
    for name, made in declared.items():
        when = Timing.model_validate(made.model_dump(exclude={"payload"}))
        found = known.get(name)
        if found is None or not _is_same(found, name, made.payload, when):
            body = written_body(name, name, made.payload, when.model_dump(exclude_none=True), CODE)
            drafts.append(Draft(WRITTEN, body))
    there = {str(task["id"]) for task in tasks}
    for name, schedule in known.items():
        is_own = schedule.declared_in == CODE
        is_there = name in declared or (not is_own and schedule.task in there)
        if schedule.gone == is_there:
            kind = RESUMED if is_there else PAUSED
            drafts.append(Draft(kind, {"name": name, "by": CODE}))
    return drafts


def _is_same(known: Schedule, task: str, payload: Any, when: Timing) -> bool:
    return (
        known.declared_in == CODE
        and (known.task, known.timing) == (task, when)
        and jsontext.same_data_hash(known.payload) == jsontext.same_data_hash(payload)
    )


# --- what a person asks for -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSchedule(FeatureFact):
    """Make a schedule. `timing` is a `Timing` as JSON. Receipt: `{name}`."""

    feature: ClassVar[str] = NAME
    name: str
    task: str
    payload: Any
    timing: Mapping[str, Any]

    def decide(self, memory: Any, now: datetime) -> tuple[Sequence[Draft], Mapping[str, Any]]:
        """Refuse a name that is taken."""
        if self.name in memory.things:
            raise Conflict(
                f"there is a schedule {self.name}",
                hint="Give this one another name, or delete that one first.",
                name=self.name,
            )
        if len(memory.things) >= SCHEDULES_MAX:
            raise Overloaded(f"there are {SCHEDULES_MAX} schedules", hint="That is the limit.")
        body = written_body(self.name, self.task, self.payload, self.timing, API)
        return _entry(WRITTEN, self, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseSchedule(FeatureFact):
    """Pause a schedule, or go on with it. Idempotent. Receipt: the schedule as the caller sees it then."""

    feature: ClassVar[str] = NAME
    name: str
    paused: bool

    def decide(self, memory: Any, now: datetime) -> tuple[Sequence[Draft], Mapping[str, Any]]:
        """Have the entry hold the schedule but for its payload, which `schedule.written` holds."""
        schedule = find(memory.things, self.name)
        is_news = schedule.paused is not self.paused
        said = (schedule.set_paused(self.paused, now) if is_news else schedule).to_json()
        del said["payload"]
        kind = PAUSED if self.paused else RESUMED
        body = {"name": self.name, "by": PERSON, "receipt": said}
        drafts, reply = _entry(kind, self, body)
        return (drafts if is_news else ()), reply


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSchedule(FeatureFact):
    """Delete a schedule. Receipt: `{name}`."""

    feature: ClassVar[str] = NAME
    name: str

    def decide(self, memory: Any, now: datetime) -> tuple[Sequence[Draft], Mapping[str, Any]]:
        """Refuse one that code declares."""
        schedule = find(memory.things, self.name)
        if schedule.declared_in == CODE and not schedule.gone:
            raise Conflict(
                f"schedule {self.name} is declared by task {schedule.task}",
                hint="Pause it, or take it out of the code and start the runtime with that first.",
                name=self.name,
            )
        return _entry(DELETED, self, {"name": self.name})


@dataclass(frozen=True, slots=True, kw_only=True)
class GetSchedule(FeatureQuestion):
    """A `ScheduleInfo`."""

    feature: ClassVar[str] = NAME
    name: str

    def answer(self, memory: Any, now: datetime) -> Any:
        """Return it; raises ScheduleNotFound."""
        return find(memory.things, self.name).to_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSchedules(FeatureQuestion):
    """A page of `ScheduleInfo`, by name."""

    feature: ClassVar[str] = NAME
    cursor: str | None = None
    limit: int | None = None

    def answer(self, memory: Any, now: datetime) -> Any:
        """Return the page; raises BadCursor."""
        return memory.page(self.cursor, self.limit)


def find(known: Mapping[str, Schedule], name: str) -> Schedule:
    """The schedule of that name.

    Raises:
        ScheduleNotFound: None with that name.
    """
    schedule = known.get(name)
    if schedule is None:
        raise ScheduleNotFound(f"there is no schedule {name!r}", name=name)
    return schedule


def _entry(
    kind: EntryKind, fact: FeatureFact, body: dict[str, Any]
) -> tuple[Sequence[Draft], Mapping[str, Any]]:
    """One entry, and the receipt that it carries."""
    draft = carrier(kind, body, fact)
    return (draft,), receipt(draft.body)


def receipt(body: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt of the operation that an entry with this body carries."""
    return {"name": body["name"], **body.get("receipt", {})}


def warm(said: Any) -> None:
    """Read the time zones that a fact or a catalog names, which takes a file each."""
    if isinstance(said, WriteSchedule):
        load_zones((said.timing.get("zone", "UTC"),))
    elif isinstance(said, Mapping):
        load_zones(zones_of(said.get("tasks", ())))
