"""Waits that somebody snoozed for a while: their own matter, kept on their machine, seen by console and `helmr next`.

A snooze hides a wait from one reader until it is over; the wait and everybody else know nothing of it. It never
hides one that is about to end: a wait is back at the latest `BACK_BEFORE` its deadline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from helmr.errors import UsageError
from helmr.models import WaitInfo
from helmr.state_dir import write_private

SNOOZES_MAX = 1_000
BACK_BEFORE = timedelta(minutes=10)
LONGEST = timedelta(days=30)
_TEXT_MAX = 64


def back_at(wait: WaitInfo, snoozed_for: timedelta, now: datetime) -> datetime:
    """When a wait that is snoozed now comes back.

    Raises:
        UsageError: It would be at once, as its deadline is near; or the time is none, or longer than `LONGEST`.
    """
    if not timedelta(0) < snoozed_for <= LONGEST:
        raise UsageError("a wait is snoozed for 1s to 30d")
    latest = wait.ends_at - BACK_BEFORE if wait.ends_at is not None else None
    if latest is not None and latest <= now:
        raise UsageError(
            "it ends too soon to put it off",
            hint=f"Snoozed waits are back {BACK_BEFORE.seconds // 60}m before they end.",
        )
    return min(now + snoozed_for, latest) if latest is not None else now + snoozed_for


class Snoozes:
    """One file for each wait, mode 0600, so that two programs never write the same one.

    Args:
        folder: Where they are; made when the first wait is snoozed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def snooze(self, wait_id: str, until: datetime) -> None:
        """Hide this wait until then. Of more than `SNOOZES_MAX` those that end first are given up.

        Raises:
            OSError: It can't be kept.
        """
        write_private(self._path(wait_id), until.isoformat())
        found = sorted(self._all().items(), key=lambda one: one[1])
        for old, _ in found[: max(0, len(found) - SNOOZES_MAX)]:
            self.wake(old)

    def wake(self, wait_id: str) -> None:
        """Show it again."""
        self._path(wait_id).unlink(missing_ok=True)

    def read(self, now: datetime) -> Mapping[str, datetime]:
        """The waits that are snoozed, and until when. Those that are over are forgotten."""
        found = self._all()
        for wait_id in [one for one, until in found.items() if until <= now]:
            del found[wait_id]
            with suppress(OSError):
                self.wake(wait_id)
        return found

    def _all(self) -> dict[str, datetime]:
        found = {}
        for path in self._folder.glob("*.until"):
            until = _until(path)
            if until is not None:
                found[path.stem] = until
        return found

    def _path(self, wait_id: str) -> Path:
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', wait_id)[:100]}.until"


def _until(path: Path) -> datetime | None:
    """What the file says; one that says nothing hides nothing."""
    try:
        with path.open(encoding="utf-8") as file:
            found = datetime.fromisoformat(file.read(_TEXT_MAX).strip())
    except (OSError, ValueError):
        return None
    return found if found.tzinfo is not None else None
