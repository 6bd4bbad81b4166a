"""The rules of a log of commits that several machines share: fencing, takeover and deletion.

The store gives three things: creating an object only if there is none, replacing an object only if it is unchanged
since it was read, and reads of stored objects. Lists may be late. All else is decided here, without a clock: callers
pass seconds of their own monotonic clock.

- **Records** have numbers without gaps. Creating the next number is the fence: two writers can't both have it. A writer
  knows a record as its own only by its bytes (`after_append`): a store may report as existing what the same writer has
  stored by a call whose answer was lost, or not answer at all.
- **The root** holds the log's id, its snapshots, and the number up to which records are garbage (`floor`), which only
  rises. It is written before a record is deleted, so every reader knows a number that is free again as garbage.
- **A record that opens the log** is never deleted: the writer before it tries that number next.
- **The lease** names the primary. It decides who tries to take over, never who may write: it may be wrong without harm.

Invariants: S-96, S-98, S-100.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from helmr.errors import LedgerDamaged, LogNewer

FORMAT = 1
"""Format of records, roots and leases. A reader stops at a later one, since it could miss facts in it."""

EPOCHS_PER_GENERATION = 1_000_000
"""Adoptions of one opening. An adoption is in memory before it is stored; numbering each opening's epochs from a fresh
million keeps an adoption that a crash forgot from sharing its epoch with a later one (S-62)."""

LEASE_S = 6.0
"""A lease lapses if it has not changed for that many seconds by the observing runtime's clock."""

RENEW_S = 2.0
"""Seconds between a primary's renewals of its lease, and between a standby's looks at it; an idle pair sends no other
requests."""

LOOK_CALLED_S = 0.25
"""Seconds between looks of a standby that clients call, as they do when the primary is gone."""


