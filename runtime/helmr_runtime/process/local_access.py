"""Access for this user's programs on this machine: the local admin key, and the files that locate a runtime."""

from __future__ import annotations

import os
from pathlib import Path

from helmr.client.discovery import CREDENTIALS_FILE
from helmr.models import Credentials
from helmr.private_file import write_private
from helmr_runtime.process.spec import LOOPBACK, RING_NAME
from helmr_runtime.security.keys import pair_keys, read_key_ring
from helmr_runtime.security.private_files import open_private
from helmr_runtime.security.secrets import SecretKind, make_secret, parse_secret

KEY_NAME = "admin.key"
KEY_CHARS_MAX = 1_024


def local_key(data_dir: Path) -> str:
    """The admin key of this data directory; the same after every restart. A fresh one is not stored yet."""
    key = stored_key(data_dir)
    return key if parse_secret(key) is SecretKind.API_KEY else make_secret(SecretKind.API_KEY)


def stored_key(data_dir: Path) -> str:
    """The key as it is stored; empty if none is."""
    try:
        with os.fdopen(open_private(data_dir / KEY_NAME, os.O_RDONLY)) as file:
            return file.read(KEY_CHARS_MAX).strip()
    except FileNotFoundError:
        return ""


def credentials(
    host: str, port: int, *, key: str, data_dir: Path, is_shared: bool = False
) -> Credentials:
    """Build the credentials of a runtime that lives as long as this process.

    Args:
        host: Address that it listens on.
        port: Port that it listens on.
        key: The local admin key.
        data_dir: Holds the master keys.
        is_shared: Other machines reach its log: local programs get a key that also works there.
    """
    ring = read_key_ring(data_dir / RING_NAME, os.environ) if is_shared else None
    if ring is not None:
        key = pair_keys(ring)[0]
    name = f"[{host}]" if ":" in host else host
    if name in ("0.0.0.0", "[::]"):
        name = LOOPBACK
    return Credentials(
        url=f"http://{name}:{port}", key=key, pid=os.getpid(), data_dir=str(data_dir)
    )


def publish(found: Credentials, pointers: Path) -> Path:
    """Write both files, for this user only; says where the pointer is.

    The credentials come last: from then on the runtime counts as ready (`is_published`).
    """
    text = found.model_dump_json()
    pointer = pointers / f"{found.url.rpartition(':')[2]}.json"
    pointer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(pointer, text)
    write_private(Path(found.data_dir) / CREDENTIALS_FILE, text)
    return pointer


def is_published(data_dir: Path) -> bool:
    """Local programs can find the runtime; anyone who starts one takes away what another had left."""
    return (data_dir / CREDENTIALS_FILE).exists()


def withdraw(data_dir: Path, pointer: Path | None) -> None:
    """The runtime has ended."""
    (data_dir / CREDENTIALS_FILE).unlink(missing_ok=True)
    if pointer is not None:
        pointer.unlink(missing_ok=True)
