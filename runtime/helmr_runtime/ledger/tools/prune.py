"""Pruning the ledger of a runtime that is stopped: it is opened, as the runtime would, and pruned page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Prune, Pruned
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.open import open_ledger


async def prune_stored(
    path: Path, keys: LedgerKeys, clock: Clock, prune: Prune
) -> AsyncIterator[Pruned]:
    """Prune all that may go; gives each page.

    Raises:
        RuntimeHeld, MasterKeyMissing, LedgerBehind, DataError, StoreUnavailable: It can't be opened or written.
    """
    ledger = await open_ledger(path, clock=clock, ring=keys.ring, features=keys.features)
    try:
        while True:
            page = await ledger.prune(prune)
            yield page
            if page.is_last:
                return
    finally:
        await ledger.close()
