"""A wait on the wire, its claim and votes, and the receipts of what people do with it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, computed_field

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
from helmr.models.evidence import Evidence, EvidenceLink
from helmr.wire import safe_text
from helmr.wire.durations import cut_text
from helmr.wire.truth import NoTruth


class ClaimInfo(Wire):
    """A claim on a wait: its principal, and its end unless it is renewed (S-81)."""

    principal: PrincipalInfo
    on_behalf_of: str | None = None
    since: datetime
    until: datetime

    @property
    def label(self) -> str:
        """The name of the claimant for people: the person, else the key's name."""
        return (
            self.on_behalf_of
            or self.principal.person
            or self.principal.name
            or self.principal.label
        )


class ClaimReceipt(NoTruth, Wire):
    """Answer of claiming and releasing, with the current claim."""

    _ask: ClassVar[str] = ".claim"

    wait_id: str
    claim: ClaimInfo | None = None


class AssignReceipt(NoTruth, Wire):
    """Answer of assigning a wait."""

    _ask: ClassVar[str] = ".assignee"

    wait_id: str
    assignee: str | None = None


class VoteInfo(Wire):
    """A person's vote on a wait that several must agree on (S-113); equal `proposal`s agree."""

    person: str
    deputy_for: str | None = None
    """The person for whom they voted as a deputy (S-142); the vote is of both."""
    data: Any
    proposal: str
    voted_at: datetime
    signed_by: str | None = None
    """Fingerprint of the key that signed it."""

    @property
    def people(self) -> tuple[str, ...]:
        """The people whose vote it is."""
        return (self.person,) if self.deputy_for is None else (self.person, self.deputy_for)

    @property
    def label(self) -> str:
        """The voter for people: `ada`, or `bo for ada`."""
        return " for ".join(self.people)


class AwayInfo(Wire):
    """A person who may answer a wait and has a deputy for it now (S-142)."""

    person: str
    deputy: str
    until: datetime


