"""A small file beside each pool actor that says whether task code executes, for whoever finds the
actor dead.

A kill leaves no time for last words; this is written before code runs, in a few microseconds, and
tells a death while executing (which counts towards `blocked`, S-3) from the death of an actor that
merely waited.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SIZE_BYTES = 256


@dataclass(frozen=True, slots=True)
class Crumb:
    """What an actor held and did."""

    session_id: str
    epoch: int
    executing: bool
    op: int | None


class CrumbWriter:
    """Writes the current crumb in place; unchanged crumbs cost nothing."""

    def __init__(self, path: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600) if path is not None else None
        self._last: Crumb | None = None

    def write(self, crumb: Crumb | None) -> None:
        """Replace the crumb; None says that nothing is held."""
        if self._file is None or crumb == self._last:
            return
        self._last = crumb
        text = json.dumps(asdict(crumb)) if crumb is not None else ""
        os.pwrite(self._file, text.ljust(SIZE_BYTES).encode(), 0)


def read(path: Path) -> Crumb | None:
    """The last crumb; None if there is none, or it is torn."""
    try:
        text = path.read_text().strip()
        return Crumb(**json.loads(text)) if text else None
    except (OSError, ValueError, TypeError):
        return None
