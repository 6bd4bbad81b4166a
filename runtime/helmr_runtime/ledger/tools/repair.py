"""A ledger whose entries are whole, written again: tables and checkpoints that do not fit them are remade (S-67).

Entries are never invented, and dropped only from a feed offset on that the operator names. The old file is kept.

The engine writes some of its blocks in place when it puts its log into the file: a loss of power may leave one half old
and half new. What the file's older state refers to is the same in both halves, but the block's checksum is not, and the
engine opens nothing of the file. In a copy it takes such a block as it is, which gives either every entry or entries
that prove wrong: each one's chain is checked, that none lacks, and that the last acknowledged one is there.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from helmr.errors import DataError, LedgerDamaged, UsageError
from helmr_runtime.ledger.log.files import (
    LOCK_SUFFIX,
    LOG_SUFFIX,
    MARK_SUFFIX,
    WAL_SUFFIX,
    held,
    sync_directory,
)
from helmr_runtime.ledger.log.rebuild import CheckpointRow, LedgerKeys, Page, Refold, rebuild
from helmr_runtime.ledger.log.stored import StoredLedger, stored_ledger, translated
from helmr_runtime.ledger.tables.recovery import FOLLOWS, WHOLE_FROM, uncollected
from helmr_runtime.ledger.tools.audit import Audit, audit, bad_checkpoints

BLOCKS_MAX = 64
"""More than one transaction's checkpoint writes in place."""

_REFUSED = re.compile(
    r"computed checksum (\d+) does not match stored checksum \d+ in block at location (\d+)"
)
"""What the engine says of a block; it has no class for that."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block that the engine refuses: its place, and the checksum of what stands there."""

    place: int
    checksum: int


def refused_block(error: BaseException) -> Block | None:
    """The block that an error is about, if it is about one."""
    found = _REFUSED.search(str(error))
    return Block(int(found[2]), int(found[1])) if found is not None else None


class Copy:
    """Files of a ledger that may be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken: set[Block] = set()

    def take(self, block: Block) -> bool:
        """Make the engine accept a block by fixing its checksum; False if done before, or for too many."""
        if block in self._taken or len(self._taken) >= BLOCKS_MAX:
            return False
        self._taken.add(block)
        with self.path.open("r+b") as file:
            file.seek(block.place)
            file.write(struct.pack("<Q", block.checksum))
        return True


@contextmanager
def copied(path: Path) -> Iterator[Copy]:
    """A copy of a ledger's files beside them, which needs as much room; removed at the end."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".repair-") as folder:
        copy = Path(folder) / path.name
        for suffix in ("", WAL_SUFFIX, LOG_SUFFIX, MARK_SUFFIX):
            file = path.with_name(path.name + suffix)
            if file.exists():
                shutil.copy(file, copy.with_name(copy.name + suffix))
        yield Copy(copy)


KEPT = ".before-repair"


@dataclass(frozen=True, slots=True)
class Repaired:
    """Result of a repair.

    Attributes:
        damage: The damage found; None if there was none, and nothing was changed.
        checked: The check of the ledger afterwards.
        dropped_entries: Number of entries left out, as requested.
        dropped_checkpoints: Number of checkpoints left out; their sessions are folded from entries.
        kept: The old file.
    """

    damage: str | None
    checked: Audit
    dropped_entries: int = 0
    dropped_checkpoints: int = 0
    kept: Path | None = None


def repair(
    path: Path,
    keys: LedgerKeys,
    now: datetime,
    *,
    drop_from: int | None = None,
    without_checkpoints: bool = False,
) -> Repaired:
    """Put a ledger in order, by what its entries say.

    A file of which the engine refuses a block is copied, and read there with that block as it is: what it gives has to
    prove whole.

    Args:
        path: The ledger's file, which no runtime has open.
        keys: Its master keys.
        now: The time.
        drop_from: Entries from this feed offset on are left out.
        without_checkpoints: No checkpoint is taken over, for a file whose checkpoints can't be read at all.

    Raises:
        LedgerDamaged: An entry is bad or lost and was not named as one to drop; names it.
        MasterKeyMissing: The keys are another ledger's.
        UsageError: It is a follower's copy that is not whole.
    """
    job = _Job(path, keys, now, drop_from, without_checkpoints)
    try:
        return job.run(path)
    except LedgerDamaged as error:
        if refused_block(error) is None:
            raise
        refused = first = error
    with held(path.with_name(path.name + LOCK_SUFFIX)), copied(path) as copy:
        while (block := refused_block(refused)) is not None and copy.take(block):
            try:
                return job.run(copy.path, first.message)
            except LedgerDamaged as error:
                refused = error
    raise first if refused_block(refused) is not None else refused


