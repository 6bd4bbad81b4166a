"""The contract over each way in that fits into one process, with both faces of the client.

HTTP over a socket, a Ray job's app over its own actor calls (here local ones), and the harness. The real gateway and
a real Ray are in `tests/stack/test_contract.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helmr import features
from helmr.client import AsyncClient, Client
from helmr.client import ray as ray_way
from helmr.client.blocking import BlockingPart
from helmr.client.endpoint import RAY, Endpoint
from helmr.client.inprocess import AppTransport, BlockingAppTransport
from helmr.testing import Harness
from helmr.version import version
from helmr.wire.operation import Repeat
from helmr.wire.operations import PRUNE_SESSIONS
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import SystemClock
from helmr_runtime.core.entries import Principal
from helmr_runtime.process.job import JobGateway
from helmr_runtime.rpc.calls import GATEWAY
from helmr_runtime.service.health import Introduction
from tests.contract import page
from tests.contract.cases import CASES, PERSON, Way
from tests.contract.contract_tasks import TASKS
from tests.contract.faces import NAMES, Awaited, operations, recorded
from tests.contract.repeating import REPEATED
from tests.service.stack import Stack

JOB = Principal("ray_job", "0a000000")


class Introducing:
    """What a job asks of the gateway's actor."""

    async def introduce(self) -> Introduction:
        return Introduction(
            version=version(), started_at=SystemClock().now(), base_url="http://helmr.test"
        )


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Stack]:
    """A runtime whose actors live in this process."""
    stack = Stack(folder, registry=Registry(TASKS, code_hash="contract"))
    try:
        await stack.start()
        stack.calls.register(GATEWAY, Introducing())
        yield stack
    finally:
        await stack.stop()


def join(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients of the URL `ray` find this stack's actors."""
    main = asyncio.get_running_loop()

    class OtherLoop:
        """The stack's actors live on the test's loop, as Ray's live in other processes."""

        counter = stack.calls.counter

        async def call(self, *args: Any, **options: Any) -> Any:
            work = stack.calls.call(*args, **options)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, main))

    found = Endpoint(url=RAY, key=None, found_by="test")
    monkeypatch.setattr(ray_way, "find", lambda *, key: found)
    monkeypatch.setattr(ray_way, "carrier", lambda: AppTransport(JobGateway(JOB, stack.calls)))
    monkeypatch.setattr(
        ray_way,
        "blocking_carrier",
        lambda: BlockingAppTransport(lambda: JobGateway(JOB, OtherLoop())),
    )


@asynccontextmanager
async def reached(
    transport: str, face: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Any, Way]]:
    """A client over a transport, and what differs with it."""
    async with AsyncExitStack() as stack:
        if transport == "harness":
            harness = await stack.enter_async_context(Harness(*TASKS))
            way = Way(principal="api_key", has_sql=False, pass_time=harness.advance)
            if face == "async":
                client = harness.async_client(on_behalf_of=PERSON)
                yield await stack.enter_async_context(client), way
            else:
                blocking = harness.client(on_behalf_of=PERSON)
                stack.push_async_callback(asyncio.to_thread, blocking.close)
                yield Awaited(blocking), way
            return
        runtime = await stack.enter_async_context(running(folder))
        join(runtime, monkeypatch)
        is_ray = transport == "ray_job"
        url, key = (RAY, None) if is_ray else (runtime.url, runtime.key)
        way = Way(principal="ray_job" if is_ray else "api_key")
        if face == "async":
            one = AsyncClient(url=url, key=key, on_behalf_of=PERSON)
            yield await stack.enter_async_context(one), way
        else:
            other = Client(url=url, key=key, on_behalf_of=PERSON)
            stack.push_async_callback(asyncio.to_thread, other.close)
            yield Awaited(other), way


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize(
    ("transport", "face"),
    [
        # Over a real gateway and a real Ray in `make test`.
        pytest.param("http", "async", marks=pytest.mark.long),
        pytest.param("ray_job", "async", marks=pytest.mark.long),
        pytest.param("ray_job", "blocking", marks=pytest.mark.long),
        # All cases one after the other: test_the_page_says_what_was_seen_over_the_harness.
        pytest.param("harness", "async", marks=pytest.mark.long),
        pytest.param("harness", "blocking", marks=pytest.mark.long),
    ],
)
async def test_the_contract(
    transport: str, face: str, case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reached(transport, face, tmp_path, monkeypatch) as (client, way):
        await case(client, way)


async def test_the_blocking_face_has_a_way_to_the_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reached("harness", "blocking", tmp_path, monkeypatch) as (client, way):
        await CASES[0](client, way)


@pytest.mark.parametrize("face", ["async", pytest.param("blocking", marks=pytest.mark.long)])
async def test_the_page_says_what_was_seen_over_the_harness(
    face: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded() as called:
        for case in CASES:
            async with reached("harness", face, tmp_path, monkeypatch) as (client, way):
                await case(client, way)
    assert sorted(called) == sorted(operations())
    refused = {"client.query", "client.backup"}
    assert page.ticked("harness") == sorted(called - refused)


def test_the_page_names_every_operation_and_every_case() -> None:
    assert list(page.rows()) == operations()
    assert page.cases() == [case.__name__ for case in CASES]


def test_the_contract_knows_every_part_of_the_client() -> None:
    assert {cls.__name__ for cls in BlockingPart.__subclasses__()} == set(NAMES)


def test_every_operation_that_acts_once_is_repeated() -> None:
    once = {row for row in features.OPERATIONS if row.call and row.repeat is Repeat.ONCE}
    # Clients prune a page after the other, under no operation id.
    assert {row.name for row in once ^ REPEATED} == {PRUNE_SESSIONS.name}
