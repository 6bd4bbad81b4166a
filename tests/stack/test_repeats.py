"""Acknowledged operations, repeated on the real stack after parking, waking, kill -9 and a restart (S-61)."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helmr.client import AsyncClient
from helmr.errors import Conflict
from helmr.wire import ids
from tests.contract import contract_tasks
from tests.contract.repeating import KINDS, Prepared, Receipt
from tests.stack.live import LiveRuntime, kill, until

pytestmark = pytest.mark.allows_blocking
Make = Callable[..., LiveRuntime]
AT_ONCE = 8
SHOWN_ONCE = "make_key"
"""A key's secret is random and only the gateway that made it can show it again; another names the key."""


@dataclass(frozen=True)
class Acknowledged:
    """An operation and its first receipt."""

    kind: str
    prepared: Prepared
    operation_id: str
    first: Receipt


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def each(items: Any, do: Callable[[Any], Any]) -> list[Any]:
    """Do it for each, some at once."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> Any:
        async with turn:
            return await do(item)

    return await asyncio.gather(*map(one, items))


async def acknowledged(client: AsyncClient, count: int) -> list[Acknowledged]:
    """So many operations of each kind."""

    async def one(kind: str) -> Acknowledged:
        prepared = await KINDS[kind](client)
        operation_id = ids.new_id(ids.OPERATION)
        first = await prepared.call(operation_id)
        if prepared.then is not None:
            await prepared.then()
        return Acknowledged(kind, prepared, operation_id, first)

    return await each([kind for kind in KINDS for _ in range(count)], one)


async def wake(client: AsyncClient, done: Acknowledged) -> None:
    """Another command for its session."""
    if done.prepared.session_id is not None:
        await client.sessions.open(done.prepared.session_id).note("something else")


async def differing(done: list[Acknowledged], *, has_new_gateway: bool = False) -> list[str]:
    """Those whose repetition did not get the first receipt, and what they got."""

    async def one(item: Acknowledged) -> str | None:
        try:
            again = await item.prepared.call(item.operation_id)
        except Conflict as error:
            if has_new_gateway and item.kind == SHOWN_ONCE and item.first[0] in error.message:
                return None
            return f"{item.kind}: {error.code}: {error.message}"
        return None if again == item.first else f"{item.kind}: {again} for {item.first}"

    return [said for said in await each(done, one) if said is not None]


def is_parked(live: LiveRuntime) -> bool:
    """No host holds a session."""
    return not live.live_sessions()


async def repeat_after_everything(live: LiveRuntime, count: int) -> dict[str, list[str]]:
    """What went wrong, by what had happened before."""
    found: dict[str, list[str]] = {}
    address = live.credentials
    async with AsyncClient(url=address.url, key=address.key) as client:  # both survive a restart
        done = await acknowledged(client, count)
        assert Counter(one.kind for one in done) == dict.fromkeys(KINDS, count)
        await asyncio.to_thread(until, lambda: is_parked(live), within_s=120, what="all parked")

        async def wake_and_repeat(one: Acknowledged) -> list[str]:
            await wake(client, one)
            return await differing([one])

        found["parked and woken"] = [w for one in await each(done, wake_and_repeat) for w in one]
        await each(done[:AT_ONCE], lambda one: wake(client, one))
        if not live.is_in_process:
            for host in live.hosts():
                if host["pid"]:
                    kill(host["pid"])
            found["hosts killed"] = await differing(done)
        await asyncio.to_thread(live.kill_all)
        await asyncio.to_thread(live.start)
        found["all killed, started again"] = await differing(done, has_new_gateway=True)
    sys.stdout.write(f"{len(done)} operations, {count} of each of {len(KINDS)} kinds: ")
    sys.stdout.write(f"{ {when: len(wrong) for when, wrong in found.items()} } wrong\n")
    return found


def runtime_of(make_runtime: Make, **options: Any) -> LiveRuntime:
    """One that parks soon and keeps its address."""
    tasks, port = Path(contract_tasks.__file__), free_port()
    return make_runtime(tasks=tasks, sessions_per_host=3, linger="300ms", port=port, **options)


@pytest.mark.long  # tests/session/test_repeats.py
@pytest.mark.parametrize(
    "is_alone",
    [True, pytest.param(False, marks=[pytest.mark.ray, pytest.mark.long])],
    ids=["in-process", "ray"],
)
@pytest.mark.timeout(240)
def test_each_kind_of_operation_gets_its_first_receipt_after_everything(
    make_runtime: Make, is_alone: bool
) -> None:
    live = runtime_of(make_runtime, in_process=is_alone)
    found = asyncio.run(repeat_after_everything(live, 1))
    assert not any(found.values()), found


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_operations_of_each_kind_get_their_first_receipts_after_everything(
    make_runtime: Make,
) -> None:
    found = asyncio.run(repeat_after_everything(runtime_of(make_runtime), 20))
    assert not any(found.values()), found
