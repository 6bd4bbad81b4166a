"""Pages on which people sign in and out: at the issuer by code and PKCE, or with a key of their own (S-116).

The issuer's answer counts once, in the browser that asked, for the sign-in that it began: see
`security/browser_sign_in.py`. After a bad answer nothing is kept, and the page offers to try again.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.responses import Response

from helmr.errors import HelmrError, NotAllowed, NotFound, PersonBound, Unauthenticated
from helmr.person.inbox_link import CODE_FIELD, LOCAL_PATH
from helmr_runtime.core.public_tokens import unauthenticated
from helmr_runtime.http.access import Access, check_own_page
from helmr_runtime.http.answer_flow import wants_page
from helmr_runtime.http.answer_page import SignInPage, page_headers, render_sign_in
from helmr_runtime.http.answer_page.sign_in import KEY_FIELD, RETURN_FIELD, STATE_FIELD
from helmr_runtime.http.browser import SIGN_OUT_PURPOSE, Browser, PagePerson, see_other
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.served_operation import Handler
from helmr_runtime.security.browser_sign_in import CALLBACK_PATH, SIGN_IN_PATH, begun, own_page
from helmr_runtime.security.callbacks import NONCE_FIELD, CallbackForm, form_values, media_type
from helmr_runtime.service.browser_sessions import LocalLink
from helmr_runtime.service.sign_in import GROUPS_FRESH

if TYPE_CHECKING:
    from helmr_runtime.security.id_tokens import SignIn

FORM = "application/x-www-form-urlencoded"
NO_EMAIL = (
    "The issuer has verified no e-mail of this account, and by that the runtime knows people. "
    "Have it verified there, then sign in again."
)
LINK_OVER = (
    "This link was used, is older than ten minutes, or is not for this machine. "
    "`helmr inbox-link` makes another."
)
AGAIN = "Something went wrong on the way, or it took too long. Please sign in again."


async def show_sign_in(exchange: Exchange) -> Response:
    """Show the sign-in page, or the signed-in person."""
    browser: Browser = exchange.app.browser
    who = await browser.person(exchange)
    if not browser.is_on and who is None:
        if not wants_page(exchange.headers.get("accept")):
            raise NotFound("this runtime knows no people")
        return _page(SignInPage(is_on=False), HTTPStatus.NOT_FOUND)
    return _sign_in_page(exchange, exchange.query_params.get(RETURN_FIELD), who=who)


async def show_local_sign_in(exchange: Exchange) -> Response:
    """Show a button, so that a program that previews the link does not use it up."""
    browser: Browser = exchange.app.browser
    access: Access = exchange.app.access
    code = exchange.query_params.get(CODE_FIELD, "")
    try:
        access.check_local_link(exchange, code)
    except HelmrError as error:
        return _failed(exchange, error, None)
    pending = begun(browser.key, None, exchange.service.now())
    response = _page(SignInPage(code=code, state=pending.state), HTTPStatus.OK)
    browser.keep_pending(exchange, response, pending)
    return response


async def sign_in_locally(exchange: Exchange) -> Response:
    """Sign in by the form of `show_local_sign_in`."""
    browser: Browser = exchange.app.browser
    access: Access = exchange.app.access
    fields = await _fields(exchange)
    pending = browser.pending(exchange)
    try:
        check_own_page(exchange, has_nonce=True)
        if pending is None or not pending.is_answered_by(fields.get(STATE_FIELD)):
            raise NotAllowed("this form is of no page that this browser was shown")
        access.spend_local_link(exchange, fields.get(CODE_FIELD, ""))
        response = see_other(pending.return_to)
        await browser.begin(exchange, response, LocalLink())
    except HelmrError as error:
        return _failed(exchange, error, None)
    return response


async def sign_in_at_issuer(exchange: Exchange) -> Response:
    """Redirect the browser to the issuer."""
    browser: Browser = exchange.app.browser
    sign_ins, base_url = exchange.service.sign_ins, exchange.service.base_url
    if not sign_ins.is_on:
        raise NotFound("this runtime has no issuer at which people sign in")
    exchange.limiter.admit_source(exchange.address)
    wanted = own_page(exchange.query_params.get(RETURN_FIELD))
    if urlsplit(base_url).netloc != exchange.headers.get("host"):
        # The issuer sends the browser back there, and it must find the cookie.
        return see_other(f"{base_url}{SIGN_IN_PATH}/issuer?{RETURN_FIELD}={quote(wanted, safe='')}")
    pending = begun(browser.key, wanted, exchange.service.now())
    try:
        to = await sign_ins.page_url(pending, f"{base_url}{CALLBACK_PATH}")
    except HelmrError as error:
        return _failed(exchange, error, wanted)
    response = see_other(to)
    browser.keep_pending(exchange, response, pending)
    return response


async def finish_sign_in(exchange: Exchange) -> Response:
    """Sign in by the issuer's answer, which the browser brings."""
    browser: Browser = exchange.app.browser
    sign_ins, given = exchange.service.sign_ins, exchange.query_params
    if not sign_ins.is_on:
        raise NotFound("this runtime has no issuer at which people sign in")
    exchange.limiter.admit_source(exchange.address)
    pending = browser.pending(exchange)
    wanted = pending.return_to if pending is not None else None
    proof: SignIn | None = None
    try:
        if pending is None or not pending.is_answered_by(given.get("state")):
            raise NotAllowed("this is no answer to a sign-in that this browser has begun")
        code = given.get("code")
        if not code or len(given.getlist("code")) != 1:
            raise NotAllowed(f"the issuer refused: {given.get('error', 'no code')[:100]}")
        callback = f"{exchange.service.base_url}{CALLBACK_PATH}"
        proof = await sign_ins.redeemed(code, given.get("iss"), pending, callback)
        response = see_other(pending.return_to)
        await browser.begin(exchange, response, proof)
    except HelmrError as error:
        problem = NO_EMAIL if proof is not None and proof.email is None else ""
        return _failed(exchange, error, wanted, problem)
    return response


