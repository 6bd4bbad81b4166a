"""One adoption's way to the disk: entries are sealed, buffered, and written as one flush at a time, in order.

`FlushQueue` says what is to be sent next and learns what was stored; a `Committer` sends each flush until it is
answered. Invariants: S-50 and S-52 (entries follow one another in seq and hash), S-60 (waiters hear only when the
commit has returned), S-62 (a flush carries epoch, first seq and previous hash). While the store fails, the same flush
is sent again until it is answered; nothing is thrown away.
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
"""A caller waits this long for its commit, then gets `OutcomeUnknown`."""

UNSAVED_MAX = 64
"""Entries behind the newest checkpoint of a session that was given up as soon as it was decided: anyone who reads it
reads them one by one. With a checkpoint for each, what a command costs would grow with what the session has done."""

FLUSH_AFTER_S = 0.002
"""How long a decision may wait for what the code does next (one commit for an answer and the next wait)."""

BEGINS_AFTER_S = 0.1
"""How long the start of a run may wait for the first thing that its code asks for: no one hears of it sooner."""

RESEND_FIRST_S = 0.05
RESEND_MAX_S = 0.2

log = logging.getLogger("helmr.session")


class EntryWriter:
    """Makes what is stored, with the keys that came with the session."""

    def __init__(self, loaded: Loaded) -> None:
        self._chain_key = loaded.chain_key
        keys = loaded.keys if loaded.keys is not None and loaded.keys.encrypts_payloads else None
        self._cipher = PayloadCipher(keys) if keys is not None else None

    def entries(self, state: SessionState, drafts: Sequence[Draft], now: datetime) -> list[Entry]:
        """The entries that follow the state's last one, none of them earlier than that (S-50)."""
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
        """The state as one text; `offsets` as `FlushQueue.offsets`."""
        text = checkpoints.save(state, offsets)
        if self._cipher is None:
            return text
        return self._cipher.seal(text, seq=state.seq, kind=CHECKPOINT)


class FlushQueue:
    """What of a session's entries is stored, on its way, and buffered.

    Args:
        state: The session as it is stored; as decisions change it, their entries are added here.
        epoch: Of the adoption.
        writer: Makes checkpoints: one after `CHECKPOINT_ENTRIES` entries, and again after as many as the last one held,
            if they are more.
        unsaved_count: Stored entries that the newest checkpoint does not cover.
        offsets: What an earlier adoption left as `offsets`.
    """

    CHECKPOINT_ENTRIES = 10_000
    """After a crash as many are read one by one: 0.2 s, no more than their replay takes. Each checkpoint holds all
    entries of the run again, so that one every so many would take a long run ever more time."""

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
        """Entries that are not sent yet; each is put here as it is applied to the state."""
        self.preconditions: list[Precondition] = []
        """Of what is in the buffer."""
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
        """Nothing is sent before `last`, which takes what is buffered along."""

    @property
    def session_id(self) -> str:
        """Whose."""
        return self._state.id

    @property
    def can_send(self) -> bool:
        """There is something to send, and it may be sent now."""
        return bool(self.buffer) and not self.is_sending and not self.is_holding

    @property
    def is_stored(self) -> bool:
        """Everything decided is on disk."""
        return self.durable_seq == self._state.seq

    @property
    def unsaved_count(self) -> int:
        """Entries that the newest checkpoint does not cover, with those that are buffered."""
        return self._unsaved_count + len(self.buffer)

    def next(self) -> Flush:
        """What is buffered, as the flush that is sent now: `can_send`."""
        assert self.can_send
        checkpoint = None
        if self.unsaved_count >= self._unsaved_max:
            checkpoint = self._writer.checkpoint(self._state, self.offsets)
            run = self._state.run
            held_count = len(run.journal) if run is not None else 0
            self._unsaved_max = max(self.CHECKPOINT_ENTRIES, held_count)
        return self._take_buffer(checkpoint)

    def alone(self, entries: Sequence[Entry], preconditions: tuple[Precondition, ...]) -> Flush:
        """A flush of entries that are not applied yet, because a fact outside the session decides."""
        assert not self.buffer
        assert not self.is_sending
        return self._flush(tuple(entries), preconditions)

    def last(self, unsaved_max: int = 0) -> Flush:
        """The flush that gives the session up, with what is buffered; everything before that is on disk.

        Args:
            unsaved_max: A checkpoint goes with it if more entries than that are behind the newest one.
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
        """That flush is on disk: call what has waited for it."""
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
        """Call when the entry with that seq is on disk, at once if it is."""
        if seq <= self.durable_seq:
            call()
        else:
            heapq.heappush(self._waiters, (seq, next(self._order), call))


class Committer:
    """Sends the flushes of one adoption to the ledger, one at a time.

    Args:
        ledger: Where they go.
        flushes: What is to be sent.
        on_flushed: Called with the answer to a flush, which it gives to `flushes` if it was stored.
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
        """Send what is buffered within `FLUSH_AFTER_S`, or `BEGINS_AFTER_S`, unless `flush_now` comes first."""
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
        """Send what is buffered."""
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
        """A future that is true when the entry with that seq is on disk, false when this adoption ended before."""
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
        """No one asks any more: the session can leave memory. One whose flush is under way stays."""
        if self._sending is None and not self._flushes.is_sending:
            del self._on_flushed

    def stop(self) -> None:
        """This adoption is over; nothing more is sent."""
        self.is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for future in tuple(self._futures):
            if not future.done():
                future.set_result(False)


def unknown_outcome(session_id: str) -> OutcomeUnknown:
    """What a caller gets whose commit is not answered in time."""
    return OutcomeUnknown(
        f"{session_id}: the commit was not answered within {COMMIT_WAIT_S:.0f} s", retry_after_s=1
    )
