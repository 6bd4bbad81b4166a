"""People over HTTP: proven by keys of their own, recorded as themselves, disabled at once (S-111, S-117)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.client import AsyncClient
from helmr.errors import WaitResolved
from helmr.models import SendReceipt, VoteReceipt
from helmr_runtime.catalog import Registry
from helmr_runtime.core.commands import AssignWait, SessionCommand
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.core.people import DisablePerson
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.security.secrets import SecretKind, make_secret
from tests.http.test_access_tokens import bearing, key
from tests.http.test_sessions import code_of
from tests.service import vote_tasks
from tests.service.stack import BOUND_S, Stack, until

PEOPLE = read_people(
    {
        "domains": ["example.com"],
        "ada": {"email": "ada@example.com", "groups": ["finance"]},
        "root": {"role": "admin"},
        "eve": {"role": "viewer"},
    },
    "helmr.toml",
)
VOTERS = read_people({"ada": {"groups": ["finance"]}, "bo": {"groups": ["finance"]}}, "helmr.toml")
YES = {"data": {"decision": "approve"}}
REGISTRY = Registry([vote_tasks.refund, vote_tasks.then_a_token], code_hash="votes")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime that knows people."""
    stack = Stack(tmp_path, linger_s=0.05)
    stack.service = stack.make_service(people=PEOPLE)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start(sessions_per_host=20)
        yield stack
    finally:
        await stack.stop()


async def personal(stack: Stack, person: str, **parts: Any) -> dict[str, Any]:
    response = await stack.http.post("/v1/api-keys", json={"person": person, **parts})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def as_person(stack: Stack, person: str) -> httpx.AsyncClient:
    return bearing(stack, (await personal(stack, person))["secret"])


async def waiting(stack: Stack) -> str:
    return str((await stack.started())["session"]["wait"]["id"])