async def sign_in_by_key(exchange: Exchange) -> Response:
    """Sign in by the form with a personal key."""
    browser: Browser = exchange.app.browser
    if not browser.is_on:
        raise NotFound("this runtime knows no people")
    access: Access = exchange.app.access
    fields = await _fields(exchange)
    pending = browser.pending(exchange)
    wanted = pending.return_to if pending is not None else None
    try:
        check_own_page(exchange, has_nonce=True)
        if pending is None or not pending.is_answered_by(fields.get(STATE_FIELD)):
            raise NotAllowed("this form is of no page that this browser was shown")
        hashed = await access.personal_key(exchange, fields.get(KEY_FIELD, "").strip())
        response = see_other(pending.return_to)
        await browser.begin(exchange, response, hashed)
    except HelmrError as error:
        return _failed(exchange, error, wanted)
    return response


async def sign_out(exchange: Exchange) -> Response:
    """End the browser's session here at once; the issuer's own session goes on."""
    browser: Browser = exchange.app.browser
    who = await browser.person(exchange)
    fields = await _fields(exchange)
    if who is not None and who.proven.session is not None:
        check_own_page(exchange, has_nonce=True)
        if not browser.is_own_form(who.form_id, SIGN_OUT_PURPOSE, fields.get(NONCE_FIELD)):
            raise NotAllowed("this form is of no page that this browser was shown lately")
    response = see_other(SIGN_IN_PATH)
    browser.end(exchange, response)
    return response


def to_sign_in(exchange: Exchange, return_to: str) -> Response:
    """Redirect a browser without a sign-in to the sign-in page.

    Raises:
        Unauthenticated: A program asks.
    """
    if not wants_page(exchange.headers.get("accept")):
        raise unauthenticated()
    return see_other(f"{SIGN_IN_PATH}?{RETURN_FIELD}={quote(own_page(return_to), safe='')}")


