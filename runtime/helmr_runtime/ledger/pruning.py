"""Old sessions leave the ledger a page at a time, in short transactions, while it works (S-69).

What is over is chosen so that nothing which stays refers to what goes: families of parents and children go together,
children first; a session stays while a token of it is pending, while something of a feature names it, and while
a token of another is to be answered by a schema that its wait has given. An operator asks for it, or `helmr.toml`
does; what goes may be kept as Parquet files, sealed bodies sealed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from helmr.errors import HelmrError, StoreUnavailable
from helmr.platform import sync
from helmr.wire import ids
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import (
    AT_ONCE,
    ENTRIES_MAX,
    SESSIONS_MAX,
    Prune,
    Pruned,
    Retention,
    pruned_draft,
)
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.ledger.log.files import sync_directory
from helmr_runtime.ledger.log.group import GroupCommit
from helmr_runtime.ledger.log.group_builder import Facts
from helmr_runtime.ledger.log.jobs import PendingJob
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.appends import Removal
from helmr_runtime.ledger.tables.engine import (
    BatchStatement,
    Reader,
    Row,
    id_of,
    id_or_none,
    uuid_of,
)

logger = logging.getLogger(__name__)

SHOWN_FOR_S = 5.0
"""How far behind the tables may be that a page is chosen from: what is removed waits while they are written, and
commits wait for that. What has gone on meanwhile is refused in memory, and new tables are asked for."""

COPY_PATIENCE_S = 10.0
"""A backup that has not asked for its next page for this long no longer holds up pruning."""

_OLD = """
WITH RECURSIVE
old AS (
    SELECT session, created_offset, last_offset, next_seq - 1 AS count FROM sessions
    WHERE status <> 'open' AND activity = 'idle' AND updated_at < $1
        AND ($2::UUID[] IS NULL OR session IN (SELECT unnest($2::UUID[])))
),
linked AS (
    SELECT session AS one, parent AS other FROM sessions WHERE parent IS NOT NULL
    UNION ALL
    SELECT parent, session FROM sessions WHERE parent IS NOT NULL
),
kept AS (
    SELECT unnest($3::UUID[]) AS session
    UNION SELECT session FROM tokens WHERE parent IS NULL AND status = 'pending'
    UNION SELECT e.session FROM tokens t JOIN entries e ON e.feed_offset = t.pin_offset
        WHERE t.pin_offset > 0 AND e.session <> t.session
    UNION SELECT one FROM linked SEMI JOIN sessions s ON s.session = one ANTI JOIN old o ON o.session = one
    UNION SELECT other FROM kept JOIN linked ON one = kept.session
)
SELECT {columns} FROM old ANTI JOIN kept USING (session)
"""
_PAGE = _OLD.format(columns="*") + " ORDER BY created_offset DESC LIMIT $4"
"""The newest first: a child is made after its parent, whose entries may have ended it."""

_COUNT = _OLD.format(columns="count(*), sum(count)")


@dataclass(frozen=True, slots=True)
class PrunedSessions:
    """Sessions that are to go.

    Attributes:
        found: Of each its UUID, the feed offsets of its first and its last entry, and how many it has.
    """

    found: tuple[tuple[UUID, int, int, int], ...]

    @property
    def removal(self) -> Removal:
        """The removal of these sessions."""
        return Removal(
            sessions=tuple(engine.id_of(ids.SESSION, one[0]) for one in self.found),
            first_offset=min(one[1] for one in self.found),
            last_offset=max(one[2] for one in self.found),
        )

    @property
    def last_offsets(self) -> tuple[int, ...]:
        """Feed offset of each session's last entry."""
        return tuple(one[2] for one in self.found)

    @property
    def entries(self) -> int:
        """Number of entries in these sessions."""
        return sum(one[3] for one in self.found)

    def parts(self) -> Iterator[PrunedSessions]:
        """Yield parts that each fit one transaction, in order."""
        for at in range(0, len(self.found), AT_ONCE):
            yield PrunedSessions(self.found[at : at + AT_ONCE])


Only = Sequence[UUID] | None
"""The sessions that may be chosen; None for all."""


def count(reader: Reader, before: datetime, only: Only, kept: Sequence[UUID]) -> tuple[int, int]:
    """Count the sessions that may be pruned, because their last entry is older, and their entries."""
    found = engine.first_row(reader.execute(_COUNT, [before, only, kept]))
    assert found is not None
    return int(found[0]), int(found[1] or 0)


def page(
    reader: Reader, before: datetime, only: Only, kept: Sequence[UUID]
) -> PrunedSessions | None:
    """The next ones that may go; None if there are none."""
    taken: list[Any] = []
    entries = 0
    for row in reader.execute(_PAGE, [before, only, kept, SESSIONS_MAX]).fetchall():
        if taken and entries + row[3] > ENTRIES_MAX:
            break
        taken.append(row)
        entries += row[3]
    return PrunedSessions(tuple(taken)) if taken else None


