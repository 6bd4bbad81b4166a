"""A host that has more memory than it may makes way for another; what it is killed with is suspect."""

from __future__ import annotations

from collections.abc import Sequence

from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.host_status import SlotStatus
from tests.directory.clock import settle, until
from tests.directory.fake_host import MEMORY_MAX, FakeHost
from tests.directory.fakes import World, note

OVER = MEMORY_MAX + 1
FAR_OVER = MEMORY_MAX * 2


async def holding(world: World, *names: str, hosts: int = 1) -> tuple[DirectoryActor, FakeHost]:
    """A directory whose only host executes these sessions."""
    directory = await world.directory(hosts=hosts, sessions_per_host=8)
    for name in names:
        world.ledger.add(name)
        await directory.route(name, note("x"))
    return directory, world.holder(names[0])


async def look(world: World) -> None:
    """Every host is asked."""
    await world.clock.advance(2.5, step_s=0.5)


async def test_what_hosts_have_and_may_have_is_shown(world: World) -> None:
    directory, old = await holding(world, "s1")
    await look(world)
    (shown,) = (await directory.status())["host_list"]
    assert (shown["memory_bytes"], shown["memory_max_bytes"]) == (old.memory_bytes, MEMORY_MAX)


async def test_a_host_over_its_bound_takes_sessions_until_another_has_started(world: World) -> None:
    directory, old = await holding(world, "runs", "waits")
    await world.waits("waits")
    world.spawner.gate.clear()
    old.memory_bytes = OVER
    await look(world)
    world.ledger.add("meanwhile")
    assert (await directory.route("meanwhile", note("x"))).host == old.name
    assert old.releases == []
    world.spawner.gate.set()
    await until(lambda: len(world.living()) == 2)
    await until(lambda: ("waits", "drain") in old.releases)
    world.ledger.add("later")
    assert (await directory.route("later", note("x"))).host != old.name
    status = await directory.status()
    assert status["hosts"] == {"total": 2, "starting": 0, "retiring": 1}
    assert status["warnings"] == [
        f"{old.name} makes way: it has 1.0 GB of memory and may have 1.0 GB"
    ]


async def test_it_ends_uncounted_as_soon_as_nothing_executes_in_it(world: World) -> None:
    directory, old = await holding(world, "s1")
    old.memory_bytes = OVER
    await look(world)
    assert old in world.living()
    await world.waits("s1")
    await until(lambda: old not in world.living())
    await settle()
    status = await directory.status()
    assert (status["crashes"], status["warnings"], status["hosts"]["total"]) == (0, [], 1)


async def test_what_still_executes_after_the_time_of_its_steps_is_what_it_dies_of(
    world: World,
) -> None:
    directory, old = await holding(world, "s1")
    old.memory_bytes, old.step_s = OVER, 30.0
    await look(world)
    await world.clock.advance(26.0, step_s=1.0)
    assert old in world.living()
    await world.clock.advance(6.0, step_s=1.0)
    await until(lambda: world.executes("s1"))
    ((session_id, crash),) = world.holder("s1").crashes
    assert (session_id, crash.cause) == ("s1", "retired")
    assert (await directory.status())["crashes"] == 1


async def test_one_that_goes_on_growing_is_killed_at_once(world: World) -> None:
    _, old = await holding(world, "leaks", "waits")
    await world.waits("waits")
    old.memory_bytes = FAR_OVER
    await look(world)
    assert old.name in world.spawner.killed
    await until(lambda: world.executes("leaks"))
    assert [name for name, _ in world.holder("leaks").crashes] == ["leaks"]


async def test_a_leak_that_awaits_something_at_the_kill_is_found(
    world: World,
) -> None:
    directory, _ = await holding(world, "leaks", "awaits")
    for _ in range(3):
        world.holder("awaits").sessions["awaits"].is_executing = False  # nor has it for long
        await outgrow(world, "leaks")
        await until(lambda: world.holds("awaits"))
    seen = [name for host in world.hosts.values() for name, _ in host.crashes]
    assert seen == ["leaks"] * 3
    assert (await directory.status())["crashes"] == 3


