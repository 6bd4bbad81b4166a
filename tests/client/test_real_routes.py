"""The client against the real gateway over real session actors and a real ledger, all in this process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from helmr.client import AsyncClient, Client
from helmr.errors import (
    BadFilter,
    BadRequest,
    ExternalIdConflict,
    HelmrError,
    IdempotencyConflict,
    OperationConflict,
    RunActive,
    RunNotFound,
    RunNotRetryable,
    SchemaMismatch,
    SessionNotFound,
    SessionTerminal,
    StreamNotFound,
    TaskNotFound,
    Unauthenticated,
    WaitNotFound,
    WaitResolved,
)
from helmr_runtime.process.gateway import GatewayActor
from tests import warm
from tests.service.stack import BOUND_S, Stack

PROJECT = Path(__file__).resolve().parents[2]
MISSING = "01h455vb4pex5vsknk084sn02q"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url=stack.url, key=stack.key, on_behalf_of="Zoë") as one:
        yield one


@pytest.mark.long  # the contract
async def test_a_session_from_start_to_close(client: AsyncClient) -> None:
    started = await client.sessions.start_and_wait(
        "review", {"title": "News"}, external_id="e", tags=["t"], metadata={"m": 1}, timeout=BOUND_S
    )
    assert started.created
    assert started.started_run.status == "waiting"
    assert started.session.wait is not None
    assert started.session.wait.subject == "Publish News?"
    session = await client.sessions.find("e")
    assert session.id == started.id
    assert [one.id async for one in client.sessions.list(tag="t", activity="waiting")] == [
        session.id
    ]

    [wait] = [one async for one in client.waits.list(session_id=session.id)]
    assert wait.body is None
    full = await client.waits.get(wait.id)
    assert full.body == "# Look"
    assert isinstance(full.json_schema, dict)
    receipt = await client.waits.answer(wait.id, {"decision": "approve"})
    assert receipt.run_id == started.started_run.id

    run = await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert run.result == {"status": "approve"}
    assert [one.data async for one in session.output("progress").read()] == ["asked", "approve"]
    assert [one.data async for one in session.output("progress").read(after=1)] == ["approve"]
    [record] = [one async for one in session.input("approval").list()]
    assert record.consumed_by == wait.id
    assert record.principal.on_behalf_of == "Zoë"

    note = await session.note("seen")
    again = await session.run()
    assert again.started_by["type"] == "operator"
    assert (await client.runs.wait(again.id, until="stopped", timeout=BOUND_S)).status == "waiting"
    assert (await client.runs.cancel(again.id)).status == "cancelled"
    assert len([one async for one in session.runs()]) == 2
    assert (await session.close()).status == "closed"
    entries = [one async for one in session.transcript(limit=3)]
    assert [one.seq for one in entries] == list(range(1, len(entries) + 1))
    assert entries[note.seq - 1].kind == "note.added"


async def test_following_meets_every_entry_once_and_in_order(client: AsyncClient) -> None:
    started = await client.sessions.start("echo", 0)
    session = client.sessions.open(started.id)
    words = session.input("words")

    async def send() -> None:
        for number in range(30):
            await words.send(str(number))

    sending = asyncio.create_task(send())
    found = []
    async with asyncio.timeout(BOUND_S), aclosing(session.output("echoes").follow()) as feed:
        async for record in feed:
            found.append(record)
            if len(found) == 30:
                break
    await sending
    assert [one.seq for one in found] == list(range(1, 31))
    assert [one.data["word"] for one in found] == [str(number) for number in range(30)]
    assert (await session.close(end_input=True)).status in ("open", "closed")

    entries = []
    async with asyncio.timeout(BOUND_S), aclosing(session.follow()) as all_entries:
        async for entry in all_entries:
            entries.append(entry)
            if entry.kind == "session.closed":
                break
    assert [one.seq for one in entries] == list(range(1, len(entries) + 1))


async def test_a_follower_outlives_the_gateway(stack: Stack, client: AsyncClient) -> None:
    started = await client.sessions.start_and_wait("echo", 0, timeout=BOUND_S)
    session = client.sessions.open(started.id)
    found: list[str] = []

    async def follow() -> None:
        async with aclosing(session.output("echoes").follow()) as feed:
            async for record in feed:
                found.append(record.data["word"])
                if len(found) == 4:
                    return

    following = asyncio.create_task(follow())
    port = int(stack.url.rpartition(":")[2])
    for word in ("a", "b", "c", "d"):
        receipt = await session.input("words").send(word)
        assert receipt.outcome in ("fulfilled", "buffered")
        await stack.gateway.stop()
        stack.service = stack.make_service()
        stack.gateway = GatewayActor(stack.service, stack.settings())
        await stack.gateway.start("127.0.0.1", port)
    async with asyncio.timeout(BOUND_S):
        await following
    assert found == ["a", "b", "c", "d"]


@pytest.mark.long  # the contract
async def test_one_operation_id_is_one_operation(client: AsyncClient) -> None:
    operation = f"op_{MISSING}"
    first = await client.sessions.start("echo", 0, operation_id=operation)
    again = await client.sessions.start("echo", 0, operation_id=operation)
    assert again.id == first.id
    send_operation = "op_01h455vb4pex5vsknk084sn02r"
    words = client.sessions.open(first.id).input("words")
    receipts = [await words.send("x", operation_id=send_operation) for _ in range(2)]
    assert receipts[0].record_id == receipts[1].record_id
    with pytest.raises(OperationConflict):
        await words.send("y", operation_id=send_operation)


@pytest.mark.long  # the contract
async def test_every_refusal_is_its_own_error(client: AsyncClient) -> None:
    started = await client.sessions.start_and_wait(
        "review", {"title": "News"}, external_id="e", timeout=BOUND_S
    )
    session = client.sessions.open(started.id)
    approval = session.input("approval")
    with pytest.raises(TaskNotFound, match="review"):
        await client.sessions.start("nope")
    with pytest.raises(SchemaMismatch) as bad_payload:
        await client.sessions.start("review", {"title": 3})
    assert [one["path"] for one in bad_payload.value.errors] == ["title"]
    with pytest.raises(ExternalIdConflict):
        await client.sessions.start("review", {"title": "Other"}, external_id="e")
    with pytest.raises(SchemaMismatch) as bad_data:
        await approval.send({"decision": "maybe"})
    assert [one["path"] for one in bad_data.value.errors] == ["decision"]
    with pytest.raises(StreamNotFound, match="approval"):
        await session.input("nope").send(1)
    with pytest.raises(StreamNotFound):
        await anext(session.output("nope").follow())
    with pytest.raises(RunActive):
        await session.close()
    with pytest.raises(RunActive):
        await session.run()
    with pytest.raises(RunNotRetryable):
        await client.runs.retry(started.started_run.id)
    await approval.send({"decision": "reject"}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await approval.send({"decision": "approve"}, idempotency_key="k")
    wait = await anext(client.waits.list(session_id=session.id))
    await client.waits.answer(wait.id, {"decision": "approve"})
    with pytest.raises(WaitResolved) as resolved:
        await client.waits.answer(wait.id, {"decision": "reject"})
    assert resolved.value.facts["resolved_by"]["on_behalf_of"] == "Zoë"
    assert resolved.value.facts["data"] == {"decision": "approve"}
    await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    await session.close()
    with pytest.raises(SessionTerminal):
        await approval.send({"decision": "approve"})
    with pytest.raises(SessionNotFound):
        await client.sessions.open(f"ses_{MISSING}").get()
    with pytest.raises(SessionNotFound):
        await anext(client.sessions.open(f"ses_{MISSING}").follow())
    with pytest.raises(RunNotFound):
        await client.runs.get(f"run_{MISSING}")
    with pytest.raises(WaitNotFound):
        await client.waits.get(f"wait_{MISSING}")
    with pytest.raises((BadFilter, BadRequest)):
        await client.sessions.page(status="nope")


async def test_a_wrong_key_is_refused(stack: Stack) -> None:
    async with AsyncClient(url=stack.url, key="hlmr_key_wrong") as client:
        with pytest.raises(Unauthenticated):
            await client.sessions.page()
        assert (await client.health()).ready


@pytest.mark.long  # the contract
async def test_the_catalog_is_listed(client: AsyncClient) -> None:
    tasks = {one.id: one async for one in client.tasks.list()}
    assert "approval" in tasks["review"].inputs
    streams = {one.name: one async for one in client.streams.list()}
    assert streams["approval"].direction == "input"


async def test_the_feed_of_everything_begins_now(client: AsyncClient) -> None:
    earlier = await client.sessions.start_and_wait("return", 1, timeout=BOUND_S)
    feed = client.events()
    first = asyncio.ensure_future(anext(feed))
    async with asyncio.timeout(BOUND_S):
        while not first.done():
            await client.sessions.start("return", 2)
            await asyncio.wait({first}, timeout=0.1)
    await feed.aclose()
    assert first.result().session_id != earlier.id


@pytest.mark.long  # the contract
async def test_the_blocking_client_does_the_same(stack: Stack) -> None:
    def work() -> tuple[str, object, list[str]]:
        with Client(url=stack.url, key=stack.key) as client:
            started = client.sessions.start_and_wait("review", {"title": "News"}, timeout=BOUND_S)
            [wait] = list(client.waits.list(session_id=started.id))
            client.waits.answer(wait.id, {"decision": "approve"})
            run = client.runs.wait(started.started_run.id, timeout=BOUND_S)
            kinds = [one.kind for one in started.transcript()]
            return run.status, run.result, kinds

    status, result, kinds = await asyncio.to_thread(work)
    assert (status, result) == ("succeeded", {"status": "approve"})
    assert kinds[0] == "session.created"
    assert kinds[-1] == "run.succeeded"


async def helmr(stack: Stack, *words: str) -> tuple[int, str, str]:
    """Run a command in a process of its own."""
    env = os.environ | {"HELMR_URL": stack.url, "HELMR_API_KEY": stack.key}
    done = await asyncio.to_thread(warm.run, *words, env=env, cwd=PROJECT)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
async def test_the_command_line_on_the_real_routes(stack: Stack, client: AsyncClient) -> None:
    code, out, _ = await helmr(
        stack,
        "session",
        "start",
        "review",
        "--payload",
        '{"title": "News"}',
        "--wait",
        "15s",
        "--json",
    )
    assert code == 0
    receipt = json.loads(out)
    session_id, wait_id = receipt["session"]["id"], receipt["session"]["wait"]["id"]
    code, out, _ = await helmr(stack, "session", "get", session_id)
    for text in (wait_id, "approval", "review-1", "Publish News?", "# Look", 'decision: "approve"'):
        assert text in out
    code, _, err = await helmr(
        stack, "input", "send", session_id, "approval", "--data", '{"decision": "maybe"}'
    )
    assert code == 2
    assert "decision: Input should be 'approve' or 'reject'" in err
    assert len(err.splitlines()) <= 2
    code, out, _ = await helmr(
        stack,
        "wait",
        "answer",
        wait_id,
        "--data",
        '{"decision": "approve"}',
        "--on-behalf-of",
        "ana",
    )
    assert code == 0
    await client.runs.wait(receipt["run"]["id"], timeout=BOUND_S)
    code, out, err = await helmr(stack, "wait", "answer", wait_id, "--data", "1")
    assert code in (2, 5)
    code, out, _ = await helmr(stack, "session", "close", session_id)
    assert code == 0
    code, _, err = await helmr(
        stack, "input", "send", session_id, "approval", "--data", '{"decision": "approve"}'
    )
    assert code == 5
    assert err.startswith(f"helmr: {session_id} is closed")
    code, out, _ = await helmr(stack, "session", "follow", session_id)
    assert code == 0
    assert "for ana" in out


def test_every_error_of_the_tree_comes_back_as_itself() -> None:
    from helmr.errors import all_codes, error_from_code

    for code, cls in all_codes().items():
        error = error_from_code(code, "m", status=cls.status, facts={})
        assert type(error) is cls
        assert isinstance(error, HelmrError)
