"""Actors die, stop and hang; their sessions go on elsewhere and nothing is counted wrongly."""

from __future__ import annotations

import asyncio

import pytest

from helmr.errors import OutcomeUnknown
from helmr_runtime.directory.pool import ProcessState
from helmr_runtime.ports import Death
from tests.directory.fakes import World, note, settle, until


async def test_a_dead_actors_session_is_abandoned_and_adopted_with_its_death(world: World) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    first = world.holder("s1")
    world.kill(first.name, "signal 9")
    await until(lambda: world.ledger.abandoned == [("s1", 1)])
    assert await directory.locate("s1") is None
    await until(lambda: len(world.living("slot")) == 1)
    world.ledger.heads["s1"].queued = True
    await world.ledger.bump()
    await until(lambda: world.living("slot")[0].session_id == "s1")
    assert world.holder("s1").deaths == [Death(cause="signal 9", executing=True, op=7)]


async def test_the_death_of_a_waiting_session_is_not_held_against_its_run(world: World) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    slot = world.holder("s1")
    await slot.report("parkable")
    world.kill(slot.name)
    await until(lambda: world.ledger.abandoned)
    await until(lambda: len(world.living("slot")) == 1)
    await settle()
    await directory.route("s1", note("y"))
    assert world.holder("s1").deaths == []


async def test_a_command_pending_at_the_death_is_decided_by_the_next_actor(world: World) -> None:
    directory = await world.directory(slots=2)
    world.ledger.add("s1")
    (slot, _) = world.living("slot")
    slot.adopt_gate.clear()
    pending = asyncio.create_task(directory.route("s1", note("x")))
    await until(lambda: slot.session_id == "s1")
    world.kill(slot.name)
    routed = await pending
    assert routed.actor != slot.name
    assert world.ledger.abandoned == [("s1", 1)]
    assert world.ledger.heads["s1"].epoch == 3


async def test_a_command_that_cannot_be_told_apart_is_not_repeated(world: World) -> None:
    directory = await world.directory(slots=2)
    world.ledger.add("s1")
    (slot, _) = world.living("slot")
    slot.adopt_gate.clear()
    pending = asyncio.create_task(directory.route("s1", note("x", operation=None)))
    await until(lambda: slot.session_id == "s1")
    world.kill(slot.name)
    with pytest.raises(OutcomeUnknown):
        await pending


async def test_a_death_while_adopting_is_passed_on_once(world: World) -> None:
    directory = await world.directory(slots=3)
    world.ledger.add("s1")
    first, second, third = world.living("slot")
    first.die_in_adopt = "signal 11"
    first.is_executing = True
    await directory.route("s1", note("x"))
    assert second.deaths == [Death(cause="signal 11", executing=True, op=7)]
    await second.report("parkable")
    assert await second.release("s1", "test")
    await directory.route("s1", note("y"))
    assert world.holder("s1") in (second, third)
    assert len(second.deaths + third.deaths) == 1


async def test_dead_actors_are_replaced_in_the_background(world: World) -> None:
    directory = await world.directory(slots=2, desks=1)
    for actor in world.living():
        world.kill(actor.name)
    await until(lambda: len(world.living("slot")) == 2 and len(world.living("desk")) == 1)
    await settle()
    status = await directory.status()
    assert status["deaths"] == 3
    assert {d["cause"] for d in status["recent_deaths"]} == {"signal 9"}


async def test_a_stopped_process_is_killed_after_two_seconds(world: World) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    slot = world.holder("s1")
    world.calls.stop(slot.name)
    world.spawner.process_states[slot.pid] = ProcessState.STOPPED
    await world.clock.advance(1.5)
    assert world.spawner.killed == []
    await world.clock.advance(1.5)
    await until(lambda: world.spawner.killed == [slot.name])
    await until(lambda: world.ledger.abandoned == [("s1", 1)])
    status = await directory.status()
    assert "stopped" in status["recent_deaths"][0]["cause"]


async def test_a_hanging_process_is_warned_about_and_killed_at_thirty_seconds(
    world: World,
) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    slot = world.holder("s1")
    slot.is_deaf = True
    await world.clock.advance(5.0)
    warnings = (await directory.status())["warnings"]
    assert warnings[0].startswith(f"{slot.name} has not answered for")
    assert world.spawner.killed == []
    await world.clock.advance(28.0, step_s=0.5)
    await until(lambda: world.spawner.killed == [slot.name])
    await settle()
    status = await directory.status()
    assert status["warnings"] == []
    assert status["deaths"] == 1


async def test_an_actor_that_answers_again_is_warned_about_no_more(world: World) -> None:
    directory = await world.directory(slots=1)
    (slot,) = world.living("slot")
    world.calls.stop(slot.name)
    await world.clock.advance(4.0)
    assert (await directory.status())["warnings"]
    world.calls.resume(slot.name)
    await settle()
    await world.clock.advance(1.0)
    assert (await directory.status())["warnings"] == []
    assert world.spawner.killed == []


async def test_a_directory_that_was_away_does_not_blame_the_others(world: World) -> None:
    directory = await world.directory(slots=1)
    (slot,) = world.living("slot")
    world.spawner.process_states[slot.pid] = ProcessState.STOPPED
    world.calls.stop(slot.name)
    await world.clock.advance(0.5)
    await world.clock.advance(60.0, step_s=60.0)
    assert world.spawner.killed == []
    world.calls.resume(slot.name)
    await settle()
    await world.clock.advance(1.0)
    assert (await directory.status())["deaths"] == 0


async def test_a_lost_session_leaves_its_actor_which_serves_again_when_free(world: World) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    world.ledger.add("s2")
    await directory.route("s1", note("x"))
    slot = world.holder("s1")
    await slot.report("failed", detail="refused")
    slot.session_id = None
    await until(lambda: world.ledger.abandoned == [("s1", 1)])
    await settle()
    assert (await directory.status())["deaths"] == 0
    await slot.report("free")
    await settle()
    assert (await directory.route("s2", note("y"))).actor == slot.name


async def test_a_spawn_that_fails_is_tried_again_and_shown(world: World) -> None:
    world.code_hash = "code-2"
    world.spawner.gate.clear()
    directory = await world.directory(slots=1, desks=0)
    world.spawner.gate.set()
    await settle()
    warnings = (await directory.status())["warnings"]
    assert "task files have changed" in warnings[0]
    world.code_hash = "code-1"
    await world.clock.advance(2.0)
    await settle()
    status = await directory.status()
    assert status["slots"]["free"] == 1
    assert status["warnings"] == []
