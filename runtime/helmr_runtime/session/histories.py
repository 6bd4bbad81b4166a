"""Records of output streams whose history a host's sessions have read, so that a chat's next run reads none again.

A long conversation goes on in a new run at each turn (S-8) and reads its past back (S-128). What was read, and what
the session has appended since, is here as long as there is room: as text, which its reader decodes, so that each gets
values of its own and this host's loop decodes none.
A record is never changed and its seq never given to another, but for what was not stored when an adoption ended:
`forget` comes when it ended so, and before an adoption that does not go on from what this host had.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helmr.current import JsonText, Record
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, Watermark

HELD_BYTES_MAX = 16 * 1024 * 1024
"""Of all records here; those of the session that was asked last stay longest."""
RECORD_CHARS = 200
"""What a record counts besides its data."""


@dataclass(slots=True)
class HeldStream:
    """The records of one stream, in order, by their seqs, as code gets them: a read makes none."""

    records: dict[int, Record] = field(default_factory=dict)
    chars: int = 0

    def add(self, body: Mapping[str, Any]) -> None:
        """One more."""
        data = JsonText(jsontext.encode(body["data"], depth_max=None))
        seq = body["stream_seq"]
        self.records[seq] = Record(body["record_id"], body["stream"], seq, data)
        self.chars += len(data.text) + RECORD_CHARS


class Histories:
    """Of one host.

    Args:
        bytes_max: What all of them may take; 0 keeps none.
    """

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._by_session: OrderedDict[str, dict[str, HeldStream]] = OrderedDict()
        self._bytes = 0

    def of(self, session_id: str, watermark: Watermark) -> Sequence[Record] | None:
        """The records that a read saw, with a `JsonText` for data; None if they are not all here."""
        held = self._by_session.get(session_id, {}).get(watermark.stream)
        if held is None or watermark.kind is not EntryKind.OUTPUT_APPENDED:
            return None
        self._by_session.move_to_end(session_id)
        found = watermark.seen(held.records)
        return found if not watermark.missing(len(found)) else None

    def keep(
        self, session_id: str, watermark: Watermark, bodies: Sequence[Mapping[str, Any]]
    ) -> None:
        """A read has brought these; nothing of a part of a stream is kept."""
        is_whole = watermark.from_seq == 1 and watermark.lacks(bodies) is None
        if watermark.kind is not EntryKind.OUTPUT_APPENDED or not is_whole:
            return
        held = HeldStream()
        for body in bodies:
            held.add(body)
        streams = self._by_session.setdefault(session_id, {})
        before = streams.pop(watermark.stream, None)
        streams[watermark.stream] = held
        self._bytes += held.chars - (before.chars if before is not None else 0)
        self._by_session.move_to_end(session_id)
        self._make_room()

    def appended(self, entry: Entry) -> None:
        """A session has appended a record."""
        held = self._by_session.get(entry.session_id, {}).get(entry.body["stream"])
        if held is not None:
            before = held.chars
            held.add(entry.body)
            self._bytes += held.chars - before
            self._make_room()

    def forget(self, session_id: str) -> None:
        """What is here of a session may not be what is stored."""
        for held in self._by_session.pop(session_id, {}).values():
            self._bytes -= held.chars

    def _make_room(self) -> None:
        while self._bytes > self._bytes_max:
            self.forget(next(iter(self._by_session)))
