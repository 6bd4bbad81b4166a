"""The writer's queued jobs: flushes, starts, the catalog. Each is checked against the index, then answered.

A job reads the file only for what memory no longer holds: an ended session's head, the entry that a repeated
operation's receipt stands in, an entry older than the last flush.

Sessions whose escalations are to run are read beside the group commit: what an escalation step does is on disk (S-82).

Idempotency keys of starts are looked up before a start is queued, many at a time, beside the commits. A key is known
for ever; memory has those of sessions that are open or ended lately, the table all others. A job that read the table
within its group would hold up every commit that shares the group, and a task that starts a thousand children is a
thousand such jobs. What a look has found holds for as long as memory has forgotten no session since.

Invariants: S-2.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from helmr.errors import HelmrError, MasterKeyMissing, SessionNotFound, StoreUnavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.core.entries import Entry, Principal
from helmr_runtime.core.fork import ForkSession
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.tokens import LedgerCommand, end_facts
from helmr_runtime.faults import Point, reach
from helmr_runtime.ledger.index.authored import (
    Chain,
    StartMatch,
    catalog_drafts,
    check_parent,
    find_start,
    fork_entries,
    forked,
    repeated_fork,
    repeated_start,
    start_entries,
)
from helmr_runtime.ledger.index.commands import decide, repeated, token_of, touched_by
from helmr_runtime.ledger.index.heads import Head, is_escalating, next_deadline
from helmr_runtime.ledger.index.ledger_index import (
    Accepted,
    AlreadyStored,
    LedgerIndex,
    NeedsLookup,
    OperationKnown,
    digest,
)
from helmr_runtime.ledger.index.lines import LineWriter, PlannedLine, again
from helmr_runtime.ledger.index.tokens import TokenHead
from helmr_runtime.ledger.log.group import GroupCommit
from helmr_runtime.ledger.log.group_builder import AuthoredEntries, Facts, Write
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ledger.tables.engine import Reader
from helmr_runtime.ports import (
    CommitReply,
    Committed,
    Declined,
    Flush,
    Loaded,
    OperationUnused,
    Refused,
    Started,
    StartSession,
    TokenNotCompleted,
    TokenOpen,
)
from helmr_runtime.ports.ledger import restore

logger = logging.getLogger(__name__)

KEYS_MAX = 1_000
"""Keys that one read looks for."""


class Looked(NamedTuple):
    """Result of a lookup: the start's `created_offset`, if any, and the count of forgotten sessions at that time."""

    offset: int | None
    forgotten: int


Query = Callable[[Reader], Mapping[str, int]]


class StartKeys:
    """Looks in the table for the keys that are asked for meanwhile.

    Args:
        in_reader: Runs a query on a reader's cursor.
        index: The ledger's memory.
    """

    def __init__(
        self, in_reader: Callable[[Query], Awaitable[Mapping[str, int]]], index: LedgerIndex
    ) -> None:
        self._in_reader = in_reader
        self._index = index
        self._asked: dict[str, list[asyncio.Future[Looked]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def of(self, start: StartSession) -> Looked | None:
        """Look up the start's key; None if it has none."""
        key = start.idempotency_key
        return await self.look(key_hash(key)) if key is not None else None

    async def offset(self, hashed: str, looked: Looked | None) -> int | None:
        """`created_offset` of the session started with that key, as of now, given what was found before."""
        if looked is None or looked.forgotten != self._index.forgotten:
            return (await self._read([hashed])).get(hashed)
        return looked.offset

    async def _read(self, keys: Sequence[str]) -> Mapping[str, int]:
        return await self._in_reader(lambda reader: reads.start_keys(reader, keys))

    async def look(self, hashed: str) -> Looked:
        """Look up the session that was started with this key.

        Raises:
            StoreUnavailable: The engine can't answer now.
        """
        future: asyncio.Future[Looked] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(hashed, []).append(future)
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_all())
        return await future

    async def _read_all(self) -> None:
        asked: dict[str, list[asyncio.Future[Looked]]] = {}
        try:
            while self._asked:
                asked = {key: self._asked.pop(key) for key in list(self._asked)[:KEYS_MAX]}
                forgotten = self._index.forgotten
                try:
                    found = await self._read(list(asked))
                except HelmrError as error:
                    _fail(asked, error)
                    continue
                for key, futures in asked.items():
                    for future in futures:
                        if not future.done():
                            future.set_result(Looked(found.get(key), forgotten))
        finally:
            self._reading = None
            _fail({**asked, **self._asked}, StoreUnavailable("the ledger is closing"))
            self._asked.clear()


def _fail(asked: Mapping[str, list[asyncio.Future[Looked]]], error: HelmrError) -> None:
    for futures in asked.values():
        for future in futures:
            if not future.done():
                future.set_exception(error)


T = TypeVar("T")


class Lookups(Protocol):
    """Reads from the file that a job may need."""

    async def head(self, session_id: str) -> Head | None:
        """The session's head, admitted to the index; None if there is no such session."""
        ...

    async def entry(self, feed_offset: int) -> Entry:
        """The entry at that offset."""
        ...

    async def hash_at(self, head: Head, seq: int) -> tuple[int, bytes] | None:
        """Feed offset and hash of a session's entry."""
        ...

    async def token(self, token_id: str) -> TokenHead | None:
        """The token, admitted to the index; None if there is none."""
        ...

    async def operation(self, operation_id: str) -> int | None:
        """Feed offset of an operation's entry, if memory no longer holds all of the day's."""
        ...


class PendingJob(Generic[T]):
    """A job with a caller who waits."""

    keys: frozenset[Hashable]
    outlasts = False

    def __init__(self) -> None:
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def answer(self, reply: T) -> None:
        """Answer the caller, if they still wait."""
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: HelmrError) -> None:
        """Answer with an error."""
        if not self.future.done():
            self.future.set_exception(error)
            # A caller that gave up looks at nothing; the loop shall not complain about that.
            self.future.exception()


