"""Copies of the database in the store of its log, so that a machine without a file starts from one and what follows it.

A snapshot is the database's own file after a checkpoint, in parts; the root names it once all of them are there. So
one that was not finished is nothing, and its parts are deleted by the next.

What a runtime holds of the store is its file, then. `Cache` knows that a file is one, which may be thrown away, makes
it from the newest snapshot, and refuses files that are ledgers by themselves.

Invariants: S-100; S-101 (what is uploaded is the file as it is: sealed bodies sealed).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import duckdb

from helmr.errors import LedgerBehind, LedgerDamaged, StoreUnavailable, UsageError
from helmr.platform import sync
from helmr_runtime.core.shared_log import LogRoot, SnapshotPlace, with_snapshot
from helmr_runtime.ledger.log.files import WAL_SUFFIX, exists, sync_directory
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.security.private_files import open_private

logger = logging.getLogger(__name__)

SNAPSHOTS = "snapshots/"
PART_BYTES = 8 * 1024 * 1024
CACHE_SUFFIX = ".cache"
"""Beside a database that can be made again; it says of which log."""

COPY_WITHIN_S = 600.0
_COMPACT = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "512MB",
    "threads": "1",  # rows stay in their order, and commits have the other core
}
_ASIDE = ".snapshot"


def part_key(name: str, part: int) -> str:
    """The name of a snapshot's part."""
    return f"{SNAPSHOTS}{name}/{part:06}"


def copy_file(source: Path, target: Path) -> None:
    """Copy a database that no one writes meanwhile.

    By another process: one that opens and closes the file loses the engine's own lock on it.

    Raises:
        StoreUnavailable: It can't be copied.
    """
    target.unlink(missing_ok=True)
    command = ["cp", "--reflink=auto", "--", str(source), str(target)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=COPY_WITHIN_S
    )
    if done.returncode:
        target.unlink(missing_ok=True)
        raise StoreUnavailable(f"{source} can't be copied for a snapshot: {done.stderr.strip()}")


def compact(copy: Path) -> None:
    """Write a copy of a database again without what was deleted from it: the engine leaves that in free blocks.

    Raises:
        duckdb.Error, OSError: The copy is as it was.
    """
    target = copy.with_name(copy.name + ".compact")
    target.unlink(missing_ok=True)
    try:
        with duckdb.connect(":memory:", config={**_COMPACT}) as connection:
            for name, path, mode in (("whole", copy, " (READ_ONLY)"), ("compact", target, "")):
                quoted = str(path).replace("'", "''")
                connection.execute(f"ATTACH '{quoted}' AS {name}{mode}")
            connection.execute("COPY FROM DATABASE whole TO compact")
            connection.execute("CHECKPOINT compact")
        target.chmod(0o600)
        target.replace(copy)
    finally:
        for suffix in ("", WAL_SUFFIX):
            target.with_name(target.name + suffix).unlink(missing_ok=True)


def upload(log: ObjectLog, copy: Path, number: int, *, pruned_offset: int = 0) -> LogRoot:
    """Store a copy of the database as a snapshot, and have what it makes superfluous go.

    Args:
        log: Its log.
        copy: The file.
        number: Of the last record that it has.
        pruned_offset: Feed offset of the last prune that it has seen; after one it is compacted first.

    Returns:
        The root that names it.

    Raises:
        StoreUnavailable: The store does not answer; the parts that are there are deleted by the next one.
    """
    if pruned_offset:
        compact(copy)
    name = f"{number:016}-{log.writer}-{secrets.token_hex(4)}"
    whole = hashlib.sha256()
    parts = size = 0
    with copy.open("rb") as file:
        while part := file.read(PART_BYTES):
            log.objects.replace(part_key(name, parts), part, None)
            whole.update(part)
            parts, size = parts + 1, size + len(part)
    place = SnapshotPlace(number, name, parts, size, whole.hexdigest(), pruned_offset)
    root = log.change_root(lambda root: with_snapshot(root, place))
    clean(log, root)
    return root


def clean(log: ObjectLog, root: LogRoot) -> None:
    """Delete garbage: records up to the floor, and parts of snapshots older than those that the root names."""
    log.sweep()
    if root.newest is None:
        return
    kept = {one.name for one in root.snapshots}
    gone = [
        key
        for key in log.objects.keys(SNAPSHOTS)
        # One with a higher number is on its way, by another.
        if (name := key.split("/")[1]) not in kept and name < root.newest.name
    ]
    log.objects.delete(gone)


def snapshot_parts(log: ObjectLog, place: SnapshotPlace) -> Iterator[bytes]:
    """The parts of a snapshot, in order; what came before an error is worth nothing.

    Raises:
        LedgerDamaged: They are not what was uploaded, as is known behind the last.
        StoreUnavailable: The store does not answer, or another has deleted them meanwhile.
    """
    whole = hashlib.sha256()
    for part in range(place.parts):
        found = log.objects.get(part_key(place.name, part))
        if found is None:
            raise StoreUnavailable(
                f"snapshot {place.name} in {log.objects.name} is gone; another one is there"
            )
        whole.update(found[0])
        yield found[0]
    if whole.hexdigest() != place.digest:
        raise LedgerDamaged(f"snapshot {place.name} in {log.objects.name} is not what was uploaded")


