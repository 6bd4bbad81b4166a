"""Writes one adoption's entries to disk: seals and buffers them, and sends one flush at a time, in order.

`FlushQueue` makes the next flush and notes the stored ones; a `Committer` sends each flush until it is answered.
Invariants: S-50 and S-52 (entries follow one another in seq and hash), S-60 (waiters are called only once the commit
has returned), S-62 (a flush carries epoch, first seq and previous hash). While the store fails, the same flush is sent
again until it is answered; nothing is dropped.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import count

from helmr.errors import HelmrError, Moved, OutcomeUnknown, Unavailable
from helmr_runtime.core import checkpoint as checkpoints
from helmr_runtime.core.checkpoint import INLINE_BYTES_MAX
from helmr_runtime.core.entries import Draft, Entry, stamp
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import CommitReply, Committed, Flush, Loaded, Precondition, Refused
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.security.payloads import CHECKPOINT, PayloadCipher

COMMIT_WAIT_S = 10.0
"""Seconds that a caller waits for its commit before it gets `OutcomeUnknown`."""

UNSAVED_MAX = 64
"""Most entries behind the newest checkpoint of a session that is given up right after a decision; readers read them one
by one. A checkpoint each time would make a command's cost grow with the session's past."""

FLUSH_AFTER_S = 0.002
"""Seconds that a decision may wait for the code's next op (one commit for an answer and the next wait)."""

BEGINS_AFTER_S = 0.1
"""Seconds that the start of a run may wait for its code's first op: no caller needs it sooner."""

RESEND_FIRST_S = 0.05
RESEND_MAX_S = 0.2

log = logging.getLogger("helmr.session")


class EntryWriter:
    """Makes entries and checkpoints, with the session's keys."""

    def __init__(self, loaded: Loaded) -> None:
        self._chain_key = loaded.chain_key
        keys = loaded.keys if loaded.keys is not None and loaded.keys.encrypts_payloads else None
        self._cipher = PayloadCipher(keys) if keys is not None else None

    def entries(self, state: SessionState, drafts: Sequence[Draft], now: datetime) -> list[Entry]:
        """Make the entries after the state's last one, none of them earlier than it (S-50)."""
        entries: list[Entry] = []
        at = now if state.last_at is None else max(now, state.last_at)
        seq, previous = state.seq, state.last_hash
        for draft in drafts:
            seq += 1
            entry = stamp(
                draft,
                session_id=state.id,
                seq=seq,
                recorded_at=at,
                clock_at=now,
                previous=previous,
                key=self._chain_key,
                cipher=self._cipher,
            )
            previous = entry.hash
            entries.append(entry)
        return entries

    def checkpoint(self, state: SessionState, offsets: Mapping[int, int]) -> str:
        """Return the state as one text; `offsets` as in `FlushQueue.offsets`."""
        text = checkpoints.save(state, offsets)
        if self._cipher is None:
            return text
        return self._cipher.seal(text, seq=state.seq, kind=CHECKPOINT)


