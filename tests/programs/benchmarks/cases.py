"""The cases: what is done to a system and what of it is measured.

A case is `(system, size, options) -> Measured`. The caller acts from outside: it sends, and sees what the task did the
way a user of that system would.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from tests.programs.benchmarks.measures import Measured
from tests.programs.benchmarks.options import Options
from tests.programs.benchmarks.processes import Meter, pss_bytes
from tests.programs.benchmarks.systems.base import CALLERS, INBOX, System, at_once, started

WARM_ANSWERS = 5
RUN_S = 2.0
MESSAGE = "x" * 200
"""What is sent; each system stores it and gives it back."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case, in the sizes that the options give it."""

    title: str
    sizes: Callable[[Options], Sequence[int]]
    run: Callable[[System, int, Options], Coroutine[Any, Any, Measured]]
    is_alone: bool = False
    """It begins with a system that was just started, and no other case goes on with that one."""


async def exchange(system: System, session: str, turn: int) -> tuple[float, float]:
    """Send one message and see the task's reply: seconds to the answer, seconds to the reply."""
    seen = asyncio.ensure_future(system.reply(session, turn))
    await asyncio.sleep(0)
    began_s = time.perf_counter()
    await system.send(session, turn, MESSAGE)
    acknowledged_s = time.perf_counter() - began_s
    assert await seen == MESSAGE
    return acknowledged_s, time.perf_counter() - began_s


