"""A session's state, folded from its entries (S-53).

`SessionState.apply` is the only way the state changes. Deciding reads it; replay walks the journal, which is in `run`.
It keeps only what deciding and replaying the newest run need: the session's past costs nothing.

A wait takes the first record in sequence whose correlation id is exactly its own (S-23).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helmr.errors import BadRequest, DataError
from helmr.models import CORRELATION_ID_MAX, Activity, AnswerMode, RunStatus, SessionStatus
from helmr.models.attachments import STORE_STEP
from helmr_runtime.core.answerers import names_of
from helmr_runtime.core.attachments import stored_in
from helmr_runtime.core.commands import FirstReceipt, receipt_of
from helmr_runtime.core.entries import GENESIS, Entry, EntryKind, from_iso, iso, voters_of
from helmr_runtime.core.public_tokens import ScopedToken
from helmr_runtime.core.run import ACTIVE, AnswerToKeep, Run, Wait

OPERATIONS_KEPT_MAX = 10_000
SEND_KEYS_KEPT_MAX = 10_000
"""Receipts that a hot session remembers; the ledger holds the older ones."""


@dataclass(slots=True)
class InputRecord:
    """An accepted record that no wait has consumed, or that the newest run consumed."""

    id: str
    stream: str
    seq: int
    data: Any
    correlation_id: str | None
    size_bytes: int
    entry_seq: int
    feed_offset: int | None
    has_started_run: bool = False
    mode: str | None = None
    """The channel that it came by (S-73); None in a record of release 0.1.0."""
    sent_by: tuple[str, ...] = ()
    """People that its sender names, in the form of lists of people; empty before release 0.7.0."""


class SessionState:
    """Everything a decision about one session reads.

    Attributes:
        seq: Seq of the last entry, 0 before the first.
        last_hash: Hash of the last entry.
        last_at: Time of the last entry; no later entry is earlier (S-50).
        unconsumed: Per stream, the unconsumed records in stream seq order.
        taken: Records that the newest run consumed, by (stream, seq); a replay reads their data.
        operations: Receipts of operations folded since this state was made, by operation id.
        send_keys: Idempotency keys folded since then: (stream, key hash) → (data hash, receipt).
    """

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.seq = 0
        self.last_hash: bytes = GENESIS
        self.last_at: datetime | None = None
        self.task = ""
        self.external_id: str | None = None
        self.tags: list[str] = []
        self.metadata: dict[str, Any] = {}
        self.starters: list[str] = []
        """People who started the session, its ancestors and its fork, in the form of lists of people: proven, or
        claimed with a key."""
        self.status = SessionStatus.OPEN
        self.input_ended = False
        self.closed_by: str | None = None
        """The run whose end closed the session, if one did."""
        self.run: Run | None = None
        self.runs_count = 0
        self.unconsumed: dict[str, list[InputRecord]] = {}
        self.unconsumed_count = 0
        self.unconsumed_bytes = 0
        self.taken: dict[tuple[str, int], InputRecord] = {}
        self.input_seqs: dict[str, int] = {}
        self.output_seqs: dict[str, int] = {}
        self.outputs_set_aside: dict[str, list[int]] = {}
        """Per stream, the records whose ops have left the journal: readers have seen them, histories omit them
        (S-128)."""
        self.operations: dict[str, FirstReceipt] = {}
        self.send_keys: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self.has_forgotten_keys = False
        """`send_keys` no longer holds all since this state was made: ask the ledger."""
        self.public_tokens: dict[str, dict[str, Any]] = {}
        self.attachments: list[str] = []
        """Ids of the files that it has stored."""

    @property
    def active_run(self) -> Run | None:
        """The newest run if it has not ended."""
        return self.run if self.run is not None and self.run.status in ACTIVE else None

    @property
    def wait(self) -> Wait | None:
        """The active run's pending wait."""
        return self.run.wait if self.run is not None else None

    @property
    def all_starters(self) -> list[str]:
        """People that `starter` means in a wait of the active run (S-112)."""
        of_run = self.run.starters if self.run is not None else ()
        return list(dict.fromkeys((*self.starters, *of_run)))

    @property
    def activity(self) -> Activity:
        """S-1."""
        run = self.active_run
        return Activity(run.status.value) if run is not None else Activity.IDLE

    def record(self, stream: str, seq: int) -> InputRecord:
        """An unconsumed record, or one that the newest run consumed."""
        found = self.taken.get((stream, seq))
        if found is None:
            found = next((r for r in self.unconsumed.get(stream, ()) if r.seq == seq), None)
        if found is None:
            raise DataError(f"{self.id}: record {seq} of stream {stream} is not in the state")
        return found

    def apply(self, entry: Entry) -> None:
        """Fold one entry. Its seq follows the last one's."""
        if entry.seq != self.seq + 1:
            raise DataError(f"{self.id}: entry {entry.seq} does not follow {self.seq}")
        _HANDLERS.get(entry.kind, _ignore)(self, entry)
        self.seq = entry.seq
        self.last_hash = entry.hash
        self.last_at = entry.recorded_at
        first = FirstReceipt.of(entry) if "operation" in entry.body else None
        if first is not None:
            self.operations[first.operation.id] = first
            if len(self.operations) > OPERATIONS_KEPT_MAX:
                del self.operations[next(iter(self.operations))]

    def the_run(self, entry: Entry) -> Run:
        """The newest run, which every run entry is about."""
        if self.run is None or self.run.id != entry.run_id:
            raise DataError(
                f"{self.id}: entry {entry.seq} is about {entry.run_id}, not the newest run"
            )
        return self.run


