"""A backup of the whole ledger, page by page, while it works (S-66)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from helmr.errors import StoreUnavailable
from helmr_runtime.core.backup_file import BackupHeader, BackupWriter
from helmr_runtime.rpc.ledger_client import LedgerClient


class Backups:
    """Backups."""

    def __init__(self, ledger: LedgerClient, version: str) -> None:
        self._ledger = ledger
        self._version = version

    async def stream(self) -> AsyncIterator[bytes]:
        """The ledger at the feed offset that it has now, as pieces of a file, each of whole lines.

        A page is asked for when the one before was taken: a slow reader slows nobody. What breaks off has no last
        line, and so is no whole backup.

        Raises:
            StoreUnavailable: The ledger can't be read now.
        """
        return self._pieces(await self._ledger.backup_header(self._version))

    async def _pieces(self, header: BackupHeader) -> AsyncIterator[bytes]:
        writer = BackupWriter()
        yield writer.header(header)
        after = 0
        while after < header.through:
            page = await self._ledger.copied_rows(after, header.through)
            if page.pruned_offset > header.through:
                # What was copied before may lack the rest of a session.
                raise StoreUnavailable("sessions were pruned meanwhile: begin the backup again")
            after = page.through
            yield writer.rows(page.rows)
        yield writer.footer()
