"""Decides the next holder of a permit under a limit (S-119). Pure: times are seconds that the caller passes.

A permit is asked for under a ticket. It is given while fewer than `at_once` are held and the limit's token bucket is
not empty. The bucket starts empty, so a restart need not remember it, and fills slowly enough that no period of
`within` sees more than `per` beginnings. A permit may be used up to `slack_s` after it was given; the bucket allows for
that.

Keys take turns; within a key, the first to ask is first. Tickets that go on after a wait come before new ones. A ticket
whose session is not in memory keeps its place and is passed over until it is ready.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from helmr.limits import Limit

BURST_PART = 100
"""A bucket holds a hundredth of `per`: the burst allowed after a pause, which is taken off the rate."""

SLACK_PART, SLACK_MAX_S = 50, 0.5
"""A permit is used within a fiftieth of `within`, at most half a second; this delay is taken off the rate."""

COUNTED_PARTS = 50
"""Recent beginnings are counted in this many parts of `within`, so a count misses at most a fiftieth of that time."""

AHEAD_S = 2.0
AHEAD_MIN, AHEAD_MAX = 4, 100
"""Bounds of how many of the next tickets are loaded into memory before their turn."""

EDGE = 1.0 - 1e-9
"""Keeps rounding on the safe side of the bound."""


def slack_s(limit: Limit) -> float:
    """Return the seconds in which a permit must be used; infinite if nothing counts beginnings."""
    return min(SLACK_MAX_S, limit.within_s / SLACK_PART) if limit.per is not None else math.inf


def burst_of(limit: Limit) -> int:
    """Tokens that the bucket holds."""
    return max(1, (limit.per or 0) // BURST_PART)


def rate_of(limit: Limit) -> float:
    """Tokens a second.

    Beginnings in any period of `within` were given in less than `within + slack_s`. That takes at most `burst` tokens
    and those that the time has added, together less than `per + 1`.
    """
    assert limit.per is not None
    return (limit.per + 1 - burst_of(limit)) / (limit.within_s + slack_s(limit)) * EDGE


class TokenBucket:
    """Tokens of a limit that counts beginnings."""

    def __init__(self, limit: Limit, now_s: float) -> None:
        self._burst = float(burst_of(limit))
        self._rate = rate_of(limit)
        self._tokens = 0.0
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one, if there is one."""
        self._fill(now_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def next_s(self, now_s: float) -> float:
        """Return the time at which there is a token."""
        self._fill(now_s)
        return now_s + max(0.0, 1.0 - self._tokens) / self._rate

    def _fill(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self._at_s)  # a clock set back adds none
        self._tokens = min(self._burst, self._tokens + passed_s * self._rate)
        self._at_s = now_s


class RecentCount:
    """Counts events of the last `within_s` seconds; the count is never too high."""

    def __init__(self, within_s: float) -> None:
        self._part_s = within_s / COUNTED_PARTS
        self._parts: dict[int, int] = {}

    def add(self, now_s: float) -> None:
        """Count one event."""
        part = int(now_s // self._part_s)
        if part not in self._parts:
            self._forget(part)
            self._parts[part] = 0
        self._parts[part] += 1

    def count(self, now_s: float) -> int:
        """Return the current count."""
        self._forget(int(now_s // self._part_s))
        return sum(self._parts.values())

    def _forget(self, now: int) -> None:
        """Drop parts that are too old, and those that a clock set back has put into the future."""
        self._parts = {
            part: count for part, count in self._parts.items() if now - COUNTED_PARTS < part <= now
        }


@dataclass(slots=True)
class Ask:
    """Someone asks for a permit.

    Attributes:
        ticket: Its name.
        key: The key whose turn it takes.
        goes_on: It has begun before and was waiting for something else.
        is_ready: A permit that is given would be used at once.
        number: Position in the order of asking.
    """

    ticket: str
    key: str
    goes_on: bool = False
    is_ready: bool = True
    number: int = 0


class TurnQueue:
    """Asks in turn among keys."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[int, Ask]] = {}
        """Asks by key and number, in the order of asking; the key with the next turn is first."""
        self._ready: dict[str, set[int]] = {}
        self._count = 0

    def add(self, ask: Ask, *, at_front: bool = False) -> None:
        """Add an ask behind those of its key, or before all."""
        self._count += 1
        ask.number = -self._count if at_front else self._count
        asks = self._keys.pop(ask.key, {}) if at_front else self._keys.get(ask.key, {})
        if at_front:
            self._keys = {ask.key: {ask.number: ask, **asks}, **self._keys}
        else:
            asks[ask.number] = ask
            self._keys[ask.key] = asks
        self.set_ready(ask, ask.is_ready)

    def remove(self, ask: Ask) -> None:
        """Remove an ask."""
        self.set_ready(ask, False)
        asks = self._keys[ask.key]
        del asks[ask.number]
        if not asks:
            del self._keys[ask.key]

    def set_ready(self, ask: Ask, is_ready: bool) -> None:
        """Note whether it would use a permit at once; it keeps its place."""
        ask.is_ready = is_ready
        if is_ready:
            self._ready.setdefault(ask.key, set()).add(ask.number)
        elif (ready := self._ready.get(ask.key)) is not None:
            ready.discard(ask.number)
            if not ready:
                del self._ready[ask.key]

    def first(self) -> Ask | None:
        """Return the ready ask whose turn it is."""
        if not self._ready:
            return None
        key = next(key for key in self._keys if key in self._ready)
        return self._keys[key][min(self._ready[key])]

    def take(self, ask: Ask) -> None:
        """Remove an ask that got its turn; its key goes to the end."""
        self.remove(ask)
        if (rest := self._keys.pop(ask.key, None)) is not None:
            self._keys[ask.key] = rest

    def __iter__(self) -> Iterator[Ask]:
        """Iterate in the order of turns. Do not change the queue meanwhile."""
        rounds = [iter(asks.values()) for asks in self._keys.values()]
        while rounds:
            going_on = []
            for asks in rounds:
                ask = next(asks, None)
                if ask is not None:
                    yield ask
                    going_on.append(asks)
            rounds = going_on

    def counts(self) -> dict[str, int]:
        """Return the number of asks by key."""
        return {key: len(asks) for key, asks in self._keys.items()}


class Permits:
    """The permits of one limit: their holders, the tickets that ask, and the time until which it is closed.

    Attributes:
        held: Tickets that hold a permit, with their asks, if known.
        closed_until_s: No permit is given before this time.
    """

    def __init__(self, limit: Limit, now_s: float) -> None:
        self.limit = limit
        self.held: dict[str, Ask | None] = {}
        self.closed_until_s = 0.0
        self._asks: dict[str, Ask] = {}
        self._going_on, self._beginning = TurnQueue(), TurnQueue()
        self._bucket = TokenBucket(limit, now_s) if limit.per is not None else None
        self._recent = RecentCount(limit.within_s) if limit.per is not None else None

    def _turns(self, ask: Ask) -> TurnQueue:
        return self._going_on if ask.goes_on else self._beginning

    def __len__(self) -> int:
        return len(self._asks)

    def __contains__(self, ticket: str) -> bool:
        """True if the ticket asks."""
        return ticket in self._asks

    def ask(self, ask: Ask) -> None:
        """Queue an ask; does nothing if its ticket asks already or holds a permit."""
        if ask.ticket not in self._asks and ask.ticket not in self.held:
            self._asks[ask.ticket] = ask
            self._turns(ask).add(ask)

    def is_held(self, ticket: str) -> None:
        """Note a permit that was given elsewhere."""
        self.withdraw(ticket)
        self.held[ticket] = None

    def withdraw(self, ticket: str) -> None:
        """Remove a ticket's ask and its permit."""
        self.held.pop(ticket, None)
        ask = self._asks.pop(ticket, None)
        if ask is not None:
            self._turns(ask).remove(ask)

    def leave(self, ticket: str) -> None:
        """The ticket's session leaves memory and keeps its place; with an unused permit it becomes the first."""
        unused = self.held.pop(ticket, None)
        if unused is not None:
            self._asks[ticket] = unused
            self._turns(unused).add(unused, at_front=True)
        ask = self._asks.get(ticket)
        if ask is not None:
            self._turns(ask).set_ready(ask, False)

    def come_back(self, ticket: str, as_ticket: str) -> None:
        """The session is in memory again, under another ticket."""
        ask = self._asks.pop(ticket)
        ask.ticket = as_ticket
        self._asks[as_ticket] = ask
        self._turns(ask).set_ready(ask, True)

    def close(self, until_s: float) -> None:
        """Give no permit before this time."""
        self.closed_until_s = max(self.closed_until_s, until_s)

    def give(self, now_s: float) -> list[str]:
        """Give the permits that are free now; return the tickets that got one."""
        given: list[str] = []
        while (ask := self._first()) is not None and self._has_room(now_s):
            if self._bucket is not None and not self._bucket.take(now_s):
                break
            del self._asks[ask.ticket]
            self._turns(ask).take(ask)
            self.held[ask.ticket] = ask
            if self._recent is not None:
                self._recent.add(now_s)
            given.append(ask.ticket)
        return given

    def next_s(self, now_s: float) -> float | None:
        """Return the time at which `give` can give a permit if nothing else happens; None if something must happen
        first."""
        if self._first() is None or not self._has_room(max(now_s, self.closed_until_s)):
            return None
        at_s = self._bucket.next_s(now_s) if self._bucket is not None else now_s
        return max(at_s, self.closed_until_s)

    def _first(self) -> Ask | None:
        return self._going_on.first() or self._beginning.first()

    def _has_room(self, now_s: float) -> bool:
        if now_s < self.closed_until_s:
            return False
        return self.limit.at_once is None or len(self.held) < self.limit.at_once

    # --- looking ----------------------------------------------------------------------------------

    def ahead(self) -> list[str]:
        """Return the next tickets, whose sessions should be in memory when their turn comes."""
        soon = self.limit.at_once or 0
        if self.limit.per is not None:
            in_time = math.ceil(rate_of(self.limit) * AHEAD_S) + burst_of(self.limit)
            soon = min(soon, in_time) if soon else in_time
        return [one.ticket for one in islice(self._in_turn(), min(AHEAD_MAX, soon + AHEAD_MIN))]

    def places(self) -> dict[str, int]:
        """Return each ticket's place, from 1."""
        return {one.ticket: place for place, one in enumerate(self._in_turn(), 1)}

    def _in_turn(self) -> Iterator[Ask]:
        yield from self._going_on
        yield from self._beginning

    def begun(self, now_s: float) -> int | None:
        """Return the permits given in the last `within`; None if the limit does not count beginnings."""
        return self._recent.count(now_s) if self._recent is not None else None

    def counts(self) -> dict[str, int]:
        """Return the number of asks by key."""
        found = self._beginning.counts()
        for key, count in self._going_on.counts().items():
            found[key] = found.get(key, 0) + count
        return found
