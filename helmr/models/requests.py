"""Bodies of requests; each refuses unknown fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from helmr.models.common import (
    ASSIGNEE_MAX,
    BATCH_ID_PATTERN,
    BODY_MAX_BYTES,
    CORRELATION_ID_MAX,
    ESCALATION_STEPS_MAX,
    EXTERNAL_ID_MAX,
    IDEMPOTENCY_KEY_MAX,
    NAME_MAX,
    NOTE_MAX_BYTES,
    OP_MAX,
    PERSON_MAX,
    PRUNE_AGE_MAX_S,
    PRUNE_AGE_MIN_S,
    QUERY_ROWS_DEFAULT,
    QUERY_ROWS_MAX,
    QUERY_TEXT_MAX,
    REASON_MAX,
    SIGNATURE_CHARS_MAX,
    SUBJECT_MAX,
    TOKEN_TAGS_MAX,
)
from helmr.models.evidence import (
    DIFF_CHARS_MAX,
    FACTS_MAX,
    LINK_LABEL_MAX,
    LINK_URL_MAX,
    LINKS_MAX,
    FactValue,
)


class Request(BaseModel):
    """Base of request bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class NoFields(Request):
    """The body of a call without arguments: absent or `{}`."""


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


class AnswerData(Request):
    """POST /v1/waits/{id}/dry-run."""

    data: Any


Reason = Annotated[str, Field(min_length=1, max_length=REASON_MAX)]


class AnswerRequest(AnswerData):
    """POST /v1/waits/{id}/answer.

    `override_reason` is an admin's reason to answer instead of the answerers; `signature` is the person's armored SSH
    signature, for a wait that accepts only signed answers; `deputy_for` is the person for whom the caller answers, as
    their deputy.
    """

    override_claim: bool = False
    override_reason: Reason | None = None
    batch_id: str | None = Field(default=None, pattern=BATCH_ID_PATTERN)
    signature: str | None = Field(default=None, min_length=1, max_length=SIGNATURE_CHARS_MAX)
    deputy_for: str | None = Field(default=None, min_length=1, max_length=PERSON_MAX)


class ClaimRequest(Request):
    """POST /v1/waits/{id}/claim. `expires_in` is 15 minutes by default, at most a day."""

    expires_in: float | Annotated[str, Field(max_length=40)] | None = None
    override_claim: bool = False


class AssignRequest(Request):
    """POST /v1/waits/{id}/assign. `assignee` is required; null assigns it to no one."""

    assignee: str | None = Field(min_length=1, max_length=ASSIGNEE_MAX)


class RewindPreviewRequest(Request):
    """POST /v1/runs/{id}/rewind/preview. Names an op of the run, or a wait of it."""

    to_op: int | None = Field(default=None, ge=1, le=OP_MAX)
    wait_id: str | None = Field(default=None, min_length=1, max_length=64)
    keep_answers: bool = True
    keep_children: bool = False


class RewindRequest(Request):
    """POST /v1/runs/{id}/rewind. `to_op`, `keep_…` and `preview_hash` are the preview's."""

    to_op: int = Field(ge=1, le=OP_MAX)
    reason: Reason
    preview_hash: str = Field(min_length=1, max_length=128)
    keep_answers: bool = True
    keep_children: bool = False


class AmendPreviewRequest(Request):
    """POST /v1/waits/{id}/amend/preview."""

    keep_answers: bool = True
    keep_children: bool = False


class AmendRequest(Request):
    """POST /v1/waits/{id}/amend. `data` is required and may be null; `preview_hash` is the preview's."""

    data: Any
    reason: Reason
    override_reason: Reason | None = None
    preview_hash: str = Field(min_length=1, max_length=128)
    keep_answers: bool = True
    keep_children: bool = False


class ForkRequest(Request):
    """POST /v1/sessions/{id}/fork. Names an op of the newest run, or a wait of it; `answer` is for the wait there."""

    to_op: int | None = Field(default=None, ge=1, le=OP_MAX)
    wait_id: str | None = Field(default=None, min_length=1, max_length=64)
    reason: Reason
    answer: Any = None
    override_reason: Reason | None = None


class CloseRequest(Request):
    """POST /v1/sessions/{id}/close: if `run_id` and `attempt` are given, only if that run is at that attempt."""

    end_input: bool = False
    run_id: str | None = Field(default=None, min_length=1, max_length=64)
    attempt: int | None = Field(default=None, ge=1, le=OP_MAX)


class RunRequest(Request):
    """POST /v1/sessions/{id}/runs. `payload` defaults to that of the newest run."""

    payload: Any = None


