"""The inbox shows a signed-in person their waits, takes their forms, and signals changes (S-118).

A person sees waits that they may answer or have answered, and of a session only what the wait shows. Any other wait
gets the same page as one that does not exist. A signal has no content: the page reads the inbox again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from math import ceil

from pydantic import ValidationError
from starlette.responses import Response

from helmr.errors import BadId, NotFound, UnsupportedMedia, UsageError
from helmr.models import LIST_LIMIT_MAX, WaitsQuery, WaitStatus
from helmr_runtime.core.public_tokens import unauthenticated
from helmr_runtime.http.answer_flow import show, wants_page
from helmr_runtime.http.answer_page import (
    AnswerPage,
    InboxPage,
    InboxView,
    PageState,
    page_headers,
    render_home,
    render_inbox,
    render_page,
)
from helmr_runtime.http.answer_page.layout import INBOX_SCRIPT, LOCAL_SCRIPT
from helmr_runtime.http.browser import SEE_OTHER, Browser, PagePerson
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.handing import DONE
from helmr_runtime.http.handlers import EventStream
from helmr_runtime.http.problems import from_validation, no_route
from helmr_runtime.http.served_operation import Handler
from helmr_runtime.http.sign_in_pages import kept_form, refused_page, renewed_groups, to_sign_in
from helmr_runtime.http.wait_page import PersonalWait, take_form
from helmr_runtime.security.browser_sign_in import INBOX_PATH
from helmr_runtime.security.callbacks import CallbackForm, read_callback
from helmr_runtime.service.feed import FeedItem
from helmr_runtime.service.following import Followed, FollowedEntries

FILTERS = ("task", "priority", "tag")
ROWS_MAX = 50
ANSWERED_WITHIN = timedelta(days=7)
CHANGES_EVERY_S = 2.0
"""Least time between two signals of a change to a page."""


async def show_inbox(exchange: Exchange) -> Response:
    """Show the person's waits, soonest end first."""
    who = await _person(exchange)
    if isinstance(who, Response):
        return who
    given = exchange.query_params
    view = InboxView(given["show"]) if given.get("show") in list(InboxView) else InboxView.OPEN
    view = InboxView.OPEN if who.proven.is_local else view
    filters = {name: given[name].strip() for name in FILTERS if given.get(name, "").strip()}
    page = InboxPage(
        now=exchange.service.now(),
        bar=who.bar,
        view=view,
        has_views=not who.proven.is_local,
        filters=filters,
        is_first="cursor" not in given,
    )
    status = HTTPStatus.OK
    try:
        page = await _listed(exchange, who, page, given.get("cursor"))
    except UsageError as error:
        page, status = replace(page, problem=error.message), HTTPStatus.BAD_REQUEST
    headers = page_headers(INBOX_SCRIPT, is_live=True)
    return Response(render_inbox(page), status_code=status, headers=headers)


async def _listed(
    exchange: Exchange, who: PagePerson, page: InboxPage, cursor: str | None
) -> InboxPage:
    """The page with its waits, the number of all, and its place among all pages.

    Raises:
        UsageError: A filter or the cursor is invalid.
    """
    query, caller = _query(exchange, who, page, cursor), exchange.caller()
    found = await exchange.service.waits.list(caller, query)
    counted = await exchange.service.waits.count(caller, query)
    waits = list(found.items)
    if page.view is InboxView.ANSWERED:
        waits.sort(key=lambda one: one.resolved_at or page.now, reverse=True)
    pages_before = ceil(counted.before / query.limit)
    return replace(
        page,
        waits=waits,
        cursor=found.next_cursor,
        total=counted.count,
        place=pages_before + 1,
        places=pages_before + ceil((counted.count - counted.before) / query.limit),
        tasks=sorted({*counted.tasks, *filter(None, [query.task])}),
    )


def _query(
    exchange: Exchange, who: PagePerson, page: InboxPage, cursor: str | None = None
) -> WaitsQuery:
    """The waits that the person sees in the page's view.

    Raises:
        UsageError: A filter or the cursor is invalid.
    """
    person = who.proven.person.id
    limit = LIST_LIMIT_MAX if page.view is InboxView.ANSWERED else ROWS_MAX
    wanted: dict[str, object] = {**page.filters, "limit": limit, "cursor": cursor or None}
    match page.view:
        case _ if who.proven.is_local:
            pass  # all open waits
        case InboxView.OPEN:
            wanted["can_answer"] = True
        case InboxView.MINE:
            wanted |= {"can_answer": True, "mine": True}
        case InboxView.VOTED:
            wanted["voter"] = person
        case InboxView.ANSWERED:
            since = page.now - ANSWERED_WITHIN
            ended = {"status": WaitStatus.FULFILLED, "answered_by": person, "resolved_since": since}
            wanted |= ended
    try:
        return WaitsQuery.model_validate(wanted)
    except ValidationError as error:
        raise from_validation(error, is_query=True) from error


async def show_home(exchange: Exchange) -> Response:
    """Show that the runtime runs, and the number of waits, if the person may answer them."""
    if not wants_page(exchange.headers.get("accept")):
        return no_route(HTTPStatus.NOT_FOUND, {})
    who = await exchange.app.browser.person(exchange)
    waiting = ""
    if who is not None and who.may_answer:
        open_ones = InboxPage(now=exchange.service.now(), bar=who.bar, filters={})
        query = _query(exchange, who, open_ones)
        waiting = f"{(await exchange.service.waits.count(exchange.caller(), query)).count:,}"
    page = render_home(
        version=exchange.app.settings.version, waiting=waiting, bar=who.bar if who else None
    )
    return Response(page, headers=page_headers())