async def test_two_that_run_where_neither_executes_at_the_kill_go_on_alone_the_second_time(
    world: World,
) -> None:
    await holding(world, "leaks", "idles")
    for _ in range(2):
        await until(lambda: world.executes("idles"))
        await outgrow(world, "leaks", "idles")
    assert world.holder("leaks").is_exclusive
    await until(lambda: world.executes("idles"))
    assert all(host.crashes == [] for host in world.hosts.values())


async def outgrow(world: World, *names: str) -> None:
    """Their host is killed for its memory while each of them awaits something; they go on elsewhere."""
    old = world.holder(names[0])
    pause(old, *names)
    old.memory_bytes = FAR_OVER
    await look(world)
    await until(lambda: all(world.executes(name) for name in names))
    assert world.holder(names[0]) is not old
    await settle()


def pause(host: FakeHost, *names: str) -> None:
    """Their code has run a moment ago, and awaits something: nothing of it has the processor."""
    executing = host.statuses

    def statuses() -> dict[str, SlotStatus]:
        return {
            name: SlotStatus(epoch=one.epoch, executing=False, op=one.op, recent=one.executing)
            if name in names
            else one
            for name, one in executing().items()
        }

    host.statuses = statuses  # type: ignore[method-assign]


async def test_only_one_host_of_a_node_makes_way_at_a_time(world: World) -> None:
    directory = await world.directory(hosts=2, sessions_per_host=8)
    world.ledger.add("s1", "s2")
    hosts: Sequence[FakeHost] = world.shared()
    for name in ("s1", "s2"):
        await directory.route(name, note("x"))
    assert all(host.sessions for host in hosts)
    for host in hosts:
        host.memory_bytes = OVER
    await look(world)
    assert (await directory.status())["hosts"] == {"total": 3, "starting": 0, "retiring": 1}
    (text,) = await warnings(directory)
    first = next(host for host in hosts if text.startswith(f"{host.name} makes way"))
    await world.waits(*first.sessions)
    await until(lambda: first not in world.living())
    await look(world)
    (second,) = [host for host in hosts if host is not first]
    assert f"{second.name} makes way" in str(await warnings(directory))


async def warnings(directory: DirectoryActor) -> list[str]:
    return list((await directory.status())["warnings"])


async def test_hosts_of_two_nodes_make_way_at_once(world: World) -> None:
    directory = await world.directory(hosts=0)
    for node in ("a", "b"):
        await directory.stop()
        name = await world.spawner.spawn(is_exclusive=False)
        world.hosts[name].node = node
    directory = await world.directory(hosts=2, sessions_per_host=8)
    hosts = world.shared()
    assert len(hosts) == 2
    for name in ("s1", "s2"):
        world.ledger.add(name)
        await directory.route(name, note("x"))
    for host in hosts:
        host.memory_bytes = OVER
    await look(world)
    assert (await directory.status())["hosts"]["retiring"] == 2


async def test_without_another_it_stays_and_is_tried_again(world: World) -> None:
    directory, old = await holding(world, "s1")
    world.spawner.is_broken = True
    old.memory_bytes = OVER
    await look(world)
    assert (await directory.status())["hosts"]["retiring"] == 0
    assert "a host can't be started: there is no memory for a host" in await warnings(directory)
    world.spawner.is_broken = False
    await look(world)
    assert (await directory.status())["hosts"]["retiring"] == 1
    assert not any("can't be started" in text for text in await warnings(directory))


async def test_a_host_of_its_own_over_its_bound_makes_way_when_its_session_waits(
    world: World,
) -> None:
    await world.directory()
    world.isolated.add("s1")
    await world.ledger.queue("s1")
    await until(lambda: world.executes("s1"))
    own = world.holder("s1")
    own.memory_bytes = OVER
    await look(world)
    assert len(world.living()) == 2
    await world.waits("s1")
    await until(lambda: own not in world.living())
