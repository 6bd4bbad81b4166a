"""A ledger over lists: the same index and the same port as the DuckDB ledger, for tests and `helmr.testing`.

Every call does its work at once, on the caller's turn of the loop; `before_commit` and `after_commit` let a test
delay, fail or kill around the moment of truth. What is stored survives `restarted`, what is not doesn't.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import (
    BadQuery,
    BadRequest,
    HelmrError,
    SessionNotFound,
    StoreUnavailable,
)
from helmr_runtime.clock import Clock, Timer
from helmr_runtime.core.checkpoint import pieces, refs
from helmr_runtime.core.commands import AT_ONCE, Prune, Pruned, pruned_draft
from helmr_runtime.core.entries import (
    GENESIS,
    Draft,
    Entry,
    EntryKind,
    Principal,
    Watermark,
    stamp,
)
from helmr_runtime.core.fork import ForkSession, fork_files
from helmr_runtime.core.session_file import BackupHeader, FileSignature
from helmr_runtime.core.tokens import LedgerCommand, end_facts
from helmr_runtime.feature import Features
from helmr_runtime.ledger.attachments import AttachmentStore
from helmr_runtime.ledger.index.authored import (
    Bodies,
    Chain,
    catalog_drafts,
    check_fork_size,
    check_parent,
    continue_head,
    due_entries,
    escalated_entries,
    find_start,
    fork_entries,
    forked,
    repeated_fork,
    repeated_start,
    start_entries,
    token_end_entries,
)
from helmr_runtime.ledger.index.commands import (
    decide,
    expired_drafts,
    expired_end,
    repeated,
    token_of,
)
from helmr_runtime.ledger.index.heads import (
    Head,
    checkpointed,
    head_after,
    is_escalating,
    next_deadline,
)
from helmr_runtime.ledger.index.ledger_index import (
    Accepted,
    AlreadyStored,
    LedgerIndex,
    NeedsLookup,
    OperationKnown,
)
from helmr_runtime.ledger.index.lines import LineWriter, again
from helmr_runtime.ledger.index.tokens import TokenHead
from helmr_runtime.ledger.index.views import iso_or_none
from helmr_runtime.ledger.memory_rows import MemoryRows, Stored, prunable
from helmr_runtime.ledger.readable import KeyKeeper, ReadableLedger
from helmr_runtime.ports import (
    CommitReply,
    Committed,
    Declined,
    Flush,
    KnownKey,
    Loaded,
    Refused,
    SessionLine,
    Started,
    StartSession,
)
from helmr_runtime.ports.ledger import CopiedRows, ReadFreshness, restore
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.secrets import SessionKeys

DUE_MAX = 10_000
"""Timeouts written in one turn."""

TEST_RING = KeyRing((MasterKey("test", b"\x00" * 32),))
"""No one outside the process ever sees a secret derived from it."""

Hook = Callable[[Flush], Awaitable[None]]
"""Called around a commit; may wait, or raise what the caller shall see."""


class MemoryLedger(ReadableLedger):
    """Implements `helmr_runtime.ports.Ledger` over lists, and every read of the service but SQL.

    Args:
        clock: Tells the time and rings the deadlines of unheld sessions.
        stored: What an earlier ledger left.
        ring: What secrets are derived from, and bodies sealed with if it says so. The chains are plain.
        features: Those that have a part in the ledger.

    Attributes:
        before_commit: Called with a flush before it is checked.
        after_commit: Called with a flush after it was stored and before the caller is answered.
        epoch_floor: Epochs that are given out are no lower.
    """

    def __init__(
        self,
        clock: Clock,
        stored: Stored | None = None,
        *,
        ring: KeyRing | None = TEST_RING,
        features: Features = (),
    ) -> None:
        super().__init__()
        self.clock = clock
        self.ring = ring
        self._features = features
        self._key_keeper = KeyKeeper(ring)
        self._chain = Chain()
        self._chain.bodies = self._bodies = Bodies(ring)
        self._lines = LineWriter(
            lambda: self.index, self._chain, self.entry, self.snapshot, self.known_key
        )
        self.stored = stored if stored is not None else Stored()
        self._attachments = AttachmentStore(self.stored.files, self._bodies)
        self.before_commit: Hook | None = None
        self.after_commit: Hook | None = None
        self.epoch_floor = 0
        self._index = LedgerIndex(features)
        self._rows = MemoryRows(self.stored.entries, self._index)
        self._alarm: Timer | None = None
        self._rings_at = clock.now()
        self._is_dead = False
        self._keys: dict[tuple[str, str, str], Entry] = {}
        self._restore()

    # --- what is there, while it lives ----------------------------------------------------------------

    @property
    def index(self) -> LedgerIndex:
        self._require_alive()
        return self._index

    @property
    def rows(self) -> MemoryRows:
        self._require_alive()
        return self._rows

    def now(self) -> datetime:
        return self.clock.now()

    async def head(self, session_id: str) -> Head | None:
        return self.index.heads.get(session_id)

    async def token(self, token_id: str) -> TokenHead | None:
        return self.index.tokens.get(token_id)

    async def token_by_callback(self, callback_hash: str) -> TokenHead | None:
        return self.index.tokens.by_callback(callback_hash)

    async def operation(self, operation_id: str) -> int | None:
        return None  # the index has all of the day's

    async def entry(self, feed_offset: int) -> Entry:
        return self.recent(feed_offset)

    def recent(self, feed_offset: int) -> Entry:
        return self.stored.entries.at(feed_offset)

    async def entries_after(self, offset: int, limit: int) -> Sequence[Entry]:
        return self.stored.entries.behind(offset)[:limit]

    # --- helmr_runtime.ports.Ledger -------------------------------------------------------------------

    async def load(
        self,
        session_id: str,
        holder: str,
        *,
        operation_id: str | None = None,
        key: tuple[str, str] | None = None,
        term: str | None = None,
        known: tuple[int, bytes] | None = None,
    ) -> Loaded:
        head = await self._require_head(session_id)
        self.index.hold(head, holder, self.epoch_floor, self.clock.now(), term=term)
        self._held(head)
        return replace(
            self._read(head),
            is_known=known == head.last,
            keys=await self.session_keys(session_id),
            known_operation=await self.known_operation(operation_id) if operation_id else None,
            known_key=await self.known_key(session_id, *key) if key is not None else None,
        )

    async def snapshot(self, session_id: str) -> Loaded:
        head = await self._require_head(session_id)
        return replace(self._read(head), keys=await self.session_keys(session_id))

    def _read(self, head: Head) -> Loaded:
        checkpoint = self._checkpoint(head.session_id, head.checkpoint_offset)
        earlier = self._earlier(head.session_id, checkpoint)
        texts = filter(None, (checkpoint, *earlier.values()))
        return Loaded(
            epoch=head.epoch,
            checkpoint=checkpoint,
            entries=tuple(self.recent(offset) for offset in head.tail),
            checkpoint_offset=head.checkpoint_offset or None,
            pieces=earlier,
            referenced={o: self.recent(o) for text in texts for o in refs(text)},
            has_older_keys=head.has_keys,
            claims=head.claims,
            disabled=self.index.people.disabled,
        )

    async def commit(self, flush: Flush) -> CommitReply:
        self._require_alive()
        if self.before_commit is not None:
            await self.before_commit(flush)
            self._require_alive()
        reply = self._decide(flush)
        if self.after_commit is not None:
            await self.after_commit(flush)
            self._require_alive()
        return reply

    async def abandon(self, session_id: str, epoch: int) -> None:
        head = await self._require_head(session_id)
        if self.index.abandon(head, epoch, self.clock.now()):
            self._held(head)

    async def abandon_all(self, holder: str) -> None:
        self.index.end_holder(holder)
        for one in self.index.holdings():
            if one.holder == holder:
                await self.abandon(one.session_id, one.epoch)

    async def known_key(self, session_id: str, stream: str, key_hash: str) -> KnownKey | None:
        self._require_alive()
        entry = self._keys.get((session_id, stream, key_hash))
        return KnownKey(data_hash=entry.body["data_hash"], entry=entry) if entry else None

    async def records(self, session_id: str, watermark: Watermark) -> Sequence[Any]:
        self._require_alive()
        # Code may change what it has read.
        return deepcopy(watermark.picked(self.entries_of(session_id)))

    async def start(self, start: StartSession, line: SessionLine | None = None) -> Started:
        self.index.people.disabled.check(start.principal)
        if (match := find_start(self.index, start)) is not None:
            return repeated_start(start, match, self.recent(match.feed_offset))
        check_parent(self.index, start)
        self._store(self._begun(start))
        lined = line is not None and await self._write_beside(line)
        return Started(session_id=start.session_id, run_id=start.run_id, created=True, lined=lined)

    async def _write_beside(self, line: SessionLine) -> bool:
        with suppress(HelmrError):
            return await self.write_line(line) is not None
        return False

    async def write_line(
        self, line: SessionLine, *, rides: bool = False
    ) -> Mapping[str, Any] | None:
        operation = line.send.operation
        known = self.index.operations.offset_of(operation.id) if operation is not None else None
        if known is not None:
            return again(line, self.recent(known))
        planned = await self._lines.plan(line)
        written = self._lines.write(planned, self.now()) if planned is not None else None
        if planned is None or written is None:
            return None
        if written.entries:
            self._lines.stored(planned, self._store(written.entries))
        return written.reply

    async def fork_session(self, fork: ForkSession) -> dict[str, Any]:
        self.index.people.disabled.check(fork.principal)
        if known := self.index.operations.offset_of(fork.operation.id):
            return repeated_fork(fork, self.recent(known))
        check_fork_size(await self._require_head(fork.origin_id))
        origin, cipher = self.entries_of(fork.origin_id), self._bodies.cipher(fork.session_id)
        files = fork_files(origin, fork.to_op)
        self._attachments.copy(fork.origin_id, fork.session_id, files)
        return forked(self._store(fork_entries(fork, origin, self.clock.now(), cipher=cipher)))

    async def fact(self, fact: LedgerCommand) -> Mapping[str, Any]:
        operation = fact.operation
        known = self.index.operations.offset_of(operation.id) if operation is not None else None
        if known is not None:
            return repeated(self.index, fact, self.recent(known))
        token_id = token_of(fact)
        self.index.work.set_off(token_id, fact.trace)
        token = self.index.tokens.get(token_id) if token_id is not None else None
        ended_at = token.ended_offset if token is not None else 0
        ended_by = self.recent(ended_at) if ended_at else None
        now = self.clock.now()
        decided = decide(self.index, fact, now, ended_by)
        if decided.drafts:
            self._store(self._facts(decided.drafts, now))
        return decided.reply

    async def prune(self, prune: Prune) -> Pruned:
        """Remove some old sessions, or count all; nothing is archived, for there is no disk."""
        now = self.clock.now()
        before = now - timedelta(seconds=prune.age_s)
        found = prunable(self.index, self.stored.entries, before, prune.session_ids)
        page = found if prune.is_dry_run else found[:AT_ONCE]
        gone = tuple(head.session_id for head in page)
        counted = sum(head.next_seq - 1 for head in page)
        if gone and not prune.is_dry_run:
            self._store(self._facts((pruned_draft(prune, gone, counted, None),), now))
            self._remove(frozenset(gone))
            self._attachments.remove(gone)
        is_last = prune.is_dry_run or not gone
        went = () if prune.is_dry_run else gone
        return Pruned(sessions=len(gone), entries=counted, is_last=is_last, gone=went)

    def _remove(self, gone: Collection[str]) -> None:
        """Remove everything of these sessions."""
        self.stored.remove(gone)
        self._keys = {key: entry for key, entry in self._keys.items() if key[0] not in gone}
        self._rows = MemoryRows(self.stored.entries, self._index)

    async def put_attachment_piece(
        self, session_id: str, attachment_id: str, number: int, data: bytes
    ) -> None:
        self._require_alive()
        self._attachments.put(session_id, attachment_id, number, data)

    async def attachment_piece(self, session_id: str, attachment_id: str, number: int) -> bytes:
        self._require_alive()
        return self._attachments.get(session_id, attachment_id, number)

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        return await self._key_keeper.session_keys(session_id)

    async def sign_file(self, signed: bytes) -> FileSignature | None:
        return await self._key_keeper.sign_file(signed)

    async def file_keys(self) -> Sequence[tuple[str, str]]:
        return await self._key_keeper.file_keys()

    # --- what needs a file, and is refused --------------------------------------------------------

    async def query(self, sql: str, *, limit: int = 0) -> bytes:
        raise BadQuery(
            "sessions in a test's memory can't be queried with SQL",
            hint="Read lists and transcripts, or ask a runtime.",
        )

    async def backup_header(self, version: str) -> BackupHeader:
        raise BadRequest(
            "sessions in a test's memory can't be backed up", hint="Back up a runtime."
        )

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        raise BadRequest("sessions in a test's memory can't be backed up")

    async def freshness(self) -> ReadFreshness:
        return ReadFreshness()  # no other machine reaches it

    # --- what else tests ask ----------------------------------------------------------------------

    def entries_of(self, session_id: str) -> list[Entry]:
        """A session's entries, in order."""
        return [entry for entry in self.stored.entries if entry.session_id == session_id]

    async def write_catalog(self, catalog: Mapping[str, Any], principal: Principal) -> bool:
        """Write the catalog if its code hash is new; whether it was."""
        known = await self.catalog()
        if known is not None and known["code_hash"] == catalog["code_hash"]:
            return False
        now = self.clock.now()
        self._store(self._facts(catalog_drafts(catalog, principal, self.index, now), now))
        return True

    async def seq_at(self, session_id: str, feed_offset: int) -> int:
        """Seq of a session's last entry up to that feed offset, 0 if there is none."""
        await self._require_head(session_id)
        entries = self.entries_of(session_id)
        return max((e.seq for e in entries if (e.feed_offset or 0) <= feed_offset), default=0)

    async def stats(self) -> dict[str, Any]:
        """Return the ledger's numbers that exist without a disk."""
        return {
            "open": True,
            "feed_offset": self.index.head_offset,
            "failure": None,
            "counts": self.index.counts(),
            "waiting_held_since": iso_or_none(self.index.waiting_held_since()),
        }

    def crash(self) -> None:
        """Die: every later call and every answer still owed is `StoreUnavailable`."""
        self._is_dead = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._changed()

    def restarted(self) -> MemoryLedger:
        """The next ledger over what this one stored; this one is dead."""
        self.crash()
        return MemoryLedger(self.clock, self.stored, ring=self.ring, features=self._features)

    def take_over(self, entries: Sequence[Entry]) -> None:
        """Import a session's first entries from another ledger; it must not exist here."""
        previous, stamped = GENESIS, []
        for entry in entries:
            draft = Draft(entry.kind, entry.body, entry.run_id, entry.op, entry.principal)
            session_id, at = entry.session_id, entry.recorded_at
            stamped.append(
                stamp(
                    draft,
                    session_id=session_id,
                    seq=entry.seq,
                    recorded_at=at,
                    previous=previous,
                    key=None,
                    cipher=self._bodies.cipher(session_id),
                )
            )
            previous = stamped[-1].hash
        self._store(stamped)

    # --- inside ---------------------------------------------------------------------------------

    def _decide(self, flush: Flush) -> CommitReply:
        head = self.index.heads.get(flush.session_id)
        if head is None:
            raise SessionNotFound(f"there is no session {flush.session_id}")
        verdict = self.index.check(flush)
        match verdict:
            case Accepted():
                entries = self._store(flush.entries, flush)
                first = entries[0].feed_offset if entries else head.last_offset
                return Committed(first_feed_offset=first or 0, next_deadline_at=next_deadline(head))
            case AlreadyStored(first):
                return Committed(first_feed_offset=first, next_deadline_at=next_deadline(head))
            case NeedsLookup(seq, hashed, count):
                found = self.entries_of(flush.session_id)[seq - 1]
                if found.hash != hashed or found.feed_offset is None:
                    return Refused(epoch=head.epoch, seq=head.next_seq)
                first = found.feed_offset - count + 1
                return Committed(first_feed_offset=first, next_deadline_at=next_deadline(head))
            case OperationKnown(precondition, offset):
                return Declined(precondition=precondition, facts={"entry": self.recent(offset)})
            case Declined(facts={"ended_offset": offset, "status": status}):
                end = end_facts(str(status), self.recent(int(offset)))
                return replace(verdict, facts={**verdict.facts, **end})
            case Declined() | Refused():
                return verdict

    def _store(self, entries: Sequence[Entry], flush: Flush | None = None) -> list[Entry]:
        start = self.stored.entries.next_offset
        placed = [replace(e, feed_offset=offset) for offset, e in enumerate(entries, start=start)]
        session_id = flush.session_id if flush is not None else entries[0].session_id
        future = head_after(self.index.heads.get(session_id) or Head(session_id), placed)
        self.stored.entries += placed
        if flush is not None and flush.checkpoint is not None:
            last = placed[-1].feed_offset if placed else future.last_offset
            self.stored.checkpoints[session_id, last or 0] = flush.checkpoint
        for entry in placed:
            self._apply(entry)
        self.index.settle(head := self.index.heads[session_id], self.clock.now(), flush=flush)
        if flush is not None:
            self.stored.holdings.append((session_id, head.epoch, head.held_by))
        self._arm()
        self._changed()
        return placed

    def _apply(self, entry: Entry) -> None:
        self.index.apply(entry, self.clock.now())
        key_hash = entry.body.get("key_hash")
        if entry.kind is EntryKind.INPUT_ACCEPTED and key_hash is not None:
            self._keys[entry.session_id, entry.body["stream"], key_hash] = entry

    def _restore(self) -> None:
        now = self.clock.now()
        for entry in self.stored.entries:
            self._apply(entry)
            if (entry.session_id, entry.feed_offset) in self.stored.checkpoints:
                checkpointed(self.index.heads[entry.session_id])
        for session_id, epoch, holder in self.stored.holdings:
            head = self.index.heads[session_id]
            head.epoch, head.held_by = epoch, holder
        for head in self.index.heads.values():
            self.index.reindex(head, now)
        self.index.tokens.touched.clear()
        if self.stored.entries:
            self._arm()

    def _begun(self, start: StartSession) -> tuple[Entry, ...]:
        cipher = self._bodies.cipher(start.session_id)
        return start_entries(start, self.clock.now(), None, None, cipher)

    def _facts(self, drafts: Sequence[Draft], now: datetime) -> tuple[Entry, ...]:
        cipher = self._bodies.cipher(self.index.system.session_id)
        return continue_head(self.index.system, drafts, now, None, cipher)

    def _checkpoint(self, session_id: str, offset: int) -> str | None:
        if (stored := self.stored.checkpoints.get((session_id, offset))) is None:
            return None
        seq = self.recent(offset).seq
        return self._bodies.open_checkpoint(stored, session_id=session_id, seq=seq)

    def _earlier(self, session_id: str, checkpoint: str | None) -> dict[int, str]:
        """The earlier checkpoints that one names."""
        offsets = pieces(checkpoint) if checkpoint is not None else ()
        texts = ((offset, self._checkpoint(session_id, offset)) for offset in offsets)
        return {offset: text for offset, text in texts if text is not None}

    def _held(self, head: Head) -> None:
        self.stored.holdings.append((head.session_id, head.epoch, head.held_by))
        self._arm()
        self._changed()

    def _arm(self) -> None:
        due_at = self.index.next_due_at()
        if due_at is None or self._is_dead:
            return
        if self._alarm is not None:
            if self._rings_at <= due_at:
                return
            self._alarm.cancel()
        self._rings_at = due_at
        self._alarm = self.clock.call_at(due_at, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        if self._is_dead:
            return
        now, seal = self.clock.now(), self._bodies.cipher
        for head in self.index.take_due(now, DUE_MAX):
            cipher = seal(head.session_id)
            if is_escalating(head, now):
                state = restore(head.session_id, self._read(head))
                self._store(escalated_entries(head, state, now, None, cipher))
            else:
                self._store(due_entries(head, now, None, cipher))
        if expired := self.index.tokens.due(now, DUE_MAX):
            waits = [(token, wait) for token in expired for wait in self.index.unheld_waits(token)]
            self._store(self._facts(expired_drafts(expired), now))
            for token, (head, wait_id) in waits:
                end = expired_end(token, wait_id, now)
                self._store(token_end_entries(head, end, now, None, seal(head.session_id)))
        for due in list(self.index.features.due(now, self.index.is_active)):
            self._store(self._facts((due,), now) if isinstance(due, Draft) else self._begun(due))
        self._arm()
        self._changed()

    def _require_alive(self) -> None:
        if self._is_dead:
            raise StoreUnavailable("the ledger is dead")
