"""What resumes take in any host is counted, and one that takes long is shown for a while, with the way out."""

from __future__ import annotations

from helmr_runtime.directory.pool import RESUME_BOUNDS_S
from tests.directory.fakes import World

LONG = "the resume of run_1 of task chat took 6.1 s of CPU, for 2,000 ops: ctx.continue_as …"


async def look(world: World) -> None:
    """Every host is asked."""
    await world.clock.advance(2.5, step_s=0.5)


async def test_what_they_take_is_counted_over_all_hosts(world: World) -> None:
    directory = await world.directory(hosts=2)
    one, other = world.living()
    one.resumes_s, other.resumes_s = (0.001, 0.005, 0.006), (100.0,)
    await look(world)
    one.resumes_s = (0.006,)
    await look(world)
    found = (await directory.status())["resumes"]
    assert found["bounds"] == RESUME_BOUNDS_S
    assert found["counts"] == [2, 2, *[0] * (len(RESUME_BOUNDS_S) - 2), 1]
    assert round(found["sum"], 3) == 100.018


async def test_a_long_one_is_shown_for_ten_minutes(world: World) -> None:
    directory = await world.directory(hosts=1)
    (host,) = world.living()
    host.long_resume = LONG
    await look(world)
    assert (await directory.status())["warnings"] == [LONG]
    await world.clock.advance(590.0, step_s=5.0)
    assert (await directory.status())["warnings"] == [LONG]
    await world.clock.advance(30.0, step_s=5.0)
    assert (await directory.status())["warnings"] == []
