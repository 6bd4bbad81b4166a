"""Sign-in by OpenID Connect finds the person of an ID token, by the issuer's current keys (S-111).

The keys are read from the issuer's discovery document at the first sign-in, and again when a token names an unknown
key, at most once in ten seconds: a rotated key is found, and made-up names cost no requests. While the issuer can't be
reached, tokens by known keys still count.

For a page, the gateway is the issuer's client itself: it sends the browser there and redeems the code that the browser
brings back (S-116). It keeps the claims of the ID token, and no token.

With `groups_from`, the issuer's userinfo supplies groups that the ID token lacks or that are too old, with the access
token of a page's sign-in or the one that a client sends beside its ID token (S-114).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from helmr.errors import NotAllowed, Unavailable
from helmr.models import SignInInfo
from helmr.wire import ids
from helmr_runtime.core.answerers import GROUPS_AGE_MAX, Identity
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import BindPerson, person_principal
from helmr_runtime.core.public_tokens import unauthenticated
from helmr_runtime.security.people import NamedPerson, PeopleSettings
from helmr_runtime.security.secrets import is_same_secret, secret_hash
from helmr_runtime.service.lru_cache import LruCache
from helmr_runtime.service.people import ClaimedGroups, PeopleView
from helmr_runtime.service.shared import Shared

if TYPE_CHECKING:
    import httpx
    from joserfc.jwk import KeySet

    from helmr_runtime.security.browser_sign_in import PendingSignIn
    from helmr_runtime.security.id_tokens import SignIn

DISCOVERY = "/.well-known/openid-configuration"
KEYS_AGAIN_S = 10.0
"""Least time between two reads for an unknown key."""
KEYS_AGE_MAX_S = 3_600.0
"""Older keys are read again in any case: bounds how long a withdrawn key counts."""
ISSUER_TIMEOUT_S = 5.0
DOCUMENT_BYTES_MAX = 256 * 1024
TOKENS_KNOWN_MAX = 1_000
ISSUER_IS_SAID = "authorization_response_iss_parameter_supported"
"""An issuer with this in its document names itself in each answer (RFC 9207)."""
GROUPS_FRESH = GROUPS_AGE_MAX / 3
"""Older groups are asked for again: a form takes time to fill in."""
NOT_AGAIN_FOR = timedelta(seconds=KEYS_AGAIN_S)
"""Pause after userinfo did not answer: bounds how often a slow issuer delays a person's calls."""
AGAIN = "try again in a minute"
NO_ACCESS = (
    "the issuer says them to those who have an access token, and none came with the ID token: `helmr login`, "
    "or send one as Helmr-Access-Token"
)
OFFLINE = "offline_access"
"""The scope for refresh tokens: a page has no use for one."""

logger = logging.getLogger(__name__)


class Issuer:
    """The keys of one issuer.

    Args:
        url: The issuer, as its tokens name it.
        monotonic: A clock in seconds that never goes back.
    """

    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        self.url = url
        self._monotonic = monotonic
        self._keys: KeySet | None = None
        self._key_ids: frozenset[str | None] = frozenset()
        self._asked_at_s: float | None = None
        self._document: Mapping[str, Any] = {}
        self._lock = asyncio.Lock()

    async def keys(self, key_id: str | None) -> KeySet:
        """The issuer's keys, read again if that key is unknown or they are old.

        Raises:
            Unavailable: The issuer can't be reached, and no keys are known.
        """
        async with self._lock:
            age_s = self._monotonic() - self._asked_at_s if self._asked_at_s is not None else None
            is_due = age_s is None or age_s >= KEYS_AGE_MAX_S
            is_unknown = self._keys is None or (key_id is not None and key_id not in self._key_ids)
            if is_due or (is_unknown and (age_s is None or age_s >= KEYS_AGAIN_S)):
                await self._read()
            if self._keys is None:
                raise _unreachable(self.url)
            return self._keys

    async def _read(self) -> None:
        import httpx  # noqa: PLC0415 - only where people sign in
        from joserfc.errors import JoseError  # noqa: PLC0415 - the same
        from joserfc.jwk import KeySet  # noqa: PLC0415 - the same

        self._asked_at_s = self._monotonic()
        try:
            async with _asking() as http:
                found = await _document(http, self.url.rstrip("/") + DISCOVERY)
                if found.get("issuer") != self.url:
                    raise ValueError(f"its document is of {str(found.get('issuer'))[:200]!r}")
                keys = await _document(http, str(found["jwks_uri"]))
            self._document = found
            self._keys = KeySet.import_key_set(keys)  # type: ignore[arg-type]  # checked by it
            self._key_ids = frozenset(one.kid for one in self._keys.keys)
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            JoseError,
            KeyError,
            RecursionError,
            TimeoutError,
            ValueError,
        ) as error:
            logger.warning("the keys of the issuer %s can't be read: %s", self.url, error)

    async def document(self) -> Mapping[str, Any]:
        """The issuer's discovery document.

        Raises:
            Unavailable: It can't be reached.
        """
        await self.keys(None)
        return self._document

    async def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """Ask the issuer's userinfo about the account of an access token.

        Raises:
            ValueError: No usable answer; the text, the rest of a sentence, gives the cause and the remedy.
        """
        import httpx  # noqa: PLC0415 - only where people sign in

        if not (access_token.isascii() and access_token.isprintable()):
            raise ValueError("takes no such access token: sign in again")
        try:
            url = endpoint(await self.document(), "userinfo_endpoint")
            async with _asking() as http:
                return await _document(http, url, access_token)
        except NotAllowed as error:
            raise ValueError("does not exist: set `groups_from` in [people] otherwise") from error
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            todo = "sign in again" if status in (401, 403) else AGAIN
            raise ValueError(f"answers {status}: {todo}") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise ValueError(f"did not answer within {ISSUER_TIMEOUT_S:.0f} s: {AGAIN}") from error
        except (Unavailable, httpx.HTTPError, httpx.InvalidURL) as error:
            raise ValueError(f"can't be reached: {AGAIN}") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"answers no JSON object of at most {DOCUMENT_BYTES_MAX // 1024} KiB: "
                "have the issuer give one for this client"
            ) from error

    async def redeem(self, form: Mapping[str, str]) -> tuple[str, str | None]:
        """Redeem a code for an ID token and, if the issuer gives one, an access token.

        Raises:
            NotAllowed: The issuer gave no ID token.
            Unavailable: The issuer can't be reached.
        """
        import httpx  # noqa: PLC0415 - only where people sign in

        url = endpoint(await self.document(), "token_endpoint")
        try:
            async with httpx.AsyncClient(timeout=ISSUER_TIMEOUT_S, follow_redirects=False) as http:
                response = await http.post(url, data=dict(form))
            found = response.json() if len(response.content) <= DOCUMENT_BYTES_MAX else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            logger.warning("the issuer %s redeems no code: %s", self.url, error)
            raise _unreachable(self.url) from error
        if response.status_code >= 500:
            raise _unreachable(self.url)
        found = found if isinstance(found, dict) else {}
        token, access_token = found.get("id_token"), found.get("access_token")
        if response.status_code != 200 or not isinstance(token, str):
            raise NotAllowed(f"the issuer {self.url} gave no ID token for the code")
        return token, access_token if isinstance(access_token, str) else None


