"""People say on a wait's page who works on it: they claim it, release it, hand it to another (S-72, S-81)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.person.inbox_link import inbox_link
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.http.test_access_tokens import bearing
from tests.http.test_inbox import APPROVE, FINANCE, REGISTRY, asked, listed, nonce_of, tab_of
from tests.http.test_links import linked, path_of
from tests.http.test_people import personal
from tests.http.test_sign_in_pages import Tab, hidden
from tests.service.stack import Stack

PEOPLE = {
    "ada": {"email": "ada@shop.example"},
    "bo": {"groups": ["finance"]},
    "dan": {"groups": ["finance"]},
    "eve": {"role": "viewer"},
    "kim": {},
}
SECTION = "Who works on it"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    people = read_people({**PEOPLE, "domains": ["example.com"]}, "helmr.toml")
    stack.service = stack.make_service(people=people)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=100)
    stack.service.base_url = stack.url
    yield stack
    await stack.stop()


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


def handed(page: httpx.Response, hand: str, **typed: str) -> dict[str, str]:
    """The fields of such a form, as a browser sends them."""
    assert f'name="hand" value="{hand}"' in page.text, hand
    return {"nonce": nonce_of(page, "hand"), "hand": hand, **typed}


async def sent(tab: Tab, path: str, hand: str, **typed: str) -> httpx.Response:
    """The page that a browser shows after such a form."""
    answer = await tab.post(path, **handed(await tab.get(path), hand, **typed))
    if answer.status_code != 303:
        return answer
    assert answer.headers["location"] == f"{path}?done={hand}"
    return await tab.get(answer.headers["location"])


async def found(stack: Stack, wait: str) -> dict[str, Any]:
    shown: dict[str, Any] = (await stack.http.get(f"/v1/waits/{wait}")).json()
    return shown


async def test_a_wait_is_claimed_taken_over_and_released(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Publish?")
    path = f"/inbox/{wait}"
    ada, bo = [await tab_of(stack, opened, one) for one in ("ada", "bo")]
    assert "No one has claimed it." in (await ada.get(path)).text
    assert "You are working on it" in (await sent(ada, path, "claim")).text
    claim = (await found(stack, wait))["claim"]
    assert claim["on_behalf_of"] == "ada"
    again = await sent(ada, path, "claim")
    assert "<dt>You are working on it</dt>" in again.text
    assert "Renew your claim" in again.text
    assert (await found(stack, wait))["claim"]["until"] > claim["until"]
    shown = await bo.get(path)
    assert "<dt>Someone is working on it</dt><dd><bdi>ada</bdi>, until" in shown.text
    assert "Take it over from <bdi>ada</bdi>" in shown.text
    assert "Answer although" in shown.text
    # A form that asks for less than to take it over changes nothing.
    refused = await bo.post(path, **{**handed(shown, "take_over"), "hand": "claim"})
    assert (refused.status_code, "ada is working on it." in refused.text) == (409, True)
    assert "You are working on it" in (await sent(bo, path, "take_over")).text
    assert (await found(stack, wait))["claim"]["on_behalf_of"] == "bo"
    # What an address says was done is shown only if it is so.
    assert "You are working on it" not in (await ada.get(f"{path}?done=claim")).text
    assert "You have released it" not in (await ada.get(f"{path}?done=release")).text
    assert "You have released it" in (await sent(bo, path, "release")).text
    assert (await found(stack, wait))["claim"] is None


async def test_a_claim_by_a_key_in_ones_name_is_another_claim(
    stack: Stack, opened: AsyncExitStack
) -> None:
    """As it is where an answer is taken: a name that a key says proves no one."""
    wait = await asked(stack, "Publish?")
    bo = await tab_of(stack, opened, "bo")
    behalf = {"On-Behalf-Of": "bo"}
    claimed = await stack.http.post(f"/v1/waits/{wait}/claim", json={}, headers=behalf)
    assert claimed.status_code == 200, claimed.text
    form = await bo.get(f"/inbox/{wait}")
    assert "Take it over from <bdi>bo</bdi>" in form.text
    fields = {**APPROVE, "nonce": nonce_of(form, "f/decision")}
    refused = await bo.post(f"/inbox/{wait}", **fields)
    assert (refused.status_code, "Tick the box" in refused.text) == (409, True)
    fields |= {"override_claim": "1", "nonce": nonce_of(refused, "f/decision")}
    assert (await bo.post(f"/inbox/{wait}", **fields)).status_code == 303


async def test_a_wait_is_handed_to_another_and_back_to_no_one(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Publish?")
    path = f"/inbox/{wait}"
    ada, bo = [await tab_of(stack, opened, one) for one in ("ada", "bo")]
    await sent(ada, path, "claim")
    done = await sent(ada, path, "assign", hand_to=" bo ")
    assert "Handed to <bdi>bo</bdi>" in done.text
    assert "It is assigned to <b><bdi>bo</bdi></b>" in done.text
    shown = await found(stack, wait)
    assert (shown["assignee"], shown["claim"]) == ("bo", None), "who hands it on is off it"
    assert listed(await bo.get("/inbox?show=mine")) == [wait]
    assert listed(await ada.get("/inbox?show=mine")) == []
    for typed, assignee in (
        ("ada@shop.example", "ada"),
        ("new@example.com", "new@example.com"),
        ("finance", "group:finance"),
        ("group:finance", "group:finance"),
    ):
        await sent(bo, path, "assign", hand_to=typed)
        assert (await found(stack, wait))["assignee"] == assignee
    assert "It is assigned to no one" in (await sent(bo, path, "unassign")).text
    assert (await found(stack, wait))["assignee"] is None
    entries = (await stack.http.get(f"/v1/sessions/{shown['session_id']}/transcript")).json()
    by = [one["principal"]["id"] for one in entries["items"] if one["kind"] == "wait.assigned"]
    assert (by[0], {*by[1:]}) == ("ada", {"bo"})


async def test_a_name_to_which_nothing_can_go_is_said_and_kept_and_nothing_is_done(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Refund?", answerers=FINANCE)
    path = f"/inbox/{wait}"
    bo = await tab_of(stack, opened, "bo")
    form = await bo.get(path)
    assert '<option value="dan">' in form.text
    assert '<option value="kim">' not in form.text, "who may not answer it"
    assert '<option value="bo">' not in form.text, "oneself"
    await stack.http.post("/v1/people/dan/disable", json={})
    for typed, why in (
        ("", "Write to whom it goes."),
        ("dam", "No one here is called dam."),
        ("Boo", "Did you mean bo?"),
        ("dan", "No one here is called dan."),
        ("<b>", "No one here is called &lt;b&gt;."),
        ("group:nope", "No one here is called group:nope."),
        ("eve", "The role of eve answers nothing."),
        ("kim", "kim may not answer it: it is answered by group finance."),
    ):
        refused = await sent(bo, path, "assign", hand_to=typed)
        assert refused.status_code == 400, typed
        assert why in refused.text.partition("Nothing was recorded")[2], typed
        if typed:
            details = refused.text.partition("<details open><summary>Hand it to")[2]
            assert f'value="{typed.replace("<b>", "&lt;b&gt;")}"' in details
    assert (await found(stack, wait))["assignee"] is None


async def test_only_a_form_of_this_session_and_of_this_wait_counts(
    stack: Stack, opened: AsyncExitStack
) -> None:
    """Each form, with each nonce that is not its own, and from another site."""
    wait, other = await asked(stack, "Publish?"), await asked(stack, "Another?")
    path = f"/inbox/{wait}"
    ada, bo = [await tab_of(stack, opened, one) for one in ("ada", "bo")]
    page = await ada.get(path)
    own = handed(page, "claim")
    nonces = [
        "",
        "x",
        hidden(page, "nonce"),  # to sign out
        handed(await ada.get(f"/inbox/{other}"), "claim")["nonce"],
        handed(await bo.get(path), "claim")["nonce"],
    ]
    for nonce in nonces:
        for hand in ("claim", "take_over", "assign", "unassign", "release"):
            fields = {"hand": hand, "hand_to": "bo", "nonce": nonce}
            refused = await ada.post(path, **fields)
            assert (refused.status_code, "once more" in refused.text) == (400, True), fields
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    forged = await ada.http.post(path, data=own, headers=headers)
    assert forged.status_code == 403
    for hand in ("", "everything"):
        assert (await ada.post(path, **{**own, "hand": hand})).status_code == 303
    shown = await found(stack, wait)
    assert (shown["status"], shown["claim"], shown["assignee"]) == ("pending", None, None)
    # Without a sign-in the form is kept, as an answer is, and counts for nothing when it comes again.
    stranger = Tab(stack, opened)
    kept = await stranger.post(path, **own)
    assert (kept.status_code, "Nothing was recorded yet" in kept.text) == (403, True)


async def test_only_those_who_may_answer_say_who_works_on_it(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Refund?", answerers=FINANCE)
    link = path_of(await linked(stack, wait))
    kim, bo = [await tab_of(stack, opened, one) for one in ("kim", "bo")]
    assert (await kim.get(f"/inbox/{wait}")).status_code == 404
    others = await kim.get(link)
    assert "Others answer this" in others.text
    assert SECTION not in others.text
    own = await bo.get(link)
    assert SECTION in own.text
    fields = {**handed(own, "assign"), "hand_to": "kim"}
    await kim.post(link, **fields)
    await kim.post(f"/inbox/{wait}", **fields)
    assert (await found(stack, wait))["assignee"] is None
    assert "Handed to <bdi>dan</bdi>" in (await sent(bo, link, "assign", hand_to="dan")).text
    # A link of a wait that anyone may answer proves no one.
    anyone = path_of(await linked(stack, await asked(stack, "Publish?")))
    assert SECTION not in (await bo.get(anyone)).text


async def test_it_ends_with_the_wait(stack: Stack, opened: AsyncExitStack) -> None:
    wait = await asked(stack, "Publish?")
    path = f"/inbox/{wait}"
    ada, bo = [await tab_of(stack, opened, one) for one in ("ada", "bo")]
    late = handed(await ada.get(path), "assign", hand_to="bo")
    form = await bo.get(path)
    await sent(bo, path, "claim")
    answer = await bo.post(path, nonce=nonce_of(form, "f/decision"), **APPROVE)
    assert answer.status_code == 303, "who has claimed it answers it"
    assert SECTION not in (await bo.get(path)).text
    after = await ada.post(path, **late)
    assert (after.status_code, after.headers["location"]) == (303, path)
    assert "bo</bdi> answered it first" in (await ada.get(path)).text


async def test_the_holder_of_the_local_key_claims_as_that_key(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Publish?")
    path = f"/inbox/{wait}"
    tab = Tab(stack, opened)
    page = await tab.get(inbox_link(stack.url, stack.key, stack.service.now()))
    await tab.post("/sign-in/local", state=hidden(page, "state"), code=hidden(page, "code"))
    assert "You are working on it" in (await sent(tab, path, "claim")).text
    assert "Answer although" not in (await tab.get(path)).text
    async with bearing(stack, (await personal(stack, "bo"))["secret"]) as http:
        assert (await http.post(f"/v1/waits/{wait}/claim", json={})).status_code == 409
    assert "Handed to <bdi>kim</bdi>" in (await sent(tab, path, "assign", hand_to="kim")).text