class PruneJob(PendingJob[int]):
    """Removes a page, unless one of its sessions has gone on since it was read, or another page has been removed: then
    the answer is 0, and else the feed offset of the entry that says so.

    Args:
        after: That of the last prune whose sessions the page can't have.
    """

    def __init__(
        self,
        prune: Prune,
        found: PrunedSessions,
        archived: str | None,
        group: GroupCommit,
        *,
        after: int,
    ) -> None:
        super().__init__()
        self._after = after
        self.keys: frozenset[Hashable] = frozenset(found.removal.sessions)
        self._prune = prune
        self._page = found
        self._archived = archived
        self._group = group

    async def prepare(self) -> Facts | None:
        """Look once more, in memory."""
        removal = self._page.removal
        is_as_read = self._group.index.pruned_offset == self._after and all(
            map(self._is_as_read, removal.sessions, self._page.last_offsets)
        )
        if not is_as_read:
            self.answer(0)
            return None
        draft = pruned_draft(self._prune, removal.sessions, self._page.entries, self._archived)
        return Facts(
            (draft,),
            self._group.facts_now(),
            removal=removal,
            stored=lambda write: self.answer(write.entries[0].feed_offset or 0),
            failed=self.fail,
        )

    def _is_as_read(self, session_id: str, last_offset: int) -> bool:
        if self._group.projector.is_touched(session_id):
            return False
        head = self._group.index.heads.get(session_id)
        return head is None or (not head.is_held and head.last_offset == last_offset)


class Pruner:
    """Prunes one ledger.

    Args:
        read: Runs a query on a reader's cursor.
        group: The writer.
        clock: Tells the time.
        data_dir: Where the archive's folder is.
    """

    def __init__(
        self,
        read: Callable[..., Awaitable[Any]],
        group: GroupCommit,
        clock: Clock,
        data_dir: Path,
    ) -> None:
        self._read = read
        self._group = group
        self._clock = clock
        self._folder = data_dir / FOLDER
        self._copied_at_s: float | None = None
        self._one_at_a_time = asyncio.Lock()
        self._shown_at_s: float | None = None
        """When the tables were up to date last, as far as it is known here."""

    def copy_was_read(self) -> None:
        """A backup is under way; what it has yet to copy stays for now."""
        self._copied_at_s = self._clock.elapsed_s()

    async def prune(self, prune: Prune) -> Pruned:
        """Remove one page, or count all.

        Raises:
            StoreUnavailable: A backup is being read, the archive can't be written, or nothing can.
        """
        before = self._clock.now() - timedelta(seconds=prune.age_s)
        named = prune.session_ids
        only = [uuid_of(one) for one in named] if named is not None else None
        await self._show(at_once=prune.is_dry_run or only is not None)
        if prune.is_dry_run:
            sessions, entries = await self._read(count, before, only, self._kept())
            return Pruned(sessions=sessions, entries=entries, is_last=True)
        async with self._one_at_a_time:
            return await self._page(prune, before, only)

    def _kept(self) -> list[UUID]:
        return [uuid_of(one) for one in sorted(self._group.index.features.sessions_kept())]

    async def _page(self, prune: Prune, before: datetime, only: Only) -> Pruned:
        self._check_copies()
        # Readers see no removal that stands in the log alone.
        await self._group.merge()
        pruned_offset = self._group.index.pruned_offset
        found: PrunedSessions | None = await self._read(page, before, only, self._kept())
        if found is None:
            return Pruned(sessions=0, entries=0, is_last=True)
        archived = None
        if prune.is_archived:
            archived = await self._read(write, self._folder, found.removal)
        gone: list[PrunedSessions] = []
        for part in found.parts():
            job = PruneJob(prune, part, archived, self._group, after=pruned_offset)
            self._group.submit(job)
            pruned_offset = await job.future
            if not pruned_offset:
                self._shown_at_s = None
                break
            gone.append(part)
        return Pruned(
            sessions=sum(len(part.found) for part in gone),
            entries=sum(part.entries for part in gone),
            is_last=False,
            archive=archived if gone else None,
            gone=tuple(one for part in gone for one in part.removal.sessions),
        )

    async def _show(self, *, at_once: bool) -> None:
        """Project to the tables that pages are chosen from, unless that was done recently."""
        now_s, shown_at_s = self._clock.elapsed_s(), self._shown_at_s
        if at_once or shown_at_s is None or now_s - shown_at_s >= SHOWN_FOR_S:
            await self._group.project()
            self._shown_at_s = now_s

    def _check_copies(self) -> None:
        if self._copied_at_s is None:
            return
        rest_s = self._copied_at_s + COPY_PATIENCE_S - self._clock.elapsed_s()
        if rest_s > 0:
            raise StoreUnavailable(
                "a backup is being read; sessions are pruned after it", retry_after_s=rest_s
            )


