"""A ledger as a file: JSON lines that say by themselves whether anything in them was changed (S-66).

```
["helmr-backup/1", {"helmr", "schema", "through", "openings", "encrypts"}, check]              the first line
["e", feed_offset, session, seq, recorded_us, kind, run, op, principal, body, hash, check]     an entry, in feed order
["c", feed_offset, session, seq, body, check]               a checkpoint, right behind the entry that it covers
["end", {"entries", "checkpoints", "sha256"}, check]                                            the last line
```

Entries and checkpoints are as the ledger stores them, sealed bodies sealed. A line's `check` is the CRC-32, in hex, of
all bytes of the file up to its comma: a reader names the first line that is not as it was written. `sha256` is that of
all lines before the last. No line may follow it, and a file without it is none: whatever ended the backup, what it
left is never taken for whole. Neither check is a secret's: who changes a file can make it fit. The entries' own hash
chain (S-52) is the stronger check.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from helmr.errors import LedgerDamaged, UsageError
from helmr_runtime.core import jsontext

FORMAT = "helmr-backup/1"
ENTRY, CHECKPOINT, END = "e", "c", "end"
LINE_BYTES_MAX = 64 * 1024 * 1024
"""More than any checkpoint of a session takes; a longer line is none of ours."""

_WIDTHS = {ENTRY: 12, CHECKPOINT: 6, END: 3}
_HEADER = {"helmr": str, "schema": int, "through": int, "openings": int, "encrypts": bool}
_CHECK_BYTES = len(b',"00000000"]\n')


@dataclass(frozen=True, slots=True)
class BackupHeader:
    """What is known of a backup before its entries.

    Attributes:
        helmr: Version of Helmr that wrote it.
        schema: Number of the ledger's schema.
        through: The feed offset that it is the ledger at.
        openings: How often the ledger was opened: epochs of a restored one go on behind those of the original (S-62).
        encrypts: Whether bodies of new entries are sealed.
    """

    helmr: str
    schema: int
    through: int
    openings: int
    encrypts: bool


class BackupWriter:
    """Makes a file's lines, in order; each ends with a line feed."""

    def __init__(self) -> None:
        self._crc = 0
        self._sha256 = hashlib.sha256()
        self.entries = 0
        self.checkpoints = 0

    def header(self, header: BackupHeader) -> bytes:
        """The first line."""
        return self._line(jsontext.encode([FORMAT, asdict(header)]).encode())

    def rows(self, rows: Iterable[bytes]) -> bytes:
        """The lines of entries and checkpoints, each given as a JSON array without its check."""
        lines: list[bytes] = []
        for row in rows:
            if row.startswith(b'["e"'):
                self.entries += 1
            else:
                self.checkpoints += 1
            lines.append(self._line(row))
        return b"".join(lines)

    def footer(self) -> bytes:
        """The last line."""
        facts = {
            "entries": self.entries,
            "checkpoints": self.checkpoints,
            "sha256": self._sha256.hexdigest(),
        }
        return self._line(jsontext.encode([END, facts]).encode())

    def _line(self, array: bytes) -> bytes:
        start = array[:-1]
        self._crc = zlib.crc32(start, self._crc)
        end = b',"%08x"]\n' % self._crc
        self._crc = zlib.crc32(end, self._crc)
        self._sha256.update(start)
        self._sha256.update(end)
        return start + end


class BackupReader:
    """A file's rows, each checked before it is given out; the last is followed by a check of the whole.

    Args:
        lines: The file's lines, with their line feeds.

    Raises:
        UsageError: It is not a backup, or one of a newer Helmr.
        LedgerDamaged: The first line is not as it was written.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._crc = 0
        self._sha256 = hashlib.sha256()
        self._number = 0
        self.entries = 0
        self.checkpoints = 0
        first = next(self._lines, b"")
        if not first.startswith(b'["helmr-backup/'):
            raise UsageError(
                "this is not a backup of a ledger", hint="Name a file that `helmr backup` wrote."
            )
        name, facts, _ = self._array(first, width=3)
        if name != FORMAT:
            raise UsageError(
                f"this backup has the format {name}", hint="Use the newer Helmr that wrote it."
            )
        if not isinstance(facts, dict) or _types(facts) != _HEADER:
            raise self.damage("it is not a header of a backup")
        self.header = BackupHeader(**facts)

    def rows(self) -> Iterator[list[Any]]:
        """Entries and checkpoints as they stand, without their checks; `line` is the number of the last.

        Raises:
            LedgerDamaged: Names the first line that is not as it was written, or that should have followed.
        """
        for line in self._lines:
            digest = self._sha256.hexdigest() if line.startswith(b'["end"') else ""
            row = self._array(line)
            row.pop()
            if row[0] == END:
                self._check_end(row[1], digest)
                return
            if row[0] == ENTRY:
                self.entries += 1
            else:
                self.checkpoints += 1
            yield row
        raise self.damage("the file ends before its last line: the backup was not finished, or cut")

    @property
    def line(self) -> int:
        """Number of the line read last, from 1."""
        return self._number

    def damage(self, what: str) -> LedgerDamaged:
        """An error about the line read last."""
        return LedgerDamaged(f"line {self._number}: {what}", line=self._number)

    def _check_end(self, facts: dict[str, Any], digest: str) -> None:
        counts = {"entries": self.entries, "checkpoints": self.checkpoints}
        if facts != {**counts, "sha256": digest}:
            raise self.damage("the file's end does not fit what stands before it")
        if next(self._lines, None) is not None:
            self._number += 1
            raise self.damage("something follows the file's end")

    def _array(self, line: bytes, width: int | None = None) -> list[Any]:
        self._number += 1
        start, end = line[:-_CHECK_BYTES], line[-_CHECK_BYTES:]
        self._crc = zlib.crc32(start, self._crc)
        if end != b',"%08x"]\n' % self._crc:
            raise self.damage("it is not as it was written")
        self._crc = zlib.crc32(end, self._crc)
        self._sha256.update(line)
        try:
            array: list[Any] = json.loads(line)
            wanted = width or _WIDTHS[array[0]]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise self.damage("it is not a line of a backup") from error
        if len(array) != wanted:
            raise self.damage(f"it has {len(array)} values, not {wanted}")
        return array


def _types(facts: dict[str, Any]) -> dict[str, type]:
    return {name: type(fact) for name, fact in facts.items()}
