"""One action on many runs on the wire, with the runs and attempts that were shown (S-124)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field

from helmr.models.common import (
    BATCH_ID_PATTERN,
    OP_MAX,
    PRUNE_AGE_MIN_S,
    REASON_MAX,
    Activity,
    RunStatus,
    SessionStatus,
    WaitKind,
    Wire,
)
from helmr.models.requests import Request
from helmr.models.sessions import SessionInfo
from helmr.wire.truth import NoTruth

BULK_RUNS_MAX = 1_000
"""Most runs of one plan; a thousand are one screen of groups, and some ten seconds of calls."""
BULK_AGE_S = 86_400.0
"""Age in seconds after which a plan must be previewed again."""
WHY_MAX = 300
ID_CHARS_MAX = 64


class BulkVerb(StrEnum):
    """The action on each run or session."""

    RETRY = "retry"
    CANCEL = "cancel"
    CLOSE = "close"
    PRUNE = "prune"

    def takes(self, session: SessionInfo, now: datetime, *, end_input: bool = False) -> bool:
        """Return True when the action fits the session, or its newest run, in its present state."""
        is_open, status = session.status is SessionStatus.OPEN, session.run_status
        if self is BulkVerb.RETRY:
            return is_open and status in (RunStatus.FAILED, RunStatus.BLOCKED)
        if self is BulkVerb.PRUNE:
            is_old = session.updated_at < now - timedelta(seconds=PRUNE_AGE_MIN_S)
            return not is_open and session.activity is Activity.IDLE and is_old
        is_over = status is None or status.is_final
        if self is BulkVerb.CANCEL:
            return is_open and not is_over
        waits_for_input = session.wait is not None and session.wait.kind is WaitKind.INPUT
        return is_open and (is_over or (end_input and waits_for_input))

    @property
    def takes_all(self) -> bool:
        """True when the action takes all sessions in one call, since a prune must see whole families of sessions."""
        return self is BulkVerb.PRUNE


class PlannedRun(Wire):
    """A run of a plan as shown; `task` and `why` are texts of a session."""

    run_id: str
    session_id: str
    attempt: int
    operation_id: str
    task: str
    status: str
    why: str = ""

    @property
    def title(self) -> str:
        """The first line of `why`, else its status."""
        return self.why.partition("\n")[0] or self.status


class BulkPlan(Wire):
    """The shown runs, in the order of execution.

    Attributes:
        id: Names the batch.
        end_input: For a close: include sessions whose run waits for input.
        more: True if more runs match than a plan holds.
    """

    id: str
    verb: BulkVerb
    made_at: datetime
    runs: tuple[PlannedRun, ...]
    end_input: bool = False
    more: bool = False

    def groups(self) -> list[tuple[int, str]]:
        """Count the runs by task and first line of an error, most frequent first. Escapes no text."""
        alike = Counter(f"{one.task}  {one.title}" for one in self.runs)
        return [(count, text) for text, count in alike.most_common()]


class BulkPreviewRequest(Request):
    """POST /v1/bulk/preview: the newest runs of the named sessions, else of those that the filter matches."""

    verb: Literal["retry", "cancel", "close", "prune"]
    filter: str | None = Field(default=None, max_length=1_000)
    session_ids: list[str] | None = Field(default=None, min_length=1, max_length=BULK_RUNS_MAX)
    end_input: bool = False
    batch_id: str | None = Field(default=None, pattern=BATCH_ID_PATTERN)
    limit: int = Field(default=BULK_RUNS_MAX, ge=1, le=BULK_RUNS_MAX)


class BulkItem(Request):
    """A run of a plan, as it was shown."""

    run_id: str = Field(max_length=ID_CHARS_MAX)
    session_id: str = Field(max_length=ID_CHARS_MAX)
    attempt: int = Field(ge=1, le=OP_MAX)
    operation_id: str = Field(max_length=ID_CHARS_MAX)


class BulkRequest(Request):
    """POST /v1/bulk: runs of one plan; all of them for a prune. `reason` is for a prune."""

    verb: Literal["retry", "cancel", "close", "prune"]
    runs: list[BulkItem] = Field(min_length=1, max_length=BULK_RUNS_MAX)
    end_input: bool = False
    reason: str | None = Field(default=None, min_length=1, max_length=REASON_MAX)


class BulkOutcome(NoTruth, Wire):
    """The outcome of one run: accepted, skipped as it no longer fits, failed or stopped (not done), or unknown.

    Attributes:
        error: Code of the error, if an error prevented it.
    """

    _ask: ClassVar[str] = ".progress"

    run_id: str
    session_id: str
    progress: Literal["accepted", "skipped", "failed", "unknown", "stopped"]
    detail: str = ""
    error: str | None = None
    facts: dict[str, Any] = Field(default_factory=dict)


class BulkReport(NoTruth, Wire):
    """The outcome of each run, in the order of the request."""

    _ask: ClassVar[str] = ".items"

    items: list[BulkOutcome]
