"""What the log of a pair is, whoever asks, and what follows from it for everything that is acknowledged.

The truth is the store's: of each number above the floor the first record. It is known here the moment the store has it,
whatever its writer hears. Each rule is checked when something happens that could break it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import GENESIS, Entry, EntryKind
from helmr_runtime.core.shared_log import (
    EPOCHS_PER_GENERATION,
    LogRecord,
    lease_of,
    record_of,
    root_of,
)
from helmr_runtime.ledger.log.commit_log import appends_of
from helmr_runtime.ledger.log.object_log import LEASE, LOG, ROOT
from helmr_runtime.ports import Committed, Flush, Loaded
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.invariants import Violation

ENDS = frozenset({EntryKind.TOKEN_COMPLETED, EntryKind.TOKEN_CANCELLED, EntryKind.TOKEN_EXPIRED})


@dataclass(frozen=True, slots=True)
class Opening:
    """A runtime has opened the log.

    Attributes:
        number: Of the record that says so.
        life: Of the process that did.
        ends: Of each session its last seq at that record.
    """

    number: int
    writer: str
    generation: int
    life: int
    ends: Mapping[str, int] = field(repr=False)


@dataclass(slots=True)
class Session:
    """A session's entries, and who has written them."""

    hashes: list[bytes] = field(default_factory=lambda: [GENESIS])
    """By seq."""
    epoch: int = 0
    """Under which the last entry was written that says it."""

    @property
    def seq(self) -> int:
        """Of the last entry."""
        return len(self.hashes) - 1


