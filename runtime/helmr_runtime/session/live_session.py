"""One adoption of one session: adopted, asked by commands, parked, given up or lost.

What is decided goes to `SessionLog`, what is to run to `CodeRunner`; both tell here what is to go on. Invariants: S-10
(what parks), S-60 (nothing is answered before it is on disk), S-61 (a repeated command gets its first receipt).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from helmr.errors import HelmrError, Moved, RunCancelled, RunParked
from helmr.models import RunStatus
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import (
    AmendWait,
    CancelRun,
    CancelSession,
    Command,
    Operation,
    RewindRun,
)
from helmr_runtime.core.decide import Decision, decide, lifecycle
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.run import Wait
from helmr_runtime.faults import Point, reach
from helmr_runtime.host_status import SlotMark
from helmr_runtime.ports import (
    CommitReply,
    Committed,
    Crash,
    Ledger,
    Loaded,
    OperationUnused,
    Precondition,
)
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.session import failure_lines
from helmr_runtime.session.code_runner import CodeRunner, CodeSettings
from helmr_runtime.session.deadline_timer import DeadlineTimer
from helmr_runtime.session.deduplication import Deduplicator
from helmr_runtime.session.emissions import Emissions
from helmr_runtime.session.session_log import COMMIT_WAIT_S, Phase, SessionLog, unknown_outcome
from helmr_runtime.session.token_waits import TokenWaits
from helmr_runtime.session.turns import Turns
from helmr_runtime.session.validation import check_data
from helmr_runtime.session.warm_cache import WarmState

UNSAVED_MAX = 64
"""Entries behind the newest checkpoint of a session that was given up as soon as it was decided: whoever reads it
reads them one by one. With a checkpoint for each, what a command costs would grow with what the session has done."""


class LiveSession:
    """A session that this host holds.

    Args:
        loaded: What the ledger gave.
        asked_operation: The operation that it was asked for meanwhile.
        session_id: Whose.
        kept: As that of `SessionLog`.
        registry: The tasks of this host's code.
        settings: How this host runs code.
        base_url: What the callback URLs of tokens begin with.
        mark: Where it is noted what the code does.
        emissions: Makes what holds the chunks that its code emits, for an epoch.
        on_change: Called after every change, for the host's report and status file.
        on_lost: Called once when the adoption is over against our will.
        on_retire: Called when parts of the code did not end.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        asked_operation: Operation | None,
        session_id: str,
        kept: WarmState | None,
        ledger: Ledger,
        clock: Clock,
        registry: Registry,
        settings: CodeSettings,
        base_url: str,
        mark: SlotMark,
        emissions: Callable[[int], Emissions],
        on_change: Callable[[], None],
        on_lost: Callable[[str], None],
        on_retire: Callable[[str], None],
    ) -> None:
        self.id = session_id
        self._clock = clock
        self._on_change = on_change
        self._on_lost = on_lost
        self._on_retire = on_retire
        self._is_sealed = loaded.keys is not None and loaded.keys.encrypts_payloads
        self.emissions = emissions(loaded.epoch)
        self.log = SessionLog(
            loaded,
            session_id=session_id,
            kept=kept,
            ledger=ledger,
            clock=clock,
            find=registry.tasks.get,
            on_entry=self._applied,
            on_written=self._proceed,
            on_change=self._changed,
            on_lost=self._lost,
        )
        self.epoch, self.state = self.log.epoch, self.log.state
        self.registered = self.log.registered
        self._deduplicator = Deduplicator(
            self.state, loaded, ledger, asked=asked_operation, since=clock.now()
        )
        self._deadline_timer = DeadlineTimer(
            self.state, clock, command=self.command, proceed=self._proceed
        )
        self._token_waits = TokenWaits(self.log, ledger)
        self._turns = Turns(self.state, self.log.when_durable)
        self.execution = CodeRunner(
            self.log,
            self._token_waits,
            ledger,
            clock,
            settings=settings,
            secrets=TaskSecrets(loaded.keys, base_url) if loaded.keys is not None else None,
            mark=mark,
            emissions=self.emissions,
            turns=self._turns,
            on_closed=self._code_closed,
            on_retire=self._retire,
        )

    @property
    def is_isolated(self) -> bool:
        """Its task is to have a host to itself."""
        return self.registered is not None and self.registered.task.isolated

    @property
    def is_lost(self) -> bool:
        """It is not held here any more."""
        return self.log.is_over

    # --- adopting and releasing -----------------------------------------------------------------

    async def begin(self, command: Command | None, crash: Crash | None) -> Mapping[str, Any] | None:
        """Record how the last holder died, decide the command that came with the adoption, run what is to run."""
        self._record(crash)
        try:
            return await self.command(command) if command is not None else None
        finally:
            self._proceed()

    def _record(self, crash: Crash | None) -> None:
        if crash is not None:
            self.log.write(
                lifecycle.actor_died(self.state, crash.cause, crash.op, executing=crash.executing)
            )
            self.log.flush_now()

    async def decide_and_release(
        self, command: Command | None, crash: Crash | None
    ) -> Mapping[str, Any] | None:
        """Decide the command that came with the adoption, and give the session up in the same commit.

        Raises:
            As `command`.
        """
        self.log.enter(Phase.LEAVING)
        self._record(crash)
        await self.log.hold_back()
        decision, error = Decision(), None
        try:
            if command is not None:
                decision = await self._decide(command)
        except HelmrError as raised:
            error = raised
        leaving = asyncio.get_running_loop().create_task(self._leave(UNSAVED_MAX))
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

    async def _leave(self, unsaved_max: int = 0) -> CommitReply:
        """The commit by which the session is given up."""
        self._deadline_timer.stop()
        reach(Point.SESSION_PARKING)
        reply = await self.log.release(unsaved_max=unsaved_max)
        self.emissions.close()
        self._turns.close()
        reach(Point.SESSION_PARKED)
        return reply

    @property
    def is_parkable(self) -> bool:
        """Nothing of the session needs this host now (S-10)."""
        run = self.state.active_run
        if self.log.phase is Phase.LEAVING or self.log.in_flight or self.execution.is_busy:
            return False
        if run is None or run.status is RunStatus.BLOCKED:
            return not self.execution.has_code
        if run.status is RunStatus.WAITING:
            wait = run.wait
            return wait is not None and run.open_steps <= ({wait.op} if wait.is_backoff else set())
        if self.execution.has_code:
            return False
        is_later = run.retry_at is not None and run.retry_at > self._clock.now()
        is_retiring = self.log.phase is Phase.RETIRING
        return is_retiring or (run.status is RunStatus.QUEUED and is_later)

    @property
    def is_settled(self) -> bool:
        """All code waits or has ended, and everything decided is stored."""
        return self.log.is_stored and not self.log.in_flight and self.execution.is_quiet

    async def park(self) -> Committed | None:
        """Abort, write the park commit; None if something came in between and the session stays.

        Raises:
            Moved: The ledger refused it: the session left this host before.
        """
        if self.log.phase is Phase.LIVE:
            self.log.enter(Phase.PARKING)
        self.execution.abort(RunParked("the run is parked"))
        await self.execution.wait_closed()
        await self.log.idle()
        if not self.is_parkable or self.is_lost:
            if self.log.phase is Phase.PARKING:
                self.log.enter(Phase.LIVE)
            self._proceed()
            return None
        reply = await self._leave()
        if not isinstance(reply, Committed):
            raise Moved(f"{self.id} left this host")
        return reply

    def drop(self) -> None:
        """The adoption is over; nothing more is written."""
        self.log.enter(Phase.OVER)
        self._end()

    def _lost(self, reason: str) -> None:
        self._end()
        self._on_lost(reason)

    def _end(self) -> None:
        self._deadline_timer.stop()
        self.emissions.close()
        self._turns.close()
        self.execution.abort(RunParked("the session left this host"))

    # --- commands -------------------------------------------------------------------------------

    async def command(self, command: Command) -> Mapping[str, Any]:
        """Decide, commit, answer.

        Raises:
            Moved: The session left this host; nothing happened, or repeating with the same operation id tells.
            StoreUnavailable: The ledger can't commit now; nothing of this command is kept.
            OutcomeUnknown: The commit was not answered within `COMMIT_WAIT_S`.
            HelmrError: The command is refused.
        """
        self.log.check_writable()
        with self.log.under_way():
            async with self.log.turn:
                decision = await self._decide(command)
                seq = self.state.seq
            reach(Point.SESSION_DECIDED)
            await self.log.until_durable(seq)
            reach(Point.SESSION_COMMITTED)
            if decision.error is not None:
                raise decision.error
            return decision.reply

    async def _decide(self, command: Command) -> Decision:
        self._turns.sent(command.trace)
        if self._token_waits.is_timed_out_by(command):
            return await self._token_waits.time_out(command)
        first = await self._deduplicator.before(command)
        if first is not None:
            return first
        by_key = await self._deduplicator.by_key(command)
        decision = by_key or self._decided(command)
        if self._deduplicator.is_open(command, decision):
            first = await self._deduplicator.again(command)
            decision = first or by_key or self._decided(command)  # the code may have gone on
        self.log.write(decision.drafts, _preconditions(command))
        if decision.drafts:
            self._cut_off(command)
            if not self._code_goes_on(decision):
                self.log.flush_now()
        return decision

    def _decided(self, command: Command) -> Decision:
        """What the command does now, a refusal too."""
        try:
            if not self._deduplicator.is_in_state(command):
                check_data(command, self.state, self.registered, self.log.context())
            return decide(self.state, command, self.log.context(command.sent_at))
        except HelmrError as error:
            return Decision(error=error)

    def _code_goes_on(self, decision: Decision) -> bool:
        """The code has been handed something and its next op will bring the flush."""
        return self.execution.has_code and any(d.body.get("next") for d in decision.drafts)

    def _cut_off(self, command: Command) -> None:
        """Code whose run was cancelled or taken back is aborted once that is on disk (S-6, S-75)."""
        signal: RunCancelled | RunParked
        match command:
            case CancelRun() | CancelSession():
                signal = RunCancelled(f"{self.id}: the run was cancelled")
            case RewindRun() | AmendWait():
                signal = RunParked(f"{self.id}: the run was taken back")
            case _:
                return
        driver = self.execution.driver
        if driver is None or self.execution.is_of(driver, self.state.active_run):
            return

        def cut() -> None:
            if self.execution.driver is driver:
                self.execution.abort(signal)

        self.log.when_durable(self.state.seq, cut)

    # --- what follows a change ------------------------------------------------------------------

    def _applied(self, entry: Entry, before: Wait | None, is_cautious: bool) -> None:
        if ends := self.emissions.ended_by(entry):
            self.log.when_durable(entry.seq, lambda: self.emissions.tell(ends))
        if entry.kind in failure_lines.LEVELS:
            said = failure_lines.line(self.state.run, entry, is_sealed=self._is_sealed)
            self.log.when_durable(entry.seq, lambda: failure_lines.tell(entry, said))
        self._turns.applied(entry)
        self.execution.applied(entry, before, is_cautious)

    def _retire(self, reason: str) -> None:
        """Parts of the code did not end: the session runs here no more, and can be parked for that."""
        self._on_retire(reason)
        if not self.is_lost:
            self.log.enter(Phase.RETIRING)

    def _code_closed(self) -> None:
        """The run's code has ended, which may have been all that kept the session from parking."""
        if not self.is_lost:
            self._changed()

    def _proceed(self) -> None:
        if self.is_lost:
            return
        if self.log.phase is not Phase.LEAVING:
            self._block_if_missing()
            self.execution.run_if_ready()
        self._changed()

    def _block_if_missing(self) -> None:
        """A run that is to execute, whose task this runtime's code does not have, is blocked (S-3)."""
        run = self.state.active_run
        is_to_run = run is not None and run.status in (RunStatus.QUEUED, RunStatus.RUNNING)
        if run is not None and is_to_run and self.registered is None:
            message = f"task {self.state.task} is not in the code of this runtime"
            self.log.write([lifecycle.run_blocked(run, "task_missing", message)])

    def _changed(self) -> None:
        if self.log.phase is not Phase.LEAVING:  # its time is the ledger's again in a moment
            self._deadline_timer.arm()
            self._on_change()


def _preconditions(command: Command) -> tuple[Precondition, ...]:
    return (OperationUnused(command.operation),) if command.operation is not None else ()
