"""Keys, persons and hosts at the gateway (S-46, S-51)."""

from __future__ import annotations

import logging

import httpx
import pytest

from helmr.wire import ids
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.host_names import allowed_hosts
from helmr_runtime.security.secrets import SecretKind, make_secret
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

ROUTES = [
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions"),
    ("GET", "/v1/waits"),
    ("POST", "/v1/waits/wait_x/answer"),
    ("GET", "/v1/events"),
    ("GET", "/v1/tasks"),
    ("GET", "/v1/streams"),
    ("GET", "/metrics"),
]


async def test_without_a_good_key_all_say_the_same(stack: Stack) -> None:
    bad_keys = [
        None,
        "Bearer",
        "Bearer x",
        f"Basic {stack.key}",
        f"Bearer {stack.key}x",
        f"Bearer {stack.key[:-1]}{'a' if stack.key[-1] != 'a' else 'b'}",
        f"Bearer {make_secret(SecretKind.API_KEY)}",
        f"Bearer {make_secret(SecretKind.PUBLIC_TOKEN)}",
    ]
    bodies = set()
    async with httpx.AsyncClient(base_url=stack.url) as http:
        for key in bad_keys:
            headers = {"Authorization": key} if key is not None else {}
            for method, path in ROUTES:
                response = await http.request(method, path, headers=headers)
                assert (response.status_code, code_of(response)) == (401, "unauthenticated")
                assert response.headers["www-authenticate"] == "Bearer"
                bodies.add(response.content)
    assert len(bodies) == 1


async def test_a_body_is_not_read_without_a_key(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        response = await http.post("/v1/sessions", content=b"{not json")
    assert response.status_code == 401


async def test_the_person_is_recorded_with_what_the_key_does(stack: Stack) -> None:
    async with stack.client(**{"On-Behalf-Of": "Zo%C3%AB%20M%C3%BCller%0A"}) as http:
        body = {"task": "return", "payload": 1}
        session = (await http.post("/v1/sessions", json=body)).json()["session"]
    page = (await stack.http.get(f"/v1/sessions/{session['id']}/transcript")).json()
    assert page["items"][0]["principal"]["on_behalf_of"] == "Zoë Müller"


async def test_a_host_that_is_not_ours_is_refused(stack: Stack) -> None:
    hosts = allowed_hosts("127.0.0.1", ())
    gateway = GatewayActor(stack.make_service(), stack.settings(allowed_hosts=hosts))
    port = await gateway.start("127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{port}/v1/tasks"
        assert (await stack.http.get(url)).status_code == 200
        refused = await stack.http.get(url, headers={"Host": "evil.example"})
        assert (refused.status_code, code_of(refused)) == (403, "not_allowed")
    finally:
        await gateway.stop()


async def test_no_answer_is_cached_or_names_the_server(stack: Stack) -> None:
    for path in ("/healthz", "/v1/tasks", "/nowhere"):
        response = await stack.http.get(path)
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "server" not in response.headers


async def test_paths_and_methods_that_do_not_exist(stack: Stack) -> None:
    missing = await stack.http.get("/v1/nothing")
    assert (missing.status_code, code_of(missing)) == (404, "not_found")
    assert missing.json()["detail"] == "there is no such route"
    assert "/v1/openapi.json" in missing.json()["hint"]
    slash = await stack.http.get("/v1/sessions/")
    assert slash.status_code == 404
    method = await stack.http.delete("/v1/sessions")
    assert (method.status_code, code_of(method)) == (405, "method_not_allowed")
    assert method.headers["allow"] == "GET, POST"
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert (await stack.http.get(path)).status_code == 404


async def test_a_bug_is_told_by_its_id_alone(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(run_id: str) -> None:
        raise ZeroDivisionError(f"secret of {run_id}")

    monkeypatch.setattr(stack.service.runs, "get", broken)
    with caplog.at_level(logging.ERROR, logger="helmr_runtime.http"):
        response = await stack.http.get("/v1/runs/run_1")
    assert (response.status_code, code_of(response)) == (500, "internal")
    error_id = response.json()["facts"]["error_id"]
    assert "secret" not in response.text
    assert "ZeroDivision" not in response.text
    assert error_id in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_bug_in_an_actor_is_told_by_its_id_too(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(run_id: str) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(stack.ledger, "get_run", broken)
    response = await stack.http.get(f"/v1/runs/{ids.new_id(ids.RUN)}")
    assert (response.status_code, code_of(response)) == (500, "internal")
    assert "secret" not in response.text
    assert response.json()["facts"]["error_id"] in caplog.text


async def test_the_key_is_in_no_log(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await stack.http.get("/v1/tasks")
        await stack.http.get("/v1/runs/run_1")
    assert stack.key not in caplog.text
