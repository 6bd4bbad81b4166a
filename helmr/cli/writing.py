"""Writes files that a command was told to write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from helmr.errors import UsageError

DEVICES = (Path("/dev"), Path("/dev/fd"))


@contextmanager
def replacing(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """A file that takes its name when it is whole; a failed command leaves what was there.

    What is no file (a device, a pipe, `/dev/stdout` wherever that leads) is written into, and a link stays one.

    Args:
        path: Its name.
        is_private: A file that is made is for this user alone.

    Raises:
        UsageError: It can't be written.
    """
    is_file = not path.exists() or (path.is_file() and path.parent not in DEVICES)
    whole = path.resolve()
    beside = whole.with_name(f".{whole.name}.{os.getpid()}.part") if is_file else whole
    try:
        file = open(beside, "wb", opener=_private if is_private and is_file else None)  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}") from error
    try:
        with file:
            yield file
        if is_file:
            beside.replace(whole)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        if is_file:
            beside.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
