"""Limits in a runtime: never over, none lost, in turn, seen, and out of memory while they wait (S-119, S-120)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from helmr import Limit, LimitClosed, step, streams, task
from helmr.errors import Unavailable
from helmr.models import LimitPlace, RunInfo, SessionInfo
from helmr_runtime.catalog import Registry
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.hosts import PoolPlan
from helmr_runtime.directory.work import delivery
from helmr_runtime.ports import Directory
from helmr_runtime.rpc.calls import DIRECTORY, host_of, ledger_of
from helmr_runtime.service.limits import LimitOperations
from tests.http.scrape import scrape
from tests.service.stack import LocalSpawner, Stack, until

go = streams.input("go", schema=str)


class Provider:
    """Counts what is under way."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.refuses_s = 0.0
        self.lock = threading.Lock()

    async def call(self, name: str) -> str:
        if self.refuses_s:
            for_s, self.refuses_s = self.refuses_s, 0.0
            raise LimitClosed(for_s)
        self.calls.append(name)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
        finally:
            self.now -= 1
        return name


provider = Provider()


@step(limit="openai")
async def ask(name: str) -> str:
    return await provider.call(name)


@step(limit="openai", timeout="50ms")
def slow(name: str) -> str:
    with provider.lock:
        provider.now += 1
    while not provider.refuses_s:
        time.sleep(0.005)
    with provider.lock:
        provider.now -= 1
    return name


@step(limit="unheard-of")
async def unknown() -> None: ...


@task(id="asking", limit_key=lambda payload: payload["tenant"])
async def asking(payload: dict[str, str]) -> str:
    return await ask(payload["name"])


@task(id="asking-twice")
async def asking_twice(payload: str) -> list[str]:
    return list(await asyncio.gather(ask(f"{payload} 1"), ask(f"{payload} 2")))


@task(id="hasty")
async def hasty(payload: str) -> str:
    try:
        return await asyncio.wait_for(ask(payload), 0.1)
    except TimeoutError:
        return await go.wait().unwrap()


@task(id="sluggish")
async def sluggish(payload: str) -> str:
    try:
        return await slow(payload)
    except Exception:
        return "late"


@task(id="few", limit="runs")
async def few(payload: str) -> str:
    said = await go.wait().unwrap()
    return await plain(said)


@step
async def plain(name: str) -> str:
    return await provider.call(name)


@task(id="wrong")
async def wrong(payload: None) -> None:
    await unknown()


TASKS = (asking, asking_twice, hasty, sluggish, few, wrong)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    global provider
    provider = Provider()
    stack = Stack(tmp_path, registry=Registry(TASKS, code_hash="limits"), linger_s=0.2)
    stack.bounds = {
        "openai": Limit("openai", at_once=2),
        "runs": Limit("runs", at_once=1),
        "search": Limit("search", per=5, within="1m"),
    }
    try:
        yield stack
    finally:
        provider.gate.set()
        await stack.stop()


async def started(stack: Stack, task_id: str, payload: Any) -> dict[str, Any]:
    response = await stack.http.post("/v1/sessions", json={"task": task_id, "payload": payload})
    assert response.status_code == 201, response.text
    receipt: dict[str, Any] = response.json()
    return receipt


async def many(stack: Stack, count: int, tenant: str = "one") -> list[dict[str, Any]]:
    payloads = [{"tenant": tenant, "name": f"{tenant} {number}"} for number in range(count)]
    return [await started(stack, "asking", payload) for payload in payloads]


def directory(stack: Stack) -> DirectoryActor:
    assert stack.directory is not None
    return stack.directory


async def limit(stack: Stack, name: str = "openai") -> dict[str, Any]:
    found: list[dict[str, Any]] = list((await directory(stack).limits())["items"])
    return next(one for one in found if one["name"] == name)


async def counts(stack: Stack, held: int, queued: int, name: str = "openai") -> None:
    async def is_so() -> bool:
        one = await limit(stack, name)
        return (one["in_use"], one["waiting"]) == (held, queued)

    try:
        await until(is_so)
    except TimeoutError:
        raise AssertionError(
            f"not {held} held and {queued} queued: {await limit(stack, name)}"
        ) from None


async def test_no_third_begins_and_all_have_their_turn(stack: Stack) -> None:
    await stack.start(hosts=2, sessions_per_host=20)
    receipts = await many(stack, 12)
    await counts(stack, 2, 10)
    assert len(provider.calls) == 2
    places = await directory(stack).queued([one["session"]["id"] for one in receipts]) or {}
    assert sorted(one["place"] for one in places.values()) == list(range(1, 11))
    assert {one["limit"] for one in places.values()} == {"openai"}
    provider.gate.set()
    for one in receipts:
        await stack.run_until(one["run"]["id"], "succeeded")
    assert (provider.most, len(provider.calls)) == (2, 12)
    await counts(stack, 0, 0)


