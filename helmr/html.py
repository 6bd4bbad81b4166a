"""HTML of a session's transcript for notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from helmr.models import EntryInfo
from helmr.wire import safe_text
from helmr.wire.safe_text import plain


class Transcript(Sequence[EntryInfo]):
    """Entries of a session as a list that a notebook shows as a table.

    Args:
        entries: `session.transcript()`.
    """

    def __init__(self, entries: Iterable[EntryInfo]) -> None:
        self._entries = tuple(entries)

    def __getitem__(self, place: Any) -> Any:
        return self._entries[place]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[EntryInfo]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"<Transcript of {len(self)} entries>"

    def _repr_html_(self) -> str:
        shown = self._entries[: safe_text.ROWS_MAX]
        rows = [
            (e.seq, e.recorded_at, e.kind, e.op, e.principal.label, _one_line(e.body))
            for e in shown
        ]
        columns = ("seq", "at", "kind", "op", "who", "what")
        return safe_text.table(columns, rows, more=len(self) - len(shown))


def _one_line(body: Mapping[str, Any]) -> str:
    """An entry's body on one line, shortened."""
    return plain(json.dumps(body, ensure_ascii=False), 200)
