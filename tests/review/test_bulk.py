"""A plan for many runs is what was shown: kept before the first call, valid for a day, each run at its attempt."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import UsageError
from helmr.models import BulkPlan, BulkVerb, PlannedRun, SessionInfo
from helmr.person.review.bulk import PLANS_MAX, VALID, BulkPlans, check_name
from tests.console.pure.test_effects import WAIT
from tests.console.pure.test_effects import session as shown

NOW = datetime(2026, 11, 30, 14, 0, tzinfo=UTC)


def run(n: int, why: str = "no money", status: str = "failed") -> PlannedRun:
    return PlannedRun(
        run_id=f"run_{n}",
        session_id=f"ses_{n}",
        attempt=1,
        operation_id=f"op_{n}",
        task="pay",
        status=status,
        why=f"{why}\nline 2" if why else "",
    )


def plan(*runs: PlannedRun, verb: BulkVerb = BulkVerb.RETRY, name: str = "monday") -> BulkPlan:
    return BulkPlan(id=name, verb=verb, made_at=NOW, runs=runs)


DAY = timedelta(days=8)


def session(**changes: Any) -> SessionInfo:
    return shown(**{"activity": "idle", "wait": None, **changes})


def wait(kind: str) -> dict[str, Any]:
    return {**WAIT, "kind": kind}


@pytest.mark.parametrize(
    ("verb", "takes"),
    [
        (BulkVerb.RETRY, {"failed", "blocked"}),
        (BulkVerb.CANCEL, {"blocked", "waits", "timer"}),
        (BulkVerb.CLOSE, {"failed", "succeeded"}),
        (BulkVerb.PRUNE, {"closed"}),
    ],
)
def test_each_verb_takes_what_it_can_be_done_to(verb: BulkVerb, takes: set[str]) -> None:
    made = {
        "failed": session(run_status="failed"),
        "blocked": session(run_status="blocked", activity="blocked"),
        "succeeded": session(run_status="succeeded"),
        "waits": session(run_status="waiting", activity="waiting", wait=wait(kind="input")),
        "timer": session(run_status="waiting", activity="waiting", wait=wait(kind="timer")),
        "closed": session(status="closed", run_status="failed"),
        "goes on": session(status="closed", activity="running", run_status="running"),
    }
    assert {name for name, one in made.items() if verb.takes(one, NOW + DAY)} == takes
    if verb is BulkVerb.CLOSE:
        ends = {name for name, one in made.items() if verb.takes(one, NOW, end_input=True)}
        assert ends == {*takes, "waits"}
    if verb is BulkVerb.PRUNE:
        assert not verb.takes(made["closed"], made["closed"].updated_at + timedelta(hours=23))


def test_the_same_errors_are_counted_by_task_and_first_line() -> None:
    found = plan(run(1, "E: no money"), run(2, "E: disk gone"), run(3, "E: no money"))
    assert found.groups() == [(2, "pay  E: no money"), (1, "pay  E: disk gone")]
    assert plan(run(1, "", "waiting")).groups() == [(1, "pay  waiting")]


def test_a_name_that_can_be_none_is_refused() -> None:
    check_name(None)
    check_name("monday-1")
    with pytest.raises(UsageError, match="no name of a batch"):
        check_name("../x")


@pytest.fixture
def plans(tmp_path: Path) -> BulkPlans:
    return BulkPlans(tmp_path / "batches")


@pytest.fixture
def kept(plans: BulkPlans) -> BulkPlan:
    found = plan(run(1), run(2))
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
    ["", "[]", "{", '{"id": "monday"}', '{"id": "monday", "verb": "retry", "made_at": "x", "runs": []}',
     '{"id": "monday", "verb": "retry", "made_at": "2026-11-30T14:00:00", "runs": []}'],
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
        plans.save(plan(run(1), name=f"b{n}"))
    assert len(list((tmp_path / "batches").glob("*.json"))) == PLANS_MAX
