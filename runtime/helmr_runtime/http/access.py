"""Who asks: the secret of a request, and what it may do (S-46, S-51).

One check per route, from the table in `helmr_runtime.security.roles`. The local admin key is known by its hash, other
API keys and public tokens are asked of the service; whatever is wrong with a secret, the answer is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from urllib.parse import unquote

from starlette.requests import Request

from helmr.errors import ScopeDenied
from helmr.roles import Need, Role, ScopeType
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import PublicToken, unauthenticated
from helmr_runtime.security.limits import RateLimiter
from helmr_runtime.security.origins import check_origin
from helmr_runtime.security.roles import ON_BEHALF_OF_HEADER, check_on_behalf_of, check_role
from helmr_runtime.security.secrets import SecretKind, is_same_secret, parse_secret, secret_hash
from helmr_runtime.service.access import AccessTokens, ApiKeys

LOCAL_KEY_NAME = "local"
NO_ADDRESS = "unknown"


class Authenticator(Protocol):
    """Tells who sent a request."""

    async def authenticate(
        self, request: Request, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        """The caller, if it may do what the route needs.

        Args:
            request: Gets `state.role` of a key, or `state.public_token`.
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
        self, request: Request, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        text = bearer(request)
        if text is None:
            self.limiter.admit_source(address_of(request))
            raise unauthenticated()
        match parse_secret(text):
            case SecretKind.API_KEY:
                return await self._by_key(request, secret_hash(text), need)
            case SecretKind.PUBLIC_TOKEN:
                return await self._by_public_token(request, secret_hash(text), scope)
            case _:
                self.limiter.count_malformed(address_of(request))
                raise unauthenticated()

    async def _by_key(self, request: Request, hashed: str, need: Need) -> Principal:
        if is_same_secret(hashed, self._admin_key_hash):
            key_id, role, name = None, Role.ADMIN, LOCAL_KEY_NAME
        else:
            key = self._api_keys.known(hashed)
            if key is None:
                async with self.limiter.lookup(hashed):
                    key = await self._api_keys.find(hashed)
            if key is None:
                self.limiter.count_failure(address_of(request), hashed)
                raise unauthenticated()
            self.limiter.passed(hashed)
            key_id, role, name = key.id, key.role, key.name
        request.state.role = role
        check_role(role, need)
        return Principal("api_key", key_id, name, _person(request, role))

    async def _by_public_token(
        self, request: Request, hashed: str, scope: ScopeType | None
    ) -> Principal:
        async with self.limiter.lookup(hashed):
            token = await self._public_tokens.find(hashed)
        if token is None or not _is_live(token, self._now()):
            self.limiter.count_failure(address_of(request), hashed)
            raise unauthenticated()
        self.limiter.passed(hashed)
        self.limiter.admit_secret(hashed)
        # Known from here on, so that also a refusal may be read by an allowed page.
        request.state.public_token = token
        check_origin(token, request.headers.get("origin"))
        if scope is None or token.scope.type is not scope:
            raise ScopeDenied(f"{token.id} is for {token.scope.type.value}, not for this")
        return Principal("public_token", token.id)


class Trusting:
    """The authenticator of an app that nothing listens for: whoever has no secret is `principal`, and may do all.

    A secret still counts for what it is: a public token sends as itself.
    """

    def __init__(self, access: Access, principal: Principal) -> None:
        self._access = access
        self._principal = principal

    async def authenticate(
        self, request: Request, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        if bearer(request) is not None:
            return await self._access.authenticate(request, need, scope)
        request.state.role = Role.ADMIN
        return replace(self._principal, on_behalf_of=_person(request, Role.ADMIN))


def _person(request: Request, role: Role) -> str | None:
    """Whom the call is made for."""
    name = request.headers.get(ON_BEHALF_OF_HEADER)
    return check_on_behalf_of(role, unquote(name, errors="replace") if name is not None else None)


def public_token_of(request: Request) -> PublicToken | None:
    """The public token that a request came with, if it did."""
    token: PublicToken | None = getattr(request.state, "public_token", None)
    return token


def bearer(request: Request) -> str | None:
    """The bearer secret of a request."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text.strip() else None


def address_of(request: Request) -> str:
    """Where a request comes from, as limits count."""
    return request.client.host if request.client is not None else NO_ADDRESS


def _is_live(token: PublicToken, now: datetime) -> bool:
    return token.revoked_at is None and now < token.expires_at
