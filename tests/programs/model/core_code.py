"""A script's code over the core, as a replay: told what the run's journal holds, it asks for the next op."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from helmr.wait_details import WaitDetails
from helmr.wire.roles import ScopeType
from helmr.wire.schema import schema_digest
from helmr_runtime.core.children import Parent
from helmr_runtime.core.decide import DecisionContext, lifecycle, ops
from helmr_runtime.core.entries import Draft, EntryKind, Watermark, task_principal
from helmr_runtime.core.public_tokens import Scope
from helmr_runtime.core.requests import (
    ClockRequest,
    HistoryRequest,
    OutputRequest,
    PeekRequest,
    PublicTokenOp,
    StepRequest,
    TokenOp,
    WaitRequest,
)
from helmr_runtime.core.run import Run
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.tokens import TokenQuestion
from tests.programs.model import core_door

if TYPE_CHECKING:
    from tests.programs.model.core_door import CoreDoor

OUTCOMES = (
    EntryKind.STEP_SUCCEEDED,
    EntryKind.STEP_FAILED,
    EntryKind.WAIT_FULFILLED,
    EntryKind.WAIT_TIMED_OUT,
    EntryKind.WAIT_CANCELLED,
    EntryKind.TOKEN_CREATED,
    EntryKind.PUBLIC_TOKEN_CREATED,
    EntryKind.OUTPUT_APPENDED,
    EntryKind.PEEK_READ,
    EntryKind.HISTORY_READ,
    EntryKind.CLOCK_READ,
)


INTEGER = {"type": "integer"}
MONTH_S = 30 * 86_400


def details(*, pinned: bool, desk: Any, who: Any = None) -> WaitDetails:
    """What a wait says besides."""
    schema = INTEGER if pinned else None
    shown = schema_digest(INTEGER) if pinned else None
    assignee, escalation_steps = desk or (None, [])
    escalation = tuple(
        {"do": do, "after_s": after / 1000, "from": since}
        | ({_WHAT[do]: what} if do in _WHAT else {})
        for do, after, since, what in escalation_steps
    )
    said = WaitDetails(schema=schema, shown_digest=shown, assignee=assignee, escalation=escalation)
    may: dict[str, Any] = {
        name: tuple(one) if type(one) is list else one for name, one in (who or {}).items()
    }
    return replace(said, **may)


_WHAT = {"assign": "to", "default": "value"}


class Code:
    """The code of a session's newest run."""

    def __init__(self, door: CoreDoor, session_id: str) -> None:
        self.door = door
        self.id = session_id
        self.name = core_door.named(session_id)

    @property
    def state(self) -> SessionState:
        """The session."""
        return self.door.states[self.id]

    @property
    def run(self) -> Run:
        """Its newest run."""
        assert self.state.run is not None
        return self.state.run

    def write(self, *drafts: Draft) -> None:
        """Write entries."""
        self.door.write(self.id, drafts)

    def go_on(self, *, is_due: bool = False) -> None:
        """Run until it waits or has ended. `is_due`: the time of its next attempt has come."""
        while True:
            status = self.run.status.value
            is_ready = status == "queued" and (self.run.retry_at is None or is_due)
            if status != "running" and not is_ready:
                return
            is_due = False
            if status == "queued":
                self.write(lifecycle.run_executes(self.run, "model"))
            self.execute()

    def execute(self) -> None:
        """Walk the instructions."""
        door, run, context = self.door, self.run, self.door.context(self.state)
        next_run = door.next_run(self.id)
        seen: list[Any] = []
        made: list[str] = []
        children: list[str] = []
        op = 0
        for instruction in run.payload["code"]:
            name, *rest = instruction
            if name == "raise":
                self.raise_at(None, "ValueError", context)
                return
            if name == "continue":
                payload = {"code": rest[0], "tokens": run.payload["tokens"]}
                self.write(*lifecycle.run_continued(run, payload, next_run))
                return
            op += 1  # noqa: SIM113 - not every instruction is an op
            if self.outcome(op) is None:
                self.ask(op, name, rest, made, children)
            entry = self.outcome(op)
            if entry is None:
                return
            outcome = self.told(entry)
            if name == "create":
                made.append(entry.body["token_id"])
            if name == "child":
                children.append(outcome)
                outcome = "started"
            if outcome == "ChildFailed":
                if not rest[2]:
                    self.raise_at(op, "ChildFailed", context)
                    return
                outcome = ["ChildFailed"]
            pinned = name == "await" and rest[3] and outcome[0] == "fulfilled"
            if pinned and not isinstance(outcome[1], int):
                self.write(lifecycle.run_blocked(run, "schema_mismatch", "does not fit", op=op))
                return
            if outcome == "failed" and not rest[2]:
                self.raise_at(op, "StepFailed", context)
                return
            seen.append(outcome)
        self.write(*lifecycle.run_succeeded(self.state, run, seen, context, next_run_id=next_run))

    def raise_at(self, op: int | None, kind: str, context: DecisionContext) -> None:
        """An exception leaves the task."""
        ended = lifecycle.run_raised(
            self.state,
            self.run,
            error(kind),
            op,
            context,
            next_run_id=self.door.next_run(self.id),
        )
        self.write(*ended)

    def outcome(self, op: int) -> Any:
        """The entry that has the outcome of an op, as the journal holds it."""
        found = [e for e in self.run.journal if e.op == op and e.kind in OUTCOMES]
        return found[0] if found else None

    def told(self, entry: Any) -> Any:
        """An outcome as the code sees it."""
        body = entry.body
        match entry.kind:
            case EntryKind.STEP_SUCCEEDED:
                return body["value"]
            case EntryKind.STEP_FAILED:
                return "failed"
            case EntryKind.WAIT_TIMED_OUT:
                return ["WaitTimeout"]
            case EntryKind.WAIT_CANCELLED:
                return ["WaitCancelled"]
            case EntryKind.WAIT_FULFILLED if "record_seq" in body:
                record = self.state.record(body["stream"], body["record_seq"])
                return ["fulfilled", record.data]
            case EntryKind.WAIT_FULFILLED if "token_id" in body:
                return ["fulfilled", body["data"]]
            case EntryKind.WAIT_FULFILLED if "data" in body:
                ends = {
                    "succeeded": ["fulfilled", body["data"].get("result")],
                    "failed": "ChildFailed",
                }
                return ends.get(body["data"]["status"], ["WaitCancelled"])
            case EntryKind.WAIT_FULFILLED:
                return "slept"
            case EntryKind.TOKEN_CREATED | EntryKind.PUBLIC_TOKEN_CREATED:
                return "created"
            case EntryKind.OUTPUT_APPENDED:
                return "appended"
            case EntryKind.PEEK_READ:
                seqs = body["record_seqs"]
                return [self.state.record(body["stream"], seq).data for seq in seqs]
            case EntryKind.HISTORY_READ:
                records = Watermark.of(body).picked(
                    e for e in self.door.feed if e.session_id == self.id
                )
                return [record["data"] for record in records]
            case _:
                return "read"

    def ask(
        self, op: int, name: str, rest: list[Any], made: list[str], children: list[str]
    ) -> None:
        """Ask for an op for the first time."""
        door, run, state = self.door, self.run, self.state
        context = door.context(state)
        match name:
            case "wait" | "await" | "sleep" | "join":
                self.open_wait(op, name, rest, made, children)
            case "child":
                self.start(op, *rest)
            case "create":
                ours = [t for t in door.index.tokens if t.id.startswith(f"{self.name}.t")]
                new = core_door.new_token(f"{self.name}.t{len(ours)}", rest[0])
                self.write(ops.create_token(run, op, TokenOp(new), context))
            case "public":
                mine = [p for p in door.index.keys.public_tokens if p.startswith(f"{self.name}.p")]
                scope = Scope(type=ScopeType.SESSION_INPUT_SEND, session_id=self.id, stream=rest[0])
                name = f"{self.name}.p{len(mine)}"
                public = PublicTokenOp(name, "test", f"hash {name}", scope, None, MONTH_S, ())
                self.write(ops.create_public_token(run, op, public, context))
            case "step":
                self.step(op, *rest[:2])
            case "output":
                ask = OutputRequest("said", f"rec_{door.feed.next_offset}", rest[0])
                self.write(ops.append_output(state, run, op, ask))
            case "peek":
                self.write(ops.read_peek(state, run, op, PeekRequest(rest[0])))
            case "history":
                asked = HistoryRequest("said", "output", last=rest[0])
                self.write(ops.read_history(state, run, op, asked))
            case "clock":
                self.write(ops.read_clock(run, op, ClockRequest(door.now).now))
            case _:
                raise AssertionError(name)

    def start(self, op: int, task: str, code: Any, leaves: bool) -> None:
        """Start a child, as the step does."""
        door, run = self.door, self.run
        ask = StepRequest(f"sessions.start {task}", retries=1, backoff_s=0)
        self.write(ops.open_step(self.state, run, op, ask))
        of = Parent(session_id=self.id, run_id=run.id, op=op, attempt=run.attempt, leaves=leaves)
        mine = [one for one in door.states if re.fullmatch(rf"{self.id}c\d+", one)]
        name = f"{self.name}c{len(mine)}"
        payload = {"code": code, "tokens": run.payload["tokens"]}
        start = door.start_of(name, task, payload, principal=task_principal(run.id), parent=of)
        door.begin(replace(start, starters=tuple(self.state.all_starters)))
        self.write(ops.step_succeeded(run, op, start.session_id))

    def step(self, op: int, bad_tries: int, bad_attempts: int) -> None:
        """Try twice."""
        run, ask = self.run, StepRequest("work", retries=1, backoff_s=0)
        context = self.door.context(self.state)
        self.write(ops.open_step(self.state, run, op, ask))
        while self.outcome(op) is None:
            tries = ops.tries_of(run, op) + 1
            if tries > bad_tries and run.attempt > bad_attempts:
                self.write(ops.step_succeeded(run, op, tries))
            else:
                failed = ops.step_raised(run, op, ask, error("ValueError"), context, may_retry=True)
                self.write(failed)

    def open_wait(
        self, op: int, name: str, rest: list[Any], made: list[str], children: list[str]
    ) -> None:
        """Open a wait, and tell it what has happened already."""
        door, run = self.door, self.run
        mine = [w for w in door.lines.waits.values() if w["session"] == self.id]
        wait_id = core_door.wait_named(f"{self.name}.w{len(mine)}")
        if name == "sleep":
            ask = WaitRequest("timer", wait_id, timeout_s=rest[0] / 1000)
        elif name == "join":
            ask = WaitRequest(
                "session",
                wait_id,
                session_ids=(children[rest[0]],),
                timeout_s=rest[1] / 1000 if rest[1] is not None else None,
            )
        elif name == "wait":
            timeout_s = rest[2] / 1000 if rest[2] is not None else None
            ask = WaitRequest(
                "input",
                wait_id,
                stream=rest[0],
                correlation_id=rest[1],
                timeout_s=timeout_s,
                details=details(pinned=False, desk=rest[3], who=rest[4] if rest[4:] else None),
            )
        else:
            ask = WaitRequest(
                "token",
                wait_id,
                token_id=(run.payload["tokens"] if rest[0] == "given" else made)[rest[1]],
                timeout_s=rest[2] / 1000 if rest[2] is not None else None,
                details=details(pinned=rest[3], desk=rest[4]),
            )
        ended = question = None
        if ask.session_ids:
            ended = door.end_of(ask.session_ids[0], wait_id)
        if ask.token_id is not None:
            token = door.index.tokens.get(ask.token_id)
            assert token is not None
            ended = door.end_of(token.id, wait_id)
            made_by = (e for e in door.feed if e.kind is EntryKind.TOKEN_CREATED)
            created = next(e.body for e in made_by if e.body["token_id"] == token.id)
            question = TokenQuestion(None, None, token.expires_at, created.get("schema"))
        context = door.context(self.state)
        self.write(
            *ops.open_wait(self.state, run, op, ask, context, token_ended=ended, question=question)
        )


def error(name: str) -> dict[str, Any]:
    """What an exception leaves."""
    return {"code": "exception", "type": name, "message": "bad", "traceback": None}
