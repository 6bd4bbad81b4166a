"""Keeps the store fresh: lists once, then the feed, with pings to notice a dead link.

One loop owns the connection. Any failure ends the round; after a pause the next reads the lists again and the feed
after the last offset seen, so that nothing is missed or shown twice (S-54). The module also holds the gateway reads
that several screens share.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from helmr.client.aio import AsyncClient
from helmr.errors import HelmrError, NotAllowed
from helmr.models import LIST_LIMIT_MAX, EntryInfo, WaitInfo, WaitKind
from helmr_console.clock import ConsoleClock
from helmr_console.ended import ended_since
from helmr_console.store import ENDED_MAX, ENDED_SHOWN, WAITS_MAX, Store, day_of

RECORDS_LOOKED_AT = 1_000
"""Most records of a stream searched for a wait's answer."""

T = TypeVar("T")


async def first(listed: AsyncIterable[T], count: int) -> list[T]:
    """Return at most `count` items of a list."""
    found: list[T] = []
    async for one in listed:
        found.append(one)
        if len(found) >= count:
            break
    return found


async def tail(client: AsyncClient, session_id: str, count: int) -> list[EntryInfo]:
    """Return the `count` newest entries of a session, oldest first."""
    session = client.sessions.open(session_id)
    last = (await session.get()).last_seq
    return list((await session.transcript_page(after=max(0, last - count), limit=count)).items)


async def whole(client: AsyncClient, session_id: str, count: int) -> list[EntryInfo]:
    """Return all entries of a session, or the `count` newest, oldest first."""
    session = client.sessions.open(session_id)
    after = max(0, (await session.get()).last_seq - count)
    found: list[EntryInfo] = []
    while page := (await session.transcript_page(after=after, limit=LIST_LIMIT_MAX)).items:
        found += page
        after = page[-1].seq
    return found


async def answer_of(client: AsyncClient, wait: WaitInfo) -> Any:
    """Return the answer of a wait; None if it can no longer be read."""
    if wait.token_id is not None:
        # The token's refusal names person and time only; the wait's adds the answer, once the session has it.
        return (await client.tokens.get(wait.token_id)).data
    if wait.kind is not WaitKind.INPUT or wait.stream is None:
        return None
    looked = 0
    listed = client.sessions.open(wait.session_id).input(wait.stream).list(limit=LIST_LIMIT_MAX)
    async for record in listed:
        looked += 1
        if record.consumed_by == wait.id:
            return record.data
        if looked >= RECORDS_LOOKED_AT:
            break
    return None


PING_S = 5.0
CLAIMS_PINGS = 3
"""Pings between two reads of the claims on the most urgent waits."""
HISTORY_ENTRIES = 2_000
"""Entries before the newest at which the feed starts; they fill Activity and the recently ended waits."""
PAGES_MAX = WAITS_MAX // LIST_LIMIT_MAX
CATALOG_MAX = 2_000


class Link:
    """The connection to one gateway.

    Args:
        changed: Called on the event loop after each change, with the feed's entry if one came; must not block.
    """

    def __init__(
        self,
        client: AsyncClient,
        store: Store,
        clock: ConsoleClock,
        *,
        changed: Callable[[EntryInfo | None], None],
    ) -> None:
        self.client = client
        self.store = store
        self.clock = clock
        self._changed = changed
        self._wake = asyncio.Event()

    def ask_again(self) -> None:
        """Try again now, without waiting for the next try."""
        self._wake.set()

    async def run(self) -> None:
        """Connect, follow the feed and reconnect, until cancelled."""
        while True:
            try:
                await self._round()
            except HelmrError as error:
                self._failed(error)
            except ExceptionGroup as group:
                known, unknown = group.split(HelmrError)
                if unknown is not None or known is None:
                    raise
                self._failed(_first(known))
            await self._pause()

    async def reload(self) -> None:
        """Read health and the inbox again now."""
        await self._ping()
        await self._load_waits()
        self._changed(None)

    async def _round(self) -> None:
        await self._ping()
        await self._load_waits()
        await self._load_catalog()
        self._changed(None)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._load_ended())
            group.create_task(self._keep_pinging())

    async def _follow(self) -> None:
        health = self.store.health
        head = health.feed_offset if health is not None else None
        after = self.store.feed_offset
        if after is None and head is not None:
            after = max(0, head - HISTORY_ENTRIES)
        async for entry in self.client.events(after=after):
            replayed = head is not None and entry.feed_offset <= head
            self.store.freshness = self.store.freshness.heard(self.clock.monotonic())
            self.store.apply(entry, replayed=replayed)
            self._changed(None if replayed else entry)

    async def _keep_pinging(self) -> None:
        for count in itertools.count(1):
            await self.clock.sleep(PING_S)
            await self._ping()
            if count % CLAIMS_PINGS == 0:
                page = await self.client.waits.page(limit=LIST_LIMIT_MAX)
                self.store.put_claims(page.items)
            self._changed(None)

    async def _ping(self) -> None:
        health = await self.client.health()
        self.store.health = health
        if health.now is not None:
            self.store.clock.set(health.now)
        self.store.freshness = self.store.freshness.heard(self.clock.monotonic())

    async def _load_waits(self) -> None:
        found: list[WaitInfo] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = await self.client.waits.page(limit=LIST_LIMIT_MAX, cursor=cursor)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        self.store.put_waits(found, cut=cursor is not None)

    async def _load_ended(self) -> None:
        """Load the waits that ended today or in the last hour, with their people."""
        now = self.store.now()
        since = min(day_of(now), now - ENDED_SHOWN)
        self.store.put_ended(await ended_since(self.client, since, ENDED_MAX))
        self._changed(None)

    async def _load_catalog(self) -> None:
        self.store.streams = await first(self.client.streams.list(), CATALOG_MAX)
        self.store.tasks = await first(self.client.tasks.list(), CATALOG_MAX)

    def _failed(self, error: HelmrError) -> None:
        jitter = secrets.randbelow(1_001) / 1_000
        now_s = self.clock.monotonic()
        refused = isinstance(error, NotAllowed)
        text = error.message if error.hint is None else f"{error.message}. {error.hint}"
        self.store.errors.append(text)
        self.store.freshness = self.store.freshness.failed(now_s, text, jitter, refused=refused)
        self._changed(None)

    async def _pause(self) -> None:
        next_try_s = self.store.freshness.next_try_s or 0.0
        self._wake.clear()
        wait_s = max(0.0, next_try_s - self.clock.monotonic())
        sleeping = asyncio.ensure_future(self.clock.sleep(wait_s))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, waking):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def _first(group: BaseExceptionGroup[HelmrError]) -> HelmrError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
