"""Ledgers of the size that bounds are measured with, built once and kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.programs.benchmarks.scale.build import grow
from tests.programs.benchmarks.scale.patterns import run_patterns

PARKED_OF = 100
"""One session of so many entries is parked; the others are over."""


async def built(folder: Path, entries: int) -> Path:
    """A data directory with about so many entries, in which no runtime works."""
    data_dir = folder / str(entries)
    if data_dir.is_dir():
        return data_dir
    with tempfile.TemporaryDirectory(prefix="helmr-patterns-") as patterns:
        parked, over = await run_patterns(Path(patterns))
    making = folder / f".{entries}"
    making.mkdir(parents=True, exist_ok=True)
    await grow(making, parked, over, sessions=entries // PARKED_OF, entries=entries)
    making.rename(data_dir)
    return data_dir
