"""Pages behind a secret: /v1/callbacks/{secret} completes a token (S-42), /v1/links/{secret} answers a wait (S-74).

GET never acts. POST acts by content type: programs send JSON, the page sends a form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from starlette.responses import Response

from helmr.errors import NotFound, TokenNotFound
from helmr.models import AnswerRequest, CompleteRequest
from helmr.wire.roles import ScopeType
from helmr_runtime.core.entries import Principal, from_iso
from helmr_runtime.core.public_tokens import ScopedToken
from helmr_runtime.http.answer_flow import opened, show, submit, who_answered
from helmr_runtime.http.answer_page import PageState
from helmr_runtime.http.browser import Browser
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.handing import DONE
from helmr_runtime.http.served_operation import Handler, json_response
from helmr_runtime.http.sign_in_pages import kept_form, renewed_groups
from helmr_runtime.http.wait_page import ENDED, LinkedWait, PersonalWait, take_form
from helmr_runtime.ports.ledger import Json
from helmr_runtime.security.callbacks import CallbackForm, read_callback
from helmr_runtime.security.origins import check_origin
from helmr_runtime.security.secrets import SecretKind, parse_secret, secret_hash
from helmr_runtime.security.task_secrets import LINK_PATH
from helmr_runtime.service import Caller, Service


@dataclass(frozen=True, slots=True)
class Callback:
    """A token that was reached by a secret, as the subject of the answer page."""

    service: Service
    token: Json
    caller: Caller
    public_token: ScopedToken | None = None

    @property
    def public_token_id(self) -> str | None:
        """The public token by which it was reached, if any."""
        return self.public_token.id if self.public_token is not None else None

    @property
    def id(self) -> str:
        return str(self.token["id"])

    @property
    def schema(self) -> Any:
        return self.token["schema"]

    @property
    def initial(self) -> Any:
        return self.token["initial"]

    def state(self, now: datetime) -> PageState:
        token = self.token
        if token["status"] == "completed":
            return PageState.RECORDED if self._is_own else PageState.OVERTAKEN
        if token["status"] != "pending":
            return ENDED[token["status"]]
        if now >= from_iso(token["expires_at"]):
            return PageState.EXPIRED
        return PageState.SIGNED if token["verify"] is not None else PageState.OPEN

    @property
    def _is_own(self) -> bool:
        """True if it was completed through this same secret, whose holder may see the recorded answer."""
        if self.public_token is not None:
            return bool(self.token["completed_by_public_token"] == self.public_token.id)
        return bool(self.token["ended_by"]["type"] == "callback")

    async def texts(self) -> dict[str, Any]:
        token = self.token
        is_own = token["status"] == "completed" and self._is_own
        return {
            **await self.service.tokens.asked(token),
            "asked_at": from_iso(token["created_at"]),
            "deadline_at": from_iso(token["expires_at"]),
            "answer": token["data"] if is_own else None,
            "ended_at": from_iso(token["ended_at"]) if token["ended_at"] is not None else None,
            "ended_by": who_answered(token["ended_by"]),
        }

    async def take(self, data: Any, nonce_id: str | None) -> None:
        await self.service.tokens.complete(
            self.caller,
            self.id,
            CompleteRequest(data=data),
            nonce_id=nonce_id,
            public_token_id=self.public_token_id,
        )

    async def latest(self) -> Callback:
        return replace(self, token=await self.service.tokens.in_full(self.id))


async def show_callback(exchange: Exchange, secret: str) -> Response:
    """Show the page behind an emailed link; changes nothing."""
    callback = await opened(exchange, _callback(exchange, secret))
    return callback if isinstance(callback, Response) else await show(exchange.service, callback)


async def complete_by_callback(exchange: Exchange, secret: str) -> Response:
    """Complete the token by JSON, by the raw body of a token that takes one, or by the page's form."""
    callback = await opened(exchange, _callback(exchange, secret))
    if isinstance(callback, Response):
        return callback
    service, token = exchange.service, callback.token
    raw = await exchange.raw()
    verification = service.tokens.verification(token)
    if verification is not None:
        headers = {name.lower(): value for name, value in exchange.headers.items()}
        verification.check(headers, raw, now=service.now())
    sent = read_callback(
        content_type=exchange.headers.get("content-type"),
        body=raw,
        is_raw=exchange.query_params.get("raw") == "1",
        token_is_raw=bool(token["raw"]),
    )
    if isinstance(sent, CallbackForm):
        return await submit(service, callback, sent, f"/v1/callbacks/{secret}")
    if callback.public_token is not None:
        check_origin(callback.public_token, exchange.headers.get("origin"))
    receipt = await service.tokens.complete(
        callback.caller,
        token["id"],
        CompleteRequest(data=sent.data),
        public_token_id=callback.public_token_id,
    )
    return json_response(receipt)