class WaitInfo(Wire):
    """A wait; with `session_ids`, for the first of them to end.

    Lists leave out `body`, `evidence`, `links`, `trace_id`, `schema`, `initial`, `on_decline`, `votes` and `answer`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    id: Annotated[str, Shown(find="id")]
    session_id: Annotated[str, Shown(find="session")]
    run_id: Annotated[str, Shown(find="run")]
    task: Annotated[str, Shown(find="task")]
    parent_session_id: Annotated[str | None, Shown(find="parent")] = None
    """The parent of its session."""
    kind: Annotated[WaitKind, Shown(find="kind")]
    stream: Annotated[str | None, Shown(find="stream")] = None
    correlation_id: Annotated[str | None, Shown(find="correlation")] = None
    token_id: Annotated[str | None, Shown(find="token")] = None
    resolving: Annotated[TokenStatus | None, Shown("token")] = None
    """The end of its token, while it is still `pending` because its session has not decided yet. It takes no more
    answers, and is in no list of pending waits."""
    session_ids: list[str] = Field(default_factory=list)
    subject: Annotated[str | None, Shown(find="subject")] = None
    body: str | None = None
    evidence: Evidence | None = None
    """Facts, links and a diff that its person sees above the body."""
    links: list[EvidenceLink] = Field(default_factory=list)
    """Links of the runtime, made from the templates in its `helmr.toml` and shown below those of the evidence. The
    question hash does not cover them."""
    trace_id: str | None = None
    """The trace that asked it, 32 hex digits; null if none was sent."""
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    status: WaitStatus
    opened_at: datetime
    deadline_at: datetime | None = None
    resolved_at: Annotated[datetime | None, Shown(at_end=True)] = None
    resolved_by: Annotated[PrincipalInfo | None, Shown(at_end=True)] = None
    mode: Annotated[AnswerMode | None, Shown("answered by a", at_end=True)] = None
    """The way of its answer (S-73)."""
    batch_id: Annotated[str | None, Shown("batch", find="batch", at_end=True)] = None
    """The batch that its answer was part of."""
    answer: Annotated[Any, Shown(at_end=True)] = None
    """Its answer; only in the read of one wait, and null unless it is `fulfilled`."""
    priority: Annotated[WaitPriority, Shown("priority", find="priority")] = WaitPriority.NORMAL
    assignee: Annotated[str | None, Shown("assignee", find="assignee")] = None
    claim: Annotated[ClaimInfo | None, Shown("claimed by")] = None
    """Its current claim (S-81)."""
    tags: Annotated[list[str], Shown("tags")] = Field(default_factory=list)
    session_tags: Annotated[list[str], Shown("session tags")] = Field(default_factory=list)
    initial: Any = None
    """Initial value of the form."""
    can_decline: bool = False
    """True if it can be declined, which answers with `on_decline`."""
    on_decline: Any = None
    answerers: Annotated[list[str], Shown("answered by")] = Field(default_factory=list)
    """People and groups that may answer (S-112). Empty: any caller with the right to answer, or any person if `not_by`
    or `approvals` is set."""
    not_by: Annotated[list[str], Shown("not answered by")] = Field(default_factory=list)
    approvals: Annotated[int, Shown("approvals")] = 1
    """Number of people who must give the same answer."""
    have: Annotated[int, Shown("who agree")] = 0
    """Number of people who agree with the last vote (S-113)."""
    voters: Annotated[list[str], Shown("voted")] = Field(default_factory=list)
    """Ids of the people who voted, newest last; a deputy and the person they voted for are both here."""
    votes: list[VoteInfo] = Field(default_factory=list)
    """Their votes; only in the read of one pending wait."""
    can_answer: bool | None = None
    """True if the caller may answer it, and has not; null for a caller that is not a person, or if it depends on groups
    that are not known now."""
    deputy_for: Annotated[list[str], Shown("you answer for")] = Field(default_factory=list)
    """The people for whom the caller, who is a person, may answer it as their deputy (S-142)."""
    away: list[AwayInfo] = Field(default_factory=list)
    """Its answerers and its assignee who have a deputy for it now, with the time until which."""
    is_mine: bool | None = None
    """True if its assignee or answerers include the caller or a group of theirs; null for a caller that is not a
    person."""
    refusals: list[Any] = Field(default_factory=list)
    """Answers for which one person is enough."""
    comments: list[str] = Field(default_factory=list)
    """Fields of an answer in which people need not agree."""
    signed: Annotated[bool, Shown("takes signed answers only")] = False
    """Each answer carries its person's signature (S-115)."""
    deputies: bool | None = None
    """False if it takes no answers of deputies (S-142); null: it takes them unless answers are signed."""
    signed_by: Annotated[str | None, Shown("signed by", at_end=True)] = None
    """Fingerprint of the key that signed its answer; only in the read of one wait."""
    override_reason: Annotated[str | None, Shown("overridden because", at_end=True)] = None
    """An admin's reason to answer instead of the answerers."""
    escalation: list[dict[str, Any]] = Field(default_factory=list)
    """Escalation steps `{do, after_s, from, to?, value?}` while no one answers."""
    next_escalation: int | None = None
    """The place in `escalation`, from 0, of the next step; None if there is none."""
    next_escalation_at: datetime | None = None
    default_at: datetime | None = None
    """The time at which the escalation's default answers, and other answers end."""
    question_hash: str | None = None
    """Hash of the question as shown, equal for waits that ask the same."""
    problem: str | None = None
    """The reason that a stored body of its entries can't be read; in lists, instead of the contents."""

    @computed_field  # type: ignore[prop-decorator] # as pydantic has it
    @property
    def ends_at(self) -> datetime | None:
        """The time at which it ends without an answer: by its escalation's default, else by its deadline."""
        return self.default_at or self.deadline_at

    @property
    def is_restricted(self) -> bool:
        """True if it restricts its answerers: only an answer by one of them resolves it (S-112)."""
        says = self.answerers or self.not_by or self.refusals
        return bool(says) or self.approvals > 1 or self.signed

    @property
    def shown_evidence(self) -> Evidence | None:
        """The evidence as people see it, with the runtime's links below its own."""
        return (self.evidence or Evidence()).with_links(self.links) if self.links else self.evidence

    @property
    def text(self) -> str:
        """Evidence with the runtime's links, and body, as plain text; empty if there is nothing."""
        return _text(self.shown_evidence, self.body)

    @property
    def own_text(self) -> str:
        """Evidence and body as the code gave them: without the runtime's links, whose ids differ for each wait."""
        return _text(self.evidence, self.body)

    @property
    def takes_answers(self) -> bool:
        """True if a person can answer it: it is pending, of a kind that people answer, and its token has not ended."""
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
        body = cut_text(self.text, BODY_SHOWN_BYTES) if self.text else None
        return safe_text.card(title, facts, body=body)


def _text(evidence: Evidence | None, body: str | None) -> str:
    return "\n\n".join(part for part in (evidence.text if evidence else "", body) if part)


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
    deputy_for: str | None = None
    """The person for whom it was answered, by their deputy (S-142)."""


class VoteReceipt(NoTruth, Wire):
    """Answer of a vote, or its withdrawal, on a wait that several people must agree on (S-113).

    `have` of `need` people agree with the last vote.
    """

    _ask: ClassVar[str] = ".outcome, or .have and .need"

    wait_id: str
    run_id: str
    outcome: VoteOutcome
    have: int
    need: int
    deputy_for: str | None = None
    """As in `SendReceipt`."""


class TokenAnswerReceipt(NoTruth, Wire):
    """Answer of answering a token wait."""

    _ask: ClassVar[str] = ".outcome"

    token_id: str
    outcome: CompletionOutcome
    wait_id: str
    run_id: str


AnswerReceipt = SendReceipt | TokenAnswerReceipt | VoteReceipt
"""Receipts of answering a wait."""
