"""One contract over each way in: HTTP, and a Ray job's app over its own actor calls (here by local calls)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from helmr.client import AsyncClient, Client
from helmr.client import ray as ray_way
from helmr.client.discovery import RAY, Endpoint
from helmr.client.inprocess import AppTransport, BlockingAppTransport
from helmr.errors import (
    IdempotencyConflict,
    RunActive,
    SchemaMismatch,
    SessionNotFound,
    SessionTerminal,
    StreamNotFound,
    TaskNotFound,
    TokenCompleted,
    TokenExhausted,
    WaitResolved,
)
from runtime.actors.boundary import GATEWAY
from runtime.actors.job import VERSION, JobDoor
from runtime.clock import SystemClock
from runtime.core.entries import Principal
from runtime.ports import Introduction
from tests.service.stack import BOUND_S, Stack

JOB = Principal("ray_job", "0a000000")
MISSING = "01h455vb4pex5vsknk084sn02q"


class Introducing:
    """What a job asks of the gateway's actor."""

    async def introduce(self) -> Introduction:
        return Introduction(
            version=VERSION, started_at=SystemClock().now(), base_url="http://helmr.test"
        )


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    try:
        await stack.start()
        stack.calls.register(GATEWAY, Introducing())
        yield stack
    finally:
        await stack.stop()


@pytest.fixture(params=["http", "ray_job"])
async def client(
    request: pytest.FixtureRequest, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncClient]:
    if request.param == "ray_job":
        found = Endpoint(url=RAY, key=None, found_by="test")
        monkeypatch.setattr(ray_way, "find", lambda *, key: found)
        monkeypatch.setattr(ray_way, "carrier", lambda: AppTransport(JobDoor(JOB, stack.calls)))
        url, key = RAY, None
    else:
        url, key = stack.url, stack.key
    async with AsyncClient(url=url, key=key, on_behalf_of="Zoë") as one:
        one.way = request.param  # type: ignore[attr-defined]
        yield one


async def test_a_session_from_start_to_close(client: AsyncClient) -> None:
    started = await client.sessions.start_and_wait(
        "review", {"title": "News"}, external_id="e", tags=["t"], timeout=BOUND_S
    )
    assert started.created
    [wait] = [one async for one in client.waits.list(session_id=started.id)]
    receipt = await client.waits.answer(wait.id, {"decision": "approve"})
    assert receipt.run_id == started.started_run.id
    run = await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert run.result == {"status": "approve"}
    session = await client.sessions.find("e")
    [record] = [one async for one in session.input("approval").list()]
    way = client.way  # type: ignore[attr-defined]
    assert record.principal.type == ("ray_job" if way == "ray_job" else "api_key")
    assert record.principal.on_behalf_of == "Zoë"
    assert [one.data async for one in session.output("progress").read()] == ["asked", "approve"]
    note = await session.note("seen")
    again = await session.run()
    assert (await client.runs.cancel(again.id)).status == "cancelled"
    assert (await session.close()).status == "closed"
    entries = [one async for one in session.transcript(limit=3)]
    assert [one.seq for one in entries] == list(range(1, len(entries) + 1))
    assert entries[note.seq - 1].kind == "note.added"
    assert (await client.health()).ready


async def test_sends_say_what_they_did(client: AsyncClient) -> None:
    started = await client.sessions.start_and_wait("review", {"title": "News"}, timeout=BOUND_S)
    approval = client.sessions.open(started.id).input("approval")
    reject = {"decision": "reject"}
    first = await approval.send(reject, correlation_id="other", idempotency_key="k")
    assert first.outcome == "unmatched"
    again = await approval.send(reject, correlation_id="other", idempotency_key="k")
    assert (again.duplicate, again.record_id) == (True, first.record_id)
    assert (await approval.send(reject, correlation_id="review-1")).outcome == "fulfilled"
    late = await client.sessions.start_and_wait("quick-review", {"title": "News"}, timeout=BOUND_S)
    await client.runs.wait(late.started_run.id, timeout=BOUND_S)
    sent = await client.sessions.open(late.id).input("approval").send(reject)
    assert sent.outcome in ("late", "buffered")


async def test_following_meets_every_record_once(client: AsyncClient) -> None:
    started = await client.sessions.start("echo", 0)
    session = client.sessions.open(started.id)

    async def send() -> None:
        for number in range(30):
            await session.input("words").send(str(number))

    sending = asyncio.create_task(send())
    found: list[str] = []
    async with asyncio.timeout(BOUND_S), aclosing(session.output("echoes").follow()) as feed:
        async for record in feed:
            found.append(record.data["word"])
            if len(found) == 30:
                break
    await sending
    assert found == [str(number) for number in range(30)]


