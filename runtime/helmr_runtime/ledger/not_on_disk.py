"""What a ledger over lists refuses: all that needs a file."""

from __future__ import annotations

from collections.abc import Sequence

from helmr.errors import BadQuery, BadRequest
from helmr_runtime.core.backup_file import BackupHeader
from helmr_runtime.ports.copies import CopiedPage, CopiedRows, CopyPosition


class NotOnDisk:
    """Refuses SQL, backups and followers."""

    async def query(self, sql: str, *, limit: int = 0) -> bytes:
        """Refused with `BadQuery`: there is no SQL here."""
        raise BadQuery(
            "sessions in a test's memory can't be queried with SQL",
            hint="Read lists and transcripts, or ask a runtime.",
        )

    async def backup_header(self, version: str) -> BackupHeader:
        """Refused with `BadRequest`: what is only in memory is not kept."""
        raise BadRequest(
            "sessions in a test's memory can't be backed up", hint="Back up a runtime."
        )

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        """Refused, as `backup_header` is."""
        raise BadRequest("sessions in a test's memory can't be backed up")

    async def copied_page(self, position: CopyPosition) -> CopiedPage:
        """Refused, as `backup_header` is."""
        raise BadRequest("sessions in a test's memory can't be followed", hint="Follow a runtime.")

    async def stamp(self) -> str | None:
        """None: no copy of it was ever promoted."""
        return None

    async def meet(self, stamps: Sequence[str]) -> None:
        """Nothing: it has no copies."""
