"""A process that opens a ledger and says what it holds then. Argument: a data directory."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

import psutil

from helmr_runtime.ledger.duck.reads import engine_bytes
from tests.benchmarks.scale.build import open_at


async def main(data_dir: Path) -> None:
    """Open, look, print as JSON."""
    began_s = time.perf_counter()
    ledger = await open_at(data_dir)
    open_s = time.perf_counter() - began_s
    gc.collect()
    held_bytes = await ledger.read(engine_bytes)
    uss = psutil.Process().memory_full_info().uss
    said = {"own_bytes": uss - held_bytes, "engine_bytes": held_bytes, "open_s": open_s}
    sys.stdout.write(json.dumps(said))
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
