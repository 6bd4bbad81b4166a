"""Every way in to a wait that says who may answer, by the right person and by each wrong one (S-112 to S-114)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.errors import BadFilter, GroupsUnknown, HelmrError, NotAmendable, NotAnAnswerer
from helmr.models import (
    AmendPreviewRequest,
    AmendRequest,
    AnswerLinkRequest,
    AnswerRequest,
    DisableRequest,
    ForkRequest,
    SendReceipt,
    SendRequest,
    StartRequest,
    VoteReceipt,
    WaitInfo,
    WaitsQuery,
    WaitStatus,
)
from helmr.wire.roles import Role
from helmr_runtime.catalog import Registry
from helmr_runtime.core.answerers import GROUPS_AGE_MAX, Identity
from helmr_runtime.core.entries import Principal
from helmr_runtime.service import Caller, Service
from tests.longer import long_but
from tests.service import vote_tasks
from tests.service.stack import BOUND_S, Stack, until

REGISTRY = Registry(
    [vote_tasks.refund, vote_tasks.refunds_of_a_day, vote_tasks.refunds_of_a_week],
    modules=["tests.service.vote_tasks"],
    code_hash="code-votes",
)
YES = {"cents": 5, "why": "late"}


def person(name: str, *groups: str, **more: Any) -> Caller:
    identity = Identity(id=name, names=(f"{name}@example.com",), groups=groups, **more)
    return Caller(Principal("person", name), role=Role.OPERATOR, identity=identity)


EVE, CY = person("eve", "finance"), person("cy", "sales")
"""Who starts the session, of finance too; and one who is of another group."""


def fresh(caller: Caller) -> Caller:
    return Caller(caller.principal, role=caller.role, identity=caller.identity)


ADA, BO = person("ada", "finance"), person("bo", "finance")
KEY = Caller(Principal("api_key", "key_1", "deploy-bot"), role=Role.OPERATOR)
SAID = Caller(Principal("api_key", "key_1", "deploy-bot", "ada"), role=Role.OPERATOR)
ADMIN = Caller(Principal("api_key", None, "local"), role=Role.ADMIN)
WRONG = {
    "another group": CY,
    "who started": EVE,
    "a key": KEY,
    "a said name": SAID,
    "an admin": ADMIN,
}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    await stack.start(sessions_per_host=100)
    yield stack
    await stack.stop()


async def asked(service: Service, approvals: int = 1) -> WaitInfo:
    """A new wait."""
    request = StartRequest(task="refund", payload=approvals, result_timeout_s=BOUND_S)
    found = (await service.sessions.start(fresh(EVE), request)).session.wait
    assert found is not None
    return found


async def by_answer(service: Service, wait: WaitInfo, caller: Caller) -> Any:
    return await service.waits.answer(caller, wait.id, AnswerRequest(data=YES))


async def by_batch(service: Service, wait: WaitInfo, caller: Caller) -> Any:
    request = AnswerRequest(data=YES, batch_id="monday")
    return await service.waits.answer(caller, wait.id, request)


async def by_override_of_claim(service: Service, wait: WaitInfo, caller: Caller) -> Any:
    request = AnswerRequest(data=YES, override_claim=True)
    return await service.waits.answer(caller, wait.id, request)


async def by_link(service: Service, wait: WaitInfo, caller: Caller) -> Any:
    """What the page behind a link does, which knows its person by the link only."""
    link = await service.links.create(fresh(ADMIN), wait.id, AnswerLinkRequest(person="ada"))
    through = Caller(Principal("link", link.id, None, "ada"), identity=caller.identity)
    return await service.waits.answer(through, wait.id, AnswerRequest(data=YES), link_id=link.id)


async def by_amendment(service: Service, wait: WaitInfo, caller: Caller) -> Any:
    if (await service.waits.get(wait.id)).status is WaitStatus.PENDING:
        await by_answer(service, wait, fresh(BO))
    shown = await service.corrections.preview_amend(wait.id, AmendPreviewRequest())
    request = AmendRequest(data={"cents": 1}, reason="a slip", preview_hash=shown.hash)
    return await service.corrections.amend(caller, wait.id, request)


async def by_fork(service: Service, wait: WaitInfo, caller: Caller) -> Any:
    request = ForkRequest(wait_id=wait.id, reason="what if", answer=YES)
    return await service.corrections.fork(caller, wait.session_id, request)


WAYS: tuple[Callable[[Service, WaitInfo, Caller], Awaitable[Any]], ...] = (
    by_answer,
    by_batch,
    by_override_of_claim,
    by_link,
    by_amendment,
    by_fork,
)


async def stored(service: Service, wait: WaitInfo) -> int:
    return (await service.sessions.get(wait.session_id)).last_seq


async def asks_again(service: Service, answered: WaitInfo) -> bool:
    """The code has gone on to its second wait."""
    now = (await service.sessions.get(answered.session_id)).wait
    return now is not None and now.id != answered.id


@long_but(2, "way", WAYS)
async def test_every_way_in_takes_the_right_person_and_no_other(
    stack: Stack, way: Callable[[Service, WaitInfo, Caller], Awaitable[Any]]
) -> None:
    service = stack.service
    wait = await asked(service)
    if way is by_amendment:
        await by_answer(service, wait, fresh(BO))
        await until(partial(asks_again, service, wait))
    for what, caller in WRONG.items():
        before = await stored(service, wait)
        with pytest.raises(NotAnAnswerer, match="it is answered by group finance") as refused:
            await way(service, wait, fresh(caller))
        is_link = way is by_link  # making the link is an entry
        assert await stored(service, wait) == before + is_link, what
        assert refused.value.facts["not_by"] == ["starter", "eve"]
    await way(service, wait, fresh(ADA))


async def test_a_send_to_its_stream_is_kept_for_another_wait(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service)
    for caller in (ADA, KEY, ADMIN):
        sent = await service.sessions.send(
            fresh(caller), wait.session_id, "refunds", SendRequest(data=YES)
        )
        assert sent.outcome == "unmatched"
    assert (await service.waits.get(wait.id)).status is WaitStatus.PENDING


async def test_groups_that_are_not_known_or_old_refuse_the_vote(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service)
    old = service.now() - GROUPS_AGE_MAX - timedelta(seconds=1)
    for groups in ({"groups": None}, {"groups": ("finance",), "groups_at": old}):
        identity = Identity(id="ada", **groups)
        caller = Caller(Principal("person", "ada"), role=Role.OPERATOR, identity=identity)
        with pytest.raises(GroupsUnknown):
            await by_answer(service, wait, caller)


async def test_the_page_of_a_link_says_who_may_answer_and_takes_no_form(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service, 2)
    said = {"cents": 5, "why": "its lens is cracked"}
    await service.waits.answer(fresh(BO), wait.id, AnswerRequest(data=said))
    link = await service.links.create(fresh(ADMIN), wait.id, AnswerLinkRequest(person="ada"))
    path = f"/v1/links/{link.url.rpartition('/')[2]}"
    before = await stored(service, wait)
    async with httpx.AsyncClient(base_url=stack.url, headers={"Accept": "text/html"}) as anyone:
        shown = await anyone.get(path)
        assert shown.status_code == 200
        assert "by 2 people: group finance, but not by starter or eve" in shown.text
        assert "1 of 2 agree so far" in shown.text
        assert "has to sign in" in shown.text
        assert "<form" not in shown.text
        assert "cracked" not in shown.text, "what a voter said"
        form = await anyone.post(path, data={"f": "{}", "nonce": "any"})
        assert (form.status_code, "has to sign in" in form.text) == (403, True)
        by_json = await anyone.post(path, json={"data": YES})
        assert (by_json.status_code, by_json.json()["code"]) == (403, "not_an_answerer")
    assert await stored(service, wait) == before
    await by_answer(service, wait, fresh(ADA))
    async with httpx.AsyncClient(base_url=stack.url, headers={"Accept": "text/html"}) as anyone:
        assert "already answered" in (await anyone.get(path)).text


async def test_two_people_agree_and_the_wait_shows_who_stands_for_what(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service, 2)
    first = await by_answer(service, wait, fresh(ADA))
    assert isinstance(first, VoteReceipt)
    assert (first.outcome, first.have, first.need) == ("voted", 1, 2)
    await service.waits.answer(fresh(BO), wait.id, AnswerRequest(data={"cents": 3}))
    shown = await service.waits.shown(fresh(ADA), wait.id)
    assert [(one.person, one.data["cents"]) for one in shown.votes] == [("ada", 5), ("bo", 3)]
    assert (shown.have, shown.approvals, shown.voters, shown.can_answer) == (
        1,
        2,
        ["ada", "bo"],
        False,
    )
    assert len({one.proposal for one in shown.votes}) == 2
    last = await service.waits.answer(fresh(ADA), wait.id, AnswerRequest(data={"cents": 3}))
    assert isinstance(last, SendReceipt)
    ended = await service.waits.get(wait.id)
    assert (ended.status, ended.have, ended.answer) == (WaitStatus.FULFILLED, 2, {"cents": 3})
    with pytest.raises(NotAmendable):
        await by_amendment(service, wait, fresh(ADA))


async def test_votes_of_a_disabled_person_are_taken_back_everywhere(stack: Stack) -> None:
    service = stack.service
    waits = [await asked(service, 2) for _ in range(3)]
    for wait in waits:
        await by_answer(service, wait, fresh(ADA))
    await by_answer(service, waits[0], fresh(BO))
    await service.people.disable(fresh(ADMIN), "ada", DisableRequest())
    for wait in waits[1:]:
        assert (await service.waits.get(wait.id)).voters == []
        receipt = await by_answer(service, wait, fresh(BO))
        assert receipt.have == 1


async def test_a_person_takes_their_own_vote_back_and_a_key_has_none(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service, 2)
    await by_answer(service, wait, fresh(ADA))
    for caller in (SAID, BO):
        assert (await service.waits.withdraw(fresh(caller), wait.id)).have == 1
    assert (await service.waits.withdraw(fresh(ADA), wait.id)).have == 0


@long_but(1, "approvals", [1, 2])
async def test_an_admin_overrides_with_a_reason_that_stays(stack: Stack, approvals: int) -> None:
    service = stack.service
    wait = await asked(service, approvals)
    request = AnswerRequest(data=YES, override_reason="both are ill")
    for caller in (KEY, ADA):
        with pytest.raises(NotAnAnswerer):
            await service.waits.answer(fresh(caller), wait.id, request)
    await service.waits.answer(fresh(ADMIN), wait.id, request)
    assert (await service.waits.get(wait.id)).override_reason == "both are ill"


async def ids(service: Service, caller: Caller, **wanted: Any) -> set[str]:
    query = WaitsQuery(**wanted)
    page = await service.waits.list(fresh(caller), query)
    counted = await service.waits.count(fresh(caller), query)
    assert (counted.count, counted.before) == (len(page.items), 0)
    assert counted.tasks == sorted({wait.task for wait in page.items})
    return {wait.id for wait in page.items}


async def test_each_sees_what_waits_for_them(stack: Stack) -> None:
    service = stack.service
    voted, other = await asked(service, 2), await asked(service, 2)
    await by_answer(service, voted, fresh(ADA))
    both = {voted.id, other.id}
    assert await ids(service, ADA, can_answer=True) == {other.id}
    assert await ids(service, BO, can_answer=True) == both
    assert await ids(service, CY, can_answer=True) == set()
    assert await ids(service, EVE, can_answer=True) == set()
    assert await ids(service, ADA, mine=True) == both
    assert await ids(service, CY, mine=True) == set()
    assert await ids(service, KEY, voter="ada") == {voted.id}
    assert await ids(service, KEY, answered_by="ada") == {voted.id}
    assert await ids(service, KEY, answerable_by=["bo", "group:finance"]) == both
    with pytest.raises(BadFilter):
        await ids(service, KEY, mine=True)


async def test_what_a_dry_run_shows_is_the_answer_of_all(stack: Stack) -> None:
    wait = await asked(stack.service, 2)
    shown = await stack.service.waits.dry_run(fresh(KEY), wait.id, AnswerRequest(data=YES))
    assert shown.ops, "the code went on to its next wait"


async def test_votes_outlive_the_host(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service, 2)
    await by_answer(service, wait, fresh(ADA))
    for name in tuple(stack.hosts):
        stack.kill(name, "killed by the test")

    async def answered() -> bool:
        try:
            receipt = await by_answer(service, wait, fresh(BO))
        except HelmrError as error:
            if not error.retryable:
                raise
            return False
        assert isinstance(receipt, SendReceipt)
        return True

    async with asyncio.timeout(BOUND_S):
        await until(answered)


async def test_who_started_the_parent_of_a_parent_does_not_answer_in_the_child(
    stack: Stack,
) -> None:
    service = stack.service
    await service.sessions.start(fresh(EVE), StartRequest(task="refunds_of_a_week", payload=None))

    found: list[WaitInfo] = []

    async def is_asked() -> bool:
        found[:] = (await service.waits.list(fresh(ADA), WaitsQuery(task="refund"))).items
        return bool(found)

    await until(is_asked)
    [wait] = found
    assert wait.not_by == ["starter", "eve"]
    with pytest.raises(NotAnAnswerer, match="can't be answered by eve"):
        await by_answer(service, wait, fresh(EVE))
    assert (await by_answer(service, wait, fresh(ADA))).outcome == "fulfilled"
