"""A session or a ledger as a file: JSON lines that reveal by themselves any change to them.

A session (S-95):

```
{"format": "helmr-session/1", "helmr", "session_id", "task", "code_hash", "last_seq", "schemas", "chain"}
{"seq", "recorded_at", "kind", "run_id", "op", "principal", "body", "chain"}        one for each entry, from 1
{"entries", "end", "key", "signature", "chain"}                                    the last line
```

A line's `chain` is its last key: the SHA-256, in hex, of the chain of the line before it (of 32 zero bytes for the
first) and of the line's own bytes up to there. It covers bytes, not values: one more space is a change. `end` is the
chain of the last entry. The signature is made and checked in `helmr_runtime.security.file_signatures`; this module
knows the signed bytes.

The ledger's own hashes are no part of the file: with a master key they are HMACs, which no one else can check.
A session exported twice at the same `last_seq` is the same file.

A ledger, for a backup (S-66):

```
["helmr-backup/1", {"helmr", "schema", "through", "openings", "encrypts"}, check]              the first line
["e", feed_offset, session, seq, recorded_us, kind, run, op, principal, body, hash, check]     an entry, in feed order
["c", feed_offset, session, seq, body, check]               a checkpoint, right behind the entry that it covers
["end", {"entries", "checkpoints", "sha256"}, check]                                            the last line
```

Entries and checkpoints are as the ledger stores them, sealed bodies sealed. A line's `check` is the CRC-32, in hex, of
all bytes of the file up to its comma: a reader names the first damaged line. `sha256` is that of
all lines before the last. No line may follow it, and a file without it is not a backup, so an interrupted one is never
taken for whole. Neither check needs a secret, so anyone who changes a file can recompute them. The entries' own hash
chain (S-52) is the stronger check.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from helmr.errors import BadJson, LedgerDamaged, SessionFileDamaged, UsageError
from helmr.wire import jsonio
from helmr.wire.old_names import body_of_today
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, Principal, body_text, from_iso

FORMAT = "helmr-session/1"
LINE_BYTES_MAX = 16 * 1024 * 1024
"""Longest line. An entry's body holds a value or two of at most a megabyte; Helmr wrote no longer line."""

_DEPTH_MAX = jsontext.BODY_DEPTH_MAX + 8
_FIRST = b"\x00" * 32
_BEFORE, _BEHIND = b',"chain":"', b'"}\n'
_HEX = 64
_SUFFIX_BYTES = len(_BEFORE) + _HEX + len(_BEHIND)


_HEADER = frozenset(("format", "helmr", "session_id", "task", "code_hash", "last_seq", "schemas"))
_ENTRY = ("seq", "recorded_at", "kind", "run_id", "op", "principal", "body")
_ENTRY_KEYS = frozenset(_ENTRY)
_HEADER_TYPES: Mapping[str, tuple[type, ...]] = {
    "session_id": (str,),
    "task": (str,),
    "last_seq": (int,),
    "schemas": (dict, type(None)),
}
_ENTRY_TYPES: Mapping[str, tuple[type, ...]] = {
    "seq": (int,),
    "run_id": (str, type(None)),
    "op": (int, type(None)),
    "body": (dict,),
}
_FOOTER = frozenset(("entries", "end", "key", "signature"))


@dataclass(frozen=True, slots=True)
class FileSignature:
    """A runtime's signature of a file, in base64, and the text of the public key that verifies it."""

    key: str
    signature: str


