"""Two people sign in by browser at a real issuer and agree on a refund, by the inbox and by a link (S-112, S-113).

Long: it needs Node and npm, and a browser.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.client.npm import real_issuer
from tests.http.browsing import MARKS, chromium, tab_of
from tests.http.test_access_tokens import bearing
from tests.http.test_inbox import REGISTRY
from tests.http.test_links import linked, path_of
from tests.http.test_people import personal
from tests.http.test_sessions import code_of
from tests.service.stack import BOUND_S, Stack

pytestmark = [*MARKS, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def issuer(project_root: Path) -> Iterator[str]:
    """Its URL."""
    with real_issuer(project_root) as url:
        yield url


@pytest.fixture
async def stack(tmp_path: Path, issuer: str) -> AsyncIterator[Stack]:
    people = {
        "issuer": issuer,
        "client_id": "helmr",
        "domains": ["example.com"],
        "groups_claim": "groups",
        "ada": {"email": "ada@example.com"},
        "starter": {"groups": ["finance"], "role": "admin"},
    }
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=100)
    stack.service.base_url = stack.url
    yield stack
    await stack.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    async with chromium() as found:
        yield found


async def at_issuer(tab: Any, login: str) -> None:
    """What a person does there: says who they are, and agrees."""
    await tab.locator("input[name=login]").fill(login)
    await tab.locator("input[name=password]").fill("x")
    await tab.get_by_role("button", name="Sign-in").click()
    await tab.get_by_role("button", name="Continue").click()


async def test_a_refund_needs_two_of_finance_and_not_its_starter_over_page_and_link(
    stack: Stack, issuer: str, browser: Any
) -> None:
    starter = (await personal(stack, "starter"))["secret"]
    async with bearing(stack, starter) as http:
        body = {"task": "refund", "payload": 2, "result_timeout_s": BOUND_S}
        session = (await http.post("/v1/sessions", json=body)).json()["session"]
        wait = session["wait"]["id"]
        own = await http.post(f"/v1/waits/{wait}/answer", json={"data": {"cents": 5}})
        assert (own.status_code, code_of(own)) == (403, "not_an_answerer")
    link = path_of(await linked(stack, wait, "grace@example.com"))

    ada = await tab_of(browser, stack.url)
    await ada.goto("/inbox")
    await ada.get_by_role("link", name="Sign in with").click()
    await at_issuer(ada, "ada")
    await ada.get_by_role("link", name="Refund?").click()
    await ada.get_by_role("button", name="Send answer").click()
    await ada.get_by_text("You answered 5. 1 of 2 agree").wait_for()

    cy = await tab_of(browser, stack.url)
    await cy.goto(link)
    await cy.get_by_role("link", name="Sign in").click()
    await cy.get_by_role("link", name="Sign in with").click()
    await at_issuer(cy, "cy")
    await cy.get_by_role("heading", name="Others answer this").wait_for()
    assert await cy.get_by_text("but not by starter").is_visible()
    assert not await cy.get_by_role("button", name="Send answer").is_visible()

    grace = await tab_of(browser, stack.url)
    await grace.goto(link)
    await grace.get_by_role("link", name="Sign in").click()
    await grace.get_by_role("link", name="Sign in with").click()
    await at_issuer(grace, "grace")
    assert await grace.get_by_text("ada stands for").is_visible()
    await grace.get_by_role("button", name="Send answer").click()
    await grace.get_by_role("heading", name="The answer is recorded").wait_for()

    path = f"/v1/sessions/{session['id']}/transcript"
    entries = (await stack.http.get(path)).json()["items"]
    [vote] = [one for one in entries if one["kind"] == "wait.voted"]
    [end] = [one for one in entries if one["kind"] == "wait.fulfilled"]
    assert [(one["principal"]["id"], one["principal"]["via"]) for one in (vote, end)] == [
        ("ada", f"{issuer}#ada"),
        ("grace@example.com", f"{issuer}#grace"),
    ]

    # The issuer knows the browser still, and asks a client of this type for consent alone.
    await ada.get_by_role("button", name="Sign out").click()
    await ada.goto("/inbox")
    await ada.get_by_role("link", name="Sign in with").click()
    await ada.get_by_role("button", name="Continue").click()
    await ada.get_by_role("heading", name="For you").wait_for()
    # Who has no verified e-mail is no one.
    eve = await tab_of(browser, stack.url)
    await eve.goto("/inbox")
    await eve.get_by_role("link", name="Sign in with").click()
    await at_issuer(eve, "eve")
    await eve.get_by_role("heading", name="You are not signed in").wait_for()