Handler = Callable[[SessionState, Entry], None]


def _ignore(state: SessionState, entry: Entry) -> None:
    """Entries that change nothing a decision reads."""


def _session_created(state: SessionState, entry: Entry) -> None:
    body = entry.body
    state.task = body["task"]
    state.external_id = body.get("external_id")
    state.tags = list(body.get("tags", ()))
    state.metadata = dict(body.get("metadata", {}))
    state.starters = _started_by(entry)


def _started_by(entry: Entry) -> list[str]:
    """Return the people behind the start that this entry records."""
    return list(dict.fromkeys((*names_of(entry.principal), *entry.body.get("starters", ()))))


def _run_starters(state: SessionState, entry: Entry) -> tuple[str, ...]:
    """Return the starters of this run; one that continues another also has that run's."""
    own = _started_by(entry)
    goes_on = state.run is not None and entry.body["started_by"]["type"] == "run"
    before = state.run.starters if goes_on and state.run is not None else ()
    return tuple(dict.fromkeys((*before, *own)))


def _session_closed(state: SessionState, entry: Entry) -> None:
    state.status = SessionStatus.CLOSED
    state.input_ended = state.input_ended or bool(entry.body.get("end_input"))
    state.closed_by = entry.body.get("by_run")


def _session_cancelled(state: SessionState, entry: Entry) -> None:
    state.status = SessionStatus.CANCELLED
    for known in state.public_tokens.values():  # S-6
        known.setdefault("revoked_at", iso(entry.recorded_at))


