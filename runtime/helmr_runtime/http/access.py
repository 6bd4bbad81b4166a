"""The authenticator finds the sender of a request by its API key, ID token, public token or proxy header.

Invariants: S-46 and S-51 (rights of a secret), S-111 (a person is stamped here and nowhere else).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from helmr.errors import NotAllowed, OriginDenied, ScopeDenied, Unauthenticated
from helmr.models import ACCESS_TOKEN_HEADER
from helmr.person import inbox_link
from helmr.person.inbox_link import VALID_FOR
from helmr.wire.roles import Need, Role, ScopeType
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import person_principal
from helmr_runtime.core.public_tokens import ScopedToken, unauthenticated
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.security.origins import check_origin
from helmr_runtime.security.people import NamedPerson
from helmr_runtime.security.rate_limits import RateLimiter
from helmr_runtime.security.role_checks import ON_BEHALF_OF_HEADER, check_on_behalf_of, check_role
from helmr_runtime.security.secrets import (
    SecretKind,
    read_secret,
    secret_hash,
)
from helmr_runtime.service.access import AccessTokens, ApiKeys, LiveKey
from helmr_runtime.service.browser_sessions import LOCAL_NAME
from helmr_runtime.service.people import PeopleView
from helmr_runtime.service.sign_in import SignIns

PROXY = "proxy"
"""The proof of a person whom a proxy's header names."""


