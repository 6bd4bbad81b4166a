"""A wait as calls answer it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field, computed_field

from helmr import safe_text
from helmr.durations import cut_text
from helmr.models.common import (
    BODY_SHOWN_BYTES,
    AnswerMode,
    ClaimInfo,
    PrincipalInfo,
    Shown,
    TokenStatus,
    WaitKind,
    WaitPriority,
    WaitStatus,
    Wire,
    shown_facts,
)


class WaitInfo(Wire):
    """A wait; on the first of `session_ids` to end.

    Lists leave out `body`, `schema`, `initial`, `on_decline` and `answer`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    id: Annotated[str, Shown(find="id")]
    session_id: Annotated[str, Shown(find="session")]
    run_id: Annotated[str, Shown(find="run")]
    task: Annotated[str, Shown(find="task")]
    parent_session_id: Annotated[str | None, Shown(find="parent")] = None
    """The session that its session is a child of."""
    kind: Annotated[WaitKind, Shown(find="kind")]
    stream: Annotated[str | None, Shown(find="stream")] = None
    correlation_id: Annotated[str | None, Shown(find="correlation")] = None
    token_id: Annotated[str | None, Shown(find="token")] = None
    resolving: Annotated[TokenStatus | None, Shown("token")] = None
    """How its token has ended, while it is still `pending` because its session has yet to decide on that: it takes no
    answer any more, and is in no list of pending waits."""
    session_ids: list[str] = Field(default_factory=list)
    subject: Annotated[str | None, Shown(find="subject")] = None
    body: str | None = None
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    status: WaitStatus
    opened_at: datetime
    deadline_at: datetime | None = None
    resolved_at: Annotated[datetime | None, Shown(at_end=True)] = None
    resolved_by: Annotated[PrincipalInfo | None, Shown(at_end=True)] = None
    mode: Annotated[AnswerMode | None, Shown("answered by a", at_end=True)] = None
    """How its answer came (S-73)."""
    batch_id: Annotated[str | None, Shown("batch", find="batch", at_end=True)] = None
    """The many answers, given as one, that its answer was one of."""
    answer: Annotated[Any, Shown(at_end=True)] = None
    """What it was answered with; only where one wait is asked for, and null unless it is `fulfilled`."""
    priority: Annotated[WaitPriority, Shown("priority", find="priority")] = WaitPriority.NORMAL
    assignee: Annotated[str | None, Shown("assignee", find="assignee")] = None
    claim: Annotated[ClaimInfo | None, Shown("claimed by")] = None
    """Who has claimed it now (S-81)."""
    tags: Annotated[list[str], Shown("tags")] = Field(default_factory=list)
    session_tags: Annotated[list[str], Shown("session tags")] = Field(default_factory=list)
    initial: Any = None
    """What a form starts with."""
    can_decline: bool = False
    """A decline is answered with `on_decline`."""
    on_decline: Any = None
    escalation: list[dict[str, Any]] = Field(default_factory=list)
    """Escalation steps `{do, after_s, from, to?, value?}`: what is to happen while no one answers."""
    next_escalation: int | None = None
    """The place in `escalation`, from 0, of the escalation step that comes next; None if nothing comes."""
    next_escalation_at: datetime | None = None
    default_at: datetime | None = None
    """When the escalation's default answers: no one can then, or later."""
    question_hash: str | None = None
    """Names what the person is shown: equal for waits that ask the same."""
    problem: str | None = None
    """Why the stored body of one of its entries can't be read; in lists, instead of what it says."""

    @computed_field  # type: ignore[prop-decorator] # as pydantic has it
    @property
    def ends_at(self) -> datetime | None:
        """When time ends it, if no one does: its escalation's default answers, else the deadline passes."""
        return self.default_at or self.deadline_at

    @property
    def takes_answers(self) -> bool:
        """A person can answer it: it is pending, of a kind that people answer, and its token has not ended."""
        is_open = self.status is WaitStatus.PENDING and self.resolving is None
        return is_open and self.kind.asks_people

    def _repr_html_(self) -> str:
        facts = {
            "wait": self.id,
            "session": self.session_id,
            "status": self.status.value,
            "kind": self.kind.value,
            "stream": self.stream,
            "correlation id": self.correlation_id,
            "since": self.opened_at,
            "deadline": self.deadline_at,
            "default answers": self.default_at,
            **_labelled(self),
            "ended": self.resolved_at,
            "by": self.resolved_by.label if self.resolved_by is not None else None,
            **_labelled(self, at_end=True),
            "answer": safe_text.shape(self.json_schema),
        }
        title = self.subject or f"{self.task}: {self.stream or self.kind}"
        body = cut_text(self.body, BODY_SHOWN_BYTES) if self.body is not None else None
        return safe_text.card(title, facts, body=body)


def _labelled(wait: WaitInfo, *, at_end: bool = False) -> dict[str, Any]:
    found = shown_facts(wait, at_end=at_end)
    return {label: one.label if isinstance(one, ClaimInfo) else one for _, label, one in found}
