"""The log of commits in a store that several machines reach: one object a record, created only if there is none.

`core.shared_log` decides; this asks the store and waits. A record is stored when `append` returns. Until the store has
said what became of it, or has shown it, the same bytes are tried again: there is one append in flight, and nothing that
depends on it is answered. A record with the number by another writer ends this one: `LedgerSuperseded`.

A database that fails over to a replica which lacks the newest commits has lost records that were durable. Each such
failover cuts connections, so a writer that had no answer looks for the record before its own, and stores again what is
gone of its newest ones.

Names below the log's own: `log/NUMBER`, `root`, `lease`, `snapshots/NAME/PART`.

Invariants: S-96, S-97.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from helmr.errors import (
    DataError,
    LedgerBehind,
    LedgerDamaged,
    LedgerSuperseded,
    StoreUnavailable,
    UsageError,
)
from helmr_runtime.core.shared_log import (
    Appended,
    LogRecord,
    LogRoot,
    StoreLease,
    after_append,
    deletable,
    follows,
    has_opened,
    lease_bytes,
    lease_of,
    newest_of,
    raised,
    record_bytes,
    record_of,
    root_bytes,
    root_of,
)
from helmr_runtime.ledger.log.objects import ObjectChanged, ObjectExists, Objects

logger = logging.getLogger(__name__)

ROOT = "root"
LEASE = "lease"
LOG = "log/"
DIGITS = 16
READ_MAX = 64
"""Records that are asked for at once."""

PROBE = "probe"
KEPT_BYTES_MAX = 8 * 2**20
"""Of records that a writer can store again."""

AGAIN_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Between tries; the last for ever."""


def record_key(number: int) -> str:
    """The name of a record; names are in the order of numbers."""
    return f"{LOG}{number:0{DIGITS}}"


