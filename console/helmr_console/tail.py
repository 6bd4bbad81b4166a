"""Reads that more than one screen needs."""

from __future__ import annotations

from helmr.client.aio import AsyncClient
from helmr.models import EntryInfo


async def tail(client: AsyncClient, session_id: str, count: int) -> list[EntryInfo]:
    """The newest entries of a session, oldest first."""
    session = client.sessions.open(session_id)
    last = (await session.get()).last_seq
    return list((await session.transcript_page(after=max(0, last - count), limit=count)).items)