def endpoint(document: Mapping[str, Any], name: str) -> str:
    """The URL under that name in an issuer's document.

    Raises:
        NotAllowed: The document has none.
    """
    found = document.get(name)
    if not isinstance(found, str) or not found.startswith(("https://", "http://")):
        raise NotAllowed(f"the issuer has no {name}")
    return found


def _unreachable(url: str) -> Unavailable:
    return Unavailable(f"the issuer {url} can't be reached", hint="Try again.")


@asynccontextmanager
async def _asking() -> AsyncIterator[httpx.AsyncClient]:
    """A client bounded by `ISSUER_TIMEOUT_S` in all, even if the issuer sends a byte at a time."""
    import httpx  # noqa: PLC0415 - only where people sign in

    async with (
        asyncio.timeout(ISSUER_TIMEOUT_S),
        httpx.AsyncClient(timeout=ISSUER_TIMEOUT_S, follow_redirects=False) as http,
    ):
        yield http


async def _document(
    http: httpx.AsyncClient, url: str, access_token: str | None = None
) -> dict[str, Any]:
    headers = {"Accept": "application/json"}
    if access_token is not None:
        headers["Authorization"] = f"Bearer {access_token}"
    text = bytearray()
    async with http.stream("GET", url, headers=headers) as response:
        if response.status_code != 200:
            response.raise_for_status()
            raise ValueError(f"{url} answers {response.status_code}")
        async for part in response.aiter_bytes():
            text += part
            if len(text) > DOCUMENT_BYTES_MAX:
                raise ValueError(f"{url} answers more than {DOCUMENT_BYTES_MAX} bytes")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{url} answers no object")
    return found


