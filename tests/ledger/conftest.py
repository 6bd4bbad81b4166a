"""Ledgers over real files in temporary folders, and the same over lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from helmr_runtime.clock import FakeClock
from helmr_runtime.features import FEATURES
from helmr_runtime.ledger.actor import LedgerActor, LedgerPlace
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.open import open_ledger
from tests.ledger.made import made
from tests.ledger.sessions import SMALL, START_AT, check_nothing_is_read

Opener = Callable[[], Awaitable[DuckLedger]]


@pytest.fixture
def clock() -> FakeClock:
    """The one fake clock."""
    return FakeClock(START_AT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger's file is."""
    return tmp_path / "ledger.duckdb"


@pytest.fixture
async def opener(path: Path, clock: FakeClock) -> AsyncIterator[Opener]:
    """Opens the ledger; each call closes the one before. The last is closed at the end."""
    opened: list[DuckLedger] = []

    async def open_again() -> DuckLedger:
        while opened:
            await opened.pop().close()
        opened.append(await open_ledger(path, clock=clock, settings=SMALL, features=FEATURES))
        return opened[-1]

    yield open_again
    while opened:
        await check_nothing_is_read(opened[-1])
        await opened.pop().close()


@pytest.fixture
async def duck(opener: Opener) -> DuckLedger:
    """An open DuckDB ledger."""
    return await opener()


@pytest.fixture
async def actor(path: Path, clock: FakeClock) -> AsyncIterator[LedgerActor]:
    """The ledger's shell."""
    actor = LedgerActor(
        LedgerPlace(path, features=FEATURES), clock=clock, settings=SMALL, lock_patience_s=0
    )
    yield actor
    if actor._ledger is not None:
        await check_nothing_is_read(actor._ledger)
    await actor.close()


@pytest.fixture(params=["memory", "duck"])
async def ledger(
    request: pytest.FixtureRequest, path: Path, clock: FakeClock
) -> AsyncIterator[MemoryLedger | LedgerActor]:
    """Both ledgers: what is asked of one is asked of the other."""
    if request.param == "memory":
        yield MemoryLedger(clock, features=FEATURES)
        return
    actor = LedgerActor(
        LedgerPlace(made(path), features=FEATURES),
        clock=clock,
        settings=SMALL,
        lock_patience_s=0,
    )
    yield actor
    if actor._ledger is not None:
        await check_nothing_is_read(actor._ledger)
    await actor.close()
