"""One refund that two of finance must allow: every way in tried by each wrong person, then by the right two (S-112).

The console runs in this process and `helmr next` on a terminal; service, HTTP, pages and MCP are those of the same
runtime, and everyone has signed in at an issuer behind a real HTTP server. The table of all ways at the service is in
`tests/service/test_who_may_answer.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.errors import NotAnAnswerer
from helmr.models import AnswerRequest
from helmr.wire.roles import Role
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.service import Caller
from tests.cli.test_next import Person
from tests.console.flow.bench import Bench, benched
from tests.features.mcp.clients import connected
from tests.http.issuer import CLIENT, serving
from tests.http.refund_tasks import REGISTRY, TWO_ABOVE
from tests.http.test_access_tokens import bearing
from tests.http.test_links import linked, path_of
from tests.http.test_sessions import code_of
from tests.http.test_sign_in_pages import PageProvider, Tab, hidden
from tests.service.stack import BOUND_S, Stack

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking, pytest.mark.timeout(180)]

EUROS = 1_200
YES = {"decision": "approve", "euros": EUROS}
GROUPS = {"ada": "finance", "bo": "finance", "cy": "sales", "eve": "finance"}
WRONG = ("cy", "eve")
"""One of another group, and the one who started it, an admin."""
WHO_MAY = "by 2 people: group finance, but not by starter or eve"


class House:
    """The runtime, its issuer and everyone's credentials."""

    def __init__(self, bench: Bench, issuer: PageProvider, folder: Path) -> None:
        self.bench = bench
        self.stack = bench.stack
        self.issuer = issuer
        self.folder = folder
        self.opened = AsyncExitStack()
        self.wait = ""
        self.link = ""

    def claims(self, name: str) -> dict[str, Any]:
        return {"sub": f"u-{name}", "email": f"{name}@example.com", "groups": [GROUPS[name]]}

    def token(self, name: str) -> str:
        """An ID token of theirs."""
        return self.issuer.token(0, **self.claims(name))

    async def tab(self, name: str, path: str) -> tuple[Tab, httpx.Response]:
        """A browser in which they have signed in on the way to that page; the page."""
        self.issuer.who = self.claims(name)
        tab = Tab(self.stack, self.opened)
        return tab, await tab.sign_in(path)

    async def person(self) -> Person:
        """Someone at a terminal."""
        found = Person(self.stack, self.folder)
        self.opened.push_async_callback(found.terminal.close)
        return found

    async def recorded(self) -> tuple[int, list[str]]:
        """How many entries the session has, and who has voted."""
        wait = (await self.stack.http.get(f"/v1/waits/{self.wait}")).json()
        session = (await self.stack.http.get(f"/v1/sessions/{wait['session_id']}")).json()
        return session["last_seq"], wait["voters"]


@pytest.fixture
def issuer() -> Iterator[PageProvider]:
    with serving(PageProvider) as found:
        yield found