class SignIns:
    """Finds the person of a token, and binds a person to the account of their first sign-in.

    Args:
        shared: The ledger and the clock.
        view: The people there are.
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
        """Tokens whose signature was checked lately, by hash."""
        self._with_groups: LruCache[str, SignIn] = LruCache(TOKENS_KNOWN_MAX)
        """Sign-ins with the groups of userinfo, or with the reason for none, by the hash of the ID token."""

    @property
    def settings(self) -> PeopleSettings:
        """The configured settings of sign-in."""
        return self._view.named.settings

    @property
    def is_on(self) -> bool:
        """True if the runtime has an issuer."""
        return self._issuer is not None

    async def info(self) -> SignInInfo:
        """The settings that a client needs for a sign-in; empty without an issuer."""
        if self._issuer is None:
            return SignInInfo()
        settings = self.settings
        return SignInInfo(
            issuer=settings.issuer,
            client_id=settings.client_id,
            scopes=list(settings.scopes),
            needs_access_token=settings.asks_userinfo,
        )

    async def person(
        self, token: str, hashed: str, access_token: str | None = None
    ) -> tuple[NamedPerson, Identity, Principal]:
        """Find the person of a token.

        Args:
            token: The ID token.
            hashed: Its hash.
            access_token: The issuer's access token, if the client sends one.

        Raises:
            Unauthenticated: The token is invalid, or its person is unknown or disabled.
            PersonBound: The person is bound to another account of the issuer.
            Unavailable: The issuer's keys can't be read.
        """
        signed = await self._checked(token, hashed)
        person = await self._acting(signed, None)
        return self._proven(person, await self._asked(signed, hashed, access_token))

    async def proven(
        self, signed: SignIn, person_id: str | None = None
    ) -> tuple[NamedPerson, Identity, Principal]:
        """Find the person of a sign-in.

        Args:
            signed: The checked sign-in.
            person_id: Its person so far: the sign-in counts only while the account is theirs, and binds no one.

        Raises:
            As `person`.
        """
        return self._proven(await self._acting(signed, person_id), signed)

    def _proven(
        self, person: NamedPerson, signed: SignIn
    ) -> tuple[NamedPerson, Identity, Principal]:
        claimed = ClaimedGroups(signed.groups, signed.groups_at, signed.groups_why)
        identity = self._view.signed_in(person, claimed)
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
            may_lack_groups=self.settings.asks_userinfo,
        )
        self._known.put(hashed, signed)
        return signed

    async def _asked(self, signed: SignIn, hashed: str, access_token: str | None) -> SignIn:
        """Return the sign-in with the groups of userinfo if the ID token has none or old ones.

        Raises nothing: groups stay unknown without userinfo, and only answers that depend on them are refused.
        """
        from helmr_runtime.security.id_tokens import userinfo_groups  # noqa: PLC0415 - as above

        claim, now = self.settings.groups_claim, self._now()
        is_said = signed.groups is not None and now - signed.groups_at < GROUPS_FRESH
        if not self.settings.asks_userinfo or claim is None or is_said:
            return signed
        known = self._with_groups.get(hashed)
        if known is not None:
            counts_for = GROUPS_FRESH if known.groups is not None else NOT_AGAIN_FOR
            if now - known.groups_at < counts_for:
                return known
        if access_token is None:
            return signed if signed.groups is not None else replace(signed, groups_why=NO_ACCESS)
        assert self._issuer is not None
        groups, why = None, None
        try:
            said = await self._issuer.userinfo(access_token)
            groups = userinfo_groups(said, signed.subject, claim)
        except ValueError as error:
            why = f"the issuer's userinfo {error}"
            logger.warning("groups of %s#%s: %s", signed.issuer, signed.subject, why)
        found = replace(signed, groups=groups, groups_at=now, groups_why=why)
        self._with_groups.put(hashed, found)
        return found

    async def page_url(self, pending: PendingSignIn, redirect_uri: str) -> str:
        """The URL at which a browser signs in; it comes back to `redirect_uri` with a code.

        Raises:
            Unavailable: The issuer can't be reached.
            NotAllowed: The issuer has no such page.
        """
        assert self._issuer is not None
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id or "",
            "redirect_uri": redirect_uri,
            "scope": " ".join(one for one in self.settings.scopes if one != OFFLINE),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": pending.challenge,
            "code_challenge_method": "S256",
        }
        page = endpoint(await self._issuer.document(), "authorization_endpoint")
        return f"{page}{'&' if '?' in page else '?'}{urlencode(asked)}"

    async def redeemed(
        self, code: str, issuer: str | None, pending: PendingSignIn, redirect_uri: str
    ) -> SignIn:
        """Redeem the code of a browser that came back, and check the sign-in.

        Args:
            code: From the query string, which anyone may have forged.
            issuer: From there too: the issuer that answered, if it names itself (RFC 9207).
            pending: The sign-in that this browser began.
            redirect_uri: The same as for `page_url`.

        Raises:
            NotAllowed: It does not answer this sign-in, or the issuer refuses the code.
            Unavailable: The issuer can't be reached.
        """
        assert self._issuer is not None
        must_say = (await self._issuer.document()).get(ISSUER_IS_SAID) is True
        if issuer != self._issuer.url and (must_say or issuer is not None):
            raise NotAllowed("another issuer has answered than was asked")
        form = {
            "grant_type": "authorization_code",
            "client_id": self.settings.client_id or "",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": pending.verifier,
        }
        token, access_token = await self._issuer.redeem(form)
        hashed = secret_hash(token)
        signed = await self._checked(token, hashed)
        if signed.nonce is None or not is_same_secret(signed.nonce, pending.nonce):
            raise NotAllowed("the issuer's token answers another sign-in than this one")
        return await self._asked(signed, hashed, access_token)

    async def _acting(self, signed: SignIn, person_id: str | None) -> NamedPerson:
        bound = await self._view.bound(signed.issuer, signed.subject)
        if person_id is not None and bound != person_id:
            raise unauthenticated()
        email = signed.email if bound is None else None
        named = self._view.named.with_email(email) if email is not None else None
        found = named.id if named is not None else bound
        person = await self._view.acting(found) if found is not None else None
        if person is None or await self._view.was_disabled_since(person.id, signed.issued_at):
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
