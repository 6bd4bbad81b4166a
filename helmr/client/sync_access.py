# Made by `make clients` from aio_access.py; edit that one.
"""Tokens, public tokens and API keys, blocking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from helmr.client import access_operations as operations
from helmr.client.http import HttpTransport
from helmr.client.paging import all_pages
from helmr.durations import Duration
from helmr.ladder import Rung
from helmr.models import (
    ApiKeyInfo,
    ApiKeyReceipt,
    CompleteReceipt,
    FileKeyInfo,
    Page,
    PublicTokenInfo,
    PublicTokenReceipt,
    TokenInfo,
    TokenReceipt,
)
from helmr.tokens import Verify


class Tokens:
    """Tokens of all sessions, and those that programs make."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        timeout: Duration | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        schema: Any = None,
        raw: bool = False,
        verify: Verify | None = None,
        subject: str | None = None,
        body: str | None = None,
        initial: Any = None,
        ladder: Iterable[Rung] = (),
        allowed_origins: Iterable[str] = (),
        operation_id: str | None = None,
    ) -> TokenReceipt:
        """Make a token; any task may wait on it by its id (S-40).

        `ladder` is for waits on it that have neither one nor a schema of their own: see `helmr.ladder`.

        Returns:
            The token with its callback URL and public token, which are shown here only.

        Raises:
            BadSchema, BadRequest: Schema, verification, tag or origin can't be used.
            BadLadder, SchemaMismatch: The ladder can't be climbed, or its default does not fit.
        """
        call = operations.create_token(
            timeout=timeout,
            tags=tags,
            metadata=metadata,
            schema=schema,
            raw=raw,
            verify=verify,
            subject=subject,
            body=body,
            initial=initial,
            ladder=ladder,
            allowed_origins=allowed_origins,
            operation_id=operation_id,
        )
        return self._transport.call(call)

    def get(self, token_id: str) -> TokenInfo:
        """The token in full, with its data once it is completed.

        Raises:
            TokenNotFound: There is none.
        """
        return self._transport.call(operations.get_token(token_id))

    def list(
        self, *, status: str | None = None, tag: str | None = None, limit: int | None = None
    ) -> Iterator[TokenInfo]:
        """Every token that fits, newest first, page by page."""
        return all_pages(
            lambda cursor: self.page(status=status, tag=tag, limit=limit, cursor=cursor)
        )

    def page(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[TokenInfo]:
        """One page of `list`."""
        return self._transport.call(
            operations.list_tokens(status=status, tag=tag, limit=limit, cursor=cursor)
        )

    def complete(
        self,
        token_id: str,
        data: Any,
        *,
        public_access_token: str | None = None,
        operation_id: str | None = None,
    ) -> CompleteReceipt:
        """Complete a token; the first one wins (S-41).

        Raises:
            TokenNotFound: There is none.
            SchemaMismatch: The data does not fit its schema; nothing happened.
            TokenCompleted, TokenExpired, TokenCancelled: It has ended; says when and by whom.
        """
        call = operations.complete_token(
            token_id, data, public_access_token=public_access_token, operation_id=operation_id
        )
        return self._transport.call(call)

    def cancel(self, token_id: str, *, operation_id: str | None = None) -> TokenInfo:
        """Cancel a token and the waits on it; cancelling a cancelled one changes nothing."""
        return self._transport.call(operations.cancel_token(token_id, operation_id=operation_id))


class Auth:
    """Public tokens: scoped secrets that a browser may hold (S-44)."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def create_public_token(
        self,
        *,
        scope: Mapping[str, Any],
        max_uses: int | None = None,
        expires_in: Duration | None = None,
        allowed_origins: Iterable[str] = (),
        operation_id: str | None = None,
    ) -> PublicTokenReceipt:
        """Make a public token.

        Args:
            scope: From `auth.send_to`, `auth.read_from` or `auth.complete`, with its session.
            max_uses: Accepted sends or completions; None is unlimited.
            expires_in: 30 days if not given.
            allowed_origins: Web pages whose scripts may use it; without any, only programs may.
            operation_id: Names the call, to repeat it.

        Raises:
            BadRequest: The scope, an origin or the number of uses can't be used.
            SessionNotFound, StreamNotFound, TokenNotFound: What the scope names is not there.
        """
        call = operations.create_public_token(
            scope=scope,
            max_uses=max_uses,
            expires_in=expires_in,
            allowed_origins=allowed_origins,
            operation_id=operation_id,
        )
        return self._transport.call(call)

    def list(self, *, limit: int | None = None) -> Iterator[PublicTokenInfo]:
        """Public tokens, newest first, with the uses they have left."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    def page(self, *, limit: int | None = None, cursor: str | None = None) -> Page[PublicTokenInfo]:
        """One page of `list`."""
        return self._transport.call(operations.list_public_tokens(limit=limit, cursor=cursor))

    def revoke(self, public_token_id: str, *, operation_id: str | None = None) -> PublicTokenInfo:
        """Revoke a public token; revoking again changes nothing.

        Raises:
            KeyNotFound: There is none.
        """
        return self._transport.call(
            operations.revoke_public_token(public_token_id, operation_id=operation_id)
        )


class Keys:
    """API keys; for an admin."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def create(self, role: str, *, name: str, operation_id: str | None = None) -> ApiKeyReceipt:
        """Make an API key of that role: admin, operator, sender or viewer. Its secret is shown here only."""
        return self._transport.call(
            operations.create_api_key(role, name, operation_id=operation_id)
        )

    def list(self, *, limit: int | None = None) -> Iterator[ApiKeyInfo]:
        """API keys, newest first, revoked ones too."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    def page(self, *, limit: int | None = None, cursor: str | None = None) -> Page[ApiKeyInfo]:
        """One page of `list`."""
        return self._transport.call(operations.list_api_keys(limit=limit, cursor=cursor))

    def revoke(self, key_id: str, *, operation_id: str | None = None) -> ApiKeyInfo:
        """Revoke an API key; it opens nothing from now on.

        Raises:
            KeyNotFound: There is none.
        """
        return self._transport.call(operations.revoke_api_key(key_id, operation_id=operation_id))

    def public(self) -> Page[FileKeyInfo]:
        """The public keys by which session files of this runtime are verified, the newest first; for a viewer too."""
        return self._transport.call(operations.list_file_keys())
