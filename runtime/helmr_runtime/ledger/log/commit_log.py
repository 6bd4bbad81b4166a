"""The log of commits: acknowledged commits that the database lacks so far.

A commit to the database costs more than a millisecond of CPU time, whatever it stores. So a commit appends one record
to this log, and a later database transaction merges many records at once, and notes the last one (`meta`,
`LOG_NUMBER`).

A store keeps the records, by four calls (`LogStore`): a file beside the database, or a store that other machines reach
too. The database has the same `log_id`, which exposes a log of another ledger.

A record's text is JSON of the rows that a commit appends (`text_of`, `appends_of`).

Every method blocks. One thread appends; another, which writes the database, calls `to_merge` and `merged` meanwhile.

Invariants: S-52, S-60 (durable when `append` returns), S-65, S-96.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any, Protocol

from helmr.errors import LedgerDamaged
from helmr_runtime.core.entries import Entry, EntryKind, Principal, principal_text
from helmr_runtime.ledger.tables.appends import Appends, Checkpoint, LeaseRow, Removal, joined
from helmr_runtime.ledger.tables.engine import EPOCH, MICROSECOND, time_of

LOG_ID, LOG_NUMBER = "log_id", "log_number"
"""Rows of `meta`: the id of its log, and the last record that the database has."""

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


class RecordExists(Exception):
    """The store has a record with that number; whose it is, is not said."""


class LogStore(Protocol):
    """Storage of a log's records. Every method blocks; one thread at a time appends.

    `append`, `read`, `newest` and `trim` define a store; `tests/ledger/test_log_stores.py` runs against each store, and
    is its specification.
    """

    @property
    def is_shared(self) -> bool:
        """True when other machines reach the log and the database caches it: records stay until a snapshot has them."""
        ...

    @property
    def log_id(self) -> int:
        """Id of the ledger that owns the log; 0 if only the ledger knows it."""
        ...

    @property
    def is_full(self) -> bool:
        """True when records must be trimmed before more can be written."""
        ...

    @property
    def held_bytes(self) -> int:
        """Size of the records that the database may lack; callable from any thread."""
        ...

    def open(self, log_id: int) -> None:
        """Be ready for `read`; 0 for a ledger that never had a log."""
        ...

    def belongs_to(self, log_id: int) -> None:
        """From now on records are that ledger's."""
        ...

    def append(self, number: int, record: bytes, *, opens: bool = False) -> None:
        """Store a record behind the last; durable when this returns.

        Args:
            opens: It holds the entry by which a runtime opens the log.

        Raises:
            RecordExists: There is one with that number.
            LedgerSuperseded: Another writer has that number (S-97).
            OSError, StoreUnavailable: It is not stored, and another may take its number.
        """
        ...

    def read(self, after: int) -> Iterable[tuple[int, bytes]]:
        """Number and text of each record behind that one, in order.

        Raises:
            LedgerBehind: They are not there any more, or were never this ledger's.
            LedgerDamaged: One is not what was written.
        """
        ...

    def newest(self) -> int:
        """Number of the last record."""
        ...

    def trim(self, up_to: int) -> None:
        """The records up to that one are needed no more; what `read` has behind it stays."""
        ...

    def close(self) -> None:
        """Close the store."""
        ...


class CommitLog:
    """One ledger's log.

    Args:
        store: Not open yet.
        where: What it is called in errors.
    """

    def __init__(self, store: LogStore, where: str) -> None:
        self._store = store
        self._where = where
        self.number = 0
        """Of the last record."""
        self._unmerged: list[tuple[int, Appends]] = []
        """The records that are not in the database, each with its number."""
        self._sessions: set[str] = set()
        """Whose they are."""
        self._lock = threading.Lock()
        """Guards the unmerged records."""

    @property
    def has_unmerged(self) -> bool:
        """True if the database lacks something in the log; callable from any thread."""
        return bool(self._unmerged)

    def unmerged(self) -> Appends:
        """Return everything in the log that the database lacks."""
        return self.to_merge()[1]

    def to_merge(self) -> tuple[int, Appends]:
        """Return the last record's number, and everything up to it that the database lacks."""
        with self._lock:
            return self.number, joined(appends for _, appends in self._unmerged)

    def lacks(self, session_id: str) -> bool:
        """True if the database lacks something of the session; callable from any thread."""
        return session_id in self._sessions

    @property
    def is_full(self) -> bool:
        """True when the database must merge the log before more can be written."""
        return self._store.is_full

    @property
    def unmerged_bytes(self) -> int:
        """Size of the records that the database may lack; callable from any thread."""
        return self._store.held_bytes

    def open(self, log_id: int, number: int) -> None:
        """Open the store and read the records behind that number.

        Args:
            log_id: Of the ledger's own log; 0 for one that never had one.
            number: Of the last record that stands in the database.

        Raises:
            LedgerBehind: The log is another ledger's, or of a later state of this one.
            LedgerDamaged: A record is whole and nothing that a ledger writes, or one before a whole one is bad.
            OSError, StoreUnavailable: It can't be opened.
        """
        self._store.open(log_id)
        try:
            self.number = number
            for found, text in self._store.read(number):
                self.number = found
                self._keep(found, appends_of(text, self._where, found))
        except BaseException:
            if not self._store.is_shared:
                self._store.close()
            raise

    @property
    def is_shared(self) -> bool:
        """True when other machines reach the log, as `LogStore.is_shared` says."""
        return self._store.is_shared

    @property
    def log_id(self) -> int:
        """Id of the ledger that owns the log, as `LogStore.log_id` says."""
        return self._store.log_id

    def belongs_to(self, log_id: int) -> None:
        """From now on records are that ledger's."""
        self._store.belongs_to(log_id)

    def read_on(self) -> list[tuple[int, Appends]]:
        """The records that another writer has stored behind the last one here; raises as `open`."""
        return [
            (number, appends_of(text, self._where, number))
            for number, text in self._store.read(self.number)
        ]

    def take_in(self, records: Iterable[tuple[int, Appends]]) -> None:
        """Keep records that another runtime committed; the database merges them next."""
        with self._lock:
            for number, appends in records:
                self.number = number
                self._keep(number, appends)

    def append(self, appends: Appends) -> None:
        """Write a record; durable when this returns. Raises as `LogStore.append`; the next one takes its place."""
        number = self.number + 1
        opens = self._store.is_shared and any(
            entry.kind is EntryKind.LEDGER_OPENED for entry in appends.entries
        )
        self._store.append(number, text_of(appends), opens=opens)
        with self._lock:
            self.number = number
            self._keep(number, appends)

    def _keep(self, number: int, appends: Appends) -> None:
        self._unmerged.append((number, appends))
        self._sessions |= _sessions_of(appends)

    def merged(self, number: int) -> None:
        """The database has everything up to that record."""
        with self._lock:
            # Others look at these without the lock: each is replaced as a whole.
            self._unmerged = [one for one in self._unmerged if one[0] > number]
            self._sessions = set().union(*(_sessions_of(one) for _, one in self._unmerged))
            if not (self._unmerged or self._store.is_shared):
                self._store.trim(number)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


def _sessions_of(appends: Appends) -> set[str]:
    written = {entry.session_id for entry in appends.entries}
    written.update(checkpoint.session_id for checkpoint in appends.checkpoints)
    return written.union(*(removal.sessions for removal in appends.removals))


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
    """Parse the text of a record.

    Args:
        where: Name of its source, for the error.

    Raises:
        LedgerDamaged: No ledger writes such a text.
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