class Truth:
    """Of one pair.

    Args:
        counts: Told what was reached.
    """

    def __init__(self, counts: Counts) -> None:
        self.records: dict[int, LogRecord] = {}
        self.entries: list[Entry] = []
        self.openings: list[Opening] = []
        self.floor = 0
        self.violation: Violation | None = None
        self.sessions: dict[str, Session] = {}
        self.lives: dict[str, int] = {}
        """By writer, the process that opens the log under that name."""
        self.closed: set[str] = set()
        """Sessions that are over."""
        self.pruned: set[str] = set()
        """Those of them that have been removed."""
        self.tokens: dict[str, Entry | None] = {}
        """Each with what has ended it."""
        self.on_stored: Callable[[Sequence[Entry]], object] = lambda entries: None
        """Told of what the log has more."""
        self._counts = counts
        self._operations: dict[str, Entry] = {}
        self._receipts: dict[str, Any] = {}
        self._calls: Counter[tuple[str, int]] = Counter()
        """By operation and process, how often it was called with it."""
        self._refused: set[tuple[str, int]] = set()
        """Those of which it has said that nothing is stored."""
        self._epochs: dict[tuple[str, int], str] = {}
        self._claims: dict[int, int] = {}
        """By process, the generation that its lease said last; one that was told to take over says it before it has."""
        self._written_by: dict[int, int] = {}
        """By feed offset, the number of the record."""

    @property
    def head(self) -> int:
        """Number of the last record."""
        return len(self.records)

    def fail(self, rule: str, said: str) -> None:
        """A rule is broken; the first that is counts."""
        self.violation = self.violation or Violation(rule, said)

    def require(self, holds: bool, rule: str, said: str) -> bool:
        """A rule is broken if that does not hold."""
        if not holds:
            self.fail(rule, said)
        return holds

    # --- what the store has done ----------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        """The store has an object with that name from now on."""
        if key == ROOT:
            floor = root_of(data).floor
            self.require(floor >= self.floor, "S-96", f"the floor sinks: {self.floor}, {floor}")
            self.floor = max(self.floor, floor)
        elif key == LEASE:
            lease = lease_of(data)
            self._claims[self.lives[lease.writer]] = lease.generation
        elif key.startswith(LOG):
            self._put_record(int(key.removeprefix(LOG)), data)

    def deletes(self, key: str, data: bytes) -> None:
        """The store is asked to delete what it has under that name."""
        if not key.startswith(LOG):
            return
        number = int(key.removeprefix(LOG))
        self.require(number <= self.floor, "S-96", f"{key} is deleted above floor {self.floor}")
        record = record_of(number, data)
        # One that was stored below the floor is garbage, and opened nothing.
        opens = record.opens and self.records.get(number) == record
        self.require(not opens, "S-96", f"{key} is deleted, which opens the log")

    def _put_record(self, number: int, data: bytes) -> None:
        record = record_of(number, data)
        if number in self.records:
            if number > self.floor:
                self.fail("S-96", f"commit {number} is written over by {record.writer}")
            self._counts.reached("garbage stored")
            if record.opens:
                self._counts.reached("opened below the floor")
            return
        if not self.require(number == self.head + 1, "S-96", f"a gap before commit {number}"):
            return
        self.records[number] = record
        appends = appends_of(record.text, "the log", number)
        if record.opens:
            self._opened(number, record, appends.entries)
        last = self.openings[-1] if self.openings else None
        is_primary = last is not None and last.writer == record.writer
        self.require(is_primary, "S-97", f"commit {number} by {record.writer}, not by {last}")
        for row in appends.holdings:
            session = self.sessions[row.session_id]
            said = f"{row.session_id} goes from epoch {session.epoch} to {row.epoch}"
            self.require(row.epoch >= session.epoch, "S-62", said)
            session.epoch = max(session.epoch, row.epoch)
        for entry in appends.entries:
            self._stored(number, entry)
        for removal in appends.removals:
            gone = set(removal.sessions)
            self.require(gone <= self.closed, "S-69", f"of {gone} some are not over")
            self.require(not gone & self.pruned, "S-69", f"of {gone} some are removed twice")
            self.pruned |= gone
        self.on_stored(appends.entries)

    def _opened(self, number: int, record: LogRecord, entries: Sequence[Entry]) -> None:
        (said,) = [one for one in entries if one.kind is EntryKind.LEDGER_OPENED]
        body = jsontext.decode(said.body_json)
        last = self.openings[-1] if self.openings else None
        is_above = last is None or body["generation"] > last.generation
        self.require(is_above, "S-98", f"generation {body['generation']} follows {last}")
        is_new = record.writer == body["writer"] and all(
            one.writer != record.writer for one in self.openings
        )
        self.require(is_new, "S-98", f"{record.writer} opens the log twice")
        ends = {name: session.seq for name, session in self.sessions.items()}
        life = self.lives[record.writer]
        self.openings.append(Opening(number, record.writer, body["generation"], life, ends))
        self._counts.reached("log opened")
        if last is not None and last.life != life:
            self._counts.reached("taken over")

    def _stored(self, number: int, entry: Entry) -> None:
        offset = entry.feed_offset or 0
        is_next = offset == len(self.entries) + 1
        self.require(is_next, "S-60", f"feed offset {offset} behind {len(self.entries)}")
        body = jsontext.decode(entry.body_json)
        self.entries.append(entry)
        self._written_by[offset] = number
        said = f"{entry.session_id} has been removed, and goes on"
        self.require(entry.session_id not in self.pruned, "S-69", said)
        session = self.sessions.setdefault(entry.session_id, Session())
        said = f"{entry.session_id}: entry {entry.seq} behind {session.seq}"
        self.require(entry.seq == session.seq + 1, "S-60", said)
        session.hashes.append(entry.hash)
        if entry.kind is EntryKind.STEP_STARTED:
            epoch = int(body["name"].split(":")[0])
            said = f"{entry.session_id}: a flush of epoch {epoch} behind one of {session.epoch}"
            self.require(epoch >= session.epoch, "S-62", said)
            session.epoch = epoch
        if (operation := body.get("operation")) is not None:
            said = f"operation {operation['id']} is stored twice"
            self.require(operation["id"] not in self._operations, "S-61", said)
            self._operations[operation["id"]] = entry
            call = operation["id"], self.lives[self.records[number].writer]
            said = f"{operation['id']} is stored, and was refused"
            self.require(call not in self._refused, "S-102", said)
        if entry.kind is EntryKind.TOKEN_CREATED:
            self.tokens[body["token_id"]] = None
        elif entry.kind is EntryKind.SESSION_CLOSED:
            self.closed.add(entry.session_id)
        elif entry.kind in ENDS:
            token_id = body["token_id"]
            self.require(self.tokens[token_id] is None, "S-41", f"{token_id} ends twice")
            self.tokens[token_id] = entry

    # --- what a runtime says ----------------------------------------------------------------------------

    def opening_of(self, life: int) -> Opening | None:
        """The last opening by that process."""
        return next((one for one in reversed(self.openings) if one.life == life), None)

    def answers(self, life: int, *, is_over: bool) -> bool:
        """A process answers a call that only a primary answers.

        Args:
            is_over: It has said that another has opened the log.
        """
        self.require(not is_over, "S-97", "a superseded runtime answers")
        has_opened = self.opening_of(life) is not None
        return self.require(has_opened, "S-98", "a runtime answers that has not opened the log")

    def acknowledged(self, operation_id: str, receipt: Any) -> None:
        """A call with an operation id got its receipt."""
        is_stored = operation_id in self._operations
        if not self.require(is_stored, "S-60", f"{operation_id} is answered and not stored"):
            return
        first = self._receipts.setdefault(operation_id, receipt)
        if first is not receipt:
            self._counts.reached("receipt repeated")
            said = f"{operation_id} got {first} and then {receipt}"
            self.require(dict(first) == dict(receipt), "S-61", said)

    def called(self, operation_id: str, life: int) -> None:
        """A process is called with that operation."""
        self._calls[operation_id, life] += 1
        self._refused.discard((operation_id, life))

    def refused(self, operation_id: str, life: int) -> None:
        """A process says that it is unavailable, which means that nothing of the call is stored.

        What became of an earlier call is not said with it.
        """
        if self._calls[operation_id, life] > 1:
            return
        self._counts.reached("refused at once")
        self._refused.add((operation_id, life))
        entry = self._operations.get(operation_id)
        if entry is not None:
            writer = self.records[self._written_by[entry.feed_offset or 0]].writer
            said = f"{operation_id} is refused, and stored"
            self.require(self.lives[writer] != life, "S-102", said)

    def loaded(self, life: int, session_id: str, load: str, loaded: Loaded, seq: int) -> None:
        """A process gives a session to a holder.

        Args:
            load: Of each call another.
            seq: Of the last entry that the holder knows then.
        """
        opening, session = self.opening_of(life), self.sessions.get(session_id)
        if opening is None or session is None:
            self.fail("S-98", f"{session_id} is adopted before the log is opened, or unstored")
            return
        floor = opening.generation * EPOCHS_PER_GENERATION
        is_within = floor <= loaded.epoch < floor + EPOCHS_PER_GENERATION
        self.require(is_within, "S-98", f"epoch {loaded.epoch} by generation {opening.generation}")
        other = self._epochs.setdefault((session_id, loaded.epoch), load)
        self.require(other == load, "S-62", f"{session_id}: epoch {loaded.epoch} is given twice")
        least = opening.ends.get(session_id, 0)
        said = f"{session_id} is adopted with {seq} entries, and had {least} before the takeover"
        self.require(seq >= least, "S-60", said)
        is_known = seq <= session.seq and (
            not loaded.entries or loaded.entries[-1].hash == session.hashes[seq]
        )
        self.require(is_known, "S-60", f"{session_id} is adopted with what is not stored")

    def committed(self, flush: Flush, reply: Committed) -> None:
        """A flush is acknowledged."""
        session = self.sessions.get(flush.session_id)
        for place, entry in enumerate(flush.entries):
            offset = reply.first_feed_offset + place
            is_there = session is not None and (
                session.seq >= entry.seq and session.hashes[entry.seq] == entry.hash
            )
            said = f"{flush.session_id}: entry {entry.seq} is acknowledged and not stored"
            if not self.require(is_there, "S-60", said):
                return
            said = f"{flush.session_id}: entry {entry.seq} is not at {offset}"
            self.require(self.entries[offset - 1].hash == entry.hash, "S-60", said)

    def completed(self, token_id: str, data: Any) -> None:
        """Somebody heard that they have completed a token."""
        end = self.tokens.get(token_id)
        said = f"{token_id} is completed with {data}, and not in the log"
        if self.require(end is not None, "S-60", said):
            assert end is not None
            is_theirs = jsontext.decode(end.body_json).get("data") == data
            self.require(is_theirs, "S-41", f"{token_id} is completed by two")

    def removed(self, sessions: Sequence[str]) -> None:
        """Somebody heard that these sessions are removed."""
        self._counts.reached("sessions pruned")
        self.require(set(sessions) <= self.pruned, "S-60", f"of {sessions} some are not removed")

    def superseded(self, life: int) -> None:
        """A process says that another has opened the log since, or is about to."""
        last, own = (self.openings[-1] if self.openings else None), self.opening_of(life)
        is_claimed = own is not None and any(
            generation > own.generation for of, generation in self._claims.items() if of != life
        )
        is_so = last is not None and (last.life != life or is_claimed)
        self.require(is_so, "S-97", f"process {life} is superseded by none: {last}")

    def read(self, offset: int, *, is_marked: bool, is_over: bool) -> None:
        """A process answers a read up to that feed offset.

        Args:
            is_marked: It says that it may be stale.
            is_over: It has said that another has opened the log.
        """
        self.require(offset <= len(self.entries), "S-60", f"entry {offset} is shown, not stored")
        self.require(is_marked or not is_over, "S-102", "a superseded runtime marks no read")

    def same(self, who: str, entries: Sequence[Entry]) -> None:
        """A ledger that was made from the store alone has these."""
        kept = [one for one in self.entries if one.session_id not in self.pruned]
        said = f"{who} has {len(entries)} entries that are not the {len(kept)} of the log"
        found = [(one.feed_offset, one.hash) for one in entries]
        self.require(found == [(one.feed_offset, one.hash) for one in kept], "S-100", said)