async def test_a_step_that_waits_for_its_turn_is_not_opened(stack: Stack) -> None:
    await stack.start(sessions_per_host=20)
    receipts = await many(stack, 3)
    await counts(stack, 2, 1)
    kinds = []
    for one in receipts:
        found = await stack.http.get(f"/v1/sessions/{one['session']['id']}/transcript")
        kinds.append([entry["kind"] for entry in found.json()["items"]])
    assert sum("step.started" in one for one in kinds) == 2


@pytest.mark.long  # tests/core/test_limits.py
async def test_what_waits_leaves_memory_and_keeps_its_place(stack: Stack) -> None:
    """More sessions than there is room for: each comes to its limit, in the order of starting."""
    await stack.start(sessions_per_host=4)
    receipts = await many(stack, 30)
    await counts(stack, 2, 28)

    async def have_left() -> bool:
        return sum(len(host.slots) for host in stack.hosts.values()) <= 4

    await until(have_left)
    items = (await stack.http.get("/v1/sessions", params={"limit": 50})).json()["items"]
    places = [one["queued_for"]["place"] for one in items if one["queued_for"]]
    assert sorted(places) == list(range(1, 29))
    status = await directory(stack).status()
    assert status["sessions"]["live"] <= 4
    provider.gate.set()
    for one in receipts:
        await stack.run_until(one["run"]["id"], "succeeded")
    assert (provider.most, len(provider.calls)) == (2, 30)
    assert Counter(provider.calls).most_common(1)[0][1] == 1
    await counts(stack, 0, 0)


@pytest.mark.long  # tests/directory/test_fair_queue.py
async def test_tenants_take_turns(stack: Stack) -> None:
    await stack.start(sessions_per_host=50)
    await many(stack, 20, "large")
    await counts(stack, 2, 18)
    small = await many(stack, 3, "small")
    await counts(stack, 2, 21)
    assert {one["key"]: one["waiting"] for one in (await limit(stack))["keys"]} == {
        "large": 18,
        "small": 3,
    }
    provider.gate.set()
    for one in small:
        await stack.run_until(one["run"]["id"], "succeeded")
    last = max(provider.calls.index(f"small {number}") for number in range(3))
    assert last <= 2 + 6


async def test_what_a_dead_host_held_comes_back(stack: Stack) -> None:
    await stack.start(hosts=2, sessions_per_host=20)
    receipts = await many(stack, 8)
    await counts(stack, 2, 6)
    for name in list(stack.hosts):
        if stack.hosts[name].slots:
            stack.kill(name, "killed by the test")
    await counts(stack, 2, 6)
    provider.gate.set()
    for one in receipts:
        await stack.run_until(one["run"]["id"], "succeeded")
    await counts(stack, 0, 0)
    assert provider.most <= 4  # two of the dead were still counted in this process


async def test_a_new_directory_knows_what_is_held(stack: Stack) -> None:
    await stack.start(hosts=2, sessions_per_host=20)
    receipts = await many(stack, 8)
    await counts(stack, 2, 6)
    await directory(stack).stop()
    stack.directory = DirectoryActor(
        ledger_of(stack.calls),
        lambda name: host_of(stack.calls, name),
        LocalSpawner(stack, stack.registry),
        PoolPlan(hosts=2, sessions_per_host=20, catalog_hash="limits", limits=dict(stack.bounds)),
        clock=stack.clock,
        timings=stack.timings,
        deliver=lambda item: delivery(ledger_of(stack.calls), item),
    )
    stack.calls.register(DIRECTORY, stack.directory)
    await stack.directory.start()
    await counts(stack, 2, 6)
    assert len(provider.calls) == 2
    provider.gate.set()
    for one in receipts:
        await stack.run_until(one["run"]["id"], "succeeded")
    assert (provider.most, len(provider.calls)) == (2, 8)


async def test_a_provider_closes_a_limit_for_a_while(stack: Stack) -> None:
    await stack.start(sessions_per_host=20)
    provider.refuses_s = 1.0
    provider.gate.set()
    began_s = time.monotonic()
    receipts = await many(stack, 3)
    for one in receipts:
        run = await stack.run_until(one["run"]["id"], "succeeded")
        assert run["status"] == "succeeded"
    assert time.monotonic() - began_s >= 0.9
    tries = []
    for one in receipts:
        found = await stack.http.get(f"/v1/sessions/{one['session']['id']}/transcript")
        tries += [e["body"] for e in found.json()["items"] if e["kind"] == "step.try_failed"]
    assert [(one["try"], one["closed_limit"]) for one in tries] == [(0, "openai")]


