"""The path of one answer makes the calls that its budget allows, and no other."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from helmr_runtime.ledger.index.work_list import ENDS_TEXT_MAX
from helmr_runtime.rpc.calls import LEDGER, Proxy, kind_of
from helmr_runtime.session import committer
from tests.service.stack import BOUND_S, Stack, until

LONG_POLLS = {"chunks", "feed", "work", "watch", "ping"}
"""Calls that stay pending, whatever is answered."""
SHARED = {"freshness"}
"""One now and then, whether the ledger is at work, which all calls until the next share."""


@asynccontextmanager
async def running(folder: Path, **timings: Any) -> AsyncIterator[Stack]:
    """A runtime in this process."""
    stack = Stack(folder, **timings)
    await stack.start(sessions_per_host=2)
    try:
        yield stack
    finally:
        await stack.stop()


async def calls_of(stack: Stack, path: str, data: Any) -> Counter[str]:
    """The calls that posting this data made, until the session actor had answered."""
    made: list[str] = []
    answered = asyncio.Event()
    call = stack.calls.call

    async def watched(actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        name = f"{kind_of(actor)}.{method}"
        # A commit counts when it is on disk: the next one begins as soon as one returns, and the
        # answer does not wait for it.
        if not answered.is_set() and method not in LONG_POLLS | SHARED and method != "commit":
            made.append(name)
        try:
            return await call(actor, method, *args, **kwargs)
        finally:
            if not answered.is_set() and method == "commit":
                made.append(name)
            if method in ("command", "adopt"):
                answered.set()

    stack.calls.call = watched  # type: ignore[method-assign]
    try:
        response = await stack.http.post(path, json={"data": data})
        assert response.status_code == 200, response.text
        await asyncio.wait_for(answered.wait(), BOUND_S)
    finally:
        stack.calls.call = call  # type: ignore[method-assign]
    return Counter(made)


async def calls_of_an_answer(stack: Stack, wait_id: str) -> Counter[str]:
    """The calls that one answer made, until the session actor had answered."""
    return await calls_of(stack, f"/v1/waits/{wait_id}/answer", {"decision": "approve"})


async def test_a_hot_answer_makes_two_calls_and_one_commit(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        session = (await stack.started())["session"]
        # The first command to a session tells the gateway which actor holds it.
        await stack.http.post(f"/v1/sessions/{session['id']}/notes", json={"text": "hello"})
        made = await calls_of_an_answer(stack, session["wait"]["id"])
        assert made == {"host.command": 1, "ledger.commit": 1}


async def test_a_hot_message_makes_two_calls_and_one_commit(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        session = (await stack.started("echo", 0))["session"]
        path = f"/v1/sessions/{session['id']}/inputs/words"
        await stack.http.post(path, json={"data": "warm"})
        for _ in range(5):
            await until(lambda: all(host.is_settled for host in stack.hosts.values()))
            assert await calls_of(stack, path, "hot") == {"host.command": 1, "ledger.commit": 1}


async def test_a_parked_answer_makes_four_calls(tmp_path: Path) -> None:
    async with running(tmp_path, linger_s=0.01) as stack:
        session = (await stack.started())["session"]

        async def is_parked() -> bool:
            return not await stack.calls.call(LEDGER, "held")

        await until(is_parked)
        made = await calls_of_an_answer(stack, session["wait"]["id"])
        assert made == {
            "directory.route": 1,
            "host.adopt": 1,
            "ledger.load": 1,
            "ledger.commit": 1,
        }


@asynccontextmanager
async def counted(stack: Stack) -> AsyncIterator[Counter[str]]:
    """The calls that the gateway makes to the ledger, and how often the tables are written for them."""
    made: Counter[str] = Counter()
    ledger = stack.ledger._ledger
    assert ledger is not None
    reads = cast(Proxy, stack.reads)
    call, project = reads.call, ledger._group.project

    async def watched(method: str, /, *args: Any, **kwargs: Any) -> Any:
        if method not in LONG_POLLS | SHARED:
            made[method] += 1
        return await call(method, *args, **kwargs)

    async def projected(read: Any = None) -> Any:
        made["tables written"] += 1
        return await project(read)

    reads.call = watched  # type: ignore[method-assign]
    ledger._group.project = projected  # type: ignore[method-assign]
    try:
        yield made
    finally:
        reads.call = call  # type: ignore[method-assign]
        ledger._group.project = project  # type: ignore[method-assign]


def commits_of(stack: Stack) -> list[list[str]]:
    """The kinds of the entries of each commit from now on."""
    ledger = stack.ledger._ledger
    assert ledger is not None
    committed: list[list[str]] = []
    database = ledger._group.database
    commit = database.commit

    def written(appends: Any) -> None:
        committed.append([entry.kind.value for entry in appends.entries])
        commit(appends)

    database.commit = written  # type: ignore[method-assign]
    return committed


async def test_a_run_begins_and_opens_its_first_wait_in_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine too nothing is written before the code has come to its wait.
    monkeypatch.setattr(committer, "FLUSH_AFTER_S", BOUND_S)
    monkeypatch.setattr(committer, "BEGINS_AFTER_S", BOUND_S)
    async with running(tmp_path) as stack:
        committed = commits_of(stack)
        await stack.started()
        start, first = committed
        assert start == ["session.created", "run.created"]
        assert first == ["run.started", "output.appended", "wait.opened"]


async def test_a_start_is_one_call_and_one_commit(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        committed = commits_of(stack)
        await stack.http.get("/v1/tasks")  # the gateway keeps the catalog
        async with counted(stack) as made:
            body = {"task": "review", "payload": {"title": "News"}}
            response = await stack.http.post("/v1/sessions", json=body)
        assert response.status_code == 201, response.text
        assert made == {"start_session": 1}
        assert committed[0] == ["session.created", "run.created"]
        receipt = response.json()
        assert receipt["session"]["status"] == "open"
        assert receipt["run"]["payload"] == {"title": "News"}


async def test_closing_and_cancelling_cost_a_command_and_one_read(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        first = (await stack.started())["session"]["id"]
        second = (await stack.started())["session"]["id"]
        async with counted(stack) as made:
            response = await stack.http.post(f"/v1/sessions/{first}/cancel")
            assert response.status_code == 200, response.text
            assert response.json()["status"] == "cancelled"
        assert made == {"get_session": 1}
        async with counted(stack) as made:
            response = await stack.http.post(
                f"/v1/sessions/{second}/close", json={"end_input": True}
            )
            assert response.status_code == 200, response.text
            assert response.json()["status"] == "closed"
        assert made == {"get_session": 1}


async def test_a_completion_is_two_calls_to_the_ledger(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        token = (await stack.http.post("/v1/tokens", json={})).json()
        async with counted(stack) as made:
            response = await stack.http.post(
                f"/v1/tokens/{token['id']}/complete", json={"data": {"ok": True}}
            )
        assert response.status_code == 200, response.text
        assert made == {"get_token": 1, "fact": 1}


@pytest.mark.parametrize(
    ("size", "asked"), [(10, 0), (ENDS_TEXT_MAX + 1, 1)], ids=["short", "long"]
)
async def test_the_end_of_a_token_comes_with_its_delivery(
    tmp_path: Path, size: int, asked: int
) -> None:
    """From the completion to the code: two calls of the gateway, two of the delivery; a long end is asked for."""
    async with running(tmp_path) as stack:
        token = (await stack.http.post("/v1/tokens", json={})).json()
        await stack.started(task="by-token", payload=token["id"])
        made = await calls_of(stack, f"/v1/tokens/{token['id']}/complete", "x" * size)
        assert made == Counter(
            {
                "ledger.get_token": 1,
                "ledger.fact": 1,
                "ledger.token_end": asked,
                "host.command": 1,
                "ledger.commit": 1,
            }
        )


async def test_one_object_is_whole_while_the_tables_are_being_written(tmp_path: Path) -> None:
    """Its rows are then neither in the tables nor in what changed since."""
    async with running(tmp_path) as stack:
        receipt = await stack.started()
        ledger = stack.ledger._ledger
        assert ledger is not None
        projector = ledger._group.projector
        blocked, release = threading.Event(), threading.Event()
        write = projector._write_tables

        def slowly(tables: Any) -> None:
            blocked.set()
            assert release.wait(BOUND_S)
            write(tables)

        projector._write_tables = slowly  # type: ignore[method-assign]
        writing = asyncio.ensure_future(ledger._group.project())
        try:
            await until(blocked.is_set)
            for path in ("sessions", "runs", "waits"):
                known = (
                    receipt["session"]["wait"]["id"]
                    if path == "waits"
                    else receipt[path[:-1]]["id"]
                )
                found = await stack.http.get(f"/v1/{path}/{known}")
                assert found.status_code == 200, found.text
                assert found.json()["id"] == known
            session = (await stack.http.get(f"/v1/sessions/{receipt['session']['id']}")).json()
            assert session == receipt["session"]
        finally:
            release.set()
            await writing
        again = (await stack.http.get(f"/v1/sessions/{receipt['session']['id']}")).json()
        assert again == session
