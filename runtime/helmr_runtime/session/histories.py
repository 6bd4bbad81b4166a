"""Records of output streams that a host's sessions have read, so that a chat's next run need not read them again.

A long conversation continues in a new run at each turn (S-8) and reads its past back (S-128). Records that were read or
appended stay here while there is room. They are kept as text that each reader decodes, so that readers share no values
and this host's loop decodes nothing. A stored record never changes, and its seq is never reused. Records that were not
stored when an adoption ended may change: `forget` is called then, and before an adoption that does not continue from
this host's state.
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
"""Most bytes of all records; those of the least recently asked session leave first."""
RECORD_CHARS = 200
"""Characters that a record counts besides its data."""


@dataclass(slots=True)
class HeldStream:
    """The records of one stream by seq, in order, in the form that code gets: reads make no new ones."""

    records: dict[int, Record] = field(default_factory=dict)
    chars: int = 0

    def add(self, body: Mapping[str, Any]) -> None:
        """Add a record."""
        data = JsonText(jsontext.encode(body["data"], depth_max=None))
        seq = body["stream_seq"]
        self.records[seq] = Record(body["record_id"], body["stream"], seq, data)
        self.chars += len(data.text) + RECORD_CHARS


class Histories:
    """The records of one host.

    Args:
        bytes_max: Most bytes of all records; 0 keeps none.
    """

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._by_session: OrderedDict[str, dict[str, HeldStream]] = OrderedDict()
        self._bytes = 0

    def of(self, session_id: str, watermark: Watermark) -> Sequence[Record] | None:
        """Return the records that a read saw, with a `JsonText` for data; None if some are missing."""
        held = self._by_session.get(session_id, {}).get(watermark.stream)
        if held is None or watermark.kind is not EntryKind.OUTPUT_APPENDED:
            return None
        self._by_session.move_to_end(session_id)
        found = watermark.seen(held.records)
        return found if not watermark.missing(len(found)) else None

    def keep(
        self, session_id: str, watermark: Watermark, bodies: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep the records of a read, unless it read only a part of the stream."""
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
        """Keep a record that a session has appended."""
        held = self._by_session.get(entry.session_id, {}).get(entry.body["stream"])
        if held is not None:
            before = held.chars
            held.add(entry.body)
            self._bytes += held.chars - before
            self._make_room()

    def forget(self, session_id: str) -> None:
        """Drop a session's records, which may differ from the stored ones."""
        for held in self._by_session.pop(session_id, {}).values():
            self._bytes -= held.chars

    def _make_room(self) -> None:
        while self._bytes > self._bytes_max:
            self.forget(next(iter(self._by_session)))
