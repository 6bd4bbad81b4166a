"""Sessions that call a provider under a limit while a history is taken, and what they tell of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helmr.client import AsyncClient
from helmr.errors import HelmrError
from helmr.models import Activity
from tests.programs.histories.history import Call, Kind, Outcome
from tests.programs.histories.history_tasks import provider

CALLS = 6
"""Of each session."""
AT_FIRST = 8
"""So many wait for each other from the beginning on."""
EVERY_S = 0.55
"""Between two starts: eleven calls a second, nearly what the limit lets begin."""
CALL_S = 10.0
POLL_S = 0.2
UNSET_NS = 60_000_000_000
"""A step that seems to have begun so long before its body did so by a clock that was set in between."""


class LimitedSessions:
    """Starts them.

    Args:
        client: An admin's.
        marks: Where their steps say when their bodies ran.
    """

    def __init__(self, client: AsyncClient, marks: Path) -> None:
        self._client = client
        self._marks = marks
        self._sessions: list[str] = []

    async def begin(self, is_over: Callable[[], bool]) -> None:
        """One after the other; of four one is for another tenant."""
        while not is_over():
            tenant = "large" if len(self._sessions) % 4 else "small"
            with contextlib.suppress(HelmrError, TimeoutError):
                async with asyncio.timeout(CALL_S):
                    payload = {"tenant": tenant, "count": str(CALLS)}
                    self._sessions.append((await self._client.sessions.start("asks", payload)).id)
                if len(self._sessions) < AT_FIRST:
                    continue
            await asyncio.sleep(EVERY_S)

    async def end(self, within_s: float) -> int:
        """Return when all have ended; how many have not in time."""
        ending = time.monotonic() + within_s
        left = list(self._sessions)
        while left and time.monotonic() < ending:
            is_over = await asyncio.gather(*(self._is_over(one) for one in left))
            left = [one for one, ended in zip(left, is_over, strict=True) if not ended]
            await asyncio.sleep(POLL_S if left else 0.0)
        return len(left)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def _is_over(self, session_id: str) -> bool:
        try:
            async with asyncio.timeout(CALL_S):
                info = await self._client.sessions.open(session_id).get()
        except (HelmrError, TimeoutError):
            return False
        return info.activity is Activity.IDLE

    async def read(self) -> list[Call]:
        """What each tells, as `limits.py` has it."""
        return [await self._read(one) for one in self._sessions]

    async def _read(self, session_id: str) -> Call:
        began_ns, opened, steps = time.monotonic_ns(), dict[int | None, tuple[str, int]](), []
        async for entry in self._client.sessions.open(session_id).transcript():
            if entry.kind == "step.started":
                at_ns = int(entry.recorded_at.timestamp() * 1e9)
                opened[entry.op] = entry.body["step_key"], at_ns
            elif entry.kind == "step.succeeded":
                key, at_ns = opened[entry.op]
                steps.append([key, *self._tried(key, at_ns)])
        told: dict[str, Any] = {
            "at_once": provider.at_once,
            "per": provider.per,
            "within_ns": int(provider.within_s * 1e9),
            "steps": steps,
        }
        return Call(
            client=-1,
            kind=Kind.READ_LIMIT,
            target=provider.name,
            began_ns=began_ns,
            ended_ns=time.monotonic_ns(),
            outcome=Outcome.OK,
            reply=json.dumps(told),
        )

    def _tried(self, key: str, opened_at_ns: int) -> tuple[int | None, list[list[int | None]]]:
        """When the step was opened, by the clock of the marks, and its tries."""
        path = self._marks / f"limit-{key}"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        tries: list[list[int | None]] = []
        lines = [line for line in lines if len(line) == 3]  # the disk may have been full
        for what, at, _ in lines:
            if what == "began":
                tries.append([int(at), None])
            else:
                tries[-1][1] = int(at)
        if not lines:
            return None, tries
        began_ns, wall_ns = int(lines[0][1]), int(lines[0][2])
        opened_ns = began_ns - (wall_ns - opened_at_ns)
        is_told = began_ns - UNSET_NS < opened_ns <= began_ns
        return opened_ns if is_told else None, tries
