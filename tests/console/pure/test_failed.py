"""Failed and blocked are states of a session: a sign, the first line of the error, and what became of many retries."""

from __future__ import annotations

import pytest

from helmr.models import SessionInfo
from helmr.review.bulk import PlannedRun
from helmr.review.outcome import AnswerOutcome, Result
from helmr_console.effects import RunRetry, summary
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


def test_of_many_retries_the_refused_are_named_and_the_others_are_done() -> None:
    run = PlannedRun("run_1", "ses_1", 1, "op_1", "pay", "failed", "CardDeclined: no money")
    retries = [RunRetry(run) for _ in range(3)]
    retries[0].succeeded()
    retries[1].outcome = AnswerOutcome(Result.CONFLICT, ("it is running",))
    retries[2].outcome = AnswerOutcome(Result.UNAVAILABLE, ("no answer",))
    found = summary(retries)
    assert found.is_open, "the rest is tried again by the same operations"
    assert found.lines == (
        "no answer",
        "1 run begins the next attempt",
        "1 not known or not tried yet",
    )
    retries[2].succeeded()
    found = summary(retries)
    assert found.is_done
    assert found.lines[0] == "2 runs begin the next attempt"
    assert "it is running" in found.lines[1]
    assert summary(retries[1:2]).result is Result.CONFLICT
