"""/v1/links/{secret}: the page by which one named person answers one wait (S-74).

GET shows, and never acts. POST answers the wait once: `{"data": …}` as JSON, or the page's form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from starlette.responses import Response

from helmr.errors import NotFound
from helmr.models import AnswerRequest, WaitInfo, WaitStatus
from helmr.review.words import escalation_texts, next_end
from helmr_runtime.http.answer_flow import opened, show, submit, who_answered
from helmr_runtime.http.answer_page import PageState
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.routing import Handler, json_response
from helmr_runtime.security.callbacks import CallbackForm, read_callback
from helmr_runtime.security.secrets import SecretKind, parse_secret, secret_hash
from helmr_runtime.security.task_secrets import LINK_PATH
from helmr_runtime.service import Caller, Service
from helmr_runtime.service.links import LiveLink

_ENDED = {
    WaitStatus.TIMED_OUT: PageState.EXPIRED,
    WaitStatus.CANCELLED: PageState.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class LinkedWait:
    """A wait and the link by which it was reached; what the answer page asks for."""

    service: Service
    wait: WaitInfo
    link: LiveLink
    caller: Caller

    @property
    def id(self) -> str:
        return self.wait.id

    @property
    def schema(self) -> Any:
        return self.wait.json_schema

    @property
    def initial(self) -> Any:
        return self.wait.initial

    def state(self, now: datetime) -> PageState:
        wait = self.wait
        if wait.status is WaitStatus.FULFILLED:
            return PageState.RECORDED if self._is_own else PageState.OVERTAKEN
        if wait.status is not WaitStatus.PENDING:
            return _ENDED[wait.status]
        ends_at = wait.default_at or wait.deadline_at
        return PageState.EXPIRED if ends_at is not None and now >= ends_at else PageState.OPEN

    @property
    def _is_own(self) -> bool:
        """Answered through this same link: whoever holds it may see what was recorded."""
        by = self.wait.resolved_by
        return by is not None and by.id == self.link.id

    async def texts(self) -> dict[str, Any]:
        wait, by = self.wait, self.wait.resolved_by
        is_own = wait.status is WaitStatus.FULFILLED and self._is_own
        end = next_end(wait) if wait.status is WaitStatus.PENDING else None
        return {
            "asked_by": wait.task,
            "answers_as": self.link.person,
            "then": end.then if end is not None and end.is_default else "",
            "subject": wait.subject,
            "body": wait.body,
            "asked_at": wait.opened_at,
            "deadline_at": wait.default_at or wait.deadline_at,
            "escalation": escalation_texts(wait, lambda at: at.strftime("%Y-%m-%d %H:%M UTC")),
            "claimed_by": wait.claim.label if wait.claim is not None else None,
            "claimed_until": wait.claim.until if wait.claim is not None else None,
            "answer": wait.answer if is_own else None,
            "ended_at": wait.resolved_at,
            "ended_by": who_answered(by.model_dump()) if by is not None else None,
        }

    async def take(self, data: Any, nonce_id: str | None) -> None:
        await self.answer(AnswerRequest(data=data), nonce_id)

    async def answer(self, request: AnswerRequest, nonce_id: str | None = None) -> Any:
        """Answer the wait on behalf of the link's person; the receipt."""
        return await self.service.waits.answer(
            self.caller, self.wait.id, request, link_id=self.link.id, nonce_id=nonce_id
        )

    async def latest(self) -> LinkedWait:
        return replace(self, wait=await self.service.waits.get(self.wait.id))


async def show_link(exchange: Exchange, secret: str) -> Response:
    """Show what the wait asks. Changes nothing."""
    linked = await opened(exchange, _linked(exchange, secret))
    return linked if isinstance(linked, Response) else await show(exchange.service, linked)


async def answer_by_link(exchange: Exchange, secret: str) -> Response:
    """Answer the wait on behalf of the link's person, by JSON or by the page's form."""
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
        return await submit(exchange.service, linked, sent, f"{LINK_PATH}{secret}")
    return json_response(await linked.answer(AnswerRequest(data=sent.data)))


async def _linked(exchange: Exchange, secret: str) -> LinkedWait:
    """The wait behind a secret; one 404 for whatever is wrong with it (S-46)."""
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


def _nothing() -> NotFound:
    return NotFound("there is nothing under this link")


HANDLERS: dict[str, Handler] = {"show_link": show_link, "answer_by_link": answer_by_link}
