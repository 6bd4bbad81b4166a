"""A folder as a store of objects: one that several machines mount, or a second disk of this one.

An object is a file, which is whole and synced before it has its name. A name is given once, by a hard link; what is
replaced is compared under a lock. Both hold on one machine, and on network file systems that keep links and locks
(NFS from version 4 on).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from helmr.errors import StoreUnavailable, UsageError
from helmr.platform import sync
from helmr_runtime.ledger.log.files import sync_directory
from helmr_runtime.ledger.log.objects import ObjectChanged, ObjectExists
from helmr_runtime.security.private_files import open_private

LOCK = ".lock"
PART = ".part-"


class Folder:
    """An `Objects` store in a folder.

    Args:
        path: The folder, created if missing; only its user can read its files.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"file://{path}"
        self._path = path

    def create(self, key: str, data: bytes) -> None:
        with self._translated(), self._part(key, data) as part:
            try:
                os.link(part, self._path / key)
            except FileExistsError as error:
                raise ObjectExists(key) from error
            sync_directory(part.parent)

    def get(self, key: str) -> tuple[bytes, str] | None:
        with self._translated():
            try:
                # Not `open_private`: an object has two names for a moment, or for ever if its writer is killed there.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(self._path / key, flags)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                return file.read(), _tag(os.fstat(descriptor))

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        found = [self.get(key) for key in keys]
        return [one[0] if one is not None else None for one in found]

    def replace(self, key: str, data: bytes, tag: str | None) -> str:
        with self._translated(), self._locked(), self._part(key, data) as part:
            if tag is not None:
                try:
                    found = _tag((self._path / key).stat())
                except FileNotFoundError:
                    found = ""
                if found != tag:
                    raise ObjectChanged(key)
            made = _tag(part.stat())
            part.replace(self._path / key)
            sync_directory(part.parent)
            return made

    def keys(self, prefix: str) -> Iterable[str]:
        with self._translated():
            below = self._path / prefix.rpartition("/")[0]
            files = (one for one in below.rglob("*") if one.is_file())
            names = [one.relative_to(self._path).as_posix() for one in files if one.name[0] != "."]
            return [name for name in names if name.startswith(prefix)]

    def delete(self, keys: Sequence[str]) -> None:
        with self._translated():
            for key in keys:
                (self._path / key).unlink(missing_ok=True)

    def durability(self) -> str | None:
        return "synced to the disk of that folder"

    def close(self) -> None:
        """Nothing is open."""

    @contextlib.contextmanager
    def _part(self, key: str, data: bytes) -> Iterator[Path]:
        folder = (self._path / key).parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f"{PART}{secrets.token_hex(8)}"
        try:
            with os.fdopen(open_private(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
                file.flush()
                sync(file.fileno())
            yield part
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = open_private(self._path / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(f"{self.name}: {error}", retry_after_s=1) from error


def _tag(found: os.stat_result) -> str:
    """Return the tag of a file's current version. Files are only ever replaced whole."""
    return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"


def open_folder(url: str) -> Folder:
    """The folder that a URL names, like `file:///mnt/shared/helmr`. Raises UsageError."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query:
        raise UsageError(
            f"{url} can't be a folder", hint="Give it as `file:///path`, with three slashes."
        )
    return Folder(Path(unquote(parts.path)))
