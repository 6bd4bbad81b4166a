"""A ledger as a whole: copied to a backup or a follower, and pruned, while it works (S-66, S-68, S-69)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from helmr.ids import NIL_SESSION
from helmr_runtime.core.backup_file import BackupHeader
from helmr_runtime.core.pruning import Prune, Pruned
from helmr_runtime.ledger.authored import Chain
from helmr_runtime.ledger.duck.copying import (
    PAGE_ENTRIES,
    copied_page,
    copied_rows,
    pruned_behind,
)
from helmr_runtime.ledger.duck.database import Database, Reader
from helmr_runtime.ledger.duck.group import GroupCommit
from helmr_runtime.ledger.duck.pruning import Pruner
from helmr_runtime.ledger.duck.reads import hash_at
from helmr_runtime.ledger.duck.recovery import SUPERSEDED
from helmr_runtime.ledger.duck.schema import SCHEMA
from helmr_runtime.ledger.readable import ReadableLedger
from helmr_runtime.ports.copies import CopiedPage, CopiedRows, CopyPosition
from helmr_runtime.security.generations import LEDGER_CHARS, make_stamp, proven_generation

T = TypeVar("T")


class CopiedLedger(ReadableLedger):
    """The part of a ledger over a file that is asked for all of it.

    Attributes:
        pruner: Removes old sessions.
        openings: How often the file was opened.
        encrypts: Whether bodies of new entries are sealed.
    """

    pruner: Pruner
    openings: int
    encrypts: bool
    _chain: Chain
    _database: Database
    _group: GroupCommit

    @abstractmethod
    async def _reading(self, run: Callable[[Reader], T]) -> T:
        """Run a short query on a reader's cursor, which sees everything that was committed."""

    @abstractmethod
    async def _in_reader(self, run: Callable[[Reader], T]) -> T:
        """Run a short query on a reader's cursor, which sees what the database has."""

    def _check_current(self) -> None:
        """Return unless a later generation was met; raises LedgerSuperseded."""
        if self._group.superseded is not None:
            raise self._group.superseded

    async def _supersede(self, generation: int) -> None:
        """Acknowledge nothing from now on, also after another opening."""
        self._group.supersede(generation)
        await self._group.run_in_writer(self._database.set_number, SUPERSEDED, generation)

    async def stamp(self) -> str | None:
        self._check_current()
        if self.index.generation == 1 or self._chain.ring is None:
            return None
        return make_stamp(self._chain.ring, await self._ledger_id(), self.index.generation)

    async def meet(self, stamps: Sequence[str]) -> None:
        ledger_id = await self._ledger_id()
        met = max(
            (proven_generation(self._chain.ring, ledger_id, one) for one in stamps), default=0
        )
        if met > self.index.generation:
            await self._supersede(met)
        self._check_current()

    async def _ledger_id(self) -> str:
        """The same in every copy of a ledger: of the hash of its first entry, which is never pruned."""
        found = await self._reading(lambda reader: hash_at(reader, NIL_SESSION, 1, 0))
        return found[1].hex()[:LEDGER_CHARS] if found is not None else ""

    async def backup_header(self, version: str) -> BackupHeader:
        numbers = SCHEMA, self.index.head_offset, self.openings
        return BackupHeader(version, *numbers, self.encrypts)

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        self.pruner.copy_was_read()
        return await self._copied(after, through, lambda reader, to: copied_rows(reader, after, to))

    async def copied_page(self, position: CopyPosition) -> CopiedPage:
        head = self.index.head_offset
        return CopiedPage(
            copied=await self._copied(
                position.offset, head, lambda reader, to: copied_page(reader, position, to)
            ),
            head=head,
            openings=self.openings,
            encrypts=self.encrypts,
            generation=self.index.generation,
        )

    async def _copied(
        self, after: int, through: int, read: Callable[[Reader, int], CopiedRows]
    ) -> CopiedRows:
        """A page, and whether sessions have gone by the time that it was read: it may lack a part of them.

        What fills a page in the database already is read from there: to bring it what was committed since is a
        transaction that others' reads wait for, and what removes sessions.
        """
        known, head = self.index.pruned_offset, self.index.head_offset
        merged = self._database.merged_offset
        has_page = merged >= min(through, after + PAGE_ENTRIES)
        to = min(through, merged) if has_page else through

        def run(reader: Reader) -> CopiedRows:
            page = read(reader, to)
            return replace(page, pruned_offset=pruned_behind(reader, head) or known)

        return await (self._in_reader(run) if has_page else self._reading(run))

    async def prune(self, prune: Prune) -> Pruned:
        return await self.pruner.prune(prune)
