"""One adoption of one session: an object with a queue of events, and one loop that takes them.

Commands, events of the code, stored flushes and timers are events. They are taken one after another, so decisions take
turns (S-11, S-24); one that must ask the ledger holds up those behind it. Functions of the state decide their effects,
which are carried out here: entries are stamped, applied to the state at once (S-53) and sent to the ledger as flushes.
Invariants: S-10 (what parks), S-14 and S-82 (a held session's time is fired here), S-60 (replies follow the write to
disk), S-61 (a repeated command gets its first receipt), S-62 (all writes go through one queue of flushes).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from helmr.current import StepRef
from helmr.errors import HelmrError, Moved, RunParked, StoreUnavailable
from helmr.models import RunStatus
from helmr_runtime import faults, tracing
from helmr_runtime.clock import Timer
from helmr_runtime.core.claims import WaitClaims
from helmr_runtime.core.commands import Deadline, OperationKey, SessionCommand
from helmr_runtime.core.decide import Decided, DecisionContext, decide, lifecycle
from helmr_runtime.core.entries import RUNTIME, Draft, Entry
from helmr_runtime.core.run import Run
from helmr_runtime.faults import Point, reach
from helmr_runtime.ports import (
    CommitReply,
    Committed,
    Crash,
    Declined,
    Loaded,
    OperationUnused,
    Precondition,
)
from helmr_runtime.replay import RunDriver
from helmr_runtime.replay.driver import OpAsked, StepEnded
from helmr_runtime.replay.durable_context import Surroundings
from helmr_runtime.replay.replay_log import OUTCOMES
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.session.code_runner import CodeRunner, is_of
from helmr_runtime.session.commands import (
    CLAIM_KINDS,
    Commanded,
    Cutting,
    RepeatedCommands,
    SessionClaims,
    check_data,
    cut_signal,
    fits_schema,
    policy_of,
)
from helmr_runtime.session.committer import (
    COMMIT_WAIT_S,
    UNSAVED_MAX,
    Committer,
    EntryWriter,
    FlushQueue,
    unknown_outcome,
)
from helmr_runtime.session.emissions import Emissions
from helmr_runtime.session.events import (
    NOTHING,
    Effects,
    Event,
    Flushed,
    HostParts,
    OutcomeReady,
    SessionPhase,
    SessionPlace,
    TimeCame,
    TryDue,
)
from helmr_runtime.session.outside import open_outside, task_call, time_out_outside
from helmr_runtime.session.telling import LEVELS, Telling
from helmr_runtime.session.warm_cache import WarmState, begun

DECIDING = (Commanded, Flushed, OpAsked, StepEnded, TryDue, OutcomeReady)
"""Events without effects besides the entries that they write."""

GIVING_UP = (SessionPhase.LEAVING, SessionPhase.OVER)

DEADLINE_AGAIN_S = 0.5
"""Seconds after which a deadline that a failing store did not take is tried again."""

log = logging.getLogger("helmr.session")


class LiveSession:
    """A session that this host holds.

    Args:
        loaded: The session as the ledger loaded it.
        kept: The state that an earlier adoption by this host left, if it is the newest.
        asked_operation: The operation that the ledger was asked about meanwhile.
        parts: Parts shared by the host's sessions.
        place: The session's place in the host.
        emissions: Makes the emissions of an epoch.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        session_id: str,
        kept: WarmState | None,
        asked_operation: OperationKey | None,
        parts: HostParts,
        place: SessionPlace,
        emissions: Callable[[int], Emissions],
    ) -> None:
        self.id, self.epoch = session_id, loaded.epoch
        self._parts, self._place, self._clock = parts, place, parts.clock
        self.state, unsaved_count, offsets = begun(loaded, session_id, kept)
        self.registered = parts.registry.tasks.get(self.state.task)
        self.phase = SessionPhase.LIVE
        self.left: WarmState | None = None
        """The state for the next adoption by this host, once the session is given up."""
        self.hold_seq = 0
        """New code starts only once this seq is on disk (S-3, caution after a crash)."""
        self.claims = SessionClaims(loaded.claims)
        self._writer = EntryWriter(loaded)
        self._flushes = FlushQueue(
            self.state, self.epoch, self._writer, unsaved_count=unsaved_count, offsets=offsets
        )
        self._committer = Committer(
            parts.ledger, self._flushes, lambda *answered: self.take(Flushed(*answered))
        )
        self._repeated = RepeatedCommands(
            self.state, loaded, parts.ledger, asked=asked_operation, since=self._clock.now()
        )
        self._telling = Telling(
            self.state,
            emissions(self.epoch),
            is_sealed=(keys := loaded.keys) is not None and keys.encrypts_payloads,
        )
        turns = self._telling.turns
        around = Surroundings(
            self._clock,
            parts.settings.silence_s,
            TaskSecrets(keys, parts.base_url) if keys is not None else None,
            place.mark,
            self._telling.emissions,
            lambda: turns.current,
            parts.settings.context,
            parts.resumes,
            parts.settings.people,
        )
        self.execution = CodeRunner(self, parts, around)
        self._events, self._is_taking = deque[Event](), False
        self._asking: asyncio.Task[None] | None = None
        """The task that holds up the queue."""
        self._in_flight = 0
        """Callers whose command is being decided or awaits its commit."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._has_changed = False
        """After this turn of the loop it reports to its host and sets its timer."""
        self._timer: Timer | None = None
        self._due_at: datetime | None = None

    def take(self, event: Event) -> None:
        """Put an event into the queue; it has been taken on return, unless the queue is held up."""
        if isinstance(event, Flushed):
            self._events.appendleft(event)
        else:
            self._events.append(event)
        self._take_all()

    def _take_all(self, *, is_news: bool = False) -> None:
        """Take all queued events. `is_news`: proceed even if the queue is empty."""
        if self._is_taking:
            return
        self._is_taking = True
        try:
            seq, is_news = self.state.seq, is_news or not self._events
            while self._may_take():
                self._handle(event := self._events.popleft())
                is_news = is_news or not isinstance(event, DECIDING)
            if is_news or self.state.seq != seq:
                self._proceed()
        finally:
            self._is_taking = False
            if self._may_take():  # a bug loses one event only
                asyncio.get_running_loop().call_soon(self._take_all)

    def _may_take(self) -> bool:
        if not self._events:
            return False
        return self._asking is None or self.is_over or isinstance(self._events[0], Flushed)

    def _handle(self, event: Event) -> None:
        match event:
            case Commanded():
                self._take_command(event)
            case Flushed():
                self._take_flushed(event)
            case TimeCame():
                self._take_time()
            case _:
                self._perform(self.execution.take(event))

    def _hold_up(self, work: Coroutine[Any, Any, None]) -> None:
        """Ask the ledger. Meanwhile only `Flushed` is taken, which decides nothing."""
        assert self._asking is None
        self._asking = asyncio.get_running_loop().create_task(work)
        self._asking.add_done_callback(self._asked)

    def _asked(self, asking: asyncio.Task[None]) -> None:
        self._asking = None
        if not asking.cancelled() and (error := asking.exception()) is not None:
            log.error("%s: what it asked of the ledger failed", self.id, exc_info=error)
        self._take_all(is_news=True)

    def _perform(self, effects: Effects) -> None:
        """Carry out the effects of an event."""
        if effects is NOTHING:
            return
        if effects.drafts:
            self.write(effects.drafts, is_flushed=effects.flush or effects.begins)
        if (then := effects.then) is not None:
            self.when_durable(self.state.seq, lambda: self.take(then))
        if effects.flush:
            self._committer.flush_now()
        elif effects.begins:
            self._committer.flush_soon(code_begins=True)
        if effects.outside is not None:
            self._hold_up(open_outside(self, self._parts.ledger, *effects.outside))
        if effects.has_ended and not self.is_over:
            self._telling.emissions.code_ended()
        if effects.retire is not None:
            self._place.retire(effects.retire)
            if not self.is_over:
                self._enter(SessionPhase.RETIRING)

    def run_of(self, driver: RunDriver) -> Run | None:
        """Return the active run, if this driver runs it."""
        return self.execution.run_of(driver)

    def _proceed(self) -> None:
        """Continue from the current state."""
        if self.is_over:
            return
        if self.phase is not SessionPhase.LEAVING and self._asking is None:
            self._block_if_missing()
            if self.execution.driver is None and not self.execution.has_code:
                self._perform(self.execution.run_if_ready())
        self._changed_soon()

    def _block_if_missing(self) -> None:
        """Block a run that should execute if this runtime's code lacks its task (S-3)."""
        if self.registered is not None:
            return
        run = self.state.active_run
        if run is not None and run.status in (RunStatus.QUEUED, RunStatus.RUNNING):
            message = f"task {self.state.task} is not in the code of this runtime"
            self.write([lifecycle.run_blocked(run, "task_missing", message)])

    def _changed_soon(self) -> None:
        if not self._has_changed:
            self._has_changed = True
            asyncio.get_running_loop().call_soon(self._changed)

    def _changed(self) -> None:
        self._has_changed = False
        if self.phase not in GIVING_UP:  # otherwise its time is the ledger's again in a moment
            run, active = self.state.run, self.state.active_run
            self._arm(active)
            if self.execution.is_limited:
                self.execution.rest(active)
            self._place.changed(self._is_parkable(active), run.op_max if run is not None else None)

    def _enter(self, phase: SessionPhase) -> None:
        self.phase = phase
        if phase is SessionPhase.OVER:
            self._committer.stop()
        else:
            self._changed()

    @property
    def is_over(self) -> bool:
        """The session was given up or lost: it is no longer held here."""
        return self.phase is SessionPhase.OVER

    @property
    def _is_deciding(self) -> bool:
        return bool(self._in_flight or self._events or self._asking is not None)

    @property
    def is_parkable(self) -> bool:
        """Nothing of the session needs this host now (S-10)."""
        return self._is_parkable(self.state.active_run)

    def _is_parkable(self, run: Run | None) -> bool:
        if self.phase is SessionPhase.LEAVING or self._is_deciding or self.execution.is_busy:
            return False
        if self.execution.is_limited and run is not None and self.execution.permits.some_wait:
            return self.execution.only_waits(run)
        if run is None or run.status is RunStatus.BLOCKED:
            return not self.execution.has_code
        if run.status is RunStatus.WAITING:
            wait = run.wait
            return wait is not None and run.open_steps <= ({wait.op} if wait.is_backoff else set())
        if self.execution.has_code:
            return False
        is_later = run.retry_at is not None and run.retry_at > self._clock.now()
        return self.phase is SessionPhase.RETIRING or (run.status is RunStatus.QUEUED and is_later)

    @property
    def is_settled(self) -> bool:
        """All code waits or has ended, and everything decided is stored."""
        is_calm = self._is_stored and not self._is_deciding and not self._has_changed
        return is_calm and self.execution.is_quiet

    # --- adopting and releasing -----------------------------------------------------------------

    async def begin(
        self, command: SessionCommand | None, crash: Crash | None
    ) -> Mapping[str, Any] | None:
        """Record the last holder's crash, decide the command that came with the adoption, run the code."""
        self._record(crash)
        try:
            return await self.command(command) if command is not None else None
        finally:
            self._take_all()

    def _record(self, crash: Crash | None) -> None:
        if crash is not None:
            cause, op = crash.cause, crash.op
            self.write([*lifecycle.actor_died(self.state, cause, op, executing=crash.executing)])
            self._committer.flush_now()

    async def decide_and_release(
        self, command: SessionCommand | None, crash: Crash | None
    ) -> Mapping[str, Any] | None:
        """Decide the command that came with the adoption, and give up the session in the same commit.

        Raises:
            As `command`.
        """
        self._enter(SessionPhase.LEAVING)
        self._record(crash)
        await self.idle()
        self._flushes.is_holding = True
        decision, error = Decided(), None
        try:
            if command is not None:
                decision, _ = await self._decided(command)
        except HelmrError as raised:
            error = raised
        leaving = asyncio.get_running_loop().create_task(self._release(UNSAVED_MAX))
        await asyncio.wait({leaving}, timeout=COMMIT_WAIT_S)
        if not leaving.done():
            raise unknown_outcome(self.id)
        if error is not None:
            raise error
        if not isinstance(leaving.result(), Committed):
            raise Moved(f"{self.id} left this host")
        if decision.error is not None:
            raise decision.error
        return decision.reply if command is not None else None

    async def park(self) -> Committed | None:
        """Abort the code and write the park commit; return None if an event came in between and the session stays.

        Raises:
            Moved: The ledger refused the commit, since the session had left this host.
        """
        if self.phase is SessionPhase.LIVE:
            self._enter(SessionPhase.PARKING)
        self.execution.abort(RunParked("the run is parked"))
        await self.execution.wait_closed()
        await self.idle()
        if not self.is_parkable or self.is_over:
            if self.phase is SessionPhase.PARKING:
                self._enter(SessionPhase.LIVE)
            self._take_all()
            return None
        reply = await self._release()
        if not isinstance(reply, Committed):
            raise Moved(f"{self.id} left this host")
        return reply

    async def _release(self, unsaved_max: int = 0) -> CommitReply:
        """Give up the session in a commit that includes all that is not written yet.

        Commands get `Moved` as soon as it is sent.
        """
        self._disarm()
        reach(Point.SESSION_PARKING)
        self.phase = SessionPhase.OVER
        flush = self._flushes.last(unsaved_max)
        reply = await self._committer.send(flush)
        if isinstance(reply, Committed):
            self._flushes.stored(flush, reply)
            self.left = WarmState(self.state, self._flushes.offsets, self._flushes.unsaved_count)
        self._committer.stop()
        self._telling.close()
        reach(Point.SESSION_PARKED)
        return reply

    def drop(self) -> None:
        """End the adoption; nothing more is written."""
        self._enter(SessionPhase.OVER)
        self._end()
        self._take_all()

    def _lost(self, reply: CommitReply) -> None:
        reason = type(reply).__name__
        log.warning("%s: lost at epoch %d: %s", self.id, self.epoch, reason)
        self._enter(SessionPhase.OVER)
        self._end()
        self._place.lost(reason.lower())
        self._take_all()

    def _end(self) -> None:
        self._disarm()
        self._telling.close()
        self.execution.abort(RunParked("the session left this host"))

    def free(self) -> None:
        """Release references, so that a finished session leaves memory without the garbage collector."""
        self.execution.free()
        self._committer.free()

    # --- commands -------------------------------------------------------------------------------

    async def command(self, command: SessionCommand) -> Mapping[str, Any]:
        """Decide a command, commit, and return the receipt.

        Raises:
            Moved: The session left this host; repeat the call with the same operation id.
            StoreUnavailable: The ledger can't commit now; nothing of this command is kept.
            OutcomeUnknown: The commit was not answered within `COMMIT_WAIT_S`.
            HelmrError: The command is refused.
        """
        if self.is_over:
            raise Moved(f"{self.id} is not held here")
        if self._committer.is_failing:
            raise StoreUnavailable(f"{self.id}: the ledger can't commit now", retry_after_s=1)
        with self._under_way():
            decision, seq = await self._decided(command)
            if faults.on_point is not None:
                reach(Point.SESSION_DECIDED)
            await self._committer.until_durable(seq)
            if faults.on_point is not None:
                reach(Point.SESSION_COMMITTED)
            if decision.error is not None:
                raise decision.error
            return decision.reply

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        """Keep the session from being parked while a caller waits; afterwards it reports its state."""
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._changed_soon()

    async def _decided(self, command: SessionCommand) -> tuple[Decided, int]:
        """Return the decision once it is the command's turn, and the seq with which it is stored."""
        decided: asyncio.Future[tuple[Decided, int]] = asyncio.get_running_loop().create_future()
        self.take(Commanded(command, decided))
        return await decided

    def _take_command(self, event: Commanded) -> None:
        command = event.command
        if self.is_over:
            event.refuse(Moved(f"{self.id} left this host"))
            return
        self._telling.turns.sent = command.trace
        wait = self.state.wait if isinstance(command, Deadline) else None
        if isinstance(command, Deadline) and wait and wait.id == command.wait_id and wait.awaits:
            self._hold_up(self._answering(event, time_out_outside(self, command)))
            return
        try:
            decision = None if self._repeated.is_unsure(command) else self._decide(command)
            if decision is None or self._repeated.is_open(command, decision):
                self._hold_up(self._answering(event, self._decide_asking(command)))
            else:
                event.answer(self._settle(command, decision), self.state.seq)
        except Exception as error:  # noqa: BLE001 - carried to the caller
            event.refuse(error)

    async def _answering(self, event: Commanded, deciding: Coroutine[Any, Any, Decided]) -> None:
        try:
            event.answer(await deciding, self.state.seq)
        except Exception as error:  # noqa: BLE001 - carried to the caller
            event.refuse(error)

    async def _decide_asking(self, command: SessionCommand) -> Decided:
        """Decide a command that the ledger may know although the state does not."""
        decision = await self._repeated.first(command) or self._decide(command)
        if self._repeated.is_open(command, decision):
            decision = await self._repeated.again(command) or decision
        return self._settle(command, decision)

    def _decide(self, command: SessionCommand) -> Decided:
        """Decide the command now; a refusal is a decision, too."""
        try:
            context = self.context(command.sent_at)
            if self._repeated.is_new(command):
                check_data(command, self.state, self.registered, context)
            return decide(self.state, command, context)
        except HelmrError as error:
            return Decided(error=error)

    def _settle(self, command: SessionCommand, decision: Decided) -> Decided:
        """Write the decision's entries."""
        if decision.drafts:
            operation = command.operation
            unused = (OperationUnused(operation),) if operation is not None else ()
            self.write(decision.drafts, unused)
            if isinstance(command, Cutting):
                self._cut_off(command)
            # Code that got an outcome will cause the flush with its next op.
            goes_on = any(draft.body.get("next") for draft in decision.drafts)
            has_code = self.execution.driver is not None or self.execution.has_code
            if not (has_code and goes_on):
                self._committer.flush_now()
        return decision

    def _cut_off(self, command: Cutting) -> None:
        """Abort the code of a run that was cancelled or taken back, once that is on disk (S-6, S-75)."""
        driver = self.execution.driver
        if driver is None or is_of(driver, self.state.active_run):
            return
        signal = cut_signal(command, self.id)

        def cut() -> None:
            if self.execution.driver is driver:
                self.execution.abort(signal)

        self.when_durable(self.state.seq, cut)

    async def commit_alone(
        self, drafts: Sequence[Draft], preconditions: tuple[Precondition, ...]
    ) -> CommitReply:
        """Commit, and apply only after the entries are stored."""
        entries = self._stamp(drafts)
        flush = self._flushes.alone(entries, preconditions)
        reply = await self._committer.send(flush)
        if isinstance(reply, Committed):
            self._flushes.stored(flush, reply)
            for entry in entries:
                self._apply(entry, is_cautious=False)
        elif not isinstance(reply, Declined):
            self._lost(reply)
        return reply

    async def ledger_call(
        self, call: str, named: str | None, arguments: Mapping[str, Any], step: StepRef
    ) -> Any:
        """Ask the ledger for the run."""
        run = self.state.run
        assert run is not None
        asking, ledger = (self.state, run), self._parts.ledger
        return await task_call(ledger, asking, call, named, arguments, step=step)

    def context(self, carried: datetime | None = None) -> DecisionContext:
        """Return the circumstances of a decision made now."""
        registered = self.registered
        return DecisionContext(
            now=self._now(carried),
            policy=registered.policy if registered is not None else policy_of(self.state, None),
            is_hot=self.phase is not SessionPhase.LEAVING and registered is not None,
            fits=fits_schema,
            claims=self._claims(),
            disabled=self._repeated.disabled.people,
            ended=self._repeated.disabled.delegations,
        )

    def _now(self, carried: datetime | None = None) -> datetime:
        """Return the later of the clock and the time that a command carried.

        The last entry's time does not count: deadlines follow the clock even after an entry made while the clock was
        ahead. Only the stamps of entries never go back (S-50).
        """
        now = self._clock.now()
        return now if carried is None else max(now, carried)

    def _claims(self) -> WaitClaims | None:
        """The claims of the pending wait."""
        return self.claims.of(self.state.wait) if self.claims.known is not None else None

    def write(
        self,
        drafts: Sequence[Draft],
        preconditions: tuple[Precondition, ...] = (),
        *,
        is_flushed: bool = False,
    ) -> None:
        """Stamp, apply and buffer entries; the flush follows soon, unless the caller sends it.

        Raises:
            Moved: The session left this host.
        """
        if self.is_over:
            raise Moved(f"{self.id} left this host")
        run = self.state.run
        is_cautious = run is not None and run.is_cautious
        entries = self._stamp(drafts)
        if is_cautious and entries:
            self.hold_seq = entries[-1].seq
        if entries:
            self._flushes.preconditions.extend(preconditions)
        for entry in entries:
            self._flushes.buffer.append(entry)
            self._apply(entry, is_cautious=is_cautious)
        if not is_flushed:
            self._committer.flush_soon()

    def _stamp(self, drafts: Sequence[Draft]) -> list[Entry]:
        """Return their entries, after the entries of claims not in the transcript yet."""
        now, claims = self._now(), self._claims()
        ahead = claims.pending(now) if claims is not None and drafts else ()
        return self._writer.entries(self.state, (*ahead, *drafts), now)

    def _apply(self, entry: Entry, *, is_cautious: bool) -> None:
        kind, has_code = entry.kind, self.execution.driver is not None
        run = self.state.run
        before = run.wait if run is not None and has_code and kind in OUTCOMES else None
        self.state.apply(entry)
        if kind in CLAIM_KINDS:
            self.claims.applied(entry)
        if kind in LEVELS or self._telling.emissions.has_emitted or tracing.spans is not None:
            for telling in self._telling.applied(entry):
                self.when_durable(entry.seq, telling)
        if has_code and kind in OUTCOMES:
            self._perform(self.execution.applied(entry, before, is_cautious=is_cautious))

    @property
    def _is_stored(self) -> bool:
        """Everything decided is on disk, or never will be."""
        return self.is_over or self._flushes.is_stored

    def _take_flushed(self, event: Flushed) -> None:
        if isinstance(event.reply, Committed):
            self._flushes.stored(event.flush, event.reply)
            self._committer.flush_now()
        elif not self.is_over:
            self._lost(event.reply)

    def when_durable(self, seq: int, call: Callable[[], None]) -> None:
        """Call once that seq is on disk."""
        self._flushes.when_stored(seq, call)

    async def durable(self, seq: int) -> bool:
        """Wait until that seq is on disk; return false if the adoption ended before."""
        if seq > self._flushes.durable_seq:
            self._committer.flush_now()
        return await self._committer.durable(seq)

    async def idle(self) -> None:
        """Wait until everything decided is on disk."""
        self._committer.flush_now()
        if not self._is_stored:
            await self._committer.durable(self.state.seq)

    def _arm(self, run: Run | None) -> None:
        """Set the timer to the active run's next time. The ledger keeps a parked session's time."""
        due: datetime | None = None
        if run is not None and run.wait is not None:
            due = run.wait.due_at
        elif run is not None and run.status is RunStatus.QUEUED:
            due = run.retry_at
        if due == self._due_at and self._timer is not None:
            return
        self._disarm()
        if due is not None:
            self._due_at = due
            self._timer = self._clock.call_when(due, lambda: self.take(TimeCame()))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due_at = None, None

    def _take_time(self) -> None:
        wait = self.state.wait
        if self.is_over or wait is None:
            self._timer = None
            return
        # The fired timer stays set, so that it is not armed again for the same time before this is decided.
        timing_out = asyncio.get_running_loop().create_task(self._time_out(wait.id))
        self._tasks.add(timing_out)
        timing_out.add_done_callback(self._tasks.discard)

    async def _time_out(self, wait_id: str) -> None:
        try:
            await self.command(Deadline(principal=RUNTIME, wait_id=wait_id))
        except HelmrError as error:
            if self.is_over:
                return
            log.warning("%s: deadline of %s: %s", self.id, wait_id, error.message)
            await asyncio.sleep(DEADLINE_AGAIN_S)
        if not self.is_over and self.phase is not SessionPhase.LEAVING:
            wait = self.state.wait
            if wait is not None and wait.due_at == self._due_at:
                self._disarm()
            self._arm(self.state.active_run)
