"""Followers of chunks: who goes while it comes leaves nothing behind (S-90)."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from helmr_runtime.ports import Host
from helmr_runtime.service.chunks import ChunkHub


async def test_a_follower_that_gives_up_while_it_joins_is_forgotten() -> None:
    asked = asyncio.Event()

    async def locate(session_id: str) -> str | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    hub = ChunkHub(locate, lambda name: cast(Host, None))
    joining = asyncio.create_task(hub.join("ses_1", "out", lambda: None))
    await asked.wait()
    assert list(hub._followed) == ["ses_1"]
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert hub._followed == {}
    await hub.stop()
