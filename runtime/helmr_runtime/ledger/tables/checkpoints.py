"""What an adoption reads of the file: a checkpoint, the earlier ones that it names, and the entries that they name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from helmr.errors import DataError
from helmr_runtime.core.checkpoint import is_whole, pieces, refs
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.index.bodies import Bodies
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ledger.tables.appends import Checkpoint
from helmr_runtime.ledger.tables.engine import Reader

TEXT_MAX = 4 * 1024 * 1024
"""Characters of checkpoints that are kept: those of some thousand sessions that parked last."""
KEPT_TEXT_MAX = 16 * 1024
"""A longer one is not kept: what it takes to read it is little beside what it takes to go on from it."""


class RecentCheckpoints:
    """The newest checkpoints, as stored; the oldest dropped first.

    An adoption would find its one row by a statement, a third of what its session's answer costs the ledger.
    """

    def __init__(self) -> None:
        self._by_session: dict[str, Checkpoint] = {}
        self._text = 0

    def add(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Keep what was stored."""
        for checkpoint in checkpoints:
            self._drop(checkpoint.session_id)
            if len(checkpoint.body) <= KEPT_TEXT_MAX:
                self._by_session[checkpoint.session_id] = checkpoint
                self._text += len(checkpoint.body)
        while self._text > TEXT_MAX:
            self._drop(next(iter(self._by_session)))

    def _drop(self, session_id: str) -> None:
        dropped = self._by_session.pop(session_id, None)
        if dropped is not None:
            self._text -= len(dropped.body)

    def whole(self, head: Head, bodies: Bodies) -> str | None:
        """The text of the session's newest checkpoint, if it is here and names nothing that must be read."""
        kept = self._by_session.get(head.session_id)
        if kept is None or kept.feed_offset != head.checkpoint_offset:
            return None
        text = bodies.open_checkpoint(kept.body, session_id=kept.session_id, seq=kept.seq)
        return text if is_whole(text) else None


def checkpoint_of(
    reader: Reader, head: Head, missing: Sequence[int], bodies: Bodies
) -> tuple[str | None, dict[int, str], dict[int, Entry]]:
    """The checkpoint's text, the earlier ones that it names, and the entries that they name or that are missing."""
    if not head.checkpoint_offset:
        return None, {}, reads.entries_at(reader, missing)

    def text_at(offset: int) -> str:
        stored = reads.checkpoint_at(reader, head.session_id, offset)
        if stored is None:
            raise DataError(f"{head.session_id}: its checkpoint at {offset} is not there")
        seq, text = stored
        return bodies.open_checkpoint(text, session_id=head.session_id, seq=seq)

    text = text_at(head.checkpoint_offset)
    earlier = {offset: text_at(offset) for offset in pieces(text)}
    named = {offset for one in (text, *earlier.values()) for offset in refs(one)}
    return text, earlier, reads.entries_at(reader, {*named, *missing})
