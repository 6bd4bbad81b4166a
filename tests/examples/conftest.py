"""Every example runs in each way a run can be interrupted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import pytest

from helmr.examples.chat import chat
from helmr.examples.publish_review import publish_review
from helmr.examples.release import release_service
from helmr.testing import Harness, HarnessSession

Interrupt = Callable[[HarnessSession], Awaitable[None]]


async def _nothing(session: HarnessSession) -> None:
    return None


async def _park(session: HarnessSession) -> None:
    await session.park()


async def _kill(session: HarnessSession) -> None:
    await session.kill()


INTERRUPTS: dict[str, Interrupt] = {"stays_hot": _nothing, "parked": _park, "killed": _kill}


@pytest.fixture(params=sorted(INTERRUPTS))
def interrupt(request: pytest.FixtureRequest) -> Interrupt:
    """What befalls the session at each of its waits."""
    return INTERRUPTS[request.param]


@pytest.fixture(params=[False, True], ids=["replay_at_resume", "replay_always"])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    """The examples' tasks on the in-process engine."""
    async with Harness(
        publish_review, chat, release_service, replay_always=request.param
    ) as harness:
        yield harness


@pytest.fixture
def payload() -> dict[str, Any]:
    """A real webhook payload."""
    path = files("helmr") / "examples" / "data" / "pull_request.opened.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
