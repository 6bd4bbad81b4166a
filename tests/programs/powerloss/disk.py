"""Files as a machine has them in memory and on disk, after each event of a record.

A file has a content that is on disk for sure, and writes that came after its last sync, of which a loss of power leaves
any part. Names are there as they are in memory, or, on a strict disk, as they were when their folder was synced last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.programs.powerloss.events import Event, Kind


@dataclass(frozen=True, slots=True)
class Change:
    """A write at a place, or, without data, a new size; `grows` says that the size is only a least one."""

    place: int
    data: bytes | None = None
    grows: bool = False

    def apply(self, content: bytearray) -> None:
        """Do it to a file's content."""
        if self.data is None:
            if not self.grows:
                del content[self.place :]
            content.extend(bytes(max(0, self.place - len(content))))
            return
        content.extend(bytes(max(0, self.place - len(content))))
        content[self.place : self.place + len(self.data)] = self.data


@dataclass(slots=True)
class File:
    """One file, whatever its name."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        """All of it is on disk."""
        for change in self.pending:
            change.apply(self.durable)
        self.pending.clear()

    def content(self, changes: Iterable[Change] | None = None) -> bytearray:
        """What is on disk, with these changes; without them, with all: what the machine has in memory."""
        content = bytearray(self.durable)
        for change in self.pending if changes is None else changes:
            change.apply(content)
        return content


class Disk:
    """The files below one folder."""

    def __init__(self) -> None:
        self.names: dict[Path, File] = {}
        self.synced_names: dict[Path, File] = {}
        self._open: dict[tuple[int, int], tuple[Path, File | None]] = {}
        """By process and descriptor; a folder has no file."""

    def take(self, event: Event) -> None:
        """Go on by an event."""
        if event.kind is Kind.BEGIN:
            # Its number may have been another's.
            self._open = {key: one for key, one in self._open.items() if key[0] != event.process}
        elif event.kind in (Kind.OPEN, Kind.MAKE):
            self._opened(event)
        elif event.kind is Kind.RENAME:
            source, target = event.data.decode().split("\n")
            self.names[Path(target)] = self.names.pop(Path(source))
        elif event.kind is Kind.REMOVE:
            self.names.pop(event.path, None)
        elif event.kind is Kind.CLOSE:
            self._open.pop((event.process, event.descriptor), None)
        else:
            path, file = self._open[event.process, event.descriptor]
            if file is not None:
                _change(file, event)
            elif event.kind is Kind.SYNC:
                of_folder = {
                    name: found for name, found in self.names.items() if name.parent == path
                }
                others = {n: f for n, f in self.synced_names.items() if n.parent != path}
                self.synced_names = {**others, **of_folder}

    def _opened(self, event: Event) -> None:
        if event.kind is Kind.MAKE:
            self.names[event.path] = File()
        found = event.path, self.names.get(event.path)
        self._open[event.process, event.descriptor] = found


def _change(file: File, event: Event) -> None:
    if event.kind is Kind.SYNC:
        file.sync()
    elif event.kind is Kind.WRITE:
        file.pending.append(Change(event.first, event.data))
    elif event.kind is Kind.TRUNCATE:
        file.pending.append(Change(event.first))
    elif event.kind is Kind.ALLOCATE and event.first < 0:
        hole = range(-event.first - 1, min(event.second, len(file.content())))
        file.pending.append(Change(hole.start, bytes(len(hole))))
    elif event.kind is Kind.ALLOCATE:
        file.pending.append(Change(event.first, grows=True))
