"""Signing in by OpenID Connect: whose an ID token is, with the issuer's keys as they are now (S-111).

The keys are read from the issuer's discovery document at the first sign-in and again when a token names one that is
not among them, at most once in ten seconds: a key that was rotated is found, and made-up names cost no requests. While
the issuer can't be reached, tokens by known keys go on to count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helmr import ids
from helmr.errors import Unavailable
from helmr.models import SignInInfo
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import BindPerson, person_principal
from helmr_runtime.core.public_tokens import unauthenticated
from helmr_runtime.security.people import NamedPerson, PeopleSettings
from helmr_runtime.service.people import PeopleView
from helmr_runtime.service.shared import LruCache, Shared

if TYPE_CHECKING:
    import httpx
    from joserfc.jwk import KeySet

    from helmr_runtime.security.id_tokens import SignIn

DISCOVERY = "/.well-known/openid-configuration"
KEYS_AGAIN_S = 10.0
"""Between two looks for a key that is not known."""
KEYS_AGE_MAX_S = 3_600.0
"""Then they are read again whatever comes: a key that was withdrawn counts no longer than that."""
ISSUER_TIMEOUT_S = 5.0
DOCUMENT_BYTES_MAX = 256 * 1024
TOKENS_KNOWN_MAX = 1_000

logger = logging.getLogger(__name__)


class Issuer:
    """The keys of one issuer.

    Args:
        url: The issuer, as its tokens name it.
        monotonic: Seconds that only rise.
    """

    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        self.url = url
        self._monotonic = monotonic
        self._keys: KeySet | None = None
        self._key_ids: frozenset[str | None] = frozenset()
        self._asked_at_s: float | None = None
        self._lock = asyncio.Lock()

    async def keys(self, key_id: str | None) -> KeySet:
        """Its keys, read again if that one is not among them or they are old.

        Raises:
            Unavailable: It can't be reached, and no keys of it are known.
        """
        async with self._lock:
            age_s = self._monotonic() - self._asked_at_s if self._asked_at_s is not None else None
            is_due = age_s is None or age_s >= KEYS_AGE_MAX_S
            is_unknown = self._keys is None or (key_id is not None and key_id not in self._key_ids)
            if is_due or (is_unknown and (age_s is None or age_s >= KEYS_AGAIN_S)):
                await self._read()
            if self._keys is None:
                raise Unavailable(f"the issuer {self.url} can't be reached", hint="Try again.")
            return self._keys

    async def _read(self) -> None:
        import httpx  # noqa: PLC0415 - only where people sign in
        from joserfc.errors import JoseError  # noqa: PLC0415 - the same
        from joserfc.jwk import KeySet  # noqa: PLC0415 - the same

        self._asked_at_s = self._monotonic()
        try:
            async with httpx.AsyncClient(timeout=ISSUER_TIMEOUT_S, follow_redirects=False) as http:
                found = await _document(http, self.url.rstrip("/") + DISCOVERY)
                if found.get("issuer") != self.url:
                    raise ValueError(f"its document is of {str(found.get('issuer'))[:200]!r}")
                keys = await _document(http, str(found["jwks_uri"]))
            self._keys = KeySet.import_key_set(keys)  # type: ignore[arg-type]  # checked by it
            self._key_ids = frozenset(one.kid for one in self._keys.keys)
        except (httpx.HTTPError, httpx.InvalidURL, JoseError, ValueError, KeyError) as error:
            logger.warning("the keys of the issuer %s can't be read: %s", self.url, error)


async def _document(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    response = await http.get(url)
    response.raise_for_status()
    if len(response.content) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"{url} answers more than {DOCUMENT_BYTES_MAX} bytes")
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError(f"{url} answers no object")
    return found


class SignIns:
    """Whose a token is; who signs in first is bound.

    Args:
        shared: Where the ledger is asked.
        view: Who there is.
    """

    def __init__(self, shared: Shared, view: PeopleView) -> None:
        self._ledger = shared.ledger
        self._now = shared.now
        self._view = view
        settings = view.named.settings
        self._issuer = (
            Issuer(settings.issuer, _monotonic)
            if view.named.is_on and settings.issuer is not None
            else None
        )
        self._known: LruCache[str, SignIn] = LruCache(
            TOKENS_KNOWN_MAX, age_max_s=60.0, monotonic=_monotonic
        )
        """Signatures that were checked lately, by the token's hash."""

    @property
    def settings(self) -> PeopleSettings:
        """What the configuration says of signing in."""
        return self._view.named.settings

    @property
    def is_on(self) -> bool:
        """Whether the runtime has an issuer."""
        return self._issuer is not None

    async def info(self) -> SignInInfo:
        """What a client needs to have its person sign in; without an issuer nothing."""
        if self._issuer is None:
            return SignInInfo()
        settings = self.settings
        return SignInInfo(
            issuer=settings.issuer, client_id=settings.client_id, scopes=list(settings.scopes)
        )

    async def person(self, token: str, hashed: str) -> tuple[NamedPerson, Identity, Principal]:
        """Whose the token is.

        Raises:
            Unauthenticated: It is not good, or no one's whom the configuration knows, or a disabled person's.
            PersonBound: Another account of the issuer is theirs.
            Unavailable: The issuer's keys can't be read.
        """
        signed = await self._checked(token, hashed)
        person = await self._acting(signed)
        claimed = signed.groups
        is_of_claim = self.settings.groups_claim is not None
        identity = Identity(
            id=person.id,
            names=tuple(sorted(person.names - {person.id})),
            groups=(
                tuple(dict.fromkeys((*person.groups, *claimed))) if claimed is not None else None
            ),
            groups_at=signed.issued_at if is_of_claim else None,
        )
        return person, identity, person_principal(person.id, f"{signed.issuer}#{signed.subject}")

    async def _checked(self, token: str, hashed: str) -> SignIn:
        from helmr_runtime.security import id_tokens  # noqa: PLC0415 - its library takes time, and most have no issuer

        assert self._issuer is not None
        now = self._now()
        known = self._known.get(hashed)
        if known is not None:
            if known.expires_at <= now:
                raise unauthenticated()
            return known
        if not id_tokens.is_like(token):
            raise unauthenticated()
        keys = await self._issuer.keys(id_tokens.key_id(token))
        signed = id_tokens.check_id_token(
            token,
            keys,
            issuer=self._issuer.url,
            client_id=self.settings.client_id or "",
            groups_claim=self.settings.groups_claim,
            now=now,
        )
        self._known.put(hashed, signed)
        return signed

    async def _acting(self, signed: SignIn) -> NamedPerson:
        bound = await self._view.bound(signed.issuer, signed.subject)
        named = self._view.named.find(signed.email) if bound is None and signed.email else None
        person_id = named.id if named is not None else bound
        person = await self._view.acting(person_id) if person_id is not None else None
        if person is None:
            raise unauthenticated()
        if bound is None:
            await self._bind(person, signed)
        return person

    async def _bind(self, person: NamedPerson, signed: SignIn) -> None:
        fact = BindPerson(
            principal=person_principal(person.id, f"{signed.issuer}#{signed.subject}"),
            operation=OperationKey(id=ids.new_id(ids.OPERATION), request_hash="sign-in"),
            person=person.id,
            issuer=signed.issuer,
            subject=signed.subject,
        )
        await self._ledger.fact(fact)
        self._view.forget()


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
