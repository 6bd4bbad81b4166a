"""What calls answer, waits among it, and stream events, which are seen and not stored (S-90).

Each ignores fields that a newer runtime adds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field, computed_field

from helmr import safe_text
from helmr.durations import cut_text
from helmr.models.common import (
    BODY_SHOWN_BYTES,
    Activity,
    AnswerMode,
    ClaimInfo,
    CompletionOutcome,
    PrincipalInfo,
    RunStatus,
    SendOutcome,
    SessionStatus,
    Shown,
    TokenStatus,
    VoteOutcome,
    WaitKind,
    WaitPriority,
    WaitStatus,
    Wire,
    shown_facts,
)
from helmr.models.system import LimitPlace, TaskSchedule
from helmr.truth import NoTruth


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


T = TypeVar("T")


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


class ForkOrigin(Wire):
    """Where a fork begins: behind entry `seq` of its origin."""

    session_id: str
    seq: int


class ParentInfo(Wire):
    """Who started a child session: a run of another session, by one of its ops."""

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
    """Its newest run, which is the one that can be retried."""
    run_status: RunStatus | None = None
    """Of that run."""
    error: ErrorInfo | None = None
    """Why that run failed or is blocked, without the traceback."""
    queued_at: datetime | None = None
    """Since when its run waits for room, or when its next attempt begins to; null unless `activity` is queued."""
    queued_for: LimitPlace | None = None
    """The limit that its run waits for, in reads of sessions; of several the first that it asked for."""
    wait: WaitInfo | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    forked_from: ForkOrigin | None = None
    """Of a fork: the session whose past it began with."""
    parent: ParentInfo | None = None
    created_at: datetime
    updated_at: datetime
    last_seq: int
    """The seq of its newest entry: where a reader of the transcript's end begins."""
    unconsumed: int | None = None
    """How many input records no wait has taken; null in lists."""
    warnings: list[str] = Field(default_factory=list)

    @property
    def doing(self) -> str:
        """Its activity, or what limit it waits for."""
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


class GatedCallInfo(Wire):
    """A call of an agent that a person was asked about; `asked` is what it was to be called with.

    `status` is `asked`, `decided`, `left` (no one had answered when the client's time was up: it decided by itself) or
    `withdrawn`. Once it is decided, `verdict` is `allow` or `deny`, and `input` what
    the tool is called with if a person has changed it; `outcome` is what became of it, `succeeded` or `failed`, or
    `not_made` if a person says so.
    """

    session_id: str
    client: str
    agent: str
    call_id: str = ""
    tool: str
    status: str
    asked: dict[str, Any] | None = None
    verdict: str | None = None
    reason: str | None = None
    input: dict[str, Any] | None = None
    outcome: str | None = None
    decided_at: datetime | None = None


class GateReceipt(NoTruth, Wire):
    """Whether an agent's call may be made: `allow`, `deny`, or `pending` until a person has decided.

    `input` is what the tool is to be called with, if a person has changed it. `session_id` is the call's, for its
    outcome; none if a rule has decided.
    """

    _ask: ClassVar[str] = ".verdict"

    verdict: Literal["allow", "deny", "pending"]
    reason: str = ""
    input: dict[str, Any] | None = None
    session_id: str | None = None


class GrantInfo(Wire):
    """A standing grant: what a person has allowed for a while in one agent's session (S-107).

    Attributes:
        asker: Who asks for the agent: a key, `api_key:key_…`, or the session of a headless run.
        matches: Globs for arguments, one of which matches; none: whatever they are.
        session_id: The call at which it was given.
    """

    id: str
    client: str
    agent: str
    asker: str = ""
    tool: str
    matches: dict[str, list[str]] = Field(default_factory=dict)
    session_id: str
    created_by: PrincipalInfo
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    def counts(self, now: datetime) -> bool:
        """It allows calls now."""
        return self.revoked_at is None and now < self.expires_at


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


class RecordInfo(Wire):
    """One item on a stream. `consumed_by` is the wait that took an input record."""

    id: str
    stream: str
    seq: int
    data: Any
    correlation_id: str | None = None
    consumed_by: str | None = None
    principal: PrincipalInfo
    created_at: datetime


class StartReceipt(NoTruth, Wire):
    """Answer of a start. 201 when `created`, else 200."""

    _ask: ClassVar[str] = ".created, or .run.status"

    session: SessionInfo
    run: RunInfo
    created: bool


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


class TokenInfo(Wire):
    """A token. Lists leave out `data`, `body`, `schema` and `initial`. `ended_at` and `ended_by`: however it ended."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    id: str
    status: TokenStatus
    session_id: str | None = None
    run_id: str | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    subject: str | None = None
    body: str | None = None
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    initial: Any = None
    """What the form behind its URL starts with."""
    raw: bool = False
    verify: str | None = None
    """The scheme by which its callbacks are signed."""
    public_token_id: str | None = None
    created_at: datetime
    created_by: PrincipalInfo | None = None
    expires_at: datetime
    ended_at: datetime | None = None
    ended_by: PrincipalInfo | None = None
    data: Any = None
    problem: str | None = None
    """Why the stored body of one of its entries can't be read; in lists, instead of what it says."""


