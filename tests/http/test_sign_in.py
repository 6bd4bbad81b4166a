"""Signing in by OpenID Connect: who is let in, and every attack on a token refused (S-111, S-114)."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr_runtime.catalog import Registry
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.service import sign_in
from tests.http.issuer import CLIENT, OTHER_RSA, Issuer, serving
from tests.http.test_access_tokens import bearing
from tests.http.test_sessions import code_of
from tests.service import vote_tasks
from tests.service.stack import NO_TLS, Stack

YES = {"data": {"decision": "approve"}}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serving(Issuer) as found:
        yield found


def made_stack(tmp_path: Path, issuer: Issuer, **parts: Any) -> Stack:
    people = {
        "issuer": issuer.url,
        "client_id": CLIENT,
        "groups_claim": "groups",
        "domains": ["example.com"],
        "proxy_header": "X-Forwarded-Email",
        "proxies": ["127.0.0.1/32"],
        "ada": {"email": "ada@example.com", "groups": ["on-call"]},
        "mike": {"email": "mike@example.com"},
    }
    stack = Stack(tmp_path, **parts)
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    return stack


@pytest.fixture
async def stack(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Stack]:
    """A runtime whose people sign in there, or behind a proxy on this machine."""
    stack = made_stack(tmp_path, issuer)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


def now_s(stack: Stack) -> float:
    return stack.service.now().timestamp()


async def whoami(stack: Stack, token: str) -> httpx.Response:
    async with bearing(stack, token) as http:
        return await http.get("/v1/whoami")


async def test_who_signs_in_is_the_person_of_their_verified_e_mail(
    stack: Stack, issuer: Issuer
) -> None:
    wait = (await stack.started())["session"]["wait"]["id"]
    token = issuer.token(now_s(stack), groups=["finance"])
    me = (await whoami(stack, token)).json()
    via = f"{issuer.url}#u-1"
    assert (me["principal"]["id"], me["principal"]["via"]) == ("ada", via)
    assert (me["person"]["issuer"], me["person"]["subject"]) == (issuer.url, "u-1")
    async with bearing(stack, token) as http:
        assert (await http.post(f"/v1/waits/{wait}/answer", json=YES)).status_code == 200
    by = (await stack.http.get(f"/v1/waits/{wait}")).json()["resolved_by"]
    assert (by["type"], by["id"], by["via"]) == ("person", "ada", via)
    other = issuer.token(now_s(stack), sub="u-2", email="Grace@Example.com")
    assert (await whoami(stack, other)).json()["principal"]["id"] == "grace@example.com"


async def test_groups_are_those_of_the_file_and_of_the_claim_as_old_as_the_token(
    stack: Stack, issuer: Issuer
) -> None:
    issued = now_s(stack) - 600
    token = issuer.token(issued, groups=["finance", 7, "on-call"])
    _, identity, _ = await stack.service.sign_ins.person(token, "hash")
    assert identity.groups == ("on-call", "finance")
    assert identity.groups_at is not None
    assert identity.groups_at.timestamp() == pytest.approx(issued, abs=1)


@pytest.mark.parametrize(
    "claims",
    [
        {"groups": [f"team-{number}" for number in range(201)]},
        {"groups": ["finance" * 19]},
        {"groups": "finance"},
        {"_claim_names": {"groups": "src1"}},
    ],
)
async def test_groups_that_a_token_does_not_list_whole_are_not_known(
    stack: Stack, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """Else a person in the group that a wait excludes could answer it."""
    _, identity, _ = await stack.service.sign_ins.person(issuer.token(now_s(stack), **claims), "h")
    assert identity.groups is None


async def test_a_token_without_groups_is_of_one_in_none_but_those_of_the_file(
    stack: Stack, issuer: Issuer
) -> None:
    _, identity, _ = await stack.service.sign_ins.person(issuer.token(now_s(stack)), "hash")
    assert identity.groups == ("on-call",)


async def test_groups_that_only_the_issuer_knows_are_known_of_a_key_by_a_recent_sign_in_only(
    tmp_path: Path, issuer: Issuer
) -> None:
    """Else a person in the group that a wait excludes would answer it by a personal key, or behind the proxy."""
    registry = Registry([vote_tasks.refund, vote_tasks.excluding], code_hash="votes")
    async with AsyncExitStack() as ends:
        stack = made_stack(tmp_path, issuer, registry=registry)
        ends.push_async_callback(stack.stop)
        await stack.start()
        made = await stack.http.post("/v1/api-keys", json={"person": "ada"})
        by_key = await ends.enter_async_context(bearing(stack, made.json()["secret"]))
        headers = {"X-Forwarded-Email": "ada@example.com"}
        by_proxy = await ends.enter_async_context(
            httpx.AsyncClient(base_url=stack.url, headers=headers, verify=NO_TLS)
        )

        async def asked(task: str, payload: Any = None) -> str:
            body = {"task": task, "payload": payload, "result_timeout_s": 20}
            started = await stack.http.post("/v1/sessions", json=body)
            return str(started.json()["session"]["wait"]["id"])

        excluding, refund = await asked("excluding"), await asked("refund", 1)

        async def signs_in(issued_s: float, *groups: str) -> None:
            token = issuer.token(issued_s, groups=list(groups))
            assert (await whoami(stack, token)).status_code == 200

        async def refused(wait: str) -> list[str]:
            path = f"/v1/waits/{wait}/answer"
            sent = [await one.post(path, json={"data": {}}) for one in (by_key, by_proxy)]
            assert all("retry-after" not in one.headers for one in sent), "no time mends that"
            return [code_of(one) for one in sent]

        async def told() -> tuple[Any, Any, Any]:
            me = (await by_key.get("/v1/whoami")).json()
            wait = (await by_key.get(f"/v1/waits/{excluding}")).json()
            return me["person"]["groups"], me["groups_at"] is not None, wait["can_answer"]

        unknown = ["groups_unknown"] * 2
        assert (await refused(excluding), await refused(refund)) == (unknown, unknown)
        assert await told() == (["on-call"], False, None)
        await signs_in(now_s(stack), "contractors")
        assert await refused(excluding) == ["not_an_answerer"] * 2
        assert await told() == (["on-call", "contractors"], True, False)
        await signs_in(now_s(stack) - 300)  # an older token does not say what is so now
        assert await refused(excluding) == ["not_an_answerer"] * 2
        await signs_in(now_s(stack) + 1, "finance")
        assert await told() == (["on-call", "finance"], True, True)
        for http, wait in ((by_key, excluding), (by_proxy, refund)):
            done = await http.post(f"/v1/waits/{wait}/answer", json={"data": {}})
            assert done.status_code == 200, done.text
        waiting = await asked("excluding")
        assert (await stack.http.post("/v1/people/ada/unbind")).status_code == 200
        assert await refused(waiting) == unknown, "of an account that is no longer theirs"


async def test_a_sign_in_of_long_ago_says_no_more_of_groups(stack: Stack, issuer: Issuer) -> None:
    view, at = stack.service.people_view, stack.service.now()
    await whoami(stack, issuer.token(now_s(stack) - 960, groups=["finance"]))
    ada = await view.acting("ada")
    assert ada is not None
    identity = view.identity(ada)
    assert (identity.groups, identity.file_groups) == (("on-call", "finance"), ("on-call",))
    assert not identity.knows_groups(at)
    assert identity.groups_now(at) == ("on-call",)


def unsigned(claims: str) -> str:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).decode().rstrip("=")
    return f"{head}.{claims.split('.')[1]}."


def signed_with(secret: bytes, token: str) -> str:
    """The token's claims under HMAC with that secret; the library makes no such thing."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "k1"}).encode())
    signed = f"{head.decode().rstrip('=')}.{token.split('.')[1]}"
    mac = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256"))
    return f"{signed}.{mac.decode().rstrip('=')}"


