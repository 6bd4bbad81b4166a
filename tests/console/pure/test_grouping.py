"""Waits in groups, and the figures of an inbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helmr.models import EntryInfo, PrincipalInfo, WaitInfo, WaitKind, WaitStatus
from helmr_console import views
from helmr_console.clock import MachineClock, ServerClock
from helmr_console.store import Store
from helmr_console.views import By, figures, group_of, head_of, head_text, in_groups, name_of

NOW = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)


def wait(number: int = 1, *, age_m: float = 0.0, **given: Any) -> WaitInfo:
    return WaitInfo(
        **{
            "id": f"wait_{number}",
            "session_id": "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "run_id": "run_1",
            "task": "publish",
            "kind": WaitKind.INPUT,
            "stream": "approval",
            "status": WaitStatus.PENDING,
            "opened_at": NOW - timedelta(minutes=age_m),
            **given,
        }
    )


def test_a_childs_question_says_whose_child_its_session_is() -> None:
    one = wait(subject="Child 0: sign?", tags=["legal"])
    assert views.rest_of(one) == ""
    child = one.model_copy(update={"parent_session_id": "ses_01kb0000000000000000hx3tmz"})
    assert views.rest_of(child) == "of ses…0hx3tmz"


def test_by_goes_round() -> None:
    by, seen = By.NOTHING, []
    for _ in By:
        seen.append(by)
        by = by.next
    assert by is By.NOTHING
    assert seen == list(By)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (By.STREAM, ["approval", "token"]),
        (By.TASK, ["pay", "Publish"]),
        (By.TAG, ["money", "vip", ""]),
        (By.ASSIGNEE, ["ana", ""]),
        (By.AGENT, [""]),
    ],
)
def test_groups_stand_by_name_and_what_has_none_last(by: By, names: list[str]) -> None:
    waits = [
        wait(1, task="Publish", session_tags=["vip"]),
        wait(2, task="pay", kind=WaitKind.TOKEN, stream=None, assignee="ana"),
        wait(3, task="pay", tags=["money", "vip"], session_tags=["eu"]),
    ]
    found = in_groups(waits, by)
    assert list(found) == names
    assert sorted(one.id for group in found.values() for one in group) == [w.id for w in waits]
    assert all(name_of(one, by) == name for name, group in found.items() for one in group)


def test_a_group_keeps_the_order_of_its_waits() -> None:
    found = in_groups([wait(2), wait(1), wait(3)], By.STREAM)
    assert [one.id for one in found["approval"]] == ["wait_2", "wait_1", "wait_3"]


def test_a_heading_is_no_wait() -> None:
    assert group_of(head_of("approval")) == "approval"
    assert group_of(head_of("")) == ""
    assert group_of("wait_1") is None


def test_figures_are_those_of_the_waits() -> None:
    waits = [wait(1, age_m=1), wait(2, age_m=125), wait(3, age_m=20)]
    assert figures(waits, NOW) == ["oldest 2h 05m", "median 20m"]
    assert figures([], NOW) == []
    assert figures([wait(age_m=-5)], NOW) == ["oldest 0s", "median 0s"], "a clock that is wrong"
    assert head_text("approval", By.STREAM, waits, NOW) == "stream approval: 3 waits, oldest 2h 05m"
    assert head_text("", By.TAG, waits[:1], NOW) == "no tag: 1 wait, oldest 1m"


def answered(at: datetime, offset: int, who: str = "api_key") -> EntryInfo:
    return EntryInfo(
        session_id="ses_1",
        seq=offset,
        feed_offset=offset,
        recorded_at=at,
        kind="wait.fulfilled",
        principal=PrincipalInfo(type=who),
        body={"wait_id": f"wait_{offset}"},
    )


class At(MachineClock):
    """A clock that stands."""

    def wall(self) -> datetime:
        return NOW


def test_answers_of_people_are_counted_by_the_day() -> None:
    store = Store(ServerClock(At()))
    assert store.answered_today() == ""
    day = timedelta(days=1)
    for place, (at, who) in enumerate(
        [(NOW - day, "api_key"), (NOW, "api_key"), (NOW, "runtime"), (NOW, "callback")], start=1
    ):
        store.apply(answered(at, place, who))
    assert store.answered_today() == "2 answered today"


def test_a_count_of_which_the_beginning_was_not_read_says_so() -> None:
    store = Store(ServerClock(At()))
    store.apply(answered(NOW, 700))
    assert store.answered_today() == "1+ answered today"
    older = Store(ServerClock(At()))
    older.apply(answered(NOW - timedelta(days=1), 700))
    assert older.answered_today() == ""
    older.apply(answered(NOW, 701))
    assert older.answered_today() == "1 answered today"


def test_calls_of_one_session_of_an_agent_are_one_group() -> None:
    asked = [
        wait(number, task="helmr.gate.call", tags=["gate"], session_tags=[agent])
        for number, agent in enumerate(("claude-code:a", "claude-code:b", "claude-code:a"))
    ]
    found = in_groups([*asked, wait(9, session_tags=["vip"])], By.AGENT)
    assert {name: len(group) for name, group in found.items()} == {
        "claude-code:a": 2,
        "claude-code:b": 1,
        "": 1,
    }
