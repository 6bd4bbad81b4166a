"""A directory restarts, its code changes, or the runtime ends: sessions keep what they had."""

from __future__ import annotations

import asyncio

import pytest

from helmr.errors import NotReady
from tests.directory.fakes import World, note, settle, until


async def test_a_new_directory_takes_over_what_lives(world: World) -> None:
    first = await world.directory(slots=2, desks=1)
    world.ledger.add("s1")
    await first.route("s1", note("x"))
    holder = world.holder("s1")
    living = world.living()
    await first.stop()
    second = await world.directory(slots=2, desks=1)
    assert world.living() == living
    assert await second.locate("s1") == holder.name
    assert (await second.route("s1", note("y"))).actor == holder.name
    assert holder.adoptions == ["s1"]


async def test_it_still_learns_that_a_session_it_took_over_waits(world: World) -> None:
    first = await world.directory(slots=1)
    world.ledger.add("s1")
    await first.route("s1", note("x"))
    slot = world.holder("s1")
    await slot.report("parkable")
    await settle()
    await first.stop()
    await world.directory(slots=1)
    await settle()
    await world.clock.advance(31.0, step_s=1.0)
    assert slot.releases == ["linger"]


async def test_it_kills_what_does_not_say_in_time_what_it_holds(world: World) -> None:
    first = await world.directory(slots=1, desks=1)
    (slot,) = world.living("slot")
    await first.stop()
    world.calls.stop(slot.name)
    starting = asyncio.create_task(world.directory(slots=1, desks=1))
    await settle()
    await world.clock.advance(2.5)
    await starting
    assert world.spawner.killed == [slot.name]


async def test_it_abandons_what_died_while_no_directory_watched(world: World) -> None:
    first = await world.directory(slots=1)
    world.ledger.add("s1")
    await first.route("s1", note("x"))
    slot = world.holder("s1")
    await first.stop()
    world.kill(slot.name)
    second = await world.directory(slots=1)
    await until(lambda: world.ledger.abandoned == [("s1", 1)])
    await second.route("s1", note("y"))
    assert [d.cause for d in world.holder("s1").deaths] == ["died unwatched"]


async def test_of_two_that_claim_a_session_one_is_ended(world: World) -> None:
    first = await world.directory(slots=2)
    world.ledger.add("s1")
    await first.route("s1", note("x"))
    zombie = next(a for a in world.living("slot") if a.session_id is None)
    zombie.session_id, zombie.epoch = "s1", 0
    await first.stop()
    second = await world.directory(slots=2)
    await until(lambda: len(world.spawner.killed) == 1)
    await settle()
    assert await second.locate("s1") == world.holder("s1").name
    assert (await second.status())["deaths"] == 0


async def test_new_code_drains_old_actors_at_their_next_wait(world: World) -> None:
    directory = await world.directory(slots=2, desks=1)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    hot = world.holder("s1")
    old = world.living()
    world.code_hash = "code-2"
    await directory.set_catalog("code-2")
    await until(lambda: len(world.spawner.killed) == 2)
    assert hot.name not in world.spawner.killed
    assert (await directory.route("s1", note("y"))).actor == hot.name
    await hot.report("parkable")
    await until(lambda: hot.name in world.spawner.killed)
    assert hot.releases == ["drain"]
    await until(lambda: len(world.living()) == 3)
    await settle()
    assert not set(old) & set(world.living())
    assert (await directory.status())["deaths"] == 0
    assert (await directory.route("s1", note("z"))).reply == {"text": "z"}


async def test_shutdown_parks_what_waits_and_names_what_runs(world: World) -> None:
    directory = await world.directory(slots=3)
    for n in range(3):
        world.ledger.add(f"s{n}")
        await directory.route(f"s{n}", note("x"))
    await world.holder("s0").report("parkable")
    await settle()
    late = world.holder("s1")
    ending = asyncio.create_task(directory.shutdown())
    await settle()
    with pytest.raises(NotReady):
        await directory.route("s0", note("y"))
    await late.report("parkable")
    await world.clock.advance(6.0)
    assert await ending == {"unparked": ["s2"]}
    assert late.releases[-1] == "shutdown"
    assert world.ledger.heads["s0"].holder is None
    assert world.ledger.heads["s1"].holder is None
