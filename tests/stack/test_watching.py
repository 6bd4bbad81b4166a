"""What a real runtime tells of itself: one trace over its processes, numbers, logs for machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack.live import LiveRuntime, until
from tests.tracing.collector import Collector, collector

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.allows_blocking]

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "monitoring.md"
STARTER, ANSWERER = "4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4736"

STARTED = """\
POST /v1/sessions  helmr-gateway  session session publish
  turn publish     helmr-host     run run publish, waits_for wait approval
    step prepare   helmr-host"""

ANSWERED = """\
POST /v1/sessions/{session_id}/inputs/{stream}  helmr-gateway
  turn publish                                  helmr-host     goes_on_from wait approval, run run publish
    step release                                helmr-host"""


@pytest.fixture
def taken() -> Iterator[Collector]:
    with collector() as found:
        yield found


def watched(make_runtime: Callable[..., LiveRuntime], taken: Collector) -> LiveRuntime:
    return make_runtime(
        tasks=HERE / "watched_tasks.py",
        linger="0s",
        arguments=["--otel", "--ray"],
        environ={
            "HELMR_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": taken.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        },
    )


def posted(live: LiveRuntime, path: str, body: Any, trace_id: str) -> Any:
    """What a program outside does that has a span of its own."""
    found = live.credentials
    headers = {
        "Authorization": f"Bearer {found.key}",
        "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01",
    }
    response = httpx.post(f"{found.url}{path}", json=body, headers=headers, timeout=30)
    assert response.is_success, response.text
    return response.json()


@pytest.mark.long  # tests/tracing, tests/docs/test_monitoring.py, tests/process/test_json_logs.py
def test_one_send_is_one_picture_to_the_step_that_it_sets_off_and_logs_and_numbers_tell_of_it(
    make_runtime: Callable[..., LiveRuntime], taken: Collector
) -> None:
    live = watched(make_runtime, taken)
    body = {"task": "publish", "payload": "news"}
    started = posted(live, "/v1/sessions", body, STARTER)
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    live.waiting(session_id)
    until(lambda: live.holder(session_id) is None, within_s=30, what="parked")
    answer = {"data": "yes", "correlation_id": "news"}
    posted(live, f"/v1/sessions/{session_id}/inputs/approval", answer, ANSWERER)
    assert live.ended(session_id).result == "NEWS"
    live.client.sessions.open(session_id).close()
    wanted = {"session publish", "run publish", "wait approval", "step release"}
    until(lambda: wanted <= {one.name for one in taken.spans}, within_s=30, what="all spans")
    until(
        lambda: sum(one.name == "turn publish" for one in taken.spans) == 2,
        within_s=30,
        what="both turns",
    )
    assert taken.picture(STARTER) == STARTED
    assert taken.picture(ANSWERER) == ANSWERED

    assert 'helmr_runs_total{status="succeeded"} 1.0' in _scraped(live)

    live.stop()
    lines = _logged(live)
    own = {line["message"]: line for line in lines if line["logger"] in ("app", "print")}
    assert own.keys() >= {"prepared news", "asks about NEWS", "released NEWS", "printed NEWS"}
    for line in own.values():
        assert (line["session"], line["run"]) == (session_id, run_id)
        assert line["process"].startswith("helmr-host-")
    assert own["prepared news"]["trace"] == STARTER
    assert own["released NEWS"]["trace"] == own["printed NEWS"]["trace"] == ANSWERER
    processes = {line["process"] for line in lines}
    assert {"helmr-gateway", "supervisor"} <= processes


@pytest.mark.long  # each state by itself: tests/http/test_degraded.py, tests/directory/test_memory.py
def test_readyz_and_status_tell_of_a_blocked_loop_and_of_memory_in_the_same_words(
    make_runtime: Callable[..., LiveRuntime],
) -> None:
    live = make_runtime(tasks=HERE / "watched_tasks.py", host_memory="250MB")
    blocking = live.begin("blocks", 8.0)
    until(lambda: "loop_blocked" in live.client.health().degraded, within_s=30, what="blocked")
    arguments = ["status", "--url", live.credentials.url]
    said = subprocess.run(
        [sys.executable, "-m", "helmr.cli", *arguments],
        env={**os.environ, "HELMR_API_KEY": live.credentials.key},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "the loop of all async steps is held by step blocks_the_loop" in said
    assert "watched_tasks.py" in said
    assert "degraded  loop_blocked" in said
    assert live.ended(blocking).status == "succeeded"
    until(lambda: not live.client.health().degraded, within_s=30, what="it is over")
    live.begin("hoards", 220)

    def makes_way() -> tuple[str, ...]:
        found = live.client.health()
        return tuple(found.warnings) if found.degraded == ["host_memory"] else ()

    (warning,) = until(makes_way, within_s=60, what="a host makes way")
    assert "makes way: it has" in warning
    until(lambda: not live.client.health().degraded, within_s=90, what="another has its place")


def _scraped(live: LiveRuntime) -> list[str]:
    found = live.credentials
    headers = {"Authorization": f"Bearer {found.key}"}
    return httpx.get(f"{found.url}/metrics", headers=headers, timeout=30).text.splitlines()


def _logged(live: LiveRuntime) -> list[dict[str, Any]]:
    """Every line of the runtime's log files; each has all keys."""
    found = []
    for path in sorted((live.data_dir / "logs").glob("*.log")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("{"):
                found.append(json.loads(line))
                assert found[-1].keys() >= {"time", "process", "session", "run", "wait", "trace"}
    return found


def test_the_page_shows_the_pictures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert STARTED in page
    assert ANSWERED in page
