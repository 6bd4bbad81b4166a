"""What exists once is set up again after a crash of which Ray says nothing, as it does when the clock was set back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from helmr.models import Catalog
from helmr_runtime.launchers import ray_runtime
from helmr_runtime.launchers.ray_runtime import RayRuntime
from helmr_runtime.process.spec import RuntimeSpec


class SilentCalls:
    """Ray while its clock stands in the past: of what a dead process was asked it never says that it failed."""

    def __init__(self) -> None:
        self.lost = 1
        self.asked: list[str] = []

    async def call(self, actor: str, method: str) -> None:
        """Set up at once, but for the first time."""
        self.asked.append(method)
        if method == "forever" or self.asked.count("build") <= self.lost:
            await asyncio.Event().wait()


class Spec:
    """Where the pid stands."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pid_path(self, name: str) -> Path:
        """Of any actor."""
        return self._path


@pytest.mark.allows_blocking
async def test_a_process_that_ended_without_a_word_is_set_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_runtime, "DEAD_EVERY_S", 0.01)
    monkeypatch.setattr(ray_runtime, "ASK_AGAIN_S", 0.05)
    said = asyncio.Queue[str]()
    pid = tmp_path / "pid"
    actor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=subprocess.PIPE
    )
    try:
        pid.write_text(str(actor.pid))
        kept = RayRuntime(
            cast("RuntimeSpec", Spec(pid)),
            cast("Catalog", None),
            is_cluster_alive=lambda: True,
            look_after=lambda: None,
            say=said.put_nowait,
        )
        calls = SilentCalls()
        kept._calls = cast("Any", calls)
        keeping = asyncio.create_task(kept._keep("helmr-gateway"))
        async with asyncio.timeout(30):
            while not calls.asked:
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            assert calls.asked == ["forever"], "it is alive"
            actor.kill()
            assert await said.get() == "the gateway died and is back"
        assert calls.asked[:3] == ["forever", "build", "build"]
        keeping.cancel()
        await asyncio.wait([keeping])
    finally:
        if actor.returncode is None:
            actor.kill()
        await actor.wait()
