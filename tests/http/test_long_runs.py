"""A run whose journal has become long is named where its session is shown, and its resumes are measured."""

from __future__ import annotations

from typing import Any

import pytest

from helmr_runtime.replay import durable_context
from helmr_runtime.service import feed
from helmr_runtime.service.feed import OPS_MANY, FeedItem, LongRuns
from tests.http.scrape import scrape
from tests.service.stack import Stack, until


class Fed(LongRuns):
    """Entries of runs by their op."""

    def entry(self, kind: str, op: int | None, *, run: str | None = "run_1", **body: Any) -> None:
        place = {"feed_offset": 1, "session_id": "ses_1", "run_id": run, "op": op}
        self.seen([FeedItem({**place, "kind": kind, "body": body})])


def test_a_run_of_many_ops_is_named_until_its_end() -> None:
    fed = Fed()
    fed.entry("step.started", OPS_MANY - 1)
    assert fed.warnings("run_1") == []
    fed.entry("step.started", OPS_MANY)
    fed.entry("note.added", None, run=None)
    (warning,) = fed.warnings("run_1")
    assert warning.startswith("10,000 ops, of at most 20,000: ctx.continue_as ")
    assert fed.warnings("run_2") == fed.warnings(None) == []
    fed.entry("run.succeeded", None)
    assert fed.warnings("run_1") == []


def test_copies_are_of_another_run_and_no_more_are_known_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "LONG_MAX", 2)
    fed = Fed()
    fed.entry("step.started", OPS_MANY, copied_from=3)
    assert fed.warnings("run_1") == []
    for number in range(3):
        fed.entry("step.started", OPS_MANY, run=f"run_{number}")
    assert [len(fed.warnings(f"run_{number}")) for number in range(3)] == [0, 1, 1]


async def test_the_way_out_is_where_people_look(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "OPS_MANY", 3)
    monkeypatch.setattr(durable_context, "RESUME_LONG_S", 0.0)
    started = await stack.started("echo", 0, result_timeout_s=0)
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    await stack.run_until(run_id, "waiting")
    shown = f"/v1/sessions/{session_id}"
    assert (await stack.http.get(shown)).json()["warnings"] == []
    (host,) = stack.hosts
    stack.kill(host, "it is away")
    sent = await stack.http.post(f"{shown}/inputs/words", json={"data": "hello"})
    assert sent.status_code == 200, sent.text

    async def is_told() -> bool:
        session = (await stack.http.get(shown)).json()
        health = (await stack.http.get("/readyz")).json()
        return bool(session["warnings"]) and any("resume of" in w for w in health["warnings"])

    await until(is_told)
    (warning,) = (await stack.http.get(shown)).json()["warnings"]
    assert "3 ops" in warning
    found = await scrape(stack)
    assert found["helmr_resume_seconds_count"] >= 1
    assert found["helmr_resume_seconds_bucket", {"le": "+Inf"}] >= 1


async def test_a_parked_session_that_gets_a_message_is_counted_although_no_entry_says_it(
    stack: Stack,
) -> None:
    started = await stack.started("echo", 0, result_timeout_s=0)
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    await stack.run_until(run_id, "waiting")
    assert (await scrape(stack))["helmr_run_resumes_total"] == 0
    (host,) = stack.hosts
    stack.kill(host, "it is away")
    path = f"/v1/sessions/{session_id}"
    sent = await stack.http.post(f"{path}/inputs/words", json={"data": "hello"})
    assert sent.status_code == 200, sent.text

    async def is_counted() -> bool:
        return (await scrape(stack))["helmr_run_resumes_total"] == 1

    await until(is_counted)
    entries = (await stack.http.get(f"{path}/transcript")).json()["items"]
    assert "run.resumed" not in {entry["kind"] for entry in entries}