class Access:
    """The authenticator of a gateway.

    Args:
        admin_key_hashes: Hex SHA-256 of the local admin key, and of those of a pair; the keys themselves are not kept.
        api_keys: Other API keys.
        public_tokens: Public tokens.
        people: The people there are.
        sign_ins: Finds the person of an ID token.
        limiter: The rate limits.
        now: Tells the time.
    """

    def __init__(
        self,
        admin_key_hashes: Sequence[str],
        *,
        api_keys: ApiKeys,
        public_tokens: AccessTokens,
        people: PeopleView,
        sign_ins: SignIns,
        limiter: RateLimiter,
        now: Callable[[], datetime],
    ) -> None:
        self._admin_key_hashes = admin_key_hashes
        self._api_keys = api_keys
        self._public_tokens = public_tokens
        self._people = people
        self._sign_ins = sign_ins
        self._now = now
        self.limiter = limiter
        self._began_at = now()
        self._spent_links: dict[str, datetime] = {}
        """Spent links, with the time of use. Links from before this gateway began are void, so none is kept longer."""

    async def authenticate(
        self, exchange: Exchange, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        text = exchange.bearer
        if text is None:
            self.limiter.admit_source(exchange.address)
            principal, person = await self.by_proxy(exchange)
            return self._as_person(exchange, person, principal.via or "", need)
        match read_secret(text):
            case SecretKind.API_KEY, hashed:
                return await self._by_key(exchange, hashed, need)
            case SecretKind.PUBLIC_TOKEN, hashed:
                return await self._by_public_token(exchange, hashed, scope)
            case None if self._sign_ins.is_on and text.count(".") == 2:
                return await self._by_id_token(exchange, text, need)
            case _:
                self.limiter.count_malformed(exchange.address)
                raise unauthenticated()

    async def _by_key(self, exchange: Exchange, hashed: str, need: Need) -> Principal:
        if any(hmac.compare_digest(hashed, one) for one in self._admin_key_hashes):
            key_id, role, name = None, Role.ADMIN, LOCAL_NAME
        else:
            key = self._api_keys.known(hashed)
            if key is None:
                async with self.limiter.lookup(hashed):
                    key = await self._api_keys.find(hashed)
            person = await self._person_of(key)
            if key is None or not key.is_good(self._now()) or (key.person and person is None):
                self.limiter.count_failure(exchange.address, hashed)
                raise unauthenticated()
            self.limiter.passed(hashed)
            if person is not None:
                return self._as_person(exchange, person, key.id, need)
            key_id, role, name = key.id, key.role, key.name
        exchange.role = role
        check_role(role, need)
        return Principal("api_key", key_id, name, self._said(exchange, role))

    async def _by_id_token(self, exchange: Exchange, token: str, need: Need) -> Principal:
        hashed = secret_hash(token)
        try:
            # Not limited like lookups of secrets: a slow issuer would hold those up.
            access = exchange.headers.get(ACCESS_TOKEN_HEADER)
            person, identity, principal = await self._sign_ins.person(token, hashed, access)
        except Unauthenticated:
            self.limiter.count_failure(exchange.address, hashed)
            raise
        self.limiter.passed(hashed)
        self._as_person(exchange, person, principal.via or "", need)
        exchange.identity = identity
        return principal

    async def by_proxy(self, exchange: Exchange) -> tuple[Principal, NamedPerson]:
        """Return the person that a configured proxy's header names; the connection must be the proxy's own.

        Raises:
            Unauthenticated: No such header, or no person who may act.
            OriginDenied: Another site's page sent the request.
        """
        settings = self._people.named.settings
        email = exchange.headers.getlist(settings.proxy_header) if settings.proxy_header else []
        if len(email) != 1 or not settings.is_proxy(exchange.peer):
            raise unauthenticated()
        check_own_page(exchange)
        named = self._people.named.with_email(email[0].strip())
        person = await self._people.acting(named.id) if named is not None else None
        if person is None:
            raise unauthenticated()
        return person_principal(person.id, PROXY), person

    def check_local_link(self, exchange: Exchange, code: str) -> None:
        """Check that a link's code is recent, made by the local key since this gateway began, and used on this machine.

        Raises:
            NotAllowed: It is not; the error is the same for every cause.
        """
        now, found = self._now(), None
        if is_on_loopback(exchange) and code not in self._spent_links:
            made = (inbox_link.made_at(one, code) for one in self._admin_key_hashes)
            found = next((one for one in made if one is not None), None)
        if found is None or found < self._began_at or not found <= now < found + VALID_FOR:
            self.limiter.count_malformed(exchange.address)
            raise NotAllowed("this link opens nothing", hint="`helmr inbox-link` makes another.")

    def spend_local_link(self, exchange: Exchange, code: str) -> None:
        """Check a code as `check_local_link` does, and mark it as used.

        Raises:
            NotAllowed: As `check_local_link`.
        """
        self.check_local_link(exchange, code)
        now = self._now()
        kept = {one: at for one, at in self._spent_links.items() if now < at + VALID_FOR}
        self._spent_links = {**kept, code: now}

    async def personal_key(self, exchange: Exchange, text: str) -> str:
        """Check a personal key that someone typed; returns its hash.

        Raises:
            Unauthenticated: The key is not valid; the error is the same for every cause.
            Overloaded: Too many tries.
        """
        match read_secret(text):
            case SecretKind.API_KEY, hashed:
                async with self.limiter.lookup(hashed):
                    key = await self._api_keys.find(hashed)
                person = await self._person_of(key)
                if key is None or person is None or not key.is_good(self._now()):
                    self.limiter.count_failure(exchange.address, hashed)
                    raise unauthenticated()
                self.limiter.passed(hashed)
                return hashed
            case _:
                self.limiter.count_malformed(exchange.address)
                raise unauthenticated()

    def _as_person(
        self, exchange: Exchange, person: NamedPerson, via: str, need: Need
    ) -> Principal:
        """The principal of a proven person; a header that names someone else is refused."""
        exchange.role = role = self._people.named.role_of(person)
        check_role(role, need)
        said = _said_name(exchange)
        if said is not None and said.strip() and self._people.named.canonical(said) != person.id:
            raise NotAllowed(
                f"this credential is {person.id}'s, who does not speak for {said[:80]}",
                hint=f"Leave out {ON_BEHALF_OF_HEADER}.",
            )
        exchange.identity = self._people.identity(person)
        return person_principal(person.id, via)

    def _said(self, exchange: Exchange, role: Role) -> str | None:
        name = _person(exchange, role)
        return self._people.named.canonical(name) if name is not None else None

    async def _person_of(self, key: LiveKey | None) -> NamedPerson | None:
        """The person of a key, if it has one who may act."""
        if key is None or key.person is None:
            return None
        return await self._people.acting(key.person)

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
        # Set before any refusal, so that an allowed page can read the refusal too.
        exchange.public_token = token
        check_origin(token, exchange.headers.get("origin"))
        if scope is None or token.scope.type is not scope:
            raise ScopeDenied(f"{token.id} is for {token.scope.type.value}, not for this")
        return Principal("public_token", token.id)


class Trusting:
    """The authenticator of an app without a port: a request without a secret acts as `principal`, as an admin.

    A request with a secret is authenticated by it.
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


def is_on_loopback(exchange: Exchange) -> bool:
    """True if the browser runs on this machine and uses a loopback name, not through a proxy."""
    host = urlsplit(f"//{exchange.headers.get('host', '')}").hostname or ""
    return all(one == "localhost" or _is_loopback(one) for one in (host, exchange.peer))


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def check_own_page(exchange: Exchange, *, has_nonce: bool = False) -> None:
    """Check that no other site's page sent the request: browsers and proxies add credentials to those too.

    Our pages send no referrer, so their forms come with `Origin: null`; `Sec-Fetch-Site` tells them from other pages.

    Args:
        exchange: The request.
        has_nonce: It carries a nonce of a page of ours, for browsers that send no `Sec-Fetch-Site`.

    Raises:
        OriginDenied: Another site's page may have sent it.
    """
    if exchange.method in ("GET", "HEAD"):
        return
    origin, site = exchange.headers.get("origin"), exchange.headers.get("sec-fetch-site")
    is_own = origin is None or urlsplit(origin).netloc == exchange.headers.get("host")
    is_hidden = origin == "null" and (site == "same-origin" or has_nonce)
    if site not in (None, "none", "same-origin") or not (is_own or is_hidden):
        raise OriginDenied(
            "a page of another site can't act for a person", hint="Use the runtime's own pages."
        )


def _person(exchange: Exchange, role: Role) -> str | None:
    """The person that the call is made for, by its header."""
    name = _said_name(exchange)
    return check_on_behalf_of(role, name) if name is not None else None


def _said_name(exchange: Exchange) -> str | None:
    name = exchange.headers.get(ON_BEHALF_OF_HEADER)
    return unquote(name, errors="replace") if name is not None else None


def _is_live(token: ScopedToken, now: datetime) -> bool:
    return token.revoked_at is None and now < token.expires_at
