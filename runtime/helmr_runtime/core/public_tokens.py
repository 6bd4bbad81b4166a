"""Public tokens: their scopes, ends and uses (S-44, S-45, S-46).

Pure decisions over `ScopedToken`. A token for a session is part of that session's state, and
create, revoke and spend are commands to its actor; one that completes a token belongs to the
ledger's conditional write. Both decide here.

Bodies of the entries (JSON keys; `?` may be absent):

```
public_token.created  public_token_id scope{type session_id? stream? token_id? correlation_id? wait_id? person?}
                      secret_hash key_id? max_uses? expires_at allowed_origins[] operation?
public_token.spent    public_token_id uses          in one commit with the accepted entry
public_token.revoked  public_token_id operation?
```

The order of a use, which keeps S-45: (1) an idempotent retry is answered with its first receipt
before anything here; (2) `check_live`, (3) the scope, (4) everything that may refuse the request,
(5) `spend` in the commit that accepts it. What is refused or was accepted before spends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import BadRequest, ScopeDenied, TokenExhausted, Unauthenticated
from helmr.models import CORRELATION_ID_MAX
from helmr.wire.roles import ScopeType
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.core.entries import from_iso, iso

EXPIRES_IN_DEFAULT = timedelta(days=30)
MAX_USES_MAX = 1_000_000_000
ALLOWED_ORIGINS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The target of a public token: a session's stream, a token, or a session's wait for a person.

    Raises:
        BadRequest: A field that the type does not have, or a missing one.
    """

    type: ScopeType
    session_id: str | None = None
    stream: str | None = None
    token_id: str | None = None
    correlation_id: str | None = None
    wait_id: str | None = None
    person: str | None = None

    def __post_init__(self) -> None:
        given = {
            "session": self.session_id,
            "stream": self.stream,
            "token": self.token_id,
            "wait": self.wait_id,
            "person": self.person,
        }
        for name, value in given.items():
            is_needed = name in _SCOPE_PARTS[self.type]
            if is_needed != (value is not None):
                verb = "needs" if is_needed else "has no"
                raise BadRequest(f"a scope of type {self.type.value} {verb} {name}")
        if self.correlation_id is not None and self.type is not ScopeType.SESSION_INPUT_SEND:
            raise BadRequest(f"a scope of type {self.type.value} has no correlation_id")
        if self.correlation_id is not None and len(self.correlation_id) > CORRELATION_ID_MAX:
            raise BadRequest(f"correlation_id: at most {CORRELATION_ID_MAX} characters")

    def to_json(self) -> dict[str, str]:
        """The parts that are known, as an entry's body holds them."""
        parts = {
            "type": self.type.value,
            "session_id": self.session_id,
            "stream": self.stream,
            "token_id": self.token_id,
            "correlation_id": self.correlation_id,
            "wait_id": self.wait_id,
            "person": self.person,
        }
        return {name: value for name, value in parts.items() if value is not None}

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> Scope:
        """The scope that `to_json` wrote."""
        return cls(**{**parts, "type": ScopeType(parts["type"])})


_SCOPE_PARTS = {
    ScopeType.SESSION_INPUT_SEND: ("session", "stream"),
    ScopeType.SESSION_OUTPUT_READ: ("session", "stream"),
    ScopeType.TOKEN_COMPLETE: ("token",),
    ScopeType.WAIT_ANSWER: ("session", "wait", "person"),
}
"""Fields of each type, besides a correlation id."""

REQUESTED = (
    ScopeType.SESSION_INPUT_SEND,
    ScopeType.SESSION_OUTPUT_READ,
    ScopeType.TOKEN_COMPLETE,
)
"""Types that a request may name; answer links are made from their wait."""