class FileWriter:
    """Makes a file's lines, in order; each ends with a line feed."""

    def __init__(self) -> None:
        self._chain = _FIRST
        self._header = b""
        self._entries = 0

    def header(
        self,
        *,
        version: str,
        session_id: str,
        task: str,
        code_hash: str,
        last_seq: int,
        schemas: Mapping[str, Any] | None,
    ) -> bytes:
        """The first line.

        Args:
            version: Helmr's version.
            session_id: The session.
            task: Its task's id.
            code_hash: Hash of the runtime's code.
            last_seq: The last entry that will be in the file.
            schemas: `{payload, result, inputs: {name: schema}, outputs: {name: schema}}` of the task; None if
                the code no longer has it.
        """
        self._header = self._line(
            {
                "format": FORMAT,
                "helmr": version,
                "session_id": session_id,
                "task": task,
                "code_hash": code_hash,
                "last_seq": last_seq,
                "schemas": schemas,
            }
        )
        return self._header

    def entry(self, entry: Mapping[str, Any]) -> bytes:
        """The line of an entry, from its `EntryInfo`."""
        self._entries += 1
        return self._line({name: entry[name] for name in _ENTRY})

    @property
    def signed(self) -> bytes:
        """The bytes to sign: the header and the end of the chain."""
        return _signed(self._header, self._chain.hex())

    def footer(self, signature: FileSignature) -> bytes:
        """The last line."""
        end = self._chain.hex()
        return self._line(
            {
                "entries": self._entries,
                "end": end,
                "key": signature.key,
                "signature": signature.signature,
            }
        )

    def _line(self, values: Mapping[str, Any]) -> bytes:
        own = jsontext.encode(values, depth_max=None).encode()[:-1]
        self._chain = hashlib.sha256(self._chain + own).digest()
        return own + _BEFORE + self._chain.hex().encode() + _BEHIND


@dataclass(frozen=True, slots=True)
class Checked:
    """A file with all lines intact; its signature is not checked yet.

    Attributes:
        header: Its first line.
        entries: Number of entries.
        lines: Number of lines, with the footer.
        signature: The footer's signature.
        signed: The bytes that it must sign.
    """

    header: Mapping[str, Any]
    entries: int
    lines: int
    signature: FileSignature
    signed: bytes


class FileReader:
    """Reads a file's lines without keeping them.

    Iterate over `entries` to the end; then read `checked`.

    Args:
        lines: The file, split behind each line feed.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._chain = _FIRST
        self._number = 0
        self._checked: Checked | None = None
        self._first_line = b""
        self.header = self._read_header()

    @property
    def line(self) -> int:
        """The number of the line that was read last."""
        return self._number

    def entries(self) -> Iterator[Mapping[str, Any]]:
        """The entries' lines, once.

        Raises:
            SessionFileDamaged: Something is not as it was written; `line` is the first such line.
        """
        count = 0
        while (values := self._next()).keys() != _FOOTER:
            count += 1
            if values.keys() != _ENTRY_KEYS:
                raise self._damaged("it is neither an entry nor a footer")
            if values["seq"] != count or type(values["seq"]) is not int:
                raise self._damaged(f"entry {count} is missing here")
            yield values
        self._checked = self._read_footer(values, count)

    @property
    def checked(self) -> Checked:
        """The facts of the whole file; reads the remaining lines first."""
        if self._checked is None:
            for _ in self.entries():
                pass
        assert self._checked is not None
        return self._checked

    def _read_header(self) -> Mapping[str, Any]:
        values = self._next()
        if values.get("format") != FORMAT:
            raise UsageError(
                f"this session file is not of the format {FORMAT}",
                hint="Use the version of Helmr that wrote it.",
            )
        if values.keys() != _HEADER or not _has_types(values, _HEADER_TYPES):
            raise self._damaged("it is not a header")
        return values

    def _read_footer(self, values: Mapping[str, Any], count: int) -> Checked:
        if (values["entries"], count) != (count, self.header["last_seq"]):
            raise self._damaged(f"{count} entries came before the footer, not all that it counts")
        if next(self._lines, None) is not None:
            self._number += 1
            raise self._damaged("something stands behind the footer")
        return Checked(
            header=self.header,
            entries=count,
            lines=self._number,
            signature=FileSignature(str(values["key"]), str(values["signature"])),
            signed=_signed(self._first_line, str(values["end"])),
        )

    def _next(self) -> Mapping[str, Any]:
        self._number += 1
        line = next(self._lines, None)
        if line is None:
            raise self._damaged("the file ends before its footer")
        if len(line) > LINE_BYTES_MAX:
            raise self._damaged(f"it is longer than {LINE_BYTES_MAX} bytes")
        own, suffix = line[:-_SUFFIX_BYTES], line[-_SUFFIX_BYTES:]
        before = self._chain
        self._chain = hashlib.sha256(before + own).digest()
        if suffix != _BEFORE + self._chain.hex().encode() + _BEHIND:
            what = "it is not as it was written"
            raise self._damaged(f"{what}, or no session file's" if self._number == 1 else what)
        values = self._value(own + b"}")
        if self._number == 1:
            self._first_line = line
        elif values.keys() == _FOOTER and values["end"] != before.hex():
            raise self._damaged("its end is not that of the chain")
        return values

    def _value(self, text: bytes) -> Mapping[str, Any]:
        try:
            values = jsonio.loads(text, depth_max=_DEPTH_MAX)
        except BadJson as error:
            raise self._damaged(error.message) from error
        if not isinstance(values, dict):
            raise self._damaged("it is not a JSON object")
        return values

    def _damaged(self, what: str) -> SessionFileDamaged:
        return SessionFileDamaged(f"line {self._number}: {what}", line=self._number)


def entry_of(values: Mapping[str, Any], session_id: str) -> Entry:
    """Return the entry of a line, to fold and replay, without a hash: the file does not hold the ledger's.

    Raises:
        UsageError: This version of Helmr does not know its kind.
    """
    try:
        recorded_at = from_iso(values["recorded_at"])
        names = values["principal"].values()
        if not _has_types(values, _ENTRY_TYPES) or not all(isinstance(one, str) for one in names):
            raise TypeError("a part is of another type")
        if recorded_at.tzinfo is None:
            raise ValueError("the time has no zone")
        kind = EntryKind(values["kind"])
        if kind.is_of_feature:
            raise ValueError("features write nothing into a session's stream")
        return Entry(
            session_id=session_id,
            seq=values["seq"],
            recorded_at=recorded_at,
            kind=kind,
            run_id=values["run_id"],
            op=values["op"],
            principal=Principal.from_json(values["principal"]),
            body=body_of_today(values["kind"], values["body"]),
            body_json=body_text(values["body"]),
            hash=b"",
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"entry {values['seq']} ({str(values['kind'])[:80]}) can't be read by this version of Helmr",
            hint="Use the version of Helmr that wrote the file, or a newer one.",
        ) from error


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """A whole session from a file.

    Attributes:
        header: The file's first line.
        entries: Its transcript.
    """

    header: Mapping[str, Any]
    entries: tuple[Entry, ...]

    @property
    def id(self) -> str:
        """The session's id."""
        return str(self.header["session_id"])

    @property
    def task(self) -> str:
        """The id of its task."""
        return str(self.header["task"])


