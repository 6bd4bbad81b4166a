"""Every value on the wire: what gateway, client, console and CLI say to each other.

Requests refuse unknown fields; answers ignore fields that a newer runtime adds. Times are aware UTC datetimes
and end in `_at`; durations end in `_s` (seconds) or are duration texts (`"30m"`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from helmr import html

T = TypeVar("T")

SUBJECT_MAX = 200
BODY_MAX_BYTES = 20_000
CORRELATION_ID_MAX = 512
EXTERNAL_ID_MAX = 256
IDEMPOTENCY_KEY_MAX = 256
RECORD_BYTES_MAX = 256 * 1024
VALUE_BYTES_MAX = 1024 * 1024
HTTP_BODY_BYTES_MAX = 1_310_720
UNCONSUMED_RECORDS_MAX = 10_000
UNCONSUMED_BYTES_MAX = 32 * 1024 * 1024
LIST_LIMIT_MAX = 200
LIST_LIMIT_DEFAULT = 50
"""Limits of the contract (S-2, S-17, S-23, S-26, S-28)."""

TOKEN_TAGS_MAX = 50
TOKEN_TAG_MAX = 128
TOKEN_METADATA_BYTES_MAX = 16 * 1024
NAME_MAX = 100
"""Tags, metadata and names are for finding a thing again."""


QUERY_TEXT_MAX = 65_536
QUERY_ROWS_DEFAULT = 10_000
QUERY_ROWS_MAX = 100_000
QUERY_BYTES_MAX = 32 * 1024 * 1024
QUERY_TIMEOUT_S = 30.0
"""Limits of `POST /v1/query`: characters of SQL, rows and bytes of a result, seconds."""


class SessionStatus(StrEnum):
    """S-1."""

    OPEN = "open"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class Activity(StrEnum):
    """What an open session is doing, derived from its newest run (S-1)."""

    IDLE = "idle"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    BLOCKED = "blocked"


class RunStatus(StrEnum):
    """S-3."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"

    @property
    def is_final(self) -> bool:
        """True once the run can't change except by `retry`."""
        return self in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


class WaitKind(StrEnum):
    """S-10."""

    INPUT = "input"
    TOKEN = "token"
    TIMER = "timer"


class WaitStatus(StrEnum):
    """S-11."""

    PENDING = "pending"
    FULFILLED = "fulfilled"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class SendOutcome(StrEnum):
    """What a send did (S-25)."""

    FULFILLED = "fulfilled"
    BUFFERED = "buffered"
    LATE = "late"
    UNMATCHED = "unmatched"


class TokenStatus(StrEnum):
    """S-40; all but pending are final."""

    PENDING = "pending"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Request(BaseModel):
    """Base of request bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Wire(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# --- requests -----------------------------------------------------------------------------------


class StartRequest(Request):
    """POST /v1/sessions."""

    task: str = Field(min_length=1, max_length=200)
    payload: Any = None
    external_id: str | None = Field(default=None, min_length=1, max_length=EXTERNAL_ID_MAX)
    tags: list[str] = Field(default_factory=list, max_length=50)
    metadata: dict[str, Any] = Field(default_factory=dict)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=IDEMPOTENCY_KEY_MAX)
    result_timeout_s: float | None = Field(default=None, ge=0, le=60)


class SendRequest(Request):
    """POST /v1/sessions/{id}/inputs/{stream}. `data` is required and may be null."""

    data: Any
    correlation_id: str | None = Field(default=None, max_length=CORRELATION_ID_MAX)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=IDEMPOTENCY_KEY_MAX)


class AnswerRequest(Request):
    """POST /v1/waits/{id}/answer."""

    data: Any


class CloseRequest(Request):
    """POST /v1/sessions/{id}/close."""

    end_input: bool = False


class RunRequest(Request):
    """POST /v1/sessions/{id}/runs. Without `payload` the newest run's is used again."""

    payload: Any = None


class NoteRequest(Request):
    """POST /v1/sessions/{id}/notes."""

    text: str = Field(min_length=1, max_length=BODY_MAX_BYTES)


class QueryRequest(Request):
    """POST /v1/query."""

    sql: str = Field(min_length=1, max_length=QUERY_TEXT_MAX)
    limit: int = Field(default=QUERY_ROWS_DEFAULT, ge=1, le=QUERY_ROWS_MAX)


class VerifyRequest(Request):
    """How a provider signs what it posts to the callback URL; the secret is stored encrypted (S-42)."""

    scheme: Literal["github", "slack", "standard_webhooks"]
    secret: str = Field(min_length=1, max_length=512)
    tolerance_s: int = Field(default=300, ge=1, le=3600)