async def test_limits_are_seen_in_their_list_and_by_prometheus(stack: Stack) -> None:
    await stack.start(sessions_per_host=20)
    await many(stack, 5)
    await counts(stack, 2, 3)
    first = (await stack.http.get("/v1/limits", params={"limit": 2})).json()
    rest = {"limit": 2, "cursor": first["next_cursor"]}
    [search] = (await stack.http.get("/v1/limits", params=rest)).json()["items"]
    openai, runs = first["items"]
    assert (openai["name"], runs["name"], search["name"]) == ("openai", "runs", "search")
    assert (openai["in_use"], openai["at_once"], openai["waiting"]) == (2, 2, 3)
    assert (openai["begun"], openai["per"], openai["closed_until"]) == (None, None, None)
    assert openai["keys"] == [{"key": "one", "waiting": 3}]
    assert openai["oldest_at"] is not None
    assert (search["begun"], search["per"], search["within_s"]) == (0, 5, 60.0)
    found = await scrape(stack)
    shown = {
        name: found[f"helmr_limit_{name}", {"limit": "openai"}]
        for name in ("in_use", "at_once", "waiting", "closed")
    }
    assert shown == {"in_use": 2, "at_once": 2, "waiting": 3, "closed": 0}
    assert 0 < found["helmr_limit_oldest_seconds", {"limit": "openai"}] < 60
    assert found["helmr_limit_begun", {"limit": "search"}] == 0
    assert found["helmr_limit_per", {"limit": "search"}] == 5
    stack.calls.kill(DIRECTORY, "signal 9")
    refused = await stack.http.get("/v1/limits")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert "helmr_limit_in_use" not in (await scrape(stack)).labels


async def test_what_waits_says_for_what_and_as_what_number(stack: Stack) -> None:
    await stack.start(sessions_per_host=20)
    receipts = await many(stack, 5)
    await counts(stack, 2, 3)

    async def read(path: str) -> Any:
        return (await stack.http.get(path)).json()

    for path in ("/v1/sessions", "/v1/runs"):
        found = [one["queued_for"] for one in (await read(path))["items"] if one["queued_for"]]
        assert sorted((one["place"], one["limit"]) for one in found) == [
            (number, "openai") for number in (1, 2, 3)
        ]
    items = (await read("/v1/sessions"))["items"]
    [third] = [one for one in items if (one["queued_for"] or {}).get("place") == 3]
    shown = SessionInfo.model_validate(await read(f"/v1/sessions/{third['id']}"))
    assert (shown.activity, shown.doing) == ("running", "queued for limit openai, 3rd")
    run = RunInfo.model_validate(await read(f"/v1/runs/{third['run_id']}"))
    assert (run.status, run.doing) == ("running", "queued for limit openai, 3rd")
    assert (await read("/readyz"))["pool"]["limits"] == {"openai": 3, "runs": 0, "search": 0}
    provider.gate.set()
    for receipt in receipts:
        await stack.run_until(receipt["run"]["id"], "succeeded")
    assert (await read(f"/v1/sessions/{third['id']}"))["queued_for"] is None


def test_places_are_said_as_people_do() -> None:
    since = datetime(2030, 1, 1, tzinfo=UTC)
    said = [
        LimitPlace(limit="x", place=place, since=since).text.rpartition(" ")[2]
        for place in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111, 1113, 1123)
    ]
    assert said == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th", "1113th",
        "1123rd",
    ]  # fmt: skip


