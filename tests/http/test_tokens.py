"""Tokens over HTTP: made, completed once, delivered, by key, public token and callback URL (S-40…S-43)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx

from helmr.wire import ids
from tests.http.test_sessions import code_of
from tests.security.deliveries import DELIVERY, DELIVERY_HEADERS, DELIVERY_SECRET
from tests.service import tasks
from tests.service.stack import BASE_URL, Stack, until

APPROVE = {"decision": "approve", "note": None}


async def made(stack: Stack, **parts: Any) -> dict[str, Any]:
    response = await stack.http.post("/v1/tokens", json=parts)
    assert response.status_code == 201, response.text
    token: dict[str, Any] = response.json()
    return token


def path_of(url: str) -> str:
    assert url.startswith(BASE_URL)
    return url.removeprefix(BASE_URL)


async def by_link(stack: Stack) -> tuple[dict[str, Any], str, str]:
    """A session that waits for its emailed link; its receipt, the link's path, the public token."""
    receipt = await stack.started("by-link")
    url, public = tasks.links[receipt["session"]["id"]]
    return receipt, path_of(url), public


async def test_a_link_completes_its_token_and_the_session_goes_on(stack: Stack) -> None:
    receipt, path, _ = await by_link(stack)
    async with httpx.AsyncClient(base_url=stack.url) as http:
        answer = await http.post(path, json={"data": APPROVE})
        assert answer.status_code == 200, answer.text
        assert answer.json()["outcome"] == "completed"
        again = await http.post(path, json={"data": APPROVE})
        assert again.json()["outcome"] == "already_completed"
        other = await http.post(path, json={"data": {**APPROVE, "decision": "reject"}})
        assert (other.status_code, code_of(other)) == (409, "token_completed")
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == "approve"


async def test_a_token_is_listed_by_status_and_tag_and_shown_in_full(stack: Stack) -> None:
    token = await made(stack, tags=["a", "b"], metadata={"n": 1}, schema={"type": "integer"})
    await made(stack)
    assert token["status"] == "pending"
    listed = (await stack.http.get("/v1/tokens", params={"tag": "a"})).json()["items"]
    assert [one["id"] for one in listed] == [token["id"]]
    await stack.http.post(f"/v1/tokens/{token['id']}/complete", json={"data": 3})
    shown = (await stack.http.get(f"/v1/tokens/{token['id']}")).json()
    assert (shown["status"], shown["data"], shown["ended_by"]["name"]) == ("completed", 3, "local")
    pending = (await stack.http.get("/v1/tokens", params={"status": "pending"})).json()["items"]
    assert token["id"] not in [one["id"] for one in pending]


async def test_a_repeated_creation_shows_the_same_secrets(stack: Stack) -> None:
    operation = {"Operation-Id": ids.new_id(ids.OPERATION)}
    async with stack.client(**operation) as http:
        first = (await http.post("/v1/tokens", json={"tags": ["x"]})).json()
        again = (await http.post("/v1/tokens", json={"tags": ["x"]})).json()
        assert first == again
        other = await http.post("/v1/tokens", json={"tags": ["y"]})
        assert code_of(other) == "operation_conflict"


async def test_50_concurrent_completes_have_one_winner_that_all_others_name(stack: Stack) -> None:
    token = await made(stack)
    waiting = await stack.started("by-token", token["id"])
    answers = await asyncio.gather(
        *(
            stack.http.post(f"/v1/tokens/{token['id']}/complete", json={"data": n})
            for n in range(50)
        )
    )
    won = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    assert len(won) == 1
    lost = [answer.json() for answer in answers if answer.status_code == 409]
    assert len(lost) == 49
    assert {problem["code"] for problem in lost} == {"token_completed"}
    assert len({problem["facts"]["completed_at"] for problem in lost}) == 1
    run = await stack.run_until(waiting["run"]["id"], "succeeded")
    assert run["result"] == won[0]


async def test_what_does_not_fit_the_schema_is_refused_and_changes_nothing(stack: Stack) -> None:
    _, path, _ = await by_link(stack)
    async with httpx.AsyncClient(base_url=stack.url) as http:
        bad = await http.post(path, json={"data": {"decision": "maybe"}})
        assert (bad.status_code, code_of(bad)) == (422, "schema_mismatch")
        assert (await http.post(path, json={"data": APPROVE})).status_code == 200


