"""Orders a review's waits, and keeps a list still under the person who reads it. Pure.

`ReviewQueue` yields one wait after the other; waits that another person has claimed come last. `KeyedList` holds shown
rows and known rows: known rows change freely, shown rows only by `merge`, which keeps the row under the cursor. Rows
already shown may be redrawn in place at any time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from helmr.models import ClaimInfo

CLAIM_RETRY = timedelta(seconds=30)
FORM_CLAIM_S = 120.0
"""Claim of an open form, in seconds: a window closed without release blocks the wait no longer than this."""
FORM_RENEW_BEFORE = timedelta(seconds=75)
"""Time left at a renewal; it outlasts a short outage of the gateway."""
RENEW_BEFORE = timedelta(minutes=10)
"""Time left at the renewal of a claim made by key, which lasts a quarter of an hour."""


class ReviewQueue:
    """The waits that are asked one after the other.

    Args:
        wait_ids: The first ones.
        listed: Returns the ids in the list now; new ones are asked last.
        is_claimed: Returns True if someone else has claimed this wait, which then comes last.
        returned: Waits whose answer was not sent after all: they are asked again.
    """

    def __init__(
        self,
        wait_ids: Sequence[str],
        listed: Callable[[], Sequence[str]] = tuple,
        is_claimed: Callable[[str], bool] = lambda wait_id: False,
        returned: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._left = deque(wait_ids)
        self._listed = listed
        self._is_claimed = is_claimed
        self._returned = returned
        self._known = {*wait_ids, *listed()}
        self.asked = 0

    @property
    def count(self) -> int:
        """Number of waits, asked ones included."""
        return self.asked + len(self._left)

    def next(self, open_ids: Collection[str]) -> str | None:
        """The next one that is still open; None if there is none."""
        wait_id = self.coming(open_ids)
        if wait_id is not None:
            self._left.remove(wait_id)
            self.asked += 1
        return wait_id

    def coming(self, open_ids: Collection[str]) -> str | None:
        """Return the wait that `next` would return."""
        came = [one for one in self._listed() if one in open_ids and one not in self._known]
        self._known.update(came)
        self._left.extend(came)
        self._left.extend(one for one in self._returned() if one not in self._left)
        self._left = deque(one for one in self._left if one in open_ids)
        free = (one for one in self._left if not self._is_claimed(one))
        return next(free, self._left[0] if self._left else None)

    def leave_out(self, wait_id: str) -> None:
        """Remove a wait from the review and its count."""
        if wait_id in self._left:
            self._left.remove(wait_id)
        else:
            self.asked -= 1

    def later(self, wait_id: str) -> None:
        """Put a wait that `next` returned behind the others."""
        self.asked -= 1
        self._left.append(wait_id)

    def again(self, *wait_ids: str) -> None:
        """Put these waits first, in this order."""
        self._left.extendleft(reversed(wait_ids))


@dataclass(frozen=True, slots=True)
class Pending:
    """Changes that a merge would make."""

    added: int = 0
    gone: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.gone)

    def text(self) -> str:
        """`2 new, 1 gone`; empty when there is nothing."""
        parts = [f"{self.added} new"] if self.added else []
        if self.gone:
            parts.append(f"{self.gone} gone")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Merge:
    """The outcome of a merge: the keys in order and where the cursor belongs."""

    keys: tuple[str, ...]
    cursor: str | None


@dataclass(slots=True)
class KeyedList:
    """Shown keys in order, and the target that the next merge makes of them."""

    shown: list[str] = field(default_factory=list)
    target: list[str] = field(default_factory=list)

    def offer(self, keys: Iterable[str]) -> Pending:
        """Set the target of the next merge; returns what that would change."""
        self.target = list(dict.fromkeys(keys))
        return self.pending()

    def pending(self) -> Pending:
        """Return the changes that a merge would make now; order alone is not a change."""
        shown, target = set(self.shown), set(self.target)
        return Pending(len(target - shown), len(shown - target))

    def gone(self) -> set[str]:
        """Return the shown keys that the next merge removes."""
        return set(self.shown) - set(self.target)

    def take_away(self, keys: Iterable[str], cursor: str | None) -> Merge:
        """Remove these keys from the shown ones at once; nothing else changes."""
        gone = set(keys)
        before, self.shown = self.shown, [key for key in self.shown if key not in gone]
        return Merge(tuple(self.shown), anchor(before, self.shown, cursor))

    def merge(self, cursor: str | None) -> Merge:
        """Show the target. The cursor stays on its row; if that is gone, it goes to the next that was below."""
        before, self.shown = self.shown, list(self.target)
        return Merge(tuple(self.shown), anchor(before, self.shown, cursor))


def anchor(before: Sequence[str], after: Sequence[str], cursor: str | None) -> str | None:
    """The key the cursor belongs on: the same, else the next survivor below, else above, else the first."""
    kept = set(after)
    if cursor in kept:
        return cursor
    if cursor is not None and cursor in before:
        place = list(before).index(cursor)
        for key in [*before[place + 1 :], *reversed(before[:place])]:
            if key in kept:
                return key
    return after[0] if after else None


class ClaimKey(StrEnum):
    """Effects of the key that claims a wait."""

    CLAIM = "claim"
    RELEASE = "release"
    TAKE_OVER = "take over"
    WARN = "warn"
    """Someone else has claimed it: the first press warns, the next takes it over."""


@dataclass(slots=True)
class ClaimState:
    """Claims on one wait: this person's and another's (S-81).

    An open form claims its wait, renews that, and releases it when it is left, unless the person claimed the wait
    before or by a key. Another's claim is never overridden unless the person has seen it.
    """

    me: str | None
    own: ClaimInfo | None = None
    overrides: ClaimInfo | None = None
    """Another's claim that the person has seen: sends from then on override it."""
    warned_of: str | None = None
    """Holder of the claim for which a press of the key was refused; the next press takes it over."""
    _stays: bool = False
    """The claim was made before the form was opened, or by key."""
    _due_at: datetime | None = None
    """Time of the next try to claim: a renewal, or a retry."""

    def opened(self, claim: ClaimInfo | None) -> None:
        """Record the claim of a wait just opened; a claim made for the form ends with the form."""
        is_own = claim is not None and claim.on_behalf_of == self.me
        self._stays = is_own and self.own is None

    @property
    def lasts_s(self) -> float | None:
        """Lifetime of the form's next claim, in seconds; None for that of a claim made by key."""
        return None if self._stays else FORM_CLAIM_S

    def tries(self, now: datetime) -> None:
        """Record a try to claim; the next is due after `CLAIM_RETRY`."""
        self._due_at = now + CLAIM_RETRY

    def claimed(self, claim: ClaimInfo | None) -> None:
        """Record a claim that the gateway accepted for an open form."""
        self.own, self.overrides = claim, None
        if claim is not None:
            self._due_at = claim.until - (RENEW_BEFORE if self._stays else FORM_RENEW_BEFORE)

    def set_by_key(self, claim: ClaimInfo | None) -> None:
        """Record a claim or release by key, which outlasts the form."""
        self.own, self.overrides, self._stays = claim, None, claim is not None
        self.warned_of = None
        self._due_at = claim.until - RENEW_BEFORE if claim is not None else None

    def lost_to(self, claim: ClaimInfo | None) -> None:
        """Record that another person has the claim; None if unknown."""
        self.own = self._due_at = None
        self.overrides = claim if claim is not None else self.overrides

    def is_due(self, now: datetime) -> bool:
        """True when the claim is due for renewal."""
        return self._due_at is not None and now >= self._due_at

    @property
    def is_released_on_leaving(self) -> bool:
        """True if the claim lasts only while the form is open."""
        return self.own is not None and not self._stays

    def press(self, claim: ClaimInfo | None, now: datetime) -> ClaimKey:
        """Return the key's effect on a wait with this claim."""
        if claim is None or now >= claim.until:
            return ClaimKey.CLAIM
        if claim.on_behalf_of == self.me:
            return ClaimKey.RELEASE
        return ClaimKey.TAKE_OVER if self.warned_of == claim.label else ClaimKey.WARN