class FlushQueue:
    """A session's entries on their way to disk: buffered, sent, stored.

    Args:
        state: The session as stored; entries of its changes are added here.
        writer: Makes checkpoints: after `CHECKPOINT_ENTRIES` entries, or as many as the last one held if that is more.
        unsaved_count: Stored entries that the newest checkpoint does not cover.
        offsets: The `offsets` that an earlier adoption left.
    """

    CHECKPOINT_ENTRIES = 10_000
    """A crash leaves up to this many to read one by one: 0.2 s, no more than their replay takes. Each checkpoint
    repeats all entries of the run, so a fixed interval would make a long run ever slower."""

    def __init__(
        self,
        state: SessionState,
        epoch: int,
        writer: EntryWriter,
        *,
        unsaved_count: int,
        offsets: dict[int, int],
    ) -> None:
        self._state = state
        self._epoch = epoch
        self._writer = writer
        self.buffer: list[Entry] = []
        """Entries not sent yet; each is added as it is applied to the state."""
        self.preconditions: list[Precondition] = []
        """Preconditions of the buffered entries."""
        self._stored_hash = state.last_hash
        self._unsaved_count = unsaved_count
        self._unsaved_max = self.CHECKPOINT_ENTRIES
        self._waiters: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self.durable_seq = state.seq
        self.offsets = offsets
        """Seq → feed offset of large entries written here; checkpoints name them."""
        self.is_sending = False
        """A flush is under way; the next one is not made before it is stored."""
        self.is_holding = False
        """Nothing is sent before `last`, which includes the buffer."""

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._state.id

    @property
    def can_send(self) -> bool:
        """The buffer is not empty, and may be sent now."""
        return bool(self.buffer) and not self.is_sending and not self.is_holding

    @property
    def is_stored(self) -> bool:
        """Everything decided is on disk."""
        return self.durable_seq == self._state.seq

    @property
    def unsaved_count(self) -> int:
        """Entries that the newest checkpoint does not cover, including buffered ones."""
        return self._unsaved_count + len(self.buffer)

    def next(self) -> Flush:
        """Return the buffer as the flush to send now; requires `can_send`."""
        assert self.can_send
        checkpoint = None
        if self.unsaved_count >= self._unsaved_max:
            checkpoint = self._writer.checkpoint(self._state, self.offsets)
            run = self._state.run
            held_count = len(run.journal) if run is not None else 0
            self._unsaved_max = max(self.CHECKPOINT_ENTRIES, held_count)
        return self._take_buffer(checkpoint)

    def alone(self, entries: Sequence[Entry], preconditions: tuple[Precondition, ...]) -> Flush:
        """Return a flush of entries that are not applied yet, because a fact outside the session decides."""
        assert not self.buffer
        assert not self.is_sending
        return self._flush(tuple(entries), preconditions)

    def last(self, unsaved_max: int = 0) -> Flush:
        """Return the flush that gives up the session, with the buffer; everything before it is on disk.

        Args:
            unsaved_max: A checkpoint is included if more entries than that are behind the newest one.
        """
        is_saved = unsaved_max and self.unsaved_count <= unsaved_max
        checkpoint = None if is_saved else self._writer.checkpoint(self._state, self.offsets)
        return self._take_buffer(checkpoint, release=True)

    def _take_buffer(self, checkpoint: str | None, *, release: bool = False) -> Flush:
        entries, preconditions = tuple(self.buffer), tuple(self.preconditions)
        self.buffer.clear()
        self.preconditions.clear()
        self.is_sending = True
        return self._flush(entries, preconditions, checkpoint=checkpoint, release=release)

    def _flush(
        self,
        entries: tuple[Entry, ...],
        preconditions: tuple[Precondition, ...],
        *,
        checkpoint: str | None = None,
        release: bool = False,
    ) -> Flush:
        return Flush(
            session_id=self._state.id,
            epoch=self._epoch,
            first_seq=self.durable_seq + 1,
            previous_hash=self._stored_hash,
            entries=entries,
            preconditions=preconditions,
            checkpoint=checkpoint,
            release=release,
        )

    def stored(self, flush: Flush, reply: Committed) -> None:
        """Note that the flush is on disk, and call its waiters."""
        self.is_sending = False
        self._unsaved_count = 0 if flush.checkpoint else self._unsaved_count + len(flush.entries)
        if not flush.entries:
            return
        for position, entry in enumerate(flush.entries):
            if len(entry.body_json) > INLINE_BYTES_MAX:
                self.offsets[entry.seq] = reply.first_feed_offset + position
        self.durable_seq, self._stored_hash = flush.entries[-1].seq, flush.entries[-1].hash
        while self._waiters and self._waiters[0][0] <= self.durable_seq:
            heapq.heappop(self._waiters)[2]()

    def when_stored(self, seq: int, call: Callable[[], None]) -> None:
        """Call once the entry with that seq is on disk, at once if it is already."""
        if seq <= self.durable_seq:
            call()
        else:
            heapq.heappush(self._waiters, (seq, next(self._order), call))


