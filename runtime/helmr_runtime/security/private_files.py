"""The runtime's private files, for its user alone and never links.

Someone who could once write into a data directory may have left a link there under the name of a file that the runtime
empties and writes: with the runtime's rights it would be the link's target. So links are not followed, and a file
with a second name is not written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from helmr.errors import UsageError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def open_private(path: Path, flags: int) -> int:
    """Open a file that is no one else's; if it is made, then for this user alone.

    Raises:
        UsageError: It is a link, no file, another user's, or has another name too.
        OSError: It can't be opened.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a planted pipe would be waited for
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _planted(path, "is a link") from error
        raise
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1 and _is_ours(status):
        if status.st_mode & OTHERS:
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & ~OTHERS)
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _planted(path, "is not a file")
    if not _is_ours(status):
        raise _planted(path, f"belongs to another user (uid {status.st_uid})")
    raise _planted(path, "has another name too")


def secure_folder(folder: Path, say: Callable[[str], None]) -> None:
    """Afterwards the folder is for this user alone, and holds no links.

    Readable by others it is closed to them; that others may have written in it is the operator's to judge.

    Args:
        folder: A data directory, or a folder in it.
        say: Gets a line for each change.

    Raises:
        UsageError: Others may write it, or it holds what is not the runtime's.
        OSError: It can't be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if not _is_ours(status):
            raise _planted(folder, f"belongs to another user (uid {status.st_uid})")
        if mode & OTHERS_WRITE:
            raise UsageError(
                f"{folder} may be written by other users (mode {mode:04o})",
                hint=f"Look at what is in it, then chmod 700 {folder}; or name a folder inside it.",
            )
        if mode & OTHERS:
            os.fchmod(descriptor, mode & ~OTHERS)
            say(
                f"{folder} was open to other users (mode {mode:04o}); now it is for its owner alone"
            )
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise _planted(folder / entry.name, "is a link")
                if not _is_ours(entry.stat(follow_symlinks=False)):
                    raise _planted(folder / entry.name, "belongs to another user")
    finally:
        os.close(descriptor)


def _is_ours(status: os.stat_result) -> bool:
    """Its owner is this user, or root, who may write everything anyway."""
    return status.st_uid in (os.geteuid(), 0)


def _planted(path: Path, what: str) -> UsageError:
    return UsageError(
        f"{path} {what}, which the runtime never made",
        hint="Find out who put it there, and remove it.",
    )
