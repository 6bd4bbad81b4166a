"""`client.auth` makes, lists and revokes public tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from helmr.client.calls import given
from helmr.client.http import ClientPart, all_pages
from helmr.models import Page, PublicTokenInfo, PublicTokenReceipt
from helmr.wire.durations import Duration, seconds
from helmr.wire.operations import CREATE_PUBLIC_TOKEN, LIST_PUBLIC_TOKENS, REVOKE_PUBLIC_TOKEN


class AsyncAuth(ClientPart):
    """Public tokens: scoped secrets that a browser may hold (S-44)."""

    async def create_public_token(
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
            expires_in: Its lifetime, by default 30 days.
            allowed_origins: Web pages whose scripts may use it; without any, only programs may.
            operation_id: Names the call, to repeat it.

        Raises:
            BadRequest: The scope, an origin or the number of uses is invalid.
            SessionNotFound, StreamNotFound, TokenNotFound: The thing that the scope names does not exist.
        """
        body = {
            "scope": dict(scope),
            "max_uses": max_uses,
            "expires_in": seconds(expires_in) if expires_in is not None else None,
            "allowed_origins": list(allowed_origins) or None,
        }
        return await self._ask(CREATE_PUBLIC_TOKEN, body=given(body), operation_id=operation_id)

    def list(self, *, limit: int | None = None) -> AsyncIterator[PublicTokenInfo]:
        """Public tokens, newest first, with the uses they have left."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[PublicTokenInfo]:
        """One page of `list`."""
        return await self._ask(LIST_PUBLIC_TOKENS, query={"limit": limit, "cursor": cursor})

    async def revoke(
        self, public_token_id: str, *, operation_id: str | None = None
    ) -> PublicTokenInfo:
        """Revoke a public token; revoking it again has no effect.

        Raises:
            KeyNotFound: There is none.
        """
        return await self._ask(REVOKE_PUBLIC_TOKEN, public_token_id, operation_id=operation_id)