# --- records --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of the log.

    Attributes:
        writer: Id of the opening that wrote it, unique.
        nonce: Makes records with the same text differ.
        opens: It holds a `ledger.opened`, and is never deleted.
        text: The commit, in the form of `ledger.log.commit_log`.
    """

    number: int
    writer: str
    nonce: str
    opens: bool
    text: bytes


def record_bytes(record: LogRecord) -> bytes:
    """Return the stored form: a line of JSON with the checksum of the text, and the text."""
    header = {
        "format": FORMAT,
        "number": record.number,
        "writer": record.writer,
        "nonce": record.nonce,
        "opens": record.opens,
        "check": zlib.crc32(record.text),
    }
    return _line(header) + record.text


def record_of(number: int, data: bytes) -> LogRecord:
    """The record that was stored under that number.

    Raises:
        LogNewer: A later release wrote it.
        LedgerDamaged: It is not what was written.
    """
    line, _, text = data.partition(b"\n")
    found = _checked_format(line, f"commit {number}")
    try:
        record = LogRecord(
            int(found["number"]),
            str(found["writer"]),
            str(found["nonce"]),
            bool(found["opens"]),
            text,
        )
        is_whole = found["check"] == zlib.crc32(text) and record.number == number
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerDamaged(f"commit {number} of the log is not a record", commit=number) from error
    if not is_whole:
        raise LedgerDamaged(f"commit {number} of the log is not what was written", commit=number)
    return record


class Appended(Enum):
    """The fate of a record that a writer tried to store, as far as it knows."""

    DURABLE = "durable"
    SUPERSEDED = "superseded"
    """Another writer has the number: nothing is acknowledged from that moment (S-97)."""
    UNKNOWN = "unknown"
    """The writer tries the same bytes again; until then no reply that depends on it is sent."""


def after_append(mine: bytes, found: bytes | None) -> Appended:
    """Decide the fate of an append that was not answered with a plain success.

    Args:
        mine: The bytes that it tried to store.
        found: The bytes under the number, read since; None if there are none, or they can't be read.
    """
    if found is None:
        return Appended.UNKNOWN
    return Appended.DURABLE if found == mine else Appended.SUPERSEDED


def has_opened(number: int, floor: int) -> bool:
    """True if the writer whose record opens the log at that number is the primary.

    Args:
        floor: Read after the record was stored. If it has reached the number, the number was free because its record
            was deleted: another runtime has opened the log since, and this record is garbage.
    """
    return floor < number


def follows(after: int, floor: int) -> bool:
    """True if records read behind `after` are the next ones; the floor was read after them."""
    return floor <= after


def epoch_floor(generation: int) -> int:
    """Epochs of the sessions that this opening adopts are above it."""
    return generation * EPOCHS_PER_GENERATION


# --- the root -------------------------------------------------------------------------------------

SNAPSHOTS_KEPT = 2


@dataclass(frozen=True, slots=True)
class SnapshotPlace:
    """A copy of the database, whole in the store.

    Attributes:
        number: Number of its last record.
        name: Prefix of its parts, unique.
        parts: Number of its parts.
        size_bytes: Size of all parts.
        digest: SHA-256 of all parts, hex.
        pruned_offset: Feed offset of its last prune.
    """

    number: int
    name: str
    parts: int
    size_bytes: int
    digest: str
    pruned_offset: int = 0


@dataclass(frozen=True, slots=True)
class LogRoot:
    """The store's facts about the whole log.

    Attributes:
        log_id: Id of the log; the ledger's file holds it too.
        floor: Records up to that number are garbage.
        snapshots: Snapshots that are kept, the newest last.
        moved: The ledger was moved to a machine's own disk; no runtime opens it here.
    """

    log_id: int
    floor: int = 0
    snapshots: tuple[SnapshotPlace, ...] = ()
    moved: bool = False

    @property
    def newest(self) -> SnapshotPlace | None:
        """The snapshot that a machine without a file starts from."""
        return self.snapshots[-1] if self.snapshots else None


def with_snapshot(root: LogRoot, made: SnapshotPlace) -> LogRoot:
    """The root with one more snapshot, and the records up to the older one's garbage.

    A snapshot older than the existing ones changes nothing: a paused writer made it.
    """
    newest = root.newest
    if newest is not None and made.number <= newest.number:
        return root
    kept = (*root.snapshots, made)[-SNAPSHOTS_KEPT:]
    floor = kept[0].number if len(kept) == SNAPSHOTS_KEPT else root.floor
    return replace(root, snapshots=kept, floor=max(root.floor, floor))


def raised(root: LogRoot, floor: int) -> LogRoot:
    """Return the root with that floor, unless its floor is higher."""
    return replace(root, floor=max(root.floor, floor))


def deletable(found: Iterable[tuple[int, bool]], floor: int) -> list[int]:
    """Return the numbers that may be deleted, from (number, opens the log) pairs; the floor is already stored."""
    return [number for number, opens in found if number <= floor and not opens]


def root_bytes(root: LogRoot) -> bytes:
    """Return the root's stored form."""
    places = [
        [one.number, one.name, one.parts, one.size_bytes, one.digest, one.pruned_offset]
        for one in root.snapshots
    ]
    said: dict[str, Any] = {"format": FORMAT, "log_id": root.log_id, "floor": root.floor}
    return _line({**said, "snapshots": places, "moved": root.moved})


