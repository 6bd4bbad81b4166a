"""A ledger's file that is kept like another ledger's, and its promotion to a ledger of its own (S-68).

Nothing is folded and no key is needed to follow: rows are stored as they come, in feed order, sealed bodies sealed.
Tables are made when the file is promoted, which also checks every chain. Until then no runtime opens it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from helmr import ids
from helmr.errors import LedgerDamaged, UsageError
from helmr.models import CopyPage
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Promote, sessions_of
from helmr_runtime.core.entries import EntryKind, Principal, iso
from helmr_runtime.core.session_file import ENTRY
from helmr_runtime.ledger.log.carry_over import carry_rows
from helmr_runtime.ledger.log.files import (
    LOCK_SUFFIX,
    MARK_SUFFIX,
    FileLock,
    HeadMark,
    HeadPosition,
    check_is_database,
    sync_directory,
)
from helmr_runtime.ledger.log.rebuild import (
    UNSAID,
    CheckpointRow,
    Covered,
    LedgerKeys,
    checkpoint_row_of,
    connected,
    entry_row_of,
    fold,
    insert_rows,
    set_numbers,
)
from helmr_runtime.ledger.log.stored import StoredLedger, translated
from helmr_runtime.ledger.open import FOLLOWS, open_ledger
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.appends import Removal, remove
from helmr_runtime.ledger.tables.engine import Connection
from helmr_runtime.ledger.tables.recovery import CHUNK, ENCRYPTS
from helmr_runtime.ledger.tables.schema import SCHEMA, check_ring, make, schema_of, sign
from helmr_runtime.ports.ledger import CopyPosition

WHOLE_FROM = "whole_from"
"""The row of `meta` with the feed offset before which the copy may hold parts of sessions that were pruned."""

PRIMARY = "primary_generation"
"""The row of `meta` with the generation of the ledger that is followed."""

_TABLES = (
    *("sessions", "runs", "waits", "tokens", "public_tokens", "api_keys", "people", "grants"),
    *("chains", "send_keys", "operations", "schedules"),
)
_LAST = "SELECT feed_offset, lower(hex(hash)) FROM entries ORDER BY feed_offset DESC LIMIT 1"
_LAST_SYSTEM = """
SELECT feed_offset, lower(hex(hash)) FROM entries WHERE session = $1 ORDER BY feed_offset DESC LIMIT 1
"""
_ROWS = "SELECT * FROM entry_rows WHERE feed_offset > $1 ORDER BY feed_offset LIMIT $2"
_CHECKPOINTED = (
    "SELECT DISTINCT session, feed_offset FROM checkpoints WHERE feed_offset BETWEEN $1 AND $2"
)


@dataclass(frozen=True, slots=True)
class Folded:
    """What a follower's ledger holds, once all of it was checked."""

    offset: int
    entries: int
    sessions: int


