"""A token carries a question to the outside world, and its end resolves the waits on it (S-40…S-43).

Pure. A token's first entry stands in the transcript of the session whose task made it, or in the system stream if a
client did; its end stands in the system stream, written by the ledger alone, so that one conditional write decides
who completed it. A cancelled session cancels its pending tokens with its own `session.cancelled`.

Bodies of the entries (JSON keys; `?` may be absent):

```
token.created    token_id expires_at tags[] metadata{} callback_hash public_token_id public_token_hash key_id
                 schema? raw? verify?{scheme tolerance_s secret_sealed} subject? body? initial? evidence?
                 allowed_origins? escalation[]? operation?
token.completed  token_id data mode batch_id? nonce_id? public_token_id? overrides?{claimed_by since_at} operation?
token.expired    token_id
token.cancelled  token_id operation?
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import BadRequest, TooLarge
from helmr.models import (
    BODY_MAX_BYTES,
    RECORD_BYTES_MAX,
    SUBJECT_MAX,
    TOKEN_METADATA_BYTES_MAX,
    TOKEN_TAG_MAX,
    TOKEN_TAGS_MAX,
)
from helmr.wire.roles import ScopeType
from helmr_runtime.core import jsontext
from helmr_runtime.core.api_keys import CreateApiKey, RevokeApiKey
from helmr_runtime.core.children import CHILD_ENDS, outcome_of
from helmr_runtime.core.commands import (
    NO_DETAILS,
    AnswerDetails,
    FeatureFact,
    OpenLedger,
    SessionCommand,
)
from helmr_runtime.core.entries import Entry, EntryKind, Principal, decided_at, from_iso, iso
from helmr_runtime.core.notices import MoveNotices
from helmr_runtime.core.people import PersonCommand
from helmr_runtime.core.public_tokens import (
    EXPIRES_IN_DEFAULT,
    CreateCompletionToken,
    RevokeCompletionToken,
    Scope,
    ScopedToken,
)

TIMEOUT_DEFAULT_S = 7 * 86_400.0
"""S-40."""

SCHEMA_BYTES_MAX = 64 * 1024
"""The limit of `helmr_runtime.security.schemas`; checked here too, for schemas from a task's types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to be made. Code that holds the keys derives its secrets from its id; only hashes are here.

    Raises:
        BadRequest, TooLarge: A tag, a text or the metadata is out of its limits.
    """

    token_id: str
    public_token_id: str
    key_id: str
    callback_hash: str
    public_token_hash: str
    timeout_s: float = TIMEOUT_DEFAULT_S
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    schema: Any = None
    is_raw: bool = False
    verify: Mapping[str, Any] | None = None
    """The signature scheme of callbacks, with its secret sealed."""
    subject: str | None = None
    body: str | None = None
    initial: Any = None
    """Initial value of the form behind its URL."""
    allowed_origins: tuple[str, ...] = ()
    escalation: tuple[Mapping[str, Any], ...] = ()
    """Escalation of waits on it that have none (S-82)."""
    evidence: Mapping[str, Any] | None = None
    """As of `wait.opened`; waits on it without evidence have it."""

    def __post_init__(self) -> None:
        if len(self.tags) > TOKEN_TAGS_MAX:
            raise BadRequest(f"a token has at most {TOKEN_TAGS_MAX} tags")
        for tag in self.tags:
            if not 1 <= len(tag) <= TOKEN_TAG_MAX or not tag.isprintable():
                raise BadRequest(
                    f"{tag[:TOKEN_TAG_MAX]!r} can't be a tag",
                    hint=f"A tag is one line of 1 to {TOKEN_TAG_MAX} characters.",
                )
        if len(jsontext.encode(dict(self.metadata)).encode()) > TOKEN_METADATA_BYTES_MAX:
            raise TooLarge(f"a token's metadata has at most {TOKEN_METADATA_BYTES_MAX} bytes")
        if self.schema is not None and len(jsontext.encode(self.schema)) > SCHEMA_BYTES_MAX:
            raise TooLarge(f"a schema has at most {SCHEMA_BYTES_MAX} bytes")
        if self.subject is not None and (
            len(self.subject) > SUBJECT_MAX or len(self.subject.splitlines()) > 1
        ):
            raise BadRequest(f"a subject is one line of at most {SUBJECT_MAX} characters")
        if self.initial is not None:
            check_completion_size(self.initial)
        if self.body is not None and len(self.body.encode("utf-8")) > BODY_MAX_BYTES:
            raise TooLarge(f"a body has at most {BODY_MAX_BYTES} bytes")

    def to_body(self, now: datetime) -> dict[str, Any]:
        """The body of its `token.created`."""
        parts: dict[str, Any] = {
            "token_id": self.token_id,
            "expires_at": iso(now + timedelta(seconds=self.timeout_s)),
            "tags": list(self.tags),
            "metadata": dict(self.metadata),
            "callback_hash": self.callback_hash,
            "public_token_id": self.public_token_id,
            "public_token_hash": self.public_token_hash,
            "key_id": self.key_id,
        }
        optional = {
            "schema": self.schema,
            "raw": self.is_raw or None,
            "verify": dict(self.verify) if self.verify is not None else None,
            "subject": self.subject,
            "body": self.body,
            "initial": self.initial,
            "evidence": dict(self.evidence) if self.evidence is not None else None,
            "allowed_origins": list(self.allowed_origins) or None,
            "escalation": [dict(step) for step in self.escalation] or None,
        }
        parts.update((name, value) for name, value in optional.items() if value is not None)
        return parts


@dataclass(frozen=True, slots=True)
class TokenQuestion:
    """A token's question to the person who answers, and its expiry; a wait on the token falls back to it."""

    subject: str | None
    body: str | None
    expires_at: datetime
    schema: Any = None
    initial: Any = None
    escalation: tuple[Mapping[str, Any], ...] = ()
    evidence: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> TokenQuestion:
        """Read it from the body of a `token.created`, or from a token as the ledger shows it."""
        return cls(
            parts.get("subject"),
            parts.get("body"),
            from_iso(parts["expires_at"]),
            parts.get("schema"),
            parts.get("initial"),
            tuple(parts.get("escalation", ())),
            parts.get("evidence"),
        )


