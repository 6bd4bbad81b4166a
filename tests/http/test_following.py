"""Event streams: feeds and outputs, going on where one stopped (S-54)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from helmr.wire import ids
from helmr_runtime.http import handlers
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.service.following import Followed
from tests.http.test_sessions import code_of
from tests.service.stack import BOUND_S, Events, Stack, until

EVENT_STREAM = {"Accept": "text/event-stream"}


@asynccontextmanager
async def following(stack: Stack, path: str, **headers: str) -> AsyncIterator[Events]:
    async with stack.http.stream("GET", path, headers={**EVENT_STREAM, **headers}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)


async def say(stack: Stack, session_id: str, word: str) -> None:
    path = f"/v1/sessions/{session_id}/inputs/words"
    response = await stack.http.post(path, json={"data": word})
    assert response.status_code == 200, response.text


def offsets(events: list[Any]) -> list[int]:
    return [int(event.id) for event in events]


async def test_a_session_is_followed_from_its_first_entry_into_the_present(stack: Stack) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    await stack.started("return", 1)  # entries of another session between
    async with following(stack, f"/v1/sessions/{session_id}/events?after=0") as events:
        path = f"/v1/sessions/{session_id}/transcript"
        past = (await stack.http.get(path)).json()["items"]
        seen = await events.take(len(past))
        await say(stack, session_id, "hello")
        seen += await events.take(1)
        whole = (await stack.http.get(path)).json()["items"]
        seen += await events.take(len(whole) - len(seen))
    assert [json.loads(event.data) for event in seen] == [
        {**entry, "principal": {k: v for k, v in entry["principal"].items() if v is not None}}
        for entry in whole
    ]
    assert {event.type for event in seen} == {"entry"}
    assert offsets(seen) == [entry["feed_offset"] for entry in whole]


async def test_the_last_event_id_wins_and_nothing_is_skipped_or_repeated(stack: Stack) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    path = f"/v1/sessions/{session_id}/events?after=0"
    seen: list[Any] = []
    headers: dict[str, str] = {}
    for word in ("a", "b", "c"):
        await say(stack, session_id, word)
        async with following(stack, path, **headers) as events:
            seen += await events.take(4 if seen else 8)
        headers = {"Last-Event-ID": seen[-1].id}
    page = await stack.http.get(f"/v1/sessions/{session_id}/transcript?limit=200")
    expected = [entry["feed_offset"] for entry in page.json()["items"]]
    assert offsets(seen) == expected[: len(seen)]


async def test_a_feed_without_a_place_begins_now_and_says_where(stack: Stack) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    async with following(stack, "/v1/events") as events:
        first = await events.first_bytes()
        assert first.startswith("id: ")
        begun = int(first.removeprefix("id: ").split()[0])
        await say(stack, session_id, "hello")
        taken = await events.take(2)
    assert offsets(taken) == [begun + 1, begun + 2]
    assert json.loads(taken[0].data)["kind"] == "input.accepted"


async def test_all_sessions_are_followed_in_order(stack: Stack) -> None:
    async with following(stack, "/v1/events?after=0") as events:
        body = {"task": "return", "payload": 1}
        await asyncio.gather(*(stack.http.post("/v1/sessions", json=body) for _ in range(5)))
        head = await stack.reads.feed_head()
        taken = await events.take(head)
    assert offsets(taken) == list(range(1, head + 1))


async def test_outputs_are_read_and_followed_by_seq(stack: Stack) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    path = f"/v1/sessions/{session_id}/outputs/echoes"
    async with following(stack, path) as events:
        await say(stack, session_id, "one")
        await say(stack, session_id, "two")
        taken = await events.take(2)
    assert {event.type for event in taken} == {"record"}
    assert offsets(taken) == [1, 2]
    read = (await stack.http.get(path)).json()["items"]
    assert [record["data"] for record in read] == [
        {"word": "one", "count": 1},
        {"word": "two", "count": 2},
    ]
    assert [json.loads(event.data)["id"] for event in taken] == [record["id"] for record in read]
    assert read[0]["principal"]["type"] == "task"
    async with following(stack, f"{path}?after=0", **{"Last-Event-ID": "1"}) as events:
        assert offsets(await events.take(1)) == [2]
    page = (await stack.http.get(path, params={"after": 1})).json()
    assert [record["seq"] for record in page["items"]] == [2]


async def test_an_unknown_output_is_404_and_lists_those_there_are(stack: Stack) -> None:
    session_id = (await stack.started())["session"]["id"]
    path = f"/v1/sessions/{session_id}/outputs/nothing"
    for headers in ({}, EVENT_STREAM):
        response = await stack.http.get(path, headers=headers)
        assert (response.status_code, code_of(response)) == (404, "stream_not_found")
        assert response.json()["facts"]["streams"] == ["echoes", "progress"]
    unknown = f"/v1/sessions/{ids.new_id(ids.SESSION)}"
    for path in (f"{unknown}/outputs/echoes", f"{unknown}/events"):
        assert code_of(await stack.http.get(path, headers=EVENT_STREAM)) == "session_not_found"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, "٣"])
async def test_a_last_event_id_that_is_none_is_refused(shared_stack: Stack, last: str) -> None:
    headers = {"Last-Event-ID": last.encode()}
    response = await shared_stack.http.get("/v1/events", headers=headers)  # type: ignore[arg-type]
    assert (response.status_code, code_of(response)) == (400, "bad_request")


async def test_a_silent_stream_is_kept_open_by_comments(stack: Stack) -> None:
    gateway = GatewayActor(stack.make_service(), stack.settings(keep_alive_s=0.02))
    port = await gateway.start("127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{port}/v1/events?after={stack.service.hub.offset}"
        async with stack.http.stream("GET", url) as response, asyncio.timeout(BOUND_S):
            text = ""
            async for part in response.aiter_text():
                text += part
                if text.count(": keep-alive\n\n") >= 2:
                    break
    finally:
        await gateway.stop()


async def test_a_client_that_goes_away_is_forgotten(stack: Stack) -> None:
    hub = stack.service.hub
    async with following(stack, "/v1/events") as events:
        await events.first_bytes()
        assert hub.followers == 1
    await until(lambda: hub.followers == 0)


async def test_stopping_the_gateway_ends_every_stream(stack: Stack) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    async with (
        following(stack, "/v1/events") as everything,
        following(stack, f"/v1/sessions/{session_id}/outputs/echoes") as echoes,
    ):
        await everything.first_bytes()
        await echoes.first_bytes()
        async with asyncio.timeout(BOUND_S):
            await asyncio.gather(stack.gateway.stop(), everything.end(), echoes.end())


def test_what_is_written_at_once_is_bounded_by_its_size() -> None:
    texts = ["x" * 1_000] * 500 + ["y" * 200_000, "z"]
    items = [Followed("entry", number, text) for number, text in enumerate(texts)]
    writes = list(handlers._writes(items))
    assert "".join(writes) == "".join(handlers._frame(item) for item in items)
    assert max(map(len, writes)) < 200_000 + 2 * handlers.WRITE_CHARS
    assert all(len(one) < 2 * handlers.WRITE_CHARS for one in writes[:-2])
    assert list(handlers._writes([])) == []


@pytest.mark.parametrize("after", [0, 1])
async def test_a_follow_of_an_output_asks_the_ledger_once_at_its_start(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    session_id = (await stack.started("echo", 0))["session"]["id"]
    await say(stack, session_id, "hello")
    path = f"/v1/sessions/{session_id}/outputs/echoes"

    async def is_echoed() -> bool:
        return bool((await stack.http.get(path)).json()["items"])

    await until(is_echoed)
    asked: list[str] = []
    call = stack.calls.call

    async def watched(actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        if method in ("brief", "outputs"):
            asked.append(method)
        return await call(actor, method, *args, **kwargs)

    monkeypatch.setattr(stack.calls, "call", watched)
    async with following(stack, f"{path}?after={after}") as events:
        if after == 0:
            await events.take(1)
        await say(stack, session_id, "again")
        [event] = await events.take(1)
    assert json.loads(event.data)["seq"] == 2
    assert asked == ["brief", "outputs"]