class FollowedLedger:
    """The open file. Made by `followed_ledger`, which closes it."""

    def __init__(self, path: Path, connection: Connection, mark: HeadMark) -> None:
        self.path = path
        self._connection = connection
        self._mark = mark
        self.meta: dict[str, int] = dict(
            connection.execute("SELECT name, number FROM meta").fetchall()
        )
        self._next_seq: dict[UUID, int] = dict(
            connection.execute(
                "SELECT session, max(seq) + 1 FROM entries GROUP BY session"
            ).fetchall()
        )
        self.position = self._read_position()

    @property
    def is_whole(self) -> bool:
        """Whether it is the ledger at its offset; a copy that has to pass what was pruned meanwhile is not yet."""
        return self.position.offset >= self.meta.get(WHOLE_FROM, 0)

    def apply(self, page: CopyPage) -> None:
        """Store what a page holds, all of it or nothing; on disk when it returns.

        Raises:
            LedgerDamaged: It does not go on where this ledger ends.
            StoreUnavailable: There is no room.
        """
        entries, checkpoints = _rows_of(page)
        self._check(entries)
        with translated(self.path):
            self._connection.begin()
            try:
                insert_rows(self._connection, entries, checkpoints)
                for row in entries:
                    if row[4] == EntryKind.SESSIONS_PRUNED.value:
                        self._prune(row)
                self._note(page)
                self._connection.commit()
            except BaseException:
                self._connection.rollback()
                raise
        for row in entries:
            self._next_seq[row[1]] = row[2] + 1
            if row[4] == EntryKind.SESSIONS_PRUNED.value:
                for gone in sessions_of(json.loads(row[8])):
                    self._next_seq.pop(engine.uuid_of(gone), None)
        if entries:
            self._mark.write(HeadPosition(entries[-1][0], entries[-1][9]))
            self.position = self._read_position()

    def fold(self, keys: LedgerKeys, now: datetime) -> Folded:
        """Check every entry and write the tables that follow from them, again.

        Raises:
            LedgerDamaged: Names the first entry that is not what was written.
            UsageError, MasterKeyMissing: The master keys are not there, or another ledger's.
        """
        if keys.ring is not None:
            check_ring(self._connection, keys.ring, self.path)
        with translated(self.path):
            self._clear()
            refold = fold(self._connection, keys, now, self._pages())
        return Folded(self.position.offset, refold.entries, refold.sessions)

    def _clear(self) -> None:
        """An earlier fold may have been ended in the middle."""
        for table in _TABLES:
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
        set_numbers(self._connection, {"projected_offset": 0})

    def _pages(self) -> Iterator[tuple[Sequence[engine.Row], Covered]]:
        after = 0
        while found := self._connection.execute(_ROWS, [after, CHUNK]).fetchall():
            bounds = [found[0][0], found[-1][0]]
            yield found, set(self._connection.execute(_CHECKPOINTED, bounds).fetchall())
            after = found[-1][0]

    def _check(self, entries: Sequence[engine.Row]) -> None:
        last, next_seq = self.position.offset, dict[UUID, int]()
        for row in entries:
            expected = next_seq.get(row[1]) or self._next_seq.get(row[1], 1)
            if row[0] <= last or row[2] != expected:
                raise LedgerDamaged(
                    f"entry {row[0]} does not follow entry {last} here", feed_offset=row[0]
                )
            last, next_seq[row[1]] = row[0], row[2] + 1

    def _prune(self, pruned: engine.Row) -> None:
        gone = sessions_of(json.loads(pruned[8]))
        remove(self._connection, Removal(gone, first_offset=0, last_offset=pruned[0]))

    def _note(self, page: CopyPage) -> None:
        numbers = {
            "openings": max(page.openings, self.meta.get("openings", 0)),
            ENCRYPTS: int(page.encrypts),
            WHOLE_FROM: max(page.pruned_offset, self.meta.get(WHOLE_FROM, 0)),
            PRIMARY: page.generation,
        }
        changed = {name: new for name, new in numbers.items() if self.meta.get(name) != new}
        set_numbers(self._connection, changed)
        self.meta |= changed

    def _read_position(self) -> CopyPosition:
        last = engine.first_row(self._connection.execute(_LAST))
        if last is None:
            return CopyPosition()
        system = engine.first_row(
            self._connection.execute(_LAST_SYSTEM, [engine.uuid_of(ids.SYSTEM_STREAM)])
        )
        return CopyPosition(*last, *(system or (0, None)))


@contextmanager
def followed_ledger(path: Path, *, makes: bool = False) -> Iterator[FollowedLedger]:
    """A follower's file.

    Args:
        path: The file.
        makes: Make it if there is none.

    Raises:
        RuntimeHeld: Another process has it.
        UsageError: There is none, it is another ledger's than a follower's, or its folder can't be used.
        DataError: It is not a database.
    """
    if not makes and not path.is_file():
        raise UsageError(f"{path.parent} holds no ledger", hint="Name its --data-dir.")
    lock = FileLock(path.with_name(path.name + LOCK_SUFFIX))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UsageError(
            f"{path.parent} can't be used: {error.strerror}",
            hint="Name a folder that this user may write, or one that is not there yet.",
        ) from error
    mark = HeadMark(path.with_name(path.name + MARK_SUFFIX))
    try:
        check_is_database(path)
        _bring_to_schema(path, makes=makes)
        with translated(path), connected(path) as connection:
            sync_directory(path.parent)
            yield FollowedLedger(path, connection, mark)
    finally:
        mark.close()
        lock.release()


def _bring_to_schema(path: Path, *, makes: bool) -> None:
    """Make today's tables in a new file, or carry the rows of a follower's file over to them."""
    with translated(path), connected(path) as connection:
        path.chmod(0o600)
        schema = schema_of(connection)
        if schema == 0:
            make(connection)
        _check_follows(path, connection, makes=makes)
        if schema in (0, SCHEMA):
            sign(connection)
            return
    carry_rows(path, (*UNSAID, FOLLOWS, WHOLE_FROM, PRIMARY))


def end_following(path: Path) -> None:
    """A runtime may open the file from now on."""
    with translated(path), connected(path) as connection:
        connection.execute(
            "DELETE FROM meta WHERE name IN ($1, $2, $3)", [FOLLOWS, WHOLE_FROM, PRIMARY]
        )
        connection.execute("CHECKPOINT")


def _check_follows(path: Path, connection: Connection, *, makes: bool) -> None:
    meta = dict(connection.execute("SELECT name, number FROM meta").fetchall())
    if meta.get(FOLLOWS):
        return
    is_new = not meta["openings"] and engine.first_row(connection.execute(_LAST)) is None
    if not (makes and is_new):
        raise UsageError(
            f"the ledger in {path.parent} follows no other",
            hint="Follow into an empty folder, or into one that `helmr follow` has made.",
        )
    set_numbers(connection, {FOLLOWS: 1})


