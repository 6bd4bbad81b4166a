"""What goes wrong, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from helmr_runtime.faults import Point
from helmr_runtime.rpc.calls import DIRECTORY, GATEWAY, LEDGER, OWN_HOST_PREFIX
from tests.programs.simulation.receivers import TARGETS
from tests.programs.simulation.scheduler import Process
from tests.programs.simulation.world import World

KINDS: Mapping[str, int] = {
    "kill host": 10,
    "kill ledger": 4,
    "kill directory": 6,
    "kill gateway": 3,
    "kill at point": 16,
    "stop host": 6,
    "stop other": 3,
    "lose host": 4,
    "cut": 14,
    "slow": 5,
    "slow host": 4,
    "disk fails": 4,
    "clock": 5,
    "retire": 3,
    "code ends host": 6,
    "receiver fails": 5,
    "disk breaks": 8,
}
"""Each with its weight."""

POINTS = list(Point)


def cause(world: World, kind: str, random: Random) -> None:
    """Let something go wrong now."""
    world.counts.reached(f"fault:{kind}")
    hosts = world.host_names()
    match kind:
        case "kill host" if hosts:
            world.kill(random.choice(hosts))
        case "kill ledger":
            if random.random() < 0.3:
                world.disk.lose_power()
            world.kill(LEDGER)
        case "kill directory":
            if hosts and random.random() < 0.6:  # the next hears of this host late
                _slow(world, random.choice(hosts), random.random() * 6.0)
            world.kill(DIRECTORY)
        case "kill gateway":
            world.kill(GATEWAY)
        case "kill at point":
            world.armed[random.choice(POINTS)] = None
        case "stop host" if hosts:
            _stop(world, random.choice(hosts), random.choice((0.05, 1.0, 6.0, 30.0)), False)
        case "lose host" if hosts:
            _stop(world, random.choice(hosts), random.choice((0.0, 1.0, 4.0, 12.0)), True)
        case "stop other":
            name = random.choice((LEDGER, DIRECTORY, GATEWAY))
            _stop(world, name, random.choice((0.05, 0.5, 3.0)), False)
        case "cut":
            calls = list(world.network.open)
            for call in random.sample(calls, min(len(calls), random.choice((1, 2, 5, 100)))):
                world.network.cut(call)
        case "slow":
            world.network.slow_until_s = world.scheduler.now_s + random.random() * 3.0
        case "slow host" if hosts:
            _slow(world, random.choice(hosts), random.random() * 6.0)
        case "disk fails":
            world.disk_fails_until_s = world.scheduler.now_s + random.random() * 3.0
        case "clock":
            world.clock.step(random.choice((-30.0, -2.0, -0.01, 0.01, 2.0, 30.0)))
        case "retire" if hosts:
            world.retire(random.choice(hosts))
        case "receiver fails":
            fails_for_s = random.choice((1.0, 6.0, 25.0))
            name = random.choice([target.name for target in TARGETS])
            world.receivers_fail_until_s[name] = world.scheduler.now_s + fails_for_s
        case "disk breaks":
            world.disk.breaks = random.choice(("kill", "power", "error"))
        case "code ends host":
            world.perilous += random.choice((1, 2, 4))
        case _:
            pass  # there is no host


def _slow(world: World, name: str, for_s: float) -> None:
    process = world.network.process(name)
    if process is not None:
        world.network.slow_processes[process] = world.scheduler.now_s + for_s


def _stop(world: World, name: str, for_s: float, is_unreachable: bool) -> None:
    """A process does not move for a while; one that can't be reached besides is taken for gone and goes on later."""
    process = world.network.process(name)
    if process is None or process.is_dead or process.is_stopped:
        return
    if is_unreachable and name.startswith(OWN_HOST_PREFIX):
        return
    process.stop()
    if is_unreachable:
        process.locals["is_unreachable"] = True
    world.later(for_s, _go_on, world, process)


def _go_on(world: World, process: Process) -> None:
    if not process.is_dead:
        process.go_on()
        if not process.locals.get("is_replaced"):
            process.locals.pop("is_unreachable", None)
