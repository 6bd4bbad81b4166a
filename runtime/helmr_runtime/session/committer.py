"""One adoption's stream of flushes: what was decided goes to the ledger in order, one flush at a
time.

Invariants: S-60 (waiters are told only when the commit has returned), S-62 (a flush carries epoch,
    first seq and previous hash). While the store fails, the same flush is sent again until it is
    answered; nothing is thrown away.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from itertools import count

from helmr.errors import HelmrError, Unavailable
from helmr_runtime.core.checkpoint import INLINE_BYTES_MAX
from helmr_runtime.core.entries import Entry
from helmr_runtime.ports import CommitReply, Committed, Flush, Ledger, Precondition, Refused

FLUSH_AFTER_S = 0.002
"""How long a decision may wait for what the code does next (one commit for an answer and
the next wait).
"""

RESEND_FIRST_S = 0.05
RESEND_MAX_S = 0.2

log = logging.getLogger("helmr.session")


class Committer:
    """Buffers sealed entries and writes them.

    Args:
        ledger: Where flushes go.
        session_id: Whose entries.
        epoch: Of the adoption.
        last_seq: Seq of the last stored entry.
        last_hash: Its hash.
        unsaved_count: Stored entries that the newest checkpoint does not cover.
        offsets: What an earlier adoption left as `offsets`.
        checkpoint: Makes the checkpoint text of the state at the last buffered entry; called after
            `CHECKPOINT_ENTRIES` entries, and again after as many as the last one held, if they are more.
        held_count: How many entries a checkpoint made now would hold.
        on_lost: Called once when a flush is declined or refused: this adoption is over.
    """

    CHECKPOINT_ENTRIES = 10_000
    """After a crash as many are read one by one: 0.2 s, no more than their replay takes. Each checkpoint holds all
    entries of the run again, so that one every so many would take a long run ever more time."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        session_id: str,
        epoch: int,
        last_seq: int,
        last_hash: bytes,
        unsaved_count: int,
        offsets: dict[int, int],
        checkpoint: Callable[[], str],
        held_count: Callable[[], int],
        on_lost: Callable[[CommitReply], None],
    ) -> None:
        self._ledger = ledger
        self._session_id = session_id
        self._epoch = epoch
        self._checkpoint = checkpoint
        self._held_count = held_count
        self._on_lost = on_lost
        self._buffer: list[Entry] = []
        self._preconditions: list[Precondition] = []
        self._sent_seq = last_seq
        self._sent_hash = last_hash
        self._unsaved_count = unsaved_count
        self._unsaved_max = self.CHECKPOINT_ENTRIES
        self._waiters: list[tuple[int, int, Callable[[], None]]] = []
        self._futures: set[asyncio.Future[bool]] = set()
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._pump: asyncio.Task[None] | None = None
        self.durable_seq = last_seq
        self.offsets = offsets
        """Seq → feed offset of large entries written here; checkpoints name them."""
        self.is_failing = False
        """The flush under way has failed at least once and is being sent again."""
        self.is_lost = False
        self.is_holding = False
        """Nothing is written before `release`, which takes what is buffered along."""

    def add(self, entry: Entry, preconditions: tuple[Precondition, ...] = ()) -> None:
        """Take an entry whose seq follows the last one's."""
        self._buffer.append(entry)
        self._preconditions.extend(preconditions)

    def when_durable(self, seq: int, call: Callable[[], None]) -> None:
        """Call when the entry with that seq is on disk, at once if it is."""
        if seq <= self.durable_seq:
            call()
        else:
            heapq.heappush(self._waiters, (seq, next(self._order), call))

    def durable(self, seq: int) -> asyncio.Future[bool]:
        """A future that is true when the entry with that seq is on disk, false when this adoption ended before."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.is_lost and seq > self.durable_seq:
            future.set_result(False)
            return future
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        self.when_durable(seq, lambda: None if future.done() else future.set_result(True))
        return future

    def flush_soon(self) -> None:
        """Write within `FLUSH_AFTER_S`, unless `flush_now` comes first."""
        if self._timer is None and self._pump is None and self._buffer and not self.is_holding:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self.flush_now)

    def flush_now(self) -> None:
        """Write what is buffered; what comes meanwhile follows at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pump is None and self._buffer and not self.is_lost and not self.is_holding:
            self._pump = asyncio.get_running_loop().create_task(self._write_all())

    async def write_alone(
        self, entries: tuple[Entry, ...], preconditions: tuple[Precondition, ...]
    ) -> CommitReply:
        """Write entries that are not applied yet because a fact outside the session decides
        (nothing is buffered).
        """
        assert not self._buffer
        assert self._pump is None
        flush = self._flush(entries, preconditions)
        reply = await self._send(flush)
        if isinstance(reply, Committed):
            self._sent_seq, self._sent_hash = entries[-1].seq, entries[-1].hash
            self._stored(flush, reply)
        return reply

    @property
    def unsaved_count(self) -> int:
        """Entries that the newest checkpoint does not cover, with those that are buffered."""
        return self._unsaved_count + len(self._buffer)

    async def release(self, checkpoint: str | None) -> CommitReply:
        """The commit that clears the holder, with what is buffered; everything before that is on disk."""
        entries, preconditions = tuple(self._buffer), tuple(self._preconditions)
        self._buffer.clear()
        self._preconditions.clear()
        flush = self._flush(entries, preconditions, checkpoint=checkpoint, release=True)
        reply = await self._send(flush)
        if isinstance(reply, Committed):
            self._stored(flush, reply)
        return reply

    def stop(self) -> None:
        """This adoption is over; nothing more is sent."""
        self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        for future in tuple(self._futures):
            if not future.done():
                future.set_result(False)

    async def _write_all(self) -> None:
        try:
            while self._buffer and not self.is_lost:
                entries = tuple(self._buffer)
                checkpoint = None
                if self._unsaved_count + len(entries) >= self._unsaved_max:
                    checkpoint = self._checkpoint()
                    self._unsaved_max = max(self.CHECKPOINT_ENTRIES, self._held_count())
                flush = self._flush(entries, tuple(self._preconditions), checkpoint=checkpoint)
                self._buffer.clear()
                self._preconditions.clear()
                self._sent_seq, self._sent_hash = entries[-1].seq, entries[-1].hash
                reply = await self._send(flush)
                if isinstance(reply, Committed):
                    self._stored(flush, reply)
                else:
                    self.stop()
                    self._on_lost(reply)
        finally:
            self._pump = None

    def _flush(
        self,
        entries: tuple[Entry, ...],
        preconditions: tuple[Precondition, ...],
        *,
        checkpoint: str | None = None,
        release: bool = False,
    ) -> Flush:
        return Flush(
            session_id=self._session_id,
            epoch=self._epoch,
            first_seq=self._sent_seq + 1,
            previous_hash=self._sent_hash,
            entries=entries,
            preconditions=preconditions,
            checkpoint=checkpoint,
            release=release,
        )

    async def _send(self, flush: Flush) -> CommitReply:
        """Send one flush until it is answered: its name makes a repetition harmless."""
        pause_s = RESEND_FIRST_S
        while True:
            try:
                reply = await self._ledger.commit(flush)
            except Unavailable as error:
                self.is_failing = True
                log.warning("%s: the ledger does not answer: %s", self._session_id, error.message)
                await asyncio.sleep(pause_s)
                pause_s = min(RESEND_MAX_S, pause_s * 2)
                if self.is_lost:
                    return Refused(epoch=self._epoch, seq=flush.first_seq)
            except HelmrError as error:
                log.error("%s: the ledger refused a flush: %s", self._session_id, error.message)
                return Refused(epoch=self._epoch, seq=flush.first_seq)
            else:
                self.is_failing = False
                return reply

    def _stored(self, flush: Flush, reply: Committed) -> None:
        self._unsaved_count = 0 if flush.checkpoint else self._unsaved_count + len(flush.entries)
        if not flush.entries:
            return
        for position, entry in enumerate(flush.entries):
            if len(entry.body_json) > INLINE_BYTES_MAX:
                self.offsets[entry.seq] = reply.first_feed_offset + position
        self.durable_seq = flush.entries[-1].seq
        while self._waiters and self._waiters[0][0] <= self.durable_seq:
            heapq.heappop(self._waiters)[2]()