async def post(http: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    response = await http.post(path, json=body)
    assert response.status_code < 300, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_whoever_answers_with_a_personal_key_is_that_person_in_the_transcript(
    stack: Stack,
) -> None:
    made = await personal(stack, "ADA@example.com", expires_in="90d")
    assert (made["person"], made["name"], made["role"]) == ("ada", "ada", "operator")
    receipt = await stack.started()
    async with bearing(stack, made["secret"]) as http:
        me = (await http.get("/v1/whoami")).json()
        await post(http, f"/v1/waits/{receipt['session']['wait']['id']}/answer", **YES)
    who = {"type": "person", "id": "ada", "via": made["id"]}
    assert me["principal"] == {**who, "name": None, "on_behalf_of": None}
    assert (me["person"]["id"], me["person"]["groups"], me["role"]) == (
        "ada",
        ["finance"],
        "operator",
    )
    assert me["expires_at"] == made["expires_at"]
    path = f"/v1/sessions/{receipt['session']['id']}/transcript"
    entries = (await stack.http.get(path)).json()["items"]
    [accepted] = [one for one in entries if one["kind"] == "input.accepted"]
    assert {name: accepted["principal"][name] for name in who} == who
    assert accepted["body"]["mode"] == "person"


async def test_a_key_of_a_service_is_no_person_and_what_it_says_is_said(stack: Stack) -> None:
    async with bearing(stack, await key(stack, "sender", "app")) as http:
        me = (await http.get("/v1/whoami")).json()
        assert (me["person"], me["role"], me["principal"]["name"]) == (None, "sender", "app")
    async with stack.client(**{"On-Behalf-Of": "ADA@example.com"}) as http:
        me = (await http.get("/v1/whoami")).json()
        assert (me["person"], me["principal"]["on_behalf_of"]) == (None, "ada")


async def test_a_person_speaks_for_no_one_else_whatever_the_role(stack: Stack) -> None:
    secret = (await personal(stack, "root"))["secret"]
    for said, status in (("root", 200), ("%20", 200), ("ada", 403), ("local", 403)):
        async with bearing(stack, secret, **{"On-Behalf-Of": said}) as http:
            assert (await http.get("/v1/whoami")).status_code == status, said


async def test_a_personal_key_is_for_a_person_that_there_is_and_has_no_role_of_its_own(
    stack: Stack,
) -> None:
    for body, code in (
        ({"person": "mallory"}, "person_not_found"),
        ({"person": "mallory@example.org"}, "person_not_found"),
        ({"person": "ada", "role": "admin"}, "bad_request"),
        ({"role": "admin"}, "bad_request"),
        ({"name": "x"}, "bad_request"),
        ({"person": "ada", "expires_in": "soon"}, "bad_duration"),
    ):
        response = await stack.http.post("/v1/api-keys", json=body)
        assert code_of(response) == code, body


async def test_an_expired_key_opens_nothing_and_says_no_more_than_an_unknown_one(
    stack: Stack,
) -> None:
    made = await personal(stack, "ada", expires_in=0.3)
    unknown = make_secret(SecretKind.API_KEY)
    async with bearing(stack, made["secret"]) as http, bearing(stack, unknown) as other:

        async def is_over() -> bool:
            return (await http.get("/v1/whoami")).status_code == 401

        await until(is_over)
        answers = [(await one.get("/v1/whoami")).json() for one in (http, other)]
    assert answers[0] == answers[1]


async def test_a_role_is_the_persons_of_today(stack: Stack) -> None:
    async with await as_person(stack, "eve") as http:
        assert (await http.get("/v1/waits")).status_code == 200
        response = await http.post(f"/v1/waits/{await waiting(stack)}/answer", json=YES)
        assert code_of(response) == "role_denied"
    [listed] = (await stack.http.get("/v1/api-keys")).json()["items"]
    assert (listed["person"], listed["role"]) == ("eve", "viewer")


async def test_two_keys_of_a_person_are_one_person_at_a_claim(stack: Stack) -> None:
    wait = await waiting(stack)
    async with await as_person(stack, "ada") as one, await as_person(stack, "ada") as two:
        first = await post(one, f"/v1/waits/{wait}/claim")
        again = await post(two, f"/v1/waits/{wait}/claim")
        assert first["claim"]["since"] == again["claim"]["since"]
        assert again["claim"]["on_behalf_of"] == "ada"
    async with await as_person(stack, "grace@example.com") as other:
        response = await other.post(f"/v1/waits/{wait}/answer", json=YES)
        assert code_of(response) == "wait_claimed"
        assert "claimed by ada" in response.text


async def test_people_are_listed_shown_disabled_and_enabled(stack: Stack) -> None:
    listed = (await stack.http.get("/v1/people")).json()["items"]
    assert [one["id"] for one in listed] == ["ada", "eve", "root"]
    shown = (await stack.http.get("/v1/people/ada@example.com")).json()
    assert (shown["id"], shown["role"], shown["disabled_at"]) == ("ada", "operator", None)
    gone = await post(stack.http, "/v1/people/grace@example.com/disable", reason="left")
    assert (gone["id"], gone["reason"]) == ("grace@example.com", "left")
    listed = (await stack.http.get("/v1/people", params={"limit": 3})).json()
    assert [one["id"] for one in listed["items"]] == ["ada", "eve", "grace@example.com"]
    assert listed["next_cursor"] is not None
    back = await post(stack.http, "/v1/people/grace@example.com/enable")
    assert (back["disabled_at"], back["reason"]) == (None, None)
    assert code_of(await stack.http.get("/v1/people/mallory")) == "person_not_found"
    assert code_of(await stack.http.post("/v1/people/mallory/disable")) == "person_not_found"


async def test_disabling_ends_keys_and_links_and_gives_back_claims_and_assignments(
    stack: Stack,
) -> None:
    claimed, assigned, linked = [await waiting(stack) for _ in range(3)]
    await post(stack.http, f"/v1/waits/{assigned}/assign", assignee="ADA@example.com")
    url = (await post(stack.http, f"/v1/waits/{linked}/links", person="ada"))["url"]
    path = httpx.URL(url).path
    async with await as_person(stack, "ada") as http:
        await post(http, f"/v1/waits/{claimed}/claim")
        assert (await stack.http.get(path)).status_code == 200
        await post(stack.http, "/v1/people/ada/disable")
        assert (await http.get("/v1/whoami")).status_code == 401
        assert (await stack.http.get(path)).status_code == 404
        assert (await stack.http.post(path, json=YES)).status_code == 404
    found = {one: (await stack.http.get(f"/v1/waits/{one}")).json() for one in (claimed, assigned)}
    assert found[claimed]["claim"] is None
    assert found[assigned]["assignee"] is None
    await post(stack.http, "/v1/people/ada/enable")
    async with bearing(stack, "x") as anyone:
        assert (await anyone.get(path)).status_code == 404
    response = await stack.http.post("/v1/api-keys", json={"person": "ada"})
    assert response.status_code == 201


@pytest.mark.long  # test_a_flush_that_was_decided_before…
async def test_of_a_person_disabled_in_the_middle_of_200_answers_none_counts_after_the_moment(
    stack: Stack,
) -> None:
    waits = [await waiting(stack) for _ in range(40)]
    secret = (await personal(stack, "ada"))["secret"]
    async with AsyncExitStack() as open_:
        https = [await open_.enter_async_context(bearing(stack, secret)) for _ in range(4)]

        async def answer(number: int) -> int:
            path = f"/v1/waits/{waits[number % len(waits)]}/answer"
            return (await https[number % 4].post(path, json=YES)).status_code

        async def disable() -> None:
            await until(lambda: sum(one.done() for one in answers) >= 5)
            await post(stack.http, "/v1/people/ada/disable")

        answers = [asyncio.create_task(answer(number)) for number in range(200)]
        disabling = asyncio.create_task(disable())
        statuses = await asyncio.gather(*answers)
        await disabling
    assert {200, 401} <= set(statuses) <= {200, 401, 403, 409}
    feed = await stack.reads.feed(0, 10_000, 0)
    offset = next(one["feed_offset"] for one in feed if one["kind"] == "person.disabled")
    theirs = [one["feed_offset"] for one in feed if one["principal"]["type"] == "person"]
    assert theirs
    assert max(theirs) < offset


async def test_a_flush_that_was_decided_before_is_refused_after(stack: Stack) -> None:
    """The ledger looks at each flush: a host that has not heard of it can store nothing of theirs."""
    wait = await waiting(stack)
    async with await as_person(stack, "ada") as http:
        service = stack.service
        assert (await http.get("/v1/whoami")).status_code == 200
        known = await service.people_view.known()
        fact = DisablePerson(principal=RUNTIME, person="ada", names=("ada",))
        await stack.reads.fact(fact)
        service.people_view._known = known  # a gateway that has not heard of it either
        service.people_view.forget = lambda **_: None  # type: ignore[method-assign]
        service.api_keys.forget = lambda: None  # type: ignore[method-assign]
        response = await http.post(f"/v1/waits/{wait}/answer", json=YES)
        claim = await http.post(f"/v1/waits/{wait}/claim", json={})
        start = await http.post("/v1/tokens", json={})
    assert code_of(response) in ("person_disabled", "unauthenticated")
    assert {code_of(claim), code_of(start)} <= {"person_disabled", "unauthenticated"}
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"


async def test_people_with_keys_of_their_own_vote_and_take_a_vote_back(tmp_path: Path) -> None:
    stack = Stack(tmp_path, registry=Registry([vote_tasks.refund], code_hash="votes"))
    stack.service = stack.make_service(people=VOTERS)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    async with AsyncExitStack() as ends:
        ends.push_async_callback(stack.stop)
        await stack.start()
        keys = [stack.key, *[(await personal(stack, name))["secret"] for name in ("ada", "bo")]]
        admin, ada, bo = [
            await ends.enter_async_context(AsyncClient(url=stack.url, key=one)) for one in keys
        ]
        started = await admin.sessions.start_and_wait("refund", 2, timeout=20)
        [wait] = [one async for one in ada.waits.list(session_id=started.id)]
        counts = []
        for doing in (
            ada.waits.answer(wait.id, {"cents": 5}),
            bo.waits.withdraw(wait.id),  # who has none
            ada.waits.withdraw(wait.id),
            bo.waits.answer(wait.id, {"cents": 5}),
        ):
            receipt = await doing
            assert isinstance(receipt, VoteReceipt)
            counts.append((receipt.have, receipt.need))
        assert counts == [(1, 2), (1, 2), (0, 2), (1, 2)]
        ended = await ada.waits.answer(wait.id, {"cents": 5})
        assert isinstance(ended, SendReceipt)
        with pytest.raises(WaitResolved):
            await bo.waits.withdraw(wait.id)


async def test_disabling_goes_on_where_a_wait_of_theirs_ends_at_that_moment(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [await waiting(stack) for _ in range(2)]
    for wait in waits:
        await post(stack.http, f"/v1/waits/{wait}/assign", assignee="ada")
    command = stack.service.people._router.command

    async def answered_before(session_id: str, asked: SessionCommand) -> Any:
        if isinstance(asked, AssignWait):
            await post(stack.http, f"/v1/waits/{asked.wait_id}/answer", **YES)
        return await command(session_id, asked)

    monkeypatch.setattr(stack.service.people._router, "command", answered_before)
    assert (await post(stack.http, "/v1/people/ada/disable"))["id"] == "ada"
    shown = [(await stack.http.get(f"/v1/waits/{wait}")).json()["status"] for wait in waits]
    assert shown == ["fulfilled", "fulfilled"]


async def test_disabling_goes_on_where_a_wait_of_theirs_is_of_a_closed_session(
    voting: Stack,
) -> None:
    """Such a session's run may go on for a while, and no one assigns its waits any more."""
    body = {"task": "then_a_token", "payload": None, "result_timeout_s": BOUND_S}
    session = (await post(voting.http, "/v1/sessions", **body))["session"]
    await post(voting.http, f"/v1/sessions/{session['id']}/close", end_input=True)

    async def waits_for_ada() -> bool:
        listed = await voting.http.get("/v1/waits", params={"assignee": "ada"})
        return bool(listed.json()["items"])

    await until(waits_for_ada)
    assert (await post(voting.http, "/v1/people/ada/disable"))["disabled_at"] is not None


@pytest.fixture
async def voting(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime whose people vote; its sessions stay in memory."""
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    stack.service = stack.make_service(people=VOTERS)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start(sessions_per_host=100)
        yield stack
    finally:
        await stack.stop()


async def refund(stack: Stack, approvals: int = 2) -> str:
    return str((await stack.started("refund", approvals))["session"]["wait"]["id"])


async def test_the_vote_of_one_who_is_disabled_counts_no_more_also_before_it_is_taken_back(
    voting: Stack,
) -> None:
    """The gateway dies between the fact and what it takes back; no host has heard of it."""
    wait, path = await refund(voting), "/v1/people/ada/disable"
    answered = f"/v1/waits/{wait}/answer"
    async with await as_person(voting, "ada") as ada, await as_person(voting, "bo") as bo:
        assert (await post(ada, answered, data={"cents": 5}))["have"] == 1
        await voting.reads.fact(DisablePerson(principal=RUNTIME, person="ada", names=("ada",)))
        counted = await post(bo, answered, data={"cents": 5})
        assert (counted["outcome"], counted["have"]) == ("voted", 1)
        await post(voting.http, path)
        shown = (await voting.http.get(f"/v1/waits/{wait}")).json()
        assert (shown["status"], shown["voters"]) == ("pending", ["bo"])


async def test_one_who_is_enabled_again_answers_where_a_host_remembers_that_they_were_not(
    voting: Stack,
) -> None:
    await post(voting.http, "/v1/people/ada/disable")
    wait = await refund(voting)  # adopted now
    await post(voting.http, "/v1/people/ada/enable")
    async with await as_person(voting, "ada") as ada:
        receipt = await post(ada, f"/v1/waits/{wait}/answer", data={"cents": 5})
    assert receipt["outcome"] == "voted"


@pytest.mark.long  # one vote: test_the_vote_of_one…
async def test_of_200_votes_of_one_who_is_disabled_in_the_middle_none_counts_after_the_moment(
    voting: Stack,
) -> None:
    waits = [await refund(voting) for _ in range(50)]
    async with AsyncExitStack() as open_:
        ada = [await open_.enter_async_context(await as_person(voting, "ada")) for _ in range(4)]
        bo = await open_.enter_async_context(await as_person(voting, "bo"))
        five = {"data": {"cents": 5}}

        async def vote(number: int) -> int:
            path = f"/v1/waits/{waits[number % len(waits)]}/answer"
            http = bo if number % 8 == 7 else ada[number % 4]
            return (await http.post(path, json=five)).status_code

        async def disable() -> None:
            await until(lambda: sum(one.done() for one in votes) >= 20)
            await post(voting.http, "/v1/people/ada/disable")

        votes = [asyncio.create_task(vote(number)) for number in range(200)]
        disabling = asyncio.create_task(disable())
        statuses = await asyncio.gather(*votes)
        await disabling
        assert set(statuses) <= {200, 401, 403, 409}
        assert 200 in statuses
        assert {401, 403} & set(statuses), "some came behind it"
        # Whatever stands now is Bo's: one more vote of his resolves nothing.
        for wait in waits:
            await bo.post(f"/v1/waits/{wait}/answer", json=five)
    feed = await voting.reads.feed(0, 10_000, 0)
    offset = next(one["feed_offset"] for one in feed if one["kind"] == "person.disabled")
    theirs = [one["feed_offset"] for one in feed if one["principal"].get("id") == "ada"]
    assert theirs
    assert max(theirs) < offset
    ended = [one for one in feed if one["kind"] == "wait.fulfilled"]
    assert all(one["feed_offset"] < offset for one in ended)


async def test_a_wait_that_no_one_can_answer_ends_its_run_at_once_and_says_why(
    tmp_path: Path,
) -> None:
    named = {"ada": {"email": "ada@example.com", "groups": ["sales"]}}
    registry = Registry([vote_tasks.refund], code_hash="votes")
    stack = Stack(tmp_path, registry=registry)
    stack.service = stack.make_service(people=read_people(named, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start()
        started = await stack.started("refund", 1)
        run = await stack.run_until(started["session"]["run_id"], "failed", "waiting")
        assert run["status"] == "failed"
        assert "helmr.toml knows no group:finance" in str(run["error"])
    finally:
        await stack.stop()