class FlushJob(PendingJob[CommitReply]):
    """A live session's flush."""

    outlasts = True

    def __init__(self, flush: Flush, index: LedgerIndex, lookups: Lookups) -> None:
        super().__init__()
        operations = {
            digest(precondition.operation.id)
            for precondition in flush.preconditions
            if isinstance(precondition, OperationUnused)
        }
        self._tokens = {
            awaited_id
            for precondition in flush.preconditions
            if isinstance(precondition, TokenOpen | TokenNotCompleted)
            for awaited_id in precondition.awaits
        }
        self.keys = frozenset({flush.session_id, *operations, *self._tokens})
        self._flush = unplaced(flush)
        self._index = index
        self._lookups = lookups

    async def prepare(self) -> Write | None:
        """Check the flush; answered at once unless it fits."""
        flush = self._flush
        head = self._index.heads.get(flush.session_id) or await self._lookups.head(flush.session_id)
        if head is None:
            raise SessionNotFound(f"there is no session {flush.session_id}")
        for token_id in self._tokens:
            await self._lookups.token(token_id)
        verdict = self._index.check(flush)
        if isinstance(verdict, Accepted) and not verdict.is_sure:
            verdict = await self._forgotten_operation() or verdict
        match verdict:
            case Accepted():
                return Write(
                    flush.session_id,
                    flush.entries,
                    flush=flush,
                    stored=self._stored,
                    failed=self.fail,
                )
            case AlreadyStored(first):
                self._done(head, first)
            case NeedsLookup(seq, hashed, count):
                found = await self._lookups.hash_at(head, seq)
                if found is not None and found[1] == hashed:
                    self._done(head, found[0] - count + 1)
                else:
                    self.answer(Refused(epoch=head.epoch, seq=head.next_seq))
            case OperationKnown(precondition, offset):
                entry = await self._lookups.entry(offset)
                self.answer(Declined(precondition=precondition, facts={"entry": entry}))
            case Declined(facts={"ended_offset": offset, "status": status}):
                entry = await self._lookups.entry(int(offset))
                facts = {**verdict.facts, **end_facts(str(status), entry)}
                self.answer(replace(verdict, facts=facts))
            case Declined() | Refused():
                self.answer(verdict)
        return None

    async def _forgotten_operation(self) -> OperationKnown | None:
        for precondition in self._flush.preconditions:
            if isinstance(precondition, OperationUnused):
                offset = await self._lookups.operation(precondition.operation.id)
                if offset is not None:
                    return OperationKnown(precondition, offset)
        return None

    def _stored(self, write: Write) -> None:
        head = self._index.heads[write.session_id]
        offset = write.entries[0].feed_offset if write.entries else head.last_offset
        assert offset is not None
        self._done(head, offset)

    def _done(self, head: Head, first_feed_offset: int) -> None:
        self.answer(
            Committed(first_feed_offset=first_feed_offset, next_deadline_at=next_deadline(head))
        )


