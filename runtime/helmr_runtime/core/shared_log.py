"""The rules of a log of commits that several machines can reach: what a writer may believe, who may try, what may go.

The store gives three things: an object that is created only if there is none, an object that is replaced only if it is
as it was read, and reads of what was stored. Lists may be late. All else is decided here, without a clock: who passes
a time passes seconds of a monotonic clock of its own.

- **Records** have numbers without gaps. Creating the next number is the fence: two writers can't both have it. A record
  is only believed to be one's own when its bytes are (`after_append`): a store may say that something exists which the
  same writer has stored by a call whose answer was lost, and it may say nothing at all.
- **The root** says whose log it is, which snapshots there are, and up to which number records are garbage (`floor`). It
  only rises. It is written before a record is deleted, so that a number which is free again is garbage to every reader.
- **A record that opens the log** is never deleted: its number is the one that the writer before it tries next.
- **The lease** says who is at work. It decides who tries, and never who may write: it may be wrong without harm.

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
"""Of records, roots and leases. A reader stops at a later one: it can't know what it would leave out."""

EPOCHS_PER_GENERATION = 1_000_000
"""Adoptions of one opening. An adoption is in memory before it is stored; numbering each opening's epochs from a fresh
million keeps an adoption that a crash forgot from sharing its epoch with a later one (S-62)."""

LEASE_S = 6.0
"""A lease that has not changed for that many seconds, by the clock of the runtime that looks, has lapsed."""

RENEW_S = 2.0
"""How often a primary renews its lease, and how often a standby looks at it: one request in two seconds each, which an
idle pair sends and no more."""

LOOK_CALLED_S = 0.25
"""How often a standby looks that is called: clients turn to it when the other one goes."""


# --- records --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of the log.

    Attributes:
        writer: Of the opening that wrote it; no two openings have the same.
        nonce: Of this record, so that two with the same text differ.
        opens: It holds a `ledger.opened`, and is never deleted.
        text: What was committed, as `ledger.log.commit_log` has it.
    """

    number: int
    writer: str
    nonce: str
    opens: bool
    text: bytes


def record_bytes(record: LogRecord) -> bytes:
    """What is stored: a line of JSON with the checksum of the text, and the text."""
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
        LogNewer: A later edition wrote it.
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
    """What a writer knows of a record that it tried to store."""

    DURABLE = "durable"
    SUPERSEDED = "superseded"
    """Another writer has the number: nothing is acknowledged from that moment (S-97)."""
    UNKNOWN = "unknown"
    """The same bytes are tried again; until then nothing that depends on it is answered."""


def after_append(mine: bytes, found: bytes | None) -> Appended:
    """What a writer knows whose append was not answered with a plain success.

    Args:
        mine: What it tried to store.
        found: What stands under the number, read since; None if nothing does, or it can't be read.
    """
    if found is None:
        return Appended.UNKNOWN
    return Appended.DURABLE if found == mine else Appended.SUPERSEDED


def has_opened(number: int, floor: int) -> bool:
    """Whether the writer whose record opens the log at that number is the primary.

    Args:
        floor: Read after the record was stored. If it has reached the number, the number was free because what stood
            there was deleted: another has opened the log since, and the record is garbage.
    """
    return floor < number


def follows(after: int, floor: int) -> bool:
    """Whether records that were read behind `after` are those that follow it; the floor was read after them."""
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
        number: Of the last record that it has.
        name: Below which its parts stand; no two snapshots have the same.
        parts: How many there are.
        size_bytes: Of all of them.
        digest: SHA-256 of all of them, hex.
        pruned_offset: Feed offset of the last prune that it has seen.
    """

    number: int
    name: str
    parts: int
    size_bytes: int
    digest: str
    pruned_offset: int = 0


@dataclass(frozen=True, slots=True)
class LogRoot:
    """What the store says of the whole log.

    Attributes:
        log_id: Whose log it is; stands in the ledger's file too.
        floor: Records up to that number are garbage.
        snapshots: Those that are kept, the newest last.
        moved: The ledger was taken from here to a machine's own disk; no runtime opens it here.
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

    One that is older than those which are there changes nothing: a writer that was paused has made it.
    """
    newest = root.newest
    if newest is not None and made.number <= newest.number:
        return root
    kept = (*root.snapshots, made)[-SNAPSHOTS_KEPT:]
    floor = kept[0].number if len(kept) == SNAPSHOTS_KEPT else root.floor
    return replace(root, snapshots=kept, floor=max(root.floor, floor))


