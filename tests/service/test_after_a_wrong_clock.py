"""The clock was ahead while a session wrote, and is right again: what begins then is counted from the clock.

Entries keep the later time, since no time in a transcript goes back (S-50).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from helmr import sessions, streams, task, timers, tokens
from helmr.wire import ids
from helmr_runtime.catalog import Registry
from helmr_runtime.core.entries import from_iso
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.tools.audit import audit
from helmr_runtime.security.payloads import is_sealed
from tests.ledger.test_set_clock import SetClock
from tests.service import stack as stacks
from tests.service.stack import Stack

AHEAD = timedelta(hours=1)
inbox = streams.input("inbox")
said = streams.output("said")


@task
async def naps(payload: dict[str, Any]) -> int:
    """Sleeps a little after each record."""
    for count in range(9):
        await inbox.wait().unwrap()
        await timers.sleep(0.2)
        await said.append(count)
    return 9


@task
async def asks_outside(payload: dict[str, Any]) -> str:
    """Waits a minute for a token that is completed elsewhere, once it is allowed to."""
    await inbox.wait().unwrap()
    token = await tokens.create(timeout="20m")
    await said.append(token.id)
    found = await token.wait(timeout="1m")
    return "answered" if found.ok else "timed out"


@task
async def on_anothers(payload: str) -> str:
    """Waits a minute for a token that another session made."""
    found = await tokens.wait(payload, timeout="1m")
    return type(found.error).__name__


@task
async def has_child(payload: dict[str, Any]) -> str:
    """Waits a minute for a child that is answered at once."""
    await inbox.wait().unwrap()
    child = await sessions.start(echoes, {})
    await said.append(child.id)
    found = await child.result(timeout="1m")
    return "ended" if found.ok else "timed out"


@task
async def echoes(payload: dict[str, Any]) -> int:
    await inbox.wait().unwrap()
    return 1


REGISTRY = Registry(
    [naps, asks_outside, on_anothers, has_child, echoes],
    modules=["tests.service.test_after_a_wrong_clock"],
    code_hash="code-clock",
)


@asynccontextmanager
async def running(folder: Path, *, encrypts: bool | None = None) -> AsyncIterator[Stack]:
    found = Stack(folder, registry=REGISTRY, encrypts=encrypts)
    try:
        await found.start()
        yield found
    finally:
        await found.stop()


@pytest.fixture(autouse=True)
def set_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "SystemClock", SetClock)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running(tmp_path) as found:
        yield found


def clock_of(stack: Stack) -> SetClock:
    assert isinstance(stack.clock, SetClock)
    return stack.clock


async def put(stack: Stack, session_id: str) -> None:
    response = await stack.http.post(f"/v1/sessions/{session_id}/inputs/inbox", json={"data": 1})
    assert response.status_code in (200, 201), response.text


async def of_kind(stack: Stack, session_id: str, kind: str) -> dict[str, Any]:
    """The newest entry of the kind; stamped ahead, and says when it was decided."""
    entry = [one for one in await transcript(stack, session_id) if one["kind"] == kind][-1]
    assert from_iso(entry["recorded_at"]) > clock_of(stack).now()
    assert from_iso(entry["body"]["decided_at"]) <= clock_of(stack).now()
    return entry


async def outputs(stack: Stack, session_id: str, count: int) -> list[Any]:
    """The first records, once there are so many."""
    async with asyncio.timeout(stacks.BOUND_S):
        while True:
            page = (await stack.http.get(f"/v1/sessions/{session_id}/outputs/said")).json()
            if len(page["items"]) >= count:
                return [one["data"] for one in page["items"]]
            await asyncio.sleep(0.02)


async def wrote_ahead(stack: Stack, session_id: str) -> None:
    """The session and the system stream have an entry of an hour ahead; the clock is right again."""
    clock = clock_of(stack)
    clock.off = AHEAD
    note = await stack.http.post(f"/v1/sessions/{session_id}/notes", json={"text": "later"})
    assert note.status_code in (200, 201), note.text
    made = await stack.http.post("/v1/tokens", json={"timeout": "20m"})
    assert made.status_code == 201, made.text
    clock.off = timedelta()


async def transcript(stack: Stack, session_id: str) -> list[dict[str, Any]]:
    page = (await stack.http.get(f"/v1/sessions/{session_id}/transcript?limit=200")).json()
    items: list[dict[str, Any]] = page["items"]
    return items


def never_back(entries: list[dict[str, Any]]) -> bool:
    times: list[datetime] = [from_iso(one["recorded_at"]) for one in entries]
    return times == sorted(times)


async def test_a_sleep_takes_its_time_and_no_time_goes_back(stack: Stack) -> None:
    session_id = (await stack.started("naps", {}))["session"]["id"]
    await wrote_ahead(stack, session_id)
    await put(stack, session_id)
    assert await outputs(stack, session_id, 1) == [0]
    entries = await transcript(stack, session_id)
    assert never_back(entries)
    [opened] = [
        one for one in entries if one["kind"] == "wait.opened" and one["body"]["kind"] == "timer"
    ]
    assert from_iso(opened["body"]["deadline_at"]) < clock_of(stack).now()
    assert from_iso(opened["recorded_at"]) > clock_of(stack).now()


async def test_a_tokens_time_is_counted_from_the_clock(stack: Stack) -> None:
    session_id = (await stack.started("naps", {}))["session"]["id"]
    await wrote_ahead(stack, session_id)
    made = (await stack.http.post("/v1/tokens", json={"timeout": "20m"})).json()
    left = from_iso(made["expires_at"]) - clock_of(stack).now()
    assert timedelta(minutes=19) < left < timedelta(minutes=21)
    scope = {"type": "session.input.send", "session": session_id, "stream": "inbox"}
    body = {"scope": scope, "expires_in": "10m"}
    public = (await stack.http.post("/v1/public-tokens", json=body)).json()
    left = from_iso(public["expires_at"]) - clock_of(stack).now()
    assert timedelta(minutes=9) < left < timedelta(minutes=11)


async def test_a_completion_in_time_is_in_time(stack: Stack) -> None:
    """Its entry is stamped an hour later than the wait's deadline, behind one that was made ahead."""
    receipt = await stack.started("asks_outside", {})
    await wrote_ahead(stack, receipt["session"]["id"])
    await put(stack, receipt["session"]["id"])
    [token_id] = await outputs(stack, receipt["session"]["id"], 1)
    done = await stack.http.post(f"/v1/tokens/{token_id}/complete", json={"data": 5})
    assert done.status_code == 200, done.text
    assert from_iso(done.json()["completed_at"]) <= clock_of(stack).now()
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == "answered"
    again = await stack.http.post(f"/v1/tokens/{token_id}/complete", json={"data": 5})
    assert again.json()["completed_at"] == done.json()["completed_at"]


