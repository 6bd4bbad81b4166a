"""`/metrics`: what it counts, that it is Prometheus text, and that its labels are bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from helmr_runtime.http import metrics
from helmr_runtime.http.metrics import LABELS_MAX, OTHER, EntryMetrics
from helmr_runtime.rpc.calls import LEDGER
from helmr_runtime.service.feed import FeedItem
from helmr_runtime.service.health import DegradedState
from tests.http.scrape import Scrape, scrape
from tests.service.stack import Stack, until

NOW = datetime(2030, 1, 1, tzinfo=UTC)
APPROVAL = {"kind": "input", "stream": "approval"}


async def test_an_answered_wait_is_counted_from_its_opening_to_the_runs_end(stack: Stack) -> None:
    started = await stack.started()
    asked = await scrape(stack)
    assert asked["helmr_waits_open", APPROVAL] == 1
    assert 0 <= asked["helmr_wait_oldest_seconds", APPROVAL] < 60
    assert asked["helmr_sessions", {"activity": "waiting"}] == 1
    assert asked["helmr_sessions_live"] == 1
    wait_id = started["session"]["wait"]["id"]
    claimed = await stack.http.post(f"/v1/waits/{wait_id}/claim", json={})
    assert claimed.status_code == 200, claimed.text
    assert (await scrape(stack))["helmr_claims"] == 1
    answer = {"data": {"decision": "approve"}}
    assert (await stack.http.post(f"/v1/waits/{wait_id}/answer", json=answer)).status_code == 200
    await stack.run_until(started["run"]["id"], "succeeded")

    async def is_attributed() -> bool:
        return "helmr_runs_total" in (await scrape(stack)).labels

    await until(is_attributed)
    found = await scrape(stack)
    assert found["helmr_runs_total", {"status": "succeeded"}] == 1
    assert found["helmr_waits_opened_total", APPROVAL] == 1
    assert found["helmr_waits_ended_total", {"outcome": "fulfilled"}] == 1
    assert found["helmr_answer_to_run_seconds_count", {"way": "live"}] == 1
    assert found["helmr_claims"] == 0
    assert ("helmr_waits_open" in found.labels) is False, "none is open"
    assert found["helmr_sessions_open"] == 1
    assert found["helmr_hosts", {"state": "ready"}] == 1
    assert found["helmr_queue_runs"] == 0
    commits = found["helmr_commit_seconds_count"]
    assert commits >= 3
    assert found["helmr_commit_jobs_count"] == commits
    assert found["helmr_commit_jobs_sum"] >= commits
    assert found["helmr_commit_seconds_bucket", {"le": "+Inf"}] == commits
    assert found["helmr_feed_offset"] == stack.service.hub.offset
    assert found["helmr_disk_free_bytes"] > found["helmr_ledger_size_bytes"] > 0


async def test_requests_are_counted_by_their_route_and_never_by_their_path(stack: Stack) -> None:
    await stack.started("return", 1)
    await stack.http.get("/v1/sessions/nonsense")
    text = (await stack.http.get("/metrics")).text
    found = Scrape(text)
    counted = {"method": "POST", "route": "/v1/sessions", "status": "201"}
    assert found["helmr_http_requests_total", counted] == 1
    counted = {"method": "GET", "route": "/v1/sessions/{session_id}", "status": "400"}
    assert found["helmr_http_requests_total", counted] == 1
    assert found["helmr_ready"] == 1
    assert "nonsense" not in text


async def test_each_family_has_a_help_text_a_type_and_a_name_as_prometheus_wants_it(
    stack: Stack,
) -> None:
    await stack.started()
    families = (await scrape(stack)).families
    for family in families:
        if family.name.endswith("_created"):
            continue  # the client library's, beside each of its own counters
        assert family.documentation, family.name
        assert family.type in ("gauge", "counter", "histogram"), family.name
        assert re.fullmatch(r"helmr_[a-z_]+[a-z]", family.name)
        is_counter = family.type == "counter"
        for sample in family.samples:
            assert sample.name.endswith("_total") is is_counter, sample.name
            assert ("le" in sample.labels) is sample.name.endswith("_bucket")


async def test_without_a_ledger_there_is_what_others_know(stack: Stack) -> None:
    stack.calls.kill(LEDGER, "signal 9")
    found = await scrape(stack)
    assert found["helmr_ready"] == 0
    assert found["helmr_degraded", {"state": "ledger_failing"}] == 1
    assert found["helmr_hosts", {"state": "ready"}] == 1
    assert "helmr_sessions" not in found.labels
    assert "helmr_waits_open" not in found.labels


async def test_each_state_has_its_gauge(stack: Stack) -> None:
    found = await scrape(stack)
    assert {
        state: found["helmr_degraded", {"state": state.value}] for state in DegradedState
    } == dict.fromkeys(DegradedState, 0)


# --- entries ----------------------------------------------------------------------------------------


class Feed:
    """Hands entries of one run to the metrics, at times of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._metrics = EntryMetrics(self._registry)

    def entry(self, kind: str, at_s: float = 0.0, /, *, run: str = "run_1", **body: Any) -> None:
        recorded_at = (NOW + timedelta(seconds=at_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        entry = {"kind": kind, "run_id": run, "recorded_at": recorded_at, "body": body}
        self._metrics.seen([FeedItem({"feed_offset": 1, "session_id": "ses_1", **entry})])

    @property
    def found(self) -> Scrape:
        return Scrape(generate_latest(self._registry).decode())


def test_a_parked_run_has_gone_on_when_a_host_has_taken_it() -> None:
    feed = Feed()
    feed.entry("wait.fulfilled", 1.0, next="queued")
    feed.entry("wait.claim_ended", 1.5)
    feed.entry("input.accepted", 1.7)
    feed.entry("run.resumed", 3.5)
    feed.entry("step.started", 9.0)
    assert feed.found["helmr_answer_to_run_seconds_sum", {"way": "parked"}] == 2.5
    assert feed.found["helmr_answer_to_run_seconds_count", {"way": "parked"}] == 1


def test_a_wait_that_ended_with_its_run_is_not_measured() -> None:
    feed = Feed()
    feed.entry("wait.cancelled", reason="run_end")
    feed.entry("run.cancelled", 1.0)
    assert "helmr_answer_to_run_seconds_count" not in feed.found.labels
    assert feed.found["helmr_waits_ended_total", {"outcome": "cancelled"}] == 1


def test_copies_of_a_fork_were_counted_when_they_happened() -> None:
    feed = Feed()
    feed.entry("run.succeeded", copied_from=7)
    feed.entry("wait.opened", kind="input", stream="a", copied_from=3)
    assert "helmr_runs_total" not in feed.found.labels
    assert "helmr_waits_opened_total" not in feed.found.labels


def test_pruned_sessions_are_counted_with_their_entries() -> None:
    feed = Feed()
    feed.entry("sessions.pruned", sessions=["ses_1", "ses_2"], entries=31)
    feed.entry("sessions.pruned", sessions=["ses_3"], entries=9)
    assert feed.found["helmr_pruned_sessions_total"] == 3
    assert feed.found["helmr_pruned_entries_total"] == 40


async def test_the_log_of_commits_shows_what_the_database_has_yet_to_take(stack: Stack) -> None:
    started = await stack.started()
    assert (await scrape(stack))["helmr_ledger_log_bytes"] >= 0
    answer = f"/v1/waits/{started['session']['wait']['id']}/answer"
    await stack.http.post(answer, json={"data": {"decision": "approve"}})

    async def has_some() -> bool:
        await stack.http.post("/v1/sessions", json={"task": "return", "payload": 1})
        return (await scrape(stack))["helmr_ledger_log_bytes"] > 0

    await until(has_some)


def test_a_backoff_is_no_wait_of_anybody() -> None:
    feed = Feed()
    feed.entry("wait.opened", kind="timer", backoff=True)
    assert "helmr_waits_opened_total" not in feed.found.labels


def test_streams_have_labels_of_their_own_up_to_a_bound() -> None:
    feed = Feed()
    for number in range(LABELS_MAX + 5):
        feed.entry("wait.opened", kind="input", stream=f"s{number}")
    feed.entry("wait.opened", kind="input", stream="s0")
    opened = "helmr_waits_opened_total"
    assert feed.found[opened, {"kind": "input", "stream": OTHER}] == 5
    assert feed.found[opened, {"kind": "input", "stream": "s0"}] == 2


def test_runs_that_never_go_on_take_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ENDED_MAX", 2)
    feed = Feed()
    for number in range(3):
        feed.entry("wait.fulfilled", run=f"run_{number}", next="queued")
    for number in range(3):
        feed.entry("run.resumed", 1.0, run=f"run_{number}")
    assert feed.found["helmr_answer_to_run_seconds_count", {"way": "parked"}] == 2


def test_open_waits_have_labels_up_to_a_bound_and_the_rest_is_one() -> None:
    waits: list[Mapping[str, Any]] = [
        {
            "kind": "input",
            "stream": f"s{number}",
            "count": 1 + (number == 0),
            "oldest_at": "2029-12-31T23:59:00.000000Z",
        }
        for number in range(LABELS_MAX + 3)
    ]
    counts, ages = metrics._bounded(waits, NOW)
    assert len(counts) == LABELS_MAX + 1
    assert counts["input", "s0"] == 2
    assert counts["input", OTHER] == 3
    assert ages["input", OTHER] == 60
