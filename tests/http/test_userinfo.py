"""Groups that an issuer says at userinfo alone: asked for when needed, of the same account only (S-114)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.cli.app import ExitCode
from helmr.cli.main import invoke
from helmr_runtime.catalog import Registry
from helmr_runtime.core.answerers import GROUPS_AGE_MAX
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.service import sign_in
from helmr_runtime.service.sign_in import DOCUMENT_BYTES_MAX, GROUPS_FRESH, NOT_AGAIN_FOR
from tests.http.issuer import CLIENT, serving
from tests.http.test_access_tokens import bearing
from tests.http.test_links import linked, path_of
from tests.http.test_sessions import code_of
from tests.http.test_sign_in_pages import CENTS, PageProvider, Tab, hidden
from tests.service import vote_tasks
from tests.service.stack import BOUND_S, Stack

REGISTRY = Registry(
    [vote_tasks.refund, vote_tasks.excluding],
    modules=["tests.service.vote_tasks"],
    code_hash="code-userinfo",
)
ACCESS = {"Helmr-Access-Token": "opaque-1"}
OF_ADA = {"sub": "u-1", "groups": ["finance"]}


@pytest.fixture
def issuer() -> Iterator[PageProvider]:
    with serving(PageProvider) as found:
        found.userinfo = OF_ADA
        found.who = {"sub": "u-1", "email": "ada@example.com"}
        yield found


@pytest.fixture
async def stack(tmp_path: Path, issuer: PageProvider) -> AsyncIterator[Stack]:
    people = {
        "issuer": issuer.url,
        "client_id": CLIENT,
        "groups_claim": "groups",
        "groups_from": "userinfo",
        "domains": ["example.com"],
        "ada": {"email": "ada@example.com"},
    }
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start(sessions_per_host=100)
        stack.service.base_url = stack.url
        yield stack
    finally:
        await stack.stop()


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


async def asked(stack: Stack, task: str = "refund", payload: Any = 1) -> str:
    """The id of a new wait."""
    body = {"task": task, "payload": payload, "result_timeout_s": BOUND_S}
    started = await stack.http.post("/v1/sessions", json=body)
    return str(started.json()["session"]["wait"]["id"])


def token_of(stack: Stack, issuer: PageProvider, **claims: Any) -> str:
    return issuer.token(stack.service.now().timestamp(), **claims)


async def answers(
    stack: Stack, token: str, wait: str, access: bytes | None = b"opaque-1"
) -> httpx.Response:
    headers = {b"Helmr-Access-Token": access} if access is not None else {}
    async with bearing(stack, token) as http:
        path = f"/v1/waits/{wait}/answer"
        return await http.post(path, json={"data": {"cents": 5}}, headers=headers)


async def test_groups_of_userinfo_admit_and_exclude_like_those_of_a_token(
    stack: Stack, issuer: PageProvider
) -> None:
    token = token_of(stack, issuer)
    assert (await answers(stack, token, await asked(stack))).status_code == 200
    assert issuer.shown == ["Bearer opaque-1"]
    # The same token again asks nothing again; of a newer one the issuer says other groups by now.
    async with bearing(stack, token) as http:
        me = (await http.get("/v1/whoami", headers=ACCESS)).json()
    assert (me["person"]["groups"], me["groups_at"] is not None) == (["finance"], True)
    assert len(issuer.shown) == 1
    issuer.userinfo = {"sub": "u-1", "groups": ["contractors"]}
    wait = await asked(stack, "excluding", None)
    kept_out = await answers(stack, token_of(stack, issuer, jti="2"), wait)
    assert (kept_out.status_code, code_of(kept_out)) == (403, "not_an_answerer")
    assert len(issuer.shown) == 2


async def test_a_token_that_says_its_groups_asks_for_none_until_they_are_old(
    stack: Stack, issuer: PageProvider
) -> None:
    said = token_of(stack, issuer, groups=["finance"])
    assert (await answers(stack, said, await asked(stack))).status_code == 200
    assert issuer.shown == []
    issuer.userinfo = {"sub": "u-1", "groups": ["sales"]}
    start = stack.service.now().timestamp() - GROUPS_AGE_MAX.total_seconds() - 60
    old = issuer.token(start, groups=["finance"])
    moved = await answers(stack, old, await asked(stack))
    assert (moved.status_code, code_of(moved)) == (403, "not_an_answerer")
    assert len(issuer.shown) == 1


async def test_what_userinfo_said_is_asked_again_when_it_is_getting_old(
    stack: Stack, issuer: PageProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_ins, now = stack.service.sign_ins, stack.service.now
    token = token_of(stack, issuer)
    await sign_ins.person(token, "hash", "opaque-1")
    for later, asks in ((GROUPS_FRESH - timedelta(seconds=5), 1), (GROUPS_FRESH, 2)):
        at = now() + later
        monkeypatch.setattr(sign_ins, "_now", partial(at.astimezone))
        await sign_ins.person(token, "hash", "opaque-1")
        assert len(issuer.shown) == asks
    issuer.userinfo = 503
    monkeypatch.setattr(sign_ins, "_now", partial((now() + 2 * GROUPS_FRESH).astimezone))
    _, identity, _ = await sign_ins.person(token, "hash", "opaque-1")
    assert identity.groups == ("finance",), "of five minutes ago, which counts for fifteen"


REFUSED: dict[str, tuple[Any, str]] = {
    "of another account": (
        {"sub": "u-2", "groups": ["finance"]},
        "is of another account than the ID token: sign in again",
    ),
    "of no account": ({"groups": ["finance"]}, "is of another account"),
    "that takes no such token": (401, "answers 401: sign in again"),
    "that fails": (503, "answers 503: try again in a minute"),
    "that leads elsewhere": (302, "answers 302: try again in a minute"),
    "that is no JSON": (b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "answers no JSON object"),
    "that is no object": (b"[]", "answers no JSON object"),
    "that is too deep": (b"[" * 100_000, "answers no JSON object"),
    "that is huge": (b" " * (DOCUMENT_BYTES_MAX + 1), "answers no JSON object of at most 256 KiB"),
    "that is slow": (b"", "did not answer within 0 s: try again in a minute"),
    "that lists no whole groups": (
        {"sub": "u-1", "groups": [str(one) for one in range(201)]},
        "does not list all groups in 'groups'",
    ),
    "that has groups elsewhere": (
        {"sub": "u-1", "_claim_names": {"groups": "src1"}},
        "does not list all groups",
    ),
    "that there is none of": (None, "does not exist: set `groups_from`"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_userinfo_that_does_not_count_refuses_the_answer_and_says_what_to_do(
    stack: Stack, issuer: PageProvider, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.userinfo, why = REFUSED[case]
    if case == "that is slow":
        await stack.service.sign_ins._issuer.document()  # type: ignore[union-attr]
        monkeypatch.setattr(sign_in, "ISSUER_TIMEOUT_S", 0.2)
    token, by_group, excluding = (
        token_of(stack, issuer),
        await asked(stack),
        await asked(stack, "excluding", None),
    )
    for wait in (by_group, excluding):
        refused = await answers(stack, token, wait)
        assert (refused.status_code, code_of(refused)) == (503, "groups_unknown"), refused.text
        assert f"the issuer's userinfo {why}" in refused.json()["detail"]
        assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"
    assert len(issuer.shown) <= 1, "not again at once"
    async with bearing(stack, token) as http:
        assert (await http.get("/v1/whoami", headers=ACCESS)).status_code == 200, "still Ada"


async def test_a_userinfo_that_is_back_is_asked_again(
    stack: Stack, issuer: PageProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_ins, now = stack.service.sign_ins, stack.service.now
    issuer.userinfo, token = 503, token_of(stack, issuer)
    _, identity, _ = await sign_ins.person(token, "hash", "opaque-1")
    assert identity.groups is None
    issuer.userinfo = OF_ADA
    monkeypatch.setattr(sign_ins, "_now", partial((now() + NOT_AGAIN_FOR).astimezone))
    _, identity, _ = await sign_ins.person(token, "hash", "opaque-1")
    assert identity.groups == ("finance",)


@pytest.mark.parametrize("access", [None, b"caf\xe9"])
async def test_an_id_token_alone_says_no_groups_and_the_refusal_says_what_is_missing(
    stack: Stack, issuer: PageProvider, access: bytes | None
) -> None:
    wait = await asked(stack)
    refused = await answers(stack, token_of(stack, issuer), wait, access)
    assert (refused.status_code, code_of(refused)) == (503, "groups_unknown")
    said = "Helmr-Access-Token" if access is None else "takes no such access token"
    assert said in refused.json()["detail"]
    assert issuer.shown == []


async def test_a_page_asks_with_the_access_token_of_its_sign_in_and_keeps_none(
    stack: Stack, issuer: PageProvider, opened: AsyncExitStack
) -> None:
    wait = await asked(stack)
    path, tab = path_of(await linked(stack, wait, "ada")), Tab(stack, opened)
    issuer.userinfo = {"sub": "u-2", "groups": ["finance"]}
    form = await tab.sign_in(path)
    refused = await tab.post(path, nonce=hidden(form, "nonce"), **CENTS)
    assert (refused.status_code, "is of another account" in refused.text) == (503, True)
    assert "Sign in again" in refused.text
    issuer.userinfo = OF_ADA
    form = await tab.sign_in(path)
    assert issuer.shown == ["Bearer a", "Bearer a"]
    sent = await tab.post(path, nonce=hidden(form, "nonce"), **CENTS)
    assert sent.status_code == 303, sent.text
    [session] = stack.service.browser_sessions._open.values()
    assert "Bearer a" not in repr(session.proof)
    assert not hasattr(session.proof, "access_token")


async def test_where_people_sign_in_says_whether_an_access_token_is_needed(stack: Stack) -> None:
    found = (await stack.http.get("/v1/sign-in")).json()
    assert found["needs_access_token"] is True


async def test_who_logs_in_sends_both_tokens(
    stack: Stack,
    issuer: PageProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HELMR_URL", stack.url)
    monkeypatch.delenv("HELMR_API_KEY", raising=False)
    issuer.interval = 0
    wait = await asked(stack)
    for words in (("login", "--device"), ("wait", "answer", wait, "cents:=5")):
        code = await asyncio.to_thread(invoke, words)
        assert code == ExitCode.OK, capsys.readouterr().err
    assert "finance" in capsys.readouterr().out
    by = (await stack.http.get(f"/v1/waits/{wait}")).json()["resolved_by"]
    assert (by["type"], by["id"], by["via"]) == ("person", "ada", f"{issuer.url}#u-1")
    assert issuer.shown == ["Bearer a"]