class ObjectLog:
    """One opening of a log. As `LogStore`.

    Args:
        objects: The store.
        writer: Of this opening.
        nonce: Makes one for a record.
        wait: Waits so many seconds between two tries; True when it was ended.
    """

    is_shared = True
    is_full = False
    """A store has room; the database takes records when it is read, and a second after a commit."""
    held_bytes = 0

    def __init__(
        self,
        objects: Objects,
        *,
        writer: str | None = None,
        nonce: Callable[[], str] = lambda: secrets.token_hex(8),
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.objects = objects
        self.writer = writer or secrets.token_hex(8)
        self._nonce = nonce
        self.log_id = 0
        self.passed_bytes = 0
        """Of all records that this opening has read and stored; to be asked from any thread."""
        self._newest = 0
        self._opened_at: int | None = None
        """The record that opened the log for this writer; behind it all are its own."""
        self._openings: set[int] = set()
        """Records below, of which it is known that they open the log."""
        self._kept: dict[int, bytes] = {}
        """The newest records that this opening has stored, oldest first."""
        self._kept_bytes = 0
        self._ends = threading.Event()
        self._wait = wait or self._ends.wait

    # --- the port ---------------------------------------------------------------------------------

    def open(self, log_id: int) -> None:
        """Look whose log it is; 0 is a file that is new.

        Raises:
            LedgerBehind: It is another ledger's, or none.
            UsageError: It was moved from here.
        """
        root = self.root()
        if root is None:
            raise LedgerBehind(f"{self.objects.name} holds no log")
        if root.moved:
            raise UsageError(
                f"the ledger whose log stood in {self.objects.name} was moved to a machine's own disk",
                hint="Use that machine's data directory without --log, or move it here again.",
            )
        self.log_id = root.log_id
        if log_id not in (0, root.log_id):
            raise LedgerBehind(
                f"{self.objects.name} holds the log of another ledger than this one's",
                hint="Name the store that belongs to this data directory, or another --data-dir.",
            )

    def belongs_to(self, log_id: int) -> None:
        """Nothing: the root says so already."""

    def newest(self) -> int:
        """Number of the last record, by looking behind the last that a list shows."""
        number, floor = 0, self.require_root().floor
        is_found = False
        while not is_found:
            listed = [_number_of(key) for key in self.objects.keys(LOG)]
            number = newest_of(listed, floor)
            while self.objects.get(record_key(number + 1)) is not None:
                number += 1
            # Trimming may have passed the place where this has looked.
            floor = self.require_root().floor
            is_found = floor <= number
        return number

    def read(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Number and text of each record behind that one.

        Raises:
            LedgerBehind: What follows is not there any more.
            LedgerDamaged: A record is not what was written, or one lacks.
            LogNewer: A later edition wrote one.
        """
        for record in self.records(after):
            yield record.number, record.text

    def append(self, number: int, record: bytes, *, opens: bool = False) -> None:
        """Store a record, however long the store is away; durable when this returns.

        Raises:
            LedgerSuperseded: Another writer has the number.
            StoreUnavailable: `close` was called meanwhile; it is not known whether it is stored.

        One that opens the log is garbage, and its writer superseded, if the log was trimmed past its number meanwhile.
        """
        made = LogRecord(number, self.writer, self._nonce(), opens, record)
        data = record_bytes(made)
        tries = 0
        while (known := self._tried(number, data)) is Appended.UNKNOWN:
            self._pause(tries)
            tries += 1
            self._put_back(number)
        if known is Appended.SUPERSEDED or (opens and not has_opened(number, self._floor_now())):
            raise superseded_in(self.objects.name)
        self._newest = number
        self.passed_bytes += len(data)
        self._keep(number, data)
        if opens:
            self._opened_at = number
            self._openings.add(number)

    def trim(self, up_to: int) -> None:
        """Raise the stored floor to this record, then delete the records up to it."""
        self.change_root(lambda root: raised(root, up_to))
        self.sweep()

    def end(self) -> None:
        """End an append that waits for the store; whether it is stored, the next opening reads."""
        self._ends.set()

    def close(self) -> None:
        """End, then close the store."""
        self.end()
        self.objects.close()

    # --- what snapshots and takeovers need ----------------------------------------------------------

    def root(self) -> LogRoot | None:
        """Read the log's root from the store; None if it holds no log."""
        found = self.objects.get(ROOT)
        return root_of(found[0]) if found is not None else None

    def make(self, log_id: int, floor: int = 0) -> LogRoot:
        """Begin a log, or find the one that is there; a store that does not keep its promises is refused.

        Args:
            log_id: Whose.
            floor: The last record that stood elsewhere.

        Raises:
            StoreUnavailable: The store does not answer, or lets an object be created twice.
        """
        self._prove()
        made = LogRoot(log_id, floor)
        try:
            self.objects.create(ROOT, root_bytes(made))
        except ObjectExists:
            root = self.root()
            if root is None:  # "exists" is believed only when it was read back
                raise self._unknown("a log stands in it") from None
            return root
        return made

    def change_root(self, change: Callable[[LogRoot], LogRoot]) -> LogRoot:
        """Replace the root by what `change` makes of it; asked again if another has replaced it meanwhile."""
        while True:
            found = self.objects.get(ROOT)
            if found is None:
                raise LedgerBehind(f"{self.objects.name} holds no log any more")
            root, tag = root_of(found[0]), found[1]
            changed = change(root)
            if changed == root:
                return root
            try:
                self.objects.replace(ROOT, root_bytes(changed), tag)
            except ObjectChanged:
                # By another, or by a try of this call whose answer was lost: the next look says.
                continue
            return changed

    def records(self, after: int) -> list[LogRecord]:
        """The records behind that one; raises as `read`."""
        found = list(self._found(after))
        last = self.objects.get(record_key(after)) if after and not found else None
        # Only then: the floor may pass what is being read, and garbage has taken its place.
        root = self.require_root()
        if not follows(after, root.floor):
            raise LedgerBehind(
                f"the log in {self.objects.name} begins behind commit {root.floor}, and this ledger ends with {after}",
                hint="Start from a snapshot.",
                trimmed=root.floor,
            )
        if not found and last is None and after > root.floor:
            raise LedgerBehind(
                f"the log in {self.objects.name} ends before commit {after}, which this ledger's file has",
                hint="Put back the store as it was; don't start on this one.",
            )
        self.passed_bytes += sum(len(data) for _, data in found)
        return [record_of(number, data) for number, data in found]

    def lease(self) -> tuple[StoreLease, str] | None:
        """Read the primary's lease and its tag; None if none was ever written."""
        found = self.objects.get(LEASE)
        return (lease_of(found[0]), found[1]) if found is not None else None

    def write_lease(self, lease: StoreLease, tag: str | None) -> str:
        """Say so in place of what has that tag, or of whatever is there if it is None; the new tag.

        Raises:
            ObjectChanged: Another says something, or an earlier try of this writer whose answer was lost.
            StoreUnavailable: It is not known whether it stands there.
        """
        return self.objects.replace(LEASE, lease_bytes(lease), tag)

    def sweep(self) -> int:
        """Delete the garbage; returns how many records went. One that is ended in the middle is done by the next."""
        floor = self.require_root().floor
        listed = sorted(number for key in self.objects.keys(LOG) if (number := _number_of(key)))
        below = [number for number in listed if number <= floor and number not in self._openings]
        gone = 0
        for begin in range(0, len(below), READ_MAX):
            some = below[begin : begin + READ_MAX]
            numbers = deletable(self._known(some), floor)
            self.objects.delete([record_key(number) for number in numbers])
            gone += len(numbers)
        return gone

    # --- inside -----------------------------------------------------------------------------------

    def _tried(self, number: int, data: bytes) -> Appended:
        key = record_key(number)
        try:
            self.objects.create(key, data)
        except (ObjectExists, StoreUnavailable):
            try:
                found = self.objects.get(key)
            except StoreUnavailable:
                return Appended.UNKNOWN
            return after_append(data, found[0] if found is not None else None)
        return Appended.DURABLE

    def _keep(self, number: int, data: bytes) -> None:
        self._kept[number] = data
        self._kept_bytes += len(data)
        while self._kept_bytes > KEPT_BYTES_MAX:
            self._kept_bytes -= len(self._kept.pop(next(iter(self._kept))))

    def _put_back(self, number: int) -> None:
        """Store again what the store has lost of the records before that one; what it does not take now, it is given
        before the next try.

        Raises:
            LedgerSuperseded: A lost record is not kept any more, or another's has taken its place.
        """
        with suppress(StoreUnavailable):
            for lost in self._lost_before(number):
                known = self._tried(lost, self._kept[lost])
                if known is Appended.SUPERSEDED:
                    raise superseded_in(self.objects.name)
                if known is Appended.UNKNOWN:
                    return
                logger.warning("%s had lost commit %d: it is stored again", self.objects.name, lost)

    def _lost_before(self, number: int) -> list[int]:
        """Numbers of the records before that one which are gone: behind one that is there as this writer stored it."""
        before = number - 1
        while (there := self._there(before)) is None:
            if before not in self._kept:
                raise lost_in(self.objects.name, before)
            before -= 1
        lost = list(range(before + 1, number))
        kept = self._kept.get(before)
        if there and kept is not None and kept != there:
            raise superseded_in(self.objects.name)
        if there and kept is None and lost:  # whose that is, no one knows
            raise lost_in(self.objects.name, before + 1)
        return lost

    def _there(self, number: int) -> bytes | None:
        """The record; empty if it was trimmed, or is the one before the first."""
        found = self.objects.get(record_key(number))
        if found is not None:
            return found[0]
        return b"" if number <= self.require_root().floor else None

    def _floor_now(self) -> int:
        tries = 0
        while True:
            with suppress(StoreUnavailable):
                return self.require_root().floor
            self._pause(tries)
            tries += 1

    def _pause(self, tries: int) -> None:
        if self._wait(AGAIN_S[min(tries, len(AGAIN_S) - 1)]):
            raise self._unknown("a commit is stored")

    def _unknown(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self.objects.name} has not said whether {what}")

    def _found(self, after: int) -> Iterator[tuple[int, bytes]]:
        count = 1
        while True:
            numbers = range(after + 1, after + 1 + count)
            found = self.objects.get_many([record_key(number) for number in numbers])
            for number, data in zip(numbers, found, strict=True):
                if data is None:
                    self._check_end(number, found[number - after :])
                    return
                yield number, data
            after, count = after + count, min(2 * count, READ_MAX)

    def _check_end(self, number: int, behind: Sequence[bytes | None]) -> None:
        """Return if no record is behind the one that lacks, or it has come since, or is garbage."""
        if all(data is None for data in behind):
            return
        if self.objects.get(record_key(number)) is None and self.require_root().floor < number:
            raise LedgerDamaged(
                f"commit {number} lacks in {self.objects.name}, and one behind it is there",
                commit=number - 1,
                next_commit=number + 1,
            )

    def _known(self, numbers: Sequence[int]) -> Iterable[tuple[int, bool]]:
        """Each number with whether its record opens the log; those that this writer stored are known without looking.

        What is behind them may be another's, which has opened the log since: the floor is the whole log's.
        """
        first = self._opened_at if self._opened_at is not None else self._newest
        looked = [one for one in numbers if not first < one <= self._newest]
        stored = self.objects.get_many([record_key(one) for one in looked]) if looked else []
        for number, data in zip(looked, stored, strict=True):
            if data is None:
                continue
            try:
                opens = record_of(number, data).opens
            except DataError:
                opens = True  # what can't be read is left
            if opens:
                self._openings.add(number)
        return [(number, number in self._openings) for number in numbers]

    def require_root(self) -> LogRoot:
        """Read the log's root; raises LedgerBehind if the store holds no log."""
        root = self.root()
        if root is None:
            raise LedgerBehind(f"{self.objects.name} holds no log any more")
        return root

    def _prove(self) -> None:
        """Return if the store refuses to create an object a second time."""
        key = f"{PROBE}/{self.writer}"
        with suppress(ObjectExists):  # by a try whose answer was lost
            self.objects.create(key, b"1")
        if self.objects.get(key) is None:
            raise self._unknown("it keeps what is created")
        try:
            self.objects.create(key, b"2")
        except ObjectExists:
            self.objects.delete([key])
            return
        raise StoreUnavailable(
            f"{self.objects.name} lets an object be created that is there already: a log can't stand in it",
            hint="Use a store that takes `If-None-Match: *`.",
        )


def superseded_in(name: str) -> LedgerSuperseded:
    """Build the error of a primary whose log another runtime has opened."""
    return LedgerSuperseded(
        f"another runtime has opened the log in {name}",
        hint="Speak to that runtime; this one acknowledges nothing any more.",
    )


def lost_in(name: str, number: int) -> LedgerSuperseded:
    """Build the error of a writer whose store lost a commit that can't be stored again."""
    return LedgerSuperseded(
        f"{name} has lost commit {number}, which was stored there",
        hint="Put back the store as it was, with every commit; this runtime's file has them.",
    )


def _number_of(key: str) -> int:
    text = key.removeprefix(LOG)
    return int(text) if text.isdecimal() else 0