async def test_tokens_and_what_is_handed_out(client: AsyncClient) -> None:
    token = await client.tokens.create(timeout="1h", tags=["a"])
    assert token.callback_url.startswith("http://helmr.test/v1/callbacks/")
    assert (await client.tokens.complete(token.id, 1)).outcome == "completed"
    assert (await client.tokens.complete(token.id, 1)).outcome == "already_completed"
    with pytest.raises(TokenCompleted):
        await client.tokens.complete(token.id, 2)
    other = await client.tokens.create(timeout="1h")
    assert (await client.tokens.cancel(other.id)).status == "cancelled"

    started = await client.sessions.start("echo", 0)
    scope = {"type": "session.input.send", "session": started.id, "stream": "words"}
    public = await client.auth.create_public_token(scope=scope, max_uses=1)
    words = client.sessions.open(started.id).input("words")
    await words.send("x", public_access_token=public.public_access_token)
    with pytest.raises(TokenExhausted):
        await words.send("y", public_access_token=public.public_access_token)
    [record] = [one async for one in words.list()]
    assert record.principal.type == "public_token"

    key = await client.keys.create("viewer", name="looks")
    assert key.id in [one.id async for one in client.keys.list()]
    await client.keys.revoke(key.id)


async def test_every_refusal_is_its_own_error(client: AsyncClient) -> None:
    started = await client.sessions.start_and_wait("review", {"title": "News"}, timeout=BOUND_S)
    session = client.sessions.open(started.id)
    approval = session.input("approval")
    with pytest.raises(TaskNotFound):
        await client.sessions.start("nope")
    with pytest.raises(SchemaMismatch) as bad:
        await approval.send({"decision": "maybe"})
    assert [one["path"] for one in bad.value.errors] == ["decision"]
    with pytest.raises(StreamNotFound):
        await anext(session.output("nope").follow())
    with pytest.raises(RunActive):
        await session.close()
    await approval.send({"decision": "reject"}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await approval.send({"decision": "approve"}, idempotency_key="k")
    wait = await anext(client.waits.list(session_id=session.id))
    await client.waits.answer(wait.id, {"decision": "approve"})
    with pytest.raises(WaitResolved) as resolved:
        await client.waits.answer(wait.id, {"decision": "reject"})
    assert resolved.value.facts["data"] == {"decision": "approve"}
    await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert (await session.cancel()).status == "cancelled"
    with pytest.raises(SessionTerminal):
        await approval.send({"decision": "approve"})
    with pytest.raises(SessionNotFound):
        await client.sessions.open(f"ses_{MISSING}").get()


async def test_failed_runs_are_retried(client: AsyncClient) -> None:
    started = await client.sessions.start("fail-once", "why")
    run = await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert (run.status, run.attempt) == ("failed", 1)
    await client.runs.retry(run.id)
    again = await client.runs.wait(run.id, timeout=BOUND_S)
    assert (again.status, again.attempt) == ("failed", 2)


async def test_the_blocking_client_goes_the_same_way(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop_calls = stack.calls
    found = Endpoint(url=RAY, key=None, found_by="test")
    monkeypatch.setattr(ray_way, "find", lambda *, key: found)
    main = asyncio.get_running_loop()

    class OtherLoop:
        """The stack's actors live on the test's loop, as Ray's live in other processes."""

        counter = loop_calls.counter

        async def call(self, *args: object, **kwargs: object) -> object:
            work = loop_calls.call(*args, **kwargs)  # type: ignore[arg-type]
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, main))

    monkeypatch.setattr(
        ray_way, "blocking_carrier", lambda: BlockingAppTransport(lambda: JobDoor(JOB, OtherLoop()))
    )

    def work() -> tuple[object, list[str]]:
        with Client(url=RAY) as client:
            started = client.sessions.start_and_wait("review", {"title": "News"}, timeout=BOUND_S)
            [wait] = list(client.waits.list(session_id=started.id))
            client.waits.answer(wait.id, {"decision": "approve"})
            found = []
            for record in client.sessions.open(started.id).output("progress").follow():
                found.append(record.data)
                if len(found) == 2:
                    break
            return client.runs.wait(started.started_run.id, timeout=BOUND_S).result, found

    assert await asyncio.to_thread(work) == ({"status": "approve"}, ["asked", "approve"])