def own_public_token(entry: Entry, expires_at: datetime) -> ScopedToken:
    """The public token that comes with a token, from its `token.created`.

    It outlives the token, so that the error of a late completion can name the token's end (S-41).
    """
    body = entry.body
    return ScopedToken(
        id=body["public_token_id"],
        scope=Scope(type=ScopeType.TOKEN_COMPLETE, token_id=body["token_id"]),
        secret_hash=body["public_token_hash"],
        created_at=entry.recorded_at,
        expires_at=expires_at + EXPIRES_IN_DEFAULT,
        allowed_origins=tuple(body.get("allowed_origins", ())),
        key_id=body["key_id"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateToken(SessionCommand):
    """Make a token for a client. Receipt: `{token_id, key_id}`."""

    new: NewToken


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteToken(SessionCommand):
    """Complete a token (S-41). Receipt: `{token_id, outcome, completed_at}`.

    Attributes:
        checked: Feed offsets of the schemas that the data was checked against. If the ledger has further ones by now,
            the outcome is `recheck` and nothing happened.
        nonce_id: Nonce of the answer page's form, if it came from one.
        public_token_id: The public token that completes it, if any; spent in the same commit (S-45).
        answers: Session and wait, if it answers a wait: then it counts only while that is pending (S-18) and not
            claimed by someone else (S-81).
        override_claim: Complete even if someone else has claimed that wait.
    """

    token_id: str
    data: Any
    checked: tuple[int, ...] = ()
    nonce_id: str | None = None
    public_token_id: str | None = None
    answers: tuple[str, str] | None = None
    override_claim: bool = False
    details: AnswerDetails = NO_DETAILS


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelToken(SessionCommand):
    """Cancel a token; cancelling a cancelled one succeeds. Receipt: `{token_id, status}`."""

    token_id: str


LedgerCommand = (
    CreateToken
    | CompleteToken
    | CancelToken
    | CreateCompletionToken
    | RevokeCompletionToken
    | CreateApiKey
    | RevokeApiKey
    | PersonCommand
    | FeatureFact
    | MoveNotices
    | OpenLedger
)
"""Commands that the ledger writes into the system stream."""


def check_completion_size(data: Any) -> None:
    """Return if the data is small enough to complete a token: the limit is a record's (S-28).

    Raises:
        TooLarge: It is larger.
    """
    size = len(jsontext.encode(data).encode("utf-8"))
    if size > RECORD_BYTES_MAX:
        raise TooLarge(
            f"the data has {size} bytes, the limit is {RECORD_BYTES_MAX}",
            hint="Store it elsewhere and send a reference.",
        )


def end_facts(status: str, entry: Entry) -> dict[str, Any]:
    """Return the facts of a token's or child session's end, from its entry: what waits and deliveries get.

    Shape: `{status, ended_at, ended_by, data?, reason?}` and `AnswerDetails`; `reason` if a rewind ended it.
    """
    facts: dict[str, Any] = {
        "status": status,
        "ended_at": iso(decided_at(entry)),
        "ended_by": entry.principal.to_json(),
    }
    if entry.kind is EntryKind.TOKEN_COMPLETED:
        facts["data"] = entry.body["data"]
        facts |= AnswerDetails.of(entry.body).recorded()
    elif entry.kind in CHILD_ENDS:
        facts["data"] = outcome_of(entry)
    elif entry.kind is EntryKind.RUN_REWOUND:
        facts["reason"] = "rewound"
    return facts


def who(principal: Principal) -> str:
    """Name a principal in a sentence."""
    return principal.person or principal.name or principal.id or principal.type