@pytest.fixture
async def house(
    issuer: PageProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    people = {
        "issuer": issuer.url,
        "client_id": CLIENT,
        "groups_claim": "groups",
        **{name: {"email": f"{name}@example.com"} for name in GROUPS},
        "eve": {"email": "eve@example.com", "role": "admin"},
    }

    def made(folder: Path) -> Stack:
        stack = Stack(folder, registry=REGISTRY)
        stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
        stack.gateway = GatewayActor(stack.service, stack.settings())
        return stack

    async with benched(made, tmp_path, monkeypatch) as bench:
        bench.stack.service.base_url = bench.stack.url
        sign = issuer.token
        monkeypatch.setattr(  # all clocks are the test's
            issuer, "token", lambda _, **claims: sign(bench.clock.now().timestamp(), **claims)
        )
        found = House(bench, issuer, tmp_path)
        async with found.opened:
            yield found


# --- the ways in, for one who may not -------------------------------------------------------------


async def at_the_service(house: House, name: str) -> None:
    service, token = house.stack.service, house.token(name)
    _, identity, principal = await service.sign_ins.person(token, token[-40:])
    caller = Caller(principal, role=Role.OPERATOR, identity=identity)
    with pytest.raises(NotAnAnswerer, match=WHO_MAY):
        await service.waits.answer(caller, house.wait, AnswerRequest(data=YES))


async def over_http(house: House, name: str) -> None:
    async with bearing(house.stack, house.token(name)) as http:
        refused = await http.post(f"/v1/waits/{house.wait}/answer", json={"data": YES})
    assert (refused.status_code, code_of(refused)) == (403, "not_an_answerer")
    assert WHO_MAY in refused.json()["detail"]


async def over_mcp(house: House, name: str) -> None:
    async with connected(house.stack.url, house.token(name)) as client:
        called = await client.call_tool("helmr_answer", {"wait_id": house.wait, "data": YES})
    assert called.is_error
    assert WHO_MAY in str(called.content)


async def by_link(house: House, name: str) -> None:
    tab, page = await house.tab(name, house.link)
    assert "Others answer this" in page.text
    assert WHO_MAY in page.text
    sent = await tab.post(house.link, nonce="x", **{"f/decision": '"approve"'})
    assert (sent.status_code, WHO_MAY in sent.text) == (403, True)


async def on_the_page(house: House, name: str) -> None:
    """It shows them nothing of the wait, not even that there is one (S-118)."""
    tab, page = await house.tab(name, "/inbox")
    assert house.wait not in page.text
    path = f"/inbox/{house.wait}"
    assert (await tab.get(path)).status_code == 404
    assert (await tab.post(path, nonce="x", **{"f/decision": '"approve"'})).status_code == 404


async def in_the_console(house: House, name: str) -> None:
    bench = house.bench
    await bench.open(key=house.token(name), identity=name)
    await bench.inbox(1)
    await bench.sees("you may not answer: it is answered by 2")
    await bench.press("a")
    await bench.form()
    await bench.sees("To be read only: nothing can be sent from here")
    await bench.press("1", "ctrl+s", "ctrl+s")
    await bench.close()


async def by_helmr_next(house: House, name: str) -> None:
    person, key = await house.person(), house.token(name)
    await person.begins(me=name, HELMR_API_KEY=key)
    await person.reads("1 left out: for others to answer, or you have voted")
    await person.begins(command=("wait", "answer", house.wait), me=name, HELMR_API_KEY=key)
    await person.reads("you may not answer: it is answered by 2 people: group finance")


WAYS: tuple[Callable[[House, str], Awaitable[None]], ...] = (
    at_the_service,
    over_http,
    over_mcp,
    by_link,
    on_the_page,
    in_the_console,
    by_helmr_next,
)


async def without_a_sign_in(house: House) -> None:
    """A key that says a name, and whoever has the link."""
    answer = {"data": YES}
    path, said = f"/v1/waits/{house.wait}/answer", {"On-Behalf-Of": "ada"}
    by_key = await house.stack.http.post(path, headers=said, json=answer)
    async with httpx.AsyncClient(base_url=house.stack.url) as anyone:
        opened = await anyone.post(house.link, json=answer)
    for refused in (by_key, opened):
        assert (refused.status_code, code_of(refused)) == (403, "not_an_answerer")
        assert WHO_MAY in refused.json()["detail"]


async def test_a_refund_above_a_thousand_takes_two_of_finance_and_no_one_else_by_any_way(
    house: House,
) -> None:
    stack = house.stack
    async with bearing(stack, house.token("eve")) as http:
        body = {"task": "pay_back", "payload": {"euros": EUROS}, "result_timeout_s": BOUND_S}
        receipt = await http.post("/v1/sessions", json=body)
    assert receipt.status_code == 201, receipt.text
    started = receipt.json()
    house.wait = started["session"]["wait"]["id"]
    house.link = path_of(await linked(stack, house.wait, "ada"))
    before = await house.recorded()
    assert before[1] == []
    tries: list[Callable[[], Awaitable[None]]] = [
        partial(way, house, name) for way in WAYS for name in WRONG
    ]
    tries.append(partial(without_a_sign_in, house))
    for is_refused in tries:
        await is_refused()
        assert await house.recorded() == before, is_refused

    ada = await house.person()
    await ada.begins("--undo-for", "0s", me="ada", HELMR_API_KEY=house.token("ada"))
    assert f"Refund {EUROS} euros?" in await ada.reads("] ")
    await ada.types("1")
    await ada.reads("[1200]: ")
    await ada.types("")
    await ada.reads("1 accepted")
    assert (await house.recorded())[1] == ["ada"]
    bo, form = await house.tab("bo", house.link)
    assert "1 of 2 agree: ada stands for" in form.text
    fields = {"f/decision": '"approve"', "f/euros": str(EUROS)}
    sent = await bo.post(house.link, nonce=hidden(form, "nonce"), **fields)
    assert sent.status_code == 303, sent.text
    run = await stack.run_until(started["run"]["id"], "succeeded")
    assert run["result"] == ["approve", EUROS]

    entries = await house.bench.entries(started["session"]["id"])
    told = {one["kind"]: one for one in entries if one["kind"] in ("wait.voted", "wait.fulfilled")}
    by = {kind: (one["principal"]["id"], one["principal"]["via"]) for kind, one in told.items()}
    assert by == {
        "wait.voted": ("ada", f"{house.issuer.url}#u-ada"),
        "wait.fulfilled": ("bo", f"{house.issuer.url}#u-bo"),
    }
    assert list(told["wait.fulfilled"]["body"]["voters"]) == ["ada"]
    less = await stack.started("pay_back", {"euros": TWO_ABOVE})
    assert less["session"]["wait"]["approvals"] == 1