class StartJob(PendingJob[Started]):
    """The conditional write that creates a session (S-2).

    Args:
        keys: Looks idempotency keys up.
        looked: What was found of its idempotency key before it was queued.
    """

    def __init__(
        self,
        start: StartSession,
        index: LedgerIndex,
        lookups: Lookups,
        clock: Clock,
        chain: Chain,
        keys: StartKeys,
        looked: Looked | None,
    ) -> None:
        super().__init__()
        self._keys = keys
        self._looked = looked
        names = (
            start.operation.id if start.operation is not None else None,
            key_hash(start.idempotency_key) if start.idempotency_key is not None else None,
            start.external_id,
        )
        # Its parent's end is decided before, or else finds the child.
        parents = {start.parent.session_id} if start.parent is not None else set()
        known = (digest(name) for name in names if name is not None)
        self.keys = frozenset({start.session_id, *parents, *known})
        self._start = start
        self._index = index
        self._lookups = lookups
        self._clock = clock
        self._chain = chain
        self._line: LineJob | None = None

    def bring(self, line: LineJob) -> None:
        """Write the line in the same commit, if this start creates the session."""
        self._line = line
        self.keys |= line.keys

    async def prepare(self) -> tuple[Write, ...] | None:
        """Answer a repeated start, else make the session's first entries."""
        start = self._start
        self._index.people.disabled.check(start.principal)
        match = await self._match()
        if match is not None:
            entry = await self._lookups.entry(match.feed_offset)
            self.answer(repeated_start(start, match, entry))
            return None
        if start.parent is not None:
            await self._lookups.head(start.parent.session_id)
            check_parent(self._index, start)
        key, key_id = self._chain.new(start.session_id)
        cipher = self._chain.bodies.cipher(start.session_id)
        entries = start_entries(start, self._clock.now(), key, key_id, cipher)
        write = Write(start.session_id, entries, stored=self._stored, failed=self.fail)
        return (write, *await self._beside())

    async def _beside(self) -> tuple[Write, ...]:
        if self._line is None:
            return ()
        try:
            line = await self._line.prepare()
        except HelmrError as error:
            self._line.fail(error)
            return ()
        return (line,) if line is not None else ()

    async def _match(self) -> StartMatch | None:
        start = self._start
        match = find_start(self._index, start)
        if match is not None and match.by == "operation":
            return match
        if start.operation is not None:
            offset = await self._lookups.operation(start.operation.id)
            if offset is not None:
                return StartMatch("operation", offset)
        if start.idempotency_key is not None and (match is None or match.by != "key"):
            offset = await self._keys.offset(key_hash(start.idempotency_key), self._looked)
            if offset is not None:
                return StartMatch("key", offset)
        return match

    def _stored(self, write: Write) -> None:
        start = self._start
        self.answer(Started(session_id=start.session_id, run_id=start.run_id, created=True))


