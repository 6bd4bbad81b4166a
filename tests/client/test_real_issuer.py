"""Signing in at a real issuer, the npm package `oidc-provider`: by a browser, by another device, renewed (S-111).

Long: it needs Node, and npm, by which `make test-long` brings the package into `.bench`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from helmr.client.sign_in import (
    FRESH_S,
    IssuerFlow,
    KeptSignIn,
    KeptTokens,
    claims_of,
    read,
    sign_in,
    sign_out,
)
from helmr.errors import NotAllowed
from helmr.models import SignInInfo
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.client.npm import real_issuer
from tests.http.test_access_tokens import bearing
from tests.http.test_sessions import code_of
from tests.service.stack import Stack, until

STEPS_MAX = 20

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def issuer(project_root: Path) -> Iterator[str]:
    """Its URL."""
    with real_issuer(project_root) as url:
        yield url


@pytest.fixture
async def stack(tmp_path: Path, issuer: str) -> AsyncIterator[Stack]:
    async with stack_of(tmp_path, issuer) as found:
        yield found


@asynccontextmanager
async def stack_of(tmp_path: Path, issuer: str, **settings: str) -> AsyncIterator[Stack]:
    people = {
        "issuer": issuer,
        "client_id": "helmr",
        "domains": ["example.com"],
        "groups_claim": "groups",
        "ada": {"email": "ada@example.com"},
        **settings,
    }
    stack = Stack(tmp_path)
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


class Form(HTMLParser):
    """The first form of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._is_open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action, self._is_open = found.get("action", ""), True
        elif tag in ("input", "button") and self._is_open and found.get("name"):
            self.fields.setdefault(found["name"], found.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_open = False


def visit(page: str, login: str) -> None:
    """What a person does in a browser: types who they are, agrees, until there is nothing more to do."""
    with httpx.Client(follow_redirects=True, timeout=20) as browser:
        response = browser.get(page)
        for _ in range(STEPS_MAX):
            form = Form(response.text)
            if response.url.path == "/callback" or form.action is None:
                return
            fields = dict(form.fields)
            if "login" in fields:
                fields |= {"login": login, "password": "x"}
            response = browser.post(
                response.url.join(form.action or str(response.url)), data=fields
            )
        raise AssertionError(f"the issuer asks on and on: {response.url} {response.text[:500]}")


def by_browser(environ: dict[str, str], url: str, info: SignInInfo, login: str) -> KeptTokens:
    threads: list[threading.Thread] = []

    def show(page: str) -> None:
        threads.append(threading.Thread(target=visit, args=(page, login)))
        threads[-1].start()

    path = sign_in(environ, url, info, lambda flow: flow.by_browser(url, show))
    for thread in threads:
        thread.join()
    kept = read(path)
    assert kept is not None
    return kept


async def test_two_people_sign_in_by_browser_and_one_by_device_and_answer_as_themselves(
    stack: Stack, issuer: str, tmp_path: Path
) -> None:
    info = await stack.service.sign_ins.info()
    tokens = {}
    for login in ("ada", "grace"):
        environ = {"XDG_STATE_HOME": str(tmp_path / login)}
        kept = await asyncio.to_thread(by_browser, environ, stack.url, info, login)
        tokens[login] = kept.id_token
    device = {"XDG_STATE_HOME": str(tmp_path / "device")}

    def by_device(flow: IssuerFlow) -> KeptTokens:
        return flow.by_device(
            stack.url, lambda page, _: visit(page, "linus"), lambda _: time.sleep(0.05)
        )

    path = await asyncio.to_thread(sign_in, device, stack.url, info, by_device)
    of_device = await asyncio.to_thread(read, path)
    assert of_device is not None
    tokens["linus"] = of_device.id_token
    ids = {"ada": "ada", "grace": "grace@example.com", "linus": "linus@example.com"}
    for login, token in tokens.items():
        wait = (await stack.started())["session"]["wait"]["id"]
        async with bearing(stack, token) as http:
            answer = {"data": {"decision": "approve"}}
            assert (await http.post(f"/v1/waits/{wait}/answer", json=answer)).status_code == 200
        by = (await stack.http.get(f"/v1/waits/{wait}")).json()["resolved_by"]
        assert (by["type"], by["id"], by["via"]) == ("person", ids[login], f"{issuer}#{login}")
    _, identity, _ = await stack.service.sign_ins.person(tokens["ada"], "hash")
    assert identity.groups == ("finance",)


async def test_a_token_is_renewed_at_the_issuer_and_not_after_signing_out(
    stack: Stack, issuer: str, tmp_path: Path
) -> None:
    info = await stack.service.sign_ins.info()
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    kept = await asyncio.to_thread(by_browser, environ, stack.url, info, "ada")
    assert kept.refresh_token is not None
    issued_at = claims_of(kept.id_token)["iat"]
    await until(
        lambda: time.time() >= issued_at + 1
    )  # in the same second it would be the same token
    later = KeptSignIn(environ, stack.url, lambda: kept.taken_at_s + FRESH_S)
    renewed = await asyncio.to_thread(later.token)
    assert renewed != kept.id_token
    assert claims_of(renewed)["sub"] == "ada"
    async with bearing(stack, renewed) as http:
        assert (await http.get("/v1/whoami")).json()["principal"]["id"] == "ada"
    assert await asyncio.to_thread(sign_out, environ, stack.url)
    with pytest.raises(NotAllowed):
        await asyncio.to_thread(KeptSignIn(environ, stack.url).token)


async def test_who_has_no_verified_e_mail_is_no_one(
    stack: Stack, issuer: str, tmp_path: Path
) -> None:
    info = await stack.service.sign_ins.info()
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    kept = await asyncio.to_thread(by_browser, environ, stack.url, info, "eve")
    async with bearing(stack, kept.id_token) as http:
        response = await http.get("/v1/whoami")
    assert (response.status_code, code_of(response)) == (401, "unauthenticated")


async def test_an_issuer_that_says_groups_at_userinfo_alone_is_asked_there(
    project_root: Path, tmp_path: Path
) -> None:
    with real_issuer(project_root, by_userinfo=True) as issuer:
        async with stack_of(tmp_path / "data", issuer, groups_from="userinfo") as stack:
            info = await stack.service.sign_ins.info()
            environ = {"XDG_STATE_HOME": str(tmp_path)}
            kept = await asyncio.to_thread(by_browser, environ, stack.url, info, "ada")
            assert "groups" not in claims_of(kept.id_token)
            assert kept.access_token is not None
            headers = {"Helmr-Access-Token": kept.access_token}
            async with bearing(stack, kept.id_token) as http:
                alone = (await http.get("/v1/whoami")).json()
                both = (await http.get("/v1/whoami", headers=headers)).json()
            assert (alone["person"]["groups"], alone["groups_at"]) == ([], None)
            assert (both["person"]["groups"], both["groups_at"] is not None) == (["finance"], True)
