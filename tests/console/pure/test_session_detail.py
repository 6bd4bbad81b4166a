"""What is known of a session is said as it is, and nothing before it was read."""

from __future__ import annotations

from datetime import timedelta

import pytest

from helmr.gate import CALL_TASK
from helmr.models import RunInfo, WaitInfo, WaitKind, WaitStatus
from helmr.person.review.words import ended, wait_over
from helmr_console.session_detail import SessionDetail
from tests.console.pure.test_effects import NOW, WAIT, session


def run(name: str) -> RunInfo:
    return RunInfo(
        id=name,
        session_id="ses_1",
        task="publish",
        status="succeeded",
        attempt=1,
        started_by={"type": "start"},
        created_at=NOW,
    )


def test_before_it_was_read_it_says_nothing() -> None:
    detail = SessionDetail("ses_1")
    assert (detail.words(), detail.newest_run, detail.active_wait) == ("", None, None)


@pytest.mark.parametrize(
    ("status", "runs", "words"),
    [
        ("open", ["run_1"], "publish   waiting   1 run"),
        ("open", ["run_2", "run_1"], "publish   waiting   2 runs"),
        ("cancelled", [], "publish   cancelled   0 runs"),
    ],
)
def test_its_state_is_its_activity_while_it_is_open(
    status: str, runs: list[str], words: str
) -> None:
    detail = SessionDetail("ses_1", session(status=status), {name: run(name) for name in runs})
    assert detail.words() == words
    newest = detail.newest_run
    assert (newest.id if newest is not None else None) == next(iter(runs), None)
    assert detail.active_wait is not None


def test_why_a_wait_can_not_be_answered() -> None:
    wait = WaitInfo.model_validate({**WAIT, "deadline_at": NOW + timedelta(minutes=1)})
    assert wait_over(wait, NOW) == ""
    assert wait_over(wait, NOW + timedelta(minutes=1)).startswith("the deadline has passed")
    late = wait.model_copy(update={"status": WaitStatus.TIMED_OUT})
    assert (ended(late), wait_over(late, NOW)) == ("timed out", "the wait is timed out")
    call = late.model_copy(update={"task": CALL_TASK})
    assert wait_over(call, NOW) == "the wait is left to the client"
    timer = wait.model_copy(update={"kind": WaitKind.TIMER})
    assert wait_over(timer, NOW) == "a timer is answered by the clock"
