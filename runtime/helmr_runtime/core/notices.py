"""Notices: the events that entries announce to people, and the outbox of each target (S-84). Pure.

Only a target's position is stored. It holds the feed offset up to which all events are delivered or skipped, the
offsets of skipped events that are still tried, and the time up to which waits that are due soon were announced. The
body of `notices.moved`, a fact of the system stream, holds the positions of all targets; the newest one counts.

An outbox has a lane for each session: a session's events are sent one at a time, in order, and sessions in parallel. A
skipped event leaves its lane, which continues only once that is stored: otherwise a crash would forget that the event
is late, and the next process would send it as if it were in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from helmr.models.system import EventName, event_name
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.core.entries import from_iso, iso

QUEUED_MAX = 1_000
"""Events in a target's lanes; a full outbox reads no further."""

LATE_MAX = 10_000
"""Skipped events of a target; newer ones replace the oldest."""

RANGES_MAX = 100
"""Ranges of offsets that name the late events in a stored position."""

AT_ONCE = 8
"""Events sent to one target at the same time."""

ASKING = (
    EventName.WAIT_OPENED,
    EventName.WAIT_REMINDED,
    EventName.WAIT_DUE_SOON,
    EventName.WAIT_ASSIGNED,
)
"""Events of waits that ask; they come with an answer link."""

ENDS = (EventName.WAIT_RESOLVED, EventName.WAIT_TIMED_OUT)
"""Events that say what became of a wait."""

FAILING_AFTER = 3
"""Failures in a row after which a target gets one event at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeEvent:
    """An event to announce. `offset` and `seq` are its entry's; a wait that is due soon has none.

    `from_assignee` is who had the wait before it was assigned to someone else.
    """

    name: EventName
    session_id: str
    at: datetime
    wait_id: str | None = None
    run_id: str | None = None
    offset: int | None = None
    seq: int | None = None
    from_assignee: str | None = None

    @property
    def id(self) -> str:
        """The event's id, the same at each try: receivers drop duplicates by it."""
        return f"{self.session_id}-{self.seq}" if self.seq is not None else f"{self.wait_id}-due"


def event_of(entry: Mapping[str, Any]) -> NoticeEvent | None:
    """Return the event that an entry of the feed announces; None if it announces none."""
    name = event_name(entry["kind"], entry["body"])
    if name is None:
        return None
    return NoticeEvent(
        name=name,
        session_id=entry["session_id"],
        at=from_iso(entry["recorded_at"]),
        wait_id=entry["body"].get("wait_id"),
        run_id=entry["run_id"],
        offset=entry["feed_offset"],
        seq=entry["seq"],
        from_assignee=entry["body"].get("from_assignee"),
    )


def ends_at_of(wait: Mapping[str, Any]) -> datetime | None:
    """Return the time that ends a listed wait: of its escalation's default, or else its deadline."""
    found = wait["default_at"] or wait["deadline_at"]
    return from_iso(found) if found is not None else None


def due_soon(
    wait: Mapping[str, Any], *, lead: timedelta, after: datetime, until: datetime
) -> NoticeEvent | None:
    """Announce that a pending wait ends in `lead`, if that moment lies in `(after, until]`.

    A wait that was opened with less time than that gets no such notice: its opening was one.
    """
    ends_at = ends_at_of(wait)
    if ends_at is None:
        return None
    moment = ends_at - lead
    if not after < moment <= until or moment <= from_iso(wait["opened_at"]):
        return None
    return NoticeEvent(
        name=EventName.WAIT_DUE_SOON,
        session_id=wait["session_id"],
        at=moment,
        wait_id=wait["id"],
        run_id=wait["run_id"],
    )


