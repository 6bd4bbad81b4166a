"""The answer page behind every kind of link shows the question, takes a form, and shows the outcome.

GET never acts; a form counts only with the nonce of a page that was shown (S-42).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

from starlette.responses import Response

from helmr.errors import (
    GroupsUnknown,
    HelmrError,
    NotAnAnswerer,
    NotFound,
    SchemaMismatch,
    TokenCancelled,
    TokenCompleted,
    TokenExhausted,
    TokenExpired,
    TooLarge,
    WaitClaimed,
    WaitResolved,
    WaitTimedOut,
)
from helmr.person.forms import MISSING
from helmr.person.forms.model import json_text
from helmr_runtime.core.entries import Principal
from helmr_runtime.http.answer_page import (
    LOCAL_SCRIPT,
    AnswerPage,
    PageForm,
    PageState,
    all_problems,
    asks_for_rows,
    build_form,
    decode_form,
    first_of_row,
    first_values,
    page_headers,
    page_status,
    render_page,
    with_action,
)
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.security.callbacks import CallbackForm, NonceState, make_nonce, read_nonce
from helmr_runtime.security.schemas import SchemaProblem, data_schema, read_path
from helmr_runtime.service import Service

NONCE_PURPOSE = "page-nonce"
SEE_OTHER = 303
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
_WITH_FORM = frozenset(
    {
        PageState.OPEN,
        PageState.SIGN_IN,
        PageState.OTHERS,
        PageState.OWN_KEY,
        PageState.RECORDED,
    }
)
"""States that need the fields: to ask, to show a tool's call, or to show the recorded answer."""


_Found = TypeVar("_Found")


class PageSubject(Protocol):
    """A token or a wait that a page asks about, as of its last read."""

    @property
    def id(self) -> str:
        """The id that nonces of the page's forms are bound to."""
        ...

    @property
    def schema(self) -> Any:
        """The JSON Schema of an answer; None takes anything."""
        ...

    @property
    def initial(self) -> Any:
        """The form's initial value; None for a fresh one."""
        ...

    def state(self, now: datetime) -> PageState:
        """The state of the page."""
        ...

    async def texts(self) -> dict[str, Any]:
        """Arguments of `AnswerPage`: the asker, the question, the deadline, and the end."""
        ...

    async def take(self, data: Any, nonce_id: str | None) -> None:
        """Answer, or raise the refusal."""
        ...

    async def latest(self) -> PageSubject:
        """The same subject, read again."""
        ...


def wants_page(accept: str | None, content_type: str | None = None) -> bool:
    """True for a browser: it accepts HTML or sends a page's form. Programs get JSON."""
    takes = (part.partition(";")[0].strip().lower() for part in (accept or "").split(","))
    return "text/html" in takes or (content_type or "").lower().startswith(FORM_TYPES)


async def opened(exchange: Exchange, looking: Awaitable[_Found]) -> _Found | Response:
    """Look up the subject of a secret; for a dead link, a browser gets a page that gives no cause (S-46).

    Raises:
        NotFound: The link is dead, and a program asks.
    """
    try:
        return await looking
    except NotFound:
        if not wants_page(exchange.headers.get("accept"), exchange.headers.get("content-type")):
            raise
    return _html(AnswerPage(state=PageState.UNKNOWN, now=exchange.service.now()), is_post=False)


async def show(service: Service, asked: PageSubject) -> Response:
    """The page as it is now."""
    return _html(await _page(service, asked), is_post=False)


async def show_refused(service: Service, asked: PageSubject, error: HelmrError) -> Response:
    """The page as it is now, with the reason for which the form was not recorded."""
    page = await _page(service, await asked.latest())
    refusal = _claimed(page) if isinstance(error, WaitClaimed) else error.message
    page = replace(page, refusal=refusal)
    return _html(page, is_post=True, status=error.status)


