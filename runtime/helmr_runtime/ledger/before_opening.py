"""Whether a runtime may go on with a ledger's file; looked at before anything is made for it or written to it.

Invariants: S-52, S-68.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from helmr.errors import LedgerBehind, LedgerDamaged, UsageError
from helmr_runtime.ledger.log import making
from helmr_runtime.ledger.log.stored import attached, translated
from helmr_runtime.ledger.tables.engine import Connection
from helmr_runtime.ledger.tables.known_keys import check_ring
from helmr_runtime.security.keys import KeyRing

FOLLOWS = "follows"
"""The row of `meta` that says that the file is kept like another ledger's, and not opened by a runtime."""


def check_may_open(
    connection: Connection, ring: KeyRing | None, path: Path, *, promotes: bool = False
) -> dict[str, str]:
    """The fingerprints of master keys that the file is to remember; raises if a runtime is not to go on with it.

    Args:
        connection: Has the file, of whatever schema.
        ring: The master keys.
        path: The file.
        promotes: A follower's file is opened too.

    Raises:
        UsageError: It follows another.
        MasterKeyMissing: It was written with other keys.
    """
    if not promotes and _follows(connection):
        raise UsageError(
            f"the ledger in {path.parent} follows another",
            hint="`helmr promote --fenced` ends that, once its primary is stopped for good.",
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
    if not path.is_file() or making.is_unfinished(path):
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
