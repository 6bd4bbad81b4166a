"""A real ledger at rest: that of release 0.1.0, with tokens, keys, parked and ended sessions, plain and sealed."""

from __future__ import annotations

import asyncio
import lzma
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.security.keys import read_key_ring
from tests.fixtures.earlier import HERE, LEDGER, Earlier
from tests.ledger.sessions import SMALL

EARLIER = Earlier("ledger_0_1_0")
RING = "master-keys.json"


@pytest.fixture(scope="session")
def now() -> datetime:
    """A minute after the ledger was made: operations are remembered, and nothing is due."""
    return EARLIER.made_at + timedelta(minutes=1)


@pytest.fixture(scope="session")
def carried(tmp_path_factory: pytest.TempPathFactory, now: datetime) -> Path:
    """A data directory that today's runtime has had open once."""
    path = EARLIER.unpack(tmp_path_factory.mktemp("carried") / "data")

    async def opened_once() -> None:
        ring = read_key_ring(path.parent / RING, {})
        ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=ring)
        await ledger.close()

    with ThreadPoolExecutor(1) as beside:  # where no event loop is
        beside.submit(asyncio.run, opened_once()).result()
    return path.parent


@pytest.fixture
def path(tmp_path: Path, carried: Path) -> Path:
    """The ledger's file in a copy of it."""
    return Path(shutil.copytree(carried, tmp_path / "data")) / LEDGER


@pytest.fixture
def keys(path: Path) -> LedgerKeys:
    """Its master keys."""
    return LedgerKeys(read_key_ring(path.parent / RING, {}))


def left_by_a_follower(folder: Path, kind: str = "copy") -> Path:
    """A file that 0.7.0 has left, in a folder of its own: `promoted`, `copy` or `superseded`."""
    path = folder / kind / LEDGER
    path.parent.mkdir(mode=0o700)
    packed = HERE / "ledger_0_7_0" / f"{kind}.duckdb.xz"
    path.write_bytes(lzma.decompress(packed.read_bytes()))
    path.chmod(0o600)
    return path


def keys_of_a_follower(folder: Path) -> Path:
    """A file with the master keys of those ledgers."""
    path = folder / RING
    path.write_bytes((HERE / "ledger_0_2_0" / RING).read_bytes())
    path.chmod(0o600)
    return path
