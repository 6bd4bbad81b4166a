"""Schedules in the console: listed, paused, run, made by a form, deleted."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest

from helmr.person.review.words import short_id
from tests.console.flow.bench import Bench
from tests.console.flow.late import SIZES as LATE_SIZES
from tests.console.flow.late import begins_at_the_top, opened_late
from tests.console.flow.test_goldens import SIZES, look


async def schedule(bench: Bench, name: str, **parts: Any) -> None:
    given = {"name": name, "task": "talk", "every": "1h", "payload": {"subject": "Hello"}, **parts}
    made = await bench.stack.http.post("/v1/schedules", json=given)
    assert made.status_code == 201, made.text


async def known(bench: Bench, name: str) -> Any:
    return (await bench.stack.http.get(f"/v1/schedules/{name}")).json()


async def three(bench: Bench) -> None:
    """Three schedules, of which one has started a session and one is paused."""
    await schedule(bench, "hourly")
    nightly = {"cron": "0 3 * * mon-fri", "every": None, "zone": "Europe/Berlin"}
    await schedule(bench, "nightly", **nightly, missed="skip")
    await schedule(bench, "sweep", task="publish", every="15m")
    await bench.stack.http.post("/v1/schedules/sweep/pause")
    bench.clock.move_to(bench.clock.now() + timedelta(hours=1))

    async def has_started() -> bool:
        found = (await known(bench, "hourly"))["last_outcome"]
        return bool(found == "started")

    await bench.until(has_started)


async def schedules(bench: Bench, count: int, **options: Any) -> Any:
    """The list of schedules, once it shows so many."""
    await bench.open(**options)
    await bench.press("4", "s")
    screen = await bench.on("SchedulesScreen")
    await bench.until(lambda: len(screen.list.keys) == count)
    await bench.pilot.pause()
    return screen


@pytest.mark.long
async def test_schedules_are_listed_by_their_next_due_time_and_shown_in_full(
    bench: Bench,
) -> None:
    await three(bench)
    screen = await schedules(bench, 3)
    assert screen.list.keys == ["hourly", "nightly", "sweep"]
    text = bench.text()
    assert "0 3 * * mon-fri (Europe/B" in text
    assert "every 15m" in text
    assert "paused" in text
    for said in ("next due", "outcome     started", "made by     a program or person", '"Hello"'):
        assert said in text, said
    await bench.press("enter")
    await bench.on("SessionScreen")
    await bench.sees(short_id((await known(bench, "hourly"))["last_session_id"]))
    await bench.press("escape")
    await bench.on("SchedulesScreen")
    await bench.press("slash", *"status:paused")
    await bench.until(lambda: screen.list.keys == ["sweep"])
    await bench.press("enter", "enter")
    assert "It has started no session yet" in bench.toasts()


async def test_a_schedule_is_paused_resumed_and_run_after_it_was_asked(bench: Bench) -> None:
    await schedule(bench, "hourly")
    await schedules(bench, 1)
    for sees, verb, status in (
        ("active", "Pause hourly", "paused"),
        ("paused", "Resume hourly", "active"),
    ):
        await bench.sees(sees)
        await bench.press("P")
        await bench.on("ConfirmScreen")
        await bench.sees(f"{verb} ─")
        assert (await known(bench, "hourly"))["status"] != status
        await bench.press("ctrl+s")
        await bench.on("SchedulesScreen")
        assert (await known(bench, "hourly"))["status"] == status
    await bench.sees("next due")
    await bench.press("R")
    await bench.sees("start a session of talk now")
    await bench.press("escape")
    assert (await known(bench, "hourly"))["last_session_id"] is None
    await bench.press("R")
    await bench.on("ConfirmScreen")
    await bench.press("ctrl+s")
    await bench.on("SchedulesScreen")
    started = (await known(bench, "hourly"))["last_session_id"]
    assert started is not None
    await bench.sees(started)
    # The one that it started is active, and it lets none run beside it.
    await bench.press("R")
    await bench.on("ConfirmScreen")
    await bench.press("ctrl+s")
    await bench.sees("the session that it started last is")
    assert (await known(bench, "hourly"))["last_session_id"] == started


async def test_nothing_is_changed_read_only_or_without_a_row(bench: Bench) -> None:
    await schedule(bench, "hourly")
    await schedules(bench, 1, read_only=True)
    await bench.press("P", "R", "n", "X")
    await bench.on("SchedulesScreen")
    assert ["read-only" in text for text in bench.toasts()] == [True] * 4
    await bench.press("escape", "n")
    await bench.on("NoticesScreen")
    await bench.sees("No notices are sent")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="goldens are of Python 3.11")
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_screens(bench: Bench, size: tuple[int, int]) -> None:
    await three(bench)
    await schedules(bench, 3, size=size, name="prod-eu")
    tail = f"{size[0]}x{size[1]}"
    await look(bench, f"schedules-{tail}")
    await bench.press("P")
    await bench.on("ConfirmScreen")
    await bench.until(lambda: bench.app.screen.submission.phase.value == "form")
    await look(bench, f"schedule-pause-{tail}")
    await bench.press("escape", "n", *"talk", "enter")
    await bench.form()
    await bench.press(*"nightly", "tab", *"0 3 * * mon-fri")
    await bench.sees("2026-11-25 03:00")
    await bench.until(lambda: bench.app.screen.draft_state == "draft saved")
    await look(bench, f"schedule-new-{tail}")


async def test_a_schedule_is_made_by_its_form_which_says_when_it_is_due(bench: Bench) -> None:
    await schedules(bench, 0)
    await bench.sees("Nothing is started by the clock. n makes a schedule.")
    await bench.press("n", *"talk", "enter")
    await bench.form()
    await bench.sees("not yet: say when")
    await bench.press(*"n1", "tab", *"0 3 * *", "ctrl+s")
    await bench.sees("neither a duration (15m) nor five fields of cron")
    await bench.press("end", *" *")
    await bench.sees("2026-11-25 03:00")
    await bench.press("tab", "tab", "tab", "tab", *"Hi?", "ctrl+s")
    await bench.sees("starts a session of talk whenever it is due, from now on")
    assert (await bench.stack.http.get("/v1/schedules")).json()["items"] == []
    await bench.press("ctrl+s")
    screen = await bench.on("SchedulesScreen")
    await bench.until(lambda: screen.list.keys == ["n1"])
    made = await known(bench, "n1")
    assert (made["task"], made["cron"], made["zone"]) == ("talk", "0 3 * * *", "UTC")
    assert made["payload"]["subject"] == "Hi?"


@pytest.mark.parametrize("size", LATE_SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_form_of_a_schedule_that_is_laid_out_late_begins_at_its_top(
    bench: Bench, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await schedules(bench, 0, size=size)
    await bench.press("n", *"talk")
    await opened_late(bench, monkeypatch, "enter")
    await bench.on("NewScheduleScreen")
    begins_at_the_top(bench)
    await bench.press(*"n1", "tab", *"1h", "ctrl+s")
    await bench.sees("This is sent, exactly")
    await opened_late(bench, monkeypatch, "escape")  # from the review, which needs no scroll bar
    begins_at_the_top(bench)


@pytest.mark.long
async def test_a_schedule_is_made_of_a_task_that_the_console_has_not_heard_of_yet(
    bench: Bench,
) -> None:
    await schedules(bench, 0)
    bench.app.shared.store.tasks = []  # as right after the start
    await bench.press("n", *"talk", "enter")
    screen = await bench.form()
    assert screen.task_info.id == "talk"


@pytest.mark.long
async def test_a_schedule_of_a_name_that_is_taken_is_refused_and_what_was_typed_stays(
    bench: Bench,
) -> None:
    await schedule(bench, "a", every="2h")
    await schedules(bench, 1)
    await bench.press("n", *"talk", "enter")
    screen = await bench.form()
    await bench.press("a", "tab", *"1h", "ctrl+s", "ctrl+s")
    await bench.sees("Not sent")
    assert screen.form.cells()["when"] == "1h"
    assert (await known(bench, "a"))["every_s"] == 7200.0


@pytest.mark.long
async def test_a_schedule_is_deleted_once_its_name_is_typed(bench: Bench) -> None:
    await schedule(bench, "hourly")
    screen = await schedules(bench, 1)
    await bench.press("X")
    await bench.sees("Type to confirm:  hourly")
    await bench.press(*"hour", "ctrl+s")
    await bench.sees("type hourly to confirm")
    assert (await known(bench, "hourly"))["status"] == "active"
    await bench.press(*"ly", "ctrl+s")
    await bench.on("SchedulesScreen")
    await bench.until(lambda: not screen.list.keys)
    assert (await bench.stack.http.get("/v1/schedules")).json()["items"] == []
