"""The process whose writes are on record: one life of a ledger, from its opening to a kill or a clean stop.

`python -m tests.programs.powerloss.workload FOLDER LIFE COMMITS END [URL]`: FOLDER/data has the ledger; its log is at
the URL, if there is one. In FOLDER/acknowledged stands the feed offset of each commit that has returned, written there
before the next; in FOLDER/truth what the ledger holds before it prunes, and before it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from helmr_runtime.clock import FakeClock
from helmr_runtime.core import shared_log
from helmr_runtime.core.commands import Prune
from helmr_runtime.ledger import snapshot_maker
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.stores import open_log
from helmr_runtime.ledger.open import open_ledger
from tests.ledger.facts import create_token
from tests.ledger.sessions import ALICE, SMALL, START_AT, Hand, running

DATA, ACKNOWLEDGED, TRUTH = "data", "acknowledged", "truth"
LEDGER = "ledger.duckdb"
WRITERS = 3
ENGINE_LOG = "128KB"
"""So that the engine puts its log into the file many times."""

TOKEN_LIVES_S = 90 * 86_400.0
"""Longer than all lives: a ledger that opens writes nothing by itself."""

LOOK_EVERY_S, COPIED_EVERY = 0.05, 25
"""Commits from one snapshot of a cache to the next, and how soon that is seen."""

DAYS = timedelta(days=3)
"""Between two lives."""


class Life:
    """The ledger at work."""

    def __init__(self, folder: Path, ledger: DuckLedger, clock: FakeClock, chance: random.Random):
        self._folder = folder
        self._ledger = ledger
        self._clock = clock
        self._chance = chance
        self._acknowledged = os.open(
            folder / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )

    async def done(self, call: Awaitable[Any]) -> None:
        """Await a commit and write down that it was acknowledged."""
        await call
        os.write(self._acknowledged, b"%d\n" % self._ledger.index.head_offset)

    async def write(self, commits: int) -> None:
        """What one of several callers does."""
        hand = await running(self._ledger, self._clock)
        for number in range(commits):
            text = "x" * self._chance.choice((10, 10, 300, 6_000))
            await self.done(hand.stored(*self._some(hand, number, text)))
            if self._chance.random() < 0.1:
                await self.done(self._ledger.fact(create_token(TOKEN_LIVES_S)))
            if self._chance.random() < 0.15:
                await self._ledger.read_tables(lambda _: None)
            if self._chance.random() < 0.15:
                await self._ledger.verify_chain(hand.session_id)
            if self._chance.random() < 0.2:
                await self.done(hand.stored(hand.succeeded(), hand.closed(), release=True))
                hand = await running(self._ledger, self._clock)

    def _some(self, hand: Hand, number: int, text: str) -> list[Any]:
        if number % 3:
            return [hand.accepted(text, stream_seq=hand.seq)]
        return [hand.step(text[:20]), hand.step_done()]

    async def prune(self) -> None:
        """Remove what was over in earlier lives."""
        await self.tell_truth()
        asked = Prune(principal=ALICE, age_s=DAYS.total_seconds() / 2, is_archived=False)
        while not (await self._ledger.prune(asked)).is_last:
            os.write(self._acknowledged, b"%d\n" % self._ledger.index.head_offset)

    async def tell_truth(self) -> None:
        """Write down every entry that there is."""
        found = await self._ledger.entries_after(0, 1_000_000)
        with (self._folder / TRUTH).open("a") as file:
            for entry in found:
                row = [entry.feed_offset, entry.session_id, entry.kind.value, entry.hash.hex()]
                file.write(f"{json.dumps(row)}\n")


async def main(folder: Path, number: int, commits: int, end: str, url: str | None = None) -> None:
    """Live once."""
    clock = FakeClock(START_AT + number * DAYS)
    path = folder / DATA / LEDGER
    settings = replace(SMALL, wal_size=ENGINE_LOG)
    log = open_log(url) if url is not None else None
    # Several in a life, each copied beside the commits.
    snapshot_maker.LOOK_EVERY_S, shared_log.SNAPSHOT_RECORDS = LOOK_EVERY_S, COPIED_EVERY
    ledger = await open_ledger(path, clock=clock, settings=settings, log=log)
    life = Life(folder, ledger, clock, random.Random(number))
    await asyncio.gather(*(life.write(commits) for _ in range(WRITERS)))
    if number:
        await life.prune()
        await asyncio.gather(*(life.write(commits // 2) for _ in range(WRITERS)))
    await life.tell_truth()
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
