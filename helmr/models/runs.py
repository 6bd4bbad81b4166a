"""A run on the wire: how it goes, its journal, whether code fits it, and what corrections of it would do."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field

from helmr import safe_text
from helmr.models.common import RunStatus, Wire
from helmr.models.system import LimitPlace
from helmr.truth import NoTruth


class ErrorInfo(Wire):
    """Why a run failed or is blocked; the traceback holds no values (S-5)."""

    code: str
    type: str = ""
    message: str = ""
    traceback: str | None = None

    @property
    def text(self) -> str:
        """What kind of error, and its message."""
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
    """The limit that it waits for, in reads of runs; of several the first that it asked for."""
    problem: str | None = None
    """Why the stored body of one of its entries can't be read; in lists, instead of what it says."""

    @property
    def doing(self) -> str:
        """Its status, or what limit it waits for."""
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
    """All that a replay of a session's newest run follows, payloads in the clear."""

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
    """Those that its waits took and its peeks saw."""
    histories: dict[int, list[JournalRecord]] = Field(default_factory=dict)
    """Op → what a read of a stream's history gave."""
    asked_keys: dict[str, str] = Field(default_factory=dict)
    """Keys of the hashes of steps' arguments, by their tags, in base64, the newest last."""


class CheckVerdict(StrEnum):
    """Whether code fits a run's journal (S-89)."""

    FITS = "fits"
    DIFFERS = "differs"
    """It asks for another op than the journal holds: the run would be blocked."""
    SCHEMA = "schema"
    """Its types refuse what is recorded: the run would be blocked."""
    MISSING = "missing"
    """It has no such task: the run would be blocked."""
    UNSURE = "unsure"
    """It awaited something that is not a durable call for longer than the check waits."""


class RunCheck(NoTruth, Wire):
    """What came of replaying one run with some code.

    `op`, `recorded` and `met` are a difference's; `op`, `path` and `message` a refused value's; `drift` has a line for
    each op in which this code asks something else than other code did: it passes.
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
    """Where the code is that asks for `met`: `tasks.py:24`."""
    path: str | None = None
    message: str | None = None
    drift: list[str] = Field(default_factory=list)

    @property
    def fits(self) -> bool:
        """A resume with that code goes on."""
        return self.verdict is CheckVerdict.FITS


class DryRunEnd(StrEnum):
    """Where a dry run ended (S-87)."""

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
    """The code's types refuse what is recorded."""
    TIME = "time"
    """After ten seconds."""
    OPS = "ops"
    """After a thousand ops."""


class DryRunOp(Wire):
    """One op that the code asked for behind the answer."""

    run_id: str
    op: int
    kind: str
    """step, wait, output, peek, history, clock, token, public_token, patch or continue."""
    name: str = ""
    data: Any = None
    """An output's data, a dry-run-safe step's value, the payload of the next run."""


class DryRun(NoTruth, Wire):
    """What an answer would set off: the ops that the code asked for, and where it ended. Nothing of it has happened."""

    _ask: ClassVar[str] = ".ended"

    wait_id: str
    session_id: str
    run_id: str
    ops: list[DryRunOp]
    ended: DryRunEnd
    result: Any = None
    message: str | None = None
    """Of what was raised, differs or does not fit."""


class RepeatedStepState(StrEnum):
    """How far a step has come that a rewind takes back."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RepeatedStep(Wire):
    """A step that had started and may run again.

    `step_key` names it to the outside so far, `new_key` from then on. They are equal for one that has no outcome yet.
    """

    op: int
    name: str
    step_key: str
    new_key: str
    state: RepeatedStepState
    at: datetime
    """When it ended, or began to run if it has no outcome."""


class KeptAnswer(Wire):
    """An answer that a wait takes again if it asks the same."""

    wait_id: str
    """The wait that had it."""
    stream: str | None = None
    record_seq: int | None = None


class AskedAgain(Wire):
    """A wait whose question is asked again."""

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
    """What a rewind, or an amendment, would do now. Nothing of it has happened.

    The rewind carries `hash` back: it is refused if it would do something else by then (S-76).
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
    """Tokens that the ops set aside made; those that are pending are cancelled."""
    public_tokens: list[str] = Field(default_factory=list)
    """Public tokens likewise; they are revoked."""
    children: list[str] = Field(default_factory=list)
    """Sessions that the ops set aside started; those whose run has not ended are cancelled."""
    outputs: list[RepeatedOutput] = Field(default_factory=list)
    amends: str | None = None
    """The wait that gets another answer, of an amendment."""