class Asked:
    """A directory that is asked who waits."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []

    async def queued(self, session_ids: list[str]) -> Any:
        self.asked.append(session_ids)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


RUNS = [
    {"id": "run_1", "session_id": "ses_1", "status": "running"},
    {"id": "run_2", "session_id": "ses_2", "status": "waiting"},
]


async def test_only_what_goes_on_is_asked_about_and_without_limits_nothing_is() -> None:
    asked = Asked(None)
    limits = LimitOperations(cast(Directory, asked))
    assert await limits.of_runs(RUNS[1:]) == RUNS[1:]
    assert asked.asked == []
    assert await limits.of_runs(RUNS) == RUNS
    assert await limits.of_runs(RUNS) == RUNS
    assert asked.asked == [["ses_1"]], "a runtime without limits is not asked again at once"


async def test_without_an_answer_of_the_directory_runs_are_shown_as_they_are() -> None:
    limits = LimitOperations(cast(Directory, Asked(Unavailable("it starts"))))
    assert await limits.of_runs(RUNS) == RUNS


async def test_a_closed_limit_says_until_when(stack: Stack) -> None:
    await stack.start(sessions_per_host=20)
    provider.refuses_s = 600.0
    await many(stack, 1)

    async def is_closed() -> bool:
        return (await limit(stack))["closed_until"] is not None

    await until(is_closed)
    [openai, *_] = (await stack.http.get("/v1/limits")).json()["items"]
    left = datetime.fromisoformat(openai["closed_until"]) - stack.clock.now()
    assert timedelta(seconds=500) < left <= timedelta(seconds=600)
    found = await scrape(stack)
    assert found["helmr_limit_closed", {"limit": "openai"}] == 1
    assert found["helmr_limit_closed", {"limit": "runs"}] == 0


async def test_a_run_with_two_asks_for_both_and_goes_on_with_what_it_gets(stack: Stack) -> None:
    await stack.start(sessions_per_host=20)
    first = await started(stack, "asking-twice", "a")
    second = await started(stack, "asking-twice", "b")
    await counts(stack, 2, 2)
    provider.gate.set()
    for one in (first, second):
        await stack.run_until(one["run"]["id"], "succeeded")
    assert sorted(provider.calls) == ["a 1", "a 2", "b 1", "b 2"]


async def test_code_that_gives_up_waiting_goes_the_same_way_when_it_is_replayed(
    stack: Stack,
) -> None:
    await stack.start(sessions_per_host=20)
    await many(stack, 2)
    await counts(stack, 2, 0)
    hurried = await started(stack, "hasty", "in vain")
    run = await stack.run_until(hurried["run"]["id"], "waiting")
    await counts(stack, 2, 0)
    session_id = hurried["session"]["id"]

    async def is_parked() -> bool:
        return await directory(stack).locate(session_id) is None

    await until(is_parked)
    sent = await stack.http.post(f"/v1/sessions/{session_id}/inputs/go", json={"data": "else"})
    assert sent.status_code in (200, 201, 202), sent.text
    run = await stack.run_until(hurried["run"]["id"], "succeeded", "blocked", "failed")
    assert (run["status"], run["result"]) == ("succeeded", "else")


@pytest.mark.long  # tests/directory, tests/core/test_limits.py
async def test_a_thread_that_outlives_its_step_keeps_its_permit(stack: Stack) -> None:
    await stack.start(sessions_per_host=20)
    receipt = await started(stack, "sluggish", "x")
    await stack.run_until(receipt["run"]["id"], "succeeded")
    await counts(stack, 1, 0)
    provider.refuses_s = 1.0
    await counts(stack, 0, 0)


@pytest.mark.long  # tests/core/test_limits.py
async def test_runs_of_a_task_wait_for_each_other_and_not_while_people_are_asked(
    stack: Stack,
) -> None:
    await stack.start(sessions_per_host=20)
    receipts = [await started(stack, "few", f"{number}") for number in range(3)]
    for one in receipts:
        await stack.run_until(one["run"]["id"], "waiting")
    await counts(stack, 0, 0, "runs")
    for one in receipts:
        sent = await stack.http.post(
            f"/v1/sessions/{one['session']['id']}/inputs/go", json={"data": "on"}
        )
        assert sent.status_code in (200, 201, 202), sent.text
    await counts(stack, 1, 2, "runs")
    assert len(provider.calls) <= 1
    provider.gate.set()
    for one in receipts:
        await stack.run_until(one["run"]["id"], "succeeded")
    assert provider.most == 1
    await counts(stack, 0, 0, "runs")


async def test_a_cancelled_run_asks_no_more(stack: Stack) -> None:
    await stack.start(sessions_per_host=20)
    receipts = await many(stack, 5)
    await counts(stack, 2, 3)
    places = await directory(stack).queued([one["session"]["id"] for one in receipts]) or {}
    for one in receipts:
        if one["session"]["id"] in places:
            url = f"/v1/sessions/{one['session']['id']}/cancel"
            assert (await stack.http.post(url, json={})).status_code == 200
    await counts(stack, 2, 0)


async def test_a_limit_that_no_one_declares_fails_the_step_and_says_what_to_do(
    stack: Stack,
) -> None:
    await stack.start(sessions_per_host=20)
    receipt = await started(stack, "wrong", None)
    run = await stack.run_until(receipt["run"]["id"], "failed")
    assert "limit unheard-of is not declared" in str(run["error"])