async def submit(
    service: Service, asked: PageSubject, sent: CallbackForm, location: str
) -> Response:
    """Take a form: answer and redirect the browser to the page, or show the page with the problems."""
    page = await _page(service, asked, values=sent.values)
    if page.state is not PageState.OPEN or page.form is None:
        return _html(_second(page, sent), is_post=True)
    nonce = read_nonce(
        _nonce_key(service),
        sent.nonce,
        token_id=asked.id,
        binding=page.form.binding,
        now=service.now(),
    )
    if nonce.state is not NonceState.VALID:
        values, _ = with_action(page.form, sent.values)
        return _html(await _page(service, asked, values=values, is_stale=True), is_post=True)
    if asks_for_rows(sent.values):
        values, new = with_action(page.form, sent.values)
        return _html(await _page(service, asked, values=values, new_row=new), is_post=False)
    decoded = decode_form(page.form, sent.values)
    found = data_schema(asked.schema).problems(decoded.value) if asked.schema is not None else []
    problems = all_problems(decoded, found)
    if not problems:
        try:
            await asked.take(decoded.value, nonce.id)
        except (
            TokenCompleted,
            TokenExpired,
            TokenCancelled,
            TokenExhausted,
            WaitResolved,
            WaitTimedOut,
        ):
            latest = await _page(service, await asked.latest(), values=sent.values)
            return _html(_second(latest, sent), is_post=True)
        except (SchemaMismatch, TooLarge) as error:
            # The schema changed, or the task's type or a limit refuses data that fits the schema.
            problems = _refused(error)
        except (NotAnAnswerer, GroupsUnknown, WaitClaimed) as error:
            refused = await _page(service, await asked.latest(), values=sent.values)
            renew_at = refused.renew_at if isinstance(error, GroupsUnknown) else ""
            refusal = _claimed(refused) if isinstance(error, WaitClaimed) else error.message
            refused = replace(refused, refusal=refusal, renew_at=renew_at)
            return _html(refused, is_post=True, status=error.status)
        else:
            return Response(status_code=SEE_OTHER, headers={**page_headers(), "Location": location})
    again = await _page(service, asked, values=sent.values, problems=problems)
    return _html(again, is_post=True)


def _refused(error: SchemaMismatch | TooLarge) -> list[SchemaProblem]:
    """The runtime's refusal of an answer as problems, each at its field."""
    listed = error.errors if isinstance(error, SchemaMismatch) else []
    return [SchemaProblem(read_path(one["path"]), one["message"]) for one in listed] or [
        SchemaProblem((), error.message)
    ]


def _claimed(page: AnswerPage) -> str:
    """The refusal of an answer while someone else works on the wait, with the remedy."""
    todo = (
        "Tick the box to answer all the same." if page.may_override else "Ask them, or try later."
    )
    return f"{page.claimed_by or 'Someone else'} is working on it. {todo}"


def _second(page: AnswerPage, sent: CallbackForm) -> AnswerPage:
    """Mark the page of a recorded answer if this form holds another answer, which was not recorded."""
    if page.state is not PageState.RECORDED or page.form is None or asks_for_rows(sent.values):
        return page
    decoded = decode_form(page.form, sent.values)
    is_same = not decoded.problems and json_text(decoded.value) == json_text(page.answer)
    return page if is_same else replace(page, is_second=True)


async def _page(
    service: Service,
    asked: PageSubject,
    *,
    values: Mapping[str, Sequence[str]] | None = None,
    problems: Sequence[SchemaProblem] = (),
    is_stale: bool = False,
    new_row: str = "",
) -> AnswerPage:
    now = service.now()
    state = asked.state(now)
    initial = asked.initial if asked.initial is not None else MISSING
    form = None
    if state in _WITH_FORM:
        form = build_form(asked.schema, initial=initial, values=values)
    is_open = state is PageState.OPEN and form is not None
    if values is None and form is not None:
        values = first_values(form)
    return AnswerPage(
        state=state,
        now=now,
        **await asked.texts(),
        form=form,
        nonce=_nonce(service, asked.id, form, now) if is_open and form is not None else None,
        values=values or {},
        problems=problems,
        is_stale=is_stale,
        focus=first_of_row(form, new_row) if form is not None and new_row else "",
    )


def _nonce(service: Service, asked_id: str, form: PageForm, now: datetime) -> str:
    return make_nonce(_nonce_key(service), token_id=asked_id, binding=form.binding, now=now)


def _nonce_key(service: Service) -> bytes:
    return service.tokens.require_ring().purpose_key(NONCE_PURPOSE)


def _html(page: AnswerPage, *, is_post: bool, status: int | None = None) -> Response:
    if status is None:
        status = page_status(page.state, is_post=is_post, is_second=page.is_second)
    return Response(render_page(page), status_code=status, headers=page_headers(LOCAL_SCRIPT))


def who_answered(principal: Mapping[str, Any] | None) -> str | None:
    """The name of the person or program for strangers to read; None for the holder of a secret."""
    if principal is None or principal["type"] in ("callback", "public_token"):
        return None
    acted = Principal.from_json(principal)
    return acted.person or acted.name or acted.type
