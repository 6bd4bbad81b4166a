"""The console's data: waits, sessions, people's acts, and their freshness.

Entries of the feed and pages of lists change it; nothing here blocks or draws. Every collection has a named bound,
and shows when it is cut.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from helmr.models import (
    Activity,
    AnswerMode,
    EntryInfo,
    Health,
    LimitInfo,
    NoticeTargetInfo,
    SessionInfo,
    StreamInfo,
    TaskInfo,
    WaitInfo,
    WaitKind,
    WaitStatus,
)
from helmr.wire.people import person_key
from helmr_console.clock import Freshness, ServerClock
from helmr_console.ended import EndedWaits
from helmr_console.entry_lines import is_act

WAITS_MAX = 5_000
SESSIONS_MAX = 5_000
ACTIVITY_MAX = 2_000
ENDED_MAX = 5_000
TASKS_OF_SESSIONS_MAX = 20_000
ENDED_SHOWN = timedelta(hours=1)
STUCK_AFTER = timedelta(seconds=5)
"""A run normally continues within a second of its answer; after this time it counts as stuck."""
STUCK_MAX = 5_000
PLACES_EVERY_S = 5.0
GOING_ON = (Activity.RUNNING, Activity.QUEUED)
"""Activities of sessions that may wait for a limit."""

_ENDINGS = {
    "wait.fulfilled": WaitStatus.FULFILLED,
    "wait.timed_out": WaitStatus.TIMED_OUT,
    "wait.cancelled": WaitStatus.CANCELLED,
}
_PEOPLE = ("person", "api_key", "public_token", "callback", "ray_job")


@dataclass(slots=True)
class Store:
    """The console's picture of the runtime."""

    clock: ServerClock
    freshness: Freshness = field(default_factory=Freshness)
    health: Health | None = None
    waits: dict[str, WaitInfo] = field(default_factory=dict)
    waits_cut: bool = False
    ended: OrderedDict[str, WaitInfo] = field(default_factory=OrderedDict)
    own: set[str] = field(default_factory=set)
    """Waits answered from this console."""
    sessions: dict[str, SessionInfo] = field(default_factory=dict)
    sessions_dirty: set[str] = field(default_factory=set)
    activity: deque[EntryInfo] = field(default_factory=lambda: deque(maxlen=ACTIVITY_MAX))
    streams: list[StreamInfo] = field(default_factory=list)
    tasks: list[TaskInfo] = field(default_factory=list)
    of_features: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What lists of features show, as it was read last."""
    targets: dict[str, NoticeTargetInfo] | None = None
    limits: dict[str, LimitInfo] = field(default_factory=dict)
    """Limits by name, as last read; empty before."""
    feed_offset: int | None = None
    ended_from: datetime | None = None
    """Time since which all ended waits are held; None before the first read, or if they are too many."""
    resolved: OrderedDict[str, datetime] = field(default_factory=OrderedDict)
    """Runs whose wait is over and that have not gone on, with the time of its end."""
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    answered_on: tuple[date, int] | None = None
    """The newest day (UTC) on which people answered, and the number of its answers seen."""
    first_seen_at: datetime | None = None
    """Time of the oldest entry that the feed brought; None if it is the ledger's first."""
    _places_read_s: float = 0.0
    _task_of: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _inbox: list[WaitInfo] | None = None

    def now(self) -> datetime:
        """The server's time."""
        return self.clock.now()

    def mono(self) -> float:
        """Seconds of the monotonic clock."""
        return self.clock.clock.monotonic()

    def places_are_old(self) -> bool:
        """Return True every `PLACES_EVERY_S` while runs wait for limits: no entry reports their places in the queue."""
        waiting = self.health.pool.get("limits", {}) if self.health is not None else {}
        is_due = self.mono() - self._places_read_s >= PLACES_EVERY_S
        if not is_due or not any(waiting.values()):
            return False
        self._places_read_s = self.mono()
        return True

    def touch_going_on(self, session_ids: Iterable[str]) -> None:
        """Mark those of the sessions that are running or queued, to be read again."""
        for key in session_ids:
            if key in self.sessions and self.sessions[key].activity in GOING_ON:
                self.sessions_dirty.add(key)

    def put_waits(self, waits: Iterable[WaitInfo], *, cut: bool) -> None:
        """Replace the inbox by a fresh list; waits that ended meanwhile stay ended."""
        found = {wait.id: wait for wait in waits if wait.id not in self.ended}
        for wait in list(self.waits.values()):
            if wait.id not in found and not cut:
                self._end(wait)
        self.waits = {wait.id: self._richer(wait) for wait in found.values()}
        self._inbox = None
        self.waits_cut = cut

    def put_claims(self, waits: Iterable[WaitInfo]) -> None:
        """Update claims and ownership of these waits, which no entry of the feed reports."""
        for wait in waits:
            known = self.waits.get(wait.id)
            found = {name: getattr(wait, name) for name in ("claim", "can_answer", "is_mine")}
            if known is not None and any(getattr(known, name) != found[name] for name in found):
                self.waits[wait.id] = known.model_copy(update=found)
                self._inbox = None

    def put_wait(self, wait: WaitInfo) -> None:
        """Store one wait in full, fresh from the gateway."""
        if wait.status is WaitStatus.PENDING and wait.id not in self.ended:
            self.waits[wait.id] = wait
            self._inbox = None
        elif wait.status is not WaitStatus.PENDING:
            self._end(wait)

    def wait(self, wait_id: str) -> WaitInfo | None:
        """Return a wait, open or recently ended."""
        return self.waits.get(wait_id) or self.ended.get(wait_id)

    def answered(self, wait_id: str) -> None:
        """End a wait whose answer from here was accepted, before the feed reports it."""
        self.own.add(wait_id)
        wait = self.waits.get(wait_id)
        if wait is not None:
            self._end(wait.model_copy(update={"status": WaitStatus.FULFILLED}))

    def inbox(self) -> list[WaitInfo]:
        """Open waits that a person can answer: soonest end first, those without an end last, then by id."""
        if self._inbox is None:
            self._inbox = sorted(self.waits.values(), key=_by_end)
        return self._inbox

    def ended_lately(self) -> list[WaitInfo]:
        """Waits that ended in the last hour, newest first."""
        since = self.now() - ENDED_SHOWN
        found = [
            w for w in self.ended.values() if w.resolved_at is not None and w.resolved_at >= since
        ]
        return sorted(found, key=lambda w: w.resolved_at or since, reverse=True)

    def put_ended(self, ended: EndedWaits) -> None:
        """Store ended waits, fresh from the list, with the names that the feed lacks."""
        for wait in reversed(ended.waits):
            known = self.ended.get(wait.id)
            if known is not None and known.answer is not None:
                continue
            self._count(wait)
            self._end(wait)
        self.ended_from = None if ended.is_cut else ended.since

    def put_sessions(self, sessions: Iterable[SessionInfo]) -> None:
        """Store sessions, fresh from the gateway; at most `SESSIONS_MAX` are held."""
        for session in sessions:
            self._remember_task(session.id, session.task)
            if session.id in self.sessions or len(self.sessions) < SESSIONS_MAX:
                self.sessions[session.id] = session

    def apply(self, entry: EntryInfo, *, replayed: bool = False) -> None:
        """Apply an entry of the feed. A replayed one is history; the list decides what is open."""
        if self.feed_offset is None and entry.feed_offset > 1:
            self.first_seen_at = entry.recorded_at
        self.feed_offset = max(self.feed_offset or 0, entry.feed_offset)
        if entry.kind == "session.created":
            self._remember_task(entry.session_id, str(entry.body.get("task", "")))
        self._follow_run(entry)
        if entry.principal.type in _PEOPLE and is_act(entry.kind) and not _is_shown_above(entry):
            self.activity.append(entry)
        if not replayed:
            self.sessions_dirty.add(entry.session_id)
        if entry.kind == "wait.opened" and not replayed:
            self._opened(entry)
        elif entry.kind in ("wait.assigned", "wait.reminded") and not replayed:
            self._changed(entry)
        elif entry.kind in ("wait.voted", "wait.vote_withdrawn") and not replayed:
            self._voted(entry)
        elif entry.kind in _ENDINGS:
            self._ended(entry)
        elif entry.kind in ("run.cancelled", "session.cancelled"):
            self._cancelled(entry)

    @property
    def failed_and_blocked(self) -> tuple[int, int]:
        """Numbers of open sessions whose newest run failed, and of blocked ones, as last counted by the gateway."""
        counts = self.health.counts if self.health is not None else {}
        return counts.get("sessions_failed", 0), counts.get("sessions_blocked", 0)

    def people(self) -> list[str]:
        """Names of the assignees and claimants of open waits."""
        found = {wait.assignee for wait in self.waits.values() if wait.assignee}
        found |= {wait.claim.label for wait in self.waits.values() if wait.claim is not None}
        return sorted(found, key=str.casefold)

    def answered_today(self) -> str:
        """`12 answered today` (UTC), `12+` if the day's beginning was not read; empty for none."""
        today = self.now().date()
        if self.answered_on is None or self.answered_on[0] != today:
            return ""
        is_whole = self.ended_from is not None and self.ended_from <= day_of(self.now())
        seen = self.first_seen_at
        is_cut = not is_whole and seen is not None and seen.date() == today
        return f"{self.answered_on[1]}{'+' if is_cut else ''} answered today"

    def _count(self, wait: WaitInfo) -> None:
        """Count an ended wait as answered today, once, though both feed and list bring it."""
        known = self.ended.get(wait.id)
        by, at = wait.resolved_by, wait.resolved_at
        is_new = known is None or known.resolved_by is None
        is_answer = wait.status is WaitStatus.FULFILLED and wait.mode is not AnswerMode.DEFAULT
        if not (is_new and is_answer) or by is None or at is None or by.type not in _PEOPLE:
            return
        day, (last, count) = at.date(), self.answered_on or (date.min, 0)
        if day >= last:
            self.answered_on = day, count + 1 if day == last else 1

    def stuck_since(self, run_id: str) -> datetime | None:
        """Time since which a run is stuck: answered, but not gone on within `STUCK_AFTER`; None if it is not."""
        since = self.resolved.get(run_id)
        return since if since is not None and self.now() - since >= STUCK_AFTER else None

    def stuck(self) -> list[datetime]:
        """Times since which runs are stuck, longest first."""
        found = (self.stuck_since(run_id) for run_id in self.resolved)
        return sorted(since for since in found if since is not None)

    def _follow_run(self, entry: EntryInfo) -> None:
        if entry.run_id is None:
            return
        if entry.kind in _ENDINGS and entry.body.get("next") == "queued":
            self.resolved[entry.run_id] = entry.recorded_at
            while len(self.resolved) > STUCK_MAX:
                self.resolved.popitem(last=False)
        elif entry.kind.startswith("run."):
            self.resolved.pop(entry.run_id, None)

    def task_of(self, session_id: str) -> str:
        """The task of a session; empty if unknown."""
        return self._task_of.get(session_id, "")

    def _opened(self, entry: EntryInfo) -> None:
        wait = wait_from_entry(entry, self.task_of(entry.session_id))
        if wait is None or not wait.kind.asks_people or wait.id in self.ended:
            return
        if len(self.waits) >= WAITS_MAX:
            self.waits_cut = True
            return
        self.waits.setdefault(wait.id, wait)
        self._inbox = None

    def _changed(self, entry: EntryInfo) -> None:
        """Update the assignee or the next escalation step of a pending wait."""
        body = entry.body
        known = self.waits.get(str(body.get("wait_id")))
        if known is None:
            return
        parts = known.model_dump(by_alias=True)
        parts |= {
            name: body.get(name) for name in ("next_escalation", "next_escalation_at", "default_at")
        }
        if entry.kind == "wait.assigned":
            parts |= {"assignee": body.get("assignee"), "is_mine": None}
        with suppress(ValidationError):
            self.waits[known.id] = WaitInfo.model_validate(parts)
            self._inbox = None

    def _voted(self, entry: EntryInfo) -> None:
        """Update the votes of a pending wait from an entry, which names the other voters and the voter's answer."""
        body = entry.body
        known = self.waits.get(str(body.get("wait_id")))
        if known is None:
            return
        others = dict.fromkeys(body.get("voters", ()))
        votes = [vote.model_dump() for vote in known.votes if vote.person in others]
        voters = list(others)
        if entry.kind == "wait.voted":
            voter = body.get("person", {}).get("id")
            acting_for = body.get("delegation", {}).get("delegator")
            voters += [voter] if acting_for is None else [voter, person_key(acting_for)]
            said = {name: body.get(name) for name in ("data", "proposal")}
            said |= {"deputy_for": acting_for, "voted_at": entry.recorded_at}
            votes.append({"person": voter, **said})
        parts = known.model_dump(by_alias=True)
        with suppress(ValidationError):
            self.waits[known.id] = WaitInfo.model_validate(
                {**parts, "have": body.get("have"), "voters": voters, "votes": votes}
            )
            self._inbox = None

    def assigned(self, wait_id: str, assignee: str | None) -> None:
        """Set the assignee of a wait."""
        known = self.waits.get(wait_id)
        if known is not None:
            self.waits[wait_id] = known.model_copy(update={"assignee": assignee})
            self._inbox = None

    def _ended(self, entry: EntryInfo) -> None:
        wait_id = str(entry.body.get("wait_id", ""))
        known = self.waits.get(wait_id)
        if known is None and wait_id in self.ended:
            known = self.ended[wait_id]
            if known.status is not WaitStatus.PENDING and known.resolved_by is not None:
                return
        if known is None:
            known = WaitInfo(
                id=wait_id,
                session_id=entry.session_id,
                run_id=entry.run_id or "",
                task=self.task_of(entry.session_id),
                kind=WaitKind.INPUT if entry.body.get("stream") else WaitKind.TOKEN,
                stream=_text(entry.body.get("stream")),
                status=WaitStatus.PENDING,
                opened_at=entry.recorded_at,
            )
        update: dict[str, Any] = {
            "status": _ENDINGS[entry.kind],
            "resolved_at": entry.recorded_at,
            "resolved_by": entry.principal,
        }
        if entry.body.get("mode") == AnswerMode.DEFAULT.value:
            update["mode"] = AnswerMode.DEFAULT
        ended = known.model_copy(update=update)
        self._count(ended)
        self._end(ended)

    def _cancelled(self, entry: EntryInfo) -> None:
        """Credit the cancelled waits of a session, which the runtime wrote first, to the canceller."""
        for wait in list(self.ended.values()):
            by = wait.resolved_by
            is_its = wait.session_id == entry.session_id and wait.status is WaitStatus.CANCELLED
            if is_its and (by is None or by.type == "runtime"):
                self.ended[wait.id] = wait.model_copy(update={"resolved_by": entry.principal})

    def _end(self, wait: WaitInfo) -> None:
        self.waits.pop(wait.id, None)
        self._inbox = None
        if wait.resolved_at is None:
            wait = wait.model_copy(update={"resolved_at": self.now()})
        self.ended[wait.id] = wait
        while len(self.ended) > ENDED_MAX:
            old, _ = self.ended.popitem(last=False)
            self.own.discard(old)

    def _richer(self, wait: WaitInfo) -> WaitInfo:
        """Keep the body and schema read earlier, which lists leave out."""
        known = self.waits.get(wait.id)
        if known is None or known.json_schema is None:
            return wait
        kept = ("body", "evidence", "links", "json_schema", "initial", "on_decline", "votes")
        return wait.model_copy(update={name: getattr(known, name) for name in kept})

    def _remember_task(self, session_id: str, task: str) -> None:
        self._task_of[session_id] = task
        while len(self._task_of) > TASKS_OF_SESSIONS_MAX:
            self._task_of.popitem(last=False)


