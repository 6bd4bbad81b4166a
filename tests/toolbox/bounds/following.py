"""How far a follower is behind while answers come at a steady rate (S-68)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from helmr.client import AsyncClient
from tests.stack.live import LiveRuntime, until

TASKS = Path(__file__).with_name("bounds_tasks.py")
SESSIONS = 20
NAME = "measured"
LOOK_EVERY_S = 0.25
WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Followed:
    """What a follower's primary said of it.

    Attributes:
        answers_per_s: That were accepted.
        lags: By how many entries it was behind, at each look, in order.
        level_s: How long after the last answer it had all.
    """

    answers_per_s: float
    lags: tuple[int, ...]
    level_s: float

    @property
    def longest_lag(self) -> int:
        """The most entries by which it was behind."""
        return max(self.lags)

    @property
    def is_bounded(self) -> bool:
        """It was no further behind in the last third than at some time before."""
        third = len(self.lags) // 3
        return max(self.lags[-third:]) <= 2 * max(*self.lags[:-third], 1)


def followed(for_s: float, per_s: float) -> Followed:
    """Have a runtime answered so often for so long while `helmr follow` keeps a copy."""
    with tempfile.TemporaryDirectory(prefix="helmr-bounds-") as name:
        live = LiveRuntime(Path(name), tasks=TASKS, in_process=True)
        live.start()
        options = (
            f"--name={NAME}",
            f"--into={live.folder / 'copy'}",
            f"--data-dir={live.data_dir}",
        )
        copy = subprocess.Popen(
            [sys.executable, "-m", "helmr.cli", "follow", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            sessions = [live.begin("approvals") for _ in range(SESSIONS)]
            for session_id in sessions:
                live.waiting(session_id)
            until(lambda: _is_level(live), within_s=WITHIN_S, what="the follower has all")
            return asyncio.run(_answered(live, sessions, for_s, per_s))
        finally:
            copy.terminate()
            copy.wait(WITHIN_S)
            live.stop()


async def _answered(live: LiveRuntime, sessions: list[str], for_s: float, per_s: float) -> Followed:
    found = live.credentials
    lags: list[int] = []
    count, began_s = 0, time.monotonic()
    until_s = began_s + for_s

    async with AsyncClient(url=found.url, key=found.key) as client, asyncio.TaskGroup() as group:

        async def answer(number: int, session_id: str) -> None:
            nonlocal count
            every_s = len(sessions) / per_s
            at_s = began_s + number / per_s
            stream = client.sessions.open(session_id).input("approval")
            while at_s < until_s:
                await asyncio.sleep(at_s - time.monotonic())
                await stream.send(True)
                count += 1
                at_s = max(at_s + every_s, time.monotonic())

        async def look() -> None:
            while time.monotonic() < until_s:
                lags.append(int((await client.health()).ledger["followers"][NAME]["lag"]))
                await asyncio.sleep(LOOK_EVERY_S)

        for numbered in enumerate(sessions):
            group.create_task(answer(*numbered))
        group.create_task(look())
    answers_per_s = count / (time.monotonic() - began_s)
    over_s = time.monotonic()
    await asyncio.to_thread(
        until, lambda: _is_level(live), within_s=WITHIN_S, what="the follower has all"
    )
    return Followed(answers_per_s, tuple(lags), time.monotonic() - over_s)


def _is_level(live: LiveRuntime) -> bool:
    """The follower has asked for what is behind the newest entry."""
    health = live.client.health()
    known = health.ledger.get("followers", {}).get(NAME, {})
    return bool(known.get("lag") == 0 and known.get("offset") == health.feed_offset)