ATTACKS: dict[str, dict[str, Any]] = {
    "for another client": {"aud": "other"},
    "for others too, and another has asked": {"aud": [CLIENT, "other"], "azp": "other"},
    "for others too, and no one says who has asked": {"aud": [CLIENT, "other"]},
    "of another issuer": {"iss": "https://evil.example"},
    "without an issuer": {"iss": None},
    "expired": {"exp": -3600},
    "without an end": {"exp": None},
    "of tomorrow": {"iat": 86_400},
    "not yet valid": {"nbf": 3600},
    "without a subject": {"sub": None},
    "with an e-mail that no one has verified": {"email_verified": False},
    "with an e-mail whose check is only a text": {"email_verified": "true"},
    "without an e-mail": {"email": None},
    "with an e-mail of another domain": {"email": "ada@example.org"},
    "with a person's id for an e-mail": {"email": "ada"},
    "with that and what it is": {"email": "person:ada"},
    "with an id between spaces": {"email": " ada "},
    "with an e-mail that only folds to theirs": {"email": "ada@example\u2024com"},
    "with KELVIN SIGN for a k": {"email": "mi\u212ae@example.com"},
    "with full-width letters": {"email": "\uff41da@example.com"},
    "with Cyrillic ones": {"email": "\u0430da@example.com"},
}
RELATIVE = ("exp", "iat", "nbf")


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_token_that_is_not_good_is_refused_in_the_same_words(
    stack: Stack, issuer: Issuer, attack: str
) -> None:
    start = now_s(stack)
    claims = {
        name: start + value if name in RELATIVE and value is not None else value
        for name, value in ATTACKS[attack].items()
    }
    response = await whoami(stack, issuer.token(start, **claims))
    unknown = await whoami(stack, "a.b.c")
    assert (response.status_code, response.json()) == (401, unknown.json())
    assert (await stack.http.get("/v1/people/ada")).json()["subject"] is None