FOLDER = "pruned"
"""In the data directory."""

_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "256MB",
    "threads": "1",
}
_ENTRIES = """
SELECT feed_offset, session, seq, epoch_us(recorded_at), kind, run, op, principal, body, hex(hash)
FROM entries WHERE feed_offset BETWEEN $1 AND $2 AND session IN (SELECT unnest($3::UUID[])) ORDER BY feed_offset
"""
_TABLE = """
CREATE TABLE archived (feed_offset BIGINT, session VARCHAR, seq INTEGER, recorded_at TIMESTAMPTZ, kind VARCHAR,
    run VARCHAR, op INTEGER, principal VARCHAR, body VARCHAR, hash VARCHAR)
"""
_INSERT = BatchStatement(
    "INSERT INTO archived SELECT * REPLACE (make_timestamptz(recorded_us) AS recorded_us) FROM ({rows})",
    "feed_offset BIGINT, session VARCHAR, seq INTEGER, recorded_us BIGINT, kind VARCHAR, run VARCHAR, "
    "op INTEGER, principal VARCHAR, body VARCHAR, hash VARCHAR",
)
ROWS_AT_A_TIME = 200
"""Their values are made here, under the interpreter's lock; commits beside it need that too."""


def write(reader: Reader, folder: Path, removal: Removal) -> str:
    """Write the entries of sessions that are to go to a file of their own, and to disk; returns its name.

    The ledger's own engine may not write files; another one in memory does.

    Raises:
        StoreUnavailable: It can't be written.
    """
    gone = [uuid_of(session) for session in removal.sessions]
    found = reader.execute(_ENTRIES, [removal.first_offset, removal.last_offset, gone])
    name = f"{removal.first_offset:012}-{removal.last_offset:012}-{len(gone)}.parquet"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        part = folder / f".{name}.part"
        with duckdb.connect(":memory:", config={**_CONFIG}) as scratch:
            scratch.execute("SET TimeZone = 'UTC'")
            scratch.execute(_TABLE)
            while some := found.fetchmany(ROWS_AT_A_TIME):
                _INSERT.execute(scratch, [_named(row) for row in some])
            quoted = str(part).replace("'", "''")
            scratch.execute(f"COPY archived TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)")
        part.chmod(0o600)
        with part.open("rb") as file:
            sync(file.fileno())
        part.replace(folder / name)
        sync_directory(folder)
    except (OSError, duckdb.Error) as error:
        said = str(error).splitlines()[0]
        raise StoreUnavailable(f"the archive {folder} can't be written: {said}") from error
    return name


def _named(row: Row) -> Row:
    """The row with ids as they are written outside."""
    session, run = id_of(ids.SESSION, row[1]), id_or_none(ids.RUN, row[5])
    return (row[0], session, *row[2:5], run, *row[6:])


FIRST_AFTER = timedelta(minutes=1)
"""A runtime that starts has other things to do."""

LOOK_EVERY = timedelta(hours=1)
BETWEEN_PAGES = timedelta(milliseconds=250)
"""So that commits come between."""


class Retainer:
    """Prunes an hour's worth every hour, a page at a time.

    Args:
        retention: What is kept how long.
        prune: Removes a page.
        clock: Tells when.
    """

    def __init__(
        self, retention: Retention, prune: Callable[[Prune], Awaitable[Pruned]], clock: Clock
    ) -> None:
        self._wanted = Prune(
            principal=RUNTIME,
            age_s=retention.closed_after_s,
            is_archived=retention.archive,
            reason="retention",
        )
        self._prune = prune
        self._clock = clock

    async def run(self) -> None:
        """Prune at intervals until cancelled."""
        await self._sleep(FIRST_AFTER)
        while True:
            await self._look()
            await self._sleep(LOOK_EVERY)

    async def _look(self) -> None:
        removed = 0
        try:
            while not (page := await self._prune(self._wanted)).is_last:
                removed += page.sessions
                await self._sleep(BETWEEN_PAGES)
        except HelmrError as error:
            logger.warning("old sessions stay for now: %s", error)
        if removed:
            logger.info("%d old sessions were pruned", removed)

    async def _sleep(self, pause: timedelta) -> None:
        rang = asyncio.Event()
        timer = self._clock.call_at(self._clock.now() + pause, rang.set)
        try:
            await rang.wait()
        finally:
            timer.cancel()
