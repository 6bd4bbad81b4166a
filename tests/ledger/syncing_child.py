"""A ledger under reads whose syncs fail at times; says what became of each commit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from helmr.errors import StoreUnavailable
from helmr.models import SessionsQuery
from helmr_runtime.clock import SystemClock
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import lists
from tests.ledger.failing_sync import VARIABLE
from tests.ledger.sessions import SMALL, running

TRIES_MAX = 200
READERS = 4


async def main(path: Path) -> None:
    """One round after the other."""
    fails = Path(os.environ[VARIABLE])
    clock = SystemClock()
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    is_over = False

    async def read() -> None:
        while not is_over:
            with contextlib.suppress(StoreUnavailable):
                await ledger.rows.session(hand.session_id)
                await ledger.read_tables(lists.sessions, SessionsQuery(limit=10))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as readers:
        for _ in range(READERS):
            readers.create_task(read())
        for _ in range(int(os.environ["SYNC_ROUNDS"])):
            flush = hand.flush(hand.accepted("y"))
            await asyncio.to_thread(fails.touch)
            try:
                await ledger.commit(flush)
                told = "committed"
            except StoreUnavailable:
                told = "refused"
            sys.stdout.write(f"{told}\n")
            await asyncio.sleep(0.2)  # the tables can't be written either
            await asyncio.to_thread(fails.unlink)
            for _ in range(TRIES_MAX):
                try:
                    await ledger.commit(flush)
                    sys.stdout.write("committed\n")
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
        is_over = True
    is_whole = await ledger.verify_chain(hand.session_id) == hand.seq
    sys.stdout.write("whole\n" if is_whole else "not whole\n")
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
