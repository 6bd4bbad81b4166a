"""Bugs to be found: each takes away one thing that the runtime relies on, and nothing else.

They are what a reader might take for superfluous. A simulator that does not find them proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest import mock

from helmr.errors import HelmrError
from helmr.errors.base import HelmrSignal
from helmr_runtime.core import fork
from helmr_runtime.core.answerers import Answerers
from helmr_runtime.core.decide import inputs as deciding
from helmr_runtime.core.decide import ops, votes
from helmr_runtime.core.entries import Draft, Entry, EntryKind
from helmr_runtime.core.limits import Ask, Permits, TurnQueue
from helmr_runtime.core.notices import Outbox, Position
from helmr_runtime.core.people import DisabledPeople
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.run import Run, Wait
from helmr_runtime.directory import failover
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.failover import Failover
from helmr_runtime.directory.hosts import PoolHost
from helmr_runtime.directory.limiter import Limiter
from helmr_runtime.features.schedules.memory import ScheduleMemory
from helmr_runtime.ledger import memory
from helmr_runtime.ledger.index import commands
from helmr_runtime.ledger.index.authored import find_start
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.keys import KeyIndex
from helmr_runtime.ledger.index.ledger_index import LedgerIndex, Timers
from helmr_runtime.ledger.index.tokens import TokenIndex
from helmr_runtime.ledger.index.work_list import WorkList
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.memory_rows import KeptEntries, prunable
from helmr_runtime.ports import (
    Committed,
    Flush,
    KnownKey,
    PermitChange,
    PermitLine,
    StartSession,
)
from helmr_runtime.rpc.calls import CallFailure
from helmr_runtime.service import access
from helmr_runtime.service.people import PeopleOperations
from helmr_runtime.session.code_runner import CodeRunner
from helmr_runtime.session.committer import Committer
from helmr_runtime.session.events import SessionPhase
from helmr_runtime.session.host import HostActor, SessionSlot
from helmr_runtime.session.live_session import LiveSession
from helmr_runtime.session.permits import HostPermits, LimitPermit
from tests.programs.simulation import ledger as simulated_ledger
from tests.programs.simulation.disk import SimulatedDisk
from tests.programs.simulation.network import Network
from tests.programs.simulation.scheduler import Process

Bug = Callable[[], AbstractContextManager[object]]


def _epoch_unchecked() -> AbstractContextManager[object]:
    """The ledger takes what fits, whoever writes it."""
    check = LedgerIndex.check

    def takes_all(self: LedgerIndex, flush: Flush) -> Any:
        epoch = self.heads[flush.session_id].epoch
        return check(self, replace(flush, epoch=max(flush.epoch, epoch)))

    return mock.patch.object(LedgerIndex, "check", takes_all)


def _acknowledged_before_the_commit() -> AbstractContextManager[object]:
    """A session answers what it has decided and not stored."""

    async def at_once(self: Committer, seq: int) -> None:
        return

    return mock.patch.object(Committer, "until_durable", at_once)


def _step_before_its_start_is_stored() -> AbstractContextManager[object]:
    """A step begins when it was asked for."""

    def at_once(self: LiveSession, seq: int, call: Callable[[], None]) -> None:
        call()

    return mock.patch.object(LiveSession, "when_durable", at_once)


def _deadline_not_armed_after_a_restart() -> AbstractContextManager[object]:
    """An unheld session's deadline is armed when its wait opens, and not when the ledger has read it back."""
    restore = MemoryLedger._restore

    def forgets(self: MemoryLedger) -> None:
        with mock.patch.object(Timers, "arm"):
            restore(self)

    return mock.patch.object(MemoryLedger, "_restore", forgets)


def _delivery_taken_off_when_sent() -> AbstractContextManager[object]:
    """A token's end is off the work list when somebody has seen it, not when it is stored."""
    since = WorkList.since

    def shows_once(self: WorkList, *args: Any) -> Any:
        found = since(self, *args)
        for wait_id in tuple(self.deliveries):
            self.delivered(wait_id)
        return found

    return mock.patch.object(WorkList, "since", shows_once)