def root_of(data: bytes) -> LogRoot:
    """The root that was stored. Raises LogNewer and LedgerDamaged."""
    found = _checked_format(data, "the root of the log")
    try:
        places = tuple(
            SnapshotPlace(int(number), str(name), int(parts), int(size), str(digest), int(pruned))
            for number, name, parts, size, digest, pruned in found["snapshots"]
        )
        return LogRoot(
            int(found["log_id"]), int(found["floor"]), places, bool(found.get("moved", False))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerDamaged("the root of the log is not one") from error


# --- snapshots ------------------------------------------------------------------------------------

SNAPSHOT_BYTES = 64 * 1024 * 1024
SNAPSHOT_RECORDS = 10_000
"""Records behind a snapshot that make another due: the time of a start depends on objects, not bytes."""

PRUNED_GONE_S = 24 * 3600.0
"""Seconds after a prune in which two snapshots are made; the second removes the pruned data from the store."""


def is_snapshot_due(
    records: int, size_bytes: int, newest: SnapshotPlace | None, *, pruned_s: float | None = None
) -> bool:
    """True if the log behind the newest snapshot is worth another.

    The first is due at once: it brings the ledger's schema and keys to the store. After a snapshot of S bytes the next
    is due when the log behind it has S / 2 bytes, so that uploads are at most three times the commits, or 10,000
    records, which a busy ledger reaches sooner.

    Args:
        records: Number of records behind the newest snapshot.
        size_bytes: Size of those records.
        newest: The newest snapshot.
        pruned_s: Seconds since the last prune that the older kept snapshot lacks; None if both have it.
    """
    if not records:
        return False
    if newest is None:
        return True
    half = newest.size_bytes // 2
    is_worth_it = size_bytes >= max(SNAPSHOT_BYTES, half) or records >= SNAPSHOT_RECORDS
    return is_worth_it or (pruned_s is not None and pruned_s >= PRUNED_GONE_S / 2)


# --- the lease ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoreLease:
    """A primary's lease in the store; the next primary overwrites it.

    Attributes:
        writer: Id of the primary's opening.
        counter: Rises by one with each renewal.
        newest: The last record known to be stored, so that a standby sees with one read that nothing is new.
        released: The primary has released it.
    """

    writer: str
    generation: int
    counter: int = 0
    newest: int = 0
    released: bool = False

    def renewed(self, newest: int) -> StoreLease:
        """Return the renewed lease."""
        return replace(self, counter=self.counter + 1, newest=newest)

    def goodbye(self, newest: int) -> StoreLease:
        """Return the released lease: a standby takes over at once."""
        return replace(self.renewed(newest), released=True)

    def claimed(self, writer: str) -> StoreLease:
        """Return the lease that a runtime writes over this one on an order to take over, before it opens the log."""
        return StoreLease(writer, self.generation + 1, newest=self.newest)

    def is_superseded_by(self, found: StoreLease | None) -> bool:
        """True if the stored lease belongs to a later opening, or to a runtime with an order to take over."""
        return found is not None and found.generation > self.generation


def lease_bytes(lease: StoreLease) -> bytes:
    """Return the lease's stored form."""
    said = [lease.writer, lease.generation, lease.counter, lease.newest, lease.released]
    return _line({"format": FORMAT, "lease": said})


def lease_of(data: bytes) -> StoreLease:
    """The lease that was stored. Raises LogNewer and LedgerDamaged."""
    found = _checked_format(data, "the lease of the log")
    try:
        writer, generation, counter, newest, released = found["lease"]
        return StoreLease(str(writer), int(generation), int(counter), int(newest), bool(released))
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerDamaged("the lease of the log is not one") from error


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """The observations of the lease by a runtime that would open the log.

    Attributes:
        lease: The newest lease seen; None if there never was one.
        since_s: Time since which it has not changed although it could have, by that runtime's own monotonic clock.
        own_writer: Id of the last opening by the same data directory, which no other process holds; None if there was
            none. That opening has ended.
    """

    lease: StoreLease | None
    since_s: float
    own_writer: str | None = None

    def seen(self, lease: StoreLease | None, now_s: float) -> LeaseSeen:
        """Return the state after another look. A missing lease counts as one not renewed."""
        if lease is None or lease == self.lease:
            return self
        return replace(self, lease=lease, since_s=now_s)

    def unseen(self, now_s: float) -> LeaseSeen:
        """Return the state after a look that the store did not answer: no one can have renewed the lease meanwhile."""
        return replace(self, since_s=now_s)

    def may_try(self, now_s: float) -> bool:
        """True if it may take over: there is no primary, it released its lease, or has not renewed it for `LEASE_S`."""
        lease = self.lease
        if lease is None or lease.released or lease.writer == self.own_writer:
            return True
        return now_s - self.since_s >= LEASE_S

    def next_look_s(self, now_s: float, *, is_called: bool = False) -> float:
        """Return the seconds until the next look at the lease: when it may have lapsed, and before that once per
        `RENEW_S`, or per `LOOK_CALLED_S` if clients call this runtime."""
        every_s = LOOK_CALLED_S if is_called else RENEW_S
        left_s = self.since_s + LEASE_S - now_s
        return min(every_s, left_s) if left_s > 0 else every_s


def fresh_s(renewal_began_s: float, now_s: float) -> float:
    """Return the seconds for which no other runtime can be primary, from the start of the last successful renewal."""
    return renewal_began_s + LEASE_S - now_s


# --- inside ---------------------------------------------------------------------------------------


def _line(said: Any) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode("ascii") + b"\n"


def _checked_format(line: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
        wrote = found["format"]
        if type(wrote) is not int:
            raise TypeError("a format is a number")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LedgerDamaged(f"{what} can't be read") from error
    if wrote > FORMAT:
        raise LogNewer(f"{what} has format {wrote}, and this Helmr reads up to {FORMAT}")
    assert isinstance(found, dict)
    return found


def newest_of(numbers: Sequence[int], floor: int) -> int:
    """Return the number to search the log's end from, by a list that may be late and in any order."""
    return max((number for number in numbers if number > floor), default=floor)