async def test_a_token_with_no_one_elses_or_no_signature_is_refused(
    stack: Stack, issuer: Issuer
) -> None:
    good = issuer.token(now_s(stack))
    public = issuer.key.as_pem(private=False)
    forged = {
        "none": unsigned(good),
        "another's key": issuer.token(now_s(stack), key=OTHER_RSA),
        "the public key as a secret": signed_with(public, good),
        "no signature": good.rpartition(".")[0] + ".",
        "a changed byte": good[:-6] + ("A" if good[-6] != "A" else "B") + good[-5:],
        "a claim twice": issuer.signed(good, '"aud":', '"aud":"other","aud":'),
        "too long": good + "A" * 20_000,
    }
    for name, token in forged.items():
        assert (await whoami(stack, token)).status_code in (400, 401, 431), name
    assert (await whoami(stack, good)).status_code == 200


async def test_a_key_rotated_in_the_middle_is_found_and_made_up_ones_cost_no_requests(
    stack: Stack, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "KEYS_AGAIN_S", 0.0)
    old = issuer.token(now_s(stack))
    assert (await whoami(stack, old)).status_code == 200
    issuer.rotate()
    assert (await whoami(stack, issuer.token(now_s(stack)))).status_code == 200
    late = issuer.token(now_s(stack), key=OTHER_RSA, header={"alg": "RS256", "kid": "k9"})
    monkeypatch.setattr(sign_in, "KEYS_AGAIN_S", 10.0)
    asked = len(issuer.requests)
    for _ in range(5):
        assert (await whoami(stack, late)).status_code == 401
    assert len(issuer.requests) == asked


async def test_while_the_issuer_is_away_known_keys_count_and_without_any_it_is_said(
    stack: Stack, issuer: Issuer
) -> None:
    issuer.is_away = True
    response = await whoami(stack, issuer.token(now_s(stack)))
    assert (response.status_code, code_of(response)) == (503, "unavailable")


async def test_a_document_of_another_issuer_gives_no_keys(stack: Stack, issuer: Issuer) -> None:
    issuer.said_issuer = "https://evil.example"
    assert (await whoami(stack, issuer.token(now_s(stack)))).status_code == 503


async def test_another_subject_with_the_same_e_mail_is_refused_until_an_admin_unbinds(
    stack: Stack, issuer: Issuer
) -> None:
    assert (await whoami(stack, issuer.token(now_s(stack)))).status_code == 200
    other = issuer.token(now_s(stack), sub="u-2")
    response = await whoami(stack, other)
    assert (response.status_code, code_of(response)) == (409, "person_bound")
    # Who has another e-mail by now is the same person still.
    moved = issuer.token(now_s(stack), email="eve@example.com")
    assert (await whoami(stack, moved)).json()["principal"]["id"] == "ada"
    assert (await stack.http.post("/v1/people/ada/unbind")).status_code == 200
    assert (await whoami(stack, other)).json()["principal"]["id"] == "ada"


