"""A session told entry by entry: decides, stamps and folds as an actor does, without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from helmr_runtime.core import checkpoint
from helmr_runtime.core.commands import (
    AnswerWait,
    CancelRun,
    CancelSession,
    CloseSession,
    Deadline,
    OperationKey,
    RetryRun,
    Send,
    SessionCommand,
    StartRun,
    TokenEnded,
)
from helmr_runtime.core.decide import Decided, DecisionContext, TaskPolicy, decide, lifecycle, ops
from helmr_runtime.core.drafts import start_drafts
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Principal, stamp
from helmr_runtime.core.requests import (
    HistoryRequest,
    OutputRequest,
    PeekRequest,
    StepRequest,
    WaitRequest,
)
from helmr_runtime.core.run import Run, Wait
from helmr_runtime.core.state import SessionState

T0 = datetime(2030, 1, 1, tzinfo=UTC)
ALICE = Principal("api_key", "key_alice", "alice")
ERROR = {"code": "exception", "type": "ValueError", "message": "boom", "traceback": None}


def seconds(number: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=number)


class Story:
    """One session and its one run after another.

    Attributes:
        now: Moved by the test.
        is_hot: Whether a slot holds the session (else a desk).
    """

    def __init__(
        self,
        *,
        is_hot: bool = True,
        chain_key: bytes | None = None,
        starter: Principal = ALICE,
        starters: tuple[str, ...] = (),
        **policy: Any,
    ):
        policy.setdefault("inputs", frozenset({"approval", "chat"}))
        self.policy = TaskPolicy(**policy)
        self.is_hot = is_hot
        self.now = T0
        self.chain_key = chain_key
        self.parked: dict[int, str] = {}
        """Checkpoint rows by feed offset."""
        self.state = SessionState("ses_1")
        self.entries: list[Entry] = []
        self._numbers: Iterator[int] = count(1)
        self.write(
            *start_drafts(
                task="review",
                run_id="run_1",
                payload={"n": 1},
                external_id=None,
                tags=("a",),
                metadata={"m": 1},
                idempotency_key_hash=None,
                request_hash="start",
                operation=OperationKey(id="op_start", request_hash="start"),
                principal=starter,
                starters=starters,
            )
        )

    # --- telling --------------------------------------------------------------------------------

    @property
    def context(self) -> DecisionContext:
        """The circumstances now."""
        times = [self.now, *([self.state.last_at] if self.state.last_at else [])]
        return DecisionContext(now=max(times), policy=self.policy, is_hot=self.is_hot)

    @property
    def run(self) -> Run:
        """The newest run."""
        assert self.state.run is not None
        return self.state.run

    @property
    def wait(self) -> Wait:
        """The pending wait."""
        assert self.state.wait is not None
        return self.state.wait

    @property
    def kinds(self) -> list[str]:
        """The kinds of all entries."""
        return [entry.kind.value for entry in self.entries]

    def write(self, *drafts: Draft) -> list[Entry]:
        """Stamp and fold."""
        written = []
        for draft in drafts:
            entry = stamp(
                draft,
                session_id=self.state.id,
                seq=self.state.seq + 1,
                recorded_at=self.context.now,
                previous=self.state.last_hash,
                key=self.chain_key,
            )
            self.state.apply(entry)
            self.entries.append(entry)
            written.append(entry)
        return written

    def decide(self, command: SessionCommand) -> Decided:
        """Decide without writing."""
        return decide(self.state, command, self.context)

    def do(self, command: SessionCommand) -> Mapping[str, Any]:
        """Decide, write, reply; raises what the caller would get."""
        decision = self.decide(command)
        self.write(*decision.drafts)
        if decision.error is not None:
            raise decision.error
        return decision.reply

    def new(self, prefix: str) -> str:
        """A fresh id."""
        return f"{prefix}_{next(self._numbers):04d}"

    # --- commands -------------------------------------------------------------------------------

    def send(self, data: Any = "yes", stream: str = "approval", **more: Any) -> Mapping[str, Any]:
        """Send input."""
        return self.do(self.send_command(data, stream, **more))

    def send_command(self, data: Any = "yes", stream: str = "approval", **more: Any) -> Send:
        """The command of a send."""
        about: dict[str, Any] = {"principal": ALICE, **more}
        return Send(
            record_id=self.new("rec"),
            stream=stream,
            data=data,
            next_run_id=self.new("run"),
            **about,
        )

    def answer(self, data: Any = "yes", wait_id: str | None = None, **more: Any) -> Any:
        """Answer a wait, the pending one unless another is named."""
        return self.do(
            AnswerWait(
                principal=ALICE,
                wait_id=wait_id or self.wait.id,
                record_id=self.new("rec"),
                data=data,
                **more,
            )
        )

    def deadline(self, wait_id: str | None = None) -> Mapping[str, Any]:
        """The clock's word."""
        return self.do(Deadline(principal=ALICE, wait_id=wait_id or self.wait.id))

    def token_ended(self, status: str = "completed", **more: Any) -> Mapping[str, Any]:
        """A delivery for the pending wait."""
        values: dict[str, Any] = {
            "principal": ALICE,
            "wait_id": self.wait.id,
            "token_id": "tok_1",
            "status": status,
            "data": {"ok": True} if status == "completed" else None,
            "ended_at": self.now,
            "ended_by": ALICE,
        }
        return self.do(TokenEnded(**{**values, **more}))

    def start_run(self, **more: Any) -> Mapping[str, Any]:
        """Start the next run."""
        return self.do(StartRun(principal=ALICE, run_id=self.new("run"), **more))

    def cancel_run(self, run_id: str | None = None, **more: Any) -> Mapping[str, Any]:
        """Cancel a run."""
        return self.do(
            CancelRun(
                principal=ALICE,
                run_id=run_id or self.run.id,
                next_run_id=self.new("run"),
                **more,
            )
        )

    def cancel_session(self, **more: Any) -> Mapping[str, Any]:
        """Cancel the session."""
        return self.do(CancelSession(principal=ALICE, **more))

    def close(self, **more: Any) -> Mapping[str, Any]:
        """Close the session."""
        return self.do(CloseSession(principal=ALICE, **more))

    def retry(self, run_id: str | None = None, **more: Any) -> Mapping[str, Any]:
        """An operator retries."""
        return self.do(RetryRun(principal=ALICE, run_id=run_id or self.run.id, **more))

    # --- what the code does ---------------------------------------------------------------------

    def execute(self) -> Story:
        """A slot begins or goes on."""
        self.write(lifecycle.run_executes(self.run, "hash"))
        return self

    def open_step(self, op: int, name: str = "post", **more: Any) -> StepRequest:
        """The code asks for a step."""
        ask = StepRequest(name, **more)
        self.write(ops.open_step(self.state, self.run, op, ask))
        return ask

    def end_step(self, op: int, value: Any = None) -> None:
        """The step succeeds."""
        self.write(ops.step_succeeded(self.run, op, value))

    def fail_try(self, op: int, ask: StepRequest, *, may_retry: bool = True) -> Entry:
        """A try of the step fails."""
        return self.write(
            ops.step_raised(self.run, op, ask, ERROR, self.context, may_retry=may_retry)
        )[0]

    def open_wait(
        self, op: int, stream: str | None = "approval", *, kind: str = "input", **more: Any
    ) -> list[Entry]:
        """The code opens a wait."""
        token_ended = more.pop("token_ended", None)
        ask = WaitRequest(
            wait_kind=kind,
            wait_id=self.new("wait"),
            stream=stream if kind == "input" else None,
            token_id="tok_1" if kind == "token" else None,
            **more,
        )
        return self.write(
            *ops.open_wait(self.state, self.run, op, ask, self.context, token_ended=token_ended)
        )

    def give_up(self, op: int) -> None:
        """The code cancels an op."""
        self.write(*ops.op_given_up(self.run, op))

    def append(self, op: int, data: Any, stream: str = "progress") -> Entry:
        """The code appends an output."""
        ask = OutputRequest(stream, self.new("rec"), data)
        return self.write(ops.append_output(self.state, self.run, op, ask))[0]

    def history(self, op: int, stream: str = "progress", **asked: Any) -> Entry:
        """The code reads an output's history."""
        ask = HistoryRequest(stream, "output", **asked)
        return self.write(ops.read_history(self.state, self.run, op, ask))[0]

    def peek(self, op: int, stream: str = "approval") -> Entry:
        """The code peeks."""
        return self.write(ops.read_peek(self.state, self.run, op, PeekRequest(stream)))[0]

    def succeed(self, result: Any = None) -> list[Entry]:
        """The task returns."""
        return self.write(
            *lifecycle.run_succeeded(
                self.state, self.run, result, self.context, next_run_id=self.new("run")
            )
        )

    def fail(self, failed_op: int | None = None, *, may_retry: bool = True) -> list[Entry]:
        """An exception leaves the task."""
        return self.write(
            *lifecycle.run_raised(
                self.state,
                self.run,
                ERROR,
                failed_op,
                self.context,
                next_run_id=self.new("run"),
                may_retry=may_retry,
            )
        )

    def block(self, code: str = "nondeterminism") -> None:
        """The run can't go on."""
        self.write(lifecycle.run_blocked(self.run, code, "differs", op=1))

    def die(self, *, executing: bool = True) -> list[Entry]:
        """The actor dies and the session is adopted again."""
        drafts = lifecycle.actor_died(self.state, "signal 9", None, executing=executing)
        return self.write(*drafts)

    # --- crashes --------------------------------------------------------------------------------

    def refold(self) -> SessionState:
        """The state from the entries alone."""
        state = SessionState(self.state.id)
        for entry in self.entries:
            state.apply(entry)
        return state

    def reload(self) -> SessionState:
        """The state through a checkpoint row, large entries by reference."""
        offsets = {entry.seq: 1000 + entry.seq for entry in self.entries}
        text = checkpoint.save(self.state, offsets)
        referenced = {offset: self.entries[offset - 1000 - 1] for offset in checkpoint.refs(text)}
        return checkpoint.restore(self.state.id, text, referenced)

    def park(self) -> str:
        """Go on from a checkpoint row, as the next adoption does; what was written."""
        known = self.state.operations, self.state.send_keys
        offsets = {entry.seq: 1000 + entry.seq for entry in self.entries}
        text = checkpoint.save(self.state, offsets)
        own = 1000 + self.state.seq
        self.parked[own] = text
        earlier = {offset: self.parked[offset] for offset in checkpoint.pieces(text)}
        named = {offset for one in (text, *earlier.values()) for offset in checkpoint.refs(one)}
        referenced = {offset: self.entries[offset - 1000 - 1] for offset in named}
        self.state = checkpoint.restore(self.state.id, text, referenced, earlier, offset=own)
        # The ledger answers for these.
        self.state.operations, self.state.send_keys = known
        return text


