"""Ended waits, read from the runtime: subject, who ended it, and, once looked at, the answer.

The feed says that a wait ended, but not its subject, and starts over with each console. `LastHere` also keeps, on this
machine, since when the operator was away.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from helmr.client.aio import AsyncClient
from helmr.errors import NotFound
from helmr.models import LIST_LIMIT_MAX, WaitInfo, WaitStatus
from helmr.private_file import write_private

ENDINGS = (WaitStatus.FULFILLED, WaitStatus.TIMED_OUT, WaitStatus.CANCELLED)
ANSWERS_AT_ONCE = 60
"""More rows than a list on a terminal has."""
ANSWERS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class EndedWaits:
    """Waits that ended since a time.

    Attributes:
        since: Start of the period.
        is_cut: True if there are more.
    """

    waits: tuple[WaitInfo, ...]
    since: datetime
    is_cut: bool = False


async def ended_since(client: AsyncClient, since: datetime, most: int) -> EndedWaits:
    """Return at most `most` waits of people that ended at `since` or later, the last one first."""
    found: list[WaitInfo] = []
    is_cut = False
    for status in ENDINGS:
        cursor: str | None = None
        while len(found) < most:
            page = await client.waits.page(
                status=status, resolved_since=since, limit=LIST_LIMIT_MAX, cursor=cursor
            )
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        is_cut |= cursor is not None or len(found) > most
    found.sort(key=lambda one: one.resolved_at or since, reverse=True)
    return EndedWaits(tuple(found[:most]), since, is_cut)


class AnswersRead:
    """Reads the answers of waits on screen, each once; lists leave answers out.

    Args:
        client: Reads each wait in full.
        put: Called with each wait.
    """

    def __init__(self, client: AsyncClient, put: Callable[[WaitInfo], None]) -> None:
        self._client = client
        self._put = put
        self._asked: set[str] = set()

    def lacking(self, waits: Iterable[WaitInfo]) -> list[str]:
        """Return, and mark as asked, the answered waits whose answers were not asked for yet."""
        found = [
            wait.id
            for wait in waits
            if wait.status is WaitStatus.FULFILLED and wait.answer is None
            if wait.id not in self._asked
        ][:ANSWERS_AT_ONCE]
        if len(self._asked) > ANSWERS_MAX:
            self._asked.clear()
        self._asked.update(found)
        return found

    async def read(self, wait_ids: Iterable[str]) -> None:
        """Read these waits; skip those that are gone."""
        for wait_id in wait_ids:
            try:
                wait = await self._client.waits.get(wait_id)
            except NotFound:
                continue
            self._put(wait)


AWAY = timedelta(minutes=15)
"""An operator who presses no key for this time is away."""
KEPT_EVERY = timedelta(minutes=1)


class LastHere:
    """Remembers, in a file, when the operator was last here before being away, by the keys they press.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: datetime | None = None
        self._last, self.since = self._read()

    def pressed(self, now: datetime) -> timedelta | None:
        """Record a key press or the console's start; return how long the operator was away if this is their return."""
        before, self._last = self._last, now
        if before is None or now - before < AWAY:
            return None
        self.since = before
        return now - before

    async def keep(self, now: datetime) -> None:
        """Write the file, once a minute at most: a return shows a minute twice rather than none."""
        if self._last is None or (self._kept is not None and now - self._kept < KEPT_EVERY):
            return
        self._kept = now
        since = self.since.isoformat() if self.since is not None else None
        text = json.dumps({"last": self._last.isoformat(), "since": since})
        await asyncio.to_thread(write_private, self._path, text)

    def _read(self) -> tuple[datetime | None, datetime | None]:
        """Read the file; (None, None) if it can't be read."""
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
            last = datetime.fromisoformat(said["last"])
            since = datetime.fromisoformat(said["since"]) if said["since"] is not None else None
        except (OSError, ValueError, KeyError, TypeError):
            return None, None
        is_of_zone = last.tzinfo is not None and (since is None or since.tzinfo is not None)
        return (last, since) if is_of_zone else (None, None)