def _released_run_not_on_the_list() -> AbstractContextManager[object]:
    """A session that is given up with a run to go on does not stand in the work list."""
    settle = LedgerIndex.settle

    def forgets(self: LedgerIndex, head: Any, now: Any, *, flush: Flush | None = None) -> None:
        settle(self, head, now, flush=flush)
        if flush is not None and flush.release:
            self.work.set_ready(head, False)

    return mock.patch.object(LedgerIndex, "settle", forgets)


# --- what directory and ledger rely on when hosts die -------------------------------------------------


def _stale_load() -> AbstractContextManager[object]:
    """A host that was given up may still load what was sent to it in this term."""
    return mock.patch.object(LedgerIndex, "end_holder")


def _earlier_term() -> AbstractContextManager[object]:
    """What was sent in an earlier term adopts as well."""
    hold = LedgerIndex.hold

    def takes_any(self: LedgerIndex, *args: Any, term: str | None = None) -> int:
        return hold(self, *args)

    return mock.patch.object(LedgerIndex, "hold", takes_any)


def _suspects_together() -> AbstractContextManager[object]:
    """A session that was suspect of two crashes goes on beside others."""
    return mock.patch.object(failover, "ALONE_AFTER", 1_000_000)


def _not_reconciled() -> AbstractContextManager[object]:
    """A directory that starts leaves what is held by nobody."""

    async def takes_a_term(self: DirectoryActor) -> None:
        await self._failover.held()

    return mock.patch.object(DirectoryActor, "_reconcile", takes_a_term)


def _lost_session_not_abandoned() -> AbstractContextManager[object]:
    """A session that its host lost is nobody's, and the ledger is not told."""
    return mock.patch.object(Failover, "start_one")


# --- what is relied on of hosts ------------------------------------------------------------------------


def _released_without_a_commit() -> AbstractContextManager[object]:
    """A host says that it has given a session up, and has not written it."""

    async def says_so(self: LiveSession, unsaved_max: int = 0) -> Committed:
        self._disarm()
        self.phase = SessionPhase.OVER
        self._committer.stop()
        self._telling.close()
        return Committed(first_feed_offset=0)

    return mock.patch.object(LiveSession, "_release", says_so)


def _slot_of_a_failed_load_kept() -> AbstractContextManager[object]:
    """A session that could not be loaded keeps its place."""
    remove = HostActor._remove

    def keeps(self: HostActor, slot: SessionSlot) -> None:
        if slot.report is not None:
            remove(self, slot)

    return mock.patch.object(HostActor, "_remove", keeps)


def _loss_not_reported() -> AbstractContextManager[object]:
    """A host says nothing of the sessions that it has lost."""
    report = HostActor._report

    def says_nothing(self: HostActor, slot: SessionSlot) -> None:
        report(self, slot)
        self._past.clear()

    return mock.patch.object(HostActor, "_report", says_nothing)


# --- what is relied on of calls ------------------------------------------------------------------------


def _crash_not_heard() -> AbstractContextManager[object]:
    """Whoever awaits an answer of a process that has ended is not told."""
    died = Network.died

    def untold(self: Network, process: Process, *args: Any, **options: Any) -> None:
        pending, self.open = self.open, {}
        try:
            died(self, process, *args, **options)
        finally:
            self.open = pending

    return mock.patch.object(Network, "died", untold)


def _error_without_its_kind() -> AbstractContextManager[object]:
    """What an actor raised comes as an error like any other."""

    def plain(self: CallFailure) -> HelmrError:
        return HelmrError(self.message)

    return mock.patch.object(CallFailure, "error", plain)


def _answer_to_a_wait_that_is_over() -> AbstractContextManager[object]:
    """An answer completes the token of its wait, whatever has become of the wait."""
    return mock.patch.object(commands, "_require_waiting")


def _default_over_a_completion() -> AbstractContextManager[object]:
    """The ledger writes a default though the token was completed before its time, and its wait has not heard of it."""
    return mock.patch.object(LedgerIndex, "may_time_out", return_value=True)


def _key_of_any_stream() -> AbstractContextManager[object]:
    """A key that came with the adoption is known, whichever stream it was for."""

    def hashes_only(self: KnownKey, stream: str, key_hash: str) -> bool:
        return bool(self.entry.body.get("key_hash") == key_hash)

    return mock.patch.object(KnownKey, "is_of", hashes_only)


# --- what votes rely on ---------------------------------------------------------------------------------


