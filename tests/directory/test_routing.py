"""Commands reach their session, wherever it lives, with the fewest calls; without room for its code as well."""

from __future__ import annotations

import asyncio

import pytest

from helmr.errors import NotReady, Overloaded, SessionNotFound, StoreUnavailable, UsageError
from helmr_runtime.directory.pool import DECIDING_MAX
from helmr_runtime.rpc.calls import LEDGER
from tests.directory.clock import settle, until
from tests.directory.fakes import World, note


async def test_a_parked_session_is_adopted_with_the_command_in_the_call(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    world.calls.counter.clear()
    routed = await directory.route("s1", note("hello"))
    assert routed.reply == {"text": "hello"}
    assert routed.host == world.holder("s1").name
    assert world.calls.counter["host", "adopt"] == 1
    assert world.calls.counter["ledger", "load"] == 1
    assert world.calls.counter["host", "command"] == 0
    assert world.calls.counter["host", "lease"] == 0


async def test_a_held_session_is_commanded_where_it_is(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    await directory.route("s1", note("one"))
    await directory.route("s1", note("two"))
    assert world.ledger.heads["s1"].commits == ["adopted", "one", "two"]
    assert world.calls.counter["host", "adopt"] == 1


async def test_commands_at_once_to_one_session_adopt_it_once(world: World) -> None:
    directory = await world.directory(hosts=2, sessions_per_host=2)
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


async def test_one_host_holds_many_sessions(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=8)
    (host,) = world.living()
    for n in range(8):
        world.ledger.add(f"s{n}")
        assert (await directory.route(f"s{n}", note("x"))).host == host.name
    status = await directory.status()
    assert status["sessions"] == {"live": 8, "lingering": 0, "room": 0}
    assert status["host_list"][0]["session_ids"] == [f"s{n}" for n in range(8)]
    assert host.executing_max == 8


async def test_a_session_goes_to_the_host_with_most_room(world: World) -> None:
    directory = await world.directory(hosts=2, sessions_per_host=3)
    first, second = world.living()
    for n in range(5):
        world.ledger.add(f"s{n}")
        await directory.route(f"s{n}", note("x"))
    assert (len(first.sessions), len(second.sessions)) == (3, 2)
    for session_id in list(first.sessions):
        await first.waits(session_id)
    await settle()
    await world.clock.advance(31.0, step_s=1.0)
    assert first.sessions == {}
    world.ledger.add("s5")
    assert (await directory.route("s5", note("x"))).host == first.name


# --- without room ---------------------------------------------------------------------------------


async def test_without_room_a_command_is_decided_and_the_session_released_in_one_call(
    world: World,
) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1", "s2", "s3")
    await directory.route("s1", note("busy"))
    world.calls.counter.clear()
    for session_id in ("s2", "s3"):
        routed = await directory.route(session_id, note("decided"))
        assert routed.reply == {"text": "decided"}
        assert routed.host is None
    assert host.decisions == ["s2", "s3"]
    assert world.calls.counter["host", "adopt"] == 2
    assert world.calls.counter["host", "release"] == 0
    assert world.ledger.heads["s2"].commits == ["decided"]
    assert world.ledger.heads["s2"].holder is None
    await settle()
    status = await directory.status()
    assert status["queue"] == 2
    assert status["sessions"]["live"] == 1


async def test_what_is_decided_without_room_runs_when_there_is_some(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1", "s2")
    await directory.route("s1", note("busy"))
    await directory.route("s2", note("decided"))
    assert world.executes("s1")
    await world.waits("s1")
    await until(lambda: world.executes("s2"))
    assert world.ledger.heads["s2"].commits == ["decided", "adopted"]


async def test_a_command_without_room_makes_none(world: World) -> None:
    """A session that waits is parked for runs that wait for room, and not for a command that needs none."""
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1", "s2")
    await directory.route("s1", note("x"))
    await world.waits("s1")
    with pytest.raises(UsageError):
        await directory.route("s2", note("refused"))
    await settle()
    assert host.decisions == ["s2"]
    assert host.releases == []
    assert await directory.locate("s1") == host.name


async def test_without_room_the_host_with_the_fewest_sessions_decides(world: World) -> None:
    directory = await world.directory(hosts=2, sessions_per_host=1)
    first, second = world.living()
    world.ledger.add("s1", "s2", "s3", "s4")
    await directory.route("s1", note("busy"))
    await directory.route("s2", note("busy"))
    first.adopt_gate.clear()
    slow = asyncio.create_task(directory.route("s3", note("x")))
    await until(lambda: "s3" in first.sessions)
    await directory.route("s4", note("x"))
    assert second.decisions == ["s4"]
    first.adopt_gate.set()
    await slow


async def test_decisions_without_room_that_get_no_turn_are_overload(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s0", "late", *(f"s{n}" for n in range(1, DECIDING_MAX + 1)))
    await directory.route("s0", note("busy"))
    host.adopt_gate.clear()
    stuck = [
        asyncio.create_task(directory.route(f"s{n}", note("x"))) for n in range(1, DECIDING_MAX + 1)
    ]
    await until(lambda: len(host.decisions) == DECIDING_MAX)
    late = asyncio.create_task(directory.route("late", note("x")))
    await settle()
    assert not late.done()
    await world.clock.advance(6.0)
    with pytest.raises(Overloaded, match="too many commands"):
        await late
    assert world.ledger.heads["late"].epoch == 0
    host.adopt_gate.set()
    await asyncio.gather(*stuck)
    assert (await directory.route("late", note("y"))).reply == {"text": "y"}


async def test_decisions_whose_host_dies_do_not_wait_for_each_others_turns(world: World) -> None:
    """As many as may be decided at once are decided again elsewhere, each in the turn that it has."""
    directory = await world.directory(hosts=2)
    first, second = world.living()
    world.ledger.add("a", "b", *(f"s{n}" for n in range(2 * DECIDING_MAX)))
    await directory.route("a", note("busy"))
    await directory.route("b", note("busy"))
    first.adopt_gate.clear()
    second.adopt_gate.clear()
    pending = [
        asyncio.create_task(directory.route(f"s{n}", note("x", operation=f"op_{n}")))
        for n in range(DECIDING_MAX)
    ]
    await until(lambda: len(first.sessions) + len(second.sessions) == DECIDING_MAX + 2)
    world.kill(first.name)
    world.kill(second.name)
    await asyncio.wait(pending, timeout=0.2)
    await world.clock.advance(6.0)
    routed = await asyncio.gather(*pending, return_exceptions=True)
    assert [error for error in routed if isinstance(error, BaseException)] == []


async def test_without_any_host_a_command_waits_for_one(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    world.spawner.gate.clear()
    world.kill(world.living()[0].name)
    pending = asyncio.create_task(directory.route("s1", note("x")))
    await settle()
    await world.clock.advance(2.0)
    assert not pending.done()
    world.spawner.gate.set()
    assert (await pending).reply == {"text": "x"}


async def test_without_any_host_for_seconds_a_command_is_overload(world: World) -> None:
    world.spawner.is_broken = True
    directory = await world.directory()
    world.ledger.add("s1")
    pending = asyncio.create_task(directory.route("s1", note("x")))
    await settle()
    await world.clock.advance(6.0)
    with pytest.raises(Overloaded, match="no host"):
        await pending


async def test_a_refused_command_reaches_its_caller_and_the_session_stays_held(
    world: World,
) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    with pytest.raises(UsageError, match="refused"):
        await directory.route("s1", note("refused"))
    assert await directory.locate("s1") == world.holder("s1").name


async def test_a_command_refused_without_room_leaves_the_session_parked(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1", "s2")
    await directory.route("s1", note("busy"))
    with pytest.raises(UsageError, match="refused"):
        await directory.route("s2", note("refused"))
    assert await directory.locate("s2") is None
    assert world.ledger.heads["s2"].holder is None
    assert (await directory.status())["sessions"]["live"] == 1


async def test_an_unknown_session_takes_no_room(world: World) -> None:
    directory = await world.directory()
    with pytest.raises(SessionNotFound):
        await directory.route("s404", note("x"))
    world.ledger.add("s1")
    routed = await directory.route("s1", note("y"))
    assert routed.host == world.living()[0].name


async def test_a_session_that_its_host_gave_up_is_adopted_again(world: World) -> None:
    directory = await world.directory(hosts=2)
    world.ledger.add("s1")
    await directory.route("s1", note("one"))
    host = world.holder("s1")
    await host.waits("s1")
    assert await host.release("s1", "on its own")
    routed = await directory.route("s1", note("two"))
    assert routed.reply == {"text": "two"}
    assert world.ledger.heads["s1"].epoch == 2


async def test_a_caller_that_gives_up_leaves_no_half_adoption(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    (host,) = world.living()
    host.adopt_gate.clear()
    caller = asyncio.create_task(directory.route("s1", note("one")))
    await until(lambda: "s1" in host.sessions)
    caller.cancel()
    host.adopt_gate.set()
    await until(lambda: "one" in world.ledger.heads["s1"].commits)
    assert (await directory.route("s1", note("two"))).host == host.name


# --- the ledger away, the end ---------------------------------------------------------------------


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
    world.calls.kill(LEDGER)
    pending = asyncio.create_task(directory.route("s1", note("meanwhile")))
    await until(lambda: world.calls.counter["host", "adopt"] >= 1)
    await settle()
    assert not pending.done()
    world.calls.register(LEDGER, world.ledger)
    await world.clock.advance(1.0)
    assert (await pending).reply == {"text": "meanwhile"}


async def test_a_ledger_that_refuses_to_store_is_reported_at_once(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    world.ledger.is_down = True
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(1.0):
            await directory.route("s1", note("x"))


async def test_after_the_end_nothing_is_routed(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    await directory.shutdown()
    with pytest.raises(NotReady):
        await directory.route("s1", note("x"))