@dataclass(frozen=True, slots=True)
class Position:
    """A target's position; see the module. `late` holds ranges of offsets, both ends included."""

    offset: int
    soon_at: datetime
    late: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the position as the entry records it."""
        late = [list(one) for one in self.late]
        return {"offset": self.offset, "soon_at": iso(self.soon_at), "late": late}

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> Position:
        """The position that `to_json` wrote."""
        late = tuple((int(first), int(last)) for first, last in parts["late"])
        return cls(int(parts["offset"]), from_iso(parts["soon_at"]), late)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveNotices(SessionCommand):
    """Store the positions of all targets, by name."""

    positions: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticePace:
    """Times between the tries of an event. Pauses double from the first to the longest."""

    first: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(seconds=60)
    passed_by_after: timedelta = timedelta(minutes=10)
    late_first: timedelta = timedelta(minutes=10)
    late_longest: timedelta = timedelta(hours=1)
    late_for: timedelta = timedelta(days=3)
    """Time after the event at which it is given up."""

    def pause(self, tries: int) -> timedelta:
        """Return the pause after that many tries."""
        return _doubled(self.first, tries - 1, self.longest)

    def late_pause(self, tries: int) -> timedelta:
        """Return the pause after that many tries of a skipped event."""
        return _doubled(self.late_first, tries, self.late_longest)


def _doubled(first: timedelta, times: int, longest: timedelta) -> timedelta:
    factor: int = 2 ** min(max(times, 0), 20)
    return min(longest, first * factor)


@dataclass(slots=True)
class _Waiting:
    event: NoticeEvent
    since: datetime
    next_at: datetime
    tries: int = 0


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Outbox:
    """Events that one target has yet to get. The caller passes all times; nothing here sends.

    Attributes:
        read_offset: Feed offset up to which entries have been read.
        soon_at: Time up to which waits due soon have been read.
        given_up: Number of events not delivered within `late_for`, or dropped for lack of room.
    """

    read_offset: int
    soon_at: datetime
    pace: NoticePace = field(default_factory=NoticePace)
    failing_since: datetime | None = None
    last_error: str | None = None
    last_taken_at: datetime | None = None
    given_up: int = 0
    failures: int = 0
    """Failures in a row."""
    passed: dict[str, str] = field(default_factory=dict)
    """Sessions with skipped events that no stored position holds yet, each with the newest one's id; see `stored`."""
    _lanes: dict[str, deque[_Waiting]] = field(default_factory=dict)
    _late: dict[str, _Waiting] = field(default_factory=dict)
    _sending: set[str] = field(default_factory=set)
    _paused_until: datetime = _LONG_AGO

    @property
    def queued(self) -> int:
        """Number of events in the lanes."""
        return sum(map(len, self._lanes.values()))

    @property
    def late(self) -> int:
        """Number of skipped events that are still tried."""
        return len(self._late)

    @property
    def is_full(self) -> bool:
        """True if no event may be added."""
        return self.queued >= QUEUED_MAX

    def add(self, event: NoticeEvent, now: datetime) -> None:
        """Queue an event behind those of its session, unless it was skipped before this process began."""
        if event.id in self._late:
            return
        self._lanes.setdefault(event.session_id, deque()).append(_Waiting(event, now, now))

    def add_late(self, event: NoticeEvent, now: datetime) -> None:
        """Add an event that an earlier process skipped."""
        self._put_late(_Waiting(event, now, now))

    def is_late(self, event: NoticeEvent) -> bool:
        """True if the event was skipped."""
        return event.id in self._late

    def due(self, now: datetime) -> list[NoticeEvent]:
        """Return the events to try now; each counts as being sent until `took`, `failed` or `dropped`."""
        self._pass_by(now)
        if now < self._paused_until:
            return []
        room = (1 if self.failures >= FAILING_AFTER else AT_ONCE) - len(self._sending)
        found: list[NoticeEvent] = []
        for waiting in self._ready(now):
            if len(found) >= room:
                break
            found.append(waiting.event)
        self._sending.update(event.id for event in found)
        return found

    def next_at(self) -> datetime | None:
        """Return the time at which `due` may have more; None if all events are being sent."""
        times = [one.next_at for one in self._heads()]
        times += [one.next_at for one in self._late.values() if one.event.id not in self._sending]
        return max(min(times), self._paused_until) if times else None

    def took(self, event: NoticeEvent, now: datetime) -> None:
        """Note that the target has it. After an outage, all that the target missed is tried at once."""
        if self.failures >= FAILING_AFTER:
            self._hurry(now)
        self._remove(event)
        self.failures, self.failing_since, self.last_error = 0, None, None
        self.last_taken_at = now

    def dropped(self, event: NoticeEvent) -> None:
        """Remove an event without sending it."""
        self._remove(event)

    def failed(self, event: NoticeEvent, now: datetime, error: str) -> None:
        """Note that the target did not take it."""
        self._sending.discard(event.id)
        self.failures += 1
        self.failing_since, self.last_error = self.failing_since or now, error
        if self.failures >= FAILING_AFTER:
            self._paused_until = now + self.pace.pause(self.failures - FAILING_AFTER + 1)
        late = self._late.get(event.id)
        if late is not None:
            late.tries += 1
            late.next_at = now + self.pace.late_pause(late.tries)
            return
        waiting = self._lanes[event.session_id][0]
        waiting.tries += 1
        waiting.next_at = now + self.pace.pause(waiting.tries)

    def postponed(self, event: NoticeEvent, now: datetime) -> None:
        """Note that it could not be tried, through no fault of the target."""
        self._sending.discard(event.id)
        waiting = self._late.get(event.id) or self._lanes[event.session_id][0]
        waiting.next_at = now + self.pace.first

    def hurry(self, now: datetime) -> int:
        """Make all events due now; return how many there are."""
        self._hurry(now)
        return self.queued + self.late

    def stored(self, passed: Mapping[str, str]) -> None:
        """Note a stored position; `passed` was copied when the position was taken.

        A session with events skipped since then still waits for the next position.
        """
        for session_id, event_id in passed.items():
            if self.passed.get(session_id) == event_id:
                del self.passed[session_id]

    def position(self) -> Position:
        """Return the position to store: true even if the process dies right after."""
        queued = [one.event for lane in self._lanes.values() for one in lane]
        offsets = [event.offset for event in queued if event.offset is not None]
        moments = [
            event.at
            for event in (*queued, *(one.event for one in self._late.values()))
            if event.offset is None
        ]
        late = sorted(
            one.event.offset for one in self._late.values() if one.event.offset is not None
        )
        return Position(
            offset=min(offsets) - 1 if offsets else self.read_offset,
            soon_at=min(moments) - timedelta(microseconds=1) if moments else self.soon_at,
            late=ranges(late),
        )

    def _heads(self) -> Iterator[_Waiting]:
        return (
            lane[0]
            for session_id, lane in self._lanes.items()
            if lane[0].event.id not in self._sending and session_id not in self.passed
        )

    def _ready(self, now: datetime) -> Iterator[_Waiting]:
        """Yield events in the order of their times; late ones one at a time, behind the others."""
        heads = [one for one in self._heads() if one.next_at <= now]
        yield from sorted(heads, key=lambda one: (one.next_at, one.since))
        if not any(one in self._late for one in self._sending):
            late = [one for one in self._late.values() if one.next_at <= now]
            yield from late[:1]

    def _pass_by(self, now: datetime) -> None:
        for session_id in list(self._lanes):
            lane = self._lanes[session_id]
            while lane and lane[0].event.id not in self._sending:
                if now - lane[0].since < self.pace.passed_by_after:
                    break
                waiting = lane.popleft()
                waiting.tries, waiting.next_at = 0, now + self.pace.late_pause(0)
                self._put_late(waiting)
                self.passed[session_id] = waiting.event.id
            if not lane:
                del self._lanes[session_id]
        for event_id, waiting in list(self._late.items()):
            is_over = now - waiting.event.at >= self.pace.late_for
            if is_over and event_id not in self._sending:
                del self._late[event_id]
                self.given_up += 1

    def _put_late(self, waiting: _Waiting) -> None:
        self._late[waiting.event.id] = waiting
        if len(self._late) > LATE_MAX:
            oldest = next(one for one in self._late if one not in self._sending)
            del self._late[oldest]
            self.given_up += 1

    def _remove(self, event: NoticeEvent) -> None:
        self._sending.discard(event.id)
        if self._late.pop(event.id, None) is None:
            lane = self._lanes[event.session_id]
            lane.popleft()
            if not lane:
                del self._lanes[event.session_id]

    def _hurry(self, now: datetime) -> None:
        self._paused_until = min(self._paused_until, now)
        self.failures = 0
        for waiting in (*self._late.values(), *(lane[0] for lane in self._lanes.values())):
            waiting.next_at = min(waiting.next_at, now)


def ranges(offsets: Sequence[int], most: int = RANGES_MAX) -> tuple[tuple[int, int], ...]:
    """Ranges that hold these offsets, which ascend; with more than `most`, the nearest are joined.

    Events between two joined ranges are sent again after a restart: delivery is at least once.
    """
    if not offsets:
        return ()
    gaps = sorted(range(1, len(offsets)), key=lambda i: offsets[i] - offsets[i - 1], reverse=True)
    starts = sorted((0, *gaps[: most - 1]))
    ends = (*(start - 1 for start in starts[1:]), len(offsets) - 1)
    return tuple((offsets[a], offsets[b]) for a, b in zip(starts, ends, strict=True))