class TokenReceipt(TokenInfo):
    """Answer of making a token: with its secrets, the only time they are shown."""

    callback_url: str
    public_access_token: str


class CompleteReceipt(NoTruth, Wire):
    """Answer of a completion (S-41)."""

    _ask: ClassVar[str] = ".outcome"

    token_id: str
    outcome: CompletionOutcome
    completed_at: datetime


class PublicTokenScopeInfo(Wire):
    """The one thing that a public token does; of an answer link (`wait.answer`) also its wait and person."""

    type: Literal["session.input.send", "session.output.read", "token.complete", "wait.answer"]
    session: str | None = None
    stream: str | None = None
    token: str | None = None
    correlation_id: str | None = None
    wait: str | None = None
    person: str | None = None


class PublicTokenInfo(Wire):
    """A public token, without its secret."""

    id: str
    scope: PublicTokenScopeInfo
    max_uses: int | None = None
    uses: int = 0
    uses_left: int | None = None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    allowed_origins: list[str] = Field(default_factory=list)


class PublicTokenReceipt(PublicTokenInfo):
    """Answer of making one: with its secret, the only time it is shown."""

    public_access_token: str


class AnswerLinkInfo(Wire):
    """An answer link, without its URL (S-74)."""

    id: str
    wait_id: str
    session_id: str
    person: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    is_live: bool
    """Its wait is pending, and it is neither expired nor revoked."""


class AnswerLinkReceipt(AnswerLinkInfo):
    """Answer of making one: with its URL, the only time it is shown."""

    url: str


class ApiKeyInfo(Wire):
    """An API key, without its secret."""

    id: str
    name: str
    role: Literal["admin", "operator", "sender", "viewer", "asker"]
    person: str | None = None
    """Whose it is, and what comes with it is theirs; None of a service's key."""
    created_at: datetime
    created_by: PrincipalInfo | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class ApiKeyReceipt(ApiKeyInfo):
    """Answer of making one: with its secret, the only time it is shown."""

    secret: str


class NoteReceipt(NoTruth, Wire):
    """Answer of a note."""

    _ask: ClassVar[str] = ".note_id"

    note_id: str
    session_id: str
    seq: int


class FileKeyInfo(Wire):
    """A public key by which session files are verified; `id` is that of the master key that it follows from."""

    id: str
    key: str


class StreamInfo(Wire):
    """A stream of a task."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    name: str
    direction: Literal["input", "output"]
    json_schema: dict[str, Any] | bool = Field(alias="schema")
    tasks: list[str] = Field(default_factory=list)
    declared_in: str | None = None


class TaskInfo(Wire):
    """A task of the catalog."""

    id: str
    module: str
    doc: str | None = None
    payload_schema: dict[str, Any] | bool = True
    result_schema: dict[str, Any] | bool = True
    inputs: list[str] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    on_idle_input: Literal["keep", "run", "reject"] = "keep"
    after_run: Literal["keep", "close"] = "keep"
    retries: int = 0
    isolated: bool = False
    schedule: TaskSchedule | None = None
    mcp: bool = True


class Catalog(Wire):
    """What `up` found in the task modules; `code_hash` names this state of the code."""

    code_hash: str
    modules: list[str]
    tasks: list[TaskInfo]
    streams: list[StreamInfo]


class Page(Wire, Generic[T]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None = None


class FieldProblem(Wire):
    """One failing path of data that its schema refuses."""

    path: str
    message: str


class Problem(Wire):
    """RFC 9457 problem details; `code` is stable, `hint` says what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    errors: list[FieldProblem] = Field(default_factory=list)
    facts: Mapping[str, Any] = Field(default_factory=dict)


class QueryColumn(Wire):
    """A column of a query's result; `type` is the engine's name of it, e.g. `TIMESTAMP WITH TIME ZONE`."""

    name: str
    type: str


class QueryAnswer(Wire):
    """POST /v1/query: rows as lists of JSON values, in the order of `columns`."""

    columns: list[QueryColumn]
    rows: list[list[Any]]
    truncated: bool
    """There were more rows than `limit`."""
    elapsed_s: float


class Credentials(Wire):
    """`<data-dir>/credentials.json` and the live pointer: how local programs find and enter a runtime."""

    url: str
    key: str
    pid: int
    data_dir: str


class ChunkInfo(Wire):
    """One value that code emitted. `op` is the step that it came from, None outside of steps."""

    stream: str
    op: int | None = None
    data: Any
    lost: int = 0
    """So many chunks of the stream just before it did not reach this follower, which was too slow."""


class ChunksEnd(Wire):
    """No more chunks come from there. What lasts is the step's outcome, and the records of the stream."""

    stream: str
    op: int | None = None
    outcome: str
    """`succeeded`, `failed`, `abandoned`, or `retried` or `died`, after which the step runs again from its start;
    outside of steps `next_entry` or `died`."""
    lost: int = 0
    """As `ChunkInfo.lost`."""
