"""A run on the wire: its state, its journal, checks of code against it, and previews of corrections."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field

from helmr.models.common import RunStatus, Wire
from helmr.models.system import LimitPlace
from helmr.wire import safe_text
from helmr.wire.truth import NoTruth


class ErrorInfo(Wire):
    """The error of a failed or blocked run; the traceback holds no values (S-5)."""

    code: str
    type: str = ""
    message: str = ""
    traceback: str | None = None

    @property
    def text(self) -> str:
        """Type and message of the error."""
        return f"{self.type or self.code}: {self.message}"


class RunInfo(Wire):
    """A run. `error` is set when it failed or is blocked, `retry_at` while it waits for its next attempt."""

    id: str
    session_id: str
    task: str
    status: RunStatus
    attempt: int
    started_by: dict[str, Any] = Field(default_factory=dict)
    retry_at: datetime | None = None
    payload: Any = None
    result: Any = None
    error: ErrorInfo | None = None
    created_at: datetime
    ended_at: datetime | None = None
    queued_for: LimitPlace | None = None
    """The limit that it waits for, the first if several; only in reads of runs."""
    problem: str | None = None
    """The reason that a stored body of its entries can't be read; in lists, instead of the contents."""

    @property
    def doing(self) -> str:
        """Its status, or the limit that it waits for."""
        return self.queued_for.text if self.queued_for is not None else self.status.value

    def _repr_html_(self) -> str:
        error = self.error
        facts = {
            "run": self.id,
            "session": self.session_id,
            "status": self.doing,
            "attempt": self.attempt,
            "result": json.dumps(self.result, ensure_ascii=False)
            if self.result is not None
            else None,
            "error": error.text if error is not None else None,
            "created": self.created_at,
            "ended": self.ended_at,
        }
        return safe_text.card(self.task, facts)


class JournalEntry(Wire):
    """One entry of a journal; `body` by kind. Hashes of secrets are left out."""

    seq: int
    recorded_at: datetime
    kind: str
    op: int
    body: dict[str, Any]


class JournalRecord(Wire):
    """An input record that a journal names."""

    id: str
    stream: str
    seq: int
    data: Any
    correlation_id: str | None = None


class RunJournal(Wire):
    """All data that a replay of a session's newest run follows, payloads in the clear."""

    session_id: str
    external_id: str | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    run_id: str
    task: str
    status: RunStatus
    attempt: int
    payload: Any = None
    created_at: datetime | None = None
    entries: list[JournalEntry]
    records: list[JournalRecord]
    """Records that its waits took and its peeks saw."""
    histories: dict[int, list[JournalRecord]] = Field(default_factory=dict)
    """Op → values that a read of a stream's history returned."""
    asked_keys: dict[str, str] = Field(default_factory=dict)
    """Keys of the hashes of steps' arguments, by their tags, in base64, newest last."""


class CheckVerdict(StrEnum):
    """The fit of code with a run's journal (S-89)."""

    FITS = "fits"
    DIFFERS = "differs"
    """The code asks for another op than the journal holds: the run would be blocked."""
    SCHEMA = "schema"
    """The code's types refuse recorded data: the run would be blocked."""
    MISSING = "missing"
    """The code has no such task: the run would be blocked."""
    UNSURE = "unsure"
    """The code awaited something other than a durable call for longer than the check waits."""


class RunCheck(NoTruth, Wire):
    """The result of replaying one run with some code.

    `op`, `recorded` and `met` describe a difference; `op`, `path` and `message` a refused value. `drift` has a line for
    each op whose arguments differ from those of other code, which is allowed.
    """

    _ask: ClassVar[str] = ".fits"

    session_id: str
    run_id: str
    task: str
    status: RunStatus
    verdict: CheckVerdict
    op: int | None = None
    recorded: str | None = None
    met: str | None = None
    place: str | None = None
    """Place in the code that asks for `met`: `tasks.py:24`."""
    path: str | None = None
    message: str | None = None
    drift: list[str] = Field(default_factory=list)

    @property
    def fits(self) -> bool:
        """True when a resume with that code continues."""
        return self.verdict is CheckVerdict.FITS


class DryRunEnd(StrEnum):
    """The end of a dry run (S-87)."""

    STEP = "step"
    """At a step that has no recorded outcome and is not dry-run-safe."""
    WAIT = "wait"
    TOKEN = "token"
    EMIT = "emit"
    """The code emitted a chunk, outside of steps."""
    OPEN = "open"
    """The code waits for a step that the live run executes, or for something outside."""
    RETURNED = "returned"
    RAISED = "raised"
    DIFFERS = "differs"
    """The code asked for another op than the journal holds."""
    SCHEMA = "schema"
    """The code's types refuse recorded data."""
    TIME = "time"
    """After ten seconds."""
    OPS = "ops"
    """After a thousand ops."""


class DryRunOp(Wire):
    """One op that the code asked for after the answer."""

    run_id: str
    op: int
    kind: str
    """step, wait, output, peek, history, clock, token, public_token, patch or continue."""
    name: str = ""
    data: Any = None
    """Data of an output, value of a dry-run-safe step, or payload of the next run."""


class DryRun(NoTruth, Wire):
    """The dry run of an answer: the ops that the code asked for, and its end. It had no effects."""

    _ask: ClassVar[str] = ".ended"

    wait_id: str
    session_id: str
    run_id: str
    ops: list[DryRunOp]
    ended: DryRunEnd
    result: Any = None
    message: str | None = None
    """Message of the exception, the difference or the misfit."""


class RepeatedStepState(StrEnum):
    """The progress of a step that a rewind takes back."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RepeatedStep(Wire):
    """A step that had started and may run again.

    `step_key` names it to outside systems so far, `new_key` after the rewind; a step without outcome keeps its key.
    """

    op: int
    name: str
    step_key: str
    new_key: str
    state: RepeatedStepState
    at: datetime
    """The time of its end, or of its start if it has no outcome."""


class KeptAnswer(Wire):
    """An answer that a wait reuses if it asks the same."""

    wait_id: str
    """The wait that had it."""
    stream: str | None = None
    record_seq: int | None = None


class AskedAgain(Wire):
    """A wait that asks its question again."""

    op: int
    wait_id: str
    stream: str | None = None
    subject: str | None = None


class RepeatedOutput(Wire):
    """An output record that followers may have seen, and that the code may append again."""

    op: int
    stream: str
    seq: int


class RewindPreview(Wire):
    """The preview of a rewind or amendment. It had no effects.

    The rewind sends `hash` back, and is refused if its effects would differ by then (S-76).
    """

    session_id: str
    run_id: str
    keep_answers: bool
    keep_children: bool = False
    hash: str
    to_op: int
    """The first op that is asked again."""
    set_aside: list[int]
    """Every op that leaves the journal."""
    steps: list[RepeatedStep] = Field(default_factory=list)
    kept: list[KeptAnswer] = Field(default_factory=list)
    asked_again: list[AskedAgain] = Field(default_factory=list)
    tokens: list[str] = Field(default_factory=list)
    """Tokens made by the ops set aside; pending ones are cancelled."""
    public_tokens: list[str] = Field(default_factory=list)
    """Public tokens made by them; they are revoked."""
    children: list[str] = Field(default_factory=list)
    """Sessions started by them; those with an unfinished run are cancelled."""
    outputs: list[RepeatedOutput] = Field(default_factory=list)
    amends: str | None = None
    """For an amendment, the wait that gets another answer."""
