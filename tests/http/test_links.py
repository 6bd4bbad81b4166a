"""Answer links over HTTP: made for a wait and a person, opened by whoever has the URL, good once (S-46, S-74)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.wire import ids
from helmr_runtime.directory.work import WorkQueue
from helmr_runtime.security.secrets import make_secret
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

HTML = "text/html; charset=utf-8"
APPROVE = {"data": {"decision": "approve"}}


async def linked(stack: Stack, wait_id: str, person: str = "ada", **more: Any) -> dict[str, Any]:
    made = await stack.http.post(f"/v1/waits/{wait_id}/links", json={"person": person, **more})
    assert made.status_code == 201, made.text
    link: dict[str, Any] = made.json()
    return link


def path_of(link: dict[str, Any]) -> str:
    return f"/v1/links/{link['url'].rpartition('/')[2]}"


def anybody(stack: Stack) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=stack.url)


async def test_a_link_that_is_to_live_longer_than_it_may_is_refused(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    path = f"/v1/waits/{wait_id}/links"
    asked = {"person": "ada", "expires_in": "30d"}
    refused = await stack.http.post(path, json=asked)
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert "at most 7 days" in refused.json()["detail"]
    assert (await stack.http.get(path)).json()["items"] == []
    await linked(stack, wait_id, expires_in="7d")


@pytest.mark.parametrize(
    "person", ["group:finance", "starter", "person:starter", "ada\u202e", "a\x00da", " ", "person:"]
)
async def test_a_link_is_for_one_person_whose_name_shows(stack: Stack, person: str) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    path = f"/v1/waits/{wait_id}/links"
    refused = await stack.http.post(path, json={"person": person})
    assert refused.status_code in (400, 422), refused.text
    assert (await stack.http.get(path)).json()["items"] == []


async def test_a_person_answers_on_the_page_and_sees_what_was_recorded(stack: Stack) -> None:
    started = await stack.started()
    wait_id = started["session"]["wait"]["id"]
    link = await linked(stack, wait_id)
    path = path_of(link)
    async with anybody(stack) as http:
        page = await http.get(path)
        assert (page.status_code, "Publish" in page.text) == (200, True)
        nonce = page.text.split('name="nonce" value="')[1].split('"')[0]
        form = {"nonce": nonce, "f/decision": '"approve"', "f/note": "Fine"}
        sent = await http.post(path, data=form)
        assert (sent.status_code, sent.headers["location"]) == (303, path)
        again = await http.get(path)
        assert "The answer is recorded" in again.text
        assert "Fine" in again.text
    wait = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    assert (wait["status"], wait["mode"]) == ("fulfilled", "link")
    assert wait["resolved_by"] == {
        "type": "link",
        "id": link["id"],
        "name": None,
        "on_behalf_of": "ada",
        "via": None,
    }
    run = await stack.run_until(started["run"]["id"], "succeeded")
    assert run["result"] == {"status": "approve"}


async def test_the_page_says_who_is_at_the_wait_and_takes_the_answer_all_the_same(
    stack: Stack,
) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    path = path_of(await linked(stack, wait_id))
    async with stack.client(**{"On-Behalf-Of": "mia <b>"}) as mia, anybody(stack) as http:
        assert (await mia.post(f"/v1/waits/{wait_id}/claim")).status_code == 200
        page = (await http.get(path)).text
        assert "Someone is working on it" in page
        assert "mia &lt;b&gt;" in page
        assert (await http.post(path, json=APPROVE)).status_code == 200
        assert "Someone is working on it" not in (await http.get(path)).text


async def test_looking_a_hundred_times_changes_nothing(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    path = path_of(await linked(stack, wait_id))
    async with anybody(stack) as http:
        for _ in range(50):
            assert (await http.get(path)).status_code == 200
            assert (await http.head(path)).status_code == 200
        blind = await http.post(path, data={"f/decision": '"approve"'})
        assert blind.status_code == 422
    assert (await stack.http.get(f"/v1/waits/{wait_id}")).json()["status"] == "pending"


async def test_a_link_is_good_once_and_the_others_are_told(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    mine, yours = (
        path_of(await linked(stack, wait_id)),
        path_of(await linked(stack, wait_id, "grace")),
    )
    async with anybody(stack) as http:
        bad = await http.post(mine, json={"data": {"decision": "perhaps"}})
        assert (bad.status_code, code_of(bad)) == (422, "schema_mismatch")
        assert (await http.post(mine, json=APPROVE)).json()["outcome"] == "fulfilled"
        for path in (mine, yours):
            late = await http.post(path, json=APPROVE)
            assert (late.status_code, code_of(late)) == (409, "wait_resolved")
        overtaken = await http.get(yours)
        assert "ada" in overtaken.text
        assert "approve" not in overtaken.text
    made = await stack.http.post(f"/v1/waits/{wait_id}/links", json={"person": "x"})
    assert (made.status_code, code_of(made)) == (409, "wait_resolved")


async def test_whatever_is_wrong_with_a_link_is_one_404(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    revoked = await linked(stack, wait_id)
    gone = await stack.http.delete(f"/v1/waits/{wait_id}/links/{revoked['id']}")
    assert (gone.status_code, gone.json()["is_live"]) == (200, False)
    again = await stack.http.delete(f"/v1/waits/{wait_id}/links/{revoked['id']}")
    assert again.json()["revoked_at"] == gone.json()["revoked_at"]
    public = await stack.http.post("/v1/tokens", json={})
    secrets = [
        path_of(revoked),
        f"/v1/links/{make_secret('link')}",
        "/v1/links/nothing",
        f"/v1/links/{public.json()['public_access_token']}",
        f"/v1/links/{public.json()['callback_url'].rpartition('/')[2]}",
    ]
    async with anybody(stack) as http:
        answers = [await http.request(m, s, json=APPROVE) for s in secrets for m in ("GET", "POST")]
    assert {(answer.status_code, code_of(answer)) for answer in answers} == {(404, "not_found")}
    assert len({answer.json()["detail"] for answer in answers}) == 1


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_a_browser_gets_a_page_for_every_link_that_opens_nothing(stack: Stack) -> None:
    """Links that people find in their mail: revoked, of a cancelled session, mistyped, never made."""
    started = await stack.started()
    wait_id = started["session"]["wait"]["id"]
    revoked, cancelled = await linked(stack, wait_id), await linked(stack, wait_id, "bo")
    await stack.http.delete(f"/v1/waits/{wait_id}/links/{revoked['id']}")
    gone = await stack.http.post(f"/v1/sessions/{started['session']['id']}/cancel")
    assert gone.status_code == 200, gone.text
    paths = [path_of(revoked), "/v1/links/nothing", f"/v1/links/{make_secret('link')}"]
    paths += [f"/v1/callbacks/{make_secret('cb')}", "/v1/callbacks/nothing"]
    async with anybody(stack) as http:
        pages = [await http.get(path, headers=BROWSER) for path in paths]
        pages.append(await http.post(paths[0], data={"f/decision": '"approve"'}))
        for page in pages:
            assert (page.status_code, page.headers["content-type"]) == (404, HTML)
            assert "This link opens nothing any more" in page.text
            assert "It may have expired, or been taken back. Ask who sent it." in page.text
            assert "default-src 'none'" in page.headers["content-security-policy"]
        assert len({page.text for page in pages}) == 1, "it does not say which"
        withdrawn = await http.get(path_of(cancelled), headers=BROWSER)
        assert withdrawn.headers["content-type"] == HTML
        for accept in ("application/json", "*/*"):
            told = await http.get(paths[0], headers={"Accept": accept})
            assert (told.status_code, code_of(told)) == (404, "not_found")


async def test_another_answer_by_a_used_link_is_said_not_to_be_recorded(stack: Stack) -> None:
    """Two tabs of one link: *reject* in one, then *approve* in the other."""
    started = await stack.started()
    path = path_of(await linked(stack, started["session"]["wait"]["id"]))
    async with anybody(stack) as http:
        page = (await http.get(path)).text
        assert "You answer as <b><bdi>ada</bdi></b>" in page
        nonce = page.split('name="nonce" value="')[1].split('"')[0]
        first = {"nonce": nonce, "f/decision": '"reject"', "f/note": ""}
        assert (await http.post(path, data=first)).status_code == 303
        second = await http.post(path, data={**first, "f/decision": '"approve"'})
        assert (second.status_code, "The answer is recorded" in second.text) == (409, False)
        assert "Your first answer stands: <bdi>reject</bdi>" in second.text
        assert "This one was not recorded." in second.text
        for same in (await http.post(path, data=first), await http.get(path)):
            assert (same.status_code, "The answer is recorded" in same.text) == (200, True)
    result = (await stack.run_until(started["run"]["id"], "succeeded"))["result"]
    assert result == {"status": "reject"}


async def test_the_secret_of_a_link_opens_nothing_else(stack: Stack) -> None:
    started = await stack.started()
    secret = path_of(await linked(stack, started["session"]["wait"]["id"])).rpartition("/")[2]
    async with anybody(stack) as http:
        callback = await http.post(f"/v1/callbacks/{secret}", json={"data": 1})
        assert callback.status_code == 404
        bearer = {"Authorization": f"Bearer {secret}"}
        sent = f"/v1/sessions/{started['session']['id']}/inputs/approval"
        for path in (sent, "/v1/public-tokens"):
            assert (await http.post(path, json=APPROVE, headers=bearer)).status_code == 401


async def test_links_are_listed_and_repeated_without_their_urls(stack: Stack) -> None:
    wait_id = (await stack.started())["session"]["wait"]["id"]
    operation = {"Operation-Id": ids.new_id(ids.OPERATION)}
    path = f"/v1/waits/{wait_id}/links"
    first = await stack.http.post(path, json={"person": "ada"}, headers=operation)
    again = await stack.http.post(path, json={"person": "ada"}, headers=operation)
    assert again.json() == first.json()
    other = await stack.http.post(path, json={"person": "eve"}, headers=operation)
    assert code_of(other) == "operation_conflict"
    await linked(stack, wait_id, "grace", expires_in="1h")
    listed = (await stack.http.get(path)).json()["items"]
    assert [one["person"] for one in listed] == ["grace", "ada"]
    assert all(one["is_live"] and "url" not in one for one in listed)
    public = (await stack.http.get("/v1/public-tokens")).json()["items"]
    assert {one["scope"]["type"] for one in public} == {"wait.answer"}
    for body in ({"person": " "}, {"person": "a", "expires_in": "0s"}, {}):
        refused = await stack.http.post(path, json=body)
        assert refused.status_code in (400, 422), body
    nothing = await stack.http.delete(f"{path}/{ids.new_id(ids.PUBLIC_TOKEN)}")
    assert nothing.status_code == 404


async def test_a_link_answers_a_wait_on_a_token_and_completes_it(stack: Stack) -> None:
    token = (await stack.http.post("/v1/tokens", json={"initial": "hello"})).json()
    started = await stack.started("by-token", token["id"])
    wait = (await stack.http.get(f"/v1/sessions/{started['session']['id']}")).json()["wait"]
    assert wait["initial"] == "hello"
    link = await linked(stack, wait["id"])
    async with anybody(stack) as http:
        assert "hello" in (await http.get(path_of(link))).text
        done = await http.post(path_of(link), json={"data": "done"})
        assert done.json()["outcome"] == "completed"
    run = await stack.run_until(started["run"]["id"], "succeeded")
    assert run["result"] == "done"
    assert (await stack.http.get(f"/v1/waits/{wait['id']}")).json()["mode"] == "link"
    ended = (await stack.http.get(f"/v1/tokens/{token['id']}")).json()["ended_by"]
    assert (ended["type"], ended["on_behalf_of"]) == ("link", "ada")


async def test_a_wait_shows_how_its_token_ended_before_its_session_has_decided(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    decides = asyncio.Event()

    deliver = WorkQueue._run_delivery

    async def later(self: WorkQueue, *delivery: Any) -> None:
        await decides.wait()
        await deliver(self, *delivery)

    monkeypatch.setattr(WorkQueue, "_run_delivery", later)
    token = (await stack.http.post("/v1/tokens", json={})).json()
    started = await stack.started("by-token", token["id"])
    session, wait_id = started["session"]["id"], started["session"]["wait"]["id"]
    own, others = [path_of(await linked(stack, wait_id)) for _ in range(2)]

    async def pending() -> int:
        return int((await stack.http.get("/readyz")).json()["counts"]["waits_pending"])

    assert await pending() == 1
    async with anybody(stack) as http:
        await http.post(own, json={"data": "done"})
        wait = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
        assert (wait["status"], wait["resolving"], wait["answer"]) == (
            "pending",
            "completed",
            "done",
        )
        assert (wait["resolved_by"]["on_behalf_of"], await pending()) == ("ada", 0)
        of_session = (await stack.http.get(f"/v1/sessions/{session}")).json()["wait"]
        assert (of_session["id"], of_session["resolving"]) == (wait_id, "completed")
        assert "The answer is recorded" in (await http.get(own)).text
        assert "answered it first" in (await http.get(others)).text
        decides.set()
        await stack.run_until(started["run"]["id"], "succeeded")
    after = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    assert (after["status"], after["resolving"]) == ("fulfilled", None)
    assert (after["resolved_by"], after["answer"]) == (wait["resolved_by"], "done")


async def test_links_and_their_waits_are_there_after_a_restart(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    await stack.start()
    wait_id = (await stack.started())["session"]["wait"]["id"]
    path = path_of(await linked(stack, wait_id))
    await stack.stop()
    second = Stack(tmp_path)
    try:
        await second.start()
        async with anybody(second) as http:
            answered = await http.post(path, json=APPROVE)
            assert answered.json()["outcome"] == "fulfilled"
        [one] = (await second.http.get(f"/v1/waits/{wait_id}/links")).json()["items"]
        assert one["is_live"] is False
    finally:
        await second.stop()
