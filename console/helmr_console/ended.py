"""What has ended, as the runtime has it: with its subject, who ended it, and, once it is looked at, its answer.

The feed says that a wait ended, but not what it was about, and begins again with a console. Here too is since when the
operator was away, kept on this machine.
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
from helmr.profiles import write_private

ENDINGS = (WaitStatus.FULFILLED, WaitStatus.TIMED_OUT, WaitStatus.CANCELLED)
ANSWERS_AT_ONCE = 60
"""No list on a terminal is higher."""
ANSWERS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class EndedWaits:
    """Waits that ended.

    Attributes:
        since: From then on.
        is_cut: There are more.
    """

    waits: tuple[WaitInfo, ...]
    since: datetime
    is_cut: bool = False


async def ended_since(client: AsyncClient, since: datetime, most: int) -> EndedWaits:
    """At most so many waits of people that ended then or later, the one that ended last first."""
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
    """Reads what waits were answered with, which lists leave out: of those that are looked at, each once.

    Args:
        client: Asks for each in full.
        put: Called with each.
    """

    def __init__(self, client: AsyncClient, put: Callable[[WaitInfo], None]) -> None:
        self._client = client
        self._put = put
        self._asked: set[str] = set()

    def lacking(self, waits: Iterable[WaitInfo]) -> list[str]:
        """Those of the waits that were answered and not asked for yet; from now on they are."""
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
        """Ask for these."""
        for wait_id in wait_ids:
            try:
                wait = await self._client.waits.get(wait_id)
            except NotFound:
                continue
            self._put(wait)


AWAY = timedelta(minutes=15)
"""An operator who presses no key for that long is away."""
KEPT_EVERY = timedelta(minutes=1)


class LastHere:
    """When the operator was here before they went away and came back: by the keys they press, in a file of their own.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: datetime | None = None
        self._last, self.since = self._read()

    def pressed(self, now: datetime) -> timedelta | None:
        """A key was pressed, or the console opened; how long they were away, if this is their return."""
        before, self._last = self._last, now
        if before is None or now - before < AWAY:
            return None
        self.since = before
        return now - before

    async def keep(self, now: datetime) -> None:
        """Write it, once a minute at most: who comes back sees a minute twice rather than none."""
        if self._last is None or (self._kept is not None and now - self._kept < KEPT_EVERY):
            return
        self._kept = now
        since = self.since.isoformat() if self.since is not None else None
        text = json.dumps({"last": self._last.isoformat(), "since": since})
        await asyncio.to_thread(write_private, self._path, text)

    def _read(self) -> tuple[datetime | None, datetime | None]:
        """What the file says; one that can't be read says nothing."""
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
            last = datetime.fromisoformat(said["last"])
            since = datetime.fromisoformat(said["since"]) if said["since"] is not None else None
        except (OSError, ValueError, KeyError, TypeError):
            return None, None
        is_of_zone = last.tzinfo is not None and (since is None or since.tzinfo is not None)
        return (last, since) if is_of_zone else (None, None)
