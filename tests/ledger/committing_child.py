"""A process that commits to a ledger until it is killed, and says on stdout what was acknowledged.

`python -m tests.ledger.committing_child PATH WAL_SIZE`
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from helmr_runtime.clock import SystemClock
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from tests.ledger.sessions import SMALL, Hand, running

SESSIONS = 20


async def main(path: Path, wal_size: str) -> None:
    """Twenty sessions write side by side, while the tables are written over and over."""
    clock = SystemClock()
    ledger = await open_ledger(path, clock=clock, settings=replace(SMALL, wal_size=wal_size))
    sys.stdout.write("open\n")
    sys.stdout.flush()
    hands = await asyncio.gather(*(running(ledger, clock) for _ in range(SESSIONS)))
    await asyncio.gather(
        project_for_ever(ledger), look_for_ever(ledger), *map(write_for_ever, hands)
    )


async def project_for_ever(ledger: DuckLedger) -> None:
    """What commits are beside."""
    while True:
        await ledger.read_tables(lambda _: None)


async def look_for_ever(ledger: DuckLedger) -> None:
    """As whoever asks how the ledger does."""
    while True:
        await ledger.stats()
        await asyncio.sleep(0.01)


async def write_for_ever(hand: Hand) -> None:
    """Steps, waits and parkings; each line names what is on disk."""
    while True:
        await hand.stored(hand.step(), hand.step_done())
        wait = hand.wait()
        await hand.stored(wait)
        await hand.stored(hand.accepted(hand.seq), hand.fulfilled(wait))
        if hand.seq % 7 == 0:
            await hand.stored(release=True)  # a checkpoint of a hand would be made up
            await hand.adopt()
        sys.stdout.write(f"{hand.session_id} {hand.seq} {hand.last_hash.hex()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