async def _callback(exchange: Exchange, secret: str) -> Callback:
    """The token behind a secret; the same 404 for every cause (S-46)."""
    limiter, address = exchange.limiter, exchange.address
    kind = parse_secret(secret)
    if kind not in (SecretKind.CALLBACK, SecretKind.PUBLIC_TOKEN):
        limiter.count_malformed(address)
        raise _nothing()
    hashed = secret_hash(secret)
    async with limiter.lookup(hashed):
        found = await _find(exchange, kind, hashed)
    if found is None:
        limiter.count_failure(address, hashed)
        raise _nothing()
    limiter.passed(hashed)
    limiter.admit_secret(hashed)
    return found


def _nothing() -> NotFound:
    return NotFound("there is nothing under this link")


async def _find(exchange: Exchange, kind: SecretKind, hashed: str) -> Callback | None:
    service = exchange.service
    public_token: ScopedToken | None = None
    if kind is SecretKind.CALLBACK:
        token = await service.tokens.by_callback(hashed)
        principal = Principal("callback", token["id"]) if token is not None else None
    else:
        public_token = await service.public_tokens.find(hashed)
        if public_token is None or public_token.scope.type is not ScopeType.TOKEN_COMPLETE:
            return None
        if public_token.revoked_at is not None or service.now() >= public_token.expires_at:
            return None
        principal = Principal("public_token", public_token.id)
        try:
            token = await service.tokens.in_full(public_token.scope.token_id or "")
        except TokenNotFound:
            return None
    if token is None or principal is None:
        return None
    return Callback(service, token, exchange.caller(principal), public_token)


async def show_link(exchange: Exchange, secret: str) -> Response:
    """Show the wait's question; changes nothing."""
    linked = await opened(exchange, _linked(exchange, secret))
    if isinstance(linked, Response):
        return linked
    asked = await _asked(exchange, linked, secret)
    if isinstance(asked, PersonalWait):
        again = renewed_groups(exchange, asked.who)
        if again is not None:
            return again
    return await show(exchange.service, asked)


async def answer_by_link(exchange: Exchange, secret: str) -> Response:
    """Answer the wait on behalf of the link's person, by JSON or by the page's form.

    The form of a restricted wait answers as the signed-in person, even if the link was made for another.
    """
    linked = await opened(exchange, _linked(exchange, secret))
    if isinstance(linked, Response):
        return linked
    sent = read_callback(
        content_type=exchange.headers.get("content-type"),
        body=await exchange.raw(),
        is_raw=False,
        token_is_raw=False,
    )
    if isinstance(sent, CallbackForm):
        asked = await _asked(exchange, linked, secret)
        if isinstance(asked, PersonalWait):
            return await take_form(exchange, asked, sent, f"{LINK_PATH}{secret}")
        if asked.return_to and asked.state(exchange.service.now()) is PageState.SIGN_IN:
            return kept_form(exchange, sent, asked.return_to)
        return await submit(exchange.service, asked, sent, f"{LINK_PATH}{secret}")
    return json_response(await linked.answer(AnswerRequest(data=sent.data)))


async def _asked(exchange: Exchange, linked: LinkedWait, secret: str) -> LinkedWait | PersonalWait:
    """The page's subject: a restricted wait asks the signed-in person, since a link proves no identity."""
    browser: Browser = exchange.app.browser
    if not linked.wait.is_restricted or not browser.is_on:
        return linked
    who = await browser.person(exchange)
    if who is None:
        return replace(linked, return_to=f"{LINK_PATH}{secret}")
    caller = exchange.caller()
    return PersonalWait(
        service=exchange.service,
        wait=await exchange.service.waits.shown(caller, linked.wait.id),
        who=who,
        caller=caller,
        browser=browser,
        made_for=linked.link.person if linked.link.person not in who.proven.person.names else "",
        done=exchange.query_params.get(DONE, ""),
    )


async def _linked(exchange: Exchange, secret: str) -> LinkedWait:
    """The wait behind a secret; the same 404 for every cause (S-46)."""
    limiter, address, service = exchange.limiter, exchange.address, exchange.service
    if parse_secret(secret) is not SecretKind.LINK:
        limiter.count_malformed(address)
        raise _nothing()
    hashed = secret_hash(secret)
    async with limiter.lookup(hashed):
        link = await service.links.find(hashed)
    if link is None:
        limiter.count_failure(address, hashed)
        raise _nothing()
    limiter.passed(hashed)
    limiter.admit_secret(hashed)
    caller = exchange.caller(link.principal)
    return LinkedWait(service, await service.waits.get(link.wait_id), link, caller)


HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (show_callback, complete_by_callback, show_link, answer_by_link)
}
"""Handlers by the name of their operation."""
