"""Feeds go on after a broken connection, and give every item once (S-54)."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from contextlib import ExitStack, aclosing, closing
from dataclasses import replace
from typing import Any

import pytest

from helmr.client import AsyncClient, Client, Retry
from helmr.client.calls import Tries
from helmr.errors import RuntimeNotFound, SessionNotFound, StoreUnavailable, Unavailable, UsageError
from tests.client.gateway import KEY, Fault, Gateway, running
from tests.client.test_trying_again import BUSY


def test_a_session_is_followed_from_the_beginning(gateway: Gateway, client: Client) -> None:
    session_id = gateway.session()
    for number in range(5):
        gateway.entry(session_id, "note.added", body={"text": f"{number}\u2028\u0085"})
    gateway.entry(gateway.session(), "note.added")
    with closing(client.sessions.open(session_id).follow()) as feed:
        entries = list(itertools.islice(feed, 5))
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[3].body == {"text": "3\u2028\u0085"}


def test_a_feed_that_ends_after_each_item_gives_each_once(gateway: Gateway, client: Client) -> None:
    session_id = gateway.session()
    gateway.events_per_connection = 1
    for _ in range(5):
        gateway.entry(session_id, "note.added")
    with closing(client.sessions.open(session_id).follow()) as feed:
        assert [entry.seq for entry in itertools.islice(feed, 5)] == [1, 2, 3, 4, 5]
    asked = gateway.requests("GET", f"/v1/sessions/{session_id}/events")
    assert [one.headers["last-event-id"] for one in asked] == ["0", "1", "2", "3", "4"]


async def test_the_async_client_reconnects_as_well(
    gateway: Gateway, async_client: AsyncClient
) -> None:
    session_id = gateway.session()
    gateway.events_per_connection = 2
    for number in range(5):
        gateway.record(session_id, "progress", number)
    found = []
    async with aclosing(async_client.sessions.open(session_id).output("progress").follow()) as feed:
        async for record in feed:
            found.append(record.data)
            if len(found) == 5:
                break
    assert found == [0, 1, 2, 3, 4]


def test_an_event_that_was_cut_off_comes_whole_after_the_reconnect(
    gateway: Gateway, client: Client
) -> None:
    session_id = gateway.session()
    gateway.record(session_id, "progress", "x" * 500)
    gateway.fault("GET", f"/v1/sessions/{session_id}/outputs/progress", Fault("cut_feed"))
    with closing(client.sessions.open(session_id).output("progress").follow()) as feed:
        assert next(feed).data == "x" * 500
    assert len(gateway.requests("GET", f"/v1/sessions/{session_id}/outputs/progress")) == 2


def test_repeats_of_the_gateway_are_dropped(gateway: Gateway, client: Client) -> None:
    session_id = gateway.session()
    first = gateway.entry(session_id, "note.added")
    second = gateway.entry(session_id, "note.added")
    import json

    def event(entry: dict) -> str:
        return f"event: entry\nid: {entry['feed_offset']}\ndata: {json.dumps(entry)}\n\n"

    twice = (event(first) + event(first) + event(second)).encode()
    headers = {"content-type": "text/event-stream"}
    gateway.fault("GET", f"/v1/sessions/{session_id}/events", Fault("answer", 200, headers, twice))
    with closing(client.sessions.open(session_id).follow()) as feed:
        assert [entry.seq for entry in itertools.islice(feed, 2)] == [1, 2]


def test_a_feed_from_now_does_not_skip_what_comes_between_two_connections(
    gateway: Gateway, client: Client
) -> None:
    session_id = gateway.session()
    gateway.entry(session_id, "note.added", body={"text": "before"})
    gateway.events_per_connection = 0
    feed = client.sessions.open(session_id).follow(after=None)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(next(feed).body["text"]), daemon=True)
    thread.start()
    path = f"/v1/sessions/{session_id}/events"
    _until(lambda: len(gateway.requests("GET", path)) >= 2)
    gateway.entry(session_id, "note.added", body={"text": "between"})
    gateway.events_per_connection = 10
    thread.join(10)
    assert found == ["between"]


def test_a_feed_that_is_not_to_be_had_again_ends_with_what_is_wrong(
    gateway: Gateway, client: Client
) -> None:
    session_id = gateway.session()
    path = f"/v1/sessions/{session_id}/events"
    gateway.entry(session_id, "note.added")
    gateway.events_per_connection = 1
    feed = client.sessions.open(session_id).follow()
    assert next(feed).seq == 1
    gateway.fault("GET", path, *[Fault("answer", 503, body=BUSY) for _ in range(9)])
    with pytest.raises(StoreUnavailable):
        next(feed)


def test_a_feed_of_nothing_ends_with_not_found_at_once(gateway: Gateway, client: Client) -> None:
    session_id = gateway.session()
    path = f"/v1/sessions/{session_id}/events"
    body = b'{"title":"x","status":404,"detail":"no session","code":"session_not_found"}'
    gateway.fault("GET", path, Fault("answer", 404, body=body))
    with pytest.raises(SessionNotFound):
        next(client.sessions.open(session_id).follow())
    assert len(gateway.requests("GET", path)) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("answer", 200, {"content-type": "text/html"}, b"<html>"), RuntimeNotFound),
        (
            Fault(
                "answer", 200, {"content-type": "text/event-stream"}, b"event: entry\ndata: {}\n\n"
            ),
            Unavailable,
        ),
    ],
)
def test_what_is_no_feed_is_an_error(
    gateway: Gateway, client: Client, fault: Fault, error: type[Exception]
) -> None:
    gateway.fault("GET", "/v1/events", *[fault] * 9)
    with pytest.raises(error):
        next(client.events(after=0))


def test_a_feed_that_only_closes_is_given_up(gateway: Gateway, client: Client) -> None:
    gateway.events_per_connection = 0
    with pytest.raises(Unavailable, match="closed the feed"):
        next(client.events())
    assert len(gateway.requests("GET", "/v1/events")) == 4


def test_a_run_is_waited_for_until_it_ends(gateway: Gateway, client: Client) -> None:
    session_id = gateway.session()
    run_id = gateway.run(session_id)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(client.runs.wait(run_id, timeout="20s")), daemon=True
    )
    thread.start()
    _until(lambda: bool(gateway.requests("GET", f"/v1/sessions/{session_id}/events")))
    gateway.runs[run_id] |= {"status": "succeeded", "result": 7}
    gateway.entry(session_id, "run.succeeded", run_id=run_id)
    thread.join(10)
    assert [run.result for run in found] == [7]


def test_an_end_between_the_look_and_the_feed_is_not_missed(
    gateway: Gateway, client: Client
) -> None:
    session_id = gateway.session()
    run_id = gateway.run(session_id)
    gateway.fault("GET", f"/v1/sessions/{session_id}/events", Fault("slow", pause_s=0.3))
    found = []
    thread = threading.Thread(
        target=lambda: found.append(client.runs.wait(run_id, timeout="20s")), daemon=True
    )
    thread.start()
    _until(lambda: bool(gateway.requests("GET", f"/v1/sessions/{session_id}/events")))
    gateway.runs[run_id]["status"] = "failed"  # the feed begins after it
    thread.join(10)
    assert [run.status for run in found] == ["failed"]


@pytest.mark.parametrize("comment_every_s", [None, 0.05])
def test_waiting_ends_in_time_also_when_the_feed_keeps_talking(
    gateway: Gateway, client: Client, comment_every_s: float | None
) -> None:
    gateway.comment_every_s = comment_every_s
    run_id = gateway.run(gateway.session())
    began = time.monotonic()
    run = client.runs.wait(run_id, timeout=0.5)
    assert run.status == "running"
    assert 0.5 <= time.monotonic() - began < 3


async def test_waiting_is_the_same_awaited(gateway: Gateway, async_client: AsyncClient) -> None:
    run_id = gateway.run(gateway.session())
    assert (await async_client.runs.wait(run_id, timeout=0.3)).status == "running"
    gateway.runs[run_id]["status"] = "waiting"
    assert (await async_client.runs.wait(run_id, until="stopped")).status == "waiting"


def test_an_unknown_until_is_refused_at_once(gateway: Gateway, client: Client) -> None:
    run_id = gateway.run(gateway.session())
    with pytest.raises(UsageError, match="'ended' or 'stopped', not 'waiting'"):
        client.runs.wait(run_id, until="waiting")  # type: ignore[arg-type]  # what is tested


def test_start_and_wait_returns_the_run_as_it_came_to_rest(
    gateway: Gateway, client: Client
) -> None:
    path = "/v1/sessions"
    started = client.sessions.start_and_wait("review", {"n": 1}, timeout=0.2)
    assert started.started_run.status == "running"
    assert b'"result_timeout_s":0.' in gateway.requests("POST", path)[0].body


def test_a_break_after_a_long_silence_is_tried_again() -> None:
    now = 1000.0
    tries = Tries(Retry(tries_max=3, total_s=30.0), clock=lambda: now)
    tries.answered()
    now += 3600
    assert tries.failed(Unavailable("broken")) < 1
    now += 29.99
    with pytest.raises(Unavailable):
        tries.failed(Unavailable("broken"))


AWAY = Retry(total_s=0.3, pause_s=0.01, pause_max_s=0.02)


def test_a_follower_outlasts_any_time_without_a_runtime() -> None:
    now = 0.0
    tries = Tries(Retry(), clock=lambda: now)
    tries.connected()
    for _ in range(3000):
        now += tries.failed(RuntimeNotFound("away", connecting=True))
    assert now > 3600


def test_a_follower_goes_on_after_a_restart_that_takes_longer_than_a_call_may() -> None:
    memory = Gateway()
    session_id = memory.session()
    memory.record(session_id, "progress", 1)
    found: list[Any] = []
    with ExitStack() as life:
        life.enter_context(running(memory))
        port = int(memory.url.rpartition(":")[2])
        client = Client(url=memory.url, key=KEY, retry=AWAY)

        def follow() -> None:
            with (
                client,
                closing(client.sessions.open(session_id).output("progress").follow()) as feed,
            ):
                found.extend(record.data for record in itertools.islice(feed, 2))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        _until(
            lambda: (
                bool(found) or memory.requests("GET", f"/v1/sessions/{session_id}/outputs/progress")
            )
        )
        life.close()
        began = time.monotonic()
        with pytest.raises(RuntimeNotFound):  # no call outlasts that
            Client(url=memory.url, key=KEY, retry=AWAY).health()
        assert time.monotonic() - began > AWAY.total_s / 2
        memory.record(session_id, "progress", 2)
        life.enter_context(running(memory, port=port))
        thread.join(10)
    assert found == [1, 2]


async def test_a_follower_gives_up_when_it_is_told_how_long() -> None:
    memory = Gateway()
    session_id = memory.session()
    memory.record(session_id, "progress", 1)
    with ExitStack() as life:
        life.enter_context(running(memory))
        retry = replace(AWAY, follow_s=0.1)
        async with AsyncClient(url=memory.url, key=KEY, retry=retry) as client:
            feed = client.sessions.open(session_id).output("progress").follow()
            async with aclosing(feed):
                assert (await anext(feed)).data == 1
                await asyncio.to_thread(life.close)
                with pytest.raises(RuntimeNotFound):
                    await anext(feed)


def _until(holds) -> None:
    bound = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < bound
        time.sleep(0.005)
