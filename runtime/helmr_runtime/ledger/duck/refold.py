"""The tables made anew: every entry of a ledger checked and folded in feed order, by the code that folds new ones.

Restoring, verifying, repairing and pruning are this fold over rows from somewhere; what differs is where its tables
go. All heads stay in memory, some 1 KB for each session.

Invariants: S-50 (dense seqs), S-52 (chains), S-53 (tables are the fold of the entries), S-67.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from helmr import ids
from helmr.errors import DataError, LedgerDamaged
from helmr_runtime.core.entries import GENESIS, Entry
from helmr_runtime.ledger.duck import rows
from helmr_runtime.ledger.duck.reads import linked
from helmr_runtime.ledger.duck.table_writer import Tables
from helmr_runtime.ledger.duck.tokens import Touched
from helmr_runtime.ledger.heads import checkpointed
from helmr_runtime.ledger.index import LedgerIndex
from helmr_runtime.ledger.known_operations import OPERATION_AGE
from helmr_runtime.ledger.projection import Projection, session_numbers

ChainKeyOf = Callable[[str, str | None], bytes | None]
"""The key of a session's chain, by the session's id and the id of the master key that the chain began with."""


class Refold:
    """Folds rows of `entry_rows`, and gives out the rows of the tables that follow from them.

    Args:
        open_body: Opens stored bodies.
        chain_key: Gives the keys of hash chains.
        now: Operations older than a day before it are not remembered (S-61).
    """

    def __init__(self, open_body: rows.OpenBody, chain_key: ChainKeyOf, now: datetime) -> None:
        self.index = LedgerIndex()
        self.entries = 0
        self._projection = Projection()
        self._open_body = open_body
        self._chain_key = chain_key
        self._keys: dict[str, bytes | None] = {}
        self._now = now

    @property
    def sessions(self) -> int:
        """Sessions met, the nil session not counted."""
        return len(self.index.heads) - 1

    def add(
        self, found: Sequence[rows.Row], checkpoints: Collection[tuple[UUID, int]] = ()
    ) -> list[Entry]:
        """Fold these rows, which follow those before in the feed.

        Args:
            found: Rows of `entry_rows`, by feed offset.
            checkpoints: Session and feed offset of each checkpoint that covers one of them.

        Raises:
            LedgerDamaged: Names the first entry that is not what was written, or that is missing.
            PayloadDamaged, MasterKeyMissing: A body can't be opened.
        """
        return [self._one(row, (row[1], row[0]) in checkpoints) for row in found]

    def tables(self) -> Tables:
        """The rows of everything that was folded since this was last asked."""
        written, index = self._projection, self.index
        self._projection = Projection(through=written.through)
        oldest_at = self._now - OPERATION_AGE
        written.operations = [one for one in written.operations if one.recorded_at >= oldest_at]
        touched = Touched(index)
        return Tables(
            projection=written,
            sessions=[session_numbers(index.heads[one]) for one in sorted(written.touched)],
            meta={
                "projected_offset": written.through,
                "nil_offset": index.nil.last_offset,
                **index.marks(),
            },
            facts=touched.rows(written.token_tags, written.chains),
        )

    def _one(self, row: rows.Row, is_checkpointed: bool) -> Entry:
        offset, session, seq = row[0], row[1], row[2]
        session_id = rows.id_of(ids.SESSION, session)
        head = self.index.heads.get(session_id)
        expected = head.next_seq if head is not None else 1
        if offset <= self.index.head_offset:
            raise _damaged(row, f"feed offset {offset} comes twice or out of order")
        if seq > expected:
            raise _damaged(row, f"entry {expected} is missing")
        if seq < expected:
            raise _damaged(row, f"entry {seq} comes twice")
        try:
            entry = rows.entry_of(row, self._open_body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(row, f"entry {seq} is not what was written") from error
        if head is None or seq == 1:
            self._keys[session_id] = self._chain_key(session_id, entry.body.get("chain_key_id"))
        previous = head.last_hash if head is not None else GENESIS
        if linked(session_id, row, previous, self._keys[session_id]) != entry.hash:
            raise _damaged(row, f"entry {seq} is not what was written")
        try:
            head = self.index.apply(entry, self._now)
            self._projection.fold(entry, head)
        except (DataError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise _damaged(row, f"entry {seq} can't follow those before it: {error}") from error
        if is_checkpointed:
            checkpointed(head)
        self.entries += 1
        return entry


def _damaged(row: Any, what: str) -> LedgerDamaged:
    session_id = rows.id_of(ids.SESSION, row[1])
    return LedgerDamaged(
        f"{session_id}, feed offset {row[0]}: {what}",
        session_id=session_id,
        seq=row[2],
        feed_offset=row[0],
    )
