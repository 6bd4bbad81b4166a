"""What is in memory behind the tables: the newest entries, and the rows of sessions, runs and waits that changed. Pure.

The tables are written behind. A list waits for them; one object is put together from what they have and what is here.
Followers, adoptions and the projection ask for the newest entries again at once.

Invariants: S-53; every read shows what was acknowledged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from helmr_runtime.core.entries import Entry
from helmr_runtime.core.nouns import Changes, RunRow, SessionRow, WaitRow, changed
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.projection import Projection, SendKeyRow, session_changes

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[R]):
    """What memory has of a row: the row as it began, if it is new, and what has changed since, oldest first."""

    began: R | None
    changes: Changes

    def over(self, row: R | None) -> R | None:
        """The row as it is now, given the table's; None if there is no such object."""
        base = self.began if self.began is not None else row
        return changed(base, self.changes) if base is not None else None

    @property
    def whole(self) -> R | None:
        """The row as it is now, if none of it must be read."""
        return self.over(None)


class Unwritten:
    """The projections that are not in the tables yet.

    Args:
        layers: The newest first: the one that is gathered, and the one that is being written, if one is.
        heads: The index's, from which a session's changing half is made.
    """

    def __init__(self, layers: Sequence[Projection], heads: Mapping[str, Head]) -> None:
        self._layers = layers
        self._heads = heads

    def session(self, session_id: str) -> Known[SessionRow]:
        """What is known of a session."""
        is_touched = any(session_id in layer.touched for layer in self._layers)
        return Known(
            self._first(lambda layer: layer.new_sessions.get(session_id)),
            session_changes(self._heads[session_id]) if is_touched else {},
        )

    def run(self, run_id: str) -> Known[RunRow]:
        """What is known of a run."""
        return Known(
            self._first(lambda layer: layer.new_runs.get(run_id)),
            self._changes(lambda layer: layer.runs.get(run_id)),
        )

    def wait(self, wait_id: str) -> Known[WaitRow]:
        """What is known of a wait."""
        return Known(
            self._first(lambda layer: layer.new_waits.get(wait_id)),
            self._changes(lambda layer: layer.waits.get(wait_id)),
        )

    def send_key(self, session_id: str, stream: str, key_hash: str) -> SendKeyRow | None:
        """What an idempotency key was used for, if that is not in the tables yet."""
        return self._first(lambda layer: layer.send_keys.get((session_id, stream, key_hash)))

    def _changes(self, look: Callable[[Projection], Changes | None]) -> Changes:
        found: Changes = {}
        for layer in reversed(self._layers):
            found |= look(layer) or {}
        return found

    def _first(self, look: Callable[[Projection], T | None]) -> T | None:
        return next((found for layer in self._layers if (found := look(layer)) is not None), None)


ENTRIES_MAX = 4_096
TEXT_MAX = 32 * 1024 * 1024
"""Bounds of what is kept: entries, and characters of their bodies."""


class FeedTail:
    """Entries by feed offset, consecutive, the oldest dropped first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._text = 0

    def add(self, entry: Entry) -> None:
        """Keep a stored entry."""
        assert entry.feed_offset is not None
        self._entries[entry.feed_offset] = entry
        self._text += len(entry.body_json)
        while len(self._entries) > ENTRIES_MAX or (
            self._text > TEXT_MAX and len(self._entries) > 1
        ):
            _, dropped = self._entries.popitem(last=False)
            self._text -= len(dropped.body_json)

    def get(self, feed_offset: int) -> Entry | None:
        """The entry at that offset, if it is still here."""
        return self._entries.get(feed_offset)

    def after(self, feed_offset: int, limit: int) -> list[Entry] | None:
        """The entries behind an offset; None if some of them are no longer here."""
        if feed_offset + 1 not in self._entries:
            return None
        last = min(next(reversed(self._entries)), feed_offset + limit)
        return [self._entries[offset] for offset in range(feed_offset + 1, last + 1)]

    def forget_through(self, feed_offset: int) -> None:
        """Drop what is not behind that offset: some of it was pruned, and what stays here has no gaps."""
        while self._entries and next(iter(self._entries)) <= feed_offset:
            _, dropped = self._entries.popitem(last=False)
            self._text -= len(dropped.body_json)

    def split(self, offsets: Iterable[int]) -> tuple[dict[int, Entry], list[int]]:
        """Those that are here, and the offsets of those that must be read."""
        found: dict[int, Entry] = {}
        missing: list[int] = []
        for offset in offsets:
            entry = self._entries.get(offset)
            if entry is None:
                missing.append(offset)
            else:
                found[offset] = entry
        return found, missing
