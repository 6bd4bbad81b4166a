"""A directory restarts, its code changes, a host retires, or the runtime ends: sessions keep what they had."""

from __future__ import annotations

import asyncio

import pytest

from helmr.errors import NotReady
from helmr_runtime.directory.hosts import PoolTimings
from tests.directory.clock import settle, until
from tests.directory.fake_host import FakeSession
from tests.directory.fakes import World, note

# --- a new directory ------------------------------------------------------------------------------


async def test_a_new_directory_takes_over_what_lives(world: World) -> None:
    first = await world.directory(hosts=2, sessions_per_host=2)
    for n in range(3):
        world.ledger.add(f"s{n}")
        await first.route(f"s{n}", note("x"))
    living = world.living()
    await first.stop()
    second = await world.directory(hosts=2, sessions_per_host=2)
    assert world.living() == living
    for n in range(3):
        holder = world.holder(f"s{n}")
        assert await second.locate(f"s{n}") == holder.name
        assert (await second.route(f"s{n}", note("y"))).host == holder.name
        assert holder.adoptions.count(f"s{n}") == 1
    assert (await second.status())["sessions"] == {"live": 3, "lingering": 0, "room": 1}


async def test_it_still_learns_that_a_session_it_took_over_waits(world: World) -> None:
    first = await world.directory()
    world.ledger.add("s1")
    await first.route("s1", note("x"))
    host = world.holder("s1")
    await world.waits("s1")
    await first.stop()
    await world.directory()
    await settle()
    await world.clock.advance(31.0, step_s=1.0)
    assert host.releases == [("s1", "linger")]


async def test_one_that_stood_by_for_long_works_as_soon_as_the_ledger_is_open(
    world: World,
) -> None:
    world.ledger.stands_by = True
    world.ledger.add("s1", run="queued")
    directory = await world.directory()
    await world.clock.advance(120.0, step_s=0.5)
    assert not (await directory.status())["ready"]
    world.ledger.stands_by = False
    await world.clock.advance(0.5)
    assert (await directory.status())["ready"]
    await until(lambda: world.executes("s1"))


async def test_it_kills_what_does_not_say_in_time_what_it_holds(world: World) -> None:
    first = await world.directory(hosts=2)
    host, other = world.living()
    await first.stop()
    world.calls.stop(host.name)
    starting = asyncio.create_task(world.directory(hosts=2))
    await settle()
    await world.clock.advance(2.5)
    await starting
    assert world.spawner.killed == [host.name]
    assert other in world.living()


async def test_it_abandons_what_died_while_no_directory_watched(world: World) -> None:
    first = await world.directory(hosts=1, sessions_per_host=2)
    world.ledger.add("s1", "s2")
    await first.route("s1", note("x"))
    await first.route("s2", note("x"))
    await world.waits("s2")
    (host,) = world.living()
    await first.stop()
    world.kill(host.name)
    second = await world.directory(hosts=1, sessions_per_host=2)
    await until(lambda: world.ledger.dead_holders == [host.name])
    await until(lambda: world.executes("s1"))
    await second.route("s2", note("y"))
    assert [(s, d.cause) for s, d in world.living()[0].crashes] == [("s1", "died unwatched")]


async def test_it_abandons_what_a_living_host_does_not_hold(world: World) -> None:
    first = await world.directory()
    (host,) = world.living()
    await first.stop()
    world.ledger.add("s1", run="queued")
    await world.ledger.load("s1", host.name)
    await world.directory()
    await until(lambda: world.executes("s1"))
    assert world.ledger.abandoned == [("s1", 1)]


async def test_it_lets_go_of_what_a_late_call_of_an_earlier_directory_had_parked(
    world: World,
) -> None:
    """The host says what it holds while it parks that, and tells of the end to none but who asked."""
    first = await world.directory()
    world.ledger.add("s1")
    await first.route("s1", note("x"))
    await world.waits("s1")
    host = world.holder("s1")
    await first.stop()
    second = await world.directory()
    await settle()
    await host.release("s1", "evict")
    assert await second.locate("s1") == host.name
    await world.ledger.queue("s1")
    await world.clock.advance(PoolTimings().reconcile_every_s + 1.0)
    await until(lambda: world.executes("s1"))