def _disabled_goes_on() -> AbstractContextManager[object]:
    """The ledger does not look at a flush for who is disabled."""
    return mock.patch.object(DisabledPeople, "acts_in", return_value=False)


def _vote_of_the_disabled_counts() -> AbstractContextManager[object]:
    """A vote of somebody who was disabled since counts until it is taken back."""
    return mock.patch.object(DisabledPeople, "_have_agreed", return_value=False)


def _votes_not_given_back() -> AbstractContextManager[object]:
    """Who is disabled keeps the votes that they have."""
    return mock.patch.object(PeopleOperations, "_give_back")


def _vote_counted_twice() -> AbstractContextManager[object]:
    """Who votes again counts beside their own earlier vote."""
    tally = votes.tally

    def twice(wait: Wait, person: str, data: Any, *more: Any) -> dict[str, Any]:
        return tally(wait, f"{person} again", data, *more)

    return mock.patch.object(votes, "tally", twice)


def _left_out_votes() -> AbstractContextManager[object]:
    """Who is left out by a list may vote if another list admits them."""
    require = Answerers.require

    def admits(self: Answerers, *args: Any) -> None:
        require(replace(self, not_by=()), *args)

    return mock.patch.object(Answerers, "require", admits)


# --- what corrections rely on --------------------------------------------------------------------------


def _key_kept_over_a_rewind() -> AbstractContextManager[object]:
    """A step that had an outcome, and runs again after a rewind, does so under the key that it had."""
    return mock.patch.object(Run, "rewinds_of", return_value=0)


def _kept_for_another_question() -> AbstractContextManager[object]:
    """A wait takes the first answer that a rewind kept, whatever that answered."""
    kept = ops._kept

    def takes_any(run: Run, op: int, ask: WaitRequest, question_hash: str | None) -> Draft | None:
        return kept(run, op, ask, run.held[0].question_hash if run.held else question_hash)

    return mock.patch.object(ops, "_kept", takes_any)


def _rewound_code_not_aborted() -> AbstractContextManager[object]:
    """Code goes on after its run was taken back."""
    abort = CodeRunner.abort

    def only_others(self: CodeRunner, signal: HelmrSignal) -> None:
        if "taken back" not in str(signal):
            abort(self, signal)

    return mock.patch.object(CodeRunner, "abort", only_others)


def _copied_step_forgotten() -> AbstractContextManager[object]:
    """A fork does not know the outcomes of the steps that it was given."""
    copies = fork._copies

    def without(copied: Sequence[Entry], *args: Any) -> tuple[Entry, ...]:
        return copies([e for e in copied if e.kind is not EntryKind.STEP_SUCCEEDED], *args)

    return mock.patch.object(fork, "_copies", without)


# --- what schedules rely on ----------------------------------------------------------------------------


def _due_time_done_by_the_index_only() -> AbstractContextManager[object]:
    """A ledger that starts does not read from the first entries of sessions which due times they end."""
    restore = MemoryLedger._restore

    def reads_without(self: MemoryLedger) -> None:
        apply = ScheduleMemory.apply

        def facts_only(index: ScheduleMemory, entry: Entry) -> None:
            if entry.kind is not EntryKind.SESSION_CREATED:
                apply(index, entry)

        with mock.patch.object(ScheduleMemory, "apply", facts_only):
            restore(self)

    return mock.patch.object(MemoryLedger, "_restore", reads_without)


def _schedule_not_armed_after_a_restart() -> AbstractContextManager[object]:
    """A schedule's next due time is looked at when it is written or was due, and not when a ledger starts."""
    restore = MemoryLedger._restore

    def forgets(self: MemoryLedger) -> None:
        with mock.patch.object(ScheduleMemory, "_arm"):
            restore(self)

    return mock.patch.object(MemoryLedger, "_restore", forgets)


# --- what notices, links and children rely on ----------------------------------------------------------


def _queued_notice_forgotten() -> AbstractContextManager[object]:
    """The position of a notice target is what was read of the feed, whatever is still to be told."""
    position = Outbox.position

    def as_read(self: Outbox) -> Position:
        return replace(position(self), offset=self.read_offset)

    return mock.patch.object(Outbox, "position", as_read)


def _lane_goes_on_unstored() -> AbstractContextManager[object]:
    """What follows a notice that was passed by is told before it is stored that it was."""
    pass_by = Outbox._pass_by

    def at_once(self: Outbox, now: datetime) -> None:
        pass_by(self, now)
        self.passed.clear()

    return mock.patch.object(Outbox, "_pass_by", at_once)