async def show_inbox_wait(exchange: Exchange, wait_id: str) -> Response:
    """Show one wait of theirs with its form or its end."""
    asked = await _wait(exchange, wait_id)
    return asked if isinstance(asked, Response) else await show(exchange.service, asked)


async def answer_inbox_wait(exchange: Exchange, wait_id: str) -> Response:
    """Take the form of one wait of theirs: an answer, a withdrawn vote, a grant, or a handover."""
    asked = await _wait(exchange, wait_id)
    if isinstance(asked, Response):
        typed = await _form(exchange) if asked.status_code == SEE_OTHER else None
        path = f"{INBOX_PATH}/{wait_id}"
        return kept_form(exchange, typed, path) if typed is not None else asked
    sent = await _form(exchange)
    if sent is None:
        raise UnsupportedMedia("a page's form is needed here", hint="Programs call the API.")
    return await take_form(exchange, asked, sent, f"{INBOX_PATH}/{wait_id}")


async def _form(exchange: Exchange) -> CallbackForm | None:
    """The submitted form of the page; None if the request holds none."""
    try:
        sent = read_callback(
            content_type=exchange.headers.get("content-type"),
            body=await exchange.raw(),
            is_raw=False,
            token_is_raw=False,
        )
    except UnsupportedMedia:
        return None
    return sent if isinstance(sent, CallbackForm) else None


async def follow_inbox(exchange: Exchange) -> Response:
    """Signal changes of the inbox; ends with the browser's session."""
    who = await exchange.app.browser.person(exchange, is_used=False)
    if who is None or not who.may_answer:
        raise unauthenticated()
    session, keys = who.proven.session, who.proven.identity.keys
    deputies = await exchange.service.people_view.deputies(who.proven.identity)
    keys = keys.union(*(one.delegator(exchange.service.now()).keys for one in deputies))
    entries = await exchange.service.events.follow_all(None)
    changes = InboxChanges(
        entries,
        lambda item: concerns(item, keys),
        lambda: session is not None and session.is_over(exchange.service.now()),
    )
    return EventStream(changes, exchange)


async def _person(exchange: Exchange) -> PagePerson | Response:
    """The signed-in person, or the response that the browser gets instead."""
    browser: Browser = exchange.app.browser
    # Requests that a page makes by itself do not extend the session.
    by_itself = exchange.headers.get("sec-fetch-dest") == "empty"
    who = await browser.person(exchange, is_used=not by_itself)
    if who is None:
        query = exchange.url.query
        return to_sign_in(exchange, exchange.url.path + (f"?{query}" if query else ""))
    if not who.may_answer:
        return refused_page(who, f"Your role here, {who.role.value}, answers nothing.")
    return renewed_groups(exchange, who) or who


async def _wait(exchange: Exchange, wait_id: str) -> PersonalWait | Response:
    who = await _person(exchange)
    if isinstance(who, Response):
        return who
    service, browser = exchange.service, exchange.app.browser
    with suppress(NotFound, BadId):
        wait = await service.waits.shown(exchange.caller(), wait_id)
        asked = PersonalWait(
            service=service,
            wait=wait,
            who=who,
            caller=exchange.caller(),
            browser=browser,
            done=exchange.query_params.get(DONE, ""),
        )
        if wait.kind.asks_people and asked.may_see:
            return asked
    nothing = AnswerPage(state=PageState.UNKNOWN, now=service.now(), bar=who.bar)
    headers = page_headers(LOCAL_SCRIPT)
    return Response(render_page(nothing), status_code=HTTPStatus.NOT_FOUND, headers=headers)


# --- signals of changes ---------------------------------------------------------------------------


def concerns(item: FeedItem, keys: frozenset[str]) -> bool:
    """True if an entry may change the inbox of a person with these names and groups."""
    if not item.kind.startswith("wait."):
        return False
    body = item.entry["body"]
    answerers = frozenset(body.get("answerers", ()))
    return not answerers or bool(answerers & keys)


class InboxChanges:
    """Signals of changes for a page to follow, at most one in `CHANGES_EVERY_S`.

    Args:
        entries: The feed of all sessions.
        concerns: Returns True for an entry that matters.
        is_over: Returns True once the person is signed out.
    """

    position: int | None = None

    def __init__(
        self,
        entries: FollowedEntries,
        concerns: Callable[[FeedItem], bool],
        is_over: Callable[[], bool],
    ) -> None:
        self._entries = entries
        self._concerns = concerns
        self._is_over = is_over
        self._has_changed = False
        self._next_at_s = 0.0

    @property
    def is_closed(self) -> bool:
        return self._entries.is_closed or self._is_over()

    async def take(self, timeout_s: float) -> list[Followed]:
        left_s = max(0.0, self._next_at_s - _now_s())
        wait_s = min(timeout_s, left_s) if self._has_changed else timeout_s
        for item in await self._entries.take_items(wait_s):
            self._has_changed = self._has_changed or self._concerns(item)
        if not self._has_changed or self._next_at_s > _now_s():
            return []
        self._has_changed, self._next_at_s = False, _now_s() + CHANGES_EVERY_S
        return [Followed("changed", None, "{}")]

    def close(self) -> None:
        self._entries.close()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (show_home, show_inbox, show_inbox_wait, answer_inbox_wait, follow_inbox)
}
"""Handlers by the name of their operation."""
