"""Reads that more than one screen needs."""

from __future__ import annotations

from collections import deque

from helmr.client.aio import AsyncClient
from helmr.models import LIST_LIMIT_MAX, EntryInfo

TAIL_PAGES_MAX = 20
"""Pages walked to find a transcript's end where the gateway does not say how long it is."""


async def tail(client: AsyncClient, session_id: str, count: int) -> list[EntryInfo]:
    """The newest entries of a session, oldest first; empty if its end is too far to walk to."""
    session = client.sessions.open(session_id)
    last = (await session.get()).last_seq
    if last is not None:
        return list((await session.transcript_page(after=max(0, last - count), limit=count)).items)
    found: deque[EntryInfo] = deque(maxlen=count)
    for _ in range(TAIL_PAGES_MAX):
        after = found[-1].seq if found else 0
        page = await session.transcript_page(after=after, limit=LIST_LIMIT_MAX)
        found.extend(page.items)
        if len(page.items) < LIST_LIMIT_MAX:
            return list(found)
    return []
