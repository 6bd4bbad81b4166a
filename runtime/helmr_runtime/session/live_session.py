"""One adoption of one session: decides its commands, commits them, and keeps its code going.

Owns the session's state while it is held, and the order in which things happen to it. Invariants: S-60 (nothing is
answered before it is on disk), S-11 and S-24 (decisions are made one after another on one loop), S-13 (a wait on a
token hangs on a fact outside the session), S-62 (all writes go through one committer).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from helmr.errors import (
    HelmrError,
    Moved,
    OutcomeUnknown,
    RunCancelled,
    RunParked,
    StoreUnavailable,
)
from helmr.models import RunStatus
from helmr_runtime.catalog import Registered, Registry
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import (
    CancelRun,
    CancelSession,
    Command,
    Deadline,
    Operation,
    TokenEnded,
)
from helmr_runtime.core.decide import Context, Decision, decide, lifecycle, ops
from helmr_runtime.core.entries import RUNTIME, Draft, Entry, EntryKind, Principal, from_iso
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.run import Run
from helmr_runtime.faults import Point, reach
from helmr_runtime.host_status import SlotMark
from helmr_runtime.ports import (
    CommitReply,
    Committed,
    Death,
    Declined,
    Ledger,
    Loaded,
    OperationUnused,
    Precondition,
    TokenNotCompleted,
    TokenOpen,
)
from helmr_runtime.replay import RunDriver
from helmr_runtime.replay.durable_context import Secrets
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.session.code_runner import CodeRunner
from helmr_runtime.session.committer import Committer
from helmr_runtime.session.deadline_timer import DeadlineTimer
from helmr_runtime.session.deduplication import Deduplicator
from helmr_runtime.session.entry_writer import EntryWriter, restore
from helmr_runtime.session.task_tokens import question_of
from helmr_runtime.session.validation import check_data, policy_of

COMMIT_WAIT_S = 10.0
"""A caller waits so long for its commit, then is told that the outcome is unknown."""

log = logging.getLogger("helmr.session")


class LiveSession:
    """A session that this actor holds.

    Args:
        loaded: What the ledger gave.
        asked_operation: The operation that it was asked for meanwhile.
        session_id: Whose.
        registry: The tasks of this actor's code.
        is_hot: Its code runs here; False where it is only decided about.
        mark: Where it is noted what the code does.
        on_change: Called after every change, for the actor's report and status file.
        on_lost: Called once when the adoption is over against our will.
        on_retire: Called when parts of the code did not end.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        asked_operation: Operation | None,
        session_id: str,
        ledger: Ledger,
        clock: Clock,
        registry: Registry,
        is_hot: bool,
        linger_s: float,
        replay_always: bool,
        silence_s: float,
        base_url: str,
        mark: SlotMark,
        on_change: Callable[[], None],
        on_lost: Callable[[str], None],
        on_retire: Callable[[str], None],
    ) -> None:
        self.id = session_id
        self.epoch = loaded.epoch
        self.state = restore(session_id, loaded)
        self.registered: Registered | None = registry.tasks.get(self.state.task)
        self.code_hash = registry.code_hash
        self.linger_s = linger_s
        self.replay_always = replay_always
        self.silence_s = silence_s
        self.is_lost = False
        self.is_retiring = False
        """Parts of earlier code did not end: what is to run runs elsewhere."""
        self._entry_writer = EntryWriter(loaded)
        self.secrets: Secrets | None = (
            TaskSecrets(loaded.keys, base_url) if loaded.keys is not None else None
        )
        self._ledger = ledger
        self._clock = clock
        self._is_hot = is_hot
        self._on_change = on_change
        self._on_lost = on_lost
        self._on_retire = on_retire
        self._deduplicator = Deduplicator(
            self.state, loaded, ledger, asked=asked_operation, since=clock.now()
        )
        self._in_flight = 0
        self._alone = asyncio.Lock()
        self.is_exclusive = False
        """A decision with a precondition outside the session is being committed: nothing else is written."""
        self._deadline_timer = DeadlineTimer(
            self.state, clock, is_hot=is_hot, command=self.command, proceed=self._proceed
        )
        self.committer = Committer(
            ledger,
            session_id=session_id,
            epoch=loaded.epoch,
            last_seq=self.state.seq,
            last_hash=self.state.last_hash,
            checkpoint=self._checkpoint,
            held_count=lambda: len(run.journal) if (run := self.state.run) is not None else 0,
            on_lost=self._lost,
        )
        self.execution = CodeRunner(self, ledger, clock, mark)

    # --- adopting and releasing -----------------------------------------------------------------

    async def begin(self, command: Command | None, death: Death | None) -> Mapping[str, Any] | None:
        """Record how the last holder died, decide the command that came with the adoption, run what is to run."""
        self._record(death)
        try:
            return await self.command(command) if command is not None else None
        finally:
            self._proceed()

    def _record(self, death: Death | None) -> None:
        if death is not None:
            self.write(
                lifecycle.actor_died(self.state, death.cause, death.op, executing=death.executing)
            )
            self.committer.flush_now()

    async def decide_and_release(
        self, command: Command | None, death: Death | None
    ) -> Mapping[str, Any] | None:
        """Decide the command that came with the adoption, and give the session up in the same commit.

        Raises:
            As `command`.
        """
        self._record(death)
        await self.committer_idle()
        self.committer.is_holding = True
        decision, error = Decision(), None
        try:
            if command is not None:
                decision = await self._decide(command)
        except HelmrError as raised:
            error = raised
        leaving = asyncio.get_running_loop().create_task(self._leave())
        await asyncio.wait({leaving}, timeout=COMMIT_WAIT_S)
        if not leaving.done():
            raise _unknown(self.id)
        if error is not None:
            raise error
        if not isinstance(leaving.result(), Committed):
            raise Moved(f"{self.id} left this host")
        if decision.error is not None:
            raise decision.error
        return decision.reply if command is not None else None

    async def _leave(self) -> CommitReply:
        """The commit by which the session is given up, with all that is not written yet.

        After it is sent, `is_lost` is True and commands get `Moved`.
        """
        self.is_lost = True
        self._deadline_timer.stop()
        reach(Point.SESSION_PARKING)
        reply = await self.committer.release(self._checkpoint())
        reach(Point.SESSION_PARKED)
        self.committer.stop()
        return reply

    @property
    def is_parkable(self) -> bool:
        """Nothing of the session needs this actor now (S-10)."""
        run = self.state.active_run
        if self._in_flight or self.execution.is_busy:
            return False
        if run is None or run.status is RunStatus.BLOCKED or not self._is_hot:
            return not self.execution.has_code
        if run.status is RunStatus.WAITING:
            wait = run.wait
            return wait is not None and run.open_steps <= ({wait.op} if wait.is_backoff else set())
        if self.execution.has_code:
            return False
        is_later = run.retry_at is not None and run.retry_at > self._clock.now()
        return self.is_retiring or (run.status is RunStatus.QUEUED and is_later)

    @property
    def is_settled(self) -> bool:
        """All code waits or has ended, and everything decided is stored."""
        is_stored = self.is_lost or self.committer.durable_seq == self.state.seq
        return is_stored and not self._in_flight and self.execution.is_quiet

    async def park(self) -> Committed | None:
        """Sever, write the park commit; None if something came in between and the session stays."""
        self.execution.is_stopped = True
        self.execution.sever(RunParked("the run is parked"))
        await self.execution.wait_closed()
        await self.committer_idle()
        if not self.is_parkable or self.is_lost:
            self.execution.is_stopped = False
            self._proceed()
            return None
        reply = await self._leave()
        return reply if isinstance(reply, Committed) else Committed(first_feed_offset=0)

    async def committer_idle(self) -> None:
        """Wait until everything decided is on disk."""
        self.committer.flush_now()
        if self.committer.durable_seq < self.state.seq and not self.is_lost:
            await self.committer.durable(self.state.seq)

    def drop(self) -> None:
        """The adoption is over; nothing more is written."""
        self.is_lost = True
        self._deadline_timer.stop()
        self.committer.stop()
        self.execution.stop()

    def _lost(self, reply: CommitReply) -> None:
        log.warning("%s: lost at epoch %d: %s", self.id, self.epoch, type(reply).__name__)
        self.drop()
        self._on_lost(type(reply).__name__.lower())

    # --- commands -------------------------------------------------------------------------------

    async def command(self, command: Command) -> Mapping[str, Any]:
        """Decide, commit, answer.

        Raises:
            Moved: The session left this host; nothing happened, or repeating with the same operation id tells.
            StoreUnavailable: The ledger can't commit now; nothing of this command is kept.
            OutcomeUnknown: The commit was not answered within `COMMIT_WAIT_S`.
            HelmrError: The command is refused.
        """
        if self.is_lost:
            raise Moved(f"{self.id} is not held here")
        if self.committer.is_failing:
            raise StoreUnavailable(f"{self.id}: the ledger can't commit now", retry_after_s=1)
        with self._under_way():
            async with self._alone:
                decision = await self._decide(command)
                seq = self.state.seq
            reach(Point.SESSION_DECIDED)
            await self._until_durable(seq)
            reach(Point.SESSION_COMMITTED)
            if decision.error is not None:
                raise decision.error
            return decision.reply

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        """Something is decided: the session can't be parked, and at the end what has become of it is told.

        Whatever takes `_alone` does so in here. A lock that kept the session from parking and told nobody when it was
        let go of would keep the session in its slot for ever.
        """
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self.is_lost:
                self._changed()

    async def _decide(self, command: Command) -> Decision:
        wait = self.state.wait
        if wait is not None and wait.kind == "token" and _times_out(command, wait.id):
            return await self._time_token_out(command)
        first = await self._deduplicator.before(command)
        if first is not None:
            return first
        by_key = await self._deduplicator.by_key(command)
        decision = by_key or self._decided(command)
        if self._deduplicator.is_open(command, decision):
            first = await self._deduplicator.again(command)
            decision = first or by_key or self._decided(command)  # the code may have gone on
        self.write(decision.drafts, _preconditions(command))
        if decision.drafts:
            self._cut_if_ended(command)
            self.committer.flush_soon()
            if not self._code_goes_on(decision):
                self.committer.flush_now()
        return decision

    def _decided(self, command: Command) -> Decision:
        """What the command does now, a refusal too."""
        try:
            if not self._deduplicator.is_in_state(command):
                check_data(command, self.state, self.registered, self.context())
            return decide(self.state, command, self.context(command.sent_at))
        except HelmrError as error:
            return Decision(error=error)

    def _code_goes_on(self, decision: Decision) -> bool:
        """The code has been handed something and its next op will bring the flush."""
        return self.execution.has_code and any(d.body.get("next") for d in decision.drafts)

    def _cut_if_ended(self, command: Command) -> None:
        """A cancelled run is severed once the cancellation is on disk (S-6)."""
        if isinstance(command, CancelRun | CancelSession) and self.state.active_run is None:
            seq = self.state.seq
            signal = RunCancelled(f"{self.id}: the run was cancelled")
            self.committer.when_durable(seq, lambda: self.execution.sever(signal))

    async def _until_durable(self, seq: int) -> None:
        if seq <= self.committer.durable_seq:
            return
        durable = self.committer.durable(seq)
        await asyncio.wait({durable}, timeout=COMMIT_WAIT_S)
        if not durable.done():
            raise _unknown(self.id)
        if not durable.result():
            raise Moved(f"{self.id} left this host")

    # --- token waits: preconditions outside the session -------------------------------------------

    async def open_token_wait(self, driver: RunDriver, op: int, ask: WaitRequest) -> None:
        """Commit the opening, then go on: the token may have ended meanwhile (S-13)."""
        with self._under_way():
            async with self._alone, self._exclusive():
                run = self.state.active_run
                if run is None or driver is not self.execution.driver or ask.token_id is None:
                    return
                await self.committer_idle()
                await self._open_on_token(run, op, ask, TokenOpen(ask.token_id, ask.wait_id))

    async def _open_on_token(self, run: Run, op: int, ask: WaitRequest, guard: TokenOpen) -> None:
        question = await question_of(self._ledger, run, guard.token_id)
        ended: TokenEnded | None = None
        while not self.is_lost:
            context = self.context(None)
            drafts = ops.open_wait(
                self.state, run, op, ask, context, token_ended=ended, question=question
            )
            reply = await self._commit_alone(drafts, (guard,) if ended is None else ())
            if not isinstance(reply, Declined):
                return
            ended = _token_end(reply.facts, ask, context.now)

    async def _time_token_out(self, command: Command) -> Decision:
        """A token's completion before the deadline wins, however late it is heard of (S-14)."""
        wait, run = self.state.wait, self.state.run
        assert wait is not None
        assert run is not None
        decision = decide(self.state, command, self.context(command.sent_at))
        if not decision.drafts or wait.token_id is None or wait.deadline_at is None:
            return decision
        guard = TokenNotCompleted(wait.token_id, wait.deadline_at)
        async with self._exclusive():
            await self.committer_idle()
            if self.is_lost:
                raise Moved(f"{self.id} left this host")
            reply = await self._commit_alone(decision.drafts, (guard,))
        if isinstance(reply, Declined):
            return Decision(reply={"status": "resolved"})
        return decision

    @contextlib.asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        self.is_exclusive = True
        try:
            yield
        finally:
            self.is_exclusive = False
            self.execution.catch_up()

    async def _commit_alone(
        self, drafts: Sequence[Draft], preconditions: tuple[Precondition, ...]
    ) -> CommitReply:
        """Commit, and apply only what was stored: this decision never runs ahead."""
        entries = self._seal(drafts)
        reply = await self.committer.write_alone(tuple(entries), preconditions)
        if isinstance(reply, Committed):
            for entry in entries:
                self._apply(entry, is_cautious=False)
            self._changed()
        elif not isinstance(reply, Declined):
            self._lost(reply)
        return reply

    # --- writing --------------------------------------------------------------------------------

    def context(self, carried: datetime | None = None) -> Context:
        """The circumstances of a decision made now."""
        times = (self._clock.now(), carried, self.state.last_at)
        return Context(
            now=max(t for t in times if t is not None),
            policy=policy_of(self.state, self.registered),
            is_hot=self._is_hot and self.registered is not None,
        )

    def write(
        self, drafts: Sequence[Draft], preconditions: tuple[Precondition, ...] = ()
    ) -> list[Entry]:
        """Seal, apply and buffer; outcomes go to the code, and the flush follows soon."""
        run = self.state.run
        is_cautious = run is not None and run.is_cautious
        entries = self._seal(drafts)
        if is_cautious and entries:
            self.execution.hold_seq = entries[-1].seq
        for position, entry in enumerate(entries):
            self.committer.add(entry, preconditions if position == 0 else ())
            self._apply(entry, is_cautious=is_cautious)
        if entries:
            self.committer.flush_soon()
            self._proceed()
        return entries

    def _seal(self, drafts: Sequence[Draft]) -> list[Entry]:
        return self._entry_writer.entries(self.state, drafts, self.context().now)

    def _apply(self, entry: Entry, *, is_cautious: bool) -> None:
        wait = self.state.wait
        self.state.apply(entry)
        if wait is not None and wait.is_backoff and entry.kind is EntryKind.WAIT_FULFILLED:
            self.execution.backoff_ended(wait.op)
        elif wait is not None and wait.is_backoff and entry.kind is EntryKind.WAIT_CANCELLED:
            self.execution.backoff_superseded(wait.op)
        else:
            self.execution.announce(entry, is_cautious=is_cautious)

    def flush_now(self) -> None:
        """Write what is buffered."""
        self.committer.flush_now()

    async def durable(self, seq: int) -> bool:
        """Wait until that seq is on disk; false if the adoption ended before."""
        self.committer.flush_now()
        return await self.committer.durable(seq)

    def when_durable(self, seq: int, call: Callable[[], None]) -> None:
        """Call when that seq is on disk."""
        self.committer.when_durable(seq, call)

    def retire(self, reason: str) -> None:
        """Parts of the code did not end: the session runs here no more, and can be parked for that."""
        self.is_retiring = True
        self._on_retire(reason)
        self.code_closed()

    # --- what follows a change ------------------------------------------------------------------

    def code_closed(self) -> None:
        """The run's code has ended, which may have been all that kept the session from parking."""
        if not self.is_lost:
            self._changed()

    def _proceed(self) -> None:
        if self.is_lost:
            return
        if self._is_hot:
            self._block_if_missing()
            self.execution.run_if_ready()
        self._changed()

    def _block_if_missing(self) -> None:
        """A run that is to execute, whose task this runtime's code does not have, is blocked (S-3)."""
        run = self.state.active_run
        is_to_run = run is not None and run.status in (RunStatus.QUEUED, RunStatus.RUNNING)
        if run is not None and is_to_run and self.registered is None:
            message = f"task {self.state.task} is not in the code of this runtime"
            self.write([lifecycle.run_blocked(run, "task_missing", message)])

    def _changed(self) -> None:
        self._deadline_timer.arm()
        self._on_change()

    def _checkpoint(self) -> str:
        return self._entry_writer.checkpoint(self.state, self.committer.offsets)


def _unknown(session_id: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{session_id}: the commit was not answered within {COMMIT_WAIT_S:.0f} s", retry_after_s=1
    )


def _preconditions(command: Command) -> tuple[Precondition, ...]:
    return (OperationUnused(command.operation),) if command.operation is not None else ()


def _times_out(command: Command, wait_id: str) -> bool:
    return isinstance(command, Deadline) and command.wait_id == wait_id


def _token_end(facts: Mapping[str, Any], ask: WaitRequest, now: datetime) -> TokenEnded:
    """How the awaited token ended; one that there is not ends the wait as well."""
    assert ask.token_id is not None
    return TokenEnded(
        principal=RUNTIME,
        wait_id=ask.wait_id,
        token_id=ask.token_id,
        status=facts["status"],
        data=facts.get("data"),
        ended_at=from_iso(facts["ended_at"]) if "ended_at" in facts else now,
        ended_by=Principal.from_json(facts["ended_by"]) if "ended_by" in facts else RUNTIME,
    )
