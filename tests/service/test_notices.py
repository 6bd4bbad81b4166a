"""Notices beside real parts: from the feed to a receiver, over restarts of the gateway, and by HTTP (S-84)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from helmr import streams, task
from helmr.errors import Unavailable
from helmr.testing import Harness
from helmr_runtime.catalog import Registry
from helmr_runtime.core.notices import Position
from helmr_runtime.notices.senders import sender_of
from helmr_runtime.notices.targets import read_targets
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import NO_PEOPLE, PeopleConfig
from helmr_runtime.service import notice_teller, notices
from tests.http.scrape import scrape
from tests.notices.receivers import Endpoint, endpoint
from tests.programs.model.told import Told as Teller
from tests.service.stack import Stack, until

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANSWER = {"data": {"decision": "approve"}}


words = streams.input("words", schema=str)


@task(id="hour-review")
async def hour_review(payload: dict[str, str]) -> str:
    """Asks with a deadline that is an hour away."""
    return await words.wait(timeout="1h").unwrap()


@pytest.fixture
def hook() -> Iterator[Endpoint]:
    with endpoint() as one:
        yield one


class Told(Stack):
    """A runtime with notice targets, whose gateway can begin anew."""

    targets: dict[str, Any]

    def with_targets(self, *, people: PeopleConfig = NO_PEOPLE, **targets: dict[str, Any]) -> None:
        self.targets = targets
        self.service = self.make_service(
            notice_targets=[
                (one, sender_of(one, {"KEY": KEY}, self.clock.now))
                for one in read_targets(targets, "helmr.toml")
            ],
            people=people,
        )
        self.gateway = GatewayActor(self.service, self.settings())

    async def begin_anew(self, **targets: dict[str, Any]) -> None:
        """The gateway ends, and another begins."""
        await self.gateway.stop()
        self.with_targets(**(targets or self.targets))
        port = await self.gateway.start("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}"
        await self.http.aclose()
        self.http = self.client()
        await self.begun()

    async def begun(self) -> None:
        async def has_begun() -> bool:
            return all(one["offset"] is not None for one in await self.listed())

        await until(has_begun)

    async def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.http.get("/v1/notices")).json()["items"]
        return found


def webhook(hook: Endpoint, **parts: Any) -> dict[str, Any]:
    return {
        "type": "webhook",
        "url": hook.url,
        "secret_env": "KEY",
        "private_addresses": True,
        "longest_pause": "1s",
        **parts,
    }


ALL_EVENTS = {"events": ["wait.opened", "wait.assigned", "wait.resolved", "run.failed"]}


@pytest.fixture
async def stack(tmp_path: Path, hook: Endpoint) -> AsyncIterator[Told]:
    stack = Told(tmp_path, linger_s=0.01)
    stack.with_targets(oncall=webhook(hook, **ALL_EVENTS))
    await stack.start(sessions_per_host=4)
    await stack.begun()
    yield stack
    await stack.stop()


async def arrived(hook: Endpoint, count: int) -> list[dict[str, Any]]:
    async def has_arrived() -> bool:
        return len(hook.posts) >= count

    await until(has_arrived)
    return hook.bodies


async def waiting(stack: Stack, **parts: Any) -> dict[str, Any]:
    """The session of a review that waits, with its wait."""
    receipt = await stack.started(**parts)
    found: dict[str, Any] = receipt["session"]
    assert found["wait"] is not None
    return found


async def test_a_wait_is_told_from_its_opening_to_its_answer(stack: Told, hook: Endpoint) -> None:
    session = await waiting(stack, tags=["blog"])
    wait_id = session["wait"]["id"]
    opened = (await arrived(hook, 1))[0]
    assert opened["type"] == "helmr.wait.opened"
    assert (opened["data"]["wait_id"], opened["data"]["tags"]) == (wait_id, ["blog"])
    assert "body" not in opened["data"], "detail = subject"
    await stack.http.post(f"/v1/waits/{wait_id}/assign", json={"assignee": "mia"})
    await stack.http.post(f"/v1/waits/{wait_id}/answer", json=ANSWER)
    told = await arrived(hook, 3)
    assert [one["type"] for one in told] == [
        "helmr.wait.opened",
        "helmr.wait.assigned",
        "helmr.wait.resolved",
    ]
    for headers, body in hook.posts:
        Verifier(KEY).verify(body, headers)


@pytest.mark.long  # tests/core/test_notices.py
async def test_a_target_that_takes_nothing_is_a_state_until_it_takes_again(
    stack: Told, hook: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "FAILING_FOR", timedelta(seconds=0.2))

    async def told() -> dict[str, Any]:
        found: dict[str, Any] = (await stack.http.get("/readyz")).json()
        return found

    async def is_told() -> bool:
        return bool((await told())["degraded"] == ["notices_failing"])

    hook.down()
    await waiting(stack)
    await until(is_told)
    (warning,) = (await told())["warnings"]
    assert warning.startswith("notice target oncall has taken nothing for ")
    assert "1 notice waits for it (it can't be connected to)" in warning
    oncall = {"target": "oncall"}
    shown = await scrape(stack)
    assert (shown["helmr_notices_failing", oncall], shown["helmr_notices_waiting", oncall]) == (
        1,
        1,
    )
    assert shown["helmr_notices_given_up_total", oncall] == 0
    hook.up()
    await stack.http.post("/v1/notices/oncall/retry")
    await arrived(hook, 1)

    async def is_over() -> bool:
        return not (await told())["degraded"]

    await until(is_over)
    assert (await scrape(stack))["helmr_notices_waiting", oncall] == 0


async def test_what_happens_while_target_and_gateway_are_down_is_told_in_order(
    stack: Told, hook: Endpoint
) -> None:
    await waiting(stack)
    await arrived(hook, 1)
    hook.down()
    waits = [(await waiting(stack))["wait"]["id"] for _ in range(3)]
    for wait_id in waits:
        await stack.http.post(f"/v1/waits/{wait_id}/answer", json=ANSWER)

    async def fails() -> bool:
        return (await stack.listed())[0]["failing_since"] is not None

    await until(fails)
    (shown,) = await stack.listed()
    assert shown["last_error"] == "it can't be connected to"
    assert shown["behind"] > 0
    await stack.begin_anew()
    hook.up()
    await stack.http.post("/v1/notices/oncall/retry")
    told = await arrived(hook, 7)
    for wait_id in waits:
        types = [one["type"] for one in told if one["data"].get("wait_id") == wait_id]
        assert list(dict.fromkeys(types)) == ["helmr.wait.opened", "helmr.wait.resolved"]

    async def is_done() -> bool:
        (one,) = await stack.listed()
        return one["queued"] == 0 and one["failing_since"] is None

    await until(is_done)
    before = len(hook.posts)
    await stack.begin_anew()
    await waiting(stack)
    await arrived(hook, before + 1)
    assert len(hook.posts) == before + 1, "what was taken is told once if nothing dies"


@pytest.mark.allows_blocking  # a command that is looked for
async def test_what_was_passed_by_is_told_also_if_the_ledger_does_not_answer_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(hour_review) as harness:
        session = await harness.start(hour_review, {"text": "x"})
        wait_id = (await session.wait())["wait_id"]
        ledger, head = harness.ledger, await harness.ledger.feed_head()
        get_wait, answers = ledger.get_wait, iter([Unavailable("it starts"), None, None, None])

        async def at_second(wait: str) -> Any:
            if (error := next(answers)) is not None:
                raise error
            return await get_wait(wait)

        monkeypatch.setattr(ledger, "get_wait", at_second)
        told = Teller(harness)
        told._stored = Position(head, harness.clock.now(), late=((1, head),))
        await told.begin()
        await harness.advance("2s")
        await until(lambda: asyncio.sleep(0, bool(told.taken)))
        await told.close()
        [notice] = told.taken.values()
        assert (notice.data["wait_id"], notice.late) == (wait_id, True)


async def test_a_target_that_is_down_delays_no_other_and_no_answer(
    stack: Told, hook: Endpoint
) -> None:
    with endpoint(is_up=False) as down:
        await stack.begin_anew(lost=webhook(down), oncall=webhook(hook))
        for _ in range(3):
            session = await waiting(stack)
            response = await stack.http.post(
                f"/v1/waits/{session['wait']['id']}/answer", json=ANSWER
            )
            assert response.status_code == 200
        await arrived(hook, 3)
        shown = {one["name"]: one for one in await stack.listed()}
        assert shown["oncall"]["failing_since"] is None
        assert shown["lost"]["queued"] == 3


async def test_filter_detail_and_events_say_what_is_told(stack: Told, hook: Endpoint) -> None:
    with endpoint() as quiet, endpoint() as full:
        await stack.begin_anew(
            oncall=webhook(hook, filter="tag:urgent"),
            quiet=webhook(quiet, detail="none"),
            full=webhook(full, detail="full"),
        )
        await waiting(stack)
        await waiting(stack, tags=["urgent"])
        await arrived(hook, 1)
        await arrived(quiet, 2)
        await arrived(full, 2)
        assert [one["data"]["tags"] for one in hook.bodies] == [["urgent"]]
        assert {"subject", "body", "tags", "correlation_id"}.isdisjoint(quiet.bodies[0]["data"])
        assert full.bodies[0]["data"]["subject"]


async def test_a_link_in_a_notice_answers_its_wait_once(stack: Told, hook: Endpoint) -> None:
    await stack.begin_anew(oncall=webhook(hook, links="Ada on call"))
    hook.statuses = [500, 500]
    session = await waiting(stack)
    (told,) = await arrived(hook, 1)
    links = (await stack.http.get(f"/v1/waits/{session['wait']['id']}/links")).json()["items"]
    assert len(links) == 1, "three tries make one link"
    path = httpx.URL(told["data"]["link"]).path
    async with httpx.AsyncClient(base_url=stack.url) as outside:
        page = await outside.get(path)
    assert page.status_code == 200
    assert links[0]["person"] == "Ada on call"
    transcript = (await stack.http.get(f"/v1/sessions/{session['id']}/transcript")).text
    assert told["data"]["link"].rpartition("/")[2] not in transcript


async def test_links_of_nobody_are_not_made(stack: Told, hook: Endpoint) -> None:
    await stack.begin_anew(oncall=webhook(hook, links="assignee"))
    await waiting(stack)
    (told,) = await arrived(hook, 1)
    assert "link" not in told["data"]


@pytest.mark.long  # tests/core/test_notices.py
async def test_a_wait_whose_deadline_is_near_is_told_once(
    tmp_path: Path, hook: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_teller, "LOOK_AHEAD_EVERY", timedelta(milliseconds=50))
    stack = Told(tmp_path, registry=Registry((hour_review,), code_hash="hours"))
    soon = webhook(hook, events=["wait.due_soon", "wait.resolved"], due_soon="59m59s")
    stack.with_targets(oncall=soon)
    await stack.start(sessions_per_host=4)
    try:
        await stack.begun()
        session = await waiting(stack, task="hour-review")
        (told,) = await arrived(hook, 1)
        assert told["type"] == "helmr.wait.due_soon"
        assert told["id"] == f"{session['wait']['id']}-due"
        await stack.begin_anew()
        await stack.http.post(f"/v1/waits/{session['wait']['id']}/answer", json={"data": "yes"})
        told = (await arrived(hook, 2))[1]
        assert told["type"] == "helmr.wait.resolved"
    finally:
        await stack.stop()


async def test_a_fork_tells_nothing_of_its_past(stack: Told, hook: Endpoint) -> None:
    session = await waiting(stack)
    (opened,) = await arrived(hook, 1)
    wait_id, path = session["wait"]["id"], f"/v1/sessions/{session['id']}"
    await stack.http.post(f"/v1/waits/{wait_id}/answer", json=ANSWER)
    # Before its last op the newest is the wait, and a fork from there would wait too.
    await stack.run_until(session["wait"]["run_id"], "succeeded")
    entries = (await stack.http.get(f"{path}/transcript")).json()["items"]
    last_op = max(one["op"] for one in entries if one["op"] is not None)
    forked = await stack.http.post(f"{path}/fork", json={"to_op": last_op, "reason": "look"})
    assert forked.status_code == 201, forked.text
    await stack.run_until(forked.json()["run"]["id"], "succeeded")
    after = await waiting(stack)
    told = await arrived(hook, 3)
    assert told[0] == opened
    assert [one["data"]["session_id"] for one in told[1:]] == [session["id"], after["id"]]


async def test_the_ledger_holds_positions_and_nothing_else(stack: Told, hook: Endpoint) -> None:
    await waiting(stack)
    await arrived(hook, 1)
    await stack.begin_anew()
    stored = await stack.reads.notices()
    assert set(stored) == {"oncall"}
    assert set(stored["oncall"]) == {"offset", "soon_at", "late"}
    await stack.begin_anew(other=webhook(hook))
    assert set(await stack.reads.notices()) == {"other"}


@pytest.mark.long
async def test_operators_test_a_target_and_hear_why_it_takes_nothing(
    stack: Told, hook: Endpoint
) -> None:
    told = (await stack.http.post("/v1/notices/oncall/test")).json()
    assert told == {"target": "oncall", "taken": True, "error": None, "remark": None}
    assert hook.bodies[0]["type"] == "helmr.test"
    hook.statuses = [403]
    told = (await stack.http.post("/v1/notices/oncall/test")).json()
    assert (told["taken"], told["error"]) == (False, "it answered 403")
    (shown,) = await stack.listed()
    assert shown["failing_since"] is None, "a test is not an event"
    missing = await stack.http.post("/v1/notices/nobody/test")
    assert (missing.status_code, missing.json()["code"]) == (404, "notice_target_not_found")
    listed = (await stack.http.get("/v1/notices")).text
    assert hook.url not in listed
    assert KEY not in listed


@pytest.mark.long
async def test_a_quiet_feed_writes_no_positions(stack: Told, hook: Endpoint) -> None:
    await waiting(stack)
    await arrived(hook, 1)

    await asyncio.sleep(1.5)
    head = await stack.reads.feed_head()
    await asyncio.sleep(2.5)
    assert await stack.reads.feed_head() == head, "its own entries move no position"
