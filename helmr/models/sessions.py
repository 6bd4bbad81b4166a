"""A session on the wire, and the entries of its transcript."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field

from helmr.models.common import Activity, PrincipalInfo, RunStatus, SessionStatus, Wire
from helmr.models.runs import ErrorInfo, RunInfo
from helmr.models.system import LimitPlace
from helmr.models.waits import WaitInfo
from helmr.wire import safe_text
from helmr.wire.truth import NoTruth


class ForkOrigin(Wire):
    """The origin of a fork, which begins after entry `seq` of it."""

    session_id: str
    seq: int


class ParentInfo(Wire):
    """The parent of a child session: a run of another session, and its op."""

    session_id: str
    run_id: str
    op: int


class SessionInfo(Wire):
    """A session's summary; `wait` is the active wait in full, null when there is none."""

    id: str
    external_id: str | None = None
    task: str
    status: SessionStatus
    activity: Activity
    run_id: str | None = None
    """Its newest run, the only one that can be retried."""
    run_status: RunStatus | None = None
    """Status of that run."""
    error: ErrorInfo | None = None
    """Error of that run, if it failed or is blocked, without the traceback."""
    queued_at: datetime | None = None
    """Time since which its run waits for room, or of its next attempt; null unless `activity` is queued."""
    queued_for: LimitPlace | None = None
    """The limit that its run waits for, the first if several; only in reads of sessions."""
    wait: WaitInfo | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    forked_from: ForkOrigin | None = None
    """For a fork: the session whose history it began with."""
    parent: ParentInfo | None = None
    created_at: datetime
    updated_at: datetime
    last_seq: int
    """The seq of its newest entry, for readers of the transcript's end."""
    unconsumed: int | None = None
    """Number of input records that no wait has taken; null in lists."""
    warnings: list[str] = Field(default_factory=list)

    @property
    def doing(self) -> str:
        """Its activity, or the limit that it waits for."""
        return self.queued_for.text if self.queued_for is not None else self.activity.value

    def _repr_html_(self) -> str:
        facts = {
            "session": self.id,
            "external id": self.external_id,
            "status": self.status.value,
            "activity": self.doing,
            "error": self.error.text if self.error is not None else None,
            "tags": self.tags,
            "metadata": self.metadata,
            "created": self.created_at,
            "entries": self.last_seq,
            "unconsumed": self.unconsumed or None,
            "warnings": self.warnings,
        }
        return safe_text.card(self.task, facts) + (self.wait._repr_html_() if self.wait else "")


class EntryInfo(Wire):
    """One line of a transcript; `body` by kind."""

    session_id: str
    seq: int
    feed_offset: int
    recorded_at: datetime
    kind: str
    run_id: str | None = None
    op: int | None = None
    principal: PrincipalInfo
    body: dict[str, Any]


class StartReceipt(NoTruth, Wire):
    """Answer of a start. 201 when `created`, else 200."""

    _ask: ClassVar[str] = ".created, or .run.status"

    session: SessionInfo
    run: RunInfo
    created: bool


class NoteReceipt(NoTruth, Wire):
    """Answer of a note."""

    _ask: ClassVar[str] = ".note_id"

    note_id: str
    session_id: str
    seq: int
