"""A wait on the answer page: for the holder of a link, or for the signed-in person.

Invariants: S-74, S-112 (the core decides who may answer; a page predicts its decision), S-113, S-118.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from starlette.responses import Response

from helmr.errors import Conflict, NotAllowed, UsageError, WaitResolved, WaitTimedOut
from helmr.gate import CALL_TASK
from helmr.gate.grants import matches_text
from helmr.models import (
    AnswerRequest,
    GrantRequest,
    TokenStatus,
    WaitInfo,
    WaitStatus,
)
from helmr.person.forms import MISSING, form_of
from helmr.person.review import agreement, granting
from helmr.person.review.words import escalation_texts, next_end
from helmr.wire.durations import seconds
from helmr.wire.people import answered_by, person_key
from helmr_runtime.core.entries import PERSON
from helmr_runtime.http import handing
from helmr_runtime.http.access import check_own_page
from helmr_runtime.http.answer_flow import show, show_refused, submit, who_answered
from helmr_runtime.http.answer_page import PageState
from helmr_runtime.http.answer_page.page import (
    DEPUTY_FIELD,
    GRANT_FIELD,
    GRANT_FOR,
    GRANT_LIKE,
    HAND_FIELD,
    OVERRIDE_FIELD,
    WITHDRAW_FIELD,
    GrantForm,
)
from helmr_runtime.http.browser import Browser, PagePerson, see_other
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.security.browser_sign_in import SIGN_IN_PATH
from helmr_runtime.security.callbacks import CallbackForm
from helmr_runtime.service import Caller, Service
from helmr_runtime.service.access import LiveLink

ENDED = {
    WaitStatus.TIMED_OUT.value: PageState.EXPIRED,
    TokenStatus.EXPIRED.value: PageState.EXPIRED,
    TokenStatus.CANCELLED.value: PageState.CANCELLED,
}
"""The page's state for a wait or a token that ended without an answer; both share the word `cancelled`."""


