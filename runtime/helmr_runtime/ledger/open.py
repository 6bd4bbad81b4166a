"""Opening the file: locked, checked, carried over if an earlier edition left it, restored, numbered as an opening."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from helmr.errors import MasterKeyMissing
from helmr_runtime.clock import Clock
from helmr_runtime.ledger.before_opening import check_may_open
from helmr_runtime.ledger.index.authored import Chain
from helmr_runtime.ledger.index.bodies import Bodies
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.carry_over import carry_over
from helmr_runtime.ledger.log.database import Database, Settings
from helmr_runtime.ledger.log.jobs import ChainKey
from helmr_runtime.ledger.log.rebuild import Keys
from helmr_runtime.ledger.tables.engine import ENGINE_ERROR, Connection, unopened
from helmr_runtime.ledger.tables.known_keys import remember
from helmr_runtime.ledger.tables.recovery import ENCRYPTS, Restored, restore
from helmr_runtime.ledger.tables.rows import OpenBody
from helmr_runtime.security.keys import KeyRing

SCHEDULES_AFTER = timedelta(seconds=2)
"""A runtime that starts with other code writes its catalog meanwhile: what that no longer schedules is not started."""


def plain_chain(session_id: str) -> bytes | None:
    """Chains without a key: SHA-256."""
    return None


async def open_ledger(
    path: Path,
    *,
    clock: Clock,
    settings: Settings | None = None,
    chain_key: ChainKey = plain_chain,
    ring: KeyRing | None = None,
    encrypts: bool | None = None,
    promotes: bool = False,
) -> DuckLedger:
    """Open the file, or make it, and restore the ledger's memory. One of an earlier edition is carried over first.

    Args:
        path: The file.
        clock: Tells the time.
        settings: What the engine may use.
        chain_key: The key of chains that name no master key.
        ring: The master keys.
        encrypts: Whether new entries' bodies are sealed from now on; None as the file remembers.
        promotes: Open a follower's file too.

    Raises:
        MasterKeyMissing: It was written with other master keys, or bodies are to be sealed and there are none.
        RuntimeHeld: Another runtime holds it.
        LedgerBehind: It holds less than was acknowledged.
        UsageError: It follows another.
        DataError: It is damaged; no later try opens it.
        StoreUnavailable: It can't be opened now.
    """
    database = Database(path, settings or Settings(), _opens(Bodies(ring)))
    now = clock.now()
    fingerprints: dict[str, str] = {}

    def check(connection: Connection) -> None:
        fingerprints.update(check_may_open(connection, ring, path, promotes=promotes))

    def open_and_restore() -> Restored:
        database.open(check, lambda: carry_over(path, Keys(ring, chain_key), now))
        try:
            restored = restore(database.writers_reader, now)
            if encrypts is not None:
                restored.encrypts = encrypts
            if restored.encrypts and ring is None:
                raise MasterKeyMissing(f"{path}: bodies are to be encrypted without a master key")
            with database.transaction() as connection:
                connection.execute("UPDATE meta SET number = number + 1 WHERE name = 'openings'")
                connection.execute(
                    "INSERT INTO meta VALUES ($1, $2) "
                    "ON CONFLICT DO UPDATE SET number = excluded.number",
                    [ENCRYPTS, int(restored.encrypts)],
                )
                remember(connection, fingerprints)
        except BaseException:
            database.close()
            raise
        return restored

    try:
        restored = await asyncio.to_thread(open_and_restore)
    except (ENGINE_ERROR, OSError) as error:
        raise unopened(path, error) from error
    restored.index.schedules.held_until = now + SCHEDULES_AFTER
    if ring is not None:
        ring = replace(ring, encrypts_payloads=restored.encrypts)
    return DuckLedger(database, restored, clock, Chain(ring, chain_key))


def _opens(bodies: Bodies) -> OpenBody:
    def open_body(stored: str, session_id: str, seq: int, kind: str) -> str:
        return bodies.open(stored, session_id=session_id, seq=seq, kind=kind)

    return open_body
