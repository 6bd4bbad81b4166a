"""What a client of any kind is promised of schedules, and how each of their operations is repeated."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.errors import Conflict, RunActive, ScheduleNotFound, SchemaMismatch
from helmr.features.schedules import operations
from helmr.wire import ids
from tests.contract.repeating import Prepared, Receipt, repeats


async def schedules_are_made_paused_run_and_deleted(client: Any, way: Any) -> None:
    name = f"schedule-{ids.new_id(ids.OPERATION)[-20:]}"
    made = await client.schedules.create(
        name, task="contract-echo", payload=1, cron="0 3 * * mon-fri", zone="Europe/Berlin"
    )
    assert (made.status, made.declared_in, made.payload) == ("active", "api", 1)
    assert await client.schedules.get(name) == made
    assert name in {one.name async for one in client.schedules.list()}
    assert name in {one.name for one in (await client.schedules.page(limit=200)).items}
    with pytest.raises(Conflict):
        await client.schedules.create(name, task="contract-echo", payload=1, every="1h")
    with pytest.raises(SchemaMismatch):
        await client.schedules.create(f"{name}-2", task="contract-echo", payload="no", every="1h")
    paused = await client.schedules.pause(name)
    assert (paused.status, paused.next_due_at) == ("paused", None)
    assert (await client.schedules.resume(name)).status == "active"
    started = await client.schedules.run(name)
    assert started.session.tags == [f"schedule:{name}"]
    assert (await client.schedules.get(name)).last_session_id == started.session.id
    with pytest.raises(RunActive):
        await client.schedules.run(name)
    await client.sessions.open(started.session.id).cancel()
    assert (await client.schedules.delete(name)).name == name
    with pytest.raises(ScheduleNotFound):
        await client.schedules.get(name)


CASES = (schedules_are_made_paused_run_and_deleted,)


async def _schedule(client: Any) -> str:
    name = f"s-{ids.new_id(ids.OPERATION)[-20:]}"
    await client.schedules.create(name, task="contract-echo", payload=0, cron="0 3 * * *")
    return name


@repeats(operations.CREATE_SCHEDULE)
async def make_schedule(client: Any) -> Prepared:
    name = f"s-{ids.new_id(ids.OPERATION)[-20:]}"

    async def call(operation_id: str) -> Receipt:
        made = await client.schedules.create(
            name, task="contract-echo", payload=0, cron="0 3 * * *", operation_id=operation_id
        )
        return made.name

    return Prepared(call)


@repeats(operations.PAUSE_SCHEDULE)
async def pause_schedule(client: Any) -> Prepared:
    name = await _schedule(client)

    async def call(operation_id: str) -> Receipt:
        # What the schedule is like is of now; that it is not set again is what counts.
        return (await client.schedules.pause(name, operation_id=operation_id)).name

    async def then() -> None:
        await client.schedules.resume(name)

    return Prepared(call, then=then)


@repeats(operations.RESUME_SCHEDULE)
async def resume_schedule(client: Any) -> Prepared:
    name = await _schedule(client)
    await client.schedules.pause(name)

    async def call(operation_id: str) -> Receipt:
        # What the schedule is like is of now; that it is not set again is what counts.
        return (await client.schedules.resume(name, operation_id=operation_id)).name

    async def then() -> None:
        await client.schedules.pause(name)

    return Prepared(call, then=then)


@repeats(operations.RUN_SCHEDULE)
async def run_schedule(client: Any) -> Prepared:
    name = await _schedule(client)

    async def call(operation_id: str) -> Receipt:
        found = await client.schedules.run(name, operation_id=operation_id)
        return [found.session.id, found.run.id]

    return Prepared(call)


@repeats(operations.DELETE_SCHEDULE)
async def delete_schedule(client: Any) -> Prepared:
    name = await _schedule(client)

    async def call(operation_id: str) -> Receipt:
        return (await client.schedules.delete(name, operation_id=operation_id)).name

    return Prepared(call)