def _dead_link_answers() -> AbstractContextManager[object]:
    """An answer link opens its wait for ever."""
    lives = ExitStack()
    lives.enter_context(mock.patch.object(access, "_is_live", return_value=True))
    lives.enter_context(mock.patch.object(deciding, "check_live", lambda token, now: token))
    return lives


def _child_started_again() -> AbstractContextManager[object]:
    """The ledger does not look whether a child that is started is there already."""

    def finds_none(index: LedgerIndex, start: StartSession) -> Any:
        return find_start(index, start) if start.parent is None else None

    return mock.patch.object(memory, "find_start", finds_none)


# --- what pruning relies on ----------------------------------------------------------------------------


def _pruned_family_torn() -> AbstractContextManager[object]:
    """A session that is over is pruned whatever becomes of its parent and its children."""

    def alone(
        index: LedgerIndex, entries: KeptEntries, before: datetime, only: Collection[str] | None
    ) -> list[Head]:
        with mock.patch.object(TokenIndex, "__iter__", side_effect=lambda: iter(()), create=True):
            return prunable(index, entries, before, only)

    return mock.patch.object(memory, "prunable", alone)


def _pruned_keys_stay() -> AbstractContextManager[object]:
    """The ledger still knows public tokens of sessions that it has pruned."""
    return mock.patch.object(KeyIndex, "forget")


# --- what limits rely on -------------------------------------------------------------------------------


def _permit_lost_with_its_host() -> AbstractContextManager[object]:
    """What a dead host held does not come back."""
    on_crash = Limiter.on_crash

    def keeps(self: Limiter, host: PoolHost) -> None:
        with mock.patch.object(Limiter, "_drop"):
            on_crash(self, host)

    return mock.patch.object(Limiter, "on_crash", keeps)


def _unused_permit_lost() -> AbstractContextManager[object]:
    """A permit that is given as its session leaves memory is held by no one."""

    def keeps(self: Limiter, host: PoolHost, permits: Permits, line: PermitLine) -> None:
        if line.change is not PermitChange.LEFT or line.ticket not in permits.held:
            take(self, host, permits, line)

    take = Limiter._take_line
    return mock.patch.object(Limiter, "_take_line", keeps)


def _permit_given_twice() -> AbstractContextManager[object]:
    """A new directory does not count what an earlier one gave."""
    return mock.patch.object(Permits, "is_held")


def _given_before_all_are_heard() -> AbstractContextManager[object]:
    """A new directory gives permits before every host has said what it holds."""
    start = Limiter.start

    def at_once(self: Limiter) -> None:
        self._unheard = set()
        start(self)

    return mock.patch.object(Limiter, "start", at_once)


def _thread_without_its_permit() -> AbstractContextManager[object]:
    """A permit comes back with its step, whatever of it goes on."""
    end = HostPermits.end

    def at_once(self: HostPermits, permit: LimitPermit, is_over: object = None) -> None:
        end(self, permit)

    return mock.patch.object(HostPermits, "end", at_once)


def _permit_of_code_cut_off() -> AbstractContextManager[object]:
    """A run's permit comes back when the run has ended, though its code is still on its way out."""
    rest = CodeRunner.rest

    def at_once(self: CodeRunner, run: Any) -> None:
        rest(self, run)
        if run is None:
            self.permits.end(0)

    return mock.patch.object(CodeRunner, "rest", at_once)


def _late_permit_used() -> AbstractContextManager[object]:
    """A permit is used however late it comes."""
    give = Limiter._give

    def for_ever(self: Limiter, ticket: Any, use_by: object) -> None:
        give(self, ticket, None)

    return mock.patch.object(Limiter, "_give", for_ever)


def _one_key_first() -> AbstractContextManager[object]:
    """A key whose turn it was is the next again."""
    return mock.patch.object(TurnQueue, "take", TurnQueue.remove)


def _begins_before_what_goes_on() -> AbstractContextManager[object]:
    """What goes on after a wait waits until no other wants to begin."""

    def beginning(self: Permits) -> Ask | None:
        return self._beginning.first() or self._going_on.first()

    return mock.patch.object(Permits, "_first", beginning)


