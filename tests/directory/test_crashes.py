"""Hosts die, stop and hang; their sessions go on elsewhere and nothing is counted wrongly."""

from __future__ import annotations

import asyncio

import pytest

from helmr.errors import OutcomeUnknown
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.hosts import ProcessState
from helmr_runtime.ports import Crash
from tests.directory.clock import settle, until
from tests.directory.fake_host import OP
from tests.directory.fakes import World, note

LATER_S = 5.0
"""Whoever asks again has done so by then."""


async def _execute(world: World, directory: DirectoryActor, *session_ids: str) -> None:
    world.ledger.add(*session_ids)
    for session_id in session_ids:
        await directory.route(session_id, note("x"))


async def test_a_dead_hosts_session_is_abandoned_and_adopted_with_its_crash(world: World) -> None:
    directory = await world.directory()
    await _execute(world, directory, "s1")
    first = world.holder("s1")
    world.spawner.gate.clear()
    world.kill(first.name, "signal 9")
    await until(lambda: world.ledger.dead_holders == [first.name])
    assert await directory.locate("s1") is None
    world.spawner.gate.set()
    await until(lambda: world.executes("s1"))
    crash = Crash(cause="signal 9", executing=True, op=OP)
    assert world.holder("s1").crashes == [("s1", crash)]


async def test_a_dead_host_is_abandoned_in_one_call(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=4)
    await _execute(world, directory, "s1", "s2", "s3", "s4")
    (host,) = world.living()
    world.calls.counter.clear()
    world.kill(host.name)
    await until(lambda: world.ledger.dead_holders == [host.name])
    await until(lambda: all(world.executes(f"s{n}") for n in range(1, 5)))
    assert world.calls.counter["ledger", "abandon_all"] == 1
    assert world.calls.counter["ledger", "abandon"] == 0


async def test_the_crash_of_a_waiting_session_is_not_held_against_its_run(world: World) -> None:
    directory = await world.directory()
    await _execute(world, directory, "s1")
    host = world.holder("s1")
    await host.waits("s1")
    world.kill(host.name)
    await until(lambda: world.ledger.dead_holders)
    await until(world.living)
    await settle()
    await directory.route("s1", note("y"))
    assert world.holder("s1").crashes == []


# --- for whom a crash counts ----------------------------------------------------------------------


async def test_a_crash_with_one_suspect_counts_for_it_and_not_for_those_that_wait(
    world: World,
) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=3)
    await _execute(world, directory, "s1", "s2", "s3")
    await world.waits("s1", "s3")
    (host,) = world.living()
    world.kill(host.name, "signal 11")
    await until(lambda: world.executes("s2"))
    await directory.route("s1", note("y"))
    await directory.route("s3", note("y"))
    (host,) = world.living()
    assert host.crashes == [("s2", Crash(cause="signal 11", executing=True, op=OP))]


