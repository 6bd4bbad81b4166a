"""A copy of a ledger of which the engine refuses blocks; there it takes them as they are.

The engine writes some of its blocks in place when it puts its log into the file: a loss of power may leave one half old
and half new. What the file's older state refers to is the same in both halves, but the block's checksum is not, and the
engine opens nothing of the file. Taken as it is, such a block gives either every entry or entries that prove wrong:
`repair` checks each one's chain, that none lacks, and that the last acknowledged one is there.
"""

from __future__ import annotations

import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helmr_runtime.ledger.log.files import LOG_SUFFIX, MARK_SUFFIX, WAL_SUFFIX

BLOCKS_MAX = 64
"""More than one transaction's checkpoint writes in place."""

_REFUSED = re.compile(
    r"computed checksum (\d+) does not match stored checksum \d+ in block at location (\d+)"
)
"""What the engine says of a block; it has no class for that."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block that the engine refuses: its place, and the checksum of what stands there."""

    place: int
    checksum: int


def refused_block(error: BaseException) -> Block | None:
    """The block that an error is about, if it is about one."""
    found = _REFUSED.search(str(error))
    return Block(int(found[2]), int(found[1])) if found is not None else None


class Copy:
    """Files of a ledger that may be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken: set[Block] = set()

    def take(self, block: Block) -> bool:
        """Have the engine take that block as it is; False if it was, or too many were."""
        if block in self._taken or len(self._taken) >= BLOCKS_MAX:
            return False
        self._taken.add(block)
        with self.path.open("r+b") as file:
            file.seek(block.place)
            file.write(struct.pack("<Q", block.checksum))
        return True


@contextmanager
def copied(path: Path) -> Iterator[Copy]:
    """A copy of a ledger's files beside them, which needs as much room; removed at the end."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".repair-") as folder:
        copy = Path(folder) / path.name
        for suffix in ("", WAL_SUFFIX, LOG_SUFFIX, MARK_SUFFIX):
            file = path.with_name(path.name + suffix)
            if file.exists():
                shutil.copy(file, copy.with_name(copy.name + suffix))
        yield Copy(copy)
