"""More sessions that only wait than there are slots, in each way that a session waits: everything goes on.

The real parts in one process; the linger is longer than these tests, so that a slot comes free only by pressure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from helmr_runtime.catalog import Registry
from tests.longer import long_but
from tests.service import parking_tasks
from tests.service.parking_tasks import WAY_S, WAYS
from tests.service.stack import Stack, until

ROOM = 2
SESSIONS = ROOM + 3

REGISTRY = Registry(
    [parking_tasks.waits], modules=["tests.service.parking_tasks"], code_hash="code-1"
)


@pytest.fixture
async def stack(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    way = request.node.callspec.params["way"]
    # A step's backoff parks only if it is longer than the linger (S-16).
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=WAY_S / 4 if way == "step backoff" else 300)
    await stack.start(sessions_per_host=ROOM)
    yield stack
    await stack.stop()


async def begin(stack: Stack, way: str, name: str) -> str:
    """Start a session that waits in that way; its id."""
    payload: dict[str, Any] = {"way": way, "name": name}
    if way == "token of a client":
        made = await stack.http.post("/v1/tokens", json={"subject": "Is it done?"})
        payload["token"] = made.json()["id"]
    response = await stack.http.post("/v1/sessions", json={"task": "waits", "payload": payload})
    assert response.status_code == 201, response.text
    return str(response.json()["session"]["id"])


async def runs_of(stack: Stack, sessions: Sequence[str]) -> list[dict[str, Any]]:
    found = (await stack.http.get("/v1/runs", params={"limit": 200})).json()["items"]
    return [run for run in found if run["session_id"] in sessions]


def has_begun(run: dict[str, Any]) -> bool:
    """It waits, or waits for its next attempt, or has ended after that."""
    return run["status"] in ("waiting", "succeeded") or run["retry_at"] is not None


async def answer_all(stack: Stack) -> None:
    for wait in (await stack.http.get("/v1/waits", params={"limit": 200})).json()["items"]:
        answered = await stack.http.post(f"/v1/waits/{wait['id']}/answer", json={"data": "done"})
        assert answered.status_code == 200, answered.text


@long_but(3, "way", WAYS)
async def test_more_waits_of_a_kind_than_slots_and_everything_goes_on(
    stack: Stack, way: str
) -> None:
    waiting = [await begin(stack, way, f"{way} {n}") for n in range(SESSIONS)]

    async def all_have_begun() -> bool:
        return all(has_begun(run) for run in await runs_of(stack, waiting))

    await until(all_have_begun)
    late = await begin(stack, "input", "late")

    async def late_waits() -> bool:
        return [run["status"] for run in await runs_of(stack, [late])] == ["waiting"]

    await until(late_waits)
    await answer_all(stack)

    async def all_have_ended() -> bool:
        return all(run["status"] == "succeeded" for run in await runs_of(stack, [*waiting, late]))

    await until(all_have_ended)
    assert {run["result"] for run in await runs_of(stack, [*waiting, late])} == {"done"}
