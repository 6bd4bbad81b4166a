"""Commands reach their session, wherever it lives, with the fewest calls."""

from __future__ import annotations

import asyncio

import pytest

from helmr.errors import NotReady, Overloaded, SessionNotFound, StoreUnavailable, UsageError
from tests.directory.fakes import World, note, settle, until


async def test_a_parked_session_is_adopted_with_the_command_in_the_call(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    world.calls.counter.clear()
    routed = await directory.route("s1", note("hello"))
    assert routed.reply == {"text": "hello"}
    assert routed.actor == world.holder("s1").name
    assert world.calls.counter["session", "adopt"] == 1
    assert world.calls.counter["ledger", "load"] == 1
    assert world.calls.counter["session", "command"] == 0
    assert world.calls.counter["session", "who"] == 0


async def test_a_held_session_is_commanded_where_it_is(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    await directory.route("s1", note("one"))
    await directory.route("s1", note("two"))
    assert world.ledger.heads["s1"].commits == ["adopted", "one", "two"]
    assert world.calls.counter["session", "adopt"] == 1


async def test_commands_at_once_to_one_session_adopt_it_once(world: World) -> None:
    directory = await world.directory(slots=4)
    world.ledger.add("s1")
    replies = await asyncio.gather(
        *(directory.route("s1", note(str(n), operation=f"op_{n}")) for n in range(20))
    )
    assert sorted(int(r.reply["text"]) for r in replies) == list(range(20))
    assert world.ledger.heads["s1"].epoch == 1


async def test_locate_names_the_holder_and_adopts_nothing(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    assert await directory.locate("s1") is None
    await directory.route("s1", note("hello"))
    assert await directory.locate("s1") == world.holder("s1").name


async def test_with_every_slot_busy_a_desk_decides_and_releases(world: World) -> None:
    directory = await world.directory(slots=1, desks=1)
    for session_id in ("s1", "s2", "s3"):
        world.ledger.add(session_id)
    await directory.route("s1", note("busy"))
    for session_id in ("s2", "s3"):
        routed = await directory.route(session_id, note("decided"))
        assert routed.actor is not None
        assert routed.actor.startswith("helmr-desk-")
    await until(lambda: world.ledger.heads["s3"].holder is None)
    assert world.ledger.heads["s2"].commits == ["decided", "parked"]
    assert (await directory.status())["queue"] == 2


async def test_commands_wait_in_order_for_a_desk(world: World) -> None:
    directory = await world.directory(slots=1, desks=1)
    for n in range(10):
        world.ledger.add(f"s{n}")
    await directory.route("s0", note("busy"))
    await asyncio.gather(*(directory.route(f"s{n}", note("x")) for n in range(1, 10)))
    (desk,) = world.living("desk")
    assert desk.adoptions == [f"s{n}" for n in range(1, 10)]


async def test_a_desk_that_does_not_come_free_is_overload(world: World) -> None:
    directory = await world.directory(slots=1, desks=1)
    for session_id in ("s1", "s2", "s3"):
        world.ledger.add(session_id)
    await directory.route("s1", note("busy"))
    (desk,) = world.living("desk")
    desk.adopt_gate.clear()
    stuck = asyncio.create_task(directory.route("s2", note("x")))
    await until(lambda: desk.session_id == "s2")
    waiting = asyncio.create_task(directory.route("s3", note("y")))
    await settle()
    await world.clock.advance(6.0)
    with pytest.raises(Overloaded):
        await waiting
    assert world.ledger.heads["s3"].commits == []
    desk.adopt_gate.set()
    await stuck


async def test_a_command_takes_the_slot_of_a_session_that_waits(world: World) -> None:
    directory = await world.directory(slots=1, desks=1)
    world.ledger.add("s1")
    world.ledger.add("s2")
    await directory.route("s1", note("one"))
    slot = world.holder("s1")
    await slot.report("parkable")
    await settle()
    await directory.route("s2", note("two"))
    assert slot.session_id == "s2"
    assert slot.releases == ["evict"]
    assert world.ledger.heads["s1"].holder is None


async def test_a_refused_command_reaches_its_caller_and_the_session_stays_held(
    world: World,
) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    with pytest.raises(UsageError, match="refused"):
        await directory.route("s1", note("refused"))
    assert await directory.locate("s1") == world.holder("s1").name


async def test_an_unknown_session_leaves_the_slot_free(world: World) -> None:
    directory = await world.directory()
    with pytest.raises(SessionNotFound):
        await directory.route("s404", note("x"))
    world.ledger.add("s1")
    routed = await directory.route("s1", note("y"))
    assert routed.actor == world.living("slot")[0].name


async def test_a_session_that_its_actor_gave_up_is_adopted_again(world: World) -> None:
    directory = await world.directory(slots=2)
    world.ledger.add("s1")
    await directory.route("s1", note("one"))
    slot = world.holder("s1")
    await slot.report("parkable")
    assert await slot.release("s1", "on its own")
    routed = await directory.route("s1", note("two"))
    assert routed.reply == {"text": "two"}
    assert world.ledger.heads["s1"].epoch == 2


async def test_a_caller_that_gives_up_leaves_no_half_adoption(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    (slot,) = world.living("slot")
    slot.adopt_gate.clear()
    caller = asyncio.create_task(directory.route("s1", note("one")))
    await until(lambda: slot.session_id == "s1")
    caller.cancel()
    slot.adopt_gate.set()
    await until(lambda: "one" in world.ledger.heads["s1"].commits)
    assert (await directory.route("s1", note("two"))).actor == slot.name


async def test_a_command_waits_until_the_directory_knows_what_is_held(world: World) -> None:
    world.ledger.is_down = True
    directory = await world.directory()
    world.ledger.add("s1")
    pending = asyncio.create_task(directory.route("s1", note("early")))
    await settle()
    assert not pending.done()
    world.ledger.is_down = False
    await world.clock.advance(1.0)
    assert (await pending).reply == {"text": "early"}


async def test_a_command_outlasts_a_restart_of_the_ledger(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    world.calls.kill("helmr-ledger")
    pending = asyncio.create_task(directory.route("s1", note("meanwhile")))
    await until(lambda: world.calls.counter["session", "adopt"] >= 1)
    assert not pending.done()
    world.calls.register("helmr-ledger", world.ledger)
    assert (await pending).reply == {"text": "meanwhile"}


async def test_a_ledger_that_refuses_to_store_is_reported_at_once(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    world.ledger.is_down = True
    with pytest.raises(StoreUnavailable):
        await directory.route("s1", note("x"))


async def test_after_the_end_nothing_is_routed(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    await directory.shutdown()
    with pytest.raises(NotReady):
        await directory.route("s1", note("x"))
