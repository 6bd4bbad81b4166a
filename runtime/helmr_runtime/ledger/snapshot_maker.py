"""Makes snapshots of a ledger whose log is shared: copies of its database in the same store (S-100).

Commits never wait for a snapshot. The tables are not written while the file is copied, so reads that need a commit made
meanwhile wait for the copy. The upload delays nothing.
"""

from __future__ import annotations

import asyncio
import logging

from helmr.errors import HelmrError
from helmr_runtime.core.shared_log import (
    PRUNED_GONE_S,
    SNAPSHOTS_KEPT,
    LogRoot,
    is_snapshot_due,
)
from helmr_runtime.ledger.log.group import GroupCommit
from helmr_runtime.ledger.log.snapshots import Cache, upload
from helmr_runtime.ledger.tables.engine import STORE_ERRORS

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""In memory: nothing is asked of the store."""

AGAIN_AFTER_S = 10.0
"""After one that could not be made."""


class SnapshotMaker:
    """One opening's.

    Args:
        group: The ledger's writer.
        cache: Its file and its log.
        root: As it was when the log was opened.
    """

    def __init__(self, group: GroupCommit, cache: Cache, root: LogRoot) -> None:
        self._group = group
        self._cache = cache
        self._root = root
        self._bytes_before = 0
        now_s = asyncio.get_running_loop().time()
        # One that an earlier opening has left undone is due.
        self._pruned_at_s = now_s - PRUNED_GONE_S
        self._pruned_offset = group.index.pruned_offset

    async def run(self) -> None:
        """Make snapshots until cancelled, or until another runtime opens the log."""
        while self._group.role.superseded is None:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.is_due():
                try:
                    await self.make()
                except (HelmrError, *STORE_ERRORS) as error:
                    logger.warning("a snapshot could not be made: %s", str(error).splitlines()[0])
                    await asyncio.sleep(AGAIN_AFTER_S)

    def is_due(self) -> bool:
        """True when a snapshot is worth making now."""
        newest = self._root.newest
        records = self._group.database.log_number - (
            newest.number if newest is not None else self._root.floor
        )
        size = self._cache.log.passed_bytes - self._bytes_before
        return is_snapshot_due(records, size, newest, pruned_s=self._pruned_s())

    async def make(self) -> LogRoot:
        """Make one now.

        Raises:
            HelmrError, duckdb.Error, OSError: It could not be made; what is there stays.
        """
        size, pruned_offset = self._cache.log.passed_bytes, self._group.index.pruned_offset
        number = await self._group.run_in_writer(self._group.database.copy_aside)
        try:
            self._root = await asyncio.to_thread(
                upload, self._cache.log, self._cache.aside, number, pruned_offset=pruned_offset
            )
        finally:
            self._cache.aside.unlink(missing_ok=True)
        self._bytes_before = size
        self._pruned_at_s = asyncio.get_running_loop().time()
        logger.info("snapshot at commit %d: %d bytes", number, self._root.snapshots[-1].size_bytes)
        return self._root

    def _pruned_s(self) -> float | None:
        """Return the seconds since the last prune, until as many snapshots as we keep were made after it; then None."""
        now_s = asyncio.get_running_loop().time()
        pruned = self._group.index.pruned_offset
        if pruned != self._pruned_offset:
            self._pruned_offset, self._pruned_at_s = pruned, now_s
        seen = [one for one in self._root.snapshots if one.pruned_offset >= pruned]
        if not pruned or len(seen) == SNAPSHOTS_KEPT:
            return None
        return now_s - self._pruned_at_s
