"""What a machine has on its disk: the cache of the log, in lists; the ledger above it is the real one.

Real: `LedgerActor`, `open_ledger`, `DuckLedger`, the group commit, the index, the standby, the lease and its watch, the
log in a store, snapshots and when they are made. Not real: the engine and its file. What a transaction does is done
whole or not at all. It is a cache: it may be gone, or an old one come back.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock
from uuid import UUID

from helmr.errors import DataError
from helmr.wire import ids
from helmr_runtime.core import commands
from helmr_runtime.core.entries import Entry
from helmr_runtime.feature import Features
from helmr_runtime.features import FEATURES
from helmr_runtime.ledger import actor, ledger, pruning, standby
from helmr_runtime.ledger import open as opening
from helmr_runtime.ledger.index.heads import Head, checkpointed
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.projection import FeedTail, Projection
from helmr_runtime.ledger.log import database, projector, snapshots
from helmr_runtime.ledger.log.commit_log import CommitLog, appends_of, text_of
from helmr_runtime.ledger.log.database import Database, Settings
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ledger.log.snapshots import Cache, snapshot_parts
from helmr_runtime.ledger.memory_rows import KeptEntries, Stored, prunable
from helmr_runtime.ledger.pruning import PrunedSessions
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ledger.tables.appends import Appends, Checkpoint, LeaseRow
from helmr_runtime.ledger.tables.engine import id_of, uuid_of
from helmr_runtime.ledger.tables.recovery import RestoredMemory
from tests.programs.simulation.disk import add

HERE = Path("/simulated")


@dataclass(slots=True)
class DataDirectory:
    """A machine's, which one process at a time has open.

    Attributes:
        has_file: The database is there.
        marker: The log of which it is a cache, and the last opening of it from here.
        stored: What transactions have stored.
        log_number: The last record of it.
    """

    has_file: bool = False
    marker: tuple[int, str | None] | None = None
    stored: Stored = field(default_factory=Stored)
    log_number: int = 0
    openings: int = 0

    def drop(self) -> None:
        """The file is gone."""
        self.has_file, self.stored, self.log_number, self.openings = False, Stored(), 0, 0

    def become(self, other: DataDirectory) -> None:
        """Have everything as it is there."""
        for one in fields(self):
            setattr(self, one.name, getattr(other, one.name))

    def copied(self) -> DataDirectory:
        """As it is now."""
        kept = self.stored
        stored = Stored(KeptEntries(kept.entries), dict(kept.checkpoints), list(kept.holdings))
        return replace(self, stored=stored)

    def to_bytes(self) -> bytes:
        """The database's file."""
        kept = self.stored
        appends = Appends(
            entries=[*kept.entries],
            checkpoints=[
                Checkpoint(offset, session_id, 0, body)
                for (session_id, offset), body in kept.checkpoints.items()
            ],
            holdings=[LeaseRow(*one) for one in kept.holdings],
        )
        return b"%d %d\n" % (self.log_number, self.openings) + text_of(appends)

    def take_bytes(self, data: bytes) -> None:
        """The file is that one from now on."""
        numbers, _, text = data.partition(b"\n")
        self.drop()
        self.has_file = True
        self.log_number, self.openings = map(int, numbers.split())
        add(self.stored, appends_of(text, "a snapshot", self.log_number))


Directories = Mapping[Path, DataDirectory]


class SimulatedCache(Cache):
    """A cache whose file is such a directory's; what it decides is the real one's."""

    def __init__(self, path: Path, log: ObjectLog, directory: DataDirectory) -> None:
        super().__init__(path, log, new_id=lambda: 7)
        self._directory = directory
        self.copy = b""
        """The copy beside the file."""

    def fetch(self) -> None:
        self.drop()
        root = self.log.root()
        if root is not None and root.newest is not None:
            self._directory.take_bytes(b"".join(snapshot_parts(self.log, root.newest)))

    def drop(self) -> None:
        assert self._directory.marker is not None
        self._directory.drop()

    @property
    def aside(self) -> Path:
        return cast(
            Path,
            SimpleNamespace(
                open=lambda mode: io.BytesIO(self.copy), unlink=lambda missing_ok: None
            ),
        )