async def hot(system: System, size: int, options: Options) -> Measured:
    """Each of `size` sessions has a caller that sends, sees the reply, and sends again."""
    answers = options.sizes.hot_answers if size == 1 else options.sizes.crowd_answers
    answers = max(1, answers // system.pace)
    sessions = await started(system, size, WARM_ANSWERS + answers)
    times: list[tuple[float, float]] = []

    async def talk(session: str, turns: range) -> list[tuple[float, float]]:
        return [await exchange(system, session, turn) for turn in turns]

    async def all_talk(turns: range) -> list[list[tuple[float, float]]]:
        return await asyncio.gather(*(talk(session, turns) for session in sessions))

    await all_talk(range(WARM_ANSWERS))
    meter = Meter(system.roots())
    for found in await all_talk(range(WARM_ANSWERS, WARM_ANSWERS + answers)):
        times += found
    elapsed_s, server_s, load_s = meter.stop()
    return Measured(
        operations=len(times),
        wanted=size * answers,
        elapsed_s=elapsed_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=pss_bytes(system.roots()),
        acknowledged_s=[acknowledged for acknowledged, _ in times],
        visible_s=[visible for _, visible in times],
    )


async def starts(system: System, size: int, options: Options) -> Measured:
    """Start sessions; the time is to the last acknowledgement, the CPU until all wait."""
    meter = Meter(system.roots())
    acknowledged: list[float] = []
    sessions: list[str] = []

    async def start(number: int) -> None:
        began_s = time.perf_counter()
        sessions.append(await system.begin_chat(1))
        acknowledged.append(time.perf_counter() - began_s)

    await at_once(size, CALLERS, start)
    started_s = meter.stop()[0]
    await asyncio.gather(*map(system.waits, sessions))
    waiting_s, server_s, load_s = meter.stop()
    return Measured(
        operations=size,
        wanted=size,
        elapsed_s=started_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=pss_bytes(system.roots()),
        acknowledged_s=acknowledged,
        extra={"all wait after s": waiting_s},
    )


async def answered(system: System, size: int, options: Options) -> Measured:
    """Sessions that wait are answered, each once; the time is until the last has ended."""
    sessions = await started(system, size, 1)
    return await _answer(system, sessions)


async def answered_parked(system: System, size: int, options: Options) -> Measured:
    """As `answered`, after every session has left memory."""
    sessions = await started(system, size, 1)
    await system.parked()
    return await _answer(system, sessions)


async def _answer(system: System, sessions: Sequence[str]) -> Measured:
    meter = Meter(system.roots())
    acknowledged: list[float] = []
    ends = [asyncio.ensure_future(system.ended(session)) for session in sessions]
    await asyncio.sleep(0)

    async def answer(number: int) -> None:
        began_s = time.perf_counter()
        await system.send(sessions[number], 0, MESSAGE)
        acknowledged.append(time.perf_counter() - began_s)

    await at_once(len(sessions), CALLERS, answer)
    acknowledged_s = meter.stop()[0]
    await asyncio.gather(*ends)
    elapsed_s, server_s, load_s = meter.stop()
    return Measured(
        operations=len(sessions),
        wanted=len(sessions),
        elapsed_s=elapsed_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=pss_bytes(system.roots()),
        acknowledged_s=acknowledged,
        extra={"acknowledged per second": len(sessions) / acknowledged_s},
    )


async def running(system: System, size: int, options: Options) -> Measured:
    """Sessions whose one step awaits for two seconds; the time is until all have ended."""
    meter = Meter(system.roots())
    ends: list[asyncio.Task[None]] = []

    async def start(number: int) -> None:
        session = await system.begin_busy(RUN_S)
        ends.append(asyncio.create_task(system.ended(session)))

    await at_once(size, CALLERS, start)
    done, open_ = await asyncio.wait(ends, timeout=options.limit_s)
    elapsed_s, server_s, load_s = meter.stop()
    for task in open_:
        task.cancel()
    await asyncio.gather(*open_, return_exceptions=True)
    for task in done:
        task.result()
    return Measured(
        operations=len(done),
        wanted=size,
        elapsed_s=elapsed_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=pss_bytes(system.roots()),
    )


async def steps(system: System, size: int, options: Options) -> Measured:
    """`size` callers each start a task of three steps, see its end, and start the next."""
    count = size * options.sizes.step_runs
    times: list[tuple[float, float]] = []

    async def one(number: int) -> None:
        began_s = time.perf_counter()
        session = await system.begin_steps()
        acknowledged_s = time.perf_counter() - began_s
        await system.ended(session)
        times.append((acknowledged_s, time.perf_counter() - began_s))

    await at_once(size * WARM_ANSWERS, size, one)
    times.clear()
    meter = Meter(system.roots())
    await at_once(count, size, one)
    elapsed_s, server_s, load_s = meter.stop()
    return Measured(
        operations=count,
        wanted=count,
        elapsed_s=elapsed_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=pss_bytes(system.roots()),
        acknowledged_s=[acknowledged for acknowledged, _ in times],
        visible_s=[visible for _, visible in times],
    )


async def memory(system: System, size: int, options: Options) -> Measured:
    """What the servers hold: with nothing asked of them, and more for each session that waits."""
    idle = pss_bytes(system.roots())
    await started(system, CALLERS, 1)
    begun = pss_bytes(system.roots())
    meter = Meter(system.roots())
    await started(system, size, 1)
    elapsed_s, server_s, load_s = meter.stop()
    live = pss_bytes(system.roots())
    extra = {"idle MB": idle / 1e6, "KB a live session": (live - begun) / size / 1e3}
    if system.parks:
        await system.parked()
        parked = pss_bytes(system.roots())
        extra["KB a parked session"] = (parked - begun) / size / 1e3
    return Measured(
        operations=size,
        wanted=size,
        elapsed_s=elapsed_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=live,
        extra=extra,
    )


async def restarted(system: System, size: int, options: Options) -> Measured:
    """The servers are started again while sessions wait; the time is until they are ready.

    Ready is what a system says of itself; that a waiting session can be answered is tried too.
    """
    session = await system.hold(size)
    meter = Meter(system.roots())
    await system.restart()
    elapsed_s, server_s, load_s = meter.stop(system.roots())
    began_s = time.perf_counter()
    found = await system.inbox()
    inbox_s = time.perf_counter() - began_s
    assert found == min(size, INBOX), found
    _, visible_s = await exchange(system, session, 0)
    return Measured(
        operations=1,
        wanted=1,
        elapsed_s=elapsed_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=pss_bytes(system.roots()),
        extra={"first inbox page ms": inbox_s * 1e3, "first answer visible ms": visible_s * 1e3},
    )


async def late_turns(system: System, size: int, options: Options) -> Measured:
    """Turns of a chat that has had `size` before."""
    count = options.sizes.late_turns
    (session,) = await started(system, 1, size + count + 1)
    for turn in range(size):
        await exchange(system, session, turn)
    meter = Meter(system.roots())
    times = [await exchange(system, session, turn) for turn in range(size, size + count)]
    elapsed_s, server_s, load_s = meter.stop()
    extra: dict[str, float] = {}
    if system.parks:
        await system.parked()
        _, visible_s = await exchange(system, session, size + count)
        extra["first after parking visible ms"] = visible_s * 1e3
    return Measured(
        operations=count,
        wanted=count,
        elapsed_s=elapsed_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=pss_bytes(system.roots()),
        acknowledged_s=[acknowledged for acknowledged, _ in times],
        visible_s=[visible for _, visible in times],
        extra=extra,
    )


async def by_command(system: System, size: int, options: Options) -> Measured:
    """Messages are sent by the system's command, one after the other, as from a shell."""
    (session,) = await started(system, 1, size + 1)
    await system.send_by_command(session, MESSAGE)
    times: list[tuple[float, float]] = []
    meter, before_s = Meter(system.roots()), _children_s()
    for turn in range(1, size + 1):
        seen = asyncio.ensure_future(system.reply(session, turn))
        began_s = time.perf_counter()
        await system.send_by_command(session, MESSAGE)
        sent_s = time.perf_counter() - began_s
        assert await seen == MESSAGE
        times.append((sent_s, time.perf_counter() - began_s))
    elapsed_s, server_s, load_s = meter.stop()
    return Measured(
        operations=size,
        wanted=size,
        elapsed_s=elapsed_s,
        server_cpu_s=server_s,
        load_cpu_s=load_s,
        pss_bytes=pss_bytes(system.roots()),
        acknowledged_s=[sent for sent, _ in times],
        visible_s=[visible for _, visible in times],
        extra={"CPU of a command ms": (_children_s() - before_s) / size * 1e3},
    )


def _children_s() -> float:
    """CPU of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


CASES: dict[str, Case] = {
    "a": Case("a hot answer alone, seen by its caller", lambda _: (1,), hot),
    "b": Case("sessions hot at once, a caller each", lambda o: o.sizes.crowds, hot),
    "c": Case(f"starts, {CALLERS} callers", lambda o: (o.sizes.starts,), starts),
    "d": Case(
        f"waiting sessions answered, {CALLERS} callers", lambda o: (o.sizes.waiting,), answered
    ),
    "d-parked": Case(
        f"the same, each parked before, {CALLERS} callers",
        lambda o: (o.sizes.waiting,),
        answered_parked,
    ),
    "e": Case(
        f"running at once, one async step of {RUN_S:g} s each",
        lambda o: o.sizes.running,
        running,
    ),
    "f": Case("a task of three steps, so many callers", lambda o: o.sizes.step_callers, steps),
    "g": Case("memory, so many live", lambda o: (o.sizes.live,), memory, is_alone=True),
    "h": Case("a restart while so many wait", lambda o: o.sizes.held, restarted, is_alone=True),
    "i": Case("a turn of a chat behind so many", lambda o: (o.sizes.earlier_turns,), late_turns),
    "j": Case("sent by command", lambda o: (o.sizes.commands,), by_command),
}
