"""The page behind a callback URL: what it shows of a token, and what a submitted form does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.responses import Response

from helmr.errors import (
    SchemaMismatch,
    TokenCancelled,
    TokenCompleted,
    TokenExhausted,
    TokenExpired,
    TooLarge,
)
from helmr.models import CompleteRequest
from helmr_runtime.core.entries import from_iso
from helmr_runtime.core.public_tokens import PublicToken
from helmr_runtime.http.answer_page import (
    AnswerPage,
    Form,
    PageState,
    build_form,
    decode_form,
    page_headers,
    page_status,
    render_page,
)
from helmr_runtime.rpc.ledger_client import Json
from helmr_runtime.security.callbacks import CallbackForm
from helmr_runtime.security.completion import data_schema
from helmr_runtime.security.nonces import NonceState, make_nonce, read_nonce
from helmr_runtime.security.schemas import Problem
from helmr_runtime.service import Caller, Service

NONCE_PURPOSE = "page-nonce"
SEE_OTHER = 303


@dataclass(frozen=True, slots=True)
class Callback:
    """A token and the secret by which it was reached."""

    token: Json
    caller: Caller
    public_token: PublicToken | None = None

    @property
    def public_token_id(self) -> str | None:
        """The public token that completes it, if it was reached by one."""
        return self.public_token.id if self.public_token is not None else None


async def show(service: Service, callback: Callback) -> Response:
    """The page as it is now."""
    page = await _page(service, callback)
    return _html(page, is_post=False)


async def submit(
    service: Service, callback: Callback, sent: CallbackForm, location: str
) -> Response:
    """Take a form: complete the token and send the browser back to look, or show the page with what is wrong."""
    page = await _page(service, callback)
    if page.state is not PageState.OPEN or page.form is None:
        return _html(page, is_post=True)
    nonce = read_nonce(
        _nonce_key(service),
        sent.nonce,
        token_id=callback.token["id"],
        binding=page.form.binding,
        now=service.now(),
    )
    if nonce.state is not NonceState.VALID:
        again = await _page(service, callback, values=sent.values, is_stale=True)
        return _html(again, is_post=True)
    decoded = decode_form(page.form, sent.values)
    problems: Sequence[Problem] = decoded.problems
    if not problems and callback.token["schema"] is not None:
        problems = data_schema(callback.token["schema"]).problems(decoded.value)
    if not problems:
        try:
            await service.tokens.complete(
                callback.caller,
                callback.token["id"],
                CompleteRequest(data=decoded.value),
                nonce_id=nonce.id,
                public_token_id=callback.public_token_id,
            )
        except (TokenCompleted, TokenExpired, TokenCancelled, TokenExhausted):
            latest = await service.tokens.in_full(callback.token["id"])
            now = Callback(latest, callback.caller, callback.public_token)
            return _html(await _page(service, now), is_post=True)
        except (SchemaMismatch, TooLarge) as error:
            # An earlier schema than the one shown, or a limit that no schema says.
            problems = [Problem((), error.message)]
        else:
            return Response(status_code=SEE_OTHER, headers={**page_headers(), "Location": location})
    again = await _page(service, callback, values=sent.values, problems=problems)
    return _html(again, is_post=True)


async def _page(
    service: Service,
    callback: Callback,
    *,
    values: Mapping[str, Sequence[str]] | None = None,
    problems: Sequence[Problem] = (),
    is_stale: bool = False,
) -> AnswerPage:
    token, now = callback.token, service.now()
    state = _state(callback, now)
    form = build_form(token["schema"]) if state in _WITH_FORM else None
    nonce = _nonce(service, token["id"], form, now) if state is PageState.OPEN and form else None
    ended_by = token["ended_by"]
    return AnswerPage(
        state=state,
        now=now,
        **await service.tokens.asked(token),
        asked_at=from_iso(token["created_at"]),
        deadline_at=from_iso(token["expires_at"]),
        form=form,
        nonce=nonce,
        values=values or {},
        problems=problems,
        is_stale=is_stale,
        answer=token["data"] if state is PageState.RECORDED else None,
        ended_at=from_iso(token["ended_at"]) if token["ended_at"] is not None else None,
        ended_by=_who(ended_by) if ended_by is not None else None,
    )


_WITH_FORM = frozenset({PageState.OPEN, PageState.RECORDED})
_BY_STATUS = {"expired": PageState.EXPIRED, "cancelled": PageState.CANCELLED}


def _state(callback: Callback, now: datetime) -> PageState:
    token = callback.token
    if token["status"] == "completed":
        return PageState.RECORDED if _is_own(callback) else PageState.OVERTAKEN
    if token["status"] != "pending":
        return _BY_STATUS[token["status"]]
    if now >= from_iso(token["expires_at"]):
        return PageState.EXPIRED
    return PageState.SIGNED if token["verify"] is not None else PageState.OPEN


def _is_own(callback: Callback) -> bool:
    """Completed through the same secret: whoever holds it may see what was recorded."""
    token = callback.token
    if callback.public_token is not None:
        return bool(token["completed_by_public_token"] == callback.public_token.id)
    return bool(token["ended_by"]["type"] == "callback")


def _who(principal: Mapping[str, Any]) -> str | None:
    if principal["type"] in ("callback", "public_token"):
        return None
    return str(principal.get("on_behalf_of") or principal.get("name") or principal["type"])


def _nonce(service: Service, token_id: str, form: Form, now: datetime) -> str:
    return make_nonce(_nonce_key(service), token_id=token_id, binding=form.binding, now=now)


def _nonce_key(service: Service) -> bytes:
    return service.tokens.require_ring().purpose_key(NONCE_PURPOSE)


def _html(page: AnswerPage, *, is_post: bool) -> Response:
    status = page_status(page.state, is_post=is_post)
    return Response(render_page(page), status_code=status, headers=page_headers())