class AttemptRequest(Request):
    """POST /v1/runs/{id}/retry and …/cancel: if `attempt` is given, only if it is the run's newest."""

    attempt: int | None = Field(default=None, ge=1, le=OP_MAX)


class NoteRequest(Request):
    """POST /v1/sessions/{id}/notes."""

    text: str = Field(min_length=1, max_length=NOTE_MAX_BYTES)


class QueryRequest(Request):
    """POST /v1/query."""

    sql: str = Field(min_length=1, max_length=QUERY_TEXT_MAX)
    limit: int = Field(default=QUERY_ROWS_DEFAULT, ge=1, le=QUERY_ROWS_MAX)


class PruneRequest(Request):
    """POST /v1/prune."""

    older_than_s: float = Field(ge=PRUNE_AGE_MIN_S, le=PRUNE_AGE_MAX_S)
    archive: bool = True
    dry_run: bool = False
    reason: str | None = Field(default=None, min_length=1, max_length=REASON_MAX)


class VerifyRequest(Request):
    """Signature scheme of a provider that posts to the callback URL; the secret is stored encrypted (S-42)."""

    scheme: Literal["github", "slack", "standard_webhooks"]
    secret: str = Field(min_length=1, max_length=512)
    tolerance_s: int = Field(default=300, ge=1, le=3600)


class EscalationStepRequest(Request):
    """A step of a token's escalation, in the form of waits: `to` for an `assign`, `value` for a `default`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    do: Literal["remind", "assign", "default"]
    after_s: float = Field(gt=0)
    from_: Literal["opened", "assigned"] = Field(default="opened", alias="from")
    to: str | None = None
    value: Any = None


class EvidenceLinkRequest(Request):
    """A link of the evidence; without a label it is shown by its host."""

    url: str = Field(max_length=LINK_URL_MAX)
    label: str | None = Field(default=None, max_length=LINK_LABEL_MAX)


class EvidenceRequest(Request):
    """Evidence of a token: facts by name, links, and a unified diff."""

    facts: dict[str, FactValue] = Field(default_factory=dict, max_length=FACTS_MAX)
    links: list[EvidenceLinkRequest] = Field(default_factory=list, max_length=LINKS_MAX)
    diff: str | None = Field(default=None, max_length=DIFF_CHARS_MAX)


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
    initial: Any = None
    evidence: EvidenceRequest | None = None
    escalation: list[EscalationStepRequest] = Field(
        default_factory=list, max_length=ESCALATION_STEPS_MAX
    )
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


class AnswerLinkRequest(Request):
    """POST /v1/waits/{id}/links. `expires_in` defaults to the wait's deadline, at most 7 days."""

    person: str = Field(min_length=1, max_length=PERSON_MAX)
    expires_in: float | Annotated[str, Field(max_length=40)] | None = None


class GatedCallRequest(Request):
    """POST /v1/gate/calls."""

    client: str = Field(min_length=1, max_length=NAME_MAX)
    agent: str = Field(min_length=1, max_length=EXTERNAL_ID_MAX)
    tool: str = Field(min_length=1, max_length=EXTERNAL_ID_MAX)
    input: dict[str, Any] = Field(default_factory=dict)
    folder: str = Field(default="", max_length=4096)
    annotations: dict[str, Any] = Field(default_factory=dict)
    hold_s: float = Field(default=45.0, ge=0, le=300)


class GatedOutcomeRequest(Request):
    """POST /v1/gate/calls/{session_id}/outcome."""

    outcome: Literal["succeeded", "failed"]


class SaidOutcomeRequest(Request):
    """POST /v1/gate/calls/{session_id}/said-outcome."""

    outcome: Literal["succeeded", "failed", "not_made"]


class GrantRequest(Request):
    """POST /v1/gate/grants: allow an agent's calls of one tool for a time, like the call of that session.

    `matches` has globs for arguments, `{"command": "git push*"}`; empty allows any, null those of this call.
    `expires_in` defaults to 8 hours, at most 7 days.
    """

    session_id: str = Field(min_length=1, max_length=64)
    matches: dict[str, str | list[str]] | None = None
    expires_in: float | Annotated[str, Field(max_length=40)] | None = None


class ApiKeyRequest(Request):
    """POST /v1/api-keys: for a service, with its role and name, or for a person, who has a role already."""

    role: Literal["admin", "operator", "sender", "viewer", "asker"] | None = None
    name: str | None = Field(default=None, min_length=1, max_length=NAME_MAX)
    person: str | None = Field(default=None, min_length=1, max_length=PERSON_MAX)
    expires_in: float | Annotated[str, Field(max_length=40)] | None = None
