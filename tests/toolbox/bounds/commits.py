"""How long commits take beside a backup and beside pruning, and without either, in turns of one run (S-66, S-69).

The ledger is one of the size asked for, opened as a runtime opens it. Sessions commit at a steady rate; what is done
beside them goes on from turn to turn where it was.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

from helmr.errors import StoreUnavailable
from helmr_runtime.clock import SystemClock
from helmr_runtime.core.commands import Prune
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.process.spec import LEDGER_NAME
from helmr_runtime.security.keys import read_key_ring
from helmr_runtime.service.exports import Backups
from tests.ledger.sessions import ALICE, Hand, begin
from tests.programs.benchmarks.measures import percentile
from tests.programs.benchmarks.scale.build import RING

COMMITTERS = 20
EACH_EVERY_S = 0.2
"""So that a hundred commits a second are asked for."""

TURN_S = 2.0
SETTLE_S = 0.5
"""Of a turn; what is committed in it is not counted, since it may wait for what was begun in the one before."""

DAYS = 3
"""So far ahead is the clock: what the ledger holds is old enough to be pruned."""

Beside = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Waits:
    """What commits took, in ms."""

    count: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, took_s: list[float]) -> Waits:
        """Summed up."""
        ms = [one * 1e3 for one in took_s]
        return cls(len(ms), percentile(ms, 0.5), percentile(ms, 0.99), max(ms))


@dataclass(frozen=True, slots=True)
class Compared:
    """Commits of both kinds of turns, and how much was done beside those of the second."""

    without: Waits
    beside: Waits
    done: int

    @property
    def added_ms(self) -> float:
        """By how much the longest of the second took longer than the longest of the first."""
        return self.beside.longest - self.without.longest


class _Ahead(SystemClock):
    """The machine's clock, some days ahead."""

    def now(self) -> datetime:
        return super().now() + timedelta(days=DAYS)


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[DuckLedger]:
    """A copy of the ledger, so that it can be written to."""
    with tempfile.TemporaryDirectory(prefix="helmr-bounds-", dir=data_dir.parent) as folder:
        await asyncio.to_thread(shutil.copytree, data_dir, folder, dirs_exist_ok=True)
        ring = await asyncio.to_thread(read_key_ring, Path(folder) / RING, {})
        ledger = await open_ledger(Path(folder) / LEDGER_NAME, clock=_Ahead(), ring=ring)
        gc.freeze()  # as its process does: else a collection walks a hundred thousand sessions
        try:
            yield ledger
        finally:
            gc.unfreeze()
            await ledger.close()


async def beside_backup(data_dir: Path, turns: int) -> Compared:
    """Commits while one backup after the other is read."""
    async with opened(data_dir) as ledger:
        pages = _backups(ledger)
        return await compared(ledger, turns, lambda: _next(pages))


async def beside_pruning(data_dir: Path, turns: int) -> Compared:
    """Commits while old sessions are pruned, with an archive, page by page."""
    async with opened(data_dir) as ledger:
        old = Prune(principal=ALICE, age_s=timedelta(days=1).total_seconds())

        async def page() -> None:
            pruned = await ledger.prune(old)
            if pruned.is_last:
                raise StoreUnavailable("all that is old has been pruned: the ledger is too small")

        return await compared(ledger, turns, page)


async def _next(pages: AsyncIterator[bytes]) -> None:
    await anext(pages)


async def _backups(ledger: DuckLedger) -> AsyncIterator[bytes]:
    backups = Backups(cast(LedgerClient, ledger), "measured")
    while True:
        async for piece in await backups.stream():
            yield piece


async def compared(ledger: DuckLedger, turns: int, step: Beside) -> Compared:
    """So many turns without, and as many beside which `step` is done again and again."""
    took: dict[bool, list[float]] = {False: [], True: []}
    hands = [await begin(ledger, _Ahead()) for _ in range(COMMITTERS)]
    for hand in hands:
        await hand.adopt()
        await hand.stored(hand.started())
    loop = asyncio.get_running_loop()
    is_over, is_beside, counted_from_s, done = False, False, loop.time() + SETTLE_S, 0

    async def commit(number: int, hand: Hand) -> None:
        at_s = loop.time() + number / COMMITTERS * EACH_EVERY_S
        while not is_over:
            await asyncio.sleep(at_s - loop.time())
            kind, began_s = is_beside, loop.time()
            await hand.stored(hand.step(), hand.step_done())
            if began_s >= counted_from_s:
                took[kind].append(loop.time() - began_s)
            at_s = max(at_s + EACH_EVERY_S, loop.time())

    async with asyncio.TaskGroup() as group:
        for numbered in enumerate(hands):
            group.create_task(commit(*numbered))
        for is_beside in (False, True) * turns:
            counted_from_s = loop.time() + SETTLE_S
            until_s = loop.time() + TURN_S
            while is_beside and loop.time() < until_s:
                await step()
                done += 1
            await asyncio.sleep(max(0.0, until_s - loop.time()))
        is_over = True
    return Compared(Waits.of(took[False]), Waits.of(took[True]), done)
