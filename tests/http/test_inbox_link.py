"""The local admin's browser: a one-time link opens the inbox without `[people]`, and no copy of it does (S-116)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from helmr.person.inbox_link import VALID_FOR, inbox_link, made_at
from helmr_runtime.http.access import is_on_loopback
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.security.secrets import secret_hash
from tests.http.test_inbox import APPROVE, REGISTRY, asked, listed
from tests.http.test_sign_in_pages import Tab, hidden
from tests.service.stack import Stack

NOW = datetime(2026, 11, 30, 14, tzinfo=UTC)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    await stack.start(sessions_per_host=100)
    stack.service.base_url = stack.url
    yield stack
    await stack.stop()


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


def path_of(stack: Stack, key: str = "", at: datetime | None = None) -> str:
    link = inbox_link(stack.url, key or stack.key, at or stack.service.now())
    return link.removeprefix(stack.url)


async def pressed(tab: Tab, page: httpx.Response, **changes: str) -> httpx.Response:
    """What follows the page's button."""
    fields = {name: hidden(page, name) for name in ("state", "code")}
    return await tab.post("/sign-in/local", **{**fields, **changes})


def test_a_link_is_of_its_key_and_of_nothing_else() -> None:
    key, hashed = "hlmr_key_x", secret_hash("hlmr_key_x")
    code = inbox_link("http://127.0.0.1:1/", key, NOW).partition("code=")[2]
    assert key not in code
    assert made_at(hashed, code) == NOW
    at, random, mac = code.split(".")
    for other in (
        f"{int(at) + 1}.{random}.{mac}",
        f"{at}.{random}",
        f"{at}.{random}.é",
        "",
        "." * 99,
    ):
        assert made_at(hashed, other) is None
    assert made_at(secret_hash("another"), code) is None
    assert made_at("", code) is None


@pytest.mark.parametrize(
    ("host", "peer", "is_here"),
    [
        ("127.0.0.1:8700", "127.0.0.1", True),
        ("localhost:8700", "::1", True),
        ("[::1]:8700", "127.0.0.1", True),
        ("helmr.example.com", "127.0.0.1", False),
        ("127.0.0.1:8700", "192.0.2.7", False),
        ("localhost.example.com", "127.0.0.1", False),
        ("", "127.0.0.1", False),
    ],
)
def test_only_a_browser_of_this_machine_is_here(host: str, peer: str, is_here: bool) -> None:
    headers = [(b"host", host.encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (peer, 1)}

    async def receive() -> dict[str, object]:
        return {}

    assert is_on_loopback(Exchange(scope, receive)) is is_here


async def test_a_link_opens_the_inbox_once_and_looking_at_it_spends_nothing(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Publish?")
    tab, path = Tab(stack, opened), path_of(stack)
    prefetcher = Tab(stack, opened)
    assert (await prefetcher.get(path)).status_code == 200
    assert prefetcher.session is None
    page = await tab.get(path)
    assert (page.status_code, tab.session) == (200, None)
    sent = await pressed(tab, page)
    assert (sent.status_code, sent.headers["location"]) == (303, "/inbox")
    assert listed(await tab.get("/inbox")) == [wait]
    form = await tab.get(f"/inbox/{wait}")
    sent = await tab.post(f"/inbox/{wait}", nonce=hidden(form, "nonce"), **APPROVE)
    assert sent.status_code == 303, sent.text
    assert "The answer is recorded" in (await tab.get(f"/inbox/{wait}")).text
    by = (await stack.http.get(f"/v1/waits/{wait}")).json()["resolved_by"]
    assert (by["type"], by["name"]) == ("api_key", "local")
    other = Tab(stack, opened)
    over = await other.get(path)
    assert (over.status_code, "helmr inbox-link" in over.text) == (403, True)
    again = await pressed(prefetcher, page)
    assert (again.status_code, prefetcher.session) == (403, None)


async def test_a_link_that_is_not_good_signs_no_one_in(
    stack: Stack, opened: AsyncExitStack
) -> None:
    now = stack.service.now()
    for path in (
        path_of(stack, key="hlmr_key_other"),
        path_of(stack, at=now - VALID_FOR),
        path_of(stack, at=now + timedelta(minutes=5)),
        path_of(stack, at=now - timedelta(seconds=90)),  # of before this gateway
        "/sign-in/local",
        "/sign-in/local?code=1.2.3",
    ):
        assert (await Tab(stack, opened).get(path)).status_code == 403, path
    tab = Tab(stack, opened)
    page = await tab.get(path_of(stack))
    assert (await pressed(tab, page, state="x")).status_code == 403
    code, state = hidden(page, "code"), hidden(page, "state")
    foreign = await tab.post("/sign-in/local", site="cross-site", code=code, state=state)
    assert foreign.status_code == 403
    assert tab.session is None
    assert (await pressed(tab, await tab.get(path_of(stack)))).status_code == 303


async def test_a_restricted_wait_refuses_it_as_it_refuses_its_key(
    stack: Stack, opened: AsyncExitStack
) -> None:
    tab = Tab(stack, opened)
    await pressed(tab, await tab.get(path_of(stack)))
    for restriction in ({"answerers": ["group:finance"]}, {"not_by": ["eve"]}):
        wait = await asked(stack, "For others", **restriction)
        page = await tab.get(f"/inbox/{wait}")
        assert "Others answer this" in page.text
        assert "Send answer" not in page.text
        key = await stack.http.post(
            f"/v1/waits/{wait}/answer", json={"data": {"decision": "approve"}}
        )
        assert key.status_code == 403


async def test_the_runtimes_own_address_is_a_page_in_a_browser_only(
    stack: Stack, opened: AsyncExitStack
) -> None:
    await asked(stack, "Publish?")
    tab = Tab(stack, opened)
    page = await tab.get("/")
    assert (page.status_code, "Helmr runs here" in page.text) == (200, True)
    assert "question waits" not in page.text, "said to those who may see it"
    inbox = await tab.get("/inbox")
    assert (inbox.status_code, "helmr inbox-link" in inbox.text) == (404, True)
    assert "[people.ada]" in inbox.text
    program = await stack.http.get("/")
    assert (program.status_code, program.json()["code"]) == (404, "not_found")
    await pressed(tab, await tab.get(path_of(stack)))
    assert "1 question waits" in (await tab.get("/")).text
