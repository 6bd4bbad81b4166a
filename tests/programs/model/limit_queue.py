"""Permits of a limit once more, from the rules alone: lists searched from the front (S-119, S-120).

Nothing of the runtime is imported. Times are whole milliseconds. What is given depends on a bucket whose arithmetic is
no rule; the model is told how many were given and says whom it must have been, and whether that many may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Waiting:
    """Someone who asks.

    Attributes:
        goes_on: They have begun before.
        is_ready: They are in memory.
    """

    ticket: str
    key: str
    goes_on: bool
    is_ready: bool = True


@dataclass
class LimitQueue:
    """Who holds a permit and who asks, in the order of their turns."""

    at_once: int | None
    per: int | None
    within_ms: int
    now_ms: int = 0
    held: dict[str, Waiting | None] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    """In the order of asking; what was given back unused is first."""
    keys: dict[bool, list[str]] = field(default_factory=lambda: {True: [], False: []})
    """Of those that go on and of those that begin: whose turn is next."""
    given_ms: list[int] = field(default_factory=list)
    closed_until_ms: int = 0

    def asks(self, ticket: str) -> bool:
        """It has no permit and wants one."""
        return any(one.ticket == ticket for one in self.waiting)

    def ask(self, ticket: str, key: str, *, goes_on: bool) -> None:
        """Behind all others of its key."""
        if ticket not in self.held and not self.asks(ticket):
            self.waiting.append(Waiting(ticket, key, goes_on))
            if key not in self.keys[goes_on]:
                self.keys[goes_on].append(key)

    def is_held(self, ticket: str) -> None:
        """Another has given it one."""
        self.end(ticket)
        self.held[ticket] = None

    def end(self, ticket: str) -> None:
        """It wants none and has none."""
        self.held.pop(ticket, None)
        self.waiting = [one for one in self.waiting if one.ticket != ticket]
        self._forget_keys()

    def leave(self, ticket: str) -> None:
        """Out of memory: it keeps its place; with a permit that it has not used, the first."""
        unused = self.held.pop(ticket, None)
        if unused is not None:
            self.waiting.insert(0, unused)
            keys = self.keys[unused.goes_on]
            self.keys[unused.goes_on] = [unused.key, *(one for one in keys if one != unused.key)]
        for one in self.waiting:
            if one.ticket == ticket:
                one.is_ready = False

    def come_back(self, ticket: str, as_ticket: str) -> None:
        """In memory again."""
        for one in self.waiting:
            if one.ticket == ticket:
                one.ticket, one.is_ready = as_ticket, True

    def close(self, until_ms: int) -> None:
        """None is given before."""
        self.closed_until_ms = max(self.closed_until_ms, until_ms)

    def give(self, count: int) -> list[str]:
        """So many are given now: who gets them.

        Raises:
            AssertionError: They may not be.
        """
        given = []
        for _ in range(count):
            one = self.next()
            assert one is not None, "no one is ready"
            assert self.now_ms >= self.closed_until_ms, "it is closed"
            assert self.at_once is None or len(self.held) < self.at_once, "all are held"
            self.given_ms.append(self.now_ms)
            lately = [at for at in self.given_ms if at > self.now_ms - self.within_ms]
            assert self.per is None or len(lately) <= self.per, "too many began"
            self.waiting.remove(one)
            self.held[one.ticket] = one
            keys = self.keys[one.goes_on]
            keys.remove(one.key)
            keys.append(one.key)
            self._forget_keys()
            given.append(one.ticket)
        return given

    def next(self) -> Waiting | None:
        """Whose turn it is."""
        for goes_on in (True, False):
            for key in self.keys[goes_on]:
                for one in self.waiting:
                    if (one.goes_on, one.key, one.is_ready) == (goes_on, key, True):
                        return one
        return None

    @property
    def could_give(self) -> bool:
        """Only the count of beginnings may be why none is given."""
        is_full = self.at_once is not None and len(self.held) >= self.at_once
        return self.next() is not None and self.now_ms >= self.closed_until_ms and not is_full

    def places(self) -> dict[str, int]:
        """As people see them: a turn for each key, those that go on first."""
        found: dict[str, int] = {}
        for goes_on in (True, False):
            left = [one for one in self.waiting if one.goes_on is goes_on]
            while left:
                for key in self.keys[goes_on]:
                    first = next((one for one in left if one.key == key), None)
                    if first is not None:
                        left.remove(first)
                        found[first.ticket] = len(found) + 1
        return found

    def _forget_keys(self) -> None:
        """A key for which no one asks has no turn."""
        for goes_on, keys in self.keys.items():
            asking = {one.key for one in self.waiting if one.goes_on is goes_on}
            self.keys[goes_on] = [key for key in keys if key in asking]