async def test_a_ledger_that_is_back_is_led_again(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    world.ledger.restart()
    assert (await directory.route("s1", note("x"))).reply == {"text": "x"}
    assert world.ledger.terms == 2
    assert world.holder("s1").sessions["s1"].epoch == world.ledger.heads["s1"].epoch


async def test_of_two_that_claim_a_session_one_gives_it_up(world: World) -> None:
    first = await world.directory(hosts=2)
    world.ledger.add("s1")
    await first.route("s1", note("x"))
    await first.stop()
    holder = world.holder("s1")
    zombie = next(host for host in world.living() if host is not holder)
    zombie.sessions["s1"] = FakeSession("s1", world.clock.now(), executes=True, epoch=1)
    world.ledger.heads["s1"].epoch = holder.sessions["s1"].epoch = 2
    second = await world.directory(hosts=2)
    await until(lambda: holder.releases or zombie.releases)
    await settle()
    # It may have believed the wrong one: the ledger refuses that one, and the session is adopted once more.
    assert (await second.route("s1", note("y"))).reply == {"text": "y"}
    located = await second.locate("s1")
    assert located is not None
    assert world.hosts[located].sessions["s1"].epoch == world.ledger.heads["s1"].epoch
    assert (await second.status())["crashes"] == 0


async def test_it_starts_no_more_hosts_than_lack(world: World) -> None:
    first = await world.directory(hosts=3)
    await first.stop()
    retiring = world.living()[0]
    world.ledger.add("s1")
    await retiring.retire("code does not end")
    second = await world.directory(hosts=3)
    await until(lambda: retiring not in world.living())
    await settle()
    assert (await second.status())["hosts"] == {"total": 3, "starting": 0, "retiring": 0}


# --- hosts that drain -----------------------------------------------------------------------------


async def test_new_code_drains_old_hosts_session_by_session(world: World) -> None:
    directory = await world.directory(hosts=2, sessions_per_host=2)
    world.ledger.add("s1", "s2", "s3")
    for session_id in ("s1", "s2", "s3"):
        await directory.route(session_id, note("x"))
    hot, other = world.holder("s1"), world.holder("s2")
    assert "s3" in hot.sessions
    await world.waits("s2")
    world.code_hash = "code-2"
    await directory.stop()
    directory = await world.directory(hosts=2, sessions_per_host=2, catalog_hash="code-2")
    await until(lambda: world.spawner.killed == [other.name])
    assert other.releases == [("s2", "drain")]
    assert (await directory.route("s1", note("y"))).host == hot.name
    await world.waits("s1")
    await until(lambda: hot.releases == [("s1", "drain")])
    assert hot in world.living()
    await world.waits("s3")
    await until(lambda: hot not in world.living())
    await until(lambda: len(world.living()) == 2)
    await settle()
    assert (await directory.status())["crashes"] == 0
    assert {host.code_hash for host in world.living()} == {"code-2"}
    assert (await directory.route("s1", note("z"))).reply == {"text": "z"}


async def test_a_host_with_other_code_is_found_out_by_an_adoption(world: World) -> None:
    directory = await world.directory(hosts=2)
    old, new = world.living()
    old.code_hash = "code-0"
    world.ledger.add("s1")
    assert (await directory.route("s1", note("x"))).host == new.name
    await until(lambda: world.spawner.killed == [old.name])
    await until(lambda: len(world.living()) == 2)


async def test_a_retiring_host_gets_nothing_new_and_ends_when_it_is_empty(world: World) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=4)
    world.ledger.add("s1", "s2", "s3")
    await directory.route("s1", note("x"))
    await directory.route("s2", note("x"))
    await world.waits("s2")
    old = world.holder("s1")
    await old.retire("code that was cut off did not end")
    await until(lambda: len(world.living()) == 2)
    await settle()
    assert old.releases == [("s2", "drain")]
    status = await directory.status()
    assert status["hosts"] == {"total": 2, "starting": 0, "retiring": 1}
    assert [host["state"] for host in status["host_list"]] == ["retiring", "ready"]
    new = world.living()[1]
    for session_id in ("s2", "s3"):
        assert (await directory.route(session_id, note("y"))).host == new.name
    assert (await directory.route("s1", note("y"))).host == old.name
    await world.waits("s1")
    await until(lambda: old not in world.living())
    await settle()
    assert (await directory.status())["hosts"] == {"total": 1, "starting": 0, "retiring": 0}
    assert (await directory.status())["crashes"] == 0


async def test_a_retiring_host_is_replaced_before_it_ends(world: World) -> None:
    await world.directory()
    (old,) = world.living()
    world.spawner.gate.clear()
    await old.retire("code that was cut off did not end")
    await settle()
    world.spawner.gate.set()
    await until(lambda: len(world.hosts) == 2 and old not in world.living())
    await settle()
    assert len(world.living()) == 1


async def test_why_a_host_retires_is_shown_until_it_ends(world: World) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    old = world.holder("s1")
    await old.retire("code that was cut off did not end")
    await settle()
    await world.clock.advance(5.0)
    warnings = (await directory.status())["warnings"]
    assert warnings == [f"{old.name} retires: code that was cut off did not end"]
    await world.waits("s1")
    await until(lambda: old not in world.living())
    await settle()
    assert (await directory.status())["warnings"] == []


async def test_a_retiring_host_is_killed_after_its_time_and_that_counts_for_nobody(
    world: World,
) -> None:
    directory = await world.directory()
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    old = world.holder("s1")
    old.step_s = 60.0
    await old.retire("code that was cut off did not end")
    await settle()
    await world.clock.advance(59.0, step_s=1.0)
    assert world.executes("s1")
    await world.clock.advance(2.0, step_s=1.0)
    assert world.spawner.killed == [old.name]
    await until(lambda: world.executes("s1"))
    assert world.holder("s1").crashes == []
    assert (await directory.status())["crashes"] == 0


async def test_an_adoption_that_a_host_declines_goes_to_another(world: World) -> None:
    directory = await world.directory(hosts=2)
    first, second = world.living()
    first.retiring = "since a moment ago"
    world.ledger.add("s1")
    pending = asyncio.create_task(directory.route("s1", note("x")))
    await first.retire("since a moment ago")
    assert (await pending).host == second.name


# --- the end --------------------------------------------------------------------------------------


async def test_shutdown_parks_what_waits_and_names_what_runs(world: World) -> None:
    directory = await world.directory(hosts=2, sessions_per_host=2)
    for n in range(3):
        world.ledger.add(f"s{n}")
        await directory.route(f"s{n}", note("x"))
    await world.waits("s0")
    late = world.holder("s1")
    ending = asyncio.create_task(directory.shutdown())
    await settle()
    with pytest.raises(NotReady):
        await directory.route("s0", note("y"))
    await world.waits("s1")
    await world.clock.advance(6.0)
    assert await ending == {"unparked": ["s2"]}
    assert ("s1", "shutdown") in late.releases
    assert world.ledger.heads["s0"].holder is None
    assert world.ledger.heads["s1"].holder is None
    assert world.executes("s2")
