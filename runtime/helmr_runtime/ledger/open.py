"""Opening the file: looked at before anything is written, locked, carried over if an earlier edition left it, restored.

Invariants: S-52, S-68.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb

from helmr.errors import LedgerBehind, LedgerDamaged, MasterKeyMissing, UsageError
from helmr.models import ListQuery
from helmr_runtime.clock import Clock
from helmr_runtime.core.ledger_role import LedgerRole
from helmr_runtime.feature import Features
from helmr_runtime.ledger.index.authored import Bodies, Chain
from helmr_runtime.ledger.index.features import FeatureMemories
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log import merging
from helmr_runtime.ledger.log.carry_over import CarryProgress, carry_over
from helmr_runtime.ledger.log.database import Database, Settings
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ledger.log.rebuild import LedgerKeys, set_numbers
from helmr_runtime.ledger.log.stored import attached, translated
from helmr_runtime.ledger.standby import LeaseWatch
from helmr_runtime.ledger.tables.engine import ENGINE_ERROR, Connection, OpenBody, unopened
from helmr_runtime.ledger.tables.recovery import (
    ENCRYPTS,
    FEATURES_EDITION,
    FOLLOWS,
    NAMES_FEATURES,
    RestoredMemory,
    restore,
)
from helmr_runtime.ledger.tables.schema import (
    check_ring,
    make_of_features,
    remember,
    schema_of,
)
from helmr_runtime.security.keys import KeyRing


def check_may_open(connection: Connection, ring: KeyRing | None, path: Path) -> dict[str, str]:
    """The fingerprints of master keys that the file is to remember; raises if a runtime is not to go on with it.

    Args:
        connection: Has the file, of whatever schema.
        ring: The master keys.
        path: The file.

    Raises:
        UsageError: It is a follower's copy.
        MasterKeyMissing: It was written with other keys.
    """
    if _follows(connection):
        raise UsageError(
            f"the ledger in {path.parent} is a follower's copy of another, made by an earlier version",
            hint="Once its primary is stopped for good, put its master-keys.json there: then `helmr repair --data-dir "
            f"{path.parent}` makes a ledger of it.",
        )
    return check_ring(connection, ring, path)


def _follows(connection: Connection) -> bool:
    try:
        found = connection.execute("SELECT number FROM meta WHERE name = $1", [FOLLOWS]).fetchall()
    except duckdb.CatalogException:  # a file that is being made
        return False
    return bool(found and found[0][0])


def look_before_start(path: Path, ring: KeyRing | None) -> None:
    """Return if a runtime may start with that file, or there is none; it is read and not written.

    A file that can't be read is left to what opens it, unless a key ring would be made beside it.

    Raises:
        UsageError, MasterKeyMissing: As `check_may_open`.
        LedgerDamaged: It can't be read, and there are no keys.
    """
    if not path.is_file() or merging.is_unfinished(path):
        return
    try:
        with (
            translated(path),
            duckdb.connect(":memory:") as connection,
            attached(connection, path) as damage,
        ):
            connection.execute("USE stored")
            check_may_open(connection, ring, path)
            if damage is not None:
                raise damage
    except (LedgerDamaged, LedgerBehind):
        if ring is None:
            raise


def schema_before_start(path: Path) -> int | None:
    """The number of the file's tables, which is read and not written; None where only opening it can tell.

    Raises:
        DataError: A newer Helmr wrote it.
    """
    if not path.is_file() or merging.is_unfinished(path):
        return None
    try:
        with (
            translated(path),
            duckdb.connect(":memory:") as connection,
            attached(connection, path),
        ):
            connection.execute("USE stored")
            return schema_of(connection)
    except (LedgerDamaged, LedgerBehind):
        return None


DUE_AFTER = timedelta(seconds=2)
"""A runtime that starts with other code writes its catalog meanwhile: features begin nothing that it no longer has."""


async def open_ledger(
    path: Path,
    *,
    clock: Clock,
    settings: Settings | None = None,
    ring: KeyRing | None = None,
    encrypts: bool | None = None,
    progress: CarryProgress | None = None,
    log: ObjectLog | None = None,
    watch: LeaseWatch | None = None,
    role: LedgerRole | None = None,
    features: Features = (),
) -> DuckLedger:
    """Open the file, or make it, and restore the ledger's memory. One of an earlier edition is carried over first.

    Args:
        path: The file.
        clock: Tells the time.
        settings: What the engine may use.
        ring: The master keys.
        encrypts: Whether new entries' bodies are sealed from now on; None as the file remembers.
        progress: Is kept up to date while it is carried over, and can end that.
        log: Where commits are, if other machines reach them; the file is a cache then.
        watch: Says when that log may be opened; until then it is followed. None: at once.
        role: Of the ledger at its earlier openings; None at the first.
        features: Those that have a part in the ledger.

    Raises:
        FeatureMissing: It holds entries of another feature (S-148).
        LedgerSuperseded: Another has opened that log meanwhile.
        MasterKeyMissing: It was written with other master keys, or bodies are to be sealed and there are none.
        RuntimeHeld: Another runtime holds it.
        LedgerBehind: It holds less than was acknowledged.
        UsageError: It is a follower's copy.
        DataError: It is damaged; no later try opens it.
        StoreUnavailable: It can't be opened now.
    """
    database = Database(path, settings or Settings(), _opens(Bodies(ring)), log)
    now = clock.now()
    fingerprints: dict[str, str] = {}

    def check(connection: Connection) -> None:
        fingerprints.update(check_may_open(connection, ring, path))

    def open_and_restore() -> RestoredMemory:
        database.open(
            check,
            lambda: carry_over(path, LedgerKeys(ring, features), now, progress or CarryProgress()),
        )
        for (
            query
        ) in ListQuery.__subclasses__():  # built at first use, which reads files: not on the loop
            query.model_rebuild()
        try:
            make_of_features(database.writer, FeatureMemories(features))
            restored = restore(database.writers_reader, now, features)
            if encrypts is not None:
                restored.encrypts = encrypts
            if restored.encrypts and ring is None:
                raise MasterKeyMissing(f"{path}: bodies can't be encrypted without a master key")
            with database.transaction() as connection:
                connection.execute("UPDATE meta SET number = number + 1 WHERE name = 'openings'")
                connection.execute(
                    "INSERT INTO meta VALUES ($1, $2) "
                    "ON CONFLICT DO UPDATE SET number = excluded.number",
                    [ENCRYPTS, int(restored.encrypts)],
                )
                set_numbers(connection, {**restored.features, NAMES_FEATURES: FEATURES_EDITION})
                remember(connection, fingerprints)
        except BaseException:
            database.close()
            raise
        return restored

    try:
        restored = await asyncio.to_thread(open_and_restore)
    except (ENGINE_ERROR, OSError) as error:
        raise unopened(path, error) from error
    restored.index.features.held_until = now + DUE_AFTER
    if ring is not None:
        ring = replace(ring, encrypts_payloads=restored.encrypts)
    ledger = DuckLedger(database, restored, clock, Chain(ring), role or LedgerRole())
    if log is not None:
        try:
            if watch is not None:
                await watch.until_due(ledger.standby())
            ledger.index.features.held_until = clock.now() + DUE_AFTER
            await ledger.take_log(log.writer)
        except BaseException:
            await ledger.close()
            raise
    return ledger


def _opens(bodies: Bodies) -> OpenBody:
    def open_body(stored: str, session_id: str, seq: int, kind: str) -> str:
        return bodies.open(stored, session_id=session_id, seq=seq, kind=kind)

    return open_body