class TokenRequest(Request):
    """POST /v1/tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    timeout: float | Annotated[str, Field(max_length=40)] = "7d"
    tags: list[str] = Field(default_factory=list, max_length=TOKEN_TAGS_MAX)
    metadata: dict[str, Any] = Field(default_factory=dict)
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    raw: bool = False
    verify: VerifyRequest | None = None
    subject: str | None = Field(default=None, max_length=SUBJECT_MAX)
    body: str | None = Field(default=None, max_length=BODY_MAX_BYTES)
    allowed_origins: list[Annotated[str, Field(max_length=300)]] = Field(
        default_factory=list, max_length=50
    )


class CompleteRequest(Request):
    """POST /v1/tokens/{id}/complete. `data` is required and may be null."""

    data: Any


class PublicTokenScope(Request):
    """The one thing that a public token does (S-44)."""

    type: Literal["session.input.send", "session.output.read", "token.complete"]
    session: str | None = None
    stream: str | None = Field(default=None, max_length=128)
    token: str | None = None
    correlation_id: str | None = Field(default=None, max_length=CORRELATION_ID_MAX)


class PublicTokenRequest(Request):
    """POST /v1/public-tokens."""

    scope: PublicTokenScope
    max_uses: int | None = Field(default=None, ge=1, le=1_000_000_000)
    expires_in: float | Annotated[str, Field(max_length=40)] = "30d"
    allowed_origins: list[Annotated[str, Field(max_length=300)]] = Field(
        default_factory=list, max_length=50
    )


class ApiKeyRequest(Request):
    """POST /v1/api-keys."""

    role: Literal["admin", "operator", "sender", "viewer"]
    name: str = Field(min_length=1, max_length=NAME_MAX)


# --- answers ------------------------------------------------------------------------------------


class PrincipalInfo(Wire):
    """Who acted (S-51)."""

    type: str
    id: str | None = None
    name: str | None = None
    on_behalf_of: str | None = None


class ErrorInfo(Wire):
    """Why a run failed or is blocked; the traceback holds no values (S-5)."""

    code: str
    type: str = ""
    message: str = ""
    traceback: str | None = None


class WaitInfo(Wire):
    """A wait. Lists leave out `body` and `schema`."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    id: str
    session_id: str
    run_id: str
    task: str
    kind: WaitKind
    stream: str | None = None
    correlation_id: str | None = None
    token_id: str | None = None
    subject: str | None = None
    body: str | None = None
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    status: WaitStatus
    opened_at: datetime
    deadline_at: datetime | None = None
    resolved_at: datetime | None = None
    resolved_by: PrincipalInfo | None = None
    problem: str | None = None
    """Why the stored body of one of its entries can't be read; in lists, instead of what it says."""

    def _repr_html_(self) -> str:
        return html.wait_card(self)


class SessionInfo(Wire):
    """A session's summary; `wait` is the active wait in full, null when there is none."""

    id: str
    external_id: str | None = None
    task: str
    status: SessionStatus
    activity: Activity
    queued_at: datetime | None = None
    """Since when its run waits for room, or when its next attempt begins to; null unless `activity` is queued."""
    wait: WaitInfo | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime
    updated_at: datetime
    last_seq: int
    """The seq of its newest entry: where a reader of the transcript's end begins."""
    warnings: list[str] = Field(default_factory=list)

    def _repr_html_(self) -> str:
        return html.session_card(self)


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
    problem: str | None = None
    """Why the stored body of one of its entries can't be read; in lists, instead of what it says."""

    def _repr_html_(self) -> str:
        return html.run_card(self)


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


class StartReceipt(Wire):
    """Answer of a start. 201 when `created`, else 200."""

    session: SessionInfo
    run: RunInfo
    created: bool


class SendReceipt(Wire):
    """Answer of a send or of answering an input wait (S-25)."""

    record_id: str
    stream: str
    seq: int
    outcome: SendOutcome
    duplicate: bool = False
    wait_id: str | None = None
    run_id: str | None = None


class TokenAnswerReceipt(Wire):
    """Answer of answering a token wait."""

    token_id: str
    outcome: Literal["completed", "already_completed"]
    wait_id: str
    run_id: str


class TokenInfo(Wire):
    """A token. Lists leave out `data`, `body` and `schema`. `ended_at` and `ended_by`: however it ended."""

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


class CompleteReceipt(Wire):
    """Answer of a completion (S-41)."""

    token_id: str
    outcome: Literal["completed", "already_completed"]
    completed_at: datetime


class PublicTokenInfo(Wire):
    """A public token, without its secret."""

    id: str
    scope: PublicTokenScope
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


class ApiKeyInfo(Wire):
    """An API key, without its secret."""

    id: str
    name: str
    role: Literal["admin", "operator", "sender", "viewer"]
    created_at: datetime
    created_by: PrincipalInfo | None = None
    revoked_at: datetime | None = None


class ApiKeyReceipt(ApiKeyInfo):
    """Answer of making one: with its secret, the only time it is shown."""

    secret: str


class NoteReceipt(Wire):
    """Answer of a note."""

    note_id: str
    session_id: str
    seq: int


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


class Health(Wire):
    """GET /readyz. `ready` False comes with status 503 and the reasons."""

    ready: bool
    reasons: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    """What is wrong although calls are answered."""
    version: str
    pid: int | None = None
    data_dir: str | None = None
    started_at: datetime | None = None
    now: datetime | None = None
    """The server's time at this answer; the console counts deadlines from it."""
    feed_offset: int | None = None
    """The ledger's newest feed offset."""
    counts: dict[str, int] = Field(default_factory=dict)
    """What there is: `waits_pending`, `sessions_open`, `sessions_waiting` and the like."""
    pool: dict[str, Any] = Field(default_factory=dict)
    ledger: dict[str, Any] = Field(default_factory=dict)


class Credentials(Wire):
    """`<data-dir>/credentials.json` and the live pointer: how local programs find and enter a runtime."""

    url: str
    key: str
    pid: int
    data_dir: str
