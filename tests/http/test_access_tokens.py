"""Public tokens and API keys over HTTP: scopes, uses, origins, roles (S-44…S-46)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from helmr.wire import ids
from helmr_runtime.security.secrets import SecretKind, make_secret
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

PAGE = "https://app.example.com"


async def public_token(stack: Stack, session_id: str, **parts: Any) -> dict[str, Any]:
    scope = {"type": "session.input.send", "session": session_id, "stream": "words"}
    scope |= parts.pop("scope", {})
    response = await stack.http.post("/v1/public-tokens", json={"scope": scope, **parts})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def echo(stack: Stack) -> str:
    receipt = await stack.started("echo", 0)
    return str(receipt["session"]["id"])


def bearing(stack: Stack, secret: str, **headers: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {secret}", **headers}
    return httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=20)


async def test_50_concurrent_sends_with_three_uses_are_three(stack: Stack) -> None:
    session = await echo(stack)
    made = await public_token(stack, session, max_uses=3)
    async with bearing(stack, made["public_access_token"]) as http:
        answers = await asyncio.gather(
            *(
                http.post(f"/v1/sessions/{session}/inputs/words", json={"data": str(n)})
                for n in range(50)
            )
        )
    assert [a.status_code for a in answers].count(200) == 3
    assert {code_of(a) for a in answers if a.status_code != 200} == {"token_exhausted"}
    sent = (await stack.http.get(f"/v1/sessions/{session}/inputs/words")).json()["items"]
    assert len(sent) == 3
    assert {one["principal"]["id"] for one in sent} == {made["id"]}
    listed = (await stack.http.get("/v1/public-tokens")).json()["items"]
    assert listed[0]["uses_left"] == 0
    assert listed[0]["last_used_at"] is not None


async def test_uses_hold_when_session_actors_die_under_idempotent_retries(stack: Stack) -> None:
    session = await echo(stack)
    made = await public_token(stack, session, max_uses=3)

    async def send(n: int) -> int:
        operation = ids.new_id(ids.OPERATION)
        body = {"data": str(n), "idempotency_key": f"key-{n}"}
        async with bearing(
            stack, made["public_access_token"], **{"Operation-Id": operation}
        ) as http:
            status = 503
            for _ in range(20):
                answer = await http.post(f"/v1/sessions/{session}/inputs/words", json=body)
                status = answer.status_code
                if status != 503:
                    break
            return status

    async def kill() -> None:
        for _ in range(3):
            await asyncio.sleep(0.02)  # let some sends be under way
            assert stack.directory is not None
            name = await stack.directory.locate(session)
            if name is not None:
                stack.kill(name, "killed by the test")

    codes, _ = await asyncio.gather(asyncio.gather(*(send(n) for n in range(30))), kill())
    assert codes.count(200) == 3
    assert set(codes) == {200, 403}
    sent = (await stack.http.get(f"/v1/sessions/{session}/inputs/words")).json()["items"]
    assert len(sent) == 3
    shown = (await stack.http.get("/v1/public-tokens")).json()["items"][0]
    assert (shown["uses"], shown["uses_left"]) == (3, 0)


async def test_a_repeated_send_and_a_refused_one_spend_nothing(stack: Stack) -> None:
    session = await echo(stack)
    made = await public_token(stack, session, max_uses=2)
    path = f"/v1/sessions/{session}/inputs/words"
    async with bearing(stack, made["public_access_token"]) as http:
        body = {"data": "a", "idempotency_key": "k"}
        first = await http.post(path, json=body)
        for _ in range(3):
            assert (await http.post(path, json=body)).json()["duplicate"] is True
        assert (await http.post(path, json={"data": 5})).status_code == 422
        assert (await http.post(path, json={"data": "b"})).status_code == 200
        assert code_of(await http.post(path, json={"data": "c"})) == "token_exhausted"
        again = await http.post(path, json=body)
        assert again.json()["record_id"] == first.json()["record_id"]


async def test_a_scope_is_kept_to(stack: Stack) -> None:
    session, other = await echo(stack), await echo(stack)
    made = await public_token(stack, session, scope={"correlation_id": "x"})
    async with bearing(stack, made["public_access_token"]) as http:
        body = {"data": "a"}
        sent = await http.post(f"/v1/sessions/{session}/inputs/words", json=body)
        assert sent.status_code == 200
        for path, wrong in (
            (f"/v1/sessions/{other}/inputs/words", body),
            (f"/v1/sessions/{session}/inputs/other", body),
            (f"/v1/sessions/{session}/inputs/words", {"data": "a", "correlation_id": "y"}),
        ):
            answer = await http.post(path, json=wrong)
            assert (answer.status_code, code_of(answer)) == (403, "scope_denied")
        read = await http.get(f"/v1/sessions/{session}/outputs/echoes")
        assert (read.status_code, code_of(read)) == (403, "scope_denied")
    inputs = (await stack.http.get(f"/v1/sessions/{session}/inputs/words")).json()["items"]
    assert inputs[0]["correlation_id"] == "x"


async def test_a_reading_token_reads_one_output(stack: Stack) -> None:
    session = await echo(stack)
    await stack.http.post(f"/v1/sessions/{session}/inputs/words", json={"data": "a"})
    scope = {"type": "session.output.read", "stream": "echoes"}
    made = await public_token(stack, session, scope=scope)
    async with bearing(stack, made["public_access_token"]) as http:
        assert (await http.get(f"/v1/sessions/{session}/outputs/echoes")).status_code == 200
        assert (await http.get(f"/v1/sessions/{session}/inputs/words")).status_code == 403


async def test_a_page_of_another_origin_is_refused_unless_it_is_allowed(stack: Stack) -> None:
    session = await echo(stack)
    made = await public_token(stack, session, allowed_origins=[PAGE])
    path = f"/v1/sessions/{session}/inputs/words"
    secret = made["public_access_token"]
    async with bearing(stack, secret, Origin=PAGE) as http:
        asked = {"Access-Control-Request-Method": "POST"}
        before = await http.options(path, headers=asked)
        assert before.status_code == 204
        assert before.headers["access-control-allow-origin"] == "*"
        sent = await http.post(path, json={"data": "a"})
        assert sent.status_code == 200
        assert sent.headers["access-control-allow-origin"] == PAGE
        wrong = await http.post(path, json={"data": 5})
        assert wrong.headers["access-control-allow-origin"] == PAGE
    for origin in ("https://evil.example", "null"):
        async with bearing(stack, secret, Origin=origin) as http:
            refused = await http.post(path, json={"data": "a"})
            assert (refused.status_code, code_of(refused)) == (403, "origin_denied")
            assert refused.headers["access-control-allow-origin"] == "*", "the refusal says why"
    async with bearing(stack, "hlmr_pat_nonsense", Origin=PAGE) as http:
        unknown = await http.post(path, json={"data": "a"})
        assert "access-control-allow-origin" not in unknown.headers


async def test_a_scope_with_an_empty_correlation_id_is_refused(stack: Stack) -> None:
    """It would send to any question, where it was to send to one."""
    session = await echo(stack)
    scope = {"type": "session.input.send", "session": session, "stream": "words"}
    for empty in ("", "  ", "\t"):
        asked = {"scope": {**scope, "correlation_id": empty}}
        refused = await stack.http.post("/v1/public-tokens", json=asked)
        assert (refused.status_code, code_of(refused)) == (400, "bad_request")
        assert "leave it out" in refused.json()["hint"]
    assert (await stack.http.get("/v1/public-tokens")).json()["items"] == []


async def test_all_that_is_wrong_with_a_secret_says_the_same(stack: Stack) -> None:
    session = await echo(stack)
    revoked = await public_token(stack, session)
    await stack.http.delete(f"/v1/public-tokens/{revoked['id']}")
    ended = await echo(stack)
    of_cancelled = await public_token(stack, ended)
    await stack.http.post(f"/v1/sessions/{ended}/cancel")
    expired = await public_token(stack, session, expires_in=0.01)
    key = (await stack.http.post("/v1/api-keys", json={"role": "sender", "name": "app"})).json()
    await stack.http.delete(f"/v1/api-keys/{key['id']}")
    await asyncio.sleep(0.05)
    bodies = set()
    for secret in (
        "nonsense",
        make_secret(SecretKind.API_KEY),
        make_secret(SecretKind.PUBLIC_TOKEN),
        revoked["public_access_token"],
        of_cancelled["public_access_token"],
        expired["public_access_token"],
        key["secret"],
    ):
        async with bearing(stack, secret) as http:
            answer = await http.post(f"/v1/sessions/{session}/inputs/words", json={"data": "a"})
            assert answer.status_code == 401
            bodies.add(answer.content)
    assert len(bodies) == 1


async def test_roles_and_names_of_keys_count_and_a_revoked_one_is_out_at_once(stack: Stack) -> None:
    session = await echo(stack)
    made = (
        await stack.http.post("/v1/api-keys", json={"role": "operator", "name": "on-call"})
    ).json()
    async with bearing(stack, made["secret"]) as http:
        assert (await http.get("/v1/sessions")).status_code == 200
        denied = await http.get("/v1/api-keys")
        assert (denied.status_code, code_of(denied)) == (403, "role_denied")
        sent = await http.post(f"/v1/sessions/{session}/inputs/words", json={"data": "a"})
        assert sent.status_code == 200
        spoke = await http.get("/v1/sessions", headers={"On-Behalf-Of": "mallory"})
        assert spoke.status_code == 403
        inputs = (await http.get(f"/v1/sessions/{session}/inputs/words")).json()["items"]
        assert inputs[0]["principal"] == {
            "type": "api_key",
            "id": made["id"],
            "name": "on-call",
            "on_behalf_of": None,
            "via": None,
        }
        await stack.http.delete(f"/v1/api-keys/{made['id']}")
        assert (await http.get("/v1/sessions")).status_code == 401
    listed = (await stack.http.get("/v1/api-keys")).json()["items"]
    assert "secret" not in listed[0]
    assert listed[0]["revoked_at"] is not None


async def test_a_key_delegates_only_what_it_may_do(stack: Stack) -> None:
    session = await echo(stack)
    made = (await stack.http.post("/v1/api-keys", json={"role": "sender", "name": "app"})).json()
    async with bearing(stack, made["secret"]) as http:
        scope = {"type": "session.input.send", "session": session, "stream": "words"}
        assert (await http.post("/v1/public-tokens", json={"scope": scope})).status_code == 201
        scope = {"type": "session.output.read", "session": session, "stream": "echoes"}
        denied = await http.post("/v1/public-tokens", json={"scope": scope})
        assert (denied.status_code, code_of(denied)) == (403, "role_denied")


async def key(stack: Stack, role: str, name: str) -> str:
    made = await stack.http.post("/v1/api-keys", json={"role": role, "name": name})
    assert made.status_code == 201, made.text
    return str(made.json()["secret"])


async def test_a_public_token_is_revoked_by_its_maker_or_an_admin_alone(stack: Stack) -> None:
    session = await echo(stack)
    token = (await stack.http.post("/v1/tokens", json={"timeout": "1h"})).json()
    scopes = (
        {"type": "session.input.send", "session": session, "stream": "words"},
        {"type": "token.complete", "token": token["id"]},  # the system stream's
    )
    secrets = {
        name: await key(stack, name.partition("-")[0], name)
        for name in ("sender-one", "sender-two", "operator-one")
    }
    for scope in scopes:
        made: dict[str, str] = {}
        for name, secret in {**secrets, "admin": stack.key}.items():
            async with bearing(stack, secret) as http:
                created = await http.post("/v1/public-tokens", json={"scope": scope})
            assert created.status_code == 201, created.text
            made[name] = created.json()["id"]
        for asking, secret in secrets.items():
            async with bearing(stack, secret) as http:
                for maker, token_id in made.items():
                    if maker == asking:
                        continue
                    refused = await http.delete(f"/v1/public-tokens/{token_id}")
                    assert (refused.status_code, code_of(refused)) == (403, "role_denied")
                    assert "has made" in refused.json()["detail"]
        listed = (await stack.http.get("/v1/public-tokens")).json()["items"]
        assert all(one["revoked_at"] is None for one in listed if one["id"] in made.values())
        for asking, secret in secrets.items():
            async with bearing(stack, secret) as http:
                for _ in range(2):  # again changes nothing
                    gone = await http.delete(f"/v1/public-tokens/{made[asking]}")
                    assert gone.status_code == 200, gone.text
                    assert gone.json()["revoked_at"] is not None
        other = await key(stack, "admin", "another")
        async with bearing(stack, other) as http:
            gone = await http.delete(f"/v1/public-tokens/{made['admin']}")
            assert gone.json()["revoked_at"] is not None


async def test_an_operator_does_not_revoke_a_link_as_a_public_token_but_at_its_wait(
    stack: Stack,
) -> None:
    receipt = await stack.started()
    waits = (await stack.http.get("/v1/waits")).json()["items"]
    wait_id = next(one["id"] for one in waits if one["session_id"] == receipt["session"]["id"])
    link = (await stack.http.post(f"/v1/waits/{wait_id}/links", json={"person": "ada"})).json()
    async with bearing(stack, await key(stack, "operator", "one")) as http:
        refused = await http.delete(f"/v1/public-tokens/{link['id']}")
        assert (refused.status_code, code_of(refused)) == (403, "role_denied")
        gone = await http.delete(f"/v1/waits/{wait_id}/links/{link['id']}")
        assert gone.status_code == 200, gone.text
