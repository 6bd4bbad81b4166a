"""The record of a process's writes, as `recorder.c` makes it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

HEADER = struct.Struct("<IiiiqqQ")


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
    """One call that succeeded.

    Args:
        kind: What was done.
        descriptor: -1 for a call that names paths.
        first: A place, or a size.
        second: Where a change of room ends.
        data: What was written; a path, or two, of a call that names them.
        process: Whose call it was.
        parent: Of a process that begins: the one that started it.
    """

    kind: Kind
    descriptor: int
    first: int
    second: int
    data: bytes
    process: int = 0
    parent: int = 0

    @property
    def path(self) -> Path:
        """Of a call that names one."""
        return Path(self.data.decode())


def read(path: Path) -> Iterator[Event]:
    """Every event of a record, in order."""
    with path.open("rb") as file:
        while header := file.read(HEADER.size):
            kind, descriptor, process, parent, first, second, length = HEADER.unpack(header)
            data = file.read(length)
            yield Event(Kind(kind), descriptor, first, second, data, process, parent)


def lives(events: Iterable[Event]) -> list[int]:
    """Numbers of the events with which a life begins: not those of what a recorded process has started."""
    found, seen = [], set[int]()
    for number, event in enumerate(events):
        if event.kind is Kind.BEGIN:
            if event.parent not in seen:
                found.append(number)
            seen.add(event.process)
    return found