def kept_form(exchange: Exchange, sent: CallbackForm, path: str) -> Response:
    """Return a form whose sign-in has ended in a page that sends it again after a new sign-in.

    Its nonce belongs to the ended session, so its page then shows it to be checked, and records nothing yet.

    Raises:
        OriginDenied: Another site's page sent it.
    """
    check_own_page(exchange, has_nonce=True)
    kept = [(name, text) for name, given in sent.values.items() for text in given]
    page = SignInPage(kept=kept, return_to=path)
    return _page(page, HTTPStatus.FORBIDDEN)


def renewed_groups(exchange: Exchange, who: PagePerson) -> Response | None:
    """Redirect a page by way of the issuer if the person's groups are getting old; None if they are fresh.

    An answer that depends on groups accepts none older than 15 minutes, and a form takes time to fill in.
    """
    identity, session = who.proven.identity, who.proven.session
    now, asks_by_itself = exchange.service.now(), exchange.headers.get("sec-fetch-dest") == "empty"
    if exchange.method == "POST" or asks_by_itself:
        return None  # typed data must not be lost
    if identity.groups_at is None or session is None:
        return None
    if min(now - identity.groups_at, now - session.began_at) < GROUPS_FRESH:
        return None
    query = exchange.url.query
    path = own_page(exchange.url.path + (f"?{query}" if query else ""))
    return see_other(f"{SIGN_IN_PATH}/issuer?{RETURN_FIELD}={quote(path, safe='')}")


def refused_page(who: PagePerson, why: str) -> Response:
    """The page for a person who may not see the requested one."""
    return _page(SignInPage(problem=why, bar=who.bar), HTTPStatus.FORBIDDEN)


async def _fields(exchange: Exchange) -> dict[str, str]:
    """The form's fields, except repeated ones."""
    media, is_utf8 = media_type(exchange.headers.get("content-type"))
    raw = await exchange.raw()
    if media != FORM or not is_utf8 or not raw:
        return {}
    return {name: found[0] for name, found in form_values(raw).items() if len(found) == 1}


def _failed(
    exchange: Exchange, error: HelmrError, wanted: str | None, why_unknown: str = ""
) -> Response:
    """The sign-in page with the reason for a failure; for a program, raise the error."""
    if not wants_page(exchange.headers.get("accept"), exchange.headers.get("content-type")):
        raise error
    match error:
        case _ if exchange.url.path == LOCAL_PATH and not error.retryable:
            problem = LINK_OVER
        case Unauthenticated() if exchange.method == "POST":
            problem = "This is no personal key, or one that does not count any more."
        case Unauthenticated():
            problem = (
                why_unknown
                or "This account is of no person whom the runtime knows, or who may act."
            )
        case PersonBound():
            problem = error.message
        case _ if error.retryable:
            problem = error.message
        case _:
            problem = AGAIN
    return _sign_in_page(exchange, wanted, problem=problem, status=error.status)


def _sign_in_page(
    exchange: Exchange,
    wanted: str | None,
    *,
    who: PagePerson | None = None,
    problem: str = "",
    status: int = HTTPStatus.OK,
) -> Response:
    browser: Browser = exchange.app.browser
    pending = begun(browser.key, wanted, exchange.service.now())
    page = SignInPage(
        is_on=browser.is_on,
        issuer=exchange.service.sign_ins.settings.issuer,
        return_to=pending.return_to,
        state=pending.state,
        problem=problem,
        bar=who.bar if who is not None else None,
    )
    response = _page(page, status)
    if who is None:
        browser.keep_pending(exchange, response, pending)
    return response


def _page(page: SignInPage, status: int) -> Response:
    return Response(render_sign_in(page), status_code=status, headers=page_headers())


HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (
        show_sign_in,
        show_local_sign_in,
        sign_in_locally,
        sign_in_at_issuer,
        finish_sign_in,
        sign_in_by_key,
        sign_out,
    )
}
"""Handlers by the name of their operation."""
