"""A session as a file: JSON lines that say by themselves whether anything in them was changed (S-95).

```
{"format": "helmr-session/1", "helmr", "session_id", "task", "code_hash", "last_seq", "schemas", "chain"}
{"seq", "recorded_at", "kind", "run_id", "op", "principal", "body", "chain"}        one for each entry, from 1
{"entries", "end", "key", "signature", "chain"}                                    the last line
```

A line's `chain` is its last key: the SHA-256, in hex, of the chain of the line before it (of 32 zero bytes for the
first) and of the line's own bytes up to there. It covers bytes, not values: a space more is a change. `end` is the
chain of the last entry. The signature is made and checked in `helmr_runtime.security.signatures`; this module
knows what it is over.

The ledger's own hashes are no part of the file: with a master key they are HMACs, which no one else can check.
A session exported twice at the same `last_seq` is the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from helmr import jsonio
from helmr.errors import BadJson, SessionFileDamaged, UsageError
from helmr.old_names import body_of_today
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, Principal, body_text, from_iso

FORMAT = "helmr-session/1"
LINE_BYTES_MAX = 16 * 1024 * 1024
"""An entry's body holds a value or two, of at most a megabyte; in a file from outside a longer line is none of ours."""

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
    """A runtime's signature of a file, in base64, and the text of the public key that it should be checked by."""

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
            version: Of Helmr.
            session_id: The session.
            task: Its task's id.
            code_hash: Names the state of the code that the runtime has.
            last_seq: The last entry that will be in the file.
            schemas: `{payload, result, inputs: {name: schema}, outputs: {name: schema}}` of the task; None if
                the code has no such task any more.
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
        """What the signature is over: the header and the end of the chain."""
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
    """What is known of a file whose lines all are as they were written; its signature is not checked yet.

    Attributes:
        header: Its first line.
        entries: How many it holds.
        lines: How many lines; the last is the footer's.
        signature: What its footer says.
        signed: What that has to be the signature of.
    """

    header: Mapping[str, Any]
    entries: int
    lines: int
    signature: FileSignature
    signed: bytes


class FileReader:
    """Reads a file's lines and holds none of them.

    Iterate over `entries` to its end; then `checked` says the rest.

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
        """What is known when every line was read."""
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
    """The entry of a line, to fold and replay. It carries no hash: the ledger's is not in the file.

    Raises:
        UsageError: It is none that this version of Helmr knows.
    """
    try:
        recorded_at = from_iso(values["recorded_at"])
        names = values["principal"].values()
        if not _has_types(values, _ENTRY_TYPES) or not all(isinstance(one, str) for one in names):
            raise TypeError("a part is of another type")
        if recorded_at.tzinfo is None:
            raise ValueError("the time has no zone")
        return Entry(
            session_id=session_id,
            seq=values["seq"],
            recorded_at=recorded_at,
            kind=EntryKind(values["kind"]),
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
    """A session out of a file, whole.

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
    """The session of a file, its lines checked; whose signature it bears is not.

    Raises:
        UsageError: It is not a session file, or a newer Helmr wrote it.
        SessionFileDamaged: Something is not as it was written; `line` is the first such line.
    """
    reader = FileReader(lines)
    session_id = str(reader.header["session_id"])
    entries = tuple(entry_of(values, session_id) for values in reader.entries())
    return RecordedSession(reader.header, entries)


def _has_types(values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> bool:
    """Exactly: true is not a number."""
    return all(type(values[name]) in kinds for name, kinds in types.items())


def _signed(header: bytes, end: str) -> bytes:
    return b"helmr session file\n" + header + end.encode()
