"""What is snoozed is hidden for its time, never past its deadline, and no file of it does harm."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import UsageError
from helmr.models import WaitInfo, WaitKind, WaitStatus
from helmr.person.review.personal import BACK_BEFORE, LONGEST, SNOOZES_MAX, Snoozes, back_at

NOW = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def wait(deadline_at: datetime | None = None) -> WaitInfo:
    return WaitInfo(
        id="wait_1",
        session_id="ses_1",
        run_id="run_1",
        task="publish",
        kind=WaitKind.INPUT,
        status=WaitStatus.PENDING,
        opened_at=NOW,
        deadline_at=deadline_at,
    )


@given(
    snoozed_s=st.integers(1, int(LONGEST.total_seconds())),
    left_s=st.none() | st.integers(-10, 10_000_000),
)
def test_a_wait_is_back_in_time_to_be_answered(snoozed_s: int, left_s: int | None) -> None:
    put_off = timedelta(seconds=snoozed_s)
    deadline = NOW + timedelta(seconds=left_s) if left_s is not None else None
    if deadline is not None and deadline - NOW <= BACK_BEFORE:
        with pytest.raises(UsageError, match="too soon"):
            back_at(wait(deadline), put_off, NOW)
        return
    back = back_at(wait(deadline), put_off, NOW)
    assert NOW < back <= NOW + put_off
    assert deadline is None or back <= deadline - BACK_BEFORE


@pytest.mark.parametrize("put_off", [timedelta(0), timedelta(seconds=-1), timedelta(days=31)])
def test_no_time_and_too_long_a_time_are_refused(put_off: timedelta) -> None:
    with pytest.raises(UsageError, match="1s to 30d"):
        back_at(wait(), put_off, NOW)


def test_what_is_put_off_is_known_until_its_time_is_over(tmp_path: Path) -> None:
    snoozes, other = Snoozes(tmp_path / "snoozed"), Snoozes(tmp_path / "snoozed")
    assert snoozes.read(NOW) == {}
    snoozes.snooze("wait_1", NOW + HOUR)
    snoozes.snooze("wait_2", NOW + 2 * HOUR)
    assert other.read(NOW) == {"wait_1": NOW + HOUR, "wait_2": NOW + 2 * HOUR}
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "snoozed").iterdir()} == {
        "0o600"
    }
    assert set(other.read(NOW + HOUR)) == {"wait_2"}
    assert [path.stem for path in (tmp_path / "snoozed").iterdir()] == ["wait_2"], "forgotten"
    other.wake("wait_2")
    other.wake("wait_2")
    assert snoozes.read(NOW) == {}


def test_files_that_say_nothing_hide_nothing(tmp_path: Path) -> None:
    for name, text in {
        "wait_1": b"",
        "wait_2": b"\xff\xfe",
        "wait_3": b"2026-11-27T14:00:00",  # of no zone
        "wait_4": b"9" * 1_000_000,
    }.items():
        (tmp_path / f"{name}.until").write_bytes(text)
    (tmp_path / "wait_5.until").mkdir()
    assert Snoozes(tmp_path).read(NOW) == {}


def test_an_id_is_no_path(tmp_path: Path) -> None:
    Snoozes(tmp_path / "snoozed").snooze("../../wait", NOW + HOUR)
    assert os.listdir(tmp_path) == ["snoozed"]


def test_of_too_many_those_that_end_first_are_given_up(tmp_path: Path) -> None:
    for number in range(SNOOZES_MAX):
        (tmp_path / f"wait_{number}.until").write_text((NOW + (number + 1) * HOUR).isoformat())
    Snoozes(tmp_path).snooze("wait_last", NOW + 9_999 * HOUR)
    kept = Snoozes(tmp_path).read(NOW)
    assert len(kept) == SNOOZES_MAX
    assert "wait_0" not in kept
    assert "wait_last" in kept
