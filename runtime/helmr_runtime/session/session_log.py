"""What happens to one live session on its way to the disk: stamped, applied to the state, written in order.

Commands and code both write here, and both learn here when what they wrote is stored. Invariants: S-11 and S-24
(decisions take turns), S-53 (the state is the fold of what was written), S-60 (nothing is answered before it is on
disk), S-62 (all writes go through one committer).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from helmr.errors import Moved, OutcomeUnknown, StoreUnavailable
from helmr_runtime.catalog import Registered
from helmr_runtime.clock import Clock
from helmr_runtime.core.checkpoint import saved_at
from helmr_runtime.core.decide import Context
from helmr_runtime.core.entries import Draft, Entry
from helmr_runtime.core.run import Wait
from helmr_runtime.ports import CommitReply, Committed, Declined, Ledger, Loaded, Precondition
from helmr_runtime.ports.restoring import restore
from helmr_runtime.session.committer import Committer
from helmr_runtime.session.entry_writer import EntryWriter
from helmr_runtime.session.session_claims import SessionClaims
from helmr_runtime.session.validation import fits_schema, policy_of
from helmr_runtime.session.warm_cache import WarmState

COMMIT_WAIT_S = 10.0
"""A caller waits so long for its commit, then is told that the outcome is unknown."""

log = logging.getLogger("helmr.session")


class Phase(Enum):
    """How a live session stands to its host: `LIVE ⇄ PARKING`, `LIVE → LEAVING`, and `OVER` after any."""

    LIVE = "live"
    """Its code runs here."""
    RETIRING = "retiring"
    """Parts of earlier code did not end: it is decided here, and what is to run runs elsewhere."""
    PARKING = "parking"
    """Its code is being cut off; what is decided meanwhile keeps it here."""
    LEAVING = "leaving"
    """One command is decided and the session given up in the same commit; no code runs."""
    OVER = "over"
    """Given up or lost; nothing more is written."""


class SessionLog:
    """The state of one adopted session and the entries that are added to it.

    Args:
        loaded: What the ledger gave.
        kept: What an earlier adoption by this host has left, if the ledger says that it is the newest.
        find: The task of that id in this host's code.
        on_entry: Called with an entry that was applied, the wait that was open before it, and whether the code may
            hear of it only when it is on disk.
        on_written: Called when there is something to go on from.
        on_change: Called whenever what can be told of the session may be another.
        on_lost: Called once when the ledger refused an entry: the adoption is over against our will.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        session_id: str,
        kept: WarmState | None,
        ledger: Ledger,
        clock: Clock,
        find: Callable[[str], Registered | None],
        on_entry: Callable[[Entry, Wait | None, bool], None],
        on_written: Callable[[], None],
        on_change: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.epoch = loaded.epoch
        if kept is not None:
            self.state, unsaved_count, offsets = kept.state, kept.unsaved_count, kept.offsets
            if loaded.checkpoint_offset is not None and not unsaved_count:
                saved_at(self.state, loaded.checkpoint_offset)
        else:
            self.state, unsaved_count, offsets = (
                restore(session_id, loaded),
                len(loaded.entries),
                {},
            )
        self.registered = find(self.state.task)
        self.phase = Phase.LIVE
        self.left: WarmState | None = None
        """What the next adoption by this host may go on from, once the session is given up."""
        self.in_flight = 0
        """What is being decided or awaits its commit."""
        self.turn = asyncio.Lock()
        """Held by whoever decides; always `under_way`."""
        self.hold_seq = 0
        """Code that is not here yet starts only when this seq is on disk (S-3, caution after a crash)."""
        self._clock = clock
        self._writer = EntryWriter(loaded)
        self.claims = SessionClaims(loaded.claims)
        self._on_entry = on_entry
        self._on_written = on_written
        self._on_change = on_change
        self._on_lost = on_lost
        self._is_exclusive = False
        self._deferred: list[Callable[[], None]] = []
        self._committer = Committer(
            ledger,
            session_id=session_id,
            epoch=loaded.epoch,
            last_seq=self.state.seq,
            last_hash=self.state.last_hash,
            unsaved_count=unsaved_count,
            offsets=offsets,
            checkpoint=self._checkpoint,
            held_count=lambda: len(run.journal) if (run := self.state.run) is not None else 0,
            on_lost=self._lost,
        )

    # --- phases ---------------------------------------------------------------------------------

    def enter(self, phase: Phase) -> None:
        """Change the phase, and have told what that changes."""
        self.phase = phase
        if phase is Phase.OVER:
            self._committer.stop()
        else:
            self._on_change()

    @property
    def is_over(self) -> bool:
        """Given up or lost."""
        return self.phase is Phase.OVER

    @property
    def hears_code(self) -> bool:
        """What the session's code asks for counts (S-34)."""
        return self.phase in (Phase.LIVE, Phase.RETIRING)

    @property
    def is_stored(self) -> bool:
        """Everything decided is on disk, or never will be."""
        return self.is_over or self._committer.durable_seq == self.state.seq

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Something is decided: the session can't be parked, and at the end what has become of it is told.

        Whatever takes `turn` does so in here. A lock that kept the session from parking and told nobody when it was
        let go of would keep the session in its slot for ever.
        """
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.is_over:
                self._on_change()

    def _lost(self, reply: CommitReply) -> None:
        log.warning("%s: lost at epoch %d: %s", self.state.id, self.epoch, type(reply).__name__)
        self.enter(Phase.OVER)
        self._on_lost(type(reply).__name__.lower())

    # --- writing --------------------------------------------------------------------------------

    def context(self, carried: datetime | None = None) -> Context:
        """The circumstances of a decision made now."""
        times = (self._clock.now(), carried, self.state.last_at)
        return Context(
            now=max(t for t in times if t is not None),
            policy=policy_of(self.state, self.registered),
            is_hot=self.phase is not Phase.LEAVING and self.registered is not None,
            fits=fits_schema,
            claims=self.claims.of(self.state.wait),
        )

    def write(
        self, drafts: Sequence[Draft], preconditions: tuple[Precondition, ...] = ()
    ) -> list[Entry]:
        """Stamp, apply and buffer; the flush follows soon. Returns their entries.

        Raises:
            Moved: The session left this host; whoever has its state now writes it.
        """
        if drafts and self.is_over:
            raise Moved(f"{self.state.id} left this host")
        run = self.state.run
        is_cautious = run is not None and run.is_cautious
        entries = self._stamp(drafts)
        if is_cautious and entries:
            self.hold_seq = entries[-1].seq
        for position, entry in enumerate(entries):
            self._committer.add(entry, preconditions if position == 0 else ())
            self._apply(entry, is_cautious=is_cautious)
        if entries:
            self._committer.flush_soon()
            self._on_written()
        return entries[len(entries) - len(drafts) :]

    async def commit_alone(
        self, drafts: Sequence[Draft], preconditions: tuple[Precondition, ...]
    ) -> CommitReply:
        """Commit, and apply only what was stored: this decision never runs ahead. Within `exclusive`."""
        entries = self._stamp(drafts)
        reply = await self._committer.write_alone(tuple(entries), preconditions)
        if isinstance(reply, Committed):
            for entry in entries:
                self._apply(entry, is_cautious=False)
            self._on_written()
        elif not isinstance(reply, Declined):
            self._lost(reply)
        return reply

    def _stamp(self, drafts: Sequence[Draft]) -> list[Entry]:
        """Their entries, behind those of claims that are not in the transcript yet."""
        now = self.context().now
        ahead = self.claims.ahead_of(drafts, self.state.wait, now)
        return self._writer.entries(self.state, (*ahead, *drafts), now)

    def _apply(self, entry: Entry, *, is_cautious: bool) -> None:
        before = self.state.wait
        self.state.apply(entry)
        self.claims.applied(entry)
        self._on_entry(entry, before, is_cautious)

    def _checkpoint(self) -> str:
        return self._writer.checkpoint(self.state, self._committer.offsets)

    # --- alone with the ledger --------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """While a decision with a precondition outside the session is committed, nothing else is written."""
        self._is_exclusive = True
        try:
            await self.idle()
            yield
        finally:
            self._is_exclusive = False
            deferred, self._deferred = self._deferred, []
            for call in deferred:
                call()

    def defers(self, call: Callable[..., None], *arguments: Any) -> bool:
        """True while a commit is made alone: the call is made after it."""
        if self._is_exclusive:
            self._deferred.append(lambda: call(*arguments))
        return self._is_exclusive

    # --- on its way to the disk -----------------------------------------------------------------

    def check_writable(self) -> None:
        """Raise what a command is told that can't be written now.

        Raises:
            Moved: The session left this host.
            StoreUnavailable: The ledger can't commit now.
        """
        if self.is_over:
            raise Moved(f"{self.state.id} is not held here")
        if self._committer.is_failing:
            raise StoreUnavailable(f"{self.state.id}: the ledger can't commit now", retry_after_s=1)

    def flush_now(self) -> None:
        """Write what is buffered."""
        self._committer.flush_now()

    async def durable(self, seq: int) -> bool:
        """Wait until that seq is on disk; false if the adoption ended before."""
        if seq > self._committer.durable_seq:
            self._committer.flush_now()
        return await self._committer.durable(seq)

    def when_durable(self, seq: int, call: Callable[[], None]) -> None:
        """Call when that seq is on disk."""
        self._committer.when_durable(seq, call)

    async def until_durable(self, seq: int) -> None:
        """Wait for a caller until that seq is on disk.

        Raises:
            OutcomeUnknown: It took more than `COMMIT_WAIT_S`.
            Moved: The session left this host before.
        """
        if seq <= self._committer.durable_seq:
            return
        durable = self._committer.durable(seq)
        await asyncio.wait({durable}, timeout=COMMIT_WAIT_S)
        if not durable.done():
            raise unknown_outcome(self.state.id)
        if not durable.result():
            raise Moved(f"{self.state.id} left this host")

    async def idle(self) -> None:
        """Wait until everything decided is on disk."""
        self._committer.flush_now()
        if not self.is_stored:
            await self._committer.durable(self.state.seq)

    # --- giving the session up ------------------------------------------------------------------

    async def hold_back(self) -> None:
        """From here on nothing is written before `release`, whose commit takes it along."""
        await self.idle()
        self._committer.is_holding = True

    async def release(self, *, unsaved_max: int = 0) -> CommitReply:
        """The commit by which the session is given up, with all that is not written yet.

        Commands get `Moved` as soon as it is sent.

        Args:
            unsaved_max: A checkpoint goes with it if more entries than that are behind the newest one.
        """
        self.phase = Phase.OVER
        is_saved = unsaved_max and self._committer.unsaved_count <= unsaved_max
        reply = await self._committer.release(None if is_saved else self._checkpoint())
        self._committer.stop()
        if isinstance(reply, Committed):
            unsaved_count = self._committer.unsaved_count
            self.left = WarmState(self.state, self._committer.offsets, unsaved_count)
        return reply


def unknown_outcome(session_id: str) -> OutcomeUnknown:
    """What a caller is told whose commit is not answered in time."""
    return OutcomeUnknown(
        f"{session_id}: the commit was not answered within {COMMIT_WAIT_S:.0f} s", retry_after_s=1
    )
