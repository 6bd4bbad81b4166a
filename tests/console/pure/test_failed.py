"""Failed and blocked are states of a session: a sign, the first line of the error, and what became of many retries."""

from __future__ import annotations

from typing import Literal

import pytest

from helmr.models import BulkOutcome, BulkPlan, BulkVerb, PlannedRun, SessionInfo
from helmr.person.review.outcome import Result
from helmr_console.effects import REFUSALS_SHOWN, of_bulk, progress, summary
from helmr_console.views import failed_text, session_row
from tests.console.pure.test_effects import NOW, session

ERROR = {"code": "task_failed", "type": "CardDeclined", "message": "no money\n\x1b[2Jnone at all"}


def failed(status: str = "open", run_status: str = "failed") -> SessionInfo:
    activity = "blocked" if run_status == "blocked" else "idle"
    return session(status=status, activity=activity, wait=None, run_status=run_status, error=ERROR)


@pytest.mark.parametrize(
    ("one", "sign", "state", "role"),
    [
        (failed(), "!", "failed", "error"),
        (failed(run_status="blocked"), "!", "blocked", "error"),
        (failed(status="closed"), "!", "closed", "muted"),
    ],
)
def test_the_row_has_a_sign_and_the_first_line_of_the_error(
    one: SessionInfo, sign: str, state: str, role: str
) -> None:
    row = session_row(one, NOW)
    assert [(cell.text, cell.role) for cell in row[:2]] == [(sign, role), (state, role)]
    assert row[3].text == "CardDeclined: no money"
    assert row[3].role == role


def test_one_that_went_well_is_idle_without_a_sign() -> None:
    well = session(activity="idle", wait=None, run_status="succeeded")
    assert [cell.text for cell in session_row(well, NOW)[:4]] == [" ", "idle", "publish", ""]


@pytest.mark.parametrize(
    ("failed", "blocked", "text"), [(0, 0, ""), (2, 0, "2 failed"), (2, 1, "2 failed, 1 blocked")]
)
def test_the_count_names_both(failed: int, blocked: int, text: str) -> None:
    assert failed_text(failed, blocked) == text


def plan(count: int, verb: BulkVerb = BulkVerb.RETRY) -> BulkPlan:
    runs = tuple(
        PlannedRun(
            run_id=f"run_{n}",
            session_id=f"ses_{n}",
            attempt=1,
            operation_id=f"op_{n}",
            task="pay",
            status="failed",
            why="CardDeclined: no money",
        )
        for n in range(count)
    )
    return BulkPlan(id="monday", verb=verb, made_at=NOW, runs=runs)


def came(
    progress: Literal["accepted", "skipped", "failed"], detail: str = "", error: str | None = None
) -> BulkOutcome:
    return BulkOutcome(
        run_id="run_1", session_id="ses_1", progress=progress, detail=detail, error=error
    )


def test_of_many_retries_the_refused_are_named_and_the_others_are_done() -> None:
    tried = [came("accepted"), came("skipped", "it is running"), came("failed", "no answer")]
    found = summary(plan(4), tried)
    assert found.is_open, "the rest is tried again by the same operations"
    assert found.lines == (
        "no answer",
        "1 run begins the next attempt",
        "2 not known or not tried yet",
    )
    found = summary(plan(3), [came("accepted"), tried[1], came("accepted")])
    assert found.is_done
    assert found.lines[0] == "2 runs begin the next attempt"
    assert "it is running" in found.lines[1]
    assert summary(plan(1), tried[1:2]).result is Result.CONFLICT


def test_of_many_that_are_refused_each_kind_is_counted_and_one_of_it_named() -> None:
    changed = came("skipped", "run_1 is at attempt 2", "session_changed")
    ended = came("skipped", "it is succeeded meanwhile")
    found = summary(plan(9), [came("accepted"), *[ended] * 2, *[changed] * REFUSALS_SHOWN])
    assert found.lines == (
        "1 run begins the next attempt",
        "8 not: 6 session changed, as ses_1: run_1 is at attempt 2; "
        "2 it is succeeded meanwhile, as ses_1: it is succeeded meanwhile",
    )


def test_how_far_a_batch_is_counts_what_was_done_and_what_was_not() -> None:
    assert progress(plan(3), [came("accepted")]) == "retried 1 of 3"
    refused = came("skipped", "it is running")
    assert progress(plan(3, BulkVerb.CLOSE), [came("accepted"), refused]) == "closed 1 of 3, 1 not"


@pytest.mark.parametrize("verb", BulkVerb)
def test_each_batch_says_what_it_does_what_came_of_it_and_what_goes_on_with_it(
    verb: BulkVerb,
) -> None:
    texts = of_bulk(plan(2, verb))
    assert len(texts) >= 3
    assert texts[-1].endswith("--batch monday does the rest")
    assert summary(plan(2, verb), [came("accepted")] * 2).lines[0].startswith("2 ")