async def test_a_childs_end_in_time_is_in_time(stack: Stack) -> None:
    receipt = await stack.started("has_child", {})
    await wrote_ahead(stack, receipt["session"]["id"])
    await put(stack, receipt["session"]["id"])
    [child_id] = await outputs(stack, receipt["session"]["id"], 1)
    await wrote_ahead(stack, child_id)
    await put(stack, child_id)
    run = await stack.run_until(receipt["run"]["id"], "succeeded")
    assert run["result"] == "ended"


async def completed(stack: Stack, token_id: str, operation: str) -> dict[str, Any]:
    """The receipt of a completion under this operation id."""
    named = {"Operation-Id": operation}
    path = f"/v1/tokens/{token_id}/complete"
    done = await stack.http.post(path, json={"data": 5}, headers=named)
    assert done.status_code == 200, done.text
    found: dict[str, Any] = done.json()
    return found


@pytest.mark.allows_blocking  # the audit reads files
@pytest.mark.parametrize("encrypts", [False, True])
async def test_a_repeated_operation_has_the_same_time_after_a_start_and_the_ledger_is_whole(
    tmp_path: Path, encrypts: bool
) -> None:
    operation = ids.new_id(ids.OPERATION)
    async with running(tmp_path, encrypts=encrypts) as stack:
        run = await stack.started("asks_outside", {})
        session_id = run["session"]["id"]
        await wrote_ahead(stack, session_id)
        await put(stack, session_id)
        [token_id] = await outputs(stack, session_id, 1)
        first = await completed(stack, token_id, operation)
        assert await completed(stack, token_id, operation) == first
        await stack.run_until(run["run"]["id"], "succeeded")
        ended = await of_kind(stack, session_id, "run.succeeded")
        assert from_iso(first["completed_at"]) <= from_iso(ended["body"]["decided_at"])
    with stored_ledger(tmp_path / "helmr.duckdb") as ledger:
        assert audit(ledger, LedgerKeys(stacks.RING), SetClock().now()).sessions == 1
    with duckdb.connect(str(tmp_path / "helmr.duckdb"), read_only=True) as file:
        query = "SELECT body ->> 'decided_at', body FROM entries WHERE kind = 'token.completed'"
        [(at, body)] = file.execute(query).fetchall()
    assert (at, is_sealed(body)) == (first["completed_at"], encrypts)
    async with running(tmp_path) as stack:
        assert await completed(stack, token_id, operation) == first
        token = (await stack.http.get(f"/v1/tokens/{token_id}")).json()
        assert token["ended_at"] == first["completed_at"]
        assert await of_kind(stack, session_id, "run.succeeded") == ended


