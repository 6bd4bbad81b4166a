"""Who asks: the secret of a request, and what it may do (S-46, S-51).

One check per route, from the table in `helmr.operations`. The local admin key is known by its hash, other
API keys and public tokens are asked of the service; whatever is wrong with a secret, the answer is the same.

`GenerationHeader` is the header by which clients carry the generation of a promoted ledger to the one that it has left
behind (S-68).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from urllib.parse import unquote

from starlette.responses import Response

from helmr.client.headers import HEADER, LEDGERS_MAX, STAMP_CHARS_MAX
from helmr.errors import HelmrError, LedgerSuperseded, ScopeDenied
from helmr.roles import Need, Role, ScopeType
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import ScopedToken, unauthenticated
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.security.limits import RateLimiter
from helmr_runtime.security.origins import check_origin
from helmr_runtime.security.roles import ON_BEHALF_OF_HEADER, check_on_behalf_of, check_role
from helmr_runtime.security.secrets import SecretKind, is_same_secret, parse_secret, secret_hash
from helmr_runtime.service.access import AccessTokens, ApiKeys
from helmr_runtime.service.exports import Copies

LOCAL_KEY_NAME = "local"


class Authenticator(Protocol):
    """Tells who sent a request."""

    async def authenticate(
        self, exchange: Exchange, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        """The caller, if it may do what the route needs.

        Args:
            exchange: Gets the key's `role`, or the `public_token`.
            need: What the route asks of a key.
            scope: Which public token may use it instead.

        Raises:
            NotAllowed: 401 without a good secret, 403 if it does not cover the route.
            Overloaded: Too many calls or wrong secrets.
        """
        ...


class Access:
    """The authenticator of a gateway.

    Args:
        admin_key_hash: Hex SHA-256 of the local admin key; the key itself is not kept.
        api_keys: Other API keys.
        public_tokens: Public tokens.
        limiter: The limits.
        now: Tells the time.
    """

    def __init__(
        self,
        admin_key_hash: str,
        *,
        api_keys: ApiKeys,
        public_tokens: AccessTokens,
        limiter: RateLimiter,
        now: Callable[[], datetime],
    ) -> None:
        self._admin_key_hash = admin_key_hash
        self._api_keys = api_keys
        self._public_tokens = public_tokens
        self._now = now
        self.limiter = limiter

    async def authenticate(
        self, exchange: Exchange, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        text = exchange.bearer
        if text is None:
            self.limiter.admit_source(exchange.address)
            raise unauthenticated()
        match parse_secret(text):
            case SecretKind.API_KEY:
                return await self._by_key(exchange, secret_hash(text), need)
            case SecretKind.PUBLIC_TOKEN:
                return await self._by_public_token(exchange, secret_hash(text), scope)
            case _:
                self.limiter.count_malformed(exchange.address)
                raise unauthenticated()

    async def _by_key(self, exchange: Exchange, hashed: str, need: Need) -> Principal:
        if is_same_secret(hashed, self._admin_key_hash):
            key_id, role, name = None, Role.ADMIN, LOCAL_KEY_NAME
        else:
            key = self._api_keys.known(hashed)
            if key is None:
                async with self.limiter.lookup(hashed):
                    key = await self._api_keys.find(hashed)
            if key is None:
                self.limiter.count_failure(exchange.address, hashed)
                raise unauthenticated()
            self.limiter.passed(hashed)
            key_id, role, name = key.id, key.role, key.name
        exchange.role = role
        check_role(role, need)
        return Principal("api_key", key_id, name, _person(exchange, role))

    async def _by_public_token(
        self, exchange: Exchange, hashed: str, scope: ScopeType | None
    ) -> Principal:
        async with self.limiter.lookup(hashed):
            token = await self._public_tokens.find(hashed)
        if token is None or not _is_live(token, self._now()):
            self.limiter.count_failure(exchange.address, hashed)
            raise unauthenticated()
        self.limiter.passed(hashed)
        self.limiter.admit_secret(hashed)
        # Known from here on, so that also a refusal may be read by an allowed page.
        exchange.public_token = token
        check_origin(token, exchange.headers.get("origin"))
        if scope is None or token.scope.type is not scope:
            raise ScopeDenied(f"{token.id} is for {token.scope.type.value}, not for this")
        return Principal("public_token", token.id)


class Trusting:
    """The authenticator of an app that nothing listens for: anyone who has no secret is `principal`, and may do all.

    A secret still counts for what it is: a public token sends as itself.
    """

    def __init__(self, access: Access, principal: Principal) -> None:
        self._access = access
        self._principal = principal

    async def authenticate(
        self, exchange: Exchange, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        if exchange.bearer is not None:
            return await self._access.authenticate(exchange, need, scope)
        exchange.role = Role.ADMIN
        return replace(self._principal, on_behalf_of=_person(exchange, Role.ADMIN))


def _person(exchange: Exchange, role: Role) -> str | None:
    """Whom the call is made for."""
    name = exchange.headers.get(ON_BEHALF_OF_HEADER)
    return check_on_behalf_of(role, unquote(name, errors="replace") if name is not None else None)


def _is_live(token: ScopedToken, now: datetime) -> bool:
    return token.revoked_at is None and now < token.expires_at


logger = logging.getLogger(__name__)

STAMP_WITHIN_S = 0.5


class GenerationHeader:
    """The promotions that callers report to this gateway's ledger, and those that it reports."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._stamp: str | None = None
        self._is_known = False
        self._asking: asyncio.Task[None] | None = None
        self._is_first = True
        self._superseded: LedgerSuperseded | None = None

    async def meet(self, exchange: Exchange) -> None:
        """Tell the ledger what an authenticated client has met, if it says anything.

        Raises:
            Unavailable: The ledger does not answer; the client tries again.
            LedgerSuperseded: It has a successor, and this request may change something.
        """
        try:
            if self._superseded is None:
                await self._meet(exchange)
        except LedgerSuperseded as error:
            self._superseded = error
        if self._superseded is not None and exchange.method not in ("GET", "HEAD"):
            raise self._superseded

    async def _meet(self, exchange: Exchange) -> None:
        said = exchange.headers.get(HEADER)
        if said is not None and len(said) <= (STAMP_CHARS_MAX + 1) * LEDGERS_MAX:
            await self._copies.meet([stamp.strip() for stamp in said.split(",")])
        if not self._is_known:
            await self._know_stamp()

    async def _know_stamp(self) -> None:
        """Have the ledger asked, once for all requests of that time.

        Only the first question is waited for: a ledger that is away holds up nothing that can do without it.
        """
        is_first = self._asking is None
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_stamp(), name="stamp")
            self._is_first = is_first
        if self._is_first:
            await asyncio.shield(self._asking)

    async def _ask_stamp(self) -> None:
        with suppress(HelmrError, TimeoutError):
            async with asyncio.timeout(STAMP_WITHIN_S):
                self._stamp = await self._copies.stamp()
            self._is_known = True

    def tell(self, response: Response) -> None:
        """Have an answer say which generation this ledger is of."""
        if self._stamp is not None:
            response.headers[HEADER] = self._stamp
