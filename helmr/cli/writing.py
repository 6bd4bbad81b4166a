"""Writes files that a command was told to write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from helmr.errors import UsageError

DEVICES = (Path("/dev"), Path("/dev/fd"))


@contextmanager
def replacing(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """A file that takes its name when it is whole; a failed command leaves what was there.

    What is no file (a device, a pipe, `/dev/stdout` wherever that leads) is written into. A link stays one; where the
    file is to be this user's alone it is refused, for it may be another's who waits for that.

    Args:
        path: Its name.
        is_private: A file that is made is for this user alone.

    Raises:
        UsageError: It can't be written.
    """
    if is_private and path.is_symlink() and path.parent not in DEVICES:
        raise UsageError(
            f"{path} is a link", hint="Name the file that is to be written, or another."
        )
    is_file = not path.exists() or (path.is_file() and path.parent not in DEVICES)
    whole = path.resolve()
    beside = whole.with_name(f".{whole.name}.{os.getpid()}.part") if is_file else whole
    try:
        file = open(beside, "wb", opener=_opener(is_private) if is_file else None)  # noqa: SIM115 - closed below
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


def _opener(is_private: bool) -> Callable[[str, int], int]:
    """Makes a file that is not there yet: nobody has laid a link under its name."""
    mode = 0o600 if is_private else 0o666

    def opened(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, mode)

    return opened
