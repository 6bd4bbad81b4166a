"""Reads of the gateway that more than one place needs."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TypeVar

from helmr.client.aio import AsyncClient
from helmr.models import EntryInfo

T = TypeVar("T")


async def first(listed: AsyncIterable[T], count: int) -> list[T]:
    """At most so many of a list."""
    found: list[T] = []
    async for one in listed:
        found.append(one)
        if len(found) >= count:
            break
    return found


async def tail(client: AsyncClient, session_id: str, count: int) -> list[EntryInfo]:
    """The newest entries of a session, oldest first."""
    session = client.sessions.open(session_id)
    last = (await session.get()).last_seq
    return list((await session.transcript_page(after=max(0, last - count), limit=count)).items)