def _turn_untold() -> AbstractContextManager[object]:
    """A session that has left memory is not told that its turn is near."""
    return mock.patch.object(Limiter, "_bring_back")


# --- what is relied on of the disk ---------------------------------------------------------------------


def _commits_not_synced() -> AbstractContextManager[object]:
    """A commit counts once it is written, whether or not it is on disk."""
    return mock.patch.object(SimulatedDisk, "fdatasync")


def _epochs_from_what_is_stored() -> AbstractContextManager[object]:
    """A ledger that starts gives out the epochs behind those that it finds, and forgets those that it gave out."""
    return mock.patch.object(simulated_ledger, "EPOCHS_PER_OPENING", 0)


def _unsynced_relied_on() -> AbstractContextManager[object]:
    """A ledger that starts relies on what it reads in the log, which an earlier one may not have synced."""
    return mock.patch.object(SimulatedDisk, "merge_found")


BUGS: dict[str, Bug] = {
    "epoch-unchecked": _epoch_unchecked,
    "acknowledged-early": _acknowledged_before_the_commit,
    "step-early": _step_before_its_start_is_stored,
    "deadline-not-rearmed": _deadline_not_armed_after_a_restart,
    "delivery-lost": _delivery_taken_off_when_sent,
    "released-run-forgotten": _released_run_not_on_the_list,
    "stale-load": _stale_load,
    "earlier-term": _earlier_term,
    "suspects-together": _suspects_together,
    "not-reconciled": _not_reconciled,
    "lost-not-abandoned": _lost_session_not_abandoned,
    "released-unwritten": _released_without_a_commit,
    "failed-load-kept": _slot_of_a_failed_load_kept,
    "loss-not-reported": _loss_not_reported,
    "crash-not-heard": _crash_not_heard,
    "late-answer": _answer_to_a_wait_that_is_over,
    "default-over-completion": _default_over_a_completion,
    "errors-alike": _error_without_its_kind,
    "key-of-any-stream": _key_of_any_stream,
    "disabled-goes-on": _disabled_goes_on,
    "vote-of-the-disabled": _vote_of_the_disabled_counts,
    "votes-not-given-back": _votes_not_given_back,
    "vote-twice": _vote_counted_twice,
    "left-out-votes": _left_out_votes,
    "key-kept": _key_kept_over_a_rewind,
    "kept-for-another": _kept_for_another_question,
    "rewound-goes-on": _rewound_code_not_aborted,
    "copied-step-forgotten": _copied_step_forgotten,
    "schedule-twice": _due_time_done_by_the_index_only,
    "schedule-not-rearmed": _schedule_not_armed_after_a_restart,
    "notice-forgotten": _queued_notice_forgotten,
    "lane-unstored": _lane_goes_on_unstored,
    "dead-link": _dead_link_answers,
    "child-again": _child_started_again,
    "commits-unsynced": _commits_not_synced,
    "found-unsynced": _unsynced_relied_on,
    "pruned-apart": _pruned_family_torn,
    "pruned-keys": _pruned_keys_stay,
    "epochs-again": _epochs_from_what_is_stored,
    "permit-lost": _permit_lost_with_its_host,
    "permit-unused": _unused_permit_lost,
    "permit-twice": _permit_given_twice,
    "permits-unheard": _given_before_all_are_heard,
    "permit-of-a-thread": _thread_without_its_permit,
    "permit-of-code": _permit_of_code_cut_off,
    "permit-late": _late_permit_used,
    "one-key-first": _one_key_first,
    "begins-first": _begins_before_what_goes_on,
    "turn-untold": _turn_untold,
}
DAYS: dict[str, str] = {
    **dict.fromkeys(
        (
            "permit-lost",
            "permit-unused",
            "permit-twice",
            "permits-unheard",
            "permit-of-a-thread",
            "permit-of-code",
            "permit-late",
            "one-key-first",
            "begins-first",
            "turn-untold",
        ),
        "tenant",
    ),
    **dict.fromkeys(("late-answer", "lost-not-abandoned"), "partner"),
    "vote-of-the-disabled": "approver",
}
"""On whose day a bug is looked for, if not on any."""


def planted(name: str | None) -> AbstractContextManager[object]:
    """The bug of that name, none without one."""
    return BUGS[name]() if name is not None else nullcontext()
