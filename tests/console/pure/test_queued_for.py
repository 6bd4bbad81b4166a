"""What waits for a limit says so, and its place is read again while it changes: no entry reports that."""

from __future__ import annotations

from datetime import timedelta

from helmr.models import Health, LimitInfo, RunInfo
from helmr_console.clock import ServerClock
from helmr_console.screens.sessions import session_content
from helmr_console.session_detail import SessionDetail
from helmr_console.store import PLACES_EVERY_S, Store
from helmr_console.system_views import limit_line
from helmr_console.views import run_row, session_row
from helmr_console.widgets.details import run_in_full
from tests.console.pure.test_effects import NOW, session
from tests.console.pure.test_lists_and_time import Hands

PLACE = {"limit": "openai", "place": 14, "since": NOW}
TEXT = "queued for limit openai, 14th"


def test_a_session_and_its_run_say_what_they_wait_for() -> None:
    one = session(activity="running", wait=None, queued_for=PLACE)
    run = RunInfo.model_validate(
        {
            "id": "run_1",
            "session_id": "ses_1",
            "task": "publish",
            "status": "running",
            "attempt": 1,
            "created_at": NOW,
            "queued_for": PLACE,
        }
    )
    assert [cell.text for cell in session_row(one, NOW)[1:4]] == ["running", "publish", TEXT]
    assert TEXT in session_content(one, NOW).plain
    assert SessionDetail("ses_1", summary=one).words() == f"publish   {TEXT}   0 runs"
    assert run_row(run, NOW)[5].text == TEXT
    assert TEXT in run_in_full(run).plain


def test_a_limit_is_a_line_that_says_what_waits_and_what_is_closed() -> None:
    one = LimitInfo(name="openai", at_once=8, in_use=3, waiting=0)
    assert limit_line(one, NOW) == ("3 of 8 in use", "")
    since, until = NOW - timedelta(minutes=3), NOW + timedelta(seconds=12)
    many = {"per": 200, "within_s": 60.0, "begun": 193, "waiting": 41, "oldest_at": since}
    text, role = limit_line(one.model_copy(update={**many, "closed_until": until}), NOW)
    assert role == "warning"
    assert text.startswith("closed by its provider for 12s, 3 of 8 in use, 193 of 200 begun in 1m")
    assert text.endswith("41 wait, the oldest for 3m")
    past = one.model_copy(update={"closed_until": since})
    assert limit_line(past, NOW) == ("3 of 8 in use", "")


def test_places_are_read_again_now_and_then_while_something_waits() -> None:
    hands = Hands()
    store = Store(ServerClock(hands))
    store.put_sessions(
        [
            session(id="ses_1", activity="running", wait=None),
            session(id="ses_2", activity="idle", wait=None),
        ]
    )
    assert not store.places_are_old(), "nothing is known of limits"
    store.health = Health(ready=True, version="1", now=NOW, pool={"limits": {"openai": 0}})
    assert not store.places_are_old()
    store.health = Health(ready=True, version="1", now=NOW, pool={"limits": {"openai": 3}})
    assert store.places_are_old()
    assert not store.places_are_old()
    hands.mono += PLACES_EVERY_S
    assert store.places_are_old()
    store.sessions_dirty.clear()
    store.touch_going_on(["ses_1", "ses_2", "ses_3"])
    assert store.sessions_dirty == {"ses_1"}
