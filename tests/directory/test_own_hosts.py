"""Sessions whose task is isolated run in a host of their own, a few of those at a time; it ends with its session."""

from __future__ import annotations

from helmr_runtime.directory.resumption import OWN_HOSTS_MAX, RESUMES_PER_HOST
from helmr_runtime.rpc.calls import OWN_HOST_PREFIX
from tests.directory.clock import settle, until
from tests.directory.fakes import World, note


async def test_an_isolated_session_is_decided_where_it_is_and_runs_in_its_own_host(
    world: World,
) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=4)
    world.ledger.add("s1")
    world.isolated.add("s1")
    routed = await directory.route("s1", note("x"))
    assert (routed.reply, routed.host) == ({"text": "x"}, None)
    await until(lambda: world.executes("s1"))
    await settle()  # it executes before the directory is told so
    own = world.holder("s1")
    assert own.name.startswith(OWN_HOST_PREFIX)
    assert await directory.locate("s1") == own.name
    assert (await directory.route("s1", note("y"))).host == own.name
    assert (await directory.status())["sessions"]["room"] == 4


async def test_a_queued_run_of_an_isolated_session_is_given_up_and_resumed_alone(
    world: World,
) -> None:
    world.isolated.add("s1")
    world.ledger.add("s1", run="queued")
    await world.directory()
    await until(lambda: world.executes("s1"))
    assert world.holder("s1").is_exclusive
    assert world.ledger.heads["s1"].commits == ["resumed", "adopted"]
    assert world.shared()[0].sessions == {}


async def test_an_own_host_takes_no_other_session_and_ends_with_its_own(world: World) -> None:
    directory = await world.directory()
    world.isolated.add("s1")
    await world.ledger.queue("s1", "s2", "s3")
    await until(lambda: world.executes("s1") and world.executes("s2"))
    own = world.holder("s1")
    await world.waits("s1")
    await settle()
    assert own.releases == []  # s3 waits for room, and would get none by that
    await world.clock.advance(31.0, step_s=1.0)
    assert own.releases == [("s1", "linger")]
    await until(lambda: own not in world.living())
    await settle()
    status = await directory.status()
    assert status["hosts"] == {"total": 1, "starting": 0, "retiring": 0}
    assert status["crashes"] == 0
    assert own.adoptions == ["s1"]


async def test_there_are_only_so_many_own_hosts(world: World) -> None:
    await world.directory()
    names = [f"s{n}" for n in range(OWN_HOSTS_MAX + 2)]
    world.isolated.update(names)
    await world.ledger.queue(*names)
    await until(lambda: len(world.own()) == OWN_HOSTS_MAX)
    await until(lambda: all(host.sessions for host in world.own()))
    await settle()
    assert len(world.own()) == OWN_HOSTS_MAX
    assert {s for host in world.own() for s in host.sessions} == set(names[:OWN_HOSTS_MAX])
    # Whoever waits longest makes room for the next, in a host that is new.
    await world.waits("s2")
    await until(lambda: world.executes(f"s{OWN_HOSTS_MAX}"))
    assert world.holds("s2") is None
    assert len(world.own()) == OWN_HOSTS_MAX


async def test_sessions_that_wait_for_hosts_of_their_own_do_not_block_the_queue(
    world: World,
) -> None:
    directory = await world.directory()
    names = [f"s{n}" for n in range(OWN_HOSTS_MAX + RESUMES_PER_HOST)]
    world.isolated.update(names)
    for name in names:
        world.ledger.add(name)
        await directory.route(name, note("x"))
    await until(lambda: len(world.own()) == OWN_HOSTS_MAX)
    await settle()
    await world.ledger.queue("last")
    await until(lambda: world.executes("last"))


async def test_sessions_that_wait_for_hosts_of_their_own_take_no_room_from_commands(
    world: World,
) -> None:
    directory = await world.directory(hosts=1, sessions_per_host=4)
    names = [f"s{n}" for n in range(OWN_HOSTS_MAX + 1)]
    world.isolated.update(names)
    await world.ledger.queue(*names)
    await until(lambda: len(world.own()) == OWN_HOSTS_MAX)
    await settle()
    world.ledger.add("ordinary")
    routed = await directory.route("ordinary", note("x"))
    assert routed.host == world.shared()[0].name


async def test_an_own_host_that_cannot_be_started_is_tried_again_and_shown(world: World) -> None:
    directory = await world.directory()
    world.isolated.add("s1")
    world.spawner.is_broken = True
    await world.ledger.queue("s1")
    await settle()
    warnings = (await directory.status())["warnings"]
    assert any("of its own can't be started" in warning for warning in warnings)
    world.spawner.is_broken = False
    await world.clock.advance(5.0)
    await until(lambda: world.executes("s1"))
    await settle()
    assert (await directory.status())["failing"] == 0


async def test_an_own_host_outlives_its_directory(world: World) -> None:
    first = await world.directory()
    world.isolated.add("s1")
    await world.ledger.queue("s1")
    await until(lambda: world.executes("s1"))
    own = world.holder("s1")
    await settle()
    await first.stop()
    second = await world.directory()
    assert await second.locate("s1") == own.name
    await world.waits("s1")
    await world.clock.advance(31.0, step_s=1.0)
    await until(lambda: own not in world.living())


async def test_an_own_host_that_is_found_empty_ends(world: World) -> None:
    first = await world.directory()
    await first.stop()
    name = await world.spawner.spawn(is_exclusive=True)
    await world.directory()
    await until(lambda: name in world.spawner.killed)
