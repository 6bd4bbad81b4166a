"""The making of a ledger's files: what a kill or a loss of power leaves of it is made again.

A file beside the database says that it is being made, from before there is any other until all of it is on disk. While
it is there nothing can have been acknowledged.

Invariants: S-52, S-63.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from helmr.errors import LedgerBehind
from helmr_runtime.ledger.log.files import (
    LOG_SUFFIX,
    WAL_SUFFIX,
    HeadPosition,
    exists,
    sync_directory,
)
from helmr_runtime.security.private_files import open_private

logger = logging.getLogger(__name__)

SUFFIX = ".making"


def is_unfinished(path: Path) -> bool:
    """Whether that database is being made, or was when its maker ended."""
    return path.with_name(path.name + SUFFIX).exists()


def begin(path: Path, mark: HeadPosition) -> None:
    """Return when the engine may open the file, or make it.

    Args:
        path: The database.
        mark: What the head mark says.

    Raises:
        LedgerBehind: It is gone, and other files of its ledger are there.
    """
    making = path.with_name(path.name + SUFFIX)
    others = [path.with_name(path.name + suffix) for suffix in (WAL_SUFFIX, LOG_SUFFIX)]
    if is_unfinished(path) and not mark.feed_offset:
        logger.warning(
            "the making of %s was not finished, and nothing stands in it: begun again", path
        )
        for file in (path, *others):
            file.unlink(missing_ok=True)
    elif exists(path):
        return
    elif mark.feed_offset or any(exists(file) for file in others):
        raise LedgerBehind(
            f"{path} is gone, and other files of its ledger are there",
            hint="Put back that file, or restore a backup into another --data-dir; don't start on what is left.",
            acknowledged_offset=mark.feed_offset,
        )
    os.close(open_private(making, os.O_WRONLY | os.O_CREAT))
    sync_directory(path.parent)


def end(path: Path) -> None:
    """What was made is on disk, but for its names: afterwards these are too."""
    path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
    sync_directory(path.parent)