async def test_a_crash_with_several_suspects_counts_for_none(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    await _execute(world, directory, "s1", "s2")
    world.kill(world.living()[0].name)
    await until(lambda: world.executes("s1") and world.executes("s2"))
    (host,) = world.living()
    assert host.crashes == []
    assert (await directory.status())["crashes"] == 1


async def test_an_operators_kill_with_nothing_executing_counts_for_nobody(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    await _execute(world, directory, "s1", "s2")
    await world.waits("s1", "s2")
    world.kill(world.living()[0].name)
    await until(world.living)
    await settle()
    await directory.route("s1", note("y"))
    await directory.route("s2", note("y"))
    assert world.living()[0].crashes == []


async def test_a_crash_whose_adoption_died_before_it_answered_is_not_told_twice(
    world: World,
) -> None:
    """What kills that host is another session's code, say."""
    directory = await world.directory(hosts=1, sessions_per_host=2)
    await _execute(world, directory, "s1")
    world.calls.lose("helmr-host-2", "adopt")
    world.kill("helmr-host-1")
    await until(lambda: "helmr-host-2" in world.hosts and world.hosts["helmr-host-2"].crashes)
    second = world.hosts["helmr-host-2"]
    assert [session_id for session_id, _ in second.crashes] == ["s1"]
    second.sessions["s1"].is_executing = False
    world.kill(second.name)
    await world.clock.advance(LATER_S)
    await until(lambda: world.executes("s1"))
    assert world.holder("s1").crashes == []


async def test_a_crash_that_a_living_host_has_committed_and_not_told_is_not_told_twice(
    world: World,
) -> None:
    """It took the session up, gave it back for a host of its own, and that answer was lost."""
    directory = await world.directory(hosts=1, sessions_per_host=2)
    await _execute(world, directory, "s1")
    world.isolated.add("s1")
    world.calls.lose("helmr-host-2", "adopt")
    world.kill("helmr-host-1", "signal 6")
    await until(lambda: "helmr-host-2" in world.hosts and world.hosts["helmr-host-2"].crashes)
    await world.clock.advance(LATER_S)
    await until(lambda: world.executes("s1"))
    told = [crash for host in world.hosts.values() for crash in host.crashes]
    assert told == [("s1", Crash(cause="signal 6", executing=True, op=OP))]


async def test_after_two_crashes_with_others_a_session_goes_on_alone(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=3)
    await _execute(world, directory, "s1", "s2", "s3")
    await world.waits("s3")
    for _ in range(2):
        assert world.own() == []
        world.kill(world.shared()[0].name)
        await until(lambda: world.executes("s1") and world.executes("s2"))
        await settle()
    first, second = world.own()
    assert {*first.sessions, *second.sessions} == {"s1", "s2"}
    (shared,) = world.shared()
    assert shared.sessions == {}
    assert first.crashes == second.crashes == []
    # What that host dies of is its own doing.
    guilty = world.holder("s1")
    world.kill(guilty.name, "signal 6")
    await until(lambda: world.executes("s1"))
    assert world.holder("s1").is_exclusive
    assert world.holder("s1").crashes == [("s1", Crash(cause="signal 6", executing=True, op=OP))]
    assert (await directory.status())["crashes"] == 3


async def test_a_session_alone_is_suspected_no_more_once_it_waits(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    await _execute(world, directory, "s1", "s2")
    for _ in range(2):
        world.kill(world.shared()[0].name)
        await until(lambda: world.executes("s1") and world.executes("s2"))
        await settle()
    own = world.holder("s1")
    assert own.is_exclusive
    await world.waits("s1")
    assert (await directory.route("s1", note("hot"))).host == own.name
    await world.clock.advance(31.0, step_s=1.0)
    assert own.releases == [("s1", "linger")]
    await until(lambda: own not in world.living())
    await settle()
    assert (await directory.route("s1", note("y"))).host == world.shared()[0].name
    assert (await directory.status())["crashes"] == 2


async def test_a_wait_between_two_crashes_ends_the_suspicion(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    await _execute(world, directory, "s1", "s2")
    for _ in range(3):
        world.kill(world.shared()[0].name)
        await until(lambda: world.executes("s1") and world.executes("s2"))
        await settle()
        await world.waits("s1", "s2")
        for session_id in ("s1", "s2"):
            await world.holder(session_id).goes_on(session_id)
        await settle()
    assert world.own() == []


async def test_a_command_to_a_session_that_must_be_alone_is_decided_at_once(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    await _execute(world, directory, "s1", "s2")
    world.kill(world.shared()[0].name)
    await until(lambda: world.executes("s1") and world.executes("s2"))
    await settle()
    world.spawner.own_gate.clear()
    world.kill(world.shared()[0].name)
    await until(world.shared)
    await settle()
    routed = await directory.route("s1", note("y"))
    assert (routed.reply, routed.host) == ({"text": "y"}, None)
    assert world.shared()[0].decisions == ["s1"]
    assert world.shared()[0].adoptions == []
    world.spawner.own_gate.set()
    await until(lambda: world.executes("s1"))
    assert world.holder("s1").is_exclusive


async def test_a_session_alone_that_kills_its_host_while_it_is_adopted_goes_to_no_other(
    world: World,
) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=3)
    await _execute(world, directory, "s1", "s2")
    world.kill(world.shared()[0].name)
    await until(lambda: world.executes("s1") and world.executes("s2"))
    await settle()
    # From here on the code of s1 ends its host at once.
    (shared,) = world.shared()
    world.deadly["s1"] = "signal 6"
    world.kill(shared.name)
    await until(lambda: len(world.hosts) >= 5)
    for _ in range(20):
        await world.clock.advance(1.0)
    ended = [host for host in world.hosts.values() if "s1" in host.adoptions][2:]
    assert len(ended) >= 2
    assert all(host.is_exclusive for host in ended)
    assert [d.cause for host in ended for _, d in host.crashes] == ["signal 6"] * (len(ended) - 1)


# --- commands under way ---------------------------------------------------------------------------


async def test_a_command_pending_at_the_crash_is_decided_by_the_next_host(world: World) -> None:
    directory = await world.directory(hosts=2)
    world.ledger.add("s1")
    host, _ = world.living()
    host.adopt_gate.clear()
    pending = asyncio.create_task(directory.route("s1", note("x")))
    await until(lambda: "s1" in host.sessions)
    world.kill(host.name)
    routed = await pending
    assert routed.host != host.name
    assert world.ledger.dead_holders == [host.name]
    assert world.ledger.heads["s1"].epoch == 3


async def test_a_command_that_cannot_be_told_apart_is_not_repeated(world: World) -> None:
    directory = await world.directory(hosts=2)
    world.ledger.add("s1")
    host, _ = world.living()
    host.adopt_gate.clear()
    pending = asyncio.create_task(directory.route("s1", note("x", operation=None)))
    await until(lambda: "s1" in host.sessions)
    world.kill(host.name)
    with pytest.raises(OutcomeUnknown):
        await pending
    assert await directory.locate("s1") is None


async def test_a_crash_while_adopting_is_passed_on_once(world: World) -> None:
    directory = await world.directory(hosts=3)
    world.ledger.add("s1")
    first, second, _ = world.living()
    first.dies_in_adopt_of = "signal 11"
    await directory.route("s1", note("x"))
    assert second.crashes == [("s1", Crash(cause="signal 11", executing=True, op=OP))]
    await second.waits("s1")
    assert await second.release("s1", "test")
    await directory.route("s1", note("y"))
    assert sum(len(host.crashes) for host in world.hosts.values()) == 1


async def test_a_crash_is_passed_on_with_a_command_that_is_decided_without_room(
    world: World,
) -> None:
    directory = await world.directory(hosts=2)
    await _execute(world, directory, "s1", "s2")
    first, second = world.holder("s1"), world.holder("s2")
    world.spawner.gate.clear()
    world.kill(first.name, "signal 11")
    await until(lambda: world.ledger.dead_holders)
    await directory.route("s1", note("y"))
    assert second.decisions == ["s1"]
    assert [(sid, d.cause) for sid, d in second.crashes] == [("s1", "signal 11")]
    world.spawner.gate.set()
    await until(lambda: world.executes("s1"))
    assert world.holder("s1").crashes == []


# --- watching -------------------------------------------------------------------------------------


async def test_dead_hosts_are_replaced_in_the_background(world: World) -> None:
    directory = await world.directory(hosts=3)
    for host in world.living():
        world.kill(host.name)
    await until(lambda: len(world.living()) == 3)
    await settle()
    status = await directory.status()
    assert status["hosts"] == {"total": 3, "starting": 0, "retiring": 0}
    assert status["crashes"] == 3
    assert {d["cause"] for d in status["recent_crashes"]} == {"signal 9"}


async def test_a_stopped_process_is_killed_after_two_seconds(world: World) -> None:
    directory = await world.directory()
    await _execute(world, directory, "s1")
    host = world.holder("s1")
    world.calls.stop(host.name)
    world.spawner.process_states[host.pid] = ProcessState.STOPPED
    await world.clock.advance(1.5)
    assert world.spawner.killed == []
    await world.clock.advance(1.5)
    await until(lambda: world.spawner.killed == [host.name])
    await until(lambda: world.ledger.dead_holders == [host.name])
    status = await directory.status()
    assert "stopped" in status["recent_crashes"][0]["cause"]


async def test_a_hanging_process_is_warned_about_and_killed_at_thirty_seconds(
    world: World,
) -> None:
    directory = await world.directory()
    await _execute(world, directory, "s1")
    host = world.holder("s1")
    host.is_deaf = True
    await world.clock.advance(5.0)
    warnings = (await directory.status())["warnings"]
    assert warnings[0].startswith(f"{host.name} has not answered for")
    assert world.spawner.killed == []
    await world.clock.advance(28.0, step_s=0.5)
    await until(lambda: world.spawner.killed == [host.name])
    await settle()
    status = await directory.status()
    assert status["warnings"] == []
    assert status["crashes"] == 1


async def test_a_host_that_answers_again_is_warned_about_no_more(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.calls.stop(host.name)
    await world.clock.advance(4.0)
    assert (await directory.status())["warnings"]
    world.calls.resume(host.name)
    await settle()
    await world.clock.advance(1.0)
    assert (await directory.status())["warnings"] == []
    assert world.spawner.killed == []


async def test_a_directory_that_was_away_does_not_blame_the_others(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.spawner.process_states[host.pid] = ProcessState.STOPPED
    world.calls.stop(host.name)
    await world.clock.advance(0.5)
    await world.clock.advance(60.0, step_s=60.0)
    assert world.spawner.killed == []
    world.calls.resume(host.name)
    await settle()
    await world.clock.advance(1.0)
    assert (await directory.status())["crashes"] == 0


async def test_a_spawn_that_fails_is_tried_again_and_shown(world: World) -> None:
    world.code_hash = "code-2"
    world.spawner.gate.clear()
    directory = await world.directory()
    world.spawner.gate.set()
    await settle()
    warnings = (await directory.status())["warnings"]
    assert "task files have changed" in warnings[0]
    world.code_hash = "code-1"
    await world.clock.advance(2.0)
    await settle()
    status = await directory.status()
    assert status["sessions"]["room"] == 1
    assert status["warnings"] == []