@dataclass(frozen=True, slots=True)
class _Job:
    """Arguments of `repair`."""

    path: Path
    keys: LedgerKeys
    now: datetime
    drop_from: int | None
    without_checkpoints: bool

    def run(self, source: Path, damage: str | None = None) -> Repaired:
        """Put the ledger in order by what a file holds.

        Args:
            source: The ledger's own, or a copy of it.
            damage: What is wrong with its own; None if that is to be found out, as it is not for a copy.
        """
        with stored_ledger(source, to_damage=True) as old:
            old.require_keys(self.keys)
            if old.meta.get(FOLLOWS):
                _require_whole(old)
                damage = "a follower's copy, which has no tables"
            _require_log(old, self.drop_from)
            if self.drop_from is None:
                _require_acknowledged(old)
            if damage is None and self.drop_from is None and not self.without_checkpoints:
                try:
                    return Repaired(None, audit(old, self.keys, self.now))
                except DataError as error:
                    damage = error.message
            written = self._write(old, forgives_gaps=source == self.path or bool(old.known_gaps))
        kept = _swap(self.path, self._fresh)
        return replace(written, damage=damage or "what was asked for", kept=kept)

    @property
    def _fresh(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def _write(self, old: StoredLedger, *, forgives_gaps: bool) -> Repaired:
        """Write the new file beside the old one; it is checked."""
        through, keys, now = old.head_offset, self.keys, self.now
        if self.drop_from is not None:
            through = min(self.drop_from - 1, through)
        fresh = self._fresh
        try:
            _remove(fresh)
            _prove_entries(old, keys, now, through)
            left_out = _bad(old, keys, through, self.without_checkpoints)
            made = _write(old, fresh, keys, now, through, left_out, forgives_gaps)
        except BaseException:
            _remove(fresh)
            raise
        return Repaired(None, made, old.count() - made.entries, len(left_out or ()))


def _require_whole(old: StoredLedger) -> None:
    whole_from = max(old.meta.get(WHOLE_FROM, 0), 1)
    if old.head_offset < whole_from:
        raise UsageError(
            f"the copy in {old.path.parent} ends at feed offset {old.head_offset}, and is whole from {whole_from} on: "
            "its primary has pruned sessions meanwhile",
            hint="Restore a backup.",
        )


def _require_log(old: StoredLedger, drop_from: int | None) -> None:
    lost_from = old.head_offset + 1
    if old.log_damage is not None and (drop_from is None or drop_from > lost_from):
        raise LedgerDamaged(
            old.log_damage.message,
            hint=f"Put back its {WAL_SUFFIX} and {LOG_SUFFIX} files or a backup; or go on without the entries from "
            f"{lost_from} on: `--drop-from {lost_from}`.",
            **{**old.log_damage.facts, "feed_offset": lost_from},
        ) from old.log_damage


def _require_acknowledged(old: StoredLedger) -> None:
    mark = old.read_mark()
    if mark.feed_offset and old.hash_at(mark.feed_offset) != mark.hash:
        raise LedgerDamaged(
            f"entry {mark.feed_offset} was acknowledged, and the ledger has no such entry",
            hint=f"Put back its {WAL_SUFFIX} and {LOG_SUFFIX} files or a backup; or go on without what is lost: "
            f"`--drop-from {min(mark.feed_offset, old.head_offset + 1)}`.",
            feed_offset=mark.feed_offset,
        )


@uncollected()
def _prove_entries(old: StoredLedger, keys: LedgerKeys, now: datetime, through: int) -> None:
    refold = Refold(keys, now)
    for chunk in old.entries(through=through):
        try:
            refold.add(chunk)
        except LedgerDamaged as error:
            offset = error.facts["feed_offset"]
            raise LedgerDamaged(
                error.message,
                hint="Helmr drops no entry unless you say so. Go back to a backup, or leave out all from there on: "
                f"`--drop-from {offset}`.",
                **error.facts,
            ) from error


def _bad(
    old: StoredLedger, keys: LedgerKeys, through: int, every: bool
) -> set[tuple[UUID, int]] | None:
    """Session and feed offset of the checkpoints that are left out; None leaves out all."""
    if every:
        return None
    return {(row[1], row[0]) for row, what in bad_checkpoints(old, keys, through) if what}


@uncollected()
def _write(
    old: StoredLedger,
    fresh: Path,
    keys: LedgerKeys,
    now: datetime,
    through: int,
    left_out: Collection[tuple[UUID, int]] | None,
    forgives_gaps: bool,
) -> Audit:
    """The new file, checked."""

    def pages() -> Iterator[Page]:
        for chunk in old.entries(through=through):
            checkpoints: list[CheckpointRow] = []
            if left_out is not None:
                stored = old.checkpoints(chunk[0][0] - 1, chunk[-1][0])
                checkpoints = [row for row in stored if (row[1], row[0]) not in left_out]
            yield chunk, checkpoints

    with translated(fresh):
        rebuild(fresh, pages(), keys, now, old.known, forgives_gaps=forgives_gaps)
    with stored_ledger(fresh) as made:
        return audit(made, keys, now)


def _swap(path: Path, fresh: Path) -> Path:
    """Put the new file in place of the old one, which is kept under another name; returns that.

    The logs go first: the engine must never find its own beside the new file. Without them the head mark keeps the old
    file from being opened, so that whatever ends this, nothing is written on half of it.
    """
    kept = _free_name(path)
    for suffix in (LOG_SUFFIX, WAL_SUFFIX, ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(kept.with_name(kept.name + suffix))
    fresh.rename(path)
    fresh.with_name(fresh.name + MARK_SUFFIX).replace(path.with_name(path.name + MARK_SUFFIX))
    _remove(fresh)
    sync_directory(path.parent)
    return kept


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}{KEPT}{number or ''}") for number in range(1_000))
    return next(name for name in names if not name.exists())


def _remove(fresh: Path) -> None:
    for suffix in ("", LOG_SUFFIX, WAL_SUFFIX, MARK_SUFFIX, LOCK_SUFFIX):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
