"""Sessions that a host loses, and answers that are lost on their way: who holds what is found out, not guessed."""

from __future__ import annotations

import asyncio
import functools

import pytest

from helmr.errors import OutcomeUnknown
from helmr_runtime.core.commands import AddNote
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.holds import UNREACHABLE_TRIES
from helmr_runtime.directory.hosts import PoolTimings
from helmr_runtime.ports import SlotReport, SlotState
from tests.directory.clock import BOUND_S, settle, until
from tests.directory.fakes import World, note

RETRY_S = PoolTimings().retry_s


async def _live(directory: DirectoryActor) -> int:
    live: int = (await directory.status())["sessions"]["live"]
    return live


# --- lost sessions --------------------------------------------------------------------------------


async def test_a_lost_sessions_slot_is_free_when_its_code_has_ended(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1", "s2")
    await directory.route("s1", note("x"))
    host = world.holder("s1")
    await host.loses("s1")
    await until(lambda: world.ledger.abandoned == [("s1", 1)])
    await settle()
    assert await directory.locate("s1") is None
    assert await _live(directory) == 1
    assert (await directory.route("s2", note("y"))).host is None
    await host.ends("s1")
    await until(lambda: world.executes("s1"))
    await world.waits("s1")
    await until(lambda: world.executes("s2"))
    assert host.executing_max == 1
    assert (await directory.status())["crashes"] == 0


async def test_a_lost_session_is_adopted_again_while_its_old_code_ends(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    host = world.holder("s1")
    await host.loses("s1")
    await until(lambda: world.executes("s1"))
    assert world.ledger.heads["s1"].epoch == 3
    assert await _live(directory) == 2
    await host.ends("s1")
    await settle()
    assert await _live(directory) == 1
    assert await directory.locate("s1") == host.name


async def test_the_end_of_old_code_is_not_taken_for_that_of_an_adoption_under_way(
    world: World,
) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    host = world.holder("s1")
    host.adopt_gate.clear()
    await host.loses("s1")
    await until(lambda: "s1" in host.sessions)
    await host.ends("s1")
    await settle()
    host.adopt_gate.set()
    await until(lambda: world.executes("s1"))
    await settle()
    assert await _live(directory) == 1
    assert (await directory.status())["sessions"]["room"] == 1


async def test_a_session_whose_end_is_told_and_whose_loss_was_not_goes_on(world: World) -> None:
    """Its code had ended before the host told of anything: a report says the newest only."""
    directory = await world.directory(hosts=1, sessions_per_host=2)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    host = world.holder("s1")
    gone = SlotReport(session_id="s1", epoch=1, state=SlotState.GONE, since=world.clock.now())
    del host.sessions["s1"]
    await host.say(gone)
    await until(lambda: world.executes("s1"))
    assert world.ledger.abandoned == [("s1", 1)]
    assert await _live(directory) == 1
    assert (await directory.status())["sessions"]["room"] == 1


async def test_what_the_ledger_believes_held_and_nobody_holds_is_found(world: World) -> None:
    """As when the call by which a host adopts is answered to nobody, and runs later all the same."""
    await world.directory()
    (host,) = world.living()
    world.ledger.add("s1", run="waiting")
    head = world.ledger.heads["s1"]
    head.epoch, head.holder = 1, host.name
    await world.clock.advance(PoolTimings().reconcile_every_s + 1.0)
    await until(lambda: head.holder is None)
    assert world.ledger.abandoned == [("s1", 1)]


async def test_that_old_code_was_lost_is_not_taken_for_the_loss_of_an_adoption_under_way(
    world: World,
) -> None:
    """The directory heard of the loss by a command already; the report comes late."""
    directory = await world.directory(hosts=1, sessions_per_host=2)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    host = world.holder("s1")
    lost = SlotReport(session_id="s1", epoch=1, state=SlotState.LOST, since=world.clock.now())
    del host.sessions["s1"]
    host.adopt_gate.clear()
    pending = asyncio.create_task(directory.route("s1", note("y")))
    await until(lambda: "s1" in host.sessions)
    await host.say(lost)
    await settle()
    host.adopt_gate.set()
    await pending
    await settle()
    assert await directory.locate("s1") == host.name
    assert await _live(directory) == 1


async def test_reports_of_an_older_adoption_are_dropped(world: World) -> None:
    directory = await world.directory(linger_s=5.0)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    host = world.holder("s1")
    await world.waits("s1")
    await world.clock.advance(6.0)
    assert host.releases == [("s1", "linger")]
    await directory.route("s1", note("y"))
    for state in SlotState:
        await host.say(SlotReport(session_id="s1", epoch=1, state=state, since=world.clock.now()))
    await settle()
    await world.clock.advance(6.0)
    assert host.releases == [("s1", "linger")]
    assert await directory.locate("s1") == host.name
    assert world.ledger.abandoned == []


async def test_reports_of_sessions_that_nobody_knows_are_dropped(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    for state in SlotState:
        await host.say(SlotReport(session_id="s9", epoch=1, state=state, since=world.clock.now()))
    await settle()
    assert await _live(directory) == 0


async def test_a_session_lost_while_it_is_asked_for_leaves_no_slot(world: World) -> None:
    directory = await world.directory(linger_s=1.0)
    world.ledger.add("s1", "s2")
    await directory.route("s1", note("x"))
    host = world.holder("s1")
    await world.waits("s1")
    world.ledger.heads["s1"].epoch = 9  # another has it; the host learns of that when it parks it
    await world.clock.advance(1.5)
    assert [one.session_id for one in host.ending] == ["s1"]
    await host.ends("s1")
    await settle()
    assert await _live(directory) == 0
    assert (await directory.route("s2", note("y"))).host == host.name


# --- lost answers ---------------------------------------------------------------------------------


async def test_an_adoption_whose_answer_is_lost_is_settled_by_asking_for_the_lease(
    world: World,
) -> None:
    directory = await world.directory(hosts=2)
    host = world.living()[0]
    world.ledger.add("s1")
    world.calls.lose(host.name, "adopt")
    pending = asyncio.create_task(directory.route("s1", note("x")))
    await settle()
    await world.clock.advance(1.0)
    routed = await pending
    assert (routed.reply, routed.host) == ({"text": "x"}, host.name)
    assert world.ledger.heads["s1"].epoch == 1
    assert host.adoptions == ["s1"]
    assert world.spawner.killed == []
    await world.waits("s1")
    await world.clock.advance(31.0, step_s=1.0)
    assert host.releases == [("s1", "linger")]


async def test_an_adoption_that_comes_after_it_was_given_up_is_found_and_its_session_parked(
    world: World,
) -> None:
    directory = await world.directory(hosts=2)
    host = world.living()[0]
    world.ledger.add("s1")
    await host.adopt("s1", command=note("x"), crash=None, catalog_hash=world.code_hash)
    await host.waits("s1")
    await until(lambda: world.executes("s1") is False)
    await settle()
    assert await directory.locate("s1") == host.name
    await world.clock.advance(31.0, step_s=1.0)
    assert host.releases == [("s1", "linger")]
    assert await directory.locate("s1") is None


@pytest.mark.parametrize("command", [None, note("x", operation=None)])
async def test_an_adoption_that_overtakes_the_answer_that_denies_it_is_found_and_parked(
    world: World, command: AddNote | None
) -> None:
    """The host says that it does not hold the session, adopts it and reports that; the directory hears both reports
    first, and none later. Whether the same host adopts the session once more, or nobody does."""
    directory = await world.directory()
    (host,) = world.living()
    arrives = world.calls.late[host.name, "adopt"] = asyncio.Event()
    denies = world.calls.slow[host.name, "lease"] = asyncio.Event()
    world.calls.lose(host.name, "adopt")
    world.ledger.add("s1", run="waiting" if command is not None else "queued")
    await world.ledger.bump()
    pending = asyncio.create_task(directory.route("s1", command)) if command is not None else None
    await settle()
    await world.clock.advance(RETRY_S)
    arrives.set()
    await until(lambda: "s1" in host.sessions and host.sessions["s1"].epoch)
    await host.waits("s1")
    await settle()
    denies.set()
    if pending is not None:
        with pytest.raises(OutcomeUnknown):
            await pending
    await settle()
    assert world.ledger.heads["s1"].holder is None
    await world.clock.advance(31.0, step_s=1.0)
    assert host.releases == [("s1", "linger")]
    await host.ends("s1")
    await world.ledger.queue("s1")
    await until(lambda: world.executes("s1"))
    assert await _live(directory) == 1


async def test_one_that_another_host_holds_by_then_is_dropped(world: World) -> None:
    directory = await world.directory(hosts=2)
    world.ledger.add("s1")
    late, other = world.living()
    await directory.route("s1", note("y"))
    if world.holder("s1") is late:
        late, other = other, late
    await late.adopt("s1", command=note("x"), crash=None, catalog_hash=world.code_hash)
    await late.waits("s1")
    await until(lambda: late.releases == [("s1", "held twice")])
    assert await directory.locate("s1") == other.name


async def test_a_late_report_of_a_session_that_was_parked_binds_nothing(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    host = world.holder("s1")
    await world.waits("s1")
    said = host.sessions["s1"].report
    await world.clock.advance(31.0, step_s=1.0)
    assert host.releases == [("s1", "linger")]
    await host.say(said)
    await settle()
    assert await directory.locate("s1") is None
    assert await _live(directory) == 0


async def test_a_lost_answer_to_a_command_that_cannot_be_told_apart_is_said(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1")
    world.calls.lose(host.name, "adopt")
    pending = asyncio.create_task(directory.route("s1", note("x", operation=None)))
    await settle()
    await world.clock.advance(1.0)
    with pytest.raises(OutcomeUnknown):
        await pending
    assert await directory.locate("s1") == host.name


async def test_a_decision_without_room_whose_answer_is_lost_leaves_no_slot(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1", "s2")
    await directory.route("s1", note("busy"))
    world.calls.lose(host.name, "adopt")
    pending = asyncio.create_task(directory.route("s2", note("x")))
    await settle()
    await world.clock.advance(1.0)
    assert (await pending).reply == {"text": "x"}
    assert await _live(directory) == 1
    await world.waits("s1")
    await until(lambda: world.executes("s2"))


async def test_a_slow_decision_without_room_whose_answer_is_lost_leaves_no_slot(
    world: World,
) -> None:
    """The host still holds the session when it is asked, and gives it up a moment later."""
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1", "s2")
    await directory.route("s1", note("busy"))
    world.calls.lose(host.name, "adopt")
    host.adopt_gate.clear()
    pending = asyncio.create_task(directory.route("s2", note("x", operation=None)))
    await until(lambda: "s2" in host.sessions)
    await world.clock.advance(RETRY_S)
    host.adopt_gate.set()
    await world.clock.advance(10 * RETRY_S)
    with pytest.raises(OutcomeUnknown):
        await pending
    assert world.ledger.heads["s2"].holder is None
    await world.waits("s1")
    await until(lambda: world.executes("s2"))


async def test_an_adoption_that_is_still_loading_when_it_is_asked_about_is_not_forgotten(
    world: World,
) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=2)
    (host,) = world.living()
    world.ledger.add("s1")
    world.ledger.load_gate.clear()
    world.calls.lose(host.name, "adopt")
    pending = asyncio.create_task(directory.route("s1", note("x", operation=None)))
    await until(lambda: host.adoptions == ["s1"])
    await world.clock.advance(2 * RETRY_S)
    world.ledger.load_gate.set()
    await world.clock.advance(2 * RETRY_S)
    with pytest.raises(OutcomeUnknown):
        await pending
    await settle()
    assert await directory.locate("s1") == (host.name if host.sessions else None)
    assert world.ledger.heads["s1"].holder == (host.name if host.sessions else None)


async def test_a_host_that_gives_no_answer_at_all_while_it_adopts_is_ended(world: World) -> None:
    directory = await world.directory(hosts=2)
    host, other = world.living()
    world.ledger.add("s1")
    world.calls.lose(host.name, "adopt")
    world.calls.lose(host.name, "lease", times=UNREACHABLE_TRIES)
    pending = asyncio.create_task(directory.route("s1", note("x")))
    await settle()
    await world.clock.advance(RETRY_S * (UNREACHABLE_TRIES + 2))
    assert (await pending).host == other.name
    assert world.spawner.killed == [host.name]
    assert other.crashes == []
    assert (await directory.status())["crashes"] == 0


async def test_a_release_whose_answer_is_lost_is_found_out(world: World) -> None:
    directory = await world.directory(linger_s=1.0)
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    await world.waits("s1")
    world.calls.lose(host.name, "release")
    await world.clock.advance(1.5)
    assert host.sessions == {}
    await world.clock.advance(3.0)
    assert await _live(directory) == 0
    assert (await directory.route("s1", note("y"))).reply == {"text": "y"}


async def test_a_release_is_found_out_although_several_answers_are_lost(world: World) -> None:
    directory = await world.directory(linger_s=1.0)
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    await world.waits("s1")
    world.calls.lose(host.name, "release")
    world.calls.lose(host.name, "lease")
    await world.clock.advance(10.0)
    assert await _live(directory) == 0
    await world.ledger.queue("s1")
    await until(lambda: world.executes("s1"))


async def test_a_late_report_does_not_end_the_search_for_a_lost_release(world: World) -> None:
    directory = await world.directory(linger_s=1.0)
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    await world.waits("s1")
    world.calls.lose(host.name, "release")
    await world.clock.advance(1.25)
    assert host.sessions == {}
    busy = SlotReport(session_id="s1", epoch=1, state=SlotState.BUSY, since=world.clock.now())
    await host.say(busy)
    await settle()
    await world.clock.advance(10.0)
    assert await _live(directory) == 0


async def test_a_command_whose_answer_is_lost_is_sent_again(world: World) -> None:
    directory = await world.directory()
    (host,) = world.living()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    world.calls.lose(host.name, "command")
    assert (await directory.route("s1", note("y"))).reply == {"text": "y"}
    world.calls.lose(host.name, "command")
    with pytest.raises(OutcomeUnknown):
        await directory.route("s1", note("z", operation=None))


async def test_a_run_whose_reserved_host_died_meanwhile_is_resumed_elsewhere() -> None:
    """A command took the session before the run that had room reserved; at every point of that race."""
    for turns in range(30):
        world = World()
        directory = await world.directory()
        (host,) = world.living()
        host.adopt_gate.clear()
        await world.ledger.queue("s1")
        await settle(turns)
        command = asyncio.create_task(directory.route("s1", note("x", operation=None)))
        await until(functools.partial(host.sessions.get, "s1"))
        await settle()
        world.kill(host.name)
        await asyncio.wait({command})
        await world.clock.advance(2.0)
        await until(functools.partial(world.executes, "s1"))
        assert await directory.locate("s1") == world.holder("s1").name
        await world.stop()


async def test_a_host_that_dies_as_it_is_chosen_to_decide_binds_nothing() -> None:
    """At every point of the way from the command to the adoption."""
    for turns in range(30):
        world = World()
        directory = await world.directory(hosts=2)
        world.ledger.add("s0", "s1", "s2")
        await directory.route("s0", note("busy"))
        await directory.route("s1", note("busy"))
        command = asyncio.create_task(directory.route("s2", note("x", operation=None)))
        await settle(turns)
        world.kill(world.holder("s0").name)
        await asyncio.wait({command})
        await until(functools.partial(world.executes, "s0"))
        async with asyncio.timeout(BOUND_S):
            assert (await directory.route("s2", note("y"))).reply == {"text": "y"}
        await world.stop()
