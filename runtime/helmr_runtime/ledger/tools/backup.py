"""A whole ledger as one file, written while the runtime works, or from a data directory at rest (S-66)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helmr_runtime.core.backup_file import BackupWriter
from helmr_runtime.ledger.log.stored import stored_ledger


def stored_backup(path: Path, version: str) -> Iterator[bytes]:
    """The ledger in a file that no runtime has open, as pieces of a backup, each of whole lines.

    Raises:
        RuntimeHeld, UsageError, LedgerDamaged: As `helmr_runtime.ledger.log.stored.stored_ledger`.
    """
    with stored_ledger(path) as ledger:
        writer = BackupWriter()
        header = ledger.header(version)
        yield writer.header(header)
        after = 0
        while after < header.through:
            page = ledger.copied_rows(after, header.through)
            after = page.through
            yield writer.rows(page.rows)
        yield writer.footer()