class SimulatedDatabase(Database):
    """A database over lists, with the real log."""

    directories: Directories = {}  # noqa: RUF012 - replaced as a whole, by each simulation
    """By path."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        open_body: Callable[..., str] | None = None,
        shared: ObjectLog | None = None,
    ) -> None:
        assert shared is not None
        self.path = path
        self.directory = self.directories[path]
        self.simulated = SimulatedCache(path, shared, self.directory)
        self.cache = self.simulated
        self._log = CommitLog(shared, shared.objects.name)
        nothing = SimpleNamespace(feed_offset=0)
        self._merging = cast(Any, SimpleNamespace(head=nothing, number=0))
        self.mark = cast(Any, SimpleNamespace(note_last=lambda entry: None, sync=lambda: None))

    def execute(self, *said: object) -> SimulatedDatabase:
        """Statements that concern nothing which is kept here."""
        return self

    @property
    def writer(self) -> Any:
        return self

    @property
    def writers_reader(self) -> Any:
        return self.directory

    def open(self, check: object = None, carry_over: object = None) -> None:
        """As the real one opens a cache."""
        try:
            self.simulated.claim()
            try:
                if self.directory.has_file:
                    self._open_log()
            except DataError as error:
                if not database._is_stale(error):
                    raise
                self.directory.drop()
            if not self.directory.has_file:
                self.simulated.fetch()
                self.directory.has_file = True
                self._open_log()
            self.merge()
        except BaseException:
            self.close()
            raise

    def _open_log(self) -> None:
        log_id = self.directory.marker[0] if self.directory.marker is not None else 0
        self._log.open(log_id, self.directory.log_number)

    def merge(self) -> None:
        if self._log.has_unmerged:
            with self.transaction():
                pass

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        number, appends = self._log.to_merge()
        yield self
        _take(self.directory.stored, appends)
        self.directory.log_number = max(self.directory.log_number, number)
        self._log.merged(number)

    def set_number(self, name: str, number: int) -> None:
        self.directory.openings = number

    def copy_aside(self) -> int:
        with self.transaction():
            pass
        self.simulated.copy = self.directory.to_bytes()
        return self.directory.log_number

    def reading(self, read: Callable[[Any], Any]) -> Any:
        return read(self.directory)

    def require_open(self) -> None:
        pass

    def close(self) -> None:
        self._log.close()


def _take(stored: Stored, appends: Appends) -> None:
    """What a transaction does; nothing more is ever written of a session that is removed."""
    add(stored, appends)
    for removal in appends.removals:
        stored.remove(removal.sessions)


# --- what is read of it -----------------------------------------------------------------------------


def restore(
    directory: DataDirectory, now: datetime, features: Features = FEATURES
) -> RestoredMemory:
    """As `recovery.restore`, of all entries: there are no tables."""
    index, recent, stored = LedgerIndex(features), FeedTail(), directory.stored
    scratch = Projection()
    for entry in stored.entries:
        index.take((entry,), now, scratch, recent)
        if (entry.session_id, entry.feed_offset) in stored.checkpoints:
            checkpointed(index.heads[entry.session_id])
    for session_id, epoch, holder in stored.holdings:
        head = index.heads[session_id]
        if epoch >= head.epoch:
            head.epoch, head.held_by = epoch, holder
    for head in index.heads.values():
        index.reindex(head, now)
    index.tokens.touched.clear()
    return RestoredMemory(
        index=index,
        projection=Projection(through=index.head_offset),
        recent=recent,
        projected_offset=index.head_offset,
        openings=directory.openings,
        system_offset=index.system.last_offset or 0,
    )


def entries_at(directory: DataDirectory, offsets: Sequence[int]) -> dict[int, Entry]:
    """As `reads.entries_at`."""
    return {offset: directory.stored.entries.at(offset) for offset in offsets}


def checkpoint_of(
    directory: DataDirectory, *, head: Head, missing: Sequence[int], bodies: object
) -> tuple[str | None, dict[int, str], dict[int, Entry]]:
    """As `reads.checkpoint_of`, of one that names nothing."""
    stored = directory.stored.checkpoints
    text = stored[head.session_id, head.checkpoint_offset] if head.checkpoint_offset else None
    return text, {}, entries_at(directory, missing)


def hash_at(
    directory: DataDirectory, session_id: str, seq: int, since: int
) -> tuple[int, bytes] | None:
    """As `reads.hash_at`."""
    for entry in directory.stored.entries:
        if (entry.session_id, entry.seq) == (session_id, seq):
            assert entry.feed_offset is not None
            return entry.feed_offset, entry.hash
    return None


def read_head(
    directory: DataDirectory, index: LedgerIndex, session_id: str, now: datetime
) -> Head | None:
    """As `recovery.read_head`: memory has all that there are."""
    return index.heads.get(session_id)


def page(
    directory: DataDirectory, before: datetime, only: Sequence[UUID] | None, kept: Sequence[UUID]
) -> PrunedSessions | None:
    """As `pruning.page`, which works out anew what features keep."""
    entries, names = directory.stored.entries, None
    if only is not None:
        names = frozenset(id_of(ids.SESSION, one) for one in only)
    found: list[tuple[UUID, int, int, int]] = []
    for head in prunable(restore(directory, before).index, entries, before, names):
        offsets = [one.feed_offset or 0 for one in entries if one.session_id == head.session_id]
        found.append((uuid_of(head.session_id), offsets[0], offsets[-1], len(offsets)))
    return PrunedSessions(tuple(found)) if found else None


class NoQueries:
    """There is no SQL."""

    def __init__(self, database: Database) -> None:
        pass

    async def close(self) -> None:
        """Nothing is open."""


@contextmanager
def below_ledgers(directories: Directories, name: Callable[[], str]) -> Iterator[None]:
    """Meanwhile ledgers' files are these, by path.

    Args:
        name: Makes a part of a snapshot's name.
    """

    def marked(path: Path) -> tuple[str, int] | None:
        found = directories[path].marker
        return ("simulated://log", found[0]) if found is not None else None

    def writer_of(path: Path) -> str | None:
        found = directories[path].marker
        return found[1] if found is not None else None

    def mark(path: Path, store: str, log_id: int, writer: str | None = None) -> None:
        directories[path].marker = log_id, writer

    def marker_of(path: Path) -> SimpleNamespace:
        return SimpleNamespace(exists=lambda: directories[path].marker is not None)

    replaced: list[tuple[Any, dict[str, object]]] = [
        (SimulatedDatabase, {"directories": directories}),
        (opening, {"Database": SimulatedDatabase, "restore": restore}),
        (database, {"entries_at": entries_at}),
        (projector, {"project": lambda connection, tables: None}),
        (reads, {"entries_at": entries_at, "hash_at": hash_at}),
        (ledger, {"checkpoint_of": checkpoint_of, "QueryRunner": NoQueries}),
        (ledger, {"read_head": read_head, "read_token": lambda directory, token_id: None}),
        (standby, {"read_head": read_head}),
        (pruning, {"page": page}),
        (commands, {"PRUNE_AGE_MIN_S": 0.0}),  # clients choose what nobody asks for any more
        (actor, {"writer_of": writer_of}),
        (
            snapshots,
            {
                "compact": lambda copy: None,
                "exists": lambda path: directories[path].has_file,
                "marked": marked,
                "mark": mark,
                "marker_of": marker_of,
                "writer_of": writer_of,
                "secrets": SimpleNamespace(token_hex=lambda size: name()),
            },
        ),
    ]
    with ExitStack() as stack:
        for module, names in replaced:
            for attribute, value in names.items():
                stack.enter_context(mock.patch.object(module, attribute, value))
        yield


def of_an_empty_machine(log: ObjectLog) -> DataDirectory:
    """What a machine without a file has at its start."""
    directory, root = DataDirectory(), log.require_root()
    if root.newest is not None:
        directory.take_bytes(b"".join(snapshot_parts(log, root.newest)))
    for number, text in log.read(directory.log_number):
        _take(directory.stored, appends_of(text, "the log", number))
        directory.log_number = number
    return directory
