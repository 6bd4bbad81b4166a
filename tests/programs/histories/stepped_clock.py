"""A wall clock that can be set, for the processes of one runtime."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from tests import preloaded

VARIABLE = "HELMR_TEST_CLOCK"


class SteppedClock:
    """The wall clock of the processes that have `environ`; this process keeps the machine's.

    Args:
        built: The library that they load.
        offset: The file that says by how much their clock is off.
    """

    def __init__(self, built: Path, offset: Path) -> None:
        self._offset = offset
        self.environ: Mapping[str, str] = {preloaded.PRELOAD: str(built), VARIABLE: str(offset)}
        self.set(0.0)

    @classmethod
    def build(cls, folder: Path) -> SteppedClock | None:
        """One in an empty folder; None where there is no C compiler."""
        built = preloaded.library(Path(__file__).with_name("stepped_clock.c"), folder)
        return cls(built, folder / "clock") if built is not None else None

    def set(self, offset_s: float) -> None:
        """From now on all their clocks are off by so much."""
        kind = "r+b" if self._offset.exists() else "xb"
        with self._offset.open(kind, buffering=0) as file:  # in place: they have it mapped
            file.write(struct.pack("=q", round(offset_s * 1e9)))
