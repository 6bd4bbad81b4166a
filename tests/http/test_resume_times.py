"""How long runs take to resume, as the feed tells it, and what there is to say of one that takes long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helmr_runtime.core.run import RESUME_LONG_S
from helmr_runtime.service import feed
from helmr_runtime.service.feed import OPS_MANY, FeedItem, ResumeTimes
from tests.http.scrape import scrape
from tests.service.stack import Stack, until

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Told(ResumeTimes):
    """Entries by their time, and what was measured."""

    def __init__(self) -> None:
        super().__init__()
        self.took_s: list[float] = []
        self.measured = self.took_s.append

    def entry(
        self,
        kind: str,
        at_s: float,
        *,
        run: str | None = "run_1",
        op: int | None = None,
        **body: Any,
    ) -> None:
        recorded_at = (NOW + timedelta(seconds=at_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        place = {"feed_offset": 1, "session_id": "ses_1", "run_id": run, "op": op}
        entry = {**place, "kind": kind, "recorded_at": recorded_at, "body": body}
        self.seen([FeedItem(entry)])


def test_a_resume_lasts_until_the_code_asks_for_something_new() -> None:
    told = Told()
    told.entry("run.resumed", 0.0)
    told.entry("wait.claimed", 0.5)
    told.entry("input.accepted", 0.6)
    told.entry("step.started", 0.75, op=7)
    told.entry("step.succeeded", 5.0, op=7)
    assert told.took_s == [0.75]
    assert told.warnings("run_1") == []


def test_a_long_one_is_told_with_the_way_out_until_a_short_one_or_the_end() -> None:
    told = Told()
    told.entry("run.resumed", 0.0)
    told.entry("wait.opened", RESUME_LONG_S + 5, op=2000)
    (warning,) = told.warnings("run_1")
    assert warning.startswith("its newest resume took 6.0 s, for 2,000 ops: ctx.continue_as ")
    assert told.warnings("run_2") == told.warnings(None) == []
    told.entry("run.resumed", 10.0)
    told.entry("step.started", 10.1, op=2001)
    assert told.warnings("run_1") == []
    told.entry("run.resumed", 20.0)
    told.entry("step.started", 30.0, op=2002)
    told.entry("run.succeeded", 31.0)
    assert told.warnings("run_1") == []


def test_many_ops_are_told_however_fast_they_are() -> None:
    told = Told()
    told.entry("step.started", 0.0, op=OPS_MANY - 1)
    assert told.warnings("run_1") == []
    told.entry("step.started", 1.0, op=OPS_MANY)
    (warning,) = told.warnings("run_1")
    assert warning.startswith("10,000 ops, of at most 20,000: ctx.continue_as ")


def test_copies_and_what_is_of_no_run_say_nothing() -> None:
    told = Told()
    told.entry("run.resumed", 0.0, copied_from=3)
    told.entry("step.started", 9.0, op=1)
    told.entry("note.added", 9.0, run=None)
    assert told.took_s == []


def test_no_more_runs_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "RESUMES_MAX", 2)
    told = Told()
    for number in range(3):
        told.entry("run.resumed", 0.0, run=f"run_{number}")
    for number in range(3):
        told.entry("step.started", 2.0, run=f"run_{number}", op=1)
    assert told.took_s == [2.0, 2.0]


async def test_a_session_says_that_its_run_is_slow_to_resume(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RESUME_LONG_S", 1e-6)
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
        return bool((await stack.http.get(shown)).json()["warnings"])

    await until(is_told)
    (warning,) = (await stack.http.get(shown)).json()["warnings"]
    assert "continue_as" in warning
    assert (await scrape(stack))["helmr_resume_seconds_count"] == 1