async def test_a_wait_on_a_token_is_answered_in_the_inbox(stack: Stack) -> None:
    receipt, _, _ = await by_link(stack)
    items = (await stack.http.get("/v1/waits")).json()["items"]
    wait = next(one for one in items if one["session_id"] == receipt["session"]["id"])
    assert wait["kind"] == "token"
    shown = (await stack.http.get(f"/v1/waits/{wait['id']}")).json()
    assert shown["schema"]["properties"]["decision"]["enum"] == ["approve", "reject"]
    answer = await stack.http.post(f"/v1/waits/{wait['id']}/answer", json={"data": APPROVE})
    assert answer.status_code == 200, answer.text
    assert answer.json()["outcome"] == "completed"
    await stack.run_until(receipt["run"]["id"], "succeeded")
    again = await stack.http.post(f"/v1/waits/{wait['id']}/answer", json={"data": APPROVE})
    assert (again.status_code, code_of(again)) == (409, "wait_resolved")


async def test_cancelling_a_token_cancels_the_waits_on_it(stack: Stack) -> None:
    token = await made(stack)
    waiting = await stack.started("by-token", token["id"])
    assert (await stack.http.post(f"/v1/tokens/{token['id']}/cancel")).json()[
        "status"
    ] == "cancelled"
    run = await stack.run_until(waiting["run"]["id"], "succeeded")
    assert run["result"] == "WaitCancelled"
    late = await stack.http.post(f"/v1/tokens/{token['id']}/complete", json={"data": 1})
    assert (late.status_code, code_of(late)) == (409, "token_cancelled")


async def test_an_expired_token_is_gone_and_its_waits_timed_out(stack: Stack) -> None:
    token = await made(stack, timeout=0.3)
    waiting = await stack.started("by-token", token["id"])
    run = await stack.run_until(waiting["run"]["id"], "succeeded")
    assert run["result"] == "WaitTimeout"
    late = await stack.http.post(f"/v1/tokens/{token['id']}/complete", json={"data": 1})
    assert (late.status_code, code_of(late)) == (410, "token_expired")