class LineJob(PendingJob[Mapping[str, Any] | None]):
    """A line; answered with its receipt, or None if its session is not as it was when this was planned."""

    def __init__(
        self,
        planned: PlannedLine,
        lines: LineWriter,
        index: LedgerIndex,
        lookups: Lookups,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__()
        line = planned.line
        assert line.start.external_id is not None
        names = {planned.session_id, digest(line.start.external_id)}
        if line.send.operation is not None:
            names.add(digest(line.send.operation.id))
        self.keys: frozenset[Hashable] = frozenset(names)
        self._planned = planned
        self._lines = lines
        self._index = index
        self._lookups = lookups
        self._now = now
        self._reply: Mapping[str, Any] = {}

    @property
    def is_written(self) -> bool:
        """It is on disk."""
        future = self.future
        return future.done() and not future.exception() and future.result() is not None

    async def prepare(self) -> Write | None:
        """Answer a repeated line, else make its entries."""
        line = self._planned.line
        if line.send.operation is not None:
            offset = self._index.operations.offset_of(line.send.operation.id)
            if offset is None:
                offset = await self._lookups.operation(line.send.operation.id)
            if offset is not None:
                self.answer(again(line, await self._lookups.entry(offset)))
                return None
        written = self._lines.write(self._planned, self._now())
        if written is None or not written.entries:
            self.answer(written.reply if written is not None else None)
            return None
        self._reply = written.reply
        session_id = self._planned.session_id
        return Write(session_id, written.entries, stored=self._stored, failed=self.fail)

    def _stored(self, write: Write) -> None:
        self._lines.stored(self._planned, write.entries)
        self.answer(self._reply)


class ForkJob(PendingJob[Mapping[str, Any]]):
    """The write that creates a fork.

    Args:
        origin: All entries of its origin, which are never changed.
    """

    def __init__(
        self,
        fork: ForkSession,
        origin: Sequence[Entry],
        index: LedgerIndex,
        lookups: Lookups,
        clock: Clock,
        chain: Chain,
    ) -> None:
        super().__init__()
        self.keys = frozenset({fork.session_id, digest(fork.operation.id)})
        self._fork = fork
        self._origin = origin
        self._index = index
        self._lookups = lookups
        self._clock = clock
        self._chain = chain

    async def prepare(self) -> Write | None:
        """Answer a repeated fork, else copy."""
        fork = self._fork
        self._index.people.disabled.check(fork.principal)
        offset = self._index.operations.offset_of(fork.operation.id)
        if offset is None:
            offset = await self._lookups.operation(fork.operation.id)
        if offset is not None:
            self.answer(repeated_fork(fork, await self._lookups.entry(offset)))
            return None
        key, key_id = self._chain.new(fork.session_id)
        cipher = self._chain.bodies.cipher(fork.session_id)
        entries = fork_entries(fork, self._origin, self._clock.now(), key, key_id, cipher)
        return Write(
            fork.session_id,
            entries,
            stored=lambda write: self.answer(forked(write.entries)),
            failed=self.fail,
        )


class EscalationJob:
    """Steps of the escalation of a session that no one holds (S-82); no one waits for it.

    Args:
        state: The session as it was read; if it has gone on since, there is nothing to do.
        index: The ledger's memory.
        own: Makes the entries.
        now: The ledger's time.
    """

    def __init__(
        self,
        state: SessionState,
        index: LedgerIndex,
        own: AuthoredEntries,
        now: Callable[[], datetime],
    ) -> None:
        awaits = state.wait.awaits if state.wait is not None else ()
        self.outlasts = True
        self.keys: frozenset[Hashable] = frozenset({state.id, *awaits})
        self._state = state
        self._index = index
        self._own = own
        self._now = now

    async def prepare(self) -> Write | None:
        """Return the escalation steps that are due now; None if another commit came first."""
        head, now = self._index.heads.get(self._state.id), self._now()
        if head is None:
            return None
        if not is_escalating(head, now) or head.next_seq != self._state.seq + 1:
            self._index.reindex(head, now)
        elif not self._index.may_time_out(head):
            self._index.work.deliver(head, now)
        else:
            reach(Point.LEDGER_TIMING_OUT)
            entries = self._own.escalate(head, self._state, now)
            return Write(head.session_id, entries, failed=self.fail)
        return None

    def fail(self, error: HelmrError) -> None:
        """Not now; one whose key is gone waits for who brings it back."""
        logger.error("the escalation of %s can't be run: %s", self._state.id, error)
        head = self._index.heads.get(self._state.id)
        if head is not None and not isinstance(error, MasterKeyMissing):
            self._index.reindex(head, self._now())


class CatalogJob(PendingJob[bool]):
    """A new catalog with what it means for features, if its code hash is new. Answers whether it was written."""

    def __init__(
        self,
        catalog: Mapping[str, Any],
        principal: Principal,
        index: LedgerIndex,
        lookups: Lookups,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__()
        self.keys = frozenset({"catalog", *index.features.parts})
        self._catalog = catalog
        self._principal = principal
        self._index = index
        self._lookups = lookups
        self._now = now

    async def prepare(self) -> Facts | None:
        """Compare with the catalog that is there."""
        self._index.features.held_until = None  # this code is what counts, new or not
        if self._index.catalog_offset:
            entry = await self._lookups.entry(self._index.catalog_offset)
            if entry.body["code_hash"] == self._catalog["code_hash"]:
                self.answer(False)
                return None
        now = self._now()
        drafts = catalog_drafts(self._catalog, self._principal, self._index, now)
        return Facts(drafts, now, stored=lambda _: self.answer(True), failed=self.fail)


class LedgerCommandJob(PendingJob[Mapping[str, Any]]):
    """A fact of the system stream: a token, its end, a public token, an API key.

    Args:
        now: The time of a decision made now, not before the last fact's.
    """

    def __init__(
        self, fact: LedgerCommand, index: LedgerIndex, lookups: Lookups, now: Callable[[], datetime]
    ) -> None:
        super().__init__()
        names: set[Hashable] = set(touched_by(fact, index.features.parts))
        token_id = token_of(fact)
        token = index.tokens.get(token_id) if token_id is not None else None
        if token is not None and token.session_id != index.system.session_id:
            # Its session's cancellation ends it too: the two are decided one after the other.
            names.add(token.session_id)
        if fact.operation is not None:
            names.add(digest(fact.operation.id))
        self.keys = frozenset(names)
        self._fact = fact
        self._index = index
        self._lookups = lookups
        self._now = now

    async def prepare(self) -> Facts | None:
        """Answer a repeated operation, else decide."""
        fact = self._fact
        if fact.operation is not None:
            offset = self._index.operations.offset_of(fact.operation.id)
            if offset is None:
                offset = await self._lookups.operation(fact.operation.id)
            if offset is not None:
                self.answer(repeated(self._index, fact, await self._lookups.entry(offset)))
                return None
        token_id = token_of(fact)
        token = await self._lookups.token(token_id) if token_id is not None else None
        ended_by = (
            await self._lookups.entry(token.ended_offset)
            if token is not None and token.ended_offset
            else None
        )
        now = self._now()
        decided = decide(self._index, fact, now, ended_by)
        if not decided.drafts:
            self.answer(decided.reply)
            return None
        return Facts(
            decided.drafts, now, stored=lambda _: self.answer(decided.reply), failed=self.fail
        )


class LeasesJob(PendingJob[None]):
    """Nothing but the adoptions and releases that memory holds: on disk when answered."""

    outlasts = True

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.keys = frozenset({head.session_id})
        self._head = head

    async def prepare(self) -> Write | None:
        """A write without entries; what is unsaved rides along."""
        return Write(
            self._head.session_id, (), stored=lambda _: self.answer(None), failed=self.fail
        )


def unplaced(flush: Flush) -> Flush:
    """The flush with entries that have no feed offset yet, whatever its sender put there."""
    if all(entry.feed_offset is None for entry in flush.entries):
        return flush
    entries = tuple(replace(entry, feed_offset=None) for entry in flush.entries)
    return replace(flush, entries=entries)


AGAIN_AFTER = timedelta(seconds=1)
"""When a session is read again that could not be."""


class Escalations:
    """One session is read after the other, so that adoptions find a reader free.

    Args:
        snapshot: The session as it is on disk.
        group: Decides on that state.
        own: Makes the entries.
        clock: Tells when.
    """

    def __init__(
        self,
        snapshot: Callable[[str], Awaitable[Loaded]],
        group: Callable[[], GroupCommit],
        own: AuthoredEntries,
        clock: Clock,
    ) -> None:
        self._snapshot = snapshot
        self._group = group
        self._own = own
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def add(self, head: Head) -> None:
        """An escalation step of that session is due, and its timer is disarmed."""
        self._add(head.session_id)

    def _add(self, session_id: str) -> None:
        self._waiting.append(session_id)
        if self._task is None and not self._is_closed:
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name="ledger-escalations"
            )

    async def close(self) -> None:
        """Read nothing more; the next opening finds what is due."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._one(self._waiting.popleft())
        finally:
            self._task = None

    async def _one(self, session_id: str) -> None:
        try:
            loaded = await self._snapshot(session_id)
            state, group = restore(session_id, loaded), self._group()
            group.submit(EscalationJob(state, group.index, self._own, self._clock.now))
        except HelmrError as error:
            logger.error("the escalation of %s can't be run: %s", session_id, error)
            if isinstance(error, StoreUnavailable):
                at = self._clock.now() + AGAIN_AFTER
                self._clock.call_at(at, lambda: self._add(session_id))
