"""People sign in on pages: the form of a restricted wait behind a link, and every attack refused (S-112, S-116)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from helmr_runtime.catalog import Registry
from helmr_runtime.http.answer_page import LOCAL_SCRIPT, page_headers
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.security.secrets import SecretKind, make_secret
from helmr_runtime.service import sign_in
from helmr_runtime.service.browser_sessions import AGE_MAX, IDLE_MAX, PER_PERSON_MAX
from tests.client.test_signing_in import Provider
from tests.http.issuer import CLIENT, OTHER_RSA, serving
from tests.http.test_links import linked, path_of
from tests.http.test_people import personal
from tests.http.test_sign_in import signed_with, unsigned
from tests.service import vote_tasks
from tests.service.stack import BOUND_S, NO_TLS, Stack

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
REGISTRY = Registry(
    [vote_tasks.refund], modules=["tests.service.vote_tasks"], code_hash="code-pages"
)
ADA = {"sub": "u-1", "email": "ada@example.com", "groups": ["finance"]}
BO = {"sub": "u-2", "email": "bo@example.com", "groups": ["finance"]}
CY = {"sub": "u-3", "email": "cy@example.com", "groups": ["sales"]}


class PageProvider(Provider):
    """An issuer where `who` is signed in; `claims` twists their tokens, `forge` replaces one."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.who: dict[str, Any] = ADA
        self.claims: dict[str, Any] = {}
        self.forge: Any = None
        self.posted: dict[str, str] = {}

    def post(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.posted = form
        return super().post(path, form)

    def _tokens(self, **claims: Any) -> dict[str, Any]:
        found = super()._tokens(**{**claims, **self.who, **self.claims})
        if self.forge is not None:
            found["id_token"] = self.forge(found["id_token"])
        return found


@pytest.fixture
def provider() -> Iterator[PageProvider]:
    with serving(PageProvider) as found:
        yield found


def people(issuer: str | None) -> dict[str, Any]:
    at_issuer = {"issuer": issuer, "client_id": CLIENT, "groups_claim": "groups"}
    return {
        **(at_issuer if issuer is not None else {}),
        "domains": ["example.com"],
        "ada": {"email": "ada@example.com"},
        "dan": {"groups": ["finance"]},
        "eve": {"groups": ["finance"], "role": "viewer"},
    }


async def started(folder: Path, issuer: str | None) -> Stack:
    stack = Stack(folder, registry=REGISTRY, linger_s=5.0)
    stack.service = stack.make_service(people=read_people(people(issuer), "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=100)
    stack.service.base_url = stack.url
    return stack


@pytest.fixture
async def stack(tmp_path: Path, provider: PageProvider) -> AsyncIterator[Stack]:
    """A runtime whose people sign in there, or with keys of their own."""
    stack = await started(tmp_path, provider.url)
    yield stack
    await stack.stop()


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


class Tab:
    """A browser without scripts: follows redirects, keeps cookies, says whence a request comes as browsers do."""

    def __init__(self, stack: Stack, opened: AsyncExitStack) -> None:
        self.url = stack.url
        self.http = httpx.AsyncClient(
            base_url=stack.url, timeout=BOUND_S, verify=NO_TLS, headers={"Accept": HTML}
        )
        opened.push_async_callback(self.http.aclose)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.http.get(path, follow_redirects=True, **more)

    async def post(self, path: str, site: str = "same-origin", **fields: str) -> httpx.Response:
        headers = {"Origin": "null", "Sec-Fetch-Site": site}
        return await self.http.post(path, data=fields, headers=headers)

    async def sign_in(self, return_to: str = "/sign-in") -> httpx.Response:
        return await self.get("/sign-in/issuer", params={"next": return_to})

    async def sign_in_with(self, secret: str, return_to: str = "/sign-in") -> httpx.Response:
        page = await self.get("/sign-in", params={"next": return_to})
        return await self.post("/sign-in", state=hidden(page, "state"), key=secret)

    @property
    def session(self) -> str | None:
        """The cookie."""
        return next((one.value for one in self.http.cookies.jar if "pending" not in one.name), None)


def hidden(page: httpx.Response, name: str, form: str = "") -> str:
    """The value of a hidden field; of the form that goes to an address, if that is said."""
    text = page.text.partition(f'action="{form}"')[2] if form else page.text
    if name == "nonce" and not form:
        text = text.rpartition("<main>")[2]
    found = re.search(f'name="{name}" value="([^"]*)"', text)
    assert found is not None, page.text
    return found[1]


def is_signed_out(page: httpx.Response) -> bool:
    return "Signed in as" not in page.text and "Your personal key" in page.text


async def restricted(stack: Stack, person: str = "ada", approvals: int = 1) -> tuple[str, str]:
    """The id of a new wait that finance answers, and the path of a link to it."""
    wait = (await stack.started("refund", approvals))["session"]["wait"]["id"]
    return wait, path_of(await linked(stack, wait, person))


async def status_of(stack: Stack, wait: str) -> str:
    return str((await stack.http.get(f"/v1/waits/{wait}")).json()["status"])


CENTS = {"f": '{"cents": 5}'}


# --- the link of a restricted wait ----------------------------------------------------------------


async def test_a_link_asks_for_a_sign_in_and_after_it_its_form_stands_there(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    wait, path = await restricted(stack)
    tab = Tab(stack, opened)
    page = await tab.get(path)
    assert "Sign in to answer" in page.text
    assert "<textarea" not in page.text
    to = re.search(r'href="(/sign-in\?next=[^"]+)"', page.text)
    assert to is not None
    choices = await tab.get(to[1])
    button = re.search(r'href="(/sign-in/issuer\?next=[^"]+)"', choices.text)
    assert button is not None
    form = await tab.get(button[1])
    assert str(form.url) == f"{stack.url}{path}"
    assert "Signed in as </span><b><bdi>ada@example.com</bdi></b>" in form.text
    sent = await tab.post(path, nonce=hidden(form, "nonce"), **CENTS)
    assert (sent.status_code, sent.headers["location"]) == (303, path), sent.text
    assert "The answer is recorded" in (await tab.get(path)).text
    found = (await stack.http.get(f"/v1/waits/{wait}")).json()
    assert (found["status"], found["mode"], found["answer"]) == (
        "fulfilled",
        "person",
        {"cents": 5},
    )
    by = found["resolved_by"]
    assert (by["type"], by["id"], by["via"]) == ("person", "ada", f"{provider.url}#u-1")


async def test_two_people_agree_by_one_link_and_a_third_is_told_who_may(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    wait, path = await restricted(stack, approvals=2)
    ada, bo, cy = (Tab(stack, opened) for _ in range(3))
    form = await ada.sign_in(path)
    assert (await ada.post(path, nonce=hidden(form, "nonce"), **CENTS)).status_code == 303
    voted = await ada.get(path)
    assert "1 of 2 agree: ada stands for 5" in voted.text
    assert "Your answer counts as one of 2" in voted.text
    provider.who = CY
    others = await cy.sign_in(path)
    assert "Others answer this" in others.text
    assert "by 2 people: group finance" in others.text
    refused = await cy.post(path, nonce="x", **CENTS)
    assert refused.status_code == 403
    provider.who = BO
    form = await bo.sign_in(path)
    assert "The link was made for <bdi>ada</bdi>" in form.text
    assert (await bo.post(path, nonce=hidden(form, "nonce"), **CENTS)).status_code == 303
    for tab in (ada, bo):
        recorded = (await tab.get(path)).text
        assert "The answer is recorded" in recorded
        assert "Recorded by <bdi>bo@example.com</bdi>. Also answered: <bdi>ada</bdi>." in recorded
    assert "This was already answered" in (await cy.get(path)).text
    assert await status_of(stack, wait) == "fulfilled"


async def test_a_person_without_an_issuer_signs_in_with_a_key_of_their_own(
    tmp_path: Path, opened: AsyncExitStack
) -> None:
    stack = await started(tmp_path, None)
    opened.push_async_callback(stack.stop)
    wait, path = await restricted(stack, "dan")
    made = await personal(stack, "dan")
    tab = Tab(stack, opened)
    assert "/sign-in/issuer" not in (await tab.get("/sign-in")).text
    assert (await tab.sign_in()).status_code == 404
    sent = await tab.sign_in_with(made["secret"], path)
    assert (sent.status_code, sent.headers["location"]) == (303, path), sent.text
    form = await tab.get(path)
    assert made["secret"] not in form.text
    assert (await tab.post(path, nonce=hidden(form, "nonce"), **CENTS)).status_code == 303
    by = (await stack.http.get(f"/v1/waits/{wait}")).json()["resolved_by"]
    assert (by["type"], by["id"], by["via"]) == ("person", "dan", made["id"])


async def test_only_a_living_personal_key_signs_in_and_the_rest_are_told_the_same(
    stack: Stack, opened: AsyncExitStack
) -> None:
    service_key = (
        await stack.http.post("/v1/api-keys", json={"role": "operator", "name": "app"})
    ).json()
    revoked = await personal(stack, "dan")
    await stack.http.delete(f"/v1/api-keys/{revoked['id']}")
    wrong = [service_key["secret"], revoked["secret"], make_secret("key"), "x", "", stack.key]
    for secret in wrong:
        tab = Tab(stack, opened)
        page = await tab.sign_in_with(secret)
        assert page.status_code == 401, secret
        assert "This is no personal key" in page.text
        assert tab.session is None


async def test_revoking_the_key_ends_what_it_signed_in(
    stack: Stack, opened: AsyncExitStack
) -> None:
    made = await personal(stack, "dan")
    tab = Tab(stack, opened)
    await tab.sign_in_with(made["secret"])
    assert "Signed in as </span><b><bdi>dan</bdi></b>" in (await tab.get("/sign-in")).text
    await stack.http.delete(f"/v1/api-keys/{made['id']}")
    assert is_signed_out(await tab.get("/sign-in"))


async def test_a_person_whose_role_does_not_answer_has_no_form(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait, path = await restricted(stack, "eve")
    tab = Tab(stack, opened)
    await tab.sign_in_with((await personal(stack, "eve"))["secret"])
    page = await tab.get(path)
    assert "Others answer this" in page.text
    assert (await tab.post(path, nonce="x", **CENTS)).status_code == 403
    assert await status_of(stack, wait) == "pending"


async def test_a_runtime_that_knows_no_people_has_nothing_to_sign_in_to(
    tmp_path: Path, opened: AsyncExitStack
) -> None:
    stack = Stack(tmp_path, registry=REGISTRY)
    opened.push_async_callback(stack.stop)
    await stack.start()
    _, path = await restricted(stack)
    tab = Tab(stack, opened)
    page = await tab.get("/sign-in")
    assert (page.status_code, "knows no people" in page.text) == (404, True)
    assert "helmr login" in (await tab.get(path)).text
    assert (await tab.post("/sign-in", key=stack.key)).status_code == 404


# --- the cookie -----------------------------------------------------------------------------------


async def test_the_cookie_is_the_browsers_alone_and_opens_no_route_of_the_api(
    stack: Stack, opened: AsyncExitStack
) -> None:
    tab = Tab(stack, opened)
    page = await tab.sign_in()
    [set_cookie] = [
        one
        for answer in (*page.history, page)
        for one in answer.headers.get_list("set-cookie")
        if "hlmr_web_" in one
    ]
    parts = {part.strip().lower() for part in set_cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= parts
    assert "secure" not in parts  # plain HTTP
    assert tab.session is not None
    for path in ("/v1/whoami", "/v1/waits", "/v1/sessions"):
        assert (await tab.http.get(path)).status_code == 401
    async with stack.client(Authorization=f"Bearer {tab.session}") as http:
        assert (await http.get("/v1/whoami")).status_code == 401


async def test_behind_https_the_cookie_is_secure_and_of_this_host_alone(
    tmp_path: Path, provider: PageProvider, opened: AsyncExitStack
) -> None:
    stack = await started(tmp_path, provider.url)
    opened.push_async_callback(stack.stop)
    stack.service.base_url = "https://helmr.example"
    tab = Tab(stack, opened)
    page = await tab.get("/sign-in")
    [cookie] = page.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-helmr_")
    assert "; Secure" in cookie
    assert "Domain" not in cookie


async def test_a_sign_in_makes_a_fresh_cookie_and_ends_the_one_before(
    stack: Stack, opened: AsyncExitStack
) -> None:
    """Else one who plants a cookie is signed in with the person."""
    tab, thief = Tab(stack, opened), Tab(stack, opened)
    await tab.sign_in()
    first = tab.session
    [name] = [one.name for one in tab.http.cookies.jar if one.value == first]
    planted = make_secret(SecretKind.BROWSER)
    victim = Tab(stack, opened)
    victim.http.cookies.set(name, planted, domain="127.0.0.1", path="/")
    assert is_signed_out(await victim.get("/sign-in"))
    await victim.sign_in()
    values = {one.value for one in victim.http.cookies.jar}
    assert any("hlmr_web_" in (value or "") and value != planted for value in values)
    thief.http.cookies.set(name, planted, domain="127.0.0.1", path="/")
    assert is_signed_out(await thief.get("/sign-in"))
    await tab.sign_in()
    assert tab.session not in (None, first)
    thief.http.cookies.clear()
    thief.http.cookies.set(name, first or "", domain="127.0.0.1", path="/")
    assert is_signed_out(await thief.get("/sign-in"))


async def test_a_cookie_opens_nothing_after_sign_out_wherever_it_is(
    stack: Stack, opened: AsyncExitStack
) -> None:
    _, path = await restricted(stack)
    tab, thief = Tab(stack, opened), Tab(stack, opened)
    form = await tab.sign_in(path)
    thief.http.cookies.update(tab.http.cookies)
    assert "Signed in as" in (await thief.get(path)).text
    out = await tab.post("/sign-out", nonce=hidden(form, "nonce", "/sign-out"))
    assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
    assert tab.session is None
    for one in (tab, thief):
        assert "Signed in as" not in (await one.get(path)).text
    late = await thief.post(path, nonce=hidden(form, "nonce"), **CENTS)
    assert late.status_code == 403


async def test_a_disabled_person_is_out_at_once_and_stays_out_when_enabled(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait, path = await restricted(stack)
    tab = Tab(stack, opened)
    form = await tab.sign_in(path)
    assert (await stack.http.post("/v1/people/ada/disable", json={})).status_code == 200
    late = await tab.post(path, nonce=hidden(form, "nonce"), **CENTS)
    assert late.status_code in (403, 404)  # the link was hers, too
    assert is_signed_out(await tab.get("/sign-in"))
    assert (await stack.http.post("/v1/people/ada/enable")).status_code == 200
    assert is_signed_out(await tab.get("/sign-in"))
    assert await status_of(stack, wait) == "pending"


async def test_enabling_at_once_brings_no_browser_back(
    stack: Stack, opened: AsyncExitStack
) -> None:
    tab = Tab(stack, opened)
    await tab.sign_in()
    await stack.http.post("/v1/people/ada/disable", json={})
    await stack.http.post("/v1/people/ada/enable")
    assert is_signed_out(await tab.get("/sign-in"))


async def test_an_account_that_was_unbound_is_out_and_binds_itself_to_no_one_again(
    stack: Stack, opened: AsyncExitStack
) -> None:
    tab = Tab(stack, opened)
    await tab.sign_in()
    assert (await stack.http.post("/v1/people/ada/unbind")).status_code == 200
    assert is_signed_out(await tab.get("/sign-in"))
    assert (await stack.http.get("/v1/people/ada")).json()["subject"] is None


async def test_a_session_ends_unused_after_hours_and_after_a_day_in_any_case(
    stack: Stack, provider: PageProvider
) -> None:
    sessions = stack.service.browser_sessions
    start, later = stack.service.now(), timedelta()
    sessions._now = lambda: start + later
    made = await personal(stack, "dan")
    hashed = stack.service.api_keys
    key = await hashed.find(_hash(made["secret"]))
    assert key is not None
    idle, used = make_secret(SecretKind.BROWSER), make_secret(SecretKind.BROWSER)
    for secret in (idle, used):
        await sessions.begin(secret, _hash(made["secret"]))
    while later + IDLE_MAX / 2 < AGE_MAX:
        later += IDLE_MAX / 2
        assert await sessions.find(used, is_used=True) is not None
        by_itself = await sessions.find(idle, is_used=False)
        assert (by_itself is not None) is (later < IDLE_MAX)
    later = AGE_MAX
    assert await sessions.find(used, is_used=True) is None
    assert len(sessions) == 0


async def test_a_person_has_so_many_browsers_and_the_unused_one_goes_first(
    stack: Stack,
) -> None:
    sessions = stack.service.browser_sessions
    hashed = _hash((await personal(stack, "dan"))["secret"])
    secrets = [make_secret(SecretKind.BROWSER) for _ in range(PER_PERSON_MAX + 1)]
    for secret in secrets[:-1]:
        await sessions.begin(secret, hashed)
    assert await sessions.find(secrets[0], is_used=True) is not None
    await sessions.begin(secrets[-1], hashed)
    found = [await sessions.find(secret, is_used=True) is not None for secret in secrets]
    assert found == [True, False, *[True] * (PER_PERSON_MAX - 1)]


def _hash(secret: str) -> str:
    from helmr_runtime.security.secrets import secret_hash

    return secret_hash(secret)


# --- attacks on the issuer's answer ---------------------------------------------------------------


async def begun(tab: Tab, provider: PageProvider) -> httpx.URL:
    """The address with the issuer's answer, before the browser has gone there."""
    to_issuer = await tab.http.get("/sign-in/issuer")
    assert to_issuer.status_code == 303, to_issuer.text
    back = await tab.http.get(to_issuer.headers["location"])
    return httpx.URL(back.headers["location"])


async def test_the_issuer_is_asked_with_state_nonce_and_challenge_and_told_the_verifier_last(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    tab = Tab(stack, opened)
    await tab.sign_in()
    asked = provider.asked
    assert asked["redirect_uri"] == f"{stack.url}/sign-in/callback"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["scope"] == "openid email profile"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert "client_secret" not in provider.posted
    assert provider.posted["code_verifier"] not in str(asked)
    assert len(stack.service.browser_sessions) == 1


@pytest.mark.parametrize("state", ["missing", "wrong", "of another browser"])
async def test_an_answer_counts_only_with_the_state_of_this_browser(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack, state: str
) -> None:
    """Else one who signs in could have a victim's browser finish that: it would then be theirs."""
    tab, attacker = Tab(stack, opened), Tab(stack, opened)
    answer = await begun(tab, provider)
    given = {
        "missing": answer.copy_remove_param("state"),
        "wrong": answer.copy_set_param("state", "x" * 43),
        "of another browser": await begun(attacker, provider),
    }[state]
    page = await tab.get(str(given))
    assert (page.status_code, "Please sign in again" in page.text) == (403, True)
    assert tab.session is None
    assert provider.refreshes == []  # no code was redeemed


async def test_an_answer_without_the_cookie_of_its_sign_in_counts_for_nothing(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    tab, other = Tab(stack, opened), Tab(stack, opened)
    answer = await begun(tab, provider)
    page = await other.get(str(answer))
    assert (page.status_code, other.session) == (403, None)
    assert "Signed in as" in (await tab.get(str(answer))).text


async def test_an_answer_counts_once(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    tab, thief = Tab(stack, opened), Tab(stack, opened)
    answer = await begun(tab, provider)
    thief.http.cookies.update(tab.http.cookies)
    await tab.get(str(answer))
    first = tab.session
    again = await tab.get(str(answer))
    assert (again.status_code, tab.session) == (403, first)
    replayed = await thief.get(str(answer))  # with the cookie of then
    assert (replayed.status_code, thief.session) == (403, None)
    assert len(stack.service.browser_sessions) == 1


async def test_a_sign_in_that_took_too_long_begins_again(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = Tab(stack, opened)
    answer = await begun(tab, provider)
    now = stack.service.now() + timedelta(minutes=11)
    monkeypatch.setattr(stack.service, "now", lambda: now)
    assert (await tab.get(str(answer))).status_code == 403


@pytest.mark.parametrize("nonce", [None, "replayed", 7])
async def test_a_token_counts_only_with_the_nonce_of_this_sign_in(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack, nonce: Any
) -> None:
    tab = Tab(stack, opened)
    provider.claims = {"nonce": nonce}
    page = await tab.sign_in()
    assert (page.status_code, tab.session) == (403, None)


@pytest.mark.parametrize("code", [None, "", "code-of-another", "two"])
async def test_a_code_that_is_not_of_this_sign_in_is_redeemed_by_no_verifier(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack, code: str | None
) -> None:
    """A code that was stolen from another browser fails at the issuer: the verifier is another."""
    tab, victim = Tab(stack, opened), Tab(stack, opened)
    stolen = (await begun(victim, provider)).params["code"]
    answer = await begun(tab, provider)
    if code == "two":
        given = f"{answer}&code={stolen}"
    elif code is None:
        given = str(answer.copy_remove_param("code"))
    else:
        given = str(answer.copy_set_param("code", stolen if code else ""))
    page = await tab.get(given)
    assert (page.status_code, tab.session) == (403, None)


async def test_the_issuer_gets_no_code_without_a_challenge(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    """One who takes the challenge out of the way there can't use what comes back."""
    tab = Tab(stack, opened)
    to_issuer = httpx.URL((await tab.http.get("/sign-in/issuer")).headers["location"])
    other = to_issuer.copy_set_param("code_challenge", "x" * 43)
    back = await tab.http.get(other)
    page = await tab.get(back.headers["location"])
    assert (page.status_code, tab.session) == (403, None)


@pytest.mark.parametrize("iss", ["https://evil.example", None])
async def test_another_issuer_may_not_answer(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack, iss: str | None
) -> None:
    tab = Tab(stack, opened)
    if iss is None:
        stack.service.sign_ins._issuer._document = {}  # type: ignore[union-attr]
        await stack.service.sign_ins._issuer.document()  # type: ignore[union-attr]
        document = dict(stack.service.sign_ins._issuer._document)  # type: ignore[union-attr]
        document["authorization_response_iss_parameter_supported"] = True
        stack.service.sign_ins._issuer._document = document  # type: ignore[union-attr]
    answer = await begun(tab, provider)
    given = answer.copy_set_param("iss", iss) if iss else answer.copy_remove_param("iss")
    page = await tab.get(str(given))
    assert (page.status_code, tab.session) == (403, None)


TOKENS: dict[str, dict[str, Any]] = {
    "for another client": {"aud": "other"},
    "of another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1},
    "without an e-mail that someone has verified": {"email_verified": False},
    "of an unknown domain": {"email": "ada@example.org"},
}


@pytest.mark.parametrize("attack", TOKENS)
async def test_a_token_that_is_not_good_signs_no_one_in(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack, attack: str
) -> None:
    tab = Tab(stack, opened)
    provider.claims = TOKENS[attack]
    page = await tab.sign_in()
    assert (page.status_code, tab.session) == (401, None)
    assert ("has verified no e-mail" in page.text) is ("email_verified" in TOKENS[attack])
    assert len(stack.service.browser_sessions) == 0


async def test_a_token_that_the_issuer_has_not_signed_signs_no_one_in(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    public = provider.key.as_pem(private=False)
    for forge in (
        unsigned,
        lambda token: signed_with(public, token),
        lambda token: token.rpartition(".")[0] + ".",
        lambda _: provider.token(1, key=OTHER_RSA),
        lambda _: "no token",
        lambda _: {"not": "text"},
    ):
        tab = Tab(stack, opened)
        provider.forge = forge
        page = await tab.sign_in()
        assert page.status_code in (401, 403)
        assert tab.session is None
    provider.forge = None
    assert "Signed in as" in (await Tab(stack, opened).sign_in()).text


async def test_a_key_rotated_between_two_sign_ins_is_found(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "KEYS_AGAIN_S", 0.0)
    tab = Tab(stack, opened)
    answer = await begun(tab, provider)
    provider.rotate()
    assert "Signed in as" in (await tab.get(str(answer))).text


async def test_another_account_with_the_same_e_mail_is_told_so(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    await Tab(stack, opened).sign_in()
    provider.who = {**ADA, "sub": "u-9"}
    tab = Tab(stack, opened)
    page = await tab.sign_in()
    assert (page.status_code, tab.session) == (409, None)


async def test_an_issuer_that_is_away_is_said_and_one_that_refuses_too(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    tab = Tab(stack, opened)
    answer = await begun(tab, provider)
    refused = await tab.get("/sign-in/callback?error=access_denied")
    assert refused.status_code == 403
    tab = Tab(stack, opened)
    answer = await begun(tab, provider)
    provider.is_away = True
    page = await tab.get(str(answer))
    assert page.status_code == 503
    assert "can&#39;t be reached" in page.text


# --- forged forms, other sites, frames ------------------------------------------------------------


async def test_a_form_counts_only_with_the_nonce_of_this_session_and_from_no_other_site(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    wait, path = await restricted(stack)
    tab, other = Tab(stack, opened), Tab(stack, opened)
    form = await tab.sign_in(path)
    provider.who = BO
    of_other = hidden(await other.sign_in(path), "nonce")
    anonymous = hidden(await Tab(stack, opened).get("/sign-in"), "state")
    for nonce in ("", of_other, anonymous, hidden(form, "nonce", "/sign-out")):
        again = await tab.post(path, nonce=nonce, **CENTS)
        assert (again.status_code, "Please check and send again" in again.text) == (422, True)
    good = hidden(form, "nonce")
    for site in ("cross-site", "same-site"):
        assert (await tab.post(path, site, nonce=good, **CENTS)).status_code == 403
    from_evil = await tab.http.post(
        path, data={"nonce": good, **CENTS}, headers={"Origin": "https://evil.example"}
    )
    assert from_evil.status_code == 403
    assert await status_of(stack, wait) == "pending"
    assert (await tab.post(path, nonce=good, **CENTS)).status_code == 303


async def test_no_other_site_signs_a_person_out_or_in(stack: Stack, opened: AsyncExitStack) -> None:
    tab, attacker = Tab(stack, opened), Tab(stack, opened)
    page = await tab.sign_in()
    assert (await tab.post("/sign-out", nonce="x")).status_code == 403
    nonce = hidden(page, "nonce", "/sign-out")
    assert (await tab.post("/sign-out", "cross-site", nonce=nonce)).status_code == 403
    # Another site's form comes without the cookie, and leaves it where it is.
    blind = await Tab(stack, opened).post("/sign-out", "cross-site")
    assert "set-cookie" not in blind.headers
    secret = (await personal(stack, "dan"))["secret"]
    state = hidden(await attacker.get("/sign-in"), "state")
    victim = Tab(stack, opened)
    await victim.get("/sign-in")
    forced = await victim.post("/sign-in", state=state, key=secret)
    assert (forced.status_code, victim.session) == (403, None)
    own = hidden(await victim.get("/sign-in"), "state")
    forced = await victim.post("/sign-in", "cross-site", state=own, key=secret)
    assert (forced.status_code, victim.session) == (403, None)
    assert "Signed in as" in (await tab.get("/sign-in")).text


async def test_a_sign_in_leads_to_no_other_site(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    for wanted in ("https://evil.example", "//evil.example", "/\\evil.example", "/v1/waits"):
        tab = Tab(stack, opened)
        page = await tab.sign_in(wanted)
        assert str(page.url) == f"{stack.url}/inbox"
        sent = await Tab(stack, opened).sign_in_with(
            (await personal(stack, "dan"))["secret"], wanted
        )
        assert sent.headers["location"] == "/inbox"


async def test_no_page_stands_in_a_frame_or_runs_another_script_than_the_one_that_says_times(
    stack: Stack, opened: AsyncExitStack
) -> None:
    _, path = await restricted(stack)
    tab = Tab(stack, opened)
    pages = [await tab.get("/sign-in"), await tab.get(path), await tab.sign_in(path)]
    pages += [*pages[-1].history[:1], await tab.post("/sign-in", key="x")]
    allowed = page_headers(LOCAL_SCRIPT)["Content-Security-Policy"].split("; ")
    runs = [one for one in allowed if one.startswith("script-src")]
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        is_of_a_wait = not page.request.url.path.startswith("/sign-in")
        assert [
            one for one in policy.split("; ") if one.startswith(("script", "connect"))
        ] == runs * is_of_a_wait
        assert (f"<script>{LOCAL_SCRIPT}</script>" in page.text) is is_of_a_wait
        assert page.text.count("<script") == is_of_a_wait
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["cache-control"] == "no-store"


async def test_a_sign_in_under_another_name_of_the_runtime_goes_to_the_one_that_the_issuer_knows(
    stack: Stack, opened: AsyncExitStack
) -> None:
    tab = Tab(stack, opened)
    other = await tab.http.get("/sign-in/issuer", headers={"Host": "localhost:1"})
    to = urlsplit(other.headers["location"])
    assert f"{to.scheme}://{to.netloc}{to.path}" == f"{stack.url}/sign-in/issuer"
    assert parse_qs(to.query)["next"] == ["/inbox"]


async def test_a_program_that_asks_a_page_is_answered_as_programs_are(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url, verify=NO_TLS) as http:
        answer = await http.get("/sign-in/callback?state=x&code=y")
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")


async def test_behind_a_proxy_that_signs_people_in_the_page_knows_them(
    tmp_path: Path, opened: AsyncExitStack
) -> None:
    table = {**people(None), "proxy_header": "X-Forwarded-Email", "proxies": ["127.0.0.1/32"]}
    table["dan"] = {"groups": ["finance"], "email": "dan@example.com"}
    stack = Stack(tmp_path, registry=REGISTRY)
    stack.service = stack.make_service(people=read_people(table, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    opened.push_async_callback(stack.stop)
    await stack.start()
    wait, path = await restricted(stack, "dan")
    tab = Tab(stack, opened)
    tab.http.headers["X-Forwarded-Email"] = "dan@example.com"
    form = await tab.get(path)
    assert "Signed in as" in form.text
    assert "/sign-out" not in form.text
    nonce = hidden(form, "nonce")
    assert (await tab.post(path, "cross-site", nonce=nonce, **CENTS)).status_code == 403
    assert (await tab.post(path, nonce="x", **CENTS)).status_code == 422
    assert (await tab.post(path, nonce=nonce, **CENTS)).status_code == 303
    by = (await stack.http.get(f"/v1/waits/{wait}")).json()["resolved_by"]
    assert (by["id"], by["via"]) == ("dan", "proxy")
