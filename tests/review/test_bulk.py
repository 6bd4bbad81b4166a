"""A plan for many runs is what was shown: kept before the first call, valid for a day, each run at its attempt."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helmr.errors import UsageError
from helmr.models import ErrorInfo, RunInfo, RunStatus
from helmr.review.bulk import PLANS_MAX, VALID, BulkPlan, BulkPlans, BulkVerb, plan

NOW = datetime(2026, 11, 30, 14, 0, tzinfo=UTC)


def run(n: int, status: str = "failed", why: str = "no money", attempt: int = 1) -> RunInfo:
    error = ErrorInfo(code="task_failed", type="ValueError", message=f"{why}\nline 2")
    return RunInfo(
        id=f"run_{n}",
        session_id=f"ses_{n}",
        task="pay",
        status=RunStatus(status),
        attempt=attempt,
        error=error if status in ("failed", "blocked") else None,
        created_at=NOW,
    )


def test_a_plan_holds_what_can_take_it_at_the_attempt_that_was_seen() -> None:
    runs = [run(1), run(2, "succeeded"), run(3, "blocked", attempt=4), run(4, "waiting")]
    retries = plan(BulkVerb.RETRY, runs, NOW)
    assert [(one.run_id, one.attempt) for one in retries.runs] == [("run_1", 1), ("run_3", 4)]
    assert len({one.operation_id for one in retries.runs}) == 2
    cancels = plan(BulkVerb.CANCEL, runs, NOW)
    assert [one.run_id for one in cancels.runs] == ["run_3", "run_4"]


def test_the_same_errors_are_counted_by_task_and_first_line() -> None:
    found = plan(BulkVerb.RETRY, [run(1), run(2, why="disk gone"), run(3)], NOW)
    assert found.groups() == [(2, "pay  ValueError: no money"), (1, "pay  ValueError: disk gone")]
    waiting = plan(BulkVerb.CANCEL, [run(1, "waiting")], NOW)
    assert waiting.groups() == [(1, "pay  waiting")]


def test_a_name_that_can_be_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no name of a batch"):
        plan(BulkVerb.RETRY, [run(1)], NOW, "../x")


@pytest.fixture
def plans(tmp_path: Path) -> BulkPlans:
    return BulkPlans(tmp_path / "batches")


@pytest.fixture
def kept(plans: BulkPlans) -> BulkPlan:
    found = plan(BulkVerb.RETRY, [run(1), run(2)], NOW, "monday")
    plans.save(found)
    return found


def test_a_plan_is_gone_on_with_as_it_was_shown(plans: BulkPlans, kept: BulkPlan) -> None:
    assert plans.load("monday", BulkVerb.RETRY, NOW + VALID) == kept
    assert plans.load("tuesday", BulkVerb.RETRY, NOW) is None


def test_an_old_plan_and_one_for_something_else_are_refused(
    plans: BulkPlans, kept: BulkPlan
) -> None:
    with pytest.raises(UsageError, match="more than a day ago"):
        plans.load("monday", BulkVerb.RETRY, NOW + VALID + timedelta(seconds=1))
    with pytest.raises(UsageError, match="are to retry, not to cancel"):
        plans.load("monday", BulkVerb.CANCEL, NOW)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"id": "monday"}', '{"id": "monday", "verb": "retry", "made_at": "x", "runs": []}'],
)  # fmt: skip
def test_a_file_that_can_not_be_read_is_no_plan(
    plans: BulkPlans, kept: BulkPlan, tmp_path: Path, text: str
) -> None:
    [path] = (tmp_path / "batches").glob("*.json")
    assert json.loads(path.read_text())["id"] == "monday"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(text)
    assert plans.load("monday", BulkVerb.RETRY, NOW) is None


def test_the_oldest_go(plans: BulkPlans, tmp_path: Path) -> None:
    for n in range(PLANS_MAX + 2):
        plans.save(plan(BulkVerb.RETRY, [run(1)], NOW, f"b{n}"))
    assert len(list((tmp_path / "batches").glob("*.json"))) == PLANS_MAX
