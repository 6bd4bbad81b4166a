"""A ledger as a whole, copied to a backup while it works (S-66)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from helmr_runtime.core.session_file import BackupHeader
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.log.group import GroupCommit
from helmr_runtime.ledger.tables.engine import Reader
from helmr_runtime.ledger.tables.reads import PAGE_ENTRIES, copied_rows, pruned_behind
from helmr_runtime.ledger.tables.schema import SCHEMA
from helmr_runtime.ports.ledger import CopiedRows

Reading = Callable[[Callable[[Reader], Any]], Awaitable[Any]]
"""Runs a short query on a reader's cursor."""


class LedgerCopies:
    """Reads a backup of a ledger over a file.

    Args:
        database: The ledger's file.
        group: Its writer, which keeps the index.
        encrypts: True if bodies of new entries are sealed.
        openings: Number of times the file was opened before.
        reading: Sees every commit.
        in_reader: Sees only the database.
        on_copy: Called for each requested page.
    """

    def __init__(
        self,
        database: Database,
        group: GroupCommit,
        openings: int,
        *,
        encrypts: bool,
        reading: Reading,
        in_reader: Reading,
        on_copy: Callable[[], None],
    ) -> None:
        self._database = database
        self._group = group
        self.openings = openings
        self._encrypts = encrypts
        self._reading = reading
        self._in_reader = in_reader
        self._on_copy = on_copy

    def backup_header(self, version: str) -> BackupHeader:
        """Build the header of a backup at the current feed offset."""
        head = self._group.index.head_offset
        return BackupHeader(version, SCHEMA, head, self.openings, self._encrypts)

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        """Read a page of a backup, with the offset of the newest prune: the page may lack parts of pruned sessions.

        A page that the database can already fill is read from there. Merging newer commits first would delay other
        reads, and remove sessions.
        """
        self._on_copy()
        index = self._group.index
        known, head = index.pruned_offset, index.head_offset
        merged = self._database.merged_offset
        has_page = merged >= min(through, after + PAGE_ENTRIES)
        to = min(through, merged) if has_page else through

        def run(reader: Reader) -> CopiedRows:
            page = copied_rows(reader, after, to)
            return replace(page, pruned_offset=pruned_behind(reader, head) or known)

        found: CopiedRows = await (self._in_reader(run) if has_page else self._reading(run))
        return found
