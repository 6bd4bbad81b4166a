"""The examples of agents on a real runtime, whose host is killed while each of them waits for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stack.live import LiveRuntime, kill, until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.allows_blocking,
]

SMALLER = {"decision": "approve", "arguments": {"customer": "ada", "cents": 10}}
EXAMPLES: dict[str, tuple[str, Any, Any, Any]] = {
    "pydantic-ai-support": (
        "pydantic_ai_support",
        "refund ada",
        SMALLER,
        "ada is a customer; refunded 10 to ada",
    ),
    "openai-agents-support": (
        "openai_agents_support",
        "refund ada",
        SMALLER,
        "ada is a customer; refunded 10 to ada",
    ),
    "langgraph-letter": (
        "langgraph_letter",
        "otters",
        {"decision": "send", "text": "Hi"},
        {"topic": "otters", "text": "Hi", "sent": "sent 'Hi'"},
    ),
}
"""Module, payload, answer and result of each task."""


def test_agents_go_on_after_their_process_was_killed_at_a_wait(tmp_path: Path) -> None:
    live = LiveRuntime(
        tmp_path,
        modules=[f"helmr.examples.{module}" for module, *_ in EXAMPLES.values()],
        linger="10m",
    )
    try:
        live.start()
        sessions = {task: live.begin(task, EXAMPLES[task][1]) for task in EXAMPLES}
        waits = {task: live.waiting(each, within_s=120) for task, each in sessions.items()}
        steps = {task: _steps(live, each) for task, each in sessions.items()}
        for each in sessions.values():
            if holder := live.holder(each):
                kill(holder["pid"])
        until(
            lambda: not any(live.holder(each) for each in sessions.values()),
            within_s=60,
            what="nobody holds them",
        )
        for task, wait in waits.items():
            live.client.waits.answer(wait.id, EXAMPLES[task][2])
        for task, each in sessions.items():
            run = live.ended(each, within_s=120)
            assert run.status == "succeeded", run
            assert run.result == EXAMPLES[task][3]
            before, after = steps[task], _steps(live, each)
            assert after[: len(before)] == before, "a step was executed again"
            assert len(after) == len(set(after))
    finally:
        live.stop()


def _steps(live: LiveRuntime, session_id: str) -> list[int]:
    return [e.op for e in live.transcript(session_id) if e.kind == "step.started"]
