"""A browser opens pages for a person by a cookie, and its forms carry nonces (S-116).

The cookie opens pages only; the rest of `/v1` ignores it, so the API has no ambient rights. A form counts with the
nonce of a page that this same session was shown, unless the browser reports that another site's page sent it.

The cookie's name ends in a tag of this runtime, since cookies of one host name go to every port. Over HTTPS it begins
with `__Host-`, so no other host can set it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from starlette.responses import Response

from helmr.errors import Unauthenticated
from helmr.wire.roles import Need, Role, may
from helmr_runtime.http.access import Access, is_on_loopback
from helmr_runtime.http.answer_page import SignedInBar, page_headers
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.security.browser_sign_in import PENDING_FOR, PURPOSE, SIGN_IN_PATH, PendingSignIn
from helmr_runtime.security.browser_sign_in import read as read_pending
from helmr_runtime.security.callbacks import NonceState, make_nonce, read_nonce
from helmr_runtime.security.secrets import SecretKind, make_secret, parse_secret
from helmr_runtime.service import Service
from helmr_runtime.service.browser_sessions import AGE_MAX, LOCAL_NAME, ProvenPerson, SignInProof

SEE_OTHER = 303
SIGN_OUT_PURPOSE = "sign-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePerson:
    """A person at a page.

    Attributes:
        proven: The person, with their proof.
        role: The person's role.
        bar: The bar that names them on pages.
    """

    proven: ProvenPerson
    role: Role
    bar: SignedInBar

    @property
    def may_answer(self) -> bool:
        """True if the person's role may answer."""
        return may(self.role, Need.ANSWER)

    @property
    def form_id(self) -> str:
        """The id that nonces of their forms are bound to: this session's, or behind a proxy this person's."""
        session = self.proven.session
        return session.id if session is not None else f"proxy {self.proven.person.id}"


