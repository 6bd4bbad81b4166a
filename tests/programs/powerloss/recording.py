"""A ledger's lives on record: every write, sync, renaming and removal, and what was acknowledged when."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tests import preloaded
from tests.ledger.sessions import START_AT
from tests.programs.powerloss import events
from tests.programs.powerloss.disk import Disk
from tests.programs.powerloss.judge import Truth
from tests.programs.powerloss.workload import ACKNOWLEDGED, DATA, DAYS, TRUTH

ROOT = Path(__file__).resolve().parents[3]
End = str | int
"""How a life ends: by a `kill` or a `stop` when all is done, or by a kill in place of that sync of the database."""

LIVES: tuple[End, ...] = ("kill", "stop", 9, "kill", 10, "kill")
"""The last one tells the truth. A checkpoint syncs twice, before its header is written and after it."""

LIFE_TAKES_S = 120
RECORD, TOLD = "record", "recording.json"
DATABASE = "/ledger.duckdb"
"""The end of its name, and of no other file's."""


class NoCompiler(Exception):
    """There is none here, so nothing can be put on record."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A loss of power, right after an event.

    Args:
        number: Of the event.
        acknowledged: Feed offset of the last entry that a caller had been told of.
    """

    number: int
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded.

    Args:
        folder: That of the recorded processes.
        events: In order.
        moments: After each event that has to do with the ledger's files.
        truth: Every entry that there ever was.
        lives: So many there were.
        store: The folder with the log, if the recorded files are a cache; it lost no power, and has all of it.
    """

    folder: Path
    events: Sequence[events.Event]
    moments: Sequence[Moment]
    truth: Truth
    lives: int
    store: Path | None = None

    @property
    def now(self) -> datetime:
        """A time after all of it."""
        return START_AT + self.lives * DAYS

    @property
    def data(self) -> Path:
        """The folder with the ledger's files."""
        return self.folder / DATA

    def acknowledged(self, moment: Moment) -> int:
        """Feed offset of the last entry that must be there after it: if the log is elsewhere, the last of all."""
        return (self.moments[-1] if self.store is not None else moment).acknowledged

    @property
    def file(self) -> Path:
        """The record itself."""
        return self.folder.with_name(RECORD)

    def beginning(self, life: int, moments: int) -> Recording:
        """The same with so many moments, the first ones of a life."""
        begins = events.lives(self.events)[life]
        found = [one for one in self.moments if one.number > begins]
        return replace(self, moments=found[:moments])

    def keep(self, folder: Path) -> None:
        """Copy what `kept` reads of it."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.file, folder / RECORD)
        shutil.copy(self.folder / TRUTH, folder / TRUTH)
        (folder / TOLD).write_text(json.dumps([str(self.folder), self.lives]))

    def disks(self, numbers: Sequence[int]) -> Iterator[tuple[int, Disk]]:
        """The disk right after each of these events, in order; it is the same one, which goes on."""
        disk, at = Disk(), 0
        for number in sorted(numbers):
            for event in self.events[at : number + 1]:
                disk.take(event)
            at = max(at, number + 1)
            yield number, disk


def record(
    folder: Path, commits: int, lives: Sequence[End] = LIVES, *, is_cache: bool = False
) -> Recording:
    """Let a ledger live that often.

    Args:
        folder: An empty one.
        commits: So many each of a life's callers makes.
        lives: How each ends.
        is_cache: Its log is in a folder that is not on record, so that its own files can be made anew from there.

    Raises:
        NoCompiler: There is no C compiler.
    """
    library = preloaded.library(Path(__file__).with_name("recorder.c"), folder)
    if library is None:
        raise NoCompiler
    work, file = folder / "work", folder / RECORD
    work.mkdir()
    store = folder / "store" if is_cache else None
    where = [f"file://{store}"] if store is not None else []
    environ = {
        **os.environ,
        preloaded.PRELOAD: str(library),
        "HELMR_TEST_RECORD_BELOW": str(work),
        "HELMR_TEST_RECORD": str(file),
        "HELMR_TEST_KILL_AT_FILE": DATABASE,
    }
    for number, end in enumerate(lives):
        word = end if isinstance(end, str) else "kill"
        early = {} if isinstance(end, str) else {"HELMR_TEST_KILL_BEFORE_SYNC": str(end)}
        command = [sys.executable, "-m", "tests.programs.powerloss.workload", str(work)]
        done = subprocess.run(
            [*command, str(number), str(commits), word, *where],
            cwd=ROOT,
            env={**environ, **early},
            timeout=LIFE_TAKES_S,
        )
        assert done.returncode == (-signal.SIGKILL if word == "kill" else 0), done.returncode
    found = list(events.read(file))
    _check_nothing_escaped(found, work)
    recording = _recording(work, found, Truth.read(work / TRUTH), len(lives))
    return replace(recording, store=store)


def kept(folder: Path) -> Recording:
    """The recording that `Recording.keep` has copied there."""
    work, lives = json.loads((folder / TOLD).read_text())
    found = list(events.read(folder / RECORD))
    return _recording(Path(work), found, Truth.read(folder / TRUTH), lives)


def _recording(work: Path, found: Sequence[events.Event], truth: Truth, lives: int) -> Recording:
    return Recording(work, found, list(_moments(found, work)), truth, lives)


def _check_nothing_escaped(found: Sequence[events.Event], work: Path) -> None:
    """What the record makes of the files is what they are, byte by byte."""
    disk = Disk()
    for event in found:
        disk.take(event)
    there = {path for path in work.rglob("*") if path.is_file()}
    assert there == set(disk.names), there ^ set(disk.names)
    for path, file in disk.names.items():
        assert path.read_bytes() == bytes(file.content()), path


def _moments(found: Sequence[events.Event], work: Path) -> Iterator[Moment]:
    acknowledged, tells = 0, set[tuple[int, int]]()
    for number, event in enumerate(found):
        told = event.process, event.descriptor
        if event.kind is events.Kind.BEGIN:
            tells = {one for one in tells if one[0] != event.process}
        elif event.kind in (events.Kind.OPEN, events.Kind.MAKE):
            is_telling = event.path == work / ACKNOWLEDGED
            (tells.add if is_telling else tells.discard)(told)
        elif event.kind is events.Kind.WRITE and told in tells:
            acknowledged = max(acknowledged, int(event.data))
        if told not in tells:
            yield Moment(number, acknowledged)
