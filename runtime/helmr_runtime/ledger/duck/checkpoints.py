"""What an adoption reads of the file: a checkpoint, the earlier ones that it names, and the entries that they name."""

from __future__ import annotations

from collections.abc import Sequence

from helmr.errors import DataError
from helmr_runtime.core.checkpoint import pieces, refs
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.bodies import Bodies
from helmr_runtime.ledger.duck import reads
from helmr_runtime.ledger.duck.database import Reader
from helmr_runtime.ledger.heads import Head


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
