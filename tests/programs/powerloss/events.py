"""The record of a process's writes, as `recorder.c` makes it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

HEADER = struct.Struct("<IiqqQ")


class Kind(IntEnum):
    """What was done; in the order of the recorder's own list."""

    BEGIN = 0
    OPEN = 1
    MAKE = 2
    CLOSE = 3
    WRITE = 4
    TRUNCATE = 5
    ALLOCATE = 6
    SYNC = 7
    RENAME = 8
    REMOVE = 9


@dataclass(frozen=True, slots=True)
class Event:
    """One call that succeeded. `descriptor` is -1 for those that name paths; `data` is a path there."""

    kind: Kind
    descriptor: int
    first: int
    second: int
    data: bytes

    @property
    def path(self) -> Path:
        """Of a call that names one."""
        return Path(self.data.decode())


def read(path: Path) -> Iterator[Event]:
    """Every event of a record, in order."""
    with path.open("rb") as file:
        while header := file.read(HEADER.size):
            kind, descriptor, first, second, length = HEADER.unpack(header)
            yield Event(Kind(kind), descriptor, first, second, file.read(length))
