"""Chunks over HTTP: beside the records, in order, nothing stored; a slow follower is told what it lost (S-90)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helmr.client.calls import Event
from helmr_runtime.catalog import Registry
from helmr_runtime.rpc.calls import LEDGER
from tests.service import emit_tasks
from tests.service.stack import Events, Stack, until

REGISTRY = Registry(
    [emit_tasks.bursts, emit_tasks.hanging],
    modules=["tests.service.emit_tasks"],
    code_hash="code-1",
)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with tasks that emit."""
    stack = Stack(tmp_path, registry=REGISTRY)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


@asynccontextmanager
async def following(
    stack: Stack, session_id: str, query: str = "?chunks=true", **headers: str
) -> AsyncIterator[Events]:
    path = f"/v1/sessions/{session_id}/outputs/tokens{query}"
    headers = {"Accept": "text/event-stream", **headers}
    async with stack.http.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        yield Events(response)


async def begin(stack: Stack, task: str, payload: Any) -> str:
    receipt = await stack.started(task, payload)
    return str(receipt["session"]["id"])


async def send(stack: Stack, session_id: str) -> None:
    path = f"/v1/sessions/{session_id}/inputs/go"
    assert (await stack.http.post(path, json={"data": "go"})).status_code == 200


async def take_until(events: Events, kind: str, count: int = 1) -> list[Event]:
    """Events up to so many of that kind."""
    taken: list[Event] = []
    while sum(event.type == kind for event in taken) < count:
        taken += await events.take(1)
    return taken


def data_of(events: Sequence[Event], kind: str) -> list[Any]:
    return [json.loads(event.data) for event in events if event.type == kind]


@pytest.mark.long  # tests/service/test_chunks.py
async def test_a_thousand_chunks_a_second_arrive_in_order_and_none_is_stored(stack: Stack) -> None:
    emit_tasks.longest_s.clear()
    session_id = await begin(stack, "bursts", {"chunks": 1_000, "per_second": 1_000})
    async with following(stack, session_id) as events:
        before = stack.calls.counter["host", "chunks"]
        await send(stack, session_id)
        taken = await take_until(events, "chunks.end")
        taken += await take_until(events, "record") if not data_of(taken, "record") else []
        calls = stack.calls.counter["host", "chunks"] - before
    chunks = data_of(taken, "chunk")
    assert [chunk["data"][0] for chunk in chunks] == list(range(1_000))
    assert {(chunk["stream"], chunk["op"], chunk.get("lost")) for chunk in chunks} == {
        ("tokens", 2, None)
    }
    assert data_of(taken, "chunks.end") == [{"stream": "tokens", "op": 2, "outcome": "succeeded"}]
    assert [record["data"] for record in data_of(taken, "record")] == [1_000]
    assert calls < 200  # and not one for each
    page = await stack.http.get(f"/v1/sessions/{session_id}/transcript?limit=200")
    kinds = [entry["kind"] for entry in page.json()["items"]]
    assert kinds.count("output.appended") == 1
    assert len(kinds) < 20


async def test_chunks_have_no_id_so_that_who_comes_back_goes_on_behind_the_last_record(
    stack: Stack,
) -> None:
    session_id = await begin(stack, "bursts", {"chunks": 2})
    async with following(stack, session_id) as events:
        for count in (1, 2):
            await send(stack, session_id)
            taken = await take_until(events, "record")
            if not data_of(taken, "chunks.end"):
                taken += await take_until(events, "chunks.end")
            assert {event.id for event in taken} <= {"", str(count - 1), str(count)}
        blocks = [block for block in events.text.split("\n\n") if "event: chunk" in block]
        assert len(blocks) == 6
        assert not any("id:" in block for block in blocks)
    async with following(stack, session_id, **{"Last-Event-ID": "1"}) as events:
        [again] = await events.take(1)
    assert (again.type, again.id, json.loads(again.data)["data"]) == ("record", "2", 4)


async def test_who_does_not_ask_for_chunks_gets_none_and_causes_no_call(stack: Stack) -> None:
    session_id = await begin(stack, "bursts", {"chunks": 5})
    async with following(stack, session_id, "") as events:
        await send(stack, session_id)
        [taken] = await events.take(1)
    assert taken.type == "record"
    assert stack.calls.counter["host", "chunks"] == 0
    assert stack.calls.counter["directory", "locate"] == 0


async def test_nothing_is_asked_once_the_last_follower_has_gone(stack: Stack) -> None:
    session_id = await begin(stack, "bursts", {"chunks": 5})
    async with following(stack, session_id):
        await until(lambda: stack.service.chunks._polls)
    await until(lambda: not stack.service.chunks._polls)
    assert stack.service.chunks.followed == {}


async def test_a_slow_follower_is_told_how_many_chunks_it_lost(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection of one that reads nothing is full; the other gets everything meanwhile."""
    session_id = await begin(stack, "bursts", {"chunks": 3_000, "per_second": 3_000, "size": 2_000})
    async with following(stack, session_id) as slow, following(stack, session_id) as quick:
        await send(stack, session_id)
        everything = await take_until(quick, "chunks.end")
        taken = await take_until(slow, "chunks.end")
    chunks, [end] = data_of(taken, "chunk"), data_of(taken, "chunks.end")
    lost = sum(chunk.get("lost", 0) for chunk in chunks) + end.get("lost", 0)
    assert lost > 0
    assert len(chunks) + lost == 3_000
    expected = -1
    for chunk in chunks:
        expected += 1 + chunk.get("lost", 0)
        assert chunk["data"][0] == expected
    assert len(data_of(everything, "chunk")) > len(chunks)


async def test_a_public_token_that_reads_the_stream_sees_them(stack: Stack) -> None:
    session_id = await begin(stack, "bursts", {"chunks": 3})
    scope = {"type": "session.output.read", "session": session_id, "stream": "tokens"}
    made = await stack.http.post("/v1/public-tokens", json={"scope": scope})
    secret = made.json()["public_access_token"]
    async with following(stack, session_id, Authorization=f"Bearer {secret}") as events:
        await send(stack, session_id)
        taken = await take_until(events, "chunks.end")
    assert len(data_of(taken, "chunk")) == 3


async def test_a_step_whose_host_dies_ends_as_died_and_emits_again(stack: Stack) -> None:
    session_id = await begin(stack, "hangs", 7)
    async with following(stack, session_id) as events:
        await send(stack, session_id)
        first = await take_until(events, "chunk")
        [host] = [name for name, host in stack.hosts.items() if session_id in host.slots]
        stack.kill(host, "killed by the test")
        taken = first + await take_until(events, "chunk")
    told = [(event.type, json.loads(event.data)) for event in taken]
    assert told == [
        ("chunk", {"stream": "tokens", "op": 2, "data": 7}),
        ("chunks.end", {"stream": "tokens", "op": 2, "outcome": "died"}),
        ("chunk", {"stream": "tokens", "op": 2, "data": 7}),
    ]


async def test_who_follows_a_parked_session_gets_its_first_chunk(tmp_path: Path) -> None:
    # Its host has it for longer than a busy machine takes from the feed's news of it to the question where it lives.
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=1.0)
    try:
        await stack.start()
        session_id = await begin(stack, "bursts", {"chunks": 5})

        async def is_parked() -> bool:
            return not await stack.calls.call(LEDGER, "held")

        await until(is_parked)
        async with following(stack, session_id) as events:
            await send(stack, session_id)
            taken = await take_until(events, "chunks.end")
        assert [one["data"][0] for one in data_of(taken, "chunk")] == [0, 1, 2, 3, 4]
    finally:
        await stack.stop()
