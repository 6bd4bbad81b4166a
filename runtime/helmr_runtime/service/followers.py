"""How far the followers of the ledger are, as far as this process has heard of them (S-68)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import iso
from helmr_runtime.service.degraded import State, Trouble

BEHIND_FOR = timedelta(seconds=60)
"""A follower is behind that was not at the newest entry for so long, or was not heard of."""

FORGOTTEN_AFTER = timedelta(days=1)
FOLLOWERS_MAX = 20
"""Followers watched; one more takes the place of the one heard of longest ago."""


@dataclass(frozen=True, slots=True)
class Followed:
    """One follower.

    Attributes:
        offset: Feed offset of its last entry.
        lag: Entries behind that, when it was heard of.
        seen_at: When it was.
        level_at: When it last had all.
    """

    offset: int
    lag: int
    seen_at: datetime
    level_at: datetime


class Followers:
    """Those that have asked for entries under a name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Followed] = {}

    def seen(self, name: str, offset: int, head: int) -> None:
        """It asked for what is behind that offset."""
        now = self._clock.now()
        before = self._known.pop(name, None)
        level_at = now if offset >= head or before is None else before.level_at
        self._known[name] = Followed(offset, max(0, head - offset), now, level_at)
        while len(self._known) > FOLLOWERS_MAX:
            del self._known[next(iter(self._known))]

    def all(self) -> dict[str, Followed]:
        """Those heard of within a day, by name."""
        since = self._clock.now() - FORGOTTEN_AFTER
        return {name: one for name, one in sorted(self._known.items()) if one.seen_at >= since}

    def to_json(self) -> dict[str, dict[str, Any]]:
        """By name: `{offset, lag, seen_at}`."""
        return {
            name: {"offset": one.offset, "lag": one.lag, "seen_at": iso(one.seen_at)}
            for name, one in self.all().items()
        }

    def troubles(self) -> list[Trouble]:
        """Those that are behind."""
        now = self._clock.now()
        found = []
        for name, one in self.all().items():
            if now - one.seen_at > BEHIND_FOR:
                silent_s = (now - one.seen_at).total_seconds()
                text = f"follower {name} was not heard of for {silent_s:.0f} s; it has offset {one.offset}"
            elif now - one.level_at > BEHIND_FOR:
                behind_s = (now - one.level_at).total_seconds()
                text = f"follower {name} is {one.lag} entries behind, for {behind_s:.0f} s"
            else:
                continue
            found.append(Trouble(State.FOLLOWER_BEHIND, text))
        return found
