"""Reads of the gateway that more than one place needs."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any, TypeVar

from helmr.client.aio import AsyncClient
from helmr.models import LIST_LIMIT_MAX, EntryInfo, WaitInfo, WaitKind

RECORDS_LOOKED_AT = 1_000
"""Of a stream, for the one that answered a wait."""

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


async def whole(client: AsyncClient, session_id: str, count: int) -> list[EntryInfo]:
    """All entries of a session, or so many of its newest, oldest first."""
    session = client.sessions.open(session_id)
    after = max(0, (await session.get()).last_seq - count)
    found: list[EntryInfo] = []
    while page := (await session.transcript_page(after=after, limit=LIST_LIMIT_MAX)).items:
        found += page
        after = page[-1].seq
    return found


async def answer_of(client: AsyncClient, wait: WaitInfo) -> Any:
    """What a wait was answered with; None if that can no longer be read."""
    if wait.token_id is not None:
        # The token's own refusal says who and when; only the wait's, once its session has heard, says what.
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