def raised(root: LogRoot, floor: int) -> LogRoot:
    """The root with that floor, if it has not passed it."""
    return replace(root, floor=max(root.floor, floor))


def deletable(found: Iterable[tuple[int, bool]], floor: int) -> list[int]:
    """The numbers of the records that may go, of these with whether they open the log; the floor is stored."""
    return [number for number, opens in found if number <= floor and not opens]


def root_bytes(root: LogRoot) -> bytes:
    """What is stored."""
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
"""Objects, not bytes, decide how long a start takes."""

PRUNED_GONE_S = 24 * 3600.0
"""Within that time after a prune two snapshots are made; with the second what was pruned is gone from the store."""


def is_snapshot_due(
    records: int, size_bytes: int, newest: SnapshotPlace | None, *, pruned_s: float | None = None
) -> bool:
    """Whether what the log has behind the newest snapshot is worth another.

    The first is due at once: with it the store knows the ledger's schema and keys. A snapshot of S bytes is written
    again when the log behind it has S / 2 bytes, so that what is uploaded is at most three times what is committed, or
    10,000 records, which a busy ledger has sooner.

    Args:
        records: Behind the newest snapshot.
        size_bytes: Theirs.
        newest: The newest snapshot.
        pruned_s: How long ago the last prune was that the older snapshot which is kept has not seen; None: both have.
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
    """What a primary says of itself while it works; written over by the next one.

    Attributes:
        writer: Of its opening.
        generation: Of its opening.
        counter: One more with each renewal.
        newest: The last record that it knows to be stored: one read tells a standby that nothing is new.
        released: It has said goodbye.
    """

    writer: str
    generation: int
    counter: int = 0
    newest: int = 0
    released: bool = False

    def renewed(self, newest: int) -> StoreLease:
        """The next one."""
        return replace(self, counter=self.counter + 1, newest=newest)

    def goodbye(self, newest: int) -> StoreLease:
        """The last one: a standby takes over at once."""
        return replace(self.renewed(newest), released=True)

    def claimed(self, writer: str) -> StoreLease:
        """What a runtime writes over it that has the order to take over, before it opens the log."""
        return StoreLease(writer, self.generation + 1, newest=self.newest)

    def is_superseded_by(self, found: StoreLease | None) -> bool:
        """Whether what stands in its place is that of a later opening, or of one that has the order to be the next."""
        return found is not None and found.generation > self.generation


def lease_bytes(lease: StoreLease) -> bytes:
    """What is stored."""
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
    """What a runtime that would open the log has seen of the lease.

    Attributes:
        lease: As it was last; None if there never was one.
        since_s: Since when it is that and could have been another, by that runtime's own monotonic clock.
        own_writer: Of the last opening by the same data directory, which no other process holds; None if there was
            none. That opening has ended.
    """

    lease: StoreLease | None
    since_s: float
    own_writer: str | None = None

    def seen(self, lease: StoreLease | None, now_s: float) -> LeaseSeen:
        """After another look. A lease that is gone counts as one that is not renewed."""
        if lease is None or lease == self.lease:
            return self
        return replace(self, lease=lease, since_s=now_s)

    def unseen(self, now_s: float) -> LeaseSeen:
        """After a look that the store did not answer: no one can have renewed it meanwhile."""
        return replace(self, since_s=now_s)

    def may_try(self, now_s: float) -> bool:
        """Whether it takes over: no one is at work, or the primary said goodbye, or has not renewed for `LEASE_S`."""
        lease = self.lease
        if lease is None or lease.released or lease.writer == self.own_writer:
            return True
        return now_s - self.since_s >= LEASE_S

    def next_look_s(self, now_s: float, *, is_called: bool = False) -> float:
        """Seconds until the lease is looked at again: so that it is when it may have lapsed, and no more often than
        `RENEW_S` allows before, or `LOOK_CALLED_S` if clients call this runtime."""
        every_s = LOOK_CALLED_S if is_called else RENEW_S
        left_s = self.since_s + LEASE_S - now_s
        return min(every_s, left_s) if left_s > 0 else every_s


def fresh_s(renewal_began_s: float, now_s: float) -> float:
    """For so many seconds more no other can be primary, by when the last renewal that succeeded began; else one may."""
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
    """Where to look for the end of the log, by a list that may be late and in any order; records follow one by one."""
    return max((number for number in numbers if number > floor), default=floor)