class Browser:
    """The browsers of one gateway.

    Args:
        access: Finds the person that a proxy's header names.
        service: Keeps the browser sessions.
    """

    def __init__(self, access: Access, service: Service) -> None:
        self._access = access
        self._service = service
        self._sessions = service.browser_sessions

    @property
    def is_on(self) -> bool:
        """True if the runtime knows people."""
        return self._service.people_view.named.is_on

    @cached_property
    def key(self) -> bytes:
        """The key of sign-ins and nonces."""
        return self._service.tokens.require_ring().purpose_key(PURPOSE)

    # --- who asks ---------------------------------------------------------------------------------

    async def person(self, exchange: Exchange, *, is_used: bool = True) -> PagePerson | None:
        """Return the signed-in person, and make them the principal of the request; None if no one is signed in.

        Args:
            exchange: The request.
            is_used: The person made the request, not the page by itself.

        Raises:
            Overloaded: Too many requests from this source without a sign-in.
        """
        if not self.is_on and not exchange.cookies:
            return None
        proven = await self._by_proxy(exchange) if self.is_on else None
        secret = self._cookie(exchange)
        if proven is None and secret is not None:
            proven = await self._sessions.find(secret, is_used=is_used)
            if proven is not None and proven.is_local and not is_on_loopback(exchange):
                proven = None
        if proven is None:
            self._access.limiter.admit_source(exchange.address)
            return None
        return self._signed_in(exchange, proven)

    async def _by_proxy(self, exchange: Exchange) -> ProvenPerson | None:
        try:
            principal, person = await self._access.by_proxy(exchange)
        except Unauthenticated:
            return None
        identity = self._service.people_view.identity(person)
        return ProvenPerson(person=person, identity=identity, principal=principal)

    def _signed_in(self, exchange: Exchange, proven: ProvenPerson) -> PagePerson:
        role = self._service.people_view.named.role_of(proven.person)
        exchange.principal = proven.principal
        exchange.identity = proven.identity if not proven.is_local else None
        exchange.role = role
        session = proven.session
        nonce = self.nonce(session.id, SIGN_OUT_PURPOSE) if session is not None else ""
        name = proven.person.email or proven.person.id or LOCAL_NAME
        bar = SignedInBar(name=name, nonce=nonce, has_inbox=may(role, Need.ANSWER))
        return PagePerson(proven=proven, role=role, bar=bar)

    # --- sign-ins ---------------------------------------------------------------------------------

    async def begin(self, exchange: Exchange, response: Response, proof: SignInProof) -> PagePerson:
        """Sign a person in, with a fresh cookie in place of any older one.

        Raises:
            Unauthenticated: The proof belongs to no person who may act.
            PersonBound: The person is bound to another account of the issuer.
        """
        secret = make_secret(SecretKind.BROWSER)
        proven = await self._sessions.begin(secret, proof)
        before = self._cookie(exchange)
        if before is not None:
            self._sessions.end(before)
        self.forget_pending(exchange, response)
        self._set(exchange, response, self._name(exchange), secret, AGE_MAX.total_seconds(), "/")
        return self._signed_in(exchange, proven)

    def end(self, exchange: Exchange, response: Response) -> None:
        """Sign out: the cookie and all copies of it open nothing any more.

        A request without the cookie changes nothing: another site's form comes without.
        """
        secret = self._cookie(exchange)
        if secret is not None:
            self._sessions.end(secret)
            self._set(exchange, response, self._name(exchange), "", 0, "/")

    def pending(self, exchange: Exchange) -> PendingSignIn | None:
        """The sign-in that this browser began, if it is still valid."""
        cookie = exchange.cookies.get(self._name(exchange, "_pending"))
        return read_pending(self.key, cookie, self._service.now())

    def keep_pending(self, exchange: Exchange, response: Response, pending: PendingSignIn) -> None:
        """Tie a sign-in to this browser."""
        name, age_s = self._name(exchange, "_pending"), PENDING_FOR.total_seconds()
        self._set(exchange, response, name, pending.cookie, age_s, self._pending_path(exchange))

    def forget_pending(self, exchange: Exchange, response: Response) -> None:
        """Drop the pending sign-in, successful or not; no answer to it counts any more."""
        name = self._name(exchange, "_pending")
        self._set(exchange, response, name, "", 0, self._pending_path(exchange))

    # --- forms ------------------------------------------------------------------------------------

    def nonce(self, form_id: str, purpose: str) -> str:
        """Make the nonce of a form, bound to its id and purpose."""
        return make_nonce(self.key, token_id=form_id, binding=purpose, now=self._service.now())

    def is_own_form(self, form_id: str, purpose: str, nonce: str | None) -> bool:
        """True if the form comes from a page that this session was shown lately."""
        found = read_nonce(
            self.key, nonce, token_id=form_id, binding=purpose, now=self._service.now()
        )
        return found.state is NonceState.VALID

    # --- cookies ----------------------------------------------------------------------------------

    def is_secure(self, exchange: Exchange) -> bool:
        """True if the browser uses HTTPS."""
        return exchange.url.scheme == "https" or self._service.base_url.startswith("https://")

    def _name(self, exchange: Exchange, suffix: str = "") -> str:
        prefix = "__Host-" if self.is_secure(exchange) else ""
        return f"{prefix}helmr_{self._tag}{suffix}"

    @cached_property
    def _tag(self) -> str:
        return hashlib.sha256(self.key).hexdigest()[:8]

    def _cookie(self, exchange: Exchange) -> str | None:
        found = exchange.cookies.get(self._name(exchange))
        is_ours = found is not None and parse_secret(found) is SecretKind.BROWSER
        return found if is_ours else None

    def _pending_path(self, exchange: Exchange) -> str:
        return "/" if self.is_secure(exchange) else SIGN_IN_PATH  # as `__Host-` asks

    def _set(
        self, exchange: Exchange, response: Response, name: str, value: str, age_s: float, path: str
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=int(age_s),
            path=path,
            secure=self.is_secure(exchange),
            httponly=True,
            samesite="lax",  # links from mails open with it
        )


def see_other(location: str) -> Response:
    """Redirect the browser to a page."""
    return Response(status_code=SEE_OTHER, headers={**page_headers(), "Location": location})