async def rewound(stack: Stack, receipt: dict[str, Any]) -> None:
    """The run is taken back to its first op."""
    path = f"/v1/runs/{receipt['run']['id']}/rewind"
    seen = (await stack.http.post(f"{path}/preview", json={"to_op": 1})).json()
    asked = {"to_op": 1, "reason": "again", "preview_hash": seen["hash"]}
    done = await stack.http.post(path, json=asked)
    assert done.status_code == 200, done.text


async def cancelled(stack: Stack, receipt: dict[str, Any]) -> None:
    done = await stack.http.post(f"/v1/sessions/{receipt['session']['id']}/cancel")
    assert done.status_code == 200, done.text


@pytest.mark.parametrize(
    ("ends", "kind"), [(rewound, "run.rewound"), (cancelled, "session.cancelled")]
)
async def test_a_token_that_its_session_takes_back_in_time_is_cancelled_in_time(
    stack: Stack, ends: Callable[[Stack, dict[str, Any]], Awaitable[None]], kind: str
) -> None:
    """Another session waits for it."""
    maker = await stack.started("asks_outside", {})
    await put(stack, maker["session"]["id"])
    [token_id] = await outputs(stack, maker["session"]["id"], 1)
    waits = await stack.started("on_anothers", token_id)
    await wrote_ahead(stack, maker["session"]["id"])
    await ends(stack, maker)
    run = await stack.run_until(waits["run"]["id"], "succeeded")
    assert run["result"] == "WaitCancelled"
    entry = await of_kind(stack, maker["session"]["id"], kind)
    token = (await stack.http.get(f"/v1/tokens/{token_id}")).json()
    assert token["ended_at"] == entry["body"]["decided_at"]
    late = await stack.http.post(f"/v1/tokens/{token_id}/complete", json={"data": 5})
    assert (late.status_code, late.json()["code"]) == (409, "token_cancelled")
    assert late.json()["facts"]["cancelled_at"] == token["ended_at"]


async def wait_on_input(stack: Stack, session_id: str) -> str:
    """The id of the wait for the next record, once it is open."""
    found: dict[str, Any] = {}

    async def is_open() -> bool:
        session = (await stack.http.get(f"/v1/sessions/{session_id}")).json()
        found.update(session["wait"] or {})
        return found.get("kind") == "input"

    await stacks.until(is_open)
    return str(found["id"])


async def test_a_fork_keeps_the_times_of_what_it_copies_and_answers_by_the_clock(
    stack: Stack,
) -> None:
    receipt = await stack.started("naps", {})
    origin = receipt["session"]["id"]
    await wrote_ahead(stack, origin)
    await put(stack, origin)
    assert await outputs(stack, origin, 1) == [0]
    accepted = await of_kind(stack, origin, "input.accepted")
    asked = {"wait_id": await wait_on_input(stack, origin), "reason": "otherwise", "answer": 2}
    made = await stack.http.post(f"/v1/sessions/{origin}/fork", json=asked)
    assert made.status_code == 201, made.text
    fork = made.json()["session"]["id"]
    entries = await transcript(stack, fork)
    assert never_back(entries)
    copy, answer = [one for one in entries if one["kind"] == "input.accepted"]
    assert copy["recorded_at"] == accepted["recorded_at"]
    assert copy["body"]["decided_at"] == accepted["body"]["decided_at"]
    assert from_iso(answer["body"]["decided_at"]) <= clock_of(stack).now()
    assert await outputs(stack, fork, 2) == [0, 1]
    assert never_back(await transcript(stack, fork))
    [opened, *_] = [
        one
        for one in reversed(await transcript(stack, fork))
        if one["kind"] == "wait.opened" and one["body"]["kind"] == "timer"
    ]
    assert from_iso(opened["body"]["deadline_at"]) < clock_of(stack).now()
    for session_id in (origin, fork):
        await stack.ledger.verify_chain(session_id)
