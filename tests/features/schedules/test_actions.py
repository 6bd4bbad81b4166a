"""What an operator can do with schedules: every refusal in words, writing only where it is allowed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from helmr.models import ScheduleInfo
from helmr_console.actions import Action, ActionContext, in_scopes
from helmr_console.features.schedules.actions import SCOPE

BY_ID = {action.id: action for action in in_scopes([SCOPE])}

NIGHTLY = ScheduleInfo(
    name="nightly",
    task="sweep",
    payload=None,
    cron="0 3 * * *",
    every_s=None,
    zone="UTC",
    missed="latest",
    overlap="skip",
    declared_in="api",
    status="active",
    next_due_at=None,
    last_due_at=None,
    last_outcome=None,
    last_session_id=None,
    created_at=datetime(2030, 1, 1, tzinfo=UTC),
)
FINE = ActionContext(thing=NIGHTLY)


@pytest.mark.parametrize("action", BY_ID.values(), ids=lambda action: action.id)
def test_writing_is_refused_in_words(action: Action) -> None:
    assert action.writes
    assert action.refusal(FINE) == ""
    assert "read-only" in action.refusal(replace(FINE, read_only=True))
    assert "STALE 14s" in action.refusal(replace(FINE, live=False, link_text="STALE 14s"))


def test_only_a_deletion_can_not_be_taken_back() -> None:
    assert [action.id for action in BY_ID.values() if action.dangerous] == ["schedule.delete"]


def test_a_refusal_says_what_the_schedule_lacks() -> None:
    gone = NIGHTLY.model_copy(update={"status": "gone"})
    declared = NIGHTLY.model_copy(update={"declared_in": "code"})
    nothing = ActionContext(row=True)
    assert BY_ID["schedule.pause"].refusal(nothing) == "no schedule is selected"
    assert BY_ID["schedule.new"].refusal(nothing) == ""
    assert "gone" in BY_ID["schedule.run"].refusal(replace(FINE, thing=gone))
    assert "the code declares it" in BY_ID["schedule.delete"].refusal(replace(FINE, thing=declared))


def test_no_key_means_two_things_in_the_list() -> None:
    scopes = ["Anywhere", "In lists", "In the list of an area", SCOPE]
    keys = [key for action in in_scopes(scopes) for key in action.keys]
    assert sorted(keys) == sorted(set(keys))
