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
class HostStatus:
    """What an actor held and did."""

    session_id: str
    epoch: int
    executing: bool
    op: int | None


class StatusFile:
    """Writes the current status in place; unchanged statuses cost nothing."""

    def __init__(self, path: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600) if path is not None else None
        self._last: HostStatus | None = None

    def write(self, status: HostStatus | None) -> None:
        """Replace the status; None says that nothing is held."""
        if self._file is None or status == self._last:
            return
        self._last = status
        text = json.dumps(asdict(status)) if status is not None else ""
        os.pwrite(self._file, text.ljust(SIZE_BYTES).encode(), 0)


def read(path: Path) -> HostStatus | None:
    """The last status; None if there is none, or it is torn."""
    try:
        text = path.read_text().strip()
        return HostStatus(**json.loads(text)) if text else None
    except (OSError, ValueError, TypeError):
        return None
