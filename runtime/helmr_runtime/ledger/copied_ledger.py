"""A ledger as a whole, while it works: copied to a backup or a follower, superseded by a promoted one (S-66, S-68)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from helmr.ids import SYSTEM_STREAM
from helmr_runtime.core.session_file import BackupHeader
from helmr_runtime.ledger.index.authored import Chain
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.log.group import GroupCommit
from helmr_runtime.ledger.tables.engine import Reader
from helmr_runtime.ledger.tables.reads import (
    PAGE_ENTRIES,
    copied_page,
    copied_rows,
    hash_at,
    pruned_behind,
)
from helmr_runtime.ledger.tables.recovery import SUPERSEDED
from helmr_runtime.ledger.tables.schema import SCHEMA
from helmr_runtime.ports.ledger import CopiedPage, CopiedRows, CopyPosition
from helmr_runtime.security.private_files import LEDGER_CHARS, make_stamp, proven_generation

Reading = Callable[[Callable[[Reader], Any]], Awaitable[Any]]
"""Runs a short query on a reader's cursor."""


class LedgerCopies:
    """What of a ledger over a file is asked for all of it.

    Args:
        database: Its file.
        group: Its writer, which keeps the index.
        chain: Its master keys.
        openings: How often the file was opened before.
        reading: Sees everything that was committed.
        in_reader: Sees what the database has.
        on_copy: Called when a page of a backup is asked for.
    """

    def __init__(
        self,
        database: Database,
        group: GroupCommit,
        chain: Chain,
        openings: int,
        *,
        reading: Reading,
        in_reader: Reading,
        on_copy: Callable[[], None],
    ) -> None:
        self._database = database
        self._group = group
        self._chain = chain
        self.openings = openings
        self._reading = reading
        self._in_reader = in_reader
        self._on_copy = on_copy

    def check_current(self) -> None:
        """Return unless a later generation was met; raises LedgerSuperseded."""
        if self._group.superseded is not None:
            raise self._group.superseded

    async def stamp(self) -> str | None:
        """What proves this ledger's generation; None before its first promotion."""
        self.check_current()
        generation = self._group.index.generation
        if generation == 1 or self._chain.ring is None:
            return None
        return make_stamp(self._chain.ring, await self._ledger_id(), generation)

    async def meet(self, stamps: Sequence[str]) -> None:
        """A client has met ledgers with these stamps; acknowledge nothing more if one is this one's, promoted."""
        ledger_id = await self._ledger_id()
        met = max(
            (proven_generation(self._chain.ring, ledger_id, one) for one in stamps), default=0
        )
        if met > self._group.index.generation:
            self._group.supersede(met)
            # Also after another opening.
            await self._group.run_in_writer(self._database.set_number, SUPERSEDED, met)
        self.check_current()

    async def _ledger_id(self) -> str:
        """The same in every copy of a ledger: of the hash of its first entry, which is never pruned."""
        found = await self._reading(lambda reader: hash_at(reader, SYSTEM_STREAM, 1, 0))
        return found[1].hex()[:LEDGER_CHARS] if found is not None else ""

    def backup_header(self, version: str) -> BackupHeader:
        """What a backup begins with: the ledger at the feed offset that it has now."""
        head = self._group.index.head_offset
        return BackupHeader(version, SCHEMA, head, self.openings, self._chain.encrypts)

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        """A page of a backup."""
        self._on_copy()
        return await self._copied(after, through, lambda reader, to: copied_rows(reader, after, to))

    async def copied_page(self, position: CopyPosition) -> CopiedPage:
        """What a follower lacks, as far as a page goes."""
        index = self._group.index
        head = index.head_offset
        return CopiedPage(
            copied=await self._copied(
                position.offset, head, lambda reader, to: copied_page(reader, position, to)
            ),
            head=head,
            openings=self.openings,
            encrypts=self._chain.encrypts,
            generation=index.generation,
        )

    async def _copied(
        self, after: int, through: int, read: Callable[[Reader, int], CopiedRows]
    ) -> CopiedRows:
        """A page, and whether sessions have gone by the time that it was read: it may lack a part of them.

        What fills a page in the database already is read from there: to bring it what was committed since is a
        transaction that others' reads wait for, and what removes sessions.
        """
        index = self._group.index
        known, head = index.pruned_offset, index.head_offset
        merged = self._database.merged_offset
        has_page = merged >= min(through, after + PAGE_ENTRIES)
        to = min(through, merged) if has_page else through

        def run(reader: Reader) -> CopiedRows:
            page = read(reader, to)
            return replace(page, pruned_offset=pruned_behind(reader, head) or known)

        found: CopiedRows = await (self._in_reader(run) if has_page else self._reading(run))
        return found