def download(log: ObjectLog, place: SnapshotPlace, target: Path) -> None:
    """Make a file of a snapshot; whole and on disk when this returns. Raises as `snapshot_parts`."""
    descriptor = open_private(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(descriptor, "wb") as file:
        for part in snapshot_parts(log, place):
            file.write(part)
        file.flush()
        sync(file.fileno())


class Cache:
    """A runtime's own copy of a ledger whose log is in a store.

    Args:
        path: The database.
        log: Its log.
        new_id: Makes the number of a log that begins here.
    """

    def __init__(
        self,
        path: Path,
        log: ObjectLog,
        new_id: Callable[[], int] = lambda: secrets.randbelow(2**62) + 1,
    ) -> None:
        self.path = path
        self.log = log
        self._marker = marker_of(path)
        self._new_id = new_id

    def claim(self) -> None:
        """Return when the file, if there is one, is known to be this log's cache, and the log is there.

        Raises:
            UsageError: The file is a ledger by itself, or the store is empty and the file says that it was not.
            LedgerBehind: It is another ledger's.
            StoreUnavailable: The store does not answer.
        """
        require_cache(self.path, self.log.objects.name)
        has_file = exists(self.path)
        root = self.log.root()
        if root is None:
            if has_file:
                raise LedgerBehind(
                    f"{self.log.objects.name} is empty, and {self.path} is the cache of a log that stood there",
                    hint="Put back the store as it was, or name the one that belongs to this data directory.",
                )
            root = self.log.make(self._new_id())
        if has_file and self._marked_id() not in (None, root.log_id):
            raise LedgerBehind(
                f"{self.log.objects.name} holds the log of another ledger than the one in {self.path}",
                hint="Name the store that belongs to this data directory, or another --data-dir.",
            )
        self.log.log_id = root.log_id
        mark(self.path, self.log.objects.name, root.log_id, writer_of(self.path))

    def remember_writer(self, writer: str) -> None:
        """Say which opening of the log was the last by this data directory."""
        mark(self.path, self.log.objects.name, self.log.log_id, writer)

    def fetch(self) -> None:
        """Make the file from the newest snapshot; without one there is no file. What is there goes.

        Raises:
            StoreUnavailable, LedgerDamaged: As `download`.
        """
        self.drop()
        root = self.log.root()
        if root is None or root.newest is None:
            return
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            download(self.log, root.newest, part)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
        sync_directory(self.path.parent)
        logger.info("%s was made from snapshot %s", self.path, root.newest.name)

    def drop(self) -> None:
        """Remove the database's files. What they held is in the store."""
        assert self._marker.exists()
        for suffix in ("", WAL_SUFFIX):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @property
    def aside(self) -> Path:
        """Path of the copy that a snapshot is made from."""
        return self.path.with_name(f".{self.path.name}{_ASIDE}")

    def _marked_id(self) -> int | None:
        found = marked(self.path)
        return found[1] if found is not None else None


def marker_of(path: Path) -> Path:
    """The file that says that a database is a cache."""
    return path.with_name(path.name + CACHE_SUFFIX)


def mark(path: Path, store: str, log_id: int, writer: str | None = None) -> None:
    """Say that the database is a cache, and who has opened its log here; on disk when this returns."""
    if marked(path) == (store, log_id) and writer_of(path) == writer:
        return
    marker = marker_of(path)
    part = marker.with_name(f".{marker.name}.part")
    with os.fdopen(open_private(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
        json.dump({"store": store, "log_id": log_id, "writer": writer}, file)
        file.flush()
        sync(file.fileno())
    part.replace(marker)
    sync_directory(path.parent)


def unmark(path: Path) -> None:
    """The database is a ledger by itself from now on."""
    marker_of(path).unlink(missing_ok=True)
    sync_directory(path.parent)


def marked(path: Path) -> tuple[str, int] | None:
    """The store and the log of which the database is a cache; None if it is none, or its marker is damaged."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        found = json.loads(marker_of(path).read_bytes())
        return str(found["store"]), int(found["log_id"])
    return None


def store_of(path: Path) -> str | None:
    """The store that the database is a cache of, by name; None if the database is a ledger by itself."""
    if not marker_of(path).exists():
        return None
    found = marked(path)
    return found[0] if found is not None else "a store"


def writer_of(path: Path) -> str | None:
    """The last opening of the log by that data directory; None if it is not known."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        found = json.loads(marker_of(path).read_bytes())["writer"]
        return found if isinstance(found, str) else None
    return None


def require_none(path: Path) -> None:
    """Return if the database is a ledger by itself.

    Raises:
        UsageError: It is a cache: what it lacks is in a store.
    """
    if (where := store_of(path)) is not None:
        raise UsageError(
            f"the commits of the ledger in {path.parent} stand in {where}",
            hint="Name it with --log, or as `url` below [log] in helmr.toml.",
        )


def require_cache(path: Path, store: str) -> None:
    """Return if there is no database, or if it is a cache.

    Raises:
        UsageError: It is a ledger by itself, and that store is to have its log.
    """
    if exists(path) and not marker_of(path).exists():
        raise UsageError(
            f"{path} is a ledger whose commits stand beside it, and --log names {store}",
            hint="`helmr log move` brings them there. Or name an empty --data-dir.",
        )
