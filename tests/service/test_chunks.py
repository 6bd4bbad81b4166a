"""Followers of chunks: who goes while it comes leaves nothing behind (S-90)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from helmr_runtime.core.chunks import Chunk
from helmr_runtime.ports import Host
from helmr_runtime.service.chunks import EARLIER_MAX, ChunkFollower, ChunkHub


async def test_a_follower_that_gives_up_while_it_joins_is_forgotten() -> None:
    asked = asyncio.Event()

    async def locate(session_id: str) -> str | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    hub = ChunkHub(locate, lambda name: cast(Host, None))
    joining = asyncio.create_task(hub.join("ses_1", "out", lambda: None))
    await asked.wait()
    assert list(hub.followed) == ["ses_1"]
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert hub.followed == {}
    await hub.stop()


def test_a_follower_that_takes_nothing_keeps_a_bounded_number_and_is_told_of_all_others() -> None:
    hub = ChunkHub(cast(Any, None), cast(Any, None))
    follower = ChunkFollower(hub, "ses_1", "out", lambda: None)
    follower.since_epoch = 0
    adoptions = 2 * EARLIER_MAX
    for epoch in range(1, adoptions + 1):
        follower.offer(epoch, Chunk("out", None, 1, "1"))
    taken = follower.take()
    assert len(taken) == EARLIER_MAX + 1
    assert len(taken) + sum(missing for _, missing in taken) == adoptions
