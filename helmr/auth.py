"""Public tokens: scoped secrets that a browser may hold (S-44, S-45).

In a task they are made for the run's own session or for a token; a replay gives the same one with the same secret.
Programs make them with `client.auth`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from helmr.current import PublicTokenCall, PublicTokenMade, durable_call, require_run
from helmr.streams import InputStream, OutputStream
from helmr.wire.durations import Duration, seconds

EXPIRES_IN_DEFAULT: Duration = "30d"
"""S-44."""

Scope = Mapping[str, Any]


class PublicToken:
    """A public token that this run has made.

    Attributes:
        id: To list and revoke it.
        expires_at: The end of its validity.
        public_access_token: The secret.
    """

    def __init__(self, made: PublicTokenMade) -> None:
        self.id = made.id
        self.expires_at: datetime = made.expires_at
        self.public_access_token = made.public_access_token

    def __repr__(self) -> str:
        return f"PublicToken({self.id!r})"


def send_to(
    stream: InputStream[Any] | str,
    *,
    session: str | None = None,
    correlation_id: str | None = None,
) -> Scope:
    """The scope that sends to one input stream of one session; in a task the session is its own if not given."""
    name = stream if isinstance(stream, str) else stream.id
    parts = {"session": session, "stream": name, "correlation_id": correlation_id}
    return _scope("session.input.send", parts)


def read_from(stream: OutputStream[Any] | str, *, session: str | None = None) -> Scope:
    """The scope that reads one output stream of one session."""
    name = stream if isinstance(stream, str) else stream.id
    return _scope("session.output.read", {"session": session, "stream": name})


def complete(token_id: str) -> Scope:
    """The scope that completes one token."""
    return _scope("token.complete", {"token": token_id})


@durable_call("auth.create_public_token()")
async def create_public_token(
    *,
    scope: Scope,
    max_uses: int | None = None,
    expires_in: Duration = EXPIRES_IN_DEFAULT,
    allowed_origins: Iterable[str] = (),
) -> PublicToken:
    """Make a public token in a task.

    Args:
        scope: From `auth.send_to`, `auth.read_from` or `auth.complete`.
        max_uses: Accepted sends or completions; None is unlimited. Reading spends nothing.
        expires_in: Afterwards it is refused.
        allowed_origins: Web pages whose scripts may use it; without any, only programs may.

    Raises:
        BadRequest: The scope, an origin or the number of uses can't be used.

    Durability: on disk before any later step starts.   Source: S-44, S-45.
    """
    call = PublicTokenCall(
        scope=scope,
        max_uses=max_uses,
        expires_in_s=seconds(expires_in),
        allowed_origins=tuple(allowed_origins),
    )
    return PublicToken(await require_run("auth.create_public_token()").create_public_token(call))


def _scope(type_: str, parts: Mapping[str, str | None]) -> Scope:
    return {"type": type_, **{name: value for name, value in parts.items() if value is not None}}