@dataclass(frozen=True, slots=True)
class LinkedWait:
    """A wait that was reached by a link.

    Attributes:
        return_to: This page's path, if its person must sign in; empty if pages offer no sign-in.
    """

    service: Service
    wait: WaitInfo
    link: LiveLink
    caller: Caller
    return_to: str = ""

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
        ended = _ended_as(self.wait, now, is_own=self._is_own)
        if ended is not None:
            return ended
        if self.wait.signed:
            return PageState.OWN_KEY
        return PageState.SIGN_IN if self.wait.is_restricted else PageState.OPEN

    @property
    def _is_own(self) -> bool:
        """True if it ended through this same link, whose holder may see the recorded answer."""
        by = self.wait.resolved_by
        return by is not None and by.id == self.link.id

    async def texts(self) -> dict[str, Any]:
        return {
            **await _texts(self.service, self.wait, is_own=self._is_own),
            "answers_as": self.link.person,
            "return_to": self.return_to,
        }

    async def take(self, data: Any, nonce_id: str | None) -> None:
        await self.answer(AnswerRequest(data=data), nonce_id)

    async def answer(self, request: AnswerRequest, nonce_id: str | None = None) -> Any:
        """Answer the wait on behalf of the link's person; returns the receipt."""
        return await self.service.waits.answer(
            self.caller, self.wait.id, request, link_id=self.link.id, nonce_id=nonce_id
        )

    async def latest(self) -> LinkedWait:
        return replace(self, wait=await self.service.waits.get(self.wait.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalWait:
    """A wait, with the person who is signed in at its page.

    Attributes:
        made_for: The person of the link to the page, if another one.
        overrides: The person answers although someone else is working on it.
        deputy_for: The person for whom they say that they answer, as their deputy.
        typed: The submitted values of a form that grants calls or hands the wait over.
        done: The action by which they just claimed it or handed it over.
    """

    service: Service
    wait: WaitInfo
    who: PagePerson
    caller: Caller
    browser: Browser
    made_for: str = ""
    overrides: bool = False
    deputy_for: str = ""
    typed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    done: str = ""

    @property
    def id(self) -> str:
        """The id that nonces are bound to: this session and this wait."""
        return f"{self.who.form_id} {self.wait.id}"

    @property
    def schema(self) -> Any:
        return self.wait.json_schema

    @property
    def initial(self) -> Any:
        found = agreement.initial_of(self.wait)
        return None if found is MISSING else found

    def state(self, now: datetime) -> PageState:
        ended = _ended_as(self.wait, now, is_own=self.is_own)
        if ended is not None:
            return ended
        if not self.may_answer:
            return PageState.OTHERS
        return PageState.OWN_KEY if self.wait.signed else PageState.OPEN

    @property
    def may_answer(self) -> bool:
        """True if their role may answer and the wait admits them, or may do so by groups that are not known."""
        if self.who.proven.is_local:
            return self._is_admitted
        is_admitted = handing.admits(self.wait, self.who.proven.identity)
        return self.who.may_answer and (is_admitted or bool(self.wait.deputy_for))

    @property
    def _is_admitted(self) -> bool:
        if self.who.proven.is_local:
            return not self.wait.is_restricted  # as its key
        wait, keys = self.wait, self.who.proven.identity.keys
        is_named = not wait.answerers or bool(keys & {*wait.answerers})
        may = (is_named and not keys & {*wait.not_by}) or bool(wait.deputy_for)
        return self.who.may_answer and may

    @property
    def has_claim(self) -> bool:
        """True if the claim on the wait is theirs, so that it does not block their answer."""
        claim, own = self.wait.claim, self.who.proven.principal
        if claim is None:
            return False
        by = claim.principal
        return (by.type, by.id, by.on_behalf_of) == (own.type, own.id, own.on_behalf_of)

    @property
    def _answers_as(self) -> str:
        """The person's name; as a deputy, with whose they are, if that is one person."""
        name, others = self.who.bar.name, self.wait.deputy_for
        return f"{name} for {others[0]}" if len(others) == 1 else name

    @property
    def may_see(self) -> bool:
        """True if they may answer it or have done so: a page shows nothing of other waits."""
        is_local = self.who.proven.is_local  # whose key reads everything
        return self._is_admitted or self.is_own or self.has_voted or is_local

    @property
    def has_voted(self) -> bool:
        """True if they have voted, and others must agree."""
        return self.wait.takes_answers and self._key in self.wait.voters

    @property
    def _key(self) -> str:
        return person_key(self.who.proven.person.id)

    @property
    def is_own(self) -> bool:
        """True if they answered it or voted on it: they may see the recorded answer."""
        by, key = self.wait.resolved_by, self._key
        if self.who.proven.is_local:
            own = self.who.proven.principal
            return by is not None and (by.type, by.id, by.name) == (own.type, own.id, own.name)
        named = (by.id or "", by.on_behalf_of or "") if by is not None else ()
        is_resolver = by is not None and by.type == PERSON and key in map(person_key, named)
        return is_resolver or (key in self.wait.voters and self.wait.status is WaitStatus.FULFILLED)

    def is_withdrawal(self, nonce: str | None) -> bool:
        """True if the form that withdraws their vote comes from a page of this session."""
        return self.browser.is_own_form(self.who.form_id, self._withdrawal, nonce)

    @property
    def _withdrawal(self) -> str:
        return f"withdraw {self.wait.id}"

    @property
    def offer(self) -> granting.GrantOffer | None:
        """The initial values of a grant at this call; None if they can give none here."""
        is_free = self.wait.claim is None or self.has_claim
        is_open = self._is_admitted and self.wait.takes_answers and is_free
        return granting.offered(self.wait) if is_open else None

    def is_granting(self, nonce: str | None) -> bool:
        """True if the form that grants calls comes from a page of this session."""
        return self.browser.is_own_form(self.who.form_id, self._granting, nonce)

    @property
    def _granting(self) -> str:
        return f"grant {self.wait.id}"

    def grant(self, offer: granting.GrantOffer) -> GrantRequest:
        """The grant that they typed.

        Raises:
            BadRequest: The duration is invalid.
        """
        typed = {name: self._typed(f"{GRANT_LIKE}{n}", "") for n, name in enumerate(offer.globs)}
        valid_for = self._typed(GRANT_FOR, "") or granting.VALID_FOR
        return GrantRequest(
            session_id=self.wait.session_id,
            matches={**offer.matches(typed)},
            expires_in=seconds(valid_for),
        )

    def _typed(self, name: str, otherwise: str) -> str:
        return next(iter(self.typed.get(name, ())), otherwise).strip()

    def _grant_form(self) -> GrantForm | None:
        offer = self.offer
        if offer is None:
            return None
        return GrantForm(
            nonce=self.browser.nonce(self.who.form_id, self._granting),
            tool=offer.tool,
            lines=tuple(
                (name, self._typed(f"{GRANT_LIKE}{number}", glob))
                for number, (name, glob) in enumerate(offer.shown().items())
            ),
            valid_for=self._typed(GRANT_FOR, granting.VALID_FOR),
            is_open=GRANT_FOR in self.typed,
        )

    async def _granted(self) -> list[str]:
        if not (self.is_own and granting.is_call(self.wait)):
            return []
        return [
            f"{one.tool}, {matches_text(one.matches)}, until {one.expires_at:%Y-%m-%d %H:%M UTC}"
            for one in await self.service.part("grants").given_at(self.wait.session_id)
        ]

    async def texts(self) -> dict[str, Any]:
        wait, person = self.wait, self.who.proven.person
        form = form_of(wait.json_schema, initial=agreement.initial_of(wait))
        withdraw = self.browser.nonce(self.who.form_id, self._withdrawal) if self.has_voted else ""
        return {
            **await _texts(self.service, wait, is_own=self.is_own),
            "answers_as": self._answers_as,
            "deputy_for": wait.deputy_for if len(wait.deputy_for) > 1 else (),
            "made_for": self.made_for,
            "bar": self.who.bar,
            "also_answered": self._others(),
            "agreed": [*agreement.standing(wait, form), *agreement.away(wait)],
            "voted_for": agreement.own_vote(wait, form, person.id) if self.has_voted else "",
            "may_override": wait.claim is not None and not self.has_claim,
            "handing": await handing.form_of(self),
            "withdraw_nonce": withdraw,
            "grant": self._grant_form(),
            "granted": await self._granted(),
            "renew_at": f"{SIGN_IN_PATH}/issuer" if self.service.sign_ins.is_on else "",
        }

    def _others(self) -> list[str]:
        """The voters, except the person whose answer ended it."""
        by = self.wait.resolved_by
        if not self.is_own or by is None:
            return []
        own = {person_key(one) for one in (by.person, by.on_behalf_of) if one is not None}
        return [one for one in self.wait.voters if one not in own]

    async def take(self, data: Any, nonce_id: str | None) -> None:
        request = AnswerRequest(
            data=data, override_claim=self.overrides, deputy_for=self.deputy_for or None
        )
        await self.service.waits.answer(self.caller, self.wait.id, request, nonce_id=nonce_id)

    async def latest(self) -> PersonalWait:
        return replace(self, wait=await self.service.waits.shown(self.caller, self.wait.id))


async def take_form(
    exchange: Exchange, asked: PersonalWait, sent: CallbackForm, location: str
) -> Response:
    """Take a person's form: an answer, a grant, a withdrawn vote, or a handover.

    Raises:
        OriginDenied: Another site's page sent it.
    """
    check_own_page(exchange, has_nonce=True)
    if HAND_FIELD in sent.values:
        return await handing.take(replace(asked, typed=sent.values), sent, location)
    if sent.values.pop(GRANT_FIELD, None):
        return await _take_grant(replace(asked, typed=sent.values), sent.nonce, location)
    if not sent.values.pop(WITHDRAW_FIELD, None):
        overrides = bool(sent.values.pop(OVERRIDE_FIELD, None))
        deputy_for = next(iter(sent.values.pop(DEPUTY_FIELD, ())), "")
        asked = replace(asked, overrides=overrides, deputy_for=deputy_for)
        return await submit(asked.service, asked, sent, location)
    if not asked.is_withdrawal(sent.nonce):
        return await show(asked.service, asked)
    with suppress(WaitResolved, WaitTimedOut):  # the page says how it ended
        await asked.service.waits.withdraw(asked.caller, asked.wait.id)
    return see_other(location)


async def _take_grant(asked: PersonalWait, nonce: str | None, location: str) -> Response:
    """Approve a call, then grant calls like it; a grant that can't be given is refused before anything is recorded."""
    offer = asked.offer
    if offer is None or not asked.is_granting(nonce):
        return await show(asked.service, asked)
    grants = asked.service.part("grants")
    try:
        request = asked.grant(offer)
        await grants.check(request)
        await asked.take(granting.APPROVED, None)
    except (WaitResolved, WaitTimedOut):  # the page says how it ended
        return see_other(location)
    except (UsageError, Conflict, NotAllowed) as error:
        return await show_refused(asked.service, asked, error)
    await grants.create(asked.caller.fresh(), request)
    return see_other(location)


def _is_answered(wait: WaitInfo) -> bool:
    return wait.status is WaitStatus.FULFILLED or wait.resolving is TokenStatus.COMPLETED


def _ended_as(wait: WaitInfo, now: datetime, *, is_own: bool) -> PageState | None:
    """The page's state for an ended wait; None while it is open."""
    if _is_answered(wait):
        return PageState.RECORDED if is_own else PageState.OVERTAKEN
    status = (wait.resolving or wait.status).value
    if status in ENDED:
        return ENDED[status]
    return PageState.EXPIRED if wait.ends_at is not None and now >= wait.ends_at else None


async def _texts(service: Service, wait: WaitInfo, *, is_own: bool) -> dict[str, Any]:
    """Arguments of `AnswerPage`: the asker, the question, the deadline, and the end."""
    by = wait.resolved_by
    call = (
        await service.part("gated_calls").payload(wait.session_id)
        if wait.task == CALL_TASK
        else None
    )
    end = next_end(wait) if wait.status is WaitStatus.PENDING else None
    return {
        "asked_by": call.client if call is not None else granting.asker(wait),
        "asked_in": call.home if call is not None else "",
        "heading": granting.heading(wait, call) if call is not None else "",
        "answered_by": answered_by(wait.answerers, wait.not_by, wait.approvals, signed=wait.signed),
        "have": wait.have,
        "need": wait.approvals,
        "then": end.then if end is not None and end.is_default else "",
        "subject": wait.subject,
        "body": granting.body_below(wait, call) if call is not None else wait.body,
        "evidence": wait.shown_evidence,
        "asked_at": wait.opened_at,
        "deadline_at": wait.ends_at,
        "escalation": escalation_texts(wait, lambda at: at.strftime("%Y-%m-%d %H:%M UTC")),
        "claimed_by": wait.claim.label if wait.claim is not None else None,
        "claimed_until": wait.claim.until if wait.claim is not None else None,
        "answer": wait.answer if _is_answered(wait) and is_own else None,
        "ended_at": wait.resolved_at,
        "ended_by": who_answered(by.model_dump()) if by is not None else None,
    }
