"""The same experiment against real parts of a runtime over HTTP, in real time."""

from __future__ import annotations

import asyncio
import gc
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helmr.client import AsyncClient
from helmr.client.sessions import AsyncSessions
from helmr.errors import SchemaMismatch, TaskNotFound
from helmr.experiments import Delay, Experiment, Operator, Results, always, choose, ignore, run
from helmr.experiments.live import CALLS_MAX
from helmr_runtime.catalog import Registry
from tests.experiments.test_experiments import Order, link, orders
from tests.service.stack import Stack


async def test_operators_answer_a_live_runtime_as_people(tmp_path: Path) -> None:
    registry = Registry([orders, link], modules=[__name__], code_hash="code-1")
    stack = Stack(tmp_path, registry=registry)
    await stack.start()
    try:
        connect = partial(AsyncClient, url=stack.url, key=stack.key)
        decide = choose({"approve": 1, "reject": 1})
        people = [Operator(name, decide, Delay.uniform("10ms", "80ms")) for name in ("ada", "bob")]
        experiment = Experiment("orders", 12, people, Order(rounds=2), gap=Delay.fixed("10ms"))
        by_token = Experiment("link", 1, [Operator("eve", always("yes"))])
        left_alone = Experiment("orders", 1, [Operator("idle", ignore)], Order(), until="300ms")
        results, token_results, left = [
            await asyncio.to_thread(run, one, seed=5, client=connect)
            for one in (experiment, by_token, left_alone)
        ]
        unfit = Experiment("orders", 3, [Operator("ada", always({"decision": "maybe"}))], Order())
        with pytest.raises(SchemaMismatch, match="decision"):
            await asyncio.to_thread(run, unfit, client=connect)
        async with connect() as client:
            answered = await client.query(
                "SELECT on_behalf_of, count(*) AS n FROM entries WHERE kind = 'wait.fulfilled'"
                " AND on_behalf_of IN ('ada', 'bob') GROUP BY ALL ORDER BY 1"
            )
    finally:
        await stack.stop()
    assert [row["status"] for row in results.session_rows()] == ["succeeded"] * 12
    assert all(row["waited_s"] >= 0.01 for row in results.wait_rows())
    assert {row["on_behalf_of"]: row["n"] for row in answered.rows()} == {
        name: sum(row["operator"] == name for row in results.wait_rows()) for name in ("ada", "bob")
    }
    assert [row["result"] for row in token_results.session_rows()] == ['"yes"']
    assert [row["status"] for row in left.wait_rows()] == ["pending"]
    again = Experiment(orders, 12, people, Order(rounds=2))
    assert same_decisions(results, await asyncio.to_thread(run, again, seed=5))


async def test_what_fails_leaves_no_call_behind_that_was_never_made(tmp_path: Path) -> None:
    stack = Stack(tmp_path, registry=Registry([link], modules=[__name__], code_hash="code-1"))
    await stack.start()
    try:
        connect = partial(AsyncClient, url=stack.url, key=stack.key)
        many = Experiment("nobodys", 3 * CALLS_MAX, [Operator("eve", always("yes"))])
        with pytest.raises(TaskNotFound, match="nobodys"):
            await asyncio.to_thread(run, many, seed=5, client=connect)
        gc.collect()  # a coroutine that nobody awaited says so now
    finally:
        await stack.stop()


async def test_a_start_that_is_answered_after_its_wait_has_opened_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = AsyncSessions.start

    async def start_slowly(self: AsyncSessions, *arguments: Any, **more: Any) -> Any:
        started = await start(self, *arguments, **more)
        await asyncio.sleep(0.5)  # meanwhile the feed tells all there is
        return started

    monkeypatch.setattr(AsyncSessions, "start", start_slowly)
    stack = Stack(tmp_path, registry=Registry([link], modules=[__name__], code_hash="code-1"))
    await stack.start()
    try:
        connect = partial(AsyncClient, url=stack.url, key=stack.key)
        by_token = Experiment("link", 1, [Operator("eve", always("yes"))])
        async with asyncio.timeout(20):
            results = await asyncio.to_thread(run, by_token, seed=5, client=connect)
    finally:
        await stack.stop()
    assert [row["result"] for row in results.session_rows()] == ['"yes"']


def same_decisions(live: Results, simulated: Results) -> bool:
    """Who decides what goes by seed and names, also in real time."""

    def given(results: Results) -> list[object]:
        return [json.loads(row["result"])["given"] for row in results.session_rows()]

    return given(live) == given(simulated)
