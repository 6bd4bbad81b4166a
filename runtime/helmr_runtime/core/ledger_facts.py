"""Facts of the whole ledger, entries of the system stream: sessions left it, or a follower became it (S-68, S-69).

```
sessions.pruned    sessions[] entries archive? reason?     entries: how many they had; archive: the file that has them
ledger.promoted    generation after reason?     after: feed offset of the last entry that the primary has sent
```

These bodies are never sealed: a copy that is kept without keys removes the same sessions when it gets there. Which of
two ledgers is the later one, generations say: the higher one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helmr.errors import BadRequest
from helmr.models import PRUNE_AGE_MIN_S, REASON_MAX
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.core.entries import Draft, EntryKind, Principal

SESSIONS_MAX = 200
ENTRIES_MAX = 2_000
"""Of one page and its file, unless a single session has more."""

AT_ONCE = 20
"""Sessions that go in one transaction: commits beside it wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """One page of old sessions is to go.

    Attributes:
        age_s: How long ago their last entry must have been written, in seconds.
        is_archived: They are written to a Parquet file before.
        is_dry_run: Nothing is removed; the answer counts all pages.

    Raises:
        BadRequest: It is younger than repeated operations are known for, or the reason is too long.
    """

    principal: Principal
    age_s: float
    is_archived: bool = True
    is_dry_run: bool = False
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.age_s < PRUNE_AGE_MIN_S:
            raise BadRequest(
                "a session stays for a day after it is over",
                hint="An operation that is repeated within a day gets its first receipt.",
            )
        if self.reason is not None and len(self.reason) > REASON_MAX:
            raise BadRequest(f"a reason has at most {REASON_MAX} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long sessions that are over are kept, and whether they are written to Parquet before they go."""

    closed_after_s: float
    archive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        is_last: Nothing that is old enough is left.
        archive: Name of the file that has them now.
    """

    sessions: int
    entries: int
    is_last: bool
    archive: str | None = None


def pruned_draft(
    prune: Prune, sessions: tuple[str, ...], entries: int, archive: str | None
) -> Draft:
    """The entry that says that these sessions are gone."""
    body: dict[str, Any] = {"sessions": list(sessions), "entries": entries}
    optional = {"archive": archive, "reason": prune.reason}
    body.update((name, value) for name, value in optional.items() if value is not None)
    return Draft(EntryKind.SESSIONS_PRUNED, body, principal=prune.principal)


def sessions_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of the sessions that a `sessions.pruned` removes."""
    return tuple(body["sessions"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(SessionCommand):
    """The ledger goes on by itself, as the next generation. Receipt: `{generation}`."""

    after: int
    reason: str | None = None

    def draft(self, generation: int) -> Draft:
        """The entry."""
        body: dict[str, Any] = {"generation": generation, "after": self.after}
        if self.reason is not None:
            body["reason"] = self.reason
        return Draft(EntryKind.LEDGER_PROMOTED, body, principal=self.principal)
