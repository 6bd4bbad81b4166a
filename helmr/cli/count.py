"""`helmr waiting --count`, which status lines run every few seconds, without what the other commands load.

`helmr.cli.start` comes here before anything else is imported. Only the plain case is answered: one runtime that
HELMR_URL and HELMR_API_KEY name, or the nearest data directory. In any other, and if anything is not as it should be,
this returns, and the whole command line answers, with its rules and its errors.
"""

from __future__ import annotations

import http.client
import json
import os
import stat
import sys
from pathlib import Path

from helmr.client.whereabouts import (
    CREDENTIALS_BYTES_MAX,
    CREDENTIALS_FILE,
    is_live,
    nearest_data_dir,
    sign_ins_folder,
)

TYPE_CHECKING = False  # `typing` takes long
if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEME = "http://"
PATH = "/v1/waits?kind=input&kind=token&limit=200"
TIMEOUT_S = 5.0
PAGE_BYTES_MAX = 64 * 1024 * 1024
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def main(environ: Mapping[str, str] | None = None) -> None:
    """Write the number and end the process; returns if this is not the plain case."""
    number = count(os.environ if environ is None else environ, Path.cwd())
    if number is None or sys.stdout is None:
        return
    try:
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    except OSError:  # the reader is gone, or the disk is full
        os._exit(1)
    os._exit(0)


def count(environ: Mapping[str, str], folder: Path) -> int | None:
    """Count the waits that are pending for people; None if this is not the plain case."""
    try:
        found = _endpoint(environ, folder)
        return None if found is None else _asked(*found)
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError):
        return None


def _endpoint(environ: Mapping[str, str], folder: Path) -> tuple[str, str] | None:
    """URL and key, as `helmr.client.discovery` finds them where nothing else says more."""
    if environ.get("HELMR_AT"):
        return None
    url, key = environ.get("HELMR_URL"), environ.get("HELMR_API_KEY")
    if url:
        return (url, key) if key else None
    if key or sign_ins_folder(environ).is_dir():
        return None
    data_dir = nearest_data_dir(folder)
    return _credentials(data_dir / CREDENTIALS_FILE) if data_dir is not None else None


def _credentials(path: Path) -> tuple[str, str] | None:
    """Read URL and key of a live runtime; None unless the file is this user's alone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        said = json.loads(file.read(CREDENTIALS_BYTES_MAX))
    if status.st_uid != os.geteuid() or status.st_mode & OTHERS:
        return None
    if not is_live(int(said["pid"]), written_at_s=status.st_mtime):
        return None
    return str(said["url"]), str(said["key"])


def _asked(url: str, key: str) -> int | None:
    """Count the items of the first page; None if more pages follow."""
    if not url.startswith(SCHEME):
        return None
    place, _, prefix = url.removeprefix(SCHEME).strip().partition("/")
    connection = http.client.HTTPConnection(place, timeout=TIMEOUT_S)
    try:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {key}"}
        connection.request("GET", f"/{prefix}".rstrip("/") + PATH, headers=headers)
        answer = connection.getresponse()
        page = json.loads(answer.read(PAGE_BYTES_MAX))
    finally:
        connection.close()
    if answer.status != http.client.OK or page["next_cursor"] is not None:
        return None
    return len(page["items"])
