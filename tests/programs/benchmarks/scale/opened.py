"""A process that opens a ledger and says what it holds then. Argument: a data directory."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

import psutil

from tests.programs.benchmarks.scale.build import open_at


async def main(data_dir: Path) -> None:
    """Open, look, print as JSON."""
    began_s = time.perf_counter()
    ledger = await open_at(data_dir)
    open_s = time.perf_counter() - began_s
    gc.collect()
    engine_bytes = (await ledger.stats())["engine_bytes"]
    uss = psutil.Process().memory_full_info().uss
    said = {"own_bytes": uss - engine_bytes, "engine_bytes": engine_bytes, "open_s": open_s}
    sys.stdout.write(json.dumps(said))
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