class Committer:
    """Sends the flushes of one adoption to the ledger, one at a time.

    Args:
        on_flushed: Called with the reply to a flush; it passes a stored one to `flushes`.
    """

    def __init__(
        self, ledger: Ledger, flushes: FlushQueue, on_flushed: Callable[[Flush, CommitReply], None]
    ) -> None:
        self._ledger = ledger
        self._flushes = flushes
        self._on_flushed = on_flushed
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._futures: set[asyncio.Future[bool]] = set()
        self.is_failing = False
        """The flush under way has failed at least once and is being sent again."""
        self.is_stopped = False

    def flush_soon(self, *, code_begins: bool = False) -> None:
        """Send the buffer within `FLUSH_AFTER_S`, or `BEGINS_AFTER_S`, unless `flush_now` comes first."""
        if not self._flushes.can_send:
            return
        loop = asyncio.get_running_loop()
        after_s = BEGINS_AFTER_S if code_begins else FLUSH_AFTER_S
        if self._timer is not None:
            if self._timer.when() <= loop.time() + after_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(after_s, self.flush_now)

    def flush_now(self) -> None:
        """Send the buffer now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushes.can_send and not self.is_stopped:
            sending = self._send_next(self._flushes.next())
            self._sending = asyncio.get_running_loop().create_task(sending)

    async def _send_next(self, flush: Flush) -> None:
        reply = await self.send(flush)
        self._sending = None
        self._on_flushed(flush, reply)

    async def send(self, flush: Flush) -> CommitReply:
        """Send one flush until it is answered: its name makes a repetition harmless."""
        pause_s = RESEND_FIRST_S
        while True:
            try:
                reply = await self._ledger.commit(flush)
            except Unavailable as error:
                self.is_failing = True
                log.warning("%s: the ledger does not answer: %s", flush.session_id, error.message)
                await asyncio.sleep(pause_s)
                pause_s = min(RESEND_MAX_S, pause_s * 2)
                if self.is_stopped:
                    return Refused(epoch=flush.epoch, seq=flush.first_seq)
            except HelmrError as error:
                log.error("%s: the ledger refused a flush: %s", flush.session_id, error.message)
                return Refused(epoch=flush.epoch, seq=flush.first_seq)
            else:
                self.is_failing = False
                return reply

    def durable(self, seq: int) -> asyncio.Future[bool]:
        """Return a future: true once the entry with that seq is on disk, false if this adoption ended before."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.is_stopped and seq > self._flushes.durable_seq:
            future.set_result(False)
            return future
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        self._flushes.when_stored(seq, lambda: None if future.done() else future.set_result(True))
        return future

    async def until_durable(self, seq: int) -> None:
        """Wait for a caller until that seq is on disk.

        Raises:
            OutcomeUnknown: It took more than `COMMIT_WAIT_S`.
            Moved: The session left this host before.
        """
        if seq <= self._flushes.durable_seq:
            return
        durable = self.durable(seq)
        await asyncio.wait({durable}, timeout=COMMIT_WAIT_S)
        if not durable.done():
            raise unknown_outcome(self._flushes.session_id)
        if not durable.result():
            raise Moved(f"{self._flushes.session_id} left this host")

    def free(self) -> None:
        """Release references, so that the session can leave memory; skipped while a flush is under way."""
        if self._sending is None and not self._flushes.is_sending:
            del self._on_flushed

    def stop(self) -> None:
        """End the adoption; nothing more is sent."""
        self.is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for future in tuple(self._futures):
            if not future.done():
                future.set_result(False)


def unknown_outcome(session_id: str) -> OutcomeUnknown:
    """Return the error for a caller whose commit is not answered in time."""
    return OutcomeUnknown(
        f"{session_id}: the commit was not answered within {COMMIT_WAIT_S:.0f} s", retry_after_s=1
    )
