"""A ledger as a whole: copied to a backup or a follower, and pruned, while it works (S-66, S-68, S-69)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

from helmr_runtime.core.backup_file import BackupHeader
from helmr_runtime.core.pruning import Prune, Pruned
from helmr_runtime.ledger.duck.copying import copied_page, copied_rows, pruned_behind
from helmr_runtime.ledger.duck.database import Reader
from helmr_runtime.ledger.duck.pruning import Pruner
from helmr_runtime.ledger.duck.schema import MIGRATIONS
from helmr_runtime.ledger.readable import ReadableLedger
from helmr_runtime.ports.copies import CopiedPage, CopiedRows, CopyPosition


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

    @abstractmethod
    async def _reading(self, run: Callable[[Reader], CopiedRows]) -> CopiedRows:
        """Run a short query on a reader's cursor."""

    async def backup_header(self, version: str) -> BackupHeader:
        numbers = len(MIGRATIONS), self.index.head_offset, self.openings
        return BackupHeader(version, *numbers, self.encrypts)

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        self.pruner.copy_was_read()
        return await self._copied(lambda reader: copied_rows(reader, after, through))

    async def copied_page(self, position: CopyPosition) -> CopiedPage:
        head = self.index.head_offset
        return CopiedPage(
            copied=await self._copied(lambda reader: copied_page(reader, position, head)),
            head=head,
            openings=self.openings,
            encrypts=self.encrypts,
            generation=self.index.generation,
        )

    async def _copied(self, read: Callable[[Reader], CopiedRows]) -> CopiedRows:
        """A page, and whether sessions have gone by the time that it was read: it may lack a part of them."""
        known, head = self.index.pruned_offset, self.index.head_offset

        def run(reader: Reader) -> CopiedRows:
            page = read(reader)
            return replace(page, pruned_offset=pruned_behind(reader, head) or known)

        return await self._reading(run)

    async def prune(self, prune: Prune) -> Pruned:
        return await self.pruner.prune(prune)
