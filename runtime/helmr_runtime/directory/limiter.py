"""Gives permits of limits to hosts, in turn among keys (S-119, S-120); `core/limits.py` decides who gets one.

One call stays pending on each host, which reports the asks and returned permits of its code. Nothing is stored: a new
directory asks every host for its permits before it gives any, and hosts refuse permits of an earlier directory. A dead
host's permits come back with its end.

A session that only waits for its turn may leave memory. It keeps its place, its run is set aside on the work list, and
it comes back when its turn is near.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from helmr.errors import HelmrError
from helmr.limits import Limit
from helmr.wire.ids import new_id
from helmr_runtime.clock import Clock, Timer
from helmr_runtime.core.entries import iso
from helmr_runtime.core.limits import Ask, Permits, slack_s
from helmr_runtime.directory.hosts import BackgroundTasks, PoolHost, PoolTimings, sleep
from helmr_runtime.ports import PermitChange, PermitGiven, PermitLine, PermitNews
from helmr_runtime.rpc.calls import ActorDied, ActorNotFound

logger = logging.getLogger(__name__)

KEYS_SHOWN = 20
"""Keys of a limit that `limits` names, those with the most asks."""

NEXT_PART = 4
"""Sessions whose turn is near keep at most this part (one in so many) of the places in memory."""

PLACES_FOR_S = 0.5
"""Age in seconds up to which counted places are reused."""

FORGET_EVERY_S, FORGET_AFTER_S = 5.0, 10.0
"""Seconds between checks for places of sessions that no longer ask, and seconds until such a place is given up."""


@dataclass(slots=True, eq=False)
class _Ticket:
    """A ticket under which a permit is asked for.

    Attributes:
        host: The host that has its session in memory; None if it has left.
        since: Time of its first ask.
        use_by: Time until which it may use its permit.
        seen_s: Time when its session, having left memory, was last seen on the work list.
    """

    id: str
    limit: str
    session_id: str
    op: int
    key: str
    host: str | None
    since: datetime
    seen_s: float = 0.0
    use_by: datetime | None = None


class Limiter:
    """The limits of a runtime; the pool notifies it of hosts that come and go.

    Args:
        limits: Limits that bound something, by name.
        on_turn: Called with a session that is no longer aside: its turn is near, or it waits for none.
        on_passed: Called with a session whose turn is no longer near: it has come, or others are before it.
        is_on_list: True if the session's run is on the ledger's work list.
        room: Returns the number of sessions whose code all hosts have room for.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit],
        *,
        clock: Clock,
        timings: PoolTimings,
        on_turn: Callable[[str], None],
        on_passed: Callable[[str], None],
        is_on_list: Callable[[str], bool],
        room: Callable[[], int],
    ) -> None:
        self._id = new_id("limiter")
        self._clock = clock
        self._timings = timings
        self._on_turn = on_turn
        self._on_passed = on_passed
        self._is_on_list = is_on_list
        self._room = room
        now_s = self._now_s()
        self._permits = {name: Permits(limit, now_s) for name, limit in limits.items()}
        self._tickets: dict[str, _Ticket] = {}
        self._asking: dict[str, set[str]] = {}
        """Tickets without a permit, by session."""
        self._left: dict[tuple[str, int], str] = {}
        """Tickets of sessions that are not in memory, by session and op."""
        self._next: set[str] = set()
        """Sessions whose turn is near and which should be in memory; they take a part of the room at most."""
        self._near: set[str] = set()
        """Those of them that have left memory and should come back."""
        self._hosts: dict[str, PoolHost] = {}
        self._outbox: dict[str, list[PermitGiven]] = {}
        self._unheard: set[str] | None = set()
        """Hosts of an earlier directory that have not reported their permits; None once nothing waits for them."""
        self._has_started = False
        self._is_due = False
        self._timer: Timer | None = None
        self._places: tuple[float, dict[str, int]] = (0.0, {})
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._tasks = BackgroundTasks()

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Give permits once all hosts of an earlier directory, now known, have reported theirs."""
        self._has_started = True
        self._tasks.start(self._forget_forever())
        self._look_soon()

    async def stop(self) -> None:
        """Stop giving permits."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.stop()

    def on_ready(self, host: PoolHost) -> None:
        """A host has started, or an earlier directory left it behind."""
        self._hosts[host.name] = host
        if self._unheard is not None and not self._has_started:
            self._unheard.add(host.name)
        self._polls[host.name] = self._tasks.start(self._poll(host))

    def on_crash(self, host: PoolHost) -> None:
        """A host is dead: its permits come back, and its asks are dropped."""
        self._hosts.pop(host.name, None)
        self._outbox.pop(host.name, None)
        poll = self._polls.pop(host.name, None)
        if poll is not None and poll is not asyncio.current_task():
            poll.cancel()
        self._heard(host.name)
        self._drop([one for one in self._tickets.values() if one.host == host.name])
        self._look_soon()

    def _heard(self, name: str) -> None:
        if self._unheard is not None:
            self._unheard.discard(name)

    async def _poll(self, host: PoolHost) -> None:
        known = -1
        while host.is_alive:
            try:
                news = await host.port.permit_news(self._id, known)
            except (ActorDied, ActorNotFound):
                return  # the pool notices it
            except HelmrError as error:
                logger.info("permits of %s: %s", host.name, error)
                await sleep(self._clock, self._timings.retry_s)
                continue
            known = news.version
            self._take(host, news)

    # --- reports of hosts -------------------------------------------------------------------------

    def _take(self, host: PoolHost, news: PermitNews) -> None:
        if news.is_whole:
            named = {line.ticket for line in news.lines}
            mine = [one for one in self._tickets.values() if one.host == host.name]
            self._drop([one for one in mine if one.id not in named])
            self._heard(host.name)
        for line in news.lines:
            permits = self._permits.get(line.limit)
            if permits is not None:
                self._take_line(host, permits, line)
        self._look_soon()

    def _take_line(self, host: PoolHost, permits: Permits, line: PermitLine) -> None:
        known = self._tickets.get(line.ticket)
        match line.change:
            case PermitChange.CLOSED if line.until is not None:
                permits.close(self._now_s() + (line.until - self._clock.now()).total_seconds())
            case PermitChange.ASKED if known is None:
                self._ask(host, permits, line)
            case PermitChange.ASKED if known is not None and line.ticket in permits.held:
                self._give(known, known.use_by)  # the host listened to another, and missed it
            case PermitChange.HELD:
                if known is None:
                    known = self._tickets[line.ticket] = self._ticket(host, line)
                self._asks_no_more(known)
                permits.is_held(line.ticket)
            case PermitChange.LEFT if known is not None:
                permits.leave(line.ticket)
                if line.ticket in permits:
                    earlier = self._tickets.get(self._left.get((known.session_id, known.op), ""))
                    if earlier is not None and earlier is not known:  # a host reported late
                        self._drop([earlier])
                    known.host, known.seen_s = None, self._now_s()
                    self._asking.setdefault(known.session_id, set()).add(known.id)
                    self._left[known.session_id, known.op] = known.id
                else:
                    self._drop([known])
            case PermitChange.ENDED if known is not None:
                self._drop([known])

    def _ticket(self, host: PoolHost, line: PermitLine) -> _Ticket:
        return _Ticket(
            line.ticket,
            line.limit,
            line.session_id,
            line.op,
            line.key,
            host.name,
            self._clock.now(),
        )

    def _ask(self, host: PoolHost, permits: Permits, line: PermitLine) -> None:
        ticket = self._tickets[line.ticket] = self._ticket(host, line)
        self._asking.setdefault(line.session_id, set()).add(line.ticket)
        before = self._tickets.get(self._left.pop((line.session_id, line.op), ""))
        self._near.discard(line.session_id)
        if before is not None and before.limit == line.limit:
            permits.come_back(before.id, line.ticket)
            ticket.since = before.since
            del self._tickets[before.id]
            self._asking[line.session_id].discard(before.id)
            return
        if before is not None:
            self._drop([before])
        permits.ask(Ask(line.ticket, line.key, line.goes_on))

    def _drop(self, tickets: Iterable[_Ticket]) -> None:
        """Remove tickets with their asks and permits."""
        for one in tickets:
            self._permits[one.limit].withdraw(one.id)
            self._tickets.pop(one.id, None)
            if self._left.get((one.session_id, one.op)) == one.id:
                del self._left[one.session_id, one.op]
            self._asks_no_more(one)

    def _asks_no_more(self, ticket: _Ticket) -> None:
        asking = self._asking.get(ticket.session_id)
        if asking is None:
            return
        asking.discard(ticket.id)
        if not asking:
            del self._asking[ticket.session_id]
            self._near.discard(ticket.session_id)
            self._on_turn(ticket.session_id)

    # --- giving -----------------------------------------------------------------------------------

    def _now_s(self) -> float:
        """Return the time by a clock that is never set: a jump forward would fill buckets at once."""
        return self._clock.elapsed_s()

    def _look_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Give free permits, bring sessions with a near turn back, and check again when time allows more."""
        self._is_due = False
        if not self._has_started or self._unheard:
            return
        self._unheard = None
        now, now_s = self._clock.now(), self._now_s()
        next_s: list[float] = []
        for permits in self._permits.values():
            slack = slack_s(permits.limit)
            use_by = now + timedelta(seconds=slack) if permits.limit.per is not None else None
            for ticket in permits.give(now_s):
                self._give(self._tickets[ticket], use_by)
            at_s = permits.next_s(now_s)
            if at_s is not None:
                next_s.append(at_s)
        self._bring_back()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_s:
            at = now + timedelta(seconds=max(0.0, min(next_s) - now_s), milliseconds=1)
            self._timer = self._clock.call_at(at, self._look_soon)

    def _bring_back(self) -> None:
        waited_for = [permits for permits in self._permits.values() if len(permits)]
        most = max(1, self._room() // NEXT_PART // max(1, len(waited_for)))
        ahead = [t for permits in waited_for for t in islice(permits.ahead(), most)]
        before, self._next = self._next, {self._tickets[ticket].session_id for ticket in ahead}
        for session_id in sorted(before - self._next):
            self._on_passed(session_id)
        for ticket in ahead:
            one = self._tickets[ticket]
            if one.host is None and one.session_id not in self._near:
                self._near.add(one.session_id)
                self._on_turn(one.session_id)

    def _give(self, ticket: _Ticket, use_by: datetime | None) -> None:
        self._asks_no_more(ticket)
        ticket.use_by = use_by
        assert ticket.host is not None, "it was ready"
        box = self._outbox.setdefault(ticket.host, [])
        box.append(PermitGiven(ticket=ticket.id, use_by=use_by))
        host = self._hosts.get(ticket.host)
        if len(box) == 1 and host is not None:
            self._tasks.start(self._send(host, box))

    async def _send(self, host: PoolHost, box: list[PermitGiven]) -> None:
        """Send a host its permits. An unanswered call is repeated, which is harmless if the host got it."""
        while box and host.is_alive and self._outbox.get(host.name) is box:
            given = tuple(box)
            try:
                await host.port.give_permits(self._id, given)
            except (ActorDied, ActorNotFound):
                return
            except HelmrError as error:
                logger.info("permits for %s: %s", host.name, error)
                await sleep(self._clock, self._timings.retry_s)
                continue
            del box[: len(given)]

    async def _forget_forever(self) -> None:
        while True:
            await sleep(self._clock, FORGET_EVERY_S)
            now_s, lost = self._now_s(), []
            for ticket_id in self._left.values():
                one = self._tickets[ticket_id]
                if self._is_on_list(one.session_id):
                    one.seen_s = now_s
                elif now_s - one.seen_s > FORGET_AFTER_S:
                    lost.append(one)
            if lost:
                self._drop(lost)
                self._look_soon()  # the next may be others

    # --- questions of others ----------------------------------------------------------------------

    def is_next(self, session_id: str) -> bool:
        """True if the session's turn is near, so that it stays in memory."""
        return session_id in self._next

    def is_aside(self, session_id: str) -> bool:
        """True if the session waits for its turn and should not be resumed yet."""
        return session_id in self._asking and session_id not in self._near

    def waiting(self) -> dict[str, int]:
        """Return the number of waiting asks, by limit."""
        return {name: len(permits) for name, permits in self._permits.items()}

    def to_json(self) -> list[dict[str, Any]]:
        """Return the items of `Directory.limits`."""
        found = []
        now, now_s = self._clock.now(), self._now_s()
        for name, permits in self._permits.items():
            counts = sorted(permits.counts().items(), key=lambda one: (-one[1], one[0]))
            asking = [
                t.since for t in self._tickets.values() if t.limit == name and t.id in permits
            ]
            closed_s = permits.closed_until_s - now_s
            closed = now + timedelta(seconds=closed_s) if closed_s > 0 else None
            found.append(
                {
                    "name": name,
                    "at_once": permits.limit.at_once,
                    "per": permits.limit.per,
                    "within_s": permits.limit.within_s or None,
                    "in_use": len(permits.held),
                    "begun": permits.begun(now_s),
                    "waiting": len(permits),
                    "oldest_at": iso(min(asking)) if asking else None,
                    "closed_until": iso(closed) if closed is not None else None,
                    "keys": [{"key": key, "waiting": n} for key, n in counts[:KEYS_SHOWN]],
                }
            )
        return found

    def queued(self, session_ids: Sequence[str]) -> dict[str, Any]:
        """Implements `Directory.queued`; a session that waits for several limits is listed with its first ask."""
        found: dict[str, Any] = {}
        for session_id in session_ids:
            tickets = [self._tickets[one] for one in self._asking.get(session_id, ())]
            if tickets:
                one = min(tickets, key=lambda ticket: ticket.since)
                place = self._place(one.id)
                if place is not None:
                    found[session_id] = {
                        "limit": one.limit,
                        "place": place,
                        "key": one.key,
                        "since": iso(one.since),
                    }
        return found

    def _place(self, ticket: str) -> int | None:
        at_s, places = self._places
        if self._now_s() - at_s > PLACES_FOR_S or ticket not in places:
            places = {}
            for permits in self._permits.values():
                places.update(permits.places())
            self._places = (self._now_s(), places)
        return places.get(ticket)
