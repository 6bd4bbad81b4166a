"""A wait's page lets a person claim it, release it, or hand it to someone else (S-72, S-81).

The forms call the operations of the API, for people whose role may answer, at a wait that they may see. A page hands a
wait only to someone who is known and may answer it: others would get it and not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Protocol

from starlette.responses import Response

from helmr.errors import BadRequest, Conflict, UsageError, WaitResolved, WaitTimedOut
from helmr.models import AssignRequest, ClaimRequest, WaitInfo
from helmr.wire.people import GROUP, answered_by, group_key
from helmr.wire.roles import Need, may
from helmr_runtime.core.answerers import Identity
from helmr_runtime.http.answer_flow import PageSubject, show_refused
from helmr_runtime.http.answer_page.page import HAND_FIELD, HAND_TO, HandingForm
from helmr_runtime.http.browser import Browser, PagePerson, see_other
from helmr_runtime.security.callbacks import CallbackForm
from helmr_runtime.service import Caller, Service

DONE = "done"
"""The query parameter of a page for the last action on its wait; the page shows it while it still holds."""

OFFERED_MAX = 200
"""People and groups offered; any other name can be typed."""

OLD = "The page was open for long. Please do it once more."


class Hand(StrEnum):
    """The action of a form."""

    CLAIM = "claim"
    TAKE_OVER = "take_over"
    RELEASE = "release"
    ASSIGN = "assign"
    UNASSIGN = "unassign"


class HandedWait(PageSubject, Protocol):
    """A wait on a page, with the signed-in person."""

    @property
    def service(self) -> Service: ...
    @property
    def wait(self) -> WaitInfo: ...
    @property
    def who(self) -> PagePerson: ...
    @property
    def caller(self) -> Caller: ...
    @property
    def browser(self) -> Browser: ...
    @property
    def typed(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def done(self) -> str: ...
    @property
    def may_see(self) -> bool: ...
    @property
    def has_claim(self) -> bool: ...


async def form_of(asked: HandedWait) -> HandingForm | None:
    """The forms of a person at a wait; None if they may not hand it over."""
    wait, who = asked.wait, asked.who
    if not (wait.takes_answers and who.may_answer and asked.may_see):
        return None
    return HandingForm(
        nonce=asked.browser.nonce(who.form_id, _purpose(wait)),
        is_theirs=asked.has_claim,
        assignee=wait.assignee or "",
        choices=await _choices(asked.service, wait, who.proven.person.id),
        typed=next(iter(asked.typed.get(HAND_TO, ())), ""),
        done=asked.done,
    )


async def take(asked: HandedWait, sent: CallbackForm, location: str) -> Response:
    """Do the form's action, and redirect the browser to the page."""
    chosen = next(iter(sent.values.get(HAND_FIELD, ())), "")
    try:
        if chosen not in list(Hand) or not await form_of(asked):
            return see_other(location)
        if not asked.browser.is_own_form(asked.who.form_id, _purpose(asked.wait), sent.nonce):
            raise BadRequest(OLD)
        await _do(asked, Hand(chosen))
    except (WaitResolved, WaitTimedOut):  # the page says how it ended
        return see_other(location)
    except (UsageError, Conflict) as error:
        return await show_refused(asked.service, asked, error)
    return see_other(f"{location}?{DONE}={chosen}")


async def _do(asked: HandedWait, hand: Hand) -> None:
    claims, caller, wait = asked.service.claims, asked.caller, asked.wait
    match hand:
        case Hand.CLAIM | Hand.TAKE_OVER:
            request = ClaimRequest(override_claim=hand is Hand.TAKE_OVER)
            await claims.claim(caller, wait.id, request)
        case Hand.RELEASE:
            await claims.release(caller, wait.id)
        case Hand.ASSIGN | Hand.UNASSIGN:
            to = await _receiver(asked) if hand is Hand.ASSIGN else None
            await claims.assign(caller, wait.id, AssignRequest(assignee=to))
            if hand is Hand.ASSIGN and asked.has_claim:
                await claims.release(caller.fresh(), wait.id)


async def _receiver(asked: HandedWait) -> str:
    """The id of the person or group that the form names.

    Raises:
        BadRequest: No one has that name, or they may not answer the wait.
    """
    service, wait = asked.service, asked.wait
    view = service.people_view
    name = next(iter(asked.typed.get(HAND_TO, ())), "").strip()
    if not name:
        raise BadRequest("Write to whom it goes.")
    if not view.named.is_on:
        return name
    person = view.named.find(name)
    if person is None or await view.acting(person.id) is None:
        group = name if name.startswith(GROUP) else group_key(name)
        if group in _groups(service) or (name == group and view.named.settings.claims_groups):
            return group
        known = await _choices(service, wait, "")
        like = get_close_matches(name.casefold(), known, n=1)
        raise BadRequest(
            f"No one here is called {name}.{f' Did you mean {like[0]}?' if like else ''}"
        )
    if not may(view.named.role_of(person), Need.ANSWER):
        raise BadRequest(f"The role of {name} answers nothing.")
    if not admits(wait, view.identity(person)):
        said = answered_by(wait.answerers, wait.not_by, wait.approvals, signed=wait.signed)
        raise BadRequest(f"{name} may not answer it: it is answered {said}.")
    return person.id


def admits(wait: WaitInfo, identity: Identity) -> bool:
    """True if the wait admits the person, or may do so by groups of theirs that are not known."""
    answerers = frozenset(wait.answerers)
    is_named = not answerers or bool(identity.keys & answerers) or identity.groups is None
    return is_named and not identity.keys & {*wait.not_by}


async def _choices(service: Service, wait: WaitInfo, but: str) -> tuple[str, ...]:
    """People of `helmr.toml` who may answer, except one, and its groups."""
    view = service.people_view
    known = await view.known()
    found = [
        one.id
        for one in view.named.named.values()
        if one.id != but
        and known.get(one.id, {}).get("disabled_at") is None
        and may(view.named.role_of(one), Need.ANSWER)
        and admits(wait, view.identity(one))
    ]
    return (*sorted(found)[:OFFERED_MAX], *sorted(_groups(service))[:OFFERED_MAX])


def _groups(service: Service) -> set[str]:
    named = service.people_view.named.named.values()
    return {group_key(one) for person in named for one in person.groups}


def _purpose(wait: WaitInfo) -> str:
    return f"hand {wait.id}"
