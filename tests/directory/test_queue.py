"""Queued runs resume oldest first; waiting sessions linger until their time is over or a run needs the room."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import pytest

from helmr.errors import StoreUnavailable
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.directory.work import WorkQueue
from helmr_runtime.ports import Busy, SessionReleased
from helmr_runtime.ports.ledger import WorkItem
from tests.directory.clock import settle, until
from tests.directory.fakes import World, note
from tests.longer import long_but


async def test_queued_runs_resume_in_order_as_there_is_room(world: World) -> None:
    world.ledger.add(*(f"s{n}" for n in range(5)), run="queued")
    await world.directory()
    (host,) = world.living()
    for n in range(5):
        await until(functools.partial(world.executes, f"s{n}"))
        await world.waits(f"s{n}")
    assert host.adoptions == [f"s{n}" for n in range(5)]
    assert host.executing_max == 1


async def test_a_run_that_the_list_names_before_its_release_is_answered_is_resumed(
    world: World,
) -> None:
    """The list is here before the answer to the release; nothing else would look again."""
    directory = await world.directory(linger_s=1.0)
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    await world.waits("s1")
    host.release_gate.clear()
    await world.clock.advance(2.0)
    assert host.sessions == {}
    await world.ledger.queue("s1")
    await settle()
    assert host.adoptions == ["s1"]
    host.release_gate.set()
    await until(lambda: world.executes("s1"))


async def test_a_queued_run_waits_while_all_room_executes(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("busy"))
    await world.ledger.queue("s2")
    await settle()
    assert host.releases == []
    assert (await directory.status())["queue"] == 1
    await world.clock.advance(7)
    assert (await directory.status())["queue_oldest_s"] == 7
    await world.waits("s1")
    await until(lambda: world.executes("s2"))
    assert host.releases == [("s1", "evict")]
    assert (await directory.status())["queue_oldest_s"] == 0


async def test_a_command_does_not_overtake_the_queue(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("busy"))
    await world.ledger.queue("s2")
    await settle()
    world.ledger.add("s3")
    assert (await directory.route("s3", note("x"))).host is None
    await world.waits("s1")
    await until(lambda: world.executes("s2"))
    await world.waits("s2")
    await until(lambda: world.executes("s3"))
    assert host.adoptions == ["s1", "s2", "s3"]


async def test_a_waiting_session_lingers_and_is_then_parked(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    await world.waits("s1")
    await world.clock.advance(29.0, step_s=1.0)
    assert host.releases == []
    assert (await directory.status())["sessions"] == {"live": 1, "lingering": 1, "room": 0}
    await world.clock.advance(2.0, step_s=1.0)
    assert host.releases == [("s1", "linger")]
    assert world.ledger.heads["s1"].holder is None
    assert (await directory.status())["sessions"] == {"live": 0, "lingering": 0, "room": 1}


async def test_a_session_that_is_busy_again_is_not_parked(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    await world.waits("s1")
    await host.goes_on("s1")
    await settle()
    await world.clock.advance(40.0, step_s=1.0)
    assert host.releases == []


async def test_what_a_host_says_while_it_is_asked_for_a_session_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    await world.waits("s1")
    await world.clock.advance(29.0, step_s=1.0)
    release = host.release

    async def waits_again(session_id: str, reason: str) -> SessionReleased | Busy:
        await host.goes_on(session_id)
        reply = await release(session_id, reason)
        await host.waits(session_id)
        await settle()  # the directory hears of it before it gets the reply
        return reply

    monkeypatch.setattr(host, "release", waits_again)
    await world.clock.advance(2.0, step_s=1.0)
    monkeypatch.undo()
    assert host.releases == [("s1", "linger")]
    assert (await directory.status())["sessions"]["lingering"] == 1
    await world.ledger.queue("s2")
    await until(lambda: world.executes("s2"))
    assert host.releases == [("s1", "linger"), ("s1", "evict")]


async def test_the_session_that_waits_longest_makes_room(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    (host,) = world.living()
    world.ledger.add("s1", "s2")
    await directory.route("s1", note("x"))
    await directory.route("s2", note("x"))
    await world.waits("s2")
    await world.clock.advance(1.0)
    await world.waits("s1")
    await world.ledger.queue("s3")
    await until(lambda: world.executes("s3"))
    assert host.releases == [("s2", "evict")]
    assert "s1" in host.sessions


async def test_as_many_are_parked_as_runs_lack_room(world: World) -> None:
    directory = await world.directory(hosts=2, sessions_per_host=3)
    for n in range(6):
        world.ledger.add(f"s{n}")
        await directory.route(f"s{n}", note("x"))
    for n in range(6):
        await world.waits(f"s{n}")
        await world.clock.advance(0.25)
    await world.ledger.queue("q0", "q1")
    await until(lambda: world.executes("q0") and world.executes("q1"))
    await settle()
    parked = [session_id for host in world.living() for session_id, _ in host.releases]
    assert sorted(parked) == ["s0", "s1"]
    assert (await directory.status())["sessions"] == {"live": 6, "lingering": 4, "room": 0}


async def test_one_run_parks_one_session_although_several_reach_waits_at_once(
    world: World,
) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=3)
    (host,) = world.living()
    for n in range(3):
        world.ledger.add(f"s{n}")
        await directory.route(f"s{n}", note("x"))
    await world.ledger.queue("q0")
    await settle()
    # One report tells of all three.
    for n in range(3):
        await host.waits(f"s{n}")
    await until(lambda: world.executes("q0"))
    await settle()
    assert host.releases == [("s0", "evict")]


async def test_a_session_that_cannot_be_resumed_does_not_block_the_others(world: World) -> None:
    world.ledger.extra.append(WorkItem(kind="run", session_id="s1", queued_at=world.clock.now()))
    world.ledger.add("s2", run="queued")
    directory = await world.directory()
    await until(lambda: world.executes("s2"))
    status = await directory.status()
    assert status["failing"] == 1
    assert "can't be resumed" in status["warnings"][0]
    world.ledger.add("s1", run="queued")
    await world.waits("s2")
    await world.clock.advance(5.0)
    await until(lambda: world.executes("s1"))


async def test_a_session_that_is_not_to_be_resumed_any_more_does_not_count_as_failing(
    world: World,
) -> None:
    world.ledger.extra.append(WorkItem(kind="run", session_id="s1", queued_at=world.clock.now()))
    directory = await world.directory()
    await settle()
    assert (await directory.status())["failing"] == 1
    world.ledger.extra.clear()
    await world.ledger.bump()
    await settle()
    status = await directory.status()
    assert status["failing"] == 0
    assert status["warnings"] == []


async def test_a_ledger_that_restarts_is_asked_again(world: World) -> None:
    world.ledger.is_down = True
    await world.directory()
    await world.ledger.queue("s1")
    await settle()
    world.ledger.is_down = False
    await world.clock.advance(5.0)
    await until(lambda: world.executes("s1"))


async def test_a_delivery_is_routed_and_repeated_until_it_succeeds(world: World) -> None:
    tries: list[str] = []

    async def deliver(item: WorkItem) -> SessionCommand:
        tries.append(item.session_id)
        if len(tries) == 1:
            raise StoreUnavailable("not now")
        return note("delivered")

    world.ledger.add("s1")
    world.ledger.extra.append(
        WorkItem(
            kind="delivery",
            session_id="s1",
            queued_at=world.clock.now(),
            wait_id="wait_1",
            token_id="tok_1",
        )
    )
    await world.directory(deliver=deliver)
    await settle()
    await world.clock.advance(1.0)
    await until(lambda: "delivered" in world.ledger.heads["s1"].commits)
    assert tries == ["s1", "s1"]


@long_but(1, "room", [1, 1_000], ids=["one by one", "all at once"])
async def test_what_a_look_costs_does_not_grow_with_how_many_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Counted: the sessions that are looked at until each of them executes."""
    looked_at = 0
    due = WorkQueue.due

    def counted(queue: WorkQueue) -> Iterator[str]:
        nonlocal looked_at
        for session_id in due(queue):
            looked_at += 1
            yield session_id

    monkeypatch.setattr(WorkQueue, "due", counted)
    await world.directory(sessions_per_host=room)

    async def looks_each(names: Sequence[str]) -> float:
        before = looked_at
        await world.ledger.queue(*names)
        for name in names:
            await until(functools.partial(world.executes, name))
            await world.waits(name)
        return (looked_at - before) / len(names)

    few = await looks_each([f"few{n}" for n in range(80)])
    many = await looks_each([f"many{n}" for n in range(240)])
    assert many < 1.5 * few