def _session_forked(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    state.starters = list(dict.fromkeys((*state.starters, *entry.body.get("starters", ()))))
    held = [AnswerToKeep(**one) for one in entry.body.get("held", ())]
    unused = {one["wait_id"] for one in entry.body.get("kept_unused", ())}
    run.begin_fork(held, unused)


def _run_created(state: SessionState, entry: Entry) -> None:
    if entry.run_id is None:
        raise DataError(f"{state.id}: entry {entry.seq} creates a run without an id")
    body = entry.body
    state.run = Run(
        id=entry.run_id,
        task=body["task"],
        payload=body.get("payload"),
        created_seq=entry.seq,
        created_at=entry.recorded_at,
        draws_from=body.get("draws_from"),
        starters=_run_starters(state, entry),
    )
    state.runs_count += 1
    state.taken.clear()
    started_by = body.get("started_by", {})
    if started_by.get("type") == "record":
        for records in state.unconsumed.values():
            for record in records:
                if record.id == started_by.get("id"):
                    record.has_started_run = True


def _run_executes(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    run.status = RunStatus.WAITING if run.wait is not None else RunStatus.RUNNING
    run.is_started = True
    run.retry_at = None


def _run_attempt_failed(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    journal, failed_op = run.journal, entry.body.get("failed_op")
    run.next_attempt(entry.body["next_attempt"], failed_op, has_failed=True)
    run.retry_at = from_iso(entry.body["retry_at"])
    _outputs_set_aside(state, run, journal)


def _run_retried(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    journal, has_failed = run.journal, run.status is RunStatus.FAILED
    run.next_attempt(entry.body["attempt"], entry.body.get("failed_op"), has_failed=has_failed)
    _outputs_set_aside(state, run, journal)


def _outputs_set_aside(state: SessionState, run: Run, journal: Sequence[Entry]) -> None:
    """Note which records of outputs have left the journal."""
    if len(run.journal) == len(journal):
        return
    left = {entry.seq for entry in run.journal}
    for entry in journal:
        if entry.kind is EntryKind.OUTPUT_APPENDED and entry.seq not in left:
            gone = state.outputs_set_aside.setdefault(entry.body["stream"], [])
            gone.append(entry.body["stream_seq"])


def _run_rewound(state: SessionState, entry: Entry) -> None:
    run, body = state.the_run(entry), entry.body
    held, journal = [AnswerToKeep(**one) for one in body["held"]], run.journal
    run.rewind(body["attempt"], set(body["set_aside"]), held)
    _outputs_set_aside(state, run, journal)
    if body.get("opens_session"):
        state.status, state.closed_by = SessionStatus.OPEN, None
    for public_token_id in body["public_tokens"]:
        if public_token_id in state.public_tokens:
            state.public_tokens[public_token_id].setdefault("revoked_at", iso(entry.recorded_at))


def _run_ended(status: RunStatus) -> Handler:
    def handle(state: SessionState, entry: Entry) -> None:
        run = state.the_run(entry)
        run.status = status
        run.retry_at = None
        run.failed_op = entry.body.get("failed_op")

    return handle


def _run_blocked(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    run.status = RunStatus.BLOCKED
    run.retry_at = None


def _run_actor_died(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    run.crashes = int(entry.body["count"])
    run.is_cautious = True


def _step_started(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    run.open_steps.add(_op(entry))
    run.add(entry)


def _step_try_failed(state: SessionState, entry: Entry) -> None:
    state.the_run(entry).add(entry)


def _step_outcome(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    run.open_steps.discard(_op(entry))
    stored = stored_in(entry.body)
    if stored is not None and run.step_name(_op(entry)) == STORE_STEP:
        state.attachments.append(stored)
    run.add(entry)
    run.outcome_seen()


def _step_abandoned(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    run.open_steps.discard(_op(entry))
    if entry.body["reason"] == "task":
        run.add(entry)
    elif entry.body["reason"] == "run_end":  # the run's end: the next attempt asks for it again
        run.forget(_op(entry))


def _instant(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    if entry.kind is EntryKind.OUTPUT_APPENDED:
        state.output_seqs[entry.body["stream"]] = entry.body["stream_seq"]
    run.add(entry)
    run.outcome_seen()


def _patch_marked(state: SessionState, entry: Entry) -> None:
    state.the_run(entry).add(entry)


def _public_token_created(state: SessionState, entry: Entry) -> None:
    if (
        "copied_from" not in entry.body
    ):  # it is another session's, and its secret is not known here (S-86)
        token = ScopedToken.from_json({**entry.body, "created_at": iso(entry.recorded_at)})
        if token.scope.session_id == state.id:
            state.public_tokens[token.id] = token.to_json()
    if entry.op is not None:
        _instant(state, entry)


def _public_token_changed(state: SessionState, entry: Entry) -> None:
    known = state.public_tokens.get(entry.body["public_token_id"])
    if known is None:
        return
    at = iso(entry.recorded_at)
    if entry.kind is EntryKind.PUBLIC_TOKEN_REVOKED:
        known.setdefault("revoked_at", at)
    else:
        known |= {"uses": entry.body["uses"], "last_used_at": at}


def _wait_opened(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    run.wait = Wait.opened(entry, _op(entry))
    run.status = RunStatus.WAITING
    if run.wait.has_own_op:
        run.add(entry)


def _wait_changed(state: SessionState, entry: Entry) -> None:
    wait = state.wait
    if wait is None or wait.id != entry.body["wait_id"]:
        raise DataError(f"{state.id}: entry {entry.seq} changes a wait that is not pending")
    if entry.kind is EntryKind.WAIT_ASSIGNED:
        wait.assignee = entry.body.get("assignee")
    if wait.escalation is not None:
        wait.escalation = wait.escalation.after(entry)


def _wait_voted(state: SessionState, entry: Entry) -> None:
    """A person's newest vote takes the place of their last one, or is withdrawn (S-113)."""
    wait, body = state.wait, entry.body
    if wait is None or wait.id != body["wait_id"]:
        raise DataError(f"{state.id}: entry {entry.seq} votes on a wait that is not pending")
    # Votes of disabled people are dropped: they are withdrawn sooner or later, and people enabled again vote again.
    wait.votes = {one: vote for one, vote in wait.votes.items() if one in body["voters"]}
    if entry.kind is EntryKind.WAIT_VOTED:
        vote = (entry.seq, body["proposal"])
        wait.votes.update((one, vote) for one in voters_of(body))


def _wait_resolved(state: SessionState, entry: Entry) -> None:
    run = state.the_run(entry)
    wait = run.wait
    if wait is None or wait.id != entry.body["wait_id"]:
        raise DataError(f"{state.id}: entry {entry.seq} resolves a wait that is not pending")
    run.wait = None
    _drop_links(state, wait.id)
    if wait.kind == "input" and wait.stream is not None and not wait.is_restricted:
        timed_out = entry.kind is EntryKind.WAIT_TIMED_OUT
        run.closed_waits[wait.stream, wait.correlation_id] = (entry.seq, timed_out)
    if "kept_from" in entry.body:
        run.held = [one for one in run.held if one.wait_id != entry.body["kept_from"]]
    elif entry.kind is EntryKind.WAIT_FULFILLED and "record_seq" in entry.body:
        _consume(state, entry.body["stream"], entry.body["record_seq"])
    _status_after_wait(run, entry)
    if wait.is_backoff or entry.body.get("reason") == "rewound":
        return
    if entry.kind is EntryKind.WAIT_CANCELLED and entry.body["reason"] == "run_end":
        run.forget(wait.op)
        return
    run.add(entry)
    run.outcome_seen()


def _drop_links(state: SessionState, wait_id: str) -> None:
    """Answer links die with their wait (S-74)."""
    if state.public_tokens:
        state.public_tokens = {
            known_id: known
            for known_id, known in state.public_tokens.items()
            if known["scope"].get("wait_id") != wait_id
        }


def _status_after_wait(run: Run, entry: Entry) -> None:
    following = entry.body.get("next")
    if run.status is RunStatus.WAITING and following is not None:
        run.status = RunStatus(following)


def _consume(state: SessionState, stream: str, seq: int) -> None:
    records = state.unconsumed.get(stream, [])
    position = next((i for i, record in enumerate(records) if record.seq == seq), None)
    if position is None:
        raise DataError(f"{state.id}: record {seq} of stream {stream} is consumed twice")
    record = records.pop(position)
    state.unconsumed_count -= 1
    state.unconsumed_bytes -= record.size_bytes
    state.taken[stream, seq] = record


def _input_returned(state: SessionState, entry: Entry) -> None:
    """The code gave up the wait before it saw the record: the next wait may take it, in its old place."""
    run = state.the_run(entry)
    stream, seq = entry.body["stream"], entry.body["record_seq"]
    record = state.taken.pop((stream, seq), None)
    if record is None:
        raise DataError(f"{state.id}: record {seq} of stream {stream} is returned and not taken")
    insort(state.unconsumed.setdefault(stream, []), record, key=lambda one: one.seq)
    state.unconsumed_count += 1
    state.unconsumed_bytes += record.size_bytes
    run.add(entry)


def _input_accepted(state: SessionState, entry: Entry) -> None:
    body = entry.body
    stream, seq = body["stream"], body["stream_seq"]
    size = entry.size_bytes
    state.input_seqs[stream] = seq
    record = InputRecord(
        id=body["record_id"],
        stream=stream,
        seq=seq,
        data=body["data"],
        correlation_id=body.get("correlation_id"),
        size_bytes=size,
        entry_seq=entry.seq,
        feed_offset=entry.feed_offset,
        mode=body.get("mode"),
    )
    if body.get("mode") == AnswerMode.PERSON:
        record.sent_by = tuple(names_of(entry.principal))
    if "amends" in body:  # held for the wait that it was given to
        state.taken[stream, seq] = record
        return
    state.unconsumed.setdefault(stream, []).append(record)
    state.unconsumed_count += 1
    state.unconsumed_bytes += size
    key_hash = body.get("key_hash")
    if key_hash is not None:
        state.send_keys[stream, key_hash] = (body["data_hash"], receipt_of(entry))
        if len(state.send_keys) > SEND_KEYS_KEPT_MAX:
            del state.send_keys[next(iter(state.send_keys))]
            state.has_forgotten_keys = True


def _op(entry: Entry) -> int:
    if entry.op is None:
        raise DataError(f"{entry.session_id}: entry {entry.seq} ({entry.kind}) has no op")
    return entry.op


_HANDLERS: Mapping[EntryKind, Handler] = {
    EntryKind.SESSION_CREATED: _session_created,
    EntryKind.SESSION_CLOSED: _session_closed,
    EntryKind.SESSION_CANCELLED: _session_cancelled,
    EntryKind.SESSION_FORKED: _session_forked,
    EntryKind.RUN_CREATED: _run_created,
    EntryKind.RUN_STARTED: _run_executes,
    EntryKind.RUN_RESUMED: _run_executes,
    EntryKind.RUN_ATTEMPT_FAILED: _run_attempt_failed,
    EntryKind.RUN_RETRIED: _run_retried,
    EntryKind.RUN_REWOUND: _run_rewound,
    EntryKind.RUN_SUCCEEDED: _run_ended(RunStatus.SUCCEEDED),
    EntryKind.RUN_FAILED: _run_ended(RunStatus.FAILED),
    EntryKind.RUN_CANCELLED: _run_ended(RunStatus.CANCELLED),
    EntryKind.RUN_BLOCKED: _run_blocked,
    EntryKind.RUN_ACTOR_DIED: _run_actor_died,
    EntryKind.STEP_STARTED: _step_started,
    EntryKind.STEP_TRY_FAILED: _step_try_failed,
    EntryKind.STEP_SUCCEEDED: _step_outcome,
    EntryKind.STEP_FAILED: _step_outcome,
    EntryKind.STEP_ABANDONED: _step_abandoned,
    EntryKind.WAIT_OPENED: _wait_opened,
    EntryKind.WAIT_ASSIGNED: _wait_changed,
    EntryKind.WAIT_REMINDED: _wait_changed,
    EntryKind.WAIT_VOTED: _wait_voted,
    EntryKind.WAIT_VOTE_WITHDRAWN: _wait_voted,
    EntryKind.WAIT_FULFILLED: _wait_resolved,
    EntryKind.WAIT_TIMED_OUT: _wait_resolved,
    EntryKind.WAIT_CANCELLED: _wait_resolved,
    EntryKind.INPUT_ACCEPTED: _input_accepted,
    EntryKind.INPUT_RETURNED: _input_returned,
    EntryKind.OUTPUT_APPENDED: _instant,
    EntryKind.CLOCK_READ: _instant,
    EntryKind.PEEK_READ: _instant,
    EntryKind.HISTORY_READ: _instant,
    EntryKind.PATCH_MARKED: _patch_marked,
    EntryKind.TOKEN_CREATED: _instant,
    EntryKind.PUBLIC_TOKEN_CREATED: _public_token_created,
    EntryKind.PUBLIC_TOKEN_SPENT: _public_token_changed,
    EntryKind.PUBLIC_TOKEN_REVOKED: _public_token_changed,
}


def takes(wait: Wait, stream: str, correlation_id: str | None) -> bool:
    """True if this input wait takes a record of that stream and correlation id.

    A wait without a correlation id takes any record; a restricted wait takes none (S-112).
    """
    return (
        wait.kind == "input"
        and not wait.is_restricted
        and wait.stream == stream
        and wait.correlation_id in (None, correlation_id)
    )


def first_match(
    state: SessionState,
    stream: str,
    correlation_id: str | None,
    fits: Callable[[Any], bool] = lambda data: True,
) -> InputRecord | None:
    """The unconsumed record that a wait on this stream takes now.

    Args:
        state: The session.
        stream: The wait's.
        correlation_id: The wait's.
        fits: True for data that fits the wait's own schema (S-71).
    """
    for record in state.unconsumed.get(stream, ()):
        is_for_it = correlation_id is None or record.correlation_id == correlation_id
        if is_for_it and fits(record.data):
            return record
    return None


def normal_correlation_id(value: str | None) -> str | None:
    """Return the id trimmed; None if it is empty."""
    trimmed = value.strip() if value is not None else ""
    if len(trimmed) > CORRELATION_ID_MAX:
        raise BadRequest(f"a correlation id has at most {CORRELATION_ID_MAX} characters")
    return trimmed or None
