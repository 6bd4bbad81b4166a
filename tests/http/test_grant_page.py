"""A person approves an agent's call on its page and allows calls like it for a while (S-107, S-118)."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.http.test_access_tokens import bearing
from tests.http.test_gate import NOW, REGISTRY, ask, asker, event, said, waiting
from tests.http.test_grants import PUSH, SECTIONS, verdict
from tests.http.test_inbox import tab_of
from tests.http.test_links import linked, path_of
from tests.http.test_people import personal
from tests.http.test_sign_in_pages import hidden
from tests.service.stack import Stack

OFFERED = "Approve, and allow calls like it for a while"
PEOPLE = {"ada": {"email": "ada@example.com"}, "bo": {}, "eve": {"role": "viewer"}}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with a gate, rules and people."""
    stack = Stack(tmp_path, registry=REGISTRY)
    people = read_people(PEOPLE, "helmr.toml")
    stack.service = stack.make_service(sections=SECTIONS, people=people)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=20)
    stack.service.base_url = stack.url
    yield stack
    await stack.stop()


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


def granting(page: httpx.Response, **typed: str) -> dict[str, str]:
    """The fields of the form that grants, as a browser sends them."""
    form = page.text.partition(OFFERED)[2]
    nonce = form.partition('name="nonce" value="')[2].partition('"')[0]
    shown = form.partition('name="grant_like_0" type="text" value="')[2].partition('"')[0]
    fields = {"grant_like_0": html.unescape(shown), "grant_for": "8h", **typed}
    return {"nonce": nonce, "grant": "1", **fields}


async def grants(stack: Stack) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await stack.http.get("/v1/gate/grants")).json()["items"]
    return items


async def test_a_call_is_approved_and_calls_like_it_allowed(
    stack: Stack, opened: AsyncExitStack
) -> None:
    ada = await tab_of(stack, opened, "ada")
    async with asker(stack) as http:
        asking = asyncio.ensure_future(ask(http, event(tool_input=PUSH)))
        (wait,) = await waiting(stack)
        path = f"/inbox/{wait['id']}"
        page = await ada.get(path)
        assert "<bdi>command</bdi> is like" in page.text
        assert granting(page)["grant_like_0"] == PUSH["command"]
        sent = await ada.post(path, **granting(page, grant_like_0="git push*", grant_for="2h"))
        assert (sent.status_code, sent.headers["location"]) == (303, path), sent.text
        assert said(await asking)[0] == "allow"
        (grant,) = await grants(stack)
        assert grant["matches"] == {"command": ["git push*"]}
        assert (grant["session_id"], grant["created_by"]["id"]) == (wait["session_id"], "ada")
        assert await verdict(http, "toolu_2", tool_input={"command": "git push"}) == "allow"
        done = await ada.get(path)
        assert "The answer is recorded" in done.text
        assert "Bash, command = git push*, until " in done.text
        # The same form again is too late: it grants nothing more.
        late = await ada.post(path, **granting(page))
        assert "The answer is recorded" in late.text
        assert await grants(stack) == [grant]


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({"tool_input": PUSH}, "Run this command?"),
        ({"tool_input": {"command": "x\n" * 300}}, "Run this command?"),
        (
            {
                "tool_name": "Edit",
                "tool_input": {
                    "file_path": "/srv/shop/a/pay.py",
                    "old_string": "a\n",
                    "new_string": "b\n",
                },
            },
            "Edit pay.py",
        ),
        ({"tool_name": "ExitPlanMode", "tool_input": {"plan": "x"}}, "Go on with this plan?"),
    ],
)
async def test_a_call_says_which_agent_asks_and_where_that_began(
    stack: Stack, opened: AsyncExitStack, changes: dict[str, Any], heading: str
) -> None:
    ada = await tab_of(stack, opened, "ada")
    async with asker(stack) as http:
        await verdict(http, "toolu_0", tool_input={"command": "git push --force"})  # in /srv/shop
        await ask(http, event(cwd="/srv/shop/a", model="m-1", **changes), **NOW)
        (wait,) = await waiting(stack)
        link = path_of(await linked(stack, wait["id"]))
        for page in (await ada.get(f"/inbox/{wait['id']}"), await ada.get(link)):
            text = html.unescape(page.text)
            assert '<bdi>claude-code</bdi> asks, in <code dir="auto">/srv/shop</code>' in text
            assert f'<h1 dir="auto">{heading}</h1>' in text
            assert "It works in <code>/srv/shop/a</code> now. Its model is m-1." in text
            assert "Asked by" not in text
            assert f"<title>{html.escape(wait['subject'][:10])}" in page.text
        rows = (await ada.get("/inbox")).text.partition('id="waits"')[2]
        assert "<bdi>claude-code</bdi>" in rows
        assert "helmr.gate.call" not in rows


async def test_what_can_not_be_granted_is_said_before_anything_is_recorded(
    stack: Stack, opened: AsyncExitStack
) -> None:
    ada = await tab_of(stack, opened, "ada")
    async with asker(stack) as http:
        await ask(http, event(tool_input=PUSH), **NOW)
        (wait,) = await waiting(stack)
        path = f"/inbox/{wait['id']}"
        page = await ada.get(path)
        for typed, status, why in (
            ({"grant_for": "soon"}, 400, "soon"),
            ({"grant_for": "30d"}, 400, "at most 7 days"),
            ({"grant_like_0": "git pull*"}, 409, "would not allow the call"),
            ({"grant_like_0": "x" * 2_000}, 400, "at most 1000 characters"),
        ):
            refused = await ada.post(path, **granting(page, **typed))
            assert refused.status_code == status, refused.text
            assert why in refused.text.partition("Nothing was recorded")[2], typed
            assert next(iter(typed.values())) in refused.text
            page = refused
        foreign = granting(page, nonce=hidden(page, "nonce"))
        assert (await ada.post(path, **foreign)).status_code == 200
        assert (await waiting(stack))[0]["status"] == "pending"
        assert await grants(stack) == []


async def test_only_whom_the_call_may_be_granted_by_gets_the_form(
    stack: Stack, opened: AsyncExitStack
) -> None:
    ada = await tab_of(stack, opened, "ada")
    async with asker(stack) as http:
        await ask(http, event(), **NOW)
        (wait,) = await waiting(stack)
        assert OFFERED in (await ada.get(f"/inbox/{wait['id']}")).text
        # A link answers one wait, and allows nothing else.
        link = path_of(await linked(stack, wait["id"]))
        stranger = httpx.AsyncClient(base_url=stack.url, headers={"Accept": "text/html"})
        async with stranger:
            page = await stranger.get(link)
            assert "Send answer" in page.text
            assert OFFERED not in page.text
            await stranger.post(link, data=granting(await ada.get(f"/inbox/{wait['id']}")))
        assert await grants(stack) == []
        # Another works on it.
        async with bearing(stack, (await personal(stack, "bo"))["secret"]) as bo:
            assert (await bo.post(f"/v1/waits/{wait['id']}/claim", json={})).status_code == 200
        assert OFFERED not in (await ada.get(f"/inbox/{wait['id']}")).text
        # A plan is another one each time.
        plan = event(call_id="toolu_2", tool_name="ExitPlanMode", tool_input={"plan": "x"})
        await ask(http, {**plan, "session_id": "agent-2"}, **NOW)
        asked = next(one for one in await waiting(stack, 2) if one["id"] != wait["id"])
        page = await ada.get(f"/inbox/{asked['id']}")
        assert page.status_code == 200
        assert OFFERED not in page.text
