"""A wait on the wire, its claim and votes, and the receipts of what people do with it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, computed_field

from helmr import safe_text
from helmr.durations import cut_text
from helmr.models.common import (
    BODY_SHOWN_BYTES,
    AnswerMode,
    CompletionOutcome,
    PrincipalInfo,
    SendOutcome,
    Shown,
    TokenStatus,
    VoteOutcome,
    WaitKind,
    WaitPriority,
    WaitStatus,
    Wire,
    shown_facts,
)
from helmr.truth import NoTruth


class ClaimInfo(Wire):
    """Who has claimed a wait, and until when unless the claim is renewed (S-81)."""

    principal: PrincipalInfo
    on_behalf_of: str | None = None
    since: datetime
    until: datetime

    @property
    def label(self) -> str:
        """Who, for people: the person, else the key's name."""
        return (
            self.on_behalf_of
            or self.principal.person
            or self.principal.name
            or self.principal.label
        )


class ClaimReceipt(NoTruth, Wire):
    """Answer of claiming and releasing: the claim as it is now."""

    _ask: ClassVar[str] = ".claim"

    wait_id: str
    claim: ClaimInfo | None = None


class AssignReceipt(NoTruth, Wire):
    """Answer of assigning a wait."""

    _ask: ClassVar[str] = ".assignee"

    wait_id: str
    assignee: str | None = None


class VoteInfo(Wire):
    """What a person has said to a wait that several must agree on (S-113); equal `proposal`s agree."""

    person: str
    data: Any
    proposal: str
    voted_at: datetime
    signed_by: str | None = None
    """Fingerprint of the key that signed it."""


class WaitInfo(Wire):
    """A wait; on the first of `session_ids` to end.

    Lists leave out `body`, `schema`, `initial`, `on_decline`, `votes` and `answer`.
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
    answerers: Annotated[list[str], Shown("answered by")] = Field(default_factory=list)
    """People and groups that may answer (S-112). None named: anyone who may answer at all, or any person if `not_by` or
    `approvals` says something."""
    not_by: Annotated[list[str], Shown("not answered by")] = Field(default_factory=list)
    approvals: Annotated[int, Shown("approvals")] = 1
    """So many people must give the same answer."""
    have: Annotated[int, Shown("who agree")] = 0
    """So many stand for what was said last (S-113)."""
    voters: Annotated[list[str], Shown("voted")] = Field(default_factory=list)
    """Who has said something: people's ids, the newest last."""
    votes: list[VoteInfo] = Field(default_factory=list)
    """What they have said; only where one wait is asked for, and pending."""
    can_answer: bool | None = None
    """The caller may answer it, and has not; null for a caller that is no person, or whose groups decide that and are
    not known now."""
    is_mine: bool | None = None
    """Assigned to the caller or a group of theirs, or its answerers name one of these; null for a caller that is no
    person."""
    refusals: list[Any] = Field(default_factory=list)
    """Answers that one person is enough for."""
    comments: list[str] = Field(default_factory=list)
    """Fields of an answer in which people need not agree."""
    signed: Annotated[bool, Shown("takes signed answers only")] = False
    """Each answer carries its person's signature (S-115)."""
    signed_by: Annotated[str | None, Shown("signed by", at_end=True)] = None
    """Fingerprint of the key that signed its answer; only where one wait is asked for."""
    override_reason: Annotated[str | None, Shown("overridden because", at_end=True)] = None
    """Why an admin answered instead of those who may."""
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
    def is_restricted(self) -> bool:
        """It says who may answer: only an answer by a person whom that admits resolves it (S-112)."""
        says = self.answerers or self.not_by or self.refusals
        return bool(says) or self.approvals > 1 or self.signed

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


class SendReceipt(NoTruth, Wire):
    """Answer of a send or of answering an input wait (S-25)."""

    _ask: ClassVar[str] = ".outcome"

    record_id: str
    stream: str
    seq: int
    outcome: SendOutcome
    duplicate: bool = False
    wait_id: str | None = None
    run_id: str | None = None


class VoteReceipt(NoTruth, Wire):
    """Answer of a vote on a wait that several people must agree on, or of taking one back (S-113).

    `have` of `need` people stand for what was said last.
    """

    _ask: ClassVar[str] = ".outcome, or .have and .need"

    wait_id: str
    run_id: str
    outcome: VoteOutcome
    have: int
    need: int


class TokenAnswerReceipt(NoTruth, Wire):
    """Answer of answering a token wait."""

    _ask: ClassVar[str] = ".outcome"

    token_id: str
    outcome: CompletionOutcome
    wait_id: str
    run_id: str


AnswerReceipt = SendReceipt | TokenAnswerReceipt | VoteReceipt
"""What answering a wait is answered."""
