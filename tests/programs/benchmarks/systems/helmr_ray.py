"""Helmr called by a program in its Ray cluster, the load generator: no HTTP, no key, one hop less.

The routes run in the calling process, so that a part of what the gateway does elsewhere is the load generator's CPU.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from tests.programs.benchmarks.systems.helmr import Helmr

SAME = "as helmr: its runtime is the same"
JOINED = re.compile(r"Ray runs on (\S+)")


class HelmrRay(Helmr):
    name: ClassVar[str] = "helmr-ray"
    reasons: ClassVar[Mapping[str, str]] = dict.fromkeys(("g", "h", "j"), SAME)

    def __init__(self) -> None:
        super().__init__()
        self._client: Any = None

    def settings(self) -> dict[str, str]:
        return {**super().settings(), "started": "helmr up, default settings, called through Ray"}

    async def up(self) -> None:
        await super().up()
        from helmr_runtime.launchers import watchdog

        found = JOINED.search((self.folder / "up.log").read_text())
        record = watchdog.read_record(self.data_dir)
        assert found is not None
        assert record is not None
        # All are read when Ray is imported; without the last it takes another address for 127.0.0.1.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(record.mark.run_dir / "token")
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        import ray

        from helmr.client import AsyncClient

        await asyncio.to_thread(ray.init, address=found[1], log_to_driver=False)
        self._client = AsyncClient(url="ray")

    async def stop(self) -> None:
        await self.unfollow()
        if self._client is not None:
            import ray

            await self._client.close()
            self._client = None
            await asyncio.to_thread(ray.shutdown)
        await super().stop()

    async def begin(self, task: str, payload: Any) -> str:
        started = await self._client.sessions.start(task, payload)
        return str(started.session.id)

    async def send(self, session: str, turn: int, message: str) -> None:
        await self._client.sessions.open(session).input("messages").send(message)

    async def _follow_all(self, connected: asyncio.Event) -> None:
        connected.set()
        async for entry in self._client.events(after=0):
            self.heard(entry.model_dump(mode="json"))

    async def _follow_replies(self, session: str, queue: asyncio.Queue[str]) -> None:
        records: AsyncIterator[Any] = self._client.sessions.open(session).output("replies").follow()
        async for record in records:
            queue.put_nowait(record.data)