def _is_shown_above(entry: EntryInfo) -> bool:
    """True for the run that its session's start created; the entry before it says so already."""
    started_by = entry.body.get("started_by")
    is_start = isinstance(started_by, dict) and started_by.get("type") == "start"
    return entry.kind == "run.created" and is_start


def day_of(moment: datetime) -> datetime:
    """Start of the moment's day, UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


FORM_FIELDS = frozenset({"initial", "on_decline", "json_schema"})
"""Fields that only a form needs; lists lack them."""


def wait_from_entry(entry: EntryInfo, task: str) -> WaitInfo | None:
    """The wait of a `wait.opened` entry, without its schema; None if it can't be read."""
    body = entry.body
    parts: dict[str, Any] = {
        "id": body.get("wait_id"),
        "session_id": entry.session_id,
        "run_id": entry.run_id or "",
        "task": task,
        "status": WaitStatus.PENDING,
        "opened_at": entry.recorded_at,
    }
    known = WaitInfo.model_fields.keys() - FORM_FIELDS
    parts |= {name: body[name] for name in known if name in body}
    try:
        return WaitInfo.model_validate(parts)
    except ValidationError:
        return None


def _by_end(wait: WaitInfo) -> tuple[bool, float, str]:
    ends_at = wait.ends_at
    return (ends_at is None, ends_at.timestamp() if ends_at else 0.0, wait.id)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