def journal_ops(story: Story) -> list[tuple[int | None, str]]:
    """(op, kind) of the run's journal."""
    return [(entry.op, entry.kind.value) for entry in story.run.journal]


def of_kind(story: Story, kind: EntryKind) -> list[Entry]:
    """All entries of a kind."""
    return [entry for entry in story.entries if entry.kind is kind]


def picture(state: SessionState) -> dict[str, Any]:
    """Everything that a checkpoint keeps, as comparable values."""
    run = state.run
    return {
        "head": (state.seq, state.last_hash, state.last_at, state.status, state.input_ended),
        "closed_by": state.closed_by,
        "session": (state.task, state.external_id, state.tags, state.metadata, state.runs_count),
        "seqs": (state.input_seqs, state.output_seqs, state.outputs_set_aside),
        "unconsumed": {s: [_record(r) for r in rs] for s, rs in state.unconsumed.items() if rs},
        "room": (state.unconsumed_count, state.unconsumed_bytes),
        "taken": {key: _record(record) for key, record in state.taken.items()},
        "public_tokens": state.public_tokens,
        "run": None if run is None else _run(run),
    }


def _record(record: Any) -> tuple[Any, ...]:
    return (
        record.id,
        record.stream,
        record.seq,
        record.data,
        record.correlation_id,
        record.size_bytes,
        record.entry_seq,
        record.has_started_run,
    )


def _run(run: Run) -> dict[str, Any]:
    # Where the journal is stored is not a part of what it says.
    values = {f.name: getattr(run, f.name) for f in fields(run) if f.name != "pieces"}
    values["journal"] = [
        (e.seq, e.kind, e.op, e.principal, e.body, e.body_json, e.recorded_at, e.run_id)
        for e in run.journal
    ]
    return values
