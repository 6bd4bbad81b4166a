"""What a record of the log of commits says: the text that is made of a commit, and read back."""

from __future__ import annotations

import json
from typing import Any

from helmr.errors import LedgerDamaged
from helmr_runtime.core.entries import Entry, EntryKind, Principal, principal_text
from helmr_runtime.ledger.tables.appends import Appends, Checkpoint, LeaseRow, Removal
from helmr_runtime.ledger.tables.engine import EPOCH, MICROSECOND, time_of

Kinds = tuple[type, ...]
_INT, _TEXT = (int,), (str,)
_INT_OR_NONE, _TEXT_OR_NONE = (int, type(None)), (str, type(None))
_ENTRY: tuple[Kinds, ...] = (
    *(_INT, _TEXT, _INT, _INT, _TEXT),  # feed offset, session, seq, time, kind
    *(_TEXT_OR_NONE, _INT_OR_NONE),  # run, op
    *(_TEXT, _TEXT, _TEXT),  # principal, body, hash
)
_CHECKPOINT: tuple[Kinds, ...] = (_INT, _TEXT, _INT, _TEXT)
_LEASE: tuple[Kinds, ...] = (_TEXT, _INT, _TEXT_OR_NONE)
_REMOVAL: tuple[Kinds, ...] = ((list,), _INT, _INT)
"""What the values of a record's rows are, in their order."""


def text_of(appends: Appends) -> bytes:
    """The record's text: JSON in ASCII."""
    rows: list[Any] = [
        [_entry_row(entry) for entry in appends.entries],
        [(c.feed_offset, c.session_id, c.seq, c.body) for c in appends.checkpoints],
        [(h.session_id, h.epoch, h.holder) for h in appends.holdings],
    ]
    if appends.removals:  # an earlier edition reads three
        rows.append([(r.sessions, r.first_offset, r.last_offset) for r in appends.removals])
    return json.dumps(rows, separators=(",", ":")).encode("ascii")


def appends_of(text: bytes, where: str, number: int) -> Appends:
    """What a record's text says.

    Args:
        where: What it was read from, for the error.

    Raises:
        LedgerDamaged: It is nothing that a ledger writes.
    """
    try:
        entries, checkpoints, holdings, *more = json.loads(text)
        (removals,) = more or ([],)
        return Appends(
            entries=[_entry_of(_typed(row, _ENTRY)) for row in entries],
            checkpoints=[Checkpoint(*_typed(row, _CHECKPOINT)) for row in checkpoints],
            holdings=[LeaseRow(*_typed(row, _LEASE)) for row in holdings],
            removals=[_removal_of(*_typed(row, _REMOVAL)) for row in removals],
        )
    except (
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        raise LedgerDamaged(f"{where}: commit {number} is nothing that a ledger writes") from error


def _removal_of(sessions: list[Any], first_offset: int, last_offset: int) -> Removal:
    if not all(type(one) is str for one in sessions):
        raise TypeError("a value of another type")
    return Removal(tuple(sessions), first_offset, last_offset)


def _typed(row: list[Any], types: tuple[Kinds, ...]) -> list[Any]:
    if not all(type(value) in kinds for value, kinds in zip(row, types, strict=True)):
        raise TypeError("a value of another type")
    return row


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.feed_offset,
        entry.session_id,
        entry.seq,
        (entry.recorded_at - EPOCH) // MICROSECOND,
        entry.kind.value,
        entry.run_id,
        entry.op,
        principal_text(entry.principal),
        entry.body_json,
        entry.hash.hex(),
    )


def _entry_of(row: list[Any]) -> Entry:
    """An entry as it is stored: its body stays closed, since only a row is made of it."""
    offset, session_id, seq, recorded_us, kind, run_id, op, principal, body, digest = row
    return Entry(
        session_id=session_id,
        seq=seq,
        recorded_at=time_of(recorded_us),
        kind=EntryKind(kind),
        run_id=run_id,
        op=op,
        principal=Principal.from_json(json.loads(principal)),
        body={},
        body_json=body,
        hash=bytes.fromhex(digest),
        feed_offset=offset,
    )