async def test_a_disabled_person_is_out_whatever_their_token_says(
    stack: Stack, issuer: Issuer
) -> None:
    token = issuer.token(now_s(stack) - 5)
    assert (await whoami(stack, token)).status_code == 200
    assert (await stack.http.post("/v1/people/ada/disable", json={})).status_code == 200
    assert (await whoami(stack, token)).status_code == 401
    moved = issuer.token(now_s(stack) - 5, sub="u-9", email="ada@example.com")
    assert (await whoami(stack, moved)).status_code == 401
    assert (await stack.http.post("/v1/people/ada/enable")).status_code == 200
    assert (await whoami(stack, token)).status_code == 401, "it is from before"
    assert (await whoami(stack, issuer.token(now_s(stack)))).status_code == 200


async def test_a_token_from_before_disabling_counts_no_more_after_a_restart_either(
    tmp_path: Path, issuer: Issuer
) -> None:
    async with AsyncExitStack() as ends:
        stack = made_stack(tmp_path, issuer)
        ends.push_async_callback(stack.stop)
        await stack.start()
        token = issuer.token(now_s(stack) - 5)
        assert (await whoami(stack, token)).status_code == 200
        for verb in ("disable", "enable"):
            assert (await stack.http.post(f"/v1/people/ada/{verb}", json={})).status_code == 200
        await stack.stop()
        stack = made_stack(tmp_path, issuer)
        ends.push_async_callback(stack.stop)
        await stack.start()
        assert (await whoami(stack, token)).status_code == 401
        assert (await whoami(stack, issuer.token(now_s(stack)))).status_code == 200


async def test_a_proxys_header_counts_from_the_proxy_and_from_no_page_of_another_site(
    stack: Stack,
) -> None:
    async with AsyncExitStack() as open_:
        http = await open_.enter_async_context(httpx.AsyncClient(base_url=stack.url, verify=NO_TLS))
        wait = (await stack.started())["session"]["wait"]["id"]
        ada = {"X-Forwarded-Email": "ada@example.com"}
        me = (await http.get("/v1/whoami", headers=ada)).json()
        assert (me["principal"]["id"], me["principal"]["via"]) == ("ada", "proxy")
        for said in ({}, {"X-Forwarded-Email": "eve@example.org"}):
            assert (await http.get("/v1/whoami", headers=said)).status_code == 401
        twice = [("X-Forwarded-Email", "ada@example.com"), ("X-Forwarded-Email", "b@example.com")]
        assert (await http.get("/v1/whoami", headers=twice)).status_code == 401
        for page in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            response = await http.post(f"/v1/waits/{wait}/release", headers={**ada, **page})
            assert (response.status_code, code_of(response)) == (403, "origin_denied")
        claimed = await http.post(
            f"/v1/waits/{wait}/claim", headers={**ada, "Origin": stack.url}, json={}
        )
        assert claimed.json()["claim"]["on_behalf_of"] == "ada"


async def test_a_proxys_header_from_another_address_counts_for_nothing(
    tmp_path: Path,
) -> None:
    people = {"proxy_header": "X-Forwarded-Email", "proxies": ["10.0.0.7/32"], "ada": {}}
    people["ada"] = {"email": "ada@example.com"}
    stack = Stack(tmp_path)
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    settings = stack.settings(trusted_proxies=("127.0.0.1/32",))
    stack.gateway = GatewayActor(stack.service, settings)
    try:
        await stack.start()
        said = {"X-Forwarded-Email": "ada@example.com", "X-Forwarded-For": "10.0.0.7"}
        async with httpx.AsyncClient(base_url=stack.url, verify=NO_TLS) as http:
            assert (await http.get("/v1/whoami", headers=said)).status_code == 401
    finally:
        await stack.stop()


async def test_where_people_sign_in_is_said_to_anyone(stack: Stack, issuer: Issuer) -> None:
    async with httpx.AsyncClient(base_url=stack.url, verify=NO_TLS) as http:
        found = (await http.get("/v1/sign-in")).json()
    assert (found["issuer"], found["client_id"]) == (issuer.url, CLIENT)
    assert "openid" in found["scopes"]