def check_correlation_id(parts: Mapping[str, Any]) -> None:
    """Return if a requested scope has no empty correlation id.

    Raises:
        BadRequest: It has one, which would match any question.
    """
    correlation_id = parts.get("correlation_id")
    if correlation_id is not None and not correlation_id.strip():
        raise BadRequest(
            "a scope with an empty correlation_id would send to any question",
            hint="Find out why it is empty; if the token may send to any question, leave it out.",
        )


def scope_of_request(parts: Mapping[str, Any], *, own_session: str | None = None) -> Scope:
    """The scope that a request names: `{type, session?, stream?, token?, correlation_id?}`.

    Args:
        parts: As on the wire.
        own_session: Default session of a scope that names none, for task code.

    Raises:
        BadRequest: Unknown or missing fields.
    """
    try:
        type_ = ScopeType(str(parts.get("type")))
    except ValueError:
        type_ = None
    if type_ not in REQUESTED:
        known = ", ".join(REQUESTED)
        raise BadRequest("unknown scope type", hint=f"Types are {known}.")
    session_id = parts.get("session")
    if session_id is None and type_ is not ScopeType.TOKEN_COMPLETE:
        session_id = own_session
    if own_session is not None and session_id not in (None, own_session):
        raise BadRequest("a task makes public tokens for its own session or for a token")
    correlation_id = (parts.get("correlation_id") or "").strip() or None
    return Scope(
        type=type_,
        session_id=session_id,
        stream=parts.get("stream"),
        token_id=parts.get("token"),
        correlation_id=correlation_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedToken:
    """A public token's state. Only the hash of its secret is kept."""

    id: str
    scope: Scope
    secret_hash: str
    created_at: datetime
    expires_at: datetime
    max_uses: int | None = None
    uses: int = 0
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    allowed_origins: tuple[str, ...] = ()
    key_id: str | None = None
    """The master key that its secret was derived from; None if the secret is random."""

    def __post_init__(self) -> None:
        if self.max_uses is not None and not 1 <= self.max_uses <= MAX_USES_MAX:
            raise BadRequest(f"max_uses must be 1 to {MAX_USES_MAX}")
        if self.max_uses is not None and self.scope.type is ScopeType.SESSION_OUTPUT_READ:
            raise BadRequest("max_uses has no meaning for reading, which spends nothing (S-44)")
        if len(self.allowed_origins) > ALLOWED_ORIGINS_MAX:
            raise BadRequest(f"allowed_origins: at most {ALLOWED_ORIGINS_MAX}")

    @property
    def uses_left(self) -> int | None:
        """Uses left; None if there is no maximum."""
        return None if self.max_uses is None else max(0, self.max_uses - self.uses)

    def to_json(self) -> dict[str, Any]:
        """Return the whole state, for a checkpoint; the body of public_token.created holds a part of it."""
        parts = {
            "public_token_id": self.id,
            "scope": self.scope.to_json(),
            "secret_hash": self.secret_hash,
            "created_at": iso(self.created_at),
            "expires_at": iso(self.expires_at),
            "max_uses": self.max_uses,
            "uses": self.uses,
            "last_used_at": iso(self.last_used_at) if self.last_used_at else None,
            "revoked_at": iso(self.revoked_at) if self.revoked_at else None,
            "allowed_origins": list(self.allowed_origins),
            "key_id": self.key_id,
        }
        return {name: value for name, value in parts.items() if value is not None}

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> ScopedToken:
        """The state that `to_json` wrote."""
        times = ("created_at", "expires_at", "last_used_at", "revoked_at")
        return cls(
            id=parts["public_token_id"],
            scope=Scope.from_json(parts["scope"]),
            secret_hash=parts["secret_hash"],
            max_uses=parts.get("max_uses"),
            uses=parts.get("uses", 0),
            allowed_origins=tuple(parts.get("allowed_origins", ())),
            key_id=parts.get("key_id"),
            **{name: from_iso(parts[name]) for name in times if parts.get(name)},
        )


def check_live(token: ScopedToken | None, now: datetime) -> ScopedToken:
    """The token, if it is known, not revoked and not expired.

    Raises:
        Unauthenticated: It is not; the message is the same for all three cases (S-46).
    """
    if token is None or token.revoked_at is not None or now >= token.expires_at:
        raise unauthenticated()
    return token


def unauthenticated() -> Unauthenticated:
    """The one 401 that every unknown, malformed, revoked or expired secret gets (S-46)."""
    return Unauthenticated("the secret is not valid here")


def check_send(
    token: ScopedToken, session_id: str, stream: str, correlation_id: str | None
) -> str | None:
    """The correlation id that a send has: the request's or, if it has none, the scope's (S-44).

    Raises:
        ScopeDenied: Another session, stream or correlation id, or not a sending token.
    """
    _check_type(token, ScopeType.SESSION_INPUT_SEND)
    if (token.scope.session_id, token.scope.stream) != (session_id, stream):
        raise _denied(token, "another session or stream")
    asked = (correlation_id or "").strip() or None
    scoped = (token.scope.correlation_id or "").strip() or None
    if scoped is not None and asked is not None and asked != scoped:
        raise _denied(token, "another correlation id")
    return asked if scoped is None else scoped


def check_read(token: ScopedToken, session_id: str, stream: str) -> None:
    """Return if the token reads that output stream.

    Raises:
        ScopeDenied: Another session or stream, or not a reading token.
    """
    _check_type(token, ScopeType.SESSION_OUTPUT_READ)
    if (token.scope.session_id, token.scope.stream) != (session_id, stream):
        raise _denied(token, "another session or stream")


def check_complete(token: ScopedToken, token_id: str) -> None:
    """Return if the public token completes that token.

    Raises:
        ScopeDenied: Another token, or not a completing one.
    """
    _check_type(token, ScopeType.TOKEN_COMPLETE)
    if token.scope.token_id != token_id:
        raise _denied(token, "another token")


def check_answer(token: ScopedToken, wait_id: str) -> None:
    """Return if the answer link is for that wait.

    Raises:
        ScopeDenied: Another wait, or no answer link.
    """
    _check_type(token, ScopeType.WAIT_ANSWER)
    if token.scope.wait_id != wait_id:
        raise _denied(token, "another wait")


def check_uses(token: ScopedToken) -> None:
    """Return if a use is left (S-45).

    Raises:
        TokenExhausted: All uses are spent.
    """
    if token.uses_left == 0:
        raise TokenExhausted(
            f"{token.id}: every use is spent ({token.max_uses})", max_uses=token.max_uses
        )


def spend(token: ScopedToken, now: datetime) -> ScopedToken:
    """The token after one accepted use; call it in the decision that accepts (S-45).

    Raises:
        TokenExhausted: None is left.
    """
    check_uses(token)
    return replace(token, uses=token.uses + 1, last_used_at=now)


def revoke(token: ScopedToken, now: datetime) -> ScopedToken:
    """Return the token after its revocation; a repeated one keeps the first time."""
    return token if token.revoked_at is not None else replace(token, revoked_at=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCompletionToken(SessionCommand):
    """Make a public token that completes one token. Receipt: `{public_token_id, key_id}`."""

    public_token_id: str
    token_id: str
    secret_hash: str
    key_id: str
    max_uses: int | None
    expires_at: datetime
    allowed_origins: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeCompletionToken(SessionCommand):
    """Revoke such a public token. Idempotent. Receipt: `{public_token_id, status}`."""

    public_token_id: str


def _check_type(token: ScopedToken, needed: ScopeType) -> None:
    if token.scope.type is not needed:
        raise ScopeDenied(f"{token.id} is for {token.scope.type.value}, not for {needed.value}")


def _denied(token: ScopedToken, asked: str) -> ScopeDenied:
    # Names the mistake, never the right value: anyone may hold the token.
    return ScopeDenied(f"{token.id} is not for {asked}")