def _rows_of(page: CopyPage) -> tuple[list[engine.Row], list[CheckpointRow]]:
    entries: list[engine.Row] = []
    checkpoints: list[CheckpointRow] = []
    try:
        for row in page.rows:
            if row[0] == ENTRY:
                entries.append(entry_row_of(row[1:]))
            else:
                checkpoints.append(checkpoint_row_of(row[1:]))
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise LedgerDamaged("the primary sent something that is not a row of a ledger") from error
    return entries, checkpoints


@dataclass(frozen=True, slots=True)
class Promoted:
    """What was made the ledger.

    Attributes:
        after: Feed offset of the last entry that the primary has sent: up to there everything is here.
        generation: One more than the primary's.
    """

    after: int
    generation: int
    entries: int
    sessions: int


async def promote(
    path: Path,
    keys: LedgerKeys,
    clock: Clock,
    reason: str | None,
    *,
    on_checked: Callable[[], None] = lambda: None,
) -> Promoted:
    """Check every entry of a follower's ledger, make its tables, and have it go on by itself.

    It can be repeated after whatever has ended it.

    Args:
        path: The file.
        keys: Of the primary.
        clock: Tells the time.
        reason: What the ledger's entry says.
        on_checked: Called when all of it was checked, and nothing was written but tables.

    Raises:
        UsageError: It is not a follower's, not whole at the offset where it ends, or empty.
        LedgerDamaged: An entry is not what was written.
        MasterKeyMissing: The keys are another ledger's, or one is lacking.
    """
    with followed_ledger(path) as followed:
        if not followed.position.offset:
            raise UsageError(
                f"the copy in {path.parent} is empty: it has never received an entry from its primary",
                hint="Let `helmr follow` get what the primary has, or promote another copy, or restore a backup.",
            )
        if not followed.is_whole:
            raise UsageError(
                f"the copy ends at feed offset {followed.position.offset}, in the middle of sessions that the primary "
                f"has pruned at {followed.meta[WHOLE_FROM]}",
                hint="Let it follow that far, or restore a backup.",
            )
        primary = followed.meta.get(PRIMARY, 1)
        folded = followed.fold(keys, clock.now())
    on_checked()
    ledger = await open_ledger(path, clock=clock, ring=keys.ring, promotes=True)
    try:
        generation, after = ledger.index.generation, folded.offset
        if generation <= primary:
            promotion = Promote(
                principal=Principal("runtime", name="helmr promote"), after=after, reason=reason
            )
            generation = (await ledger.fact(promotion))["generation"]
    finally:
        await ledger.close()
    end_following(path)
    return Promoted(after, generation, folded.entries, folded.sessions)


@dataclass(frozen=True, slots=True)
class Divergence:
    """How two ledgers of one origin differ: one was promoted while the other may have gone on.

    Attributes:
        after: Feed offset of the last entry that both have.
        is_same: The entries up to there are the same.
        lost: How many entries only the old one has.
    """

    after: int
    is_same: bool
    lost: int


def difference(promoted: StoredLedger, old: StoredLedger) -> Divergence:
    """Compare a promoted ledger with the one that it followed.

    Raises:
        UsageError: The first was never promoted.
    """
    after = _promoted_after(promoted)
    kept, other = promoted.hash_at(after), old.hash_at(after)
    lost = engine.first_row(
        old.connection.execute(
            "SELECT count(*) FROM stored.entries WHERE feed_offset > $1", [after]
        )
    )
    assert lost is not None
    is_same = after == 0 or (kept is not None and kept == other)
    return Divergence(after, is_same, int(lost[0]))


def lost_entries(old: StoredLedger, after: int) -> Iterator[dict[str, Any]]:
    """What the old ledger has acknowledged after the last entry that it sent; bodies are left out."""
    for chunk in old.entries(after=after):
        for offset, session, seq, recorded_us, kind, run, op, principal, *_ in chunk:
            yield {
                "feed_offset": offset,
                "session_id": engine.id_of(ids.SESSION, session),
                "seq": seq,
                "recorded_at": iso(engine.time_of(recorded_us)),
                "kind": kind,
                "run_id": engine.id_or_none(ids.RUN, run),
                "op": op,
                "principal": principal,
            }


def _promoted_after(ledger: StoredLedger) -> int:
    found = engine.first_row(
        ledger.connection.execute(
            "SELECT CAST(json_extract(body, '$.after') AS BIGINT) FROM stored.entries WHERE kind = $1 "
            "ORDER BY feed_offset DESC LIMIT 1",
            [EntryKind.LEDGER_PROMOTED.value],
        )
    )
    if found is None:
        raise UsageError(
            f"the ledger in {ledger.path.parent} was never promoted",
            hint="Name the promoted one with --data-dir, the old one with --compare.",
        )
    return int(found[0])