def read_session(lines: Iterable[bytes]) -> RecordedSession:
    """Read a session from a file and check its lines, but not its signature.

    Raises:
        UsageError: It is not a session file, or a newer Helmr wrote it.
        SessionFileDamaged: Something is not as it was written; `line` is the first such line.
    """
    reader = FileReader(lines)
    session_id = str(reader.header["session_id"])
    entries = tuple(entry_of(values, session_id) for values in reader.entries())
    return RecordedSession(reader.header, entries)


def _has_types(values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> bool:
    """True if the values have exactly these types: true is not a number."""
    return all(type(values[name]) in kinds for name, kinds in types.items())


def _signed(header: bytes, end: str) -> bytes:
    return b"helmr session file\n" + header + end.encode()


BACKUP_FORMAT = "helmr-backup/1"
ENTRY, CHECKPOINT, END = "e", "c", "end"
BACKUP_LINE_BYTES_MAX = 64 * 1024 * 1024
"""Longest line of a backup, longer than any checkpoint; Helmr wrote no longer line."""

_WIDTHS = {ENTRY: 12, CHECKPOINT: 6, END: 3}
_BACKUP_HEADER = {"helmr": str, "schema": int, "through": int, "openings": int, "encrypts": bool}
_CHECK_BYTES = len(b',"00000000"]\n')


@dataclass(frozen=True, slots=True)
class BackupHeader:
    """The facts of a backup that stand before its entries.

    Attributes:
        helmr: Version of Helmr that wrote it.
        schema: Number of the ledger's schema.
        through: The ledger's feed offset at the time of the backup.
        openings: Number of the ledger's openings: a restored ledger's epochs follow the original's (S-62).
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
        return self._line(jsontext.encode([BACKUP_FORMAT, asdict(header)]).encode())

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
    """Reads a file's rows, each checked before it is returned; after the last, the whole file is checked.

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
        if name != BACKUP_FORMAT:
            raise UsageError(
                f"this backup has the format {name}", hint="Use the newer Helmr that wrote it."
            )
        if not isinstance(facts, dict) or _types(facts) != _BACKUP_HEADER:
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
