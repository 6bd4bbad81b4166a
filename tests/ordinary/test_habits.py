"""Ordinary task code works at first, after a park and after a kill of its process; what does not says what to do."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.ordinary.conftest import Stand

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.allows_blocking,
]

WORKS: dict[str, Any] = {
    # clients
    "httpx_client": ["hello"] * 4,
    "httpx_client_in_a_sync_step": "hello",
    "aiohttp_session": ["hello"] * 4,
    "openai_client": ["hello yourself"] * 4,
    "openai_stream": ["hello ", "yourself"],
    "openai_client_in_a_sync_step": "hello yourself",
    "anthropic_client": ["hello yourself"] * 4,
    "anthropic_client_in_a_sync_step": "hello yourself",
    "asyncpg_pool": [1, 2, 3, 4, 5, 6],
    # coordination
    "global_lock": [1, 1, 1, 1],
    "global_semaphore": True,
    "global_event": True,
    "global_condition": "changed",
    "global_queue": [0, 1, 2, 3, 4],
    "queue_of_the_task": ["none"] * 3,
    "context_variables": "red",
    "future_of_the_task": "here",
    # subprocesses
    "subprocess_exec": ["cba 0", "fed 0"],
    "subprocess_shell": "hello 3",
    "anyio_run_process": "hello 3",
    "subprocess_in_a_sync_step": "hello 3",
    "asyncio_run_in_a_sync_step": "hello 3",
    "subprocess_outside_steps": "again",
    "mcp_over_stdio": "5",
    # structure
    "to_thread": [0, 2, 4, 6],
    "executors": [8, 8],
    "anyio_task_group_and_threads": [0, 2, 4, 6],
    "task_group_of_steps": [0, 1, 2, 3],
    "task_group_in_a_step": [0, 1, 2, 3],
    "except_star": ["ValueError"],
    "timeout_in_a_step": "timed out",
    "timeout_of_a_step": "TimeoutError",
    "retries_of_a_step": 3,
    "finally_with_awaits": ["KeyError", "7"],
    "background_task_of_the_task": [2, 1],
    "background_task_of_a_step": ["left", "done"],
    "async_generator_in_a_step": [0, 1, 2],
    "async_generator_of_steps": [0, 1, 2],
    "async_context_manager_of_steps": [1, 2, 3],
    "exit_in_a_step": "SystemExit",
    "loop_in_a_sync_step": 5,
    # values
    "dataclasses": ["Line", "4.20", [1, 2], ["a"]],
    "enumerations": ["Color.RED", "large"],
    "decimals": "0.30",
    "uuids": 7,
    "typed_dicts": {"name": "ada"},
    "tuples_sets_and_bytes": "((1, 'a'), {3}, {'b': [b'c']})",
    "named_tuples": "Place(x=1, y=2)",
    "dates_and_times": ["2030-01-02T00:00:00+00:00", "2030-01-02", 90.0],
    "unions_of_models": "Closed",
    "paths": "a/b",
    "without_annotation": {"a": [1, None, "x"]},
    "prints_and_logs": "said",
    # frameworks
    "pydantic_ai_agent": "ada is a customer; eve is a customer",
    "pydantic_ai_agent_in_a_step": "hello",
    "langgraph_graph": {"topic": "ada", "draft": "ada is a customer", "sent": "sent 17"},
    "openai_agent": ["ada is a customer", "done"],
}

REFUSED = {
    "future_of_the_task_without_saying_so": '@step(loop="run")',
    "subprocess_ended_by_a_time_limit": "TimeoutError: took longer than 0.2 s",
    "typed_dicts_of_typing": "from typing_extensions import TypedDict",
    "value_without_json": "SchemaMismatch",
    "wait_inside_a_step": "NotInTask",
    "two_waits_at_once": "ConcurrentWaitError",
}
"""A part of the sentence, which is the same at every moment."""

if sys.version_info >= (3, 12):  # there pydantic reads both
    WORKS["typed_dicts_of_typing"] = {"name": "ada"}
    del REFUSED["typed_dicts_of_typing"]


@pytest.mark.parametrize("habit", WORKS)
def test_it_works_at_first_and_after_a_park_and_after_a_kill(
    habit: str, outcomes: dict[str, list[Any]], stand: Stand
) -> None:
    if habit == "asyncpg_pool" and stand.places["postgres"] is None:
        pytest.skip("PostgreSQL is not installed")
    assert outcomes[habit] == [WORKS[habit]] * 3


@pytest.mark.parametrize("habit", REFUSED)
def test_what_does_not_work_is_refused_each_time_with_what_to_do(
    habit: str, outcomes: dict[str, list[Any]]
) -> None:
    said = outcomes[habit]
    assert len(said) == 3
    for text in said:
        assert REFUSED[habit] in text


def test_no_habit_is_without_a_test(outcomes: dict[str, list[Any]]) -> None:
    assert outcomes.keys() == WORKS.keys() | REFUSED.keys()


@pytest.mark.usefixtures("outcomes")
def test_prints_and_logs_are_in_the_runtimes_log_files(stand: Stand) -> None:
    name = "in-process.log" if stand.live.is_in_process else "helmr-host-*.log"
    files = (stand.live.data_dir / "logs").glob(name)
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    for said in (
        "print in a step: hello",
        "log in a step: hello",
        "print in a task",
        "log of the task's context",
    ):
        assert said in text
