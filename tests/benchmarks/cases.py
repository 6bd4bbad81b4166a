"""The cases: what is done to a system and what of it is measured.

A case is `(system, size, options) -> Measured`. The caller acts from outside: it sends, and sees what the task did the
way a user of that system would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.measures import Measured
from tests.benchmarks.options import Options
from tests.benchmarks.processes import Meter, pss_bytes
from tests.benchmarks.systems.base import System

CALLERS = 16
"""Who start and answer at once where the case does not say."""
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
    only: frozenset[str] | None = None
    """The systems that have it; None for all."""


async def at_once(count: int, callers: int, act: Callable[[int], Awaitable[object]]) -> None:
    """`act(0)` to `act(count - 1)`, so many at a time."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await act(number)

    await asyncio.gather(*(caller() for _ in range(min(callers, count))))


async def exchange(system: System, session: str, turn: int) -> tuple[float, float]:
    """Send one message and see the task's reply: seconds to the answer, seconds to the reply."""
    seen = asyncio.ensure_future(system.reply(session, turn))
    await asyncio.sleep(0)
    began_s = time.perf_counter()
    await system.send(session, turn, MESSAGE)
    acknowledged_s = time.perf_counter() - began_s
    assert await seen == MESSAGE
    return acknowledged_s, time.perf_counter() - began_s


async def started(system: System, count: int, turns: int) -> list[str]:
    """Sessions that wait for their first message."""
    sessions = [""] * count

    async def start(number: int) -> None:
        sessions[number] = await system.begin_chat(turns)

    await at_once(count, CALLERS, start)
    await asyncio.gather(*map(system.waits, sessions))
    return sessions


async def hot(system: System, size: int, options: Options) -> Measured:
    """Each of `size` sessions has a caller that sends, sees the reply, and sends again."""
    answers = options.sizes.hot_answers if size == 1 else options.sizes.crowd_answers
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
        only=frozenset({"helmr"}),
    ),
    "e": Case(
        f"running at once, one async step of {RUN_S:g} s each",
        lambda o: o.sizes.running,
        running,
    ),
}