async def test_the_tokens_own_public_token_completes_it_and_nothing_else(stack: Stack) -> None:
    receipt, _, public = await by_link(stack)
    session = receipt["session"]["id"]
    token_id = (await stack.http.get("/v1/tokens")).json()["items"][0]["id"]
    bearer = {"Authorization": f"Bearer {public}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=bearer) as http:
        other = await made(stack)
        wrong = await http.post(f"/v1/tokens/{other['id']}/complete", json={"data": 1})
        assert (wrong.status_code, code_of(wrong)) == (403, "scope_denied")
        wrong = await http.get(f"/v1/sessions/{session}")
        assert (wrong.status_code, code_of(wrong)) == (403, "scope_denied")
        done = await http.post(f"/v1/tokens/{token_id}/complete", json={"data": APPROVE})
        assert done.status_code == 200
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == "approve"
    shown = (await stack.http.get(f"/v1/tokens/{token_id}")).json()
    assert shown["ended_by"]["type"] == "public_token"


async def test_a_page_shows_takes_and_remembers_an_answer(stack: Stack) -> None:
    receipt, path, _ = await by_link(stack)
    async with httpx.AsyncClient(base_url=stack.url) as http:
        for method in ("GET", "HEAD"):
            shown = await http.request(method, path)
            assert shown.status_code == 200
            assert "default-src 'none'" in shown.headers["content-security-policy"]
        page = (await http.get(path)).text
        assert "Publish News?" in page
        blind = await http.post(path, data={"f/decision": '"approve"'})
        assert blind.status_code == 422
        nonce = page.split('name="nonce" value="')[1].split('"')[0]
        form = {"nonce": nonce, "f/decision": '"approve"', "f/note": "Fine"}
        taken = await http.post(path, data=form)
        assert taken.status_code == 303, taken.text
        seen = await http.get(taken.headers["location"])
        assert "Answer recorded" in seen.text
        assert "Fine" in seen.text
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == "approve"


async def test_whatever_is_wrong_with_a_link_gets_one_404(stack: Stack) -> None:
    from helmr_runtime.security.secrets import SecretKind, make_secret

    bodies = set()
    wrong = ["x", make_secret(SecretKind.CALLBACK), make_secret(SecretKind.PUBLIC_TOKEN), stack.key]
    async with httpx.AsyncClient(base_url=stack.url) as http:
        for secret in wrong:
            for method in ("GET", "POST"):
                answer = await http.request(method, f"/v1/callbacks/{secret}", json={"data": 1})
                assert answer.status_code == 404
                bodies.add(answer.content)
    assert len(bodies) == 1


async def test_a_pull_request_webhook_signed_here_completes_a_raw_token_and_a_changed_byte_does_not(
    stack: Stack,
) -> None:
    body = files("helmr.examples").joinpath("data/pull_request.opened.json").read_bytes()
    secret = "It's a Secret to Everybody"
    token = await made(stack, raw=True, verify={"scheme": "github", "secret": secret})
    assert token["callback_url"].endswith("?raw=1")
    waiting = await stack.started("by-token", token["id"])
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
    path = path_of(token["callback_url"])
    async with httpx.AsyncClient(base_url=stack.url, headers=headers) as http:
        changed = await http.post(path, content=body.replace(b"opened", b"0pened", 1))
        assert (changed.status_code, code_of(changed)) == (403, "signature_refused")
        taken = await http.post(path, content=body)
        assert taken.status_code == 200, taken.text
    run = await stack.run_until(waiting["run"]["id"], "succeeded")
    assert run["result"] == json.loads(body)


async def test_githubs_webhook_with_githubs_signature_completes_a_token_and_with_one_changed_byte_it_does_not(
    stack: Stack,
) -> None:
    token = await made(stack, raw=True, verify={"scheme": "github", "secret": DELIVERY_SECRET})
    waiting = await stack.started("by-token", token["id"])
    path = path_of(token["callback_url"])
    refused = (403, "signature_refused")
    async with httpx.AsyncClient(base_url=stack.url, headers=DELIVERY_HEADERS) as http:
        for place in (0, len(DELIVERY) // 2, len(DELIVERY) - 1):
            body = DELIVERY[:place] + bytes([DELIVERY[place] ^ 1]) + DELIVERY[place + 1 :]
            answer = await http.post(path, content=body)
            assert (answer.status_code, code_of(answer)) == refused
        for place in (len("sha256="), -1):
            given = DELIVERY_HEADERS["x-hub-signature-256"]
            other = "0" if given[place] != "0" else "1"
            signature = given[:place] + other + (given[place + 1 :] if place >= 0 else "")
            answer = await http.post(
                path, content=DELIVERY, headers={"x-hub-signature-256": signature}
            )
            assert (answer.status_code, code_of(answer)) == refused
        pending = await stack.http.get(f"/v1/tokens/{token['id']}")
        assert pending.json()["status"] == "pending"
        taken = await http.post(path, content=DELIVERY)
        assert (taken.status_code, taken.json()["outcome"]) == (200, "completed")
    run = await stack.run_until(waiting["run"]["id"], "succeeded")
    assert run["result"] == json.loads(DELIVERY)


async def test_published_bodies_with_their_published_github_signatures_are_taken(
    stack: Stack,
) -> None:
    # Both signatures were made by others. docs.github.com: "Testing the webhook payload validation".
    hello = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    # octokit/webhooks-methods.js, test/verify.test.ts
    foo_bar = "sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3"
    kind = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=stack.url, headers=kind) as http:

        async def post(secret: str, signature: str, *bodies: bytes) -> list[httpx.Response]:
            verify = {"scheme": "github", "secret": secret}
            token = await made(stack, raw=True, verify=verify)
            headers = {"X-Hub-Signature-256": signature}
            path = path_of(token["callback_url"])
            return [await http.post(path, content=body, headers=headers) for body in bodies]

        changed, taken = await post("mysecret", foo_bar, b'{"foo":"baz"}', b'{"foo":"bar"}')
        assert (changed.status_code, code_of(changed)) == (403, "signature_refused")
        assert (taken.status_code, taken.json()["outcome"]) == (200, "completed")
        # Signed by GitHub's secret, but no JSON: what is wrong then is the body.
        secret = "It's a Secret to Everybody"
        changed, no_json = await post(secret, hello, b"Hello, World?", b"Hello, World!")
        assert code_of(changed) == "signature_refused"
        assert (no_json.status_code, code_of(no_json)) == (400, "bad_json")


async def test_a_completion_is_delivered_after_everything_was_dead(tmp_path: Path) -> None:
    first = Stack(tmp_path)
    await first.start()
    token = await made(first)
    waiting = await first.started("by-token", token["id"])
    # Completed while nobody delivers.
    assert first.directory is not None
    await first.directory.stop()
    done = await first.http.post(f"/v1/tokens/{token['id']}/complete", json={"data": "late"})
    assert done.status_code == 200
    await first.stop()
    second = Stack(tmp_path)
    try:
        await second.start()
        run = await second.run_until(waiting["run"]["id"], "succeeded")
        assert run["result"] == "late"
        again = await second.http.post(f"/v1/tokens/{token['id']}/complete", json={"data": "late"})
        assert again.json()["outcome"] == "already_completed"
        ledger = second.ledger._ledger
        assert ledger is not None
        await until(lambda: not ledger.index.counts()["deliveries"])
    finally:
        await second.stop()


async def test_a_wait_on_a_token_shows_its_question_and_is_sorted_by_its_expiry(
    stack: Stack,
) -> None:
    later = await made(stack, subject="Second?", timeout="2h")
    sooner = await made(stack, subject="First?", body="# Look", timeout="1h")
    sessions = [
        (await stack.started("by-token", token["id"]))["session"]["id"] for token in (later, sooner)
    ]
    listed = (await stack.http.get("/v1/waits")).json()["items"]
    assert [(wait["subject"], wait["deadline_at"]) for wait in listed] == [
        ("First?", sooner["expires_at"]),
        ("Second?", later["expires_at"]),
    ]
    wait = (await stack.http.get(f"/v1/waits/{listed[0]['id']}")).json()
    assert (wait["subject"], wait["body"], wait["session_id"]) == ("First?", "# Look", sessions[1])
    session = (await stack.http.get(f"/v1/sessions/{sessions[1]}")).json()
    assert session["wait"] == wait
    entries = (await stack.http.get(f"/v1/sessions/{sessions[1]}/transcript")).json()["items"]
    [opened] = [entry["body"] for entry in entries if entry["kind"] == "wait.opened"]
    assert opened["deadline_of"] == "token"


async def test_a_shown_expiry_is_no_timer_after_a_restart_either(tmp_path: Path) -> None:
    first = Stack(tmp_path)
    await first.start()
    token = await made(first, timeout="1h")
    other = await made(first, timeout="1h")
    shown = (await first.started("by-token", token["id"]))["session"]["id"]
    await first.started("by-token", other["id"])
    [wait] = (await first.http.get("/v1/waits", params={"session_id": shown})).json()["items"]
    assert wait["deadline_at"] == token["expires_at"]
    await first.stop()
    again = Stack(tmp_path)
    await again.start()
    ledger = await again.ledger._open()
    deadlines = [head.wait.deadline_at for head in ledger.index.heads.values() if head.wait]
    assert deadlines == [None, None]
    [wait] = (await again.http.get("/v1/waits", params={"session_id": shown})).json()["items"]
    assert wait["deadline_at"] == token["expires_at"]
    await again.stop()


async def test_a_wait_opened_before_waits_had_their_tokens_question_shows_it_in_full(
    stack: Stack, monkeypatch: Any
) -> None:
    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr("helmr_runtime.session.outside.question_of", nothing)
    token = await made(stack, subject="First?", body="# Look", timeout="1h")
    session = (await stack.started("by-token", token["id"]))["session"]
    wait = (await stack.http.get(f"/v1/sessions/{session['id']}")).json()["wait"]
    assert (wait["subject"], wait["body"]) == ("First?", "# Look")
    assert wait["deadline_at"] == token["expires_at"]
