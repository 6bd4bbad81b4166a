"""The pages of a deputy: what the inbox lists, for whom they answer, what the delegator sees (S-118, S-142)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.http.test_inbox import REGISTRY, listed, tab_of
from tests.http.test_links import linked, path_of
from tests.http.test_people import as_person
from tests.http.test_sessions import code_of
from tests.http.test_sign_in_pages import hidden
from tests.service.stack import Stack

REFUND = '{"cents": 7}'


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    people = {"ada": {"groups": ["finance"]}, "fay": {"groups": ["finance"]}, "bo": {}, "dan": {}}
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=100)
    stack.service.base_url = stack.url
    yield stack
    await stack.stop()


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


async def delegate(stack: Stack, person: str, deputy: str = "bo") -> dict[str, Any]:
    until = (datetime.now(UTC) + timedelta(days=14)).isoformat()
    body = {"deputy": deputy, "ends_at": until}
    async with await as_person(stack, person) as http:
        made = await http.post(f"/v1/people/{person}/delegations", json=body)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


async def refund(stack: Stack, approvals: int = 1) -> str:
    return str((await stack.started("refund", approvals))["session"]["wait"]["id"])


async def test_a_deputy_finds_the_wait_says_for_whom_they_answer_and_both_see_the_end(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await refund(stack)
    link = path_of(await linked(stack, wait, "bo"))
    ada, bo, dan = [await tab_of(stack, opened, one) for one in ("ada", "bo", "dan")]
    assert (await bo.get(f"/inbox/{wait}")).status_code == 404
    made = await delegate(stack, "ada")
    page = await bo.get("/inbox")
    assert listed(page) == [wait]
    assert "<bdi>for ada</bdi>" in page.text
    assert "You answer as <b><bdi>bo for ada</bdi></b>" in (await bo.get(link)).text
    form = await bo.get(f"/inbox/{wait}")
    assert "You answer as <b><bdi>bo for ada</bdi></b>" in form.text
    assert "bo answers" in (await ada.get(f"/inbox/{wait}")).text
    assert (await dan.get(f"/inbox/{wait}")).status_code == 404
    sent = await bo.post(f"/inbox/{wait}", nonce=hidden(form, "nonce"), f=REFUND)
    assert sent.status_code == 303, sent.text
    for tab in (ada, bo):
        assert "The answer is recorded" in (await tab.get(f"/inbox/{wait}")).text
        assert listed(await tab.get("/inbox?show=answered")) == [wait]
    entry = (await stack.http.get(f"/v1/waits/{wait}")).json()["resolved_by"]
    assert (entry["id"], entry["on_behalf_of"]) == ("bo", "ada")
    async with await as_person(stack, "dan") as http:
        ended = await http.post(f"/v1/delegations/{made['id']}/end", json={})
        assert (ended.status_code, code_of(ended)) == (403, "role_denied")


async def test_the_deputy_of_several_chooses_for_whom_and_counts_once(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await refund(stack, 2)
    for one in ("ada", "fay"):
        await delegate(stack, one)
    bo, ada = await tab_of(stack, opened, "bo"), await tab_of(stack, opened, "ada")
    form = await bo.get(f"/inbox/{wait}")
    choice = form.text.partition('<select id="deputy_for"')[2].partition("</select>")[0]
    assert sorted(re.findall(r'<option value="([^"]+)"', choice)) == ["ada", "fay"]
    said = {"nonce": hidden(form, "nonce"), "f": REFUND}
    refused = await bo.post(f"/inbox/{wait}", **said)
    assert "deputy of" in refused.text
    form = await bo.get(f"/inbox/{wait}")
    said = {"nonce": hidden(form, "nonce"), "f": REFUND}
    sent = await bo.post(f"/inbox/{wait}", **said, deputy_for="ada")
    assert sent.status_code == 303, sent.text
    assert listed(await bo.get("/inbox")) == []
    assert listed(await ada.get("/inbox")) == []
    assert listed(await ada.get("/inbox?show=voted")) == [wait]
    page = await ada.get(f"/inbox/{wait}")
    assert "bo for ada stands for" in page.text
    assert "Your answer counts as one of 2" in page.text
