"""What `pip install helmr` promises (docs/sdk.md). Arguments: URL and key of a runtime."""

from __future__ import annotations

import asyncio
import importlib.util
import sys

from review_tasks import Decision, by_token, review  # type: ignore[import-not-found]

from helmr import AsyncClient, Client, embedded
from helmr.errors import MissingExtra, SchemaMismatch
from helmr.experiments import Delay, Experiment, Operator, always, run
from helmr.testing import Harness

url, key = sys.argv[1:]


def refused(call: object, extra: str) -> None:
    """The call says which extra it needs, and the pip line."""
    assert callable(call)
    said = None
    try:
        call()
    except MissingExtra as error:
        said = error
    assert said is not None, f"no refusal for {extra}"
    assert said.facts["extra"] == extra, said.facts
    assert said.hint is not None
    assert f"helmr[{extra}]" in said.hint, said.hint


async def in_the_harness() -> None:
    async with Harness(review, by_token, replay_always=True) as harness:
        session = await harness.start(review, "otters")
        await session.park()
        await session.answer({"decision": "approve"})
        assert await session.result() == "approve"
        session = await harness.start(by_token, "otters")
        token = (await session.wait())["token_id"]
        try:
            await harness.complete_token(token, {"decision": "maybe"})
        except SchemaMismatch:
            pass
        else:
            raise AssertionError("the token's schema is not checked")
        await harness.complete_token(token, {"decision": "reject"})
        assert await session.result() == "reject"
        refused(harness.client, "local")
        refused(harness.async_client, "local")


async def through_the_async_client() -> None:
    async with AsyncClient(url=url, key=key) as client:
        assert (await client.health()).ready


def through_the_client() -> None:
    with Client(url=url, key=key) as client:
        started = client.sessions.start_and_wait(review, "otters", timeout="30s")
        wait = next(iter(client.waits.list(session_id=started.id)))
        assert wait.subject == "Send About otters?"
        client.waits.answer(wait.id, Decision(decision="approve"))
        assert client.runs.wait(started.started_run.id, timeout="30s").result == "approve"
        found = client.query("SELECT count(*) AS sessions FROM sessions")
        assert found.rows()[0]["sessions"] >= 1
        refused(found.arrow, "sql")


def experiments() -> None:
    people = [Operator("ada", policy=always({"decision": "reject"}), delay=Delay.fixed("1h"))]
    results = run(Experiment(review, sessions=3, payload="otters", operators=people))
    assert [row["result"] for row in results.session_rows()] == ['"reject"'] * 3
    refused(results.sessions, "experiments")


for heavy in ("ray", "duckdb", "textual", "fastapi", "pandas", "polars", "pyarrow", "matplotlib"):
    assert importlib.util.find_spec(heavy) is None, heavy
refused(lambda: embedded.start(review), "runtime")
asyncio.run(in_the_harness())
through_the_client()
asyncio.run(through_the_async_client())
experiments()
