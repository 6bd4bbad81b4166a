"""What both ledgers promise of schedules: at most one session per due time, whatever happens between (S-93)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from helmr.errors import Conflict, Overloaded, ScheduleNotFound
from helmr.wire import ids
from helmr.wire.timing import timing
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import RUNTIME, Draft, Entry, EntryKind
from helmr_runtime.features import FEATURES
from helmr_runtime.features.schedules import facts as core
from helmr_runtime.features.schedules.facts import (
    RESUMED,
    SKIPPED,
    WRITTEN,
    DeleteSchedule,
    GetSchedule,
    ListSchedules,
    PauseSchedule,
    WriteSchedule,
)
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.tables.appends import Appends
from tests.ledger.conftest import Opener
from tests.ledger.sessions import ALICE, START_AT, Hand

AnyLedger = MemoryLedger | DuckLedger

HOUR = timedelta(hours=1)


def write(name: str = "hourly", *, every: str = "1h", **options: Any) -> WriteSchedule:
    """Make a schedule of the task `review`."""
    return WriteSchedule(
        principal=ALICE,
        name=name,
        task="review",
        payload={"of": name},
        timing=timing(every=every, **options).model_dump(exclude_none=True),
    )


def pause(name: str = "hourly", *, paused: bool = True) -> PauseSchedule:
    return PauseSchedule(principal=ALICE, name=name, paused=paused)


def catalog(code_hash: str, *tasks: tuple[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """Code with these tasks and their schedules."""
    return {
        "code_hash": code_hash,
        "tasks": [{"id": name, "schedule": schedule} for name, schedule in tasks],
    }


async def entries(ledger: AnyLedger, kind: EntryKind) -> list[Entry]:
    """All entries of a kind."""
    found = await ledger.entries_after(0, 2_000)
    return [entry for entry in found if entry.kind is kind]


async def started(ledger: AnyLedger) -> list[str]:
    """The due times for which sessions were started."""
    found = await entries(ledger, EntryKind.SESSION_CREATED)
    return [
        datetime.fromisoformat(entry.body["schedule"]["due_at"]).strftime("%d %H:%M:%S")
        for entry in found
        if "schedule" in entry.body
    ]


async def skipped(ledger: AnyLedger) -> list[tuple[str, str]]:
    """The due times for which none was, and why."""
    return [
        (datetime.fromisoformat(entry.body["due_at"]).strftime("%d %H:%M:%S"), entry.body["reason"])
        for entry in await entries(ledger, SKIPPED)
    ]


async def pass_time(ledger: AnyLedger, clock: FakeClock, by: timedelta) -> None:
    """Let time pass; what falls due meanwhile is stored."""
    target = clock.now() + by
    while (due := clock.next_at) is not None and due <= target:
        clock.move_to(due)
        await settled(ledger)
    clock.move_to(target)
    await settled(ledger)


async def settled(ledger: AnyLedger) -> None:
    """Return when nothing more is written at this time."""
    for _ in range(3):
        await asyncio.sleep(0)
        await ledger.write_catalog(SAME, RUNTIME)


SAME = {"code_hash": "same", "tasks": [{"id": "review"}]}


@pytest.fixture(params=["memory", "duck"])
async def ledger(request: pytest.FixtureRequest, opener: Opener, clock: FakeClock) -> AnyLedger:
    """Both ledgers: what is asked of one is asked of the other."""
    return MemoryLedger(clock, features=FEATURES) if request.param == "memory" else await opener()


@pytest.fixture
async def ready(ledger: AnyLedger) -> AnyLedger:
    """A ledger with a catalog."""
    await ledger.write_catalog(SAME, RUNTIME)
    return ledger


# --- starting ---------------------------------------------------------------------------------------


async def test_a_schedule_starts_a_session_at_each_due_time(ready, clock):
    await ready.fact(write(overlap="allow"))
    await pass_time(ready, clock, 3 * HOUR)
    assert await started(ready) == ["01 13:00:00", "01 14:00:00", "01 15:00:00"]
    first = (await entries(ready, EntryKind.SESSION_CREATED))[0]
    assert first.principal.to_json() == {"type": "schedule", "name": "hourly"}
    run = (await entries(ready, EntryKind.RUN_CREATED))[0]
    assert (run.body["payload"], run.principal.type) == ({"of": "hourly"}, "schedule")
    page = await ready.list_sessions(tag="schedule:hourly")
    assert len(page["items"]) == 3
    info = await ready.ask(GetSchedule(name="hourly"))
    assert info["last_session_id"] == page["items"][0]["id"]
    assert (info["status"], info["last_outcome"]) == ("active", "started")
    assert info["next_due_at"] == "2026-03-01T16:00:00.000000Z"
    assert len((await ready.work()).added) == 3


async def test_a_due_time_is_skipped_while_the_session_before_is_active(ready, clock):
    await ready.fact(write())
    await pass_time(ready, clock, 3 * HOUR)
    assert await started(ready) == ["01 13:00:00"]
    assert await skipped(ready) == [("01 14:00:00", "overlap"), ("01 15:00:00", "overlap")]
    session_id = (await ready.ask(GetSchedule(name="hourly")))["last_session_id"]
    await end(ready, clock, session_id)
    await pass_time(ready, clock, HOUR)
    assert await started(ready) == ["01 13:00:00", "01 16:00:00"]


async def end(ledger: AnyLedger, clock: FakeClock, session_id: str) -> None:
    """Cancel the session's run as its actor would."""
    created = await entries(ledger, EntryKind.RUN_CREATED)
    run_id = next(entry.run_id for entry in created if entry.session_id == session_id)
    assert run_id is not None
    hand = Hand(ledger, clock, session_id, run_id)
    await hand.adopt()
    cancelled = Draft(EntryKind.RUN_CANCELLED, {"reason": "test"}, run_id=run_id)
    await ledger.commit(hand.flush(cancelled, release=True))


async def test_a_paused_schedule_starts_nothing_and_misses_nothing(ready, clock):
    await ready.fact(write(overlap="allow"))
    await ready.fact(pause())
    await pass_time(ready, clock, 5 * HOUR / 2)
    assert (await ready.ask(GetSchedule(name="hourly")))["next_due_at"] is None
    await ready.fact(pause(paused=False))
    assert await started(ready) == []
    await pass_time(ready, clock, HOUR)
    assert await started(ready) == ["01 15:00:00"]
    again = len(await entries(ready, RESUMED))
    await ready.fact(pause(paused=False))
    assert len(await entries(ready, RESUMED)) == again


async def test_a_deleted_schedule_is_gone_and_its_name_free(ready, clock):
    await ready.fact(write())
    with pytest.raises(Conflict, match="there is a schedule hourly"):
        await ready.fact(write())
    await ready.fact(DeleteSchedule(principal=ALICE, name="hourly"))
    await pass_time(ready, clock, 2 * HOUR)
    assert await started(ready) == []
    for fact in (pause(), DeleteSchedule(principal=ALICE, name="hourly")):
        with pytest.raises(ScheduleNotFound):
            await ready.fact(fact)
    with pytest.raises(ScheduleNotFound):
        await ready.ask(GetSchedule(name="hourly"))
    await ready.fact(write())
    assert [one["name"] for one in (await ready.ask(ListSchedules()))["items"]] == ["hourly"]


async def test_a_repeated_operation_gets_the_first_receipt(ready):
    operation = OperationKey(id=ids.new_id(ids.OPERATION), request_hash="h")
    fact = WriteSchedule(
        principal=ALICE,
        operation=operation,
        name="n",
        task="review",
        payload=None,
        timing=timing(every="1h").model_dump(exclude_none=True),
    )
    assert await ready.fact(fact) == {"name": "n"} == await ready.fact(fact)
    assert len(await entries(ready, WRITTEN)) == 1


async def test_there_are_no_more_than_may_be(ready, monkeypatch):
    monkeypatch.setattr("helmr_runtime.features.schedules.facts.SCHEDULES_MAX", 3)
    for number in range(3):
        await ready.fact(write(f"n{number}"))
    with pytest.raises(Overloaded, match="3 schedules"):
        await ready.fact(write("one-more"))
    page = await ready.ask(ListSchedules(limit=2))
    assert [one["name"] for one in page["items"]] == ["n0", "n1"]
    rest = await ready.ask(ListSchedules(limit=2, cursor=page["next_cursor"]))
    assert ([one["name"] for one in rest["items"]], rest["next_cursor"]) == (["n2"], None)


# --- missed times -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("latest", ["01 17:00:00"]),
        ("skip", []),
        ("all", [f"01 {hour}:00:00" for hour in (13, 14, 15, 16, 17)]),
    ],
)
async def test_what_was_missed_is_skipped_or_caught_up_with(ready, clock, missed, expected):
    await ready.fact(write(missed=missed, overlap="allow"))
    clock._now += timedelta(hours=5, minutes=30)  # the machine slept: no alarm rang
    await pass_time(ready, clock, timedelta(minutes=2))
    assert await started(ready) == expected
    assert await skipped(ready) == ([] if expected else [("01 17:00:00", "missed")])
    await pass_time(ready, clock, HOUR)
    assert await started(ready) == [*expected, "01 18:00:00"]


async def test_of_many_missed_times_the_newest_are_caught_up_with_once_each(ready, clock):
    await ready.fact(write(every="1m", missed="all", overlap="allow"))
    clock._now += timedelta(days=2)
    await pass_time(ready, clock, timedelta(minutes=2))
    found = await started(ready)
    assert len(found) == len(set(found))
    assert core.CATCH_UP_MAX <= len(found) <= core.CATCH_UP_MAX + 3
    assert found == sorted(found)


# --- code -------------------------------------------------------------------------------------------


async def test_code_declares_changes_and_takes_away_schedules(ledger, clock):
    hourly = {"every_s": 3600.0, "overlap": "allow"}
    await ledger.write_catalog(catalog("a", ("sweep", hourly), ("other", None)), RUNTIME)
    info = await ledger.ask(GetSchedule(name="sweep"))
    assert (info["declared_in"], info["task"], info["status"]) == ("code", "sweep", "active")
    with pytest.raises(Conflict, match="declared by task sweep"):
        await ledger.fact(DeleteSchedule(principal=ALICE, name="sweep"))

    await ledger.write_catalog(catalog("b", ("other", None)), RUNTIME)
    assert (await ledger.ask(GetSchedule(name="sweep")))["status"] == "gone"
    clock.move_to(START_AT + 3 * HOUR)
    await ledger.write_catalog(catalog("c", ("other", None)), RUNTIME)
    assert await started(ledger) == []

    await ledger.write_catalog(catalog("d", ("sweep", {"every_s": 7200.0})), RUNTIME)
    info = await ledger.ask(GetSchedule(name="sweep"))
    assert (info["status"], info["every_s"]) == ("active", 7200.0)
    assert info["next_due_at"] == "2026-03-01T16:00:00.000000Z"
    assert len(await entries(ledger, WRITTEN)) == 2


async def test_a_pause_of_a_person_survives_code_that_comes_and_goes(ledger):
    hourly = {"every_s": 3600.0}
    await ledger.write_catalog(catalog("a", ("sweep", hourly)), RUNTIME)
    await ledger.fact(pause("sweep"))
    await ledger.write_catalog(catalog("b", ("other", None)), RUNTIME)
    await ledger.write_catalog(catalog("c", ("sweep", {"every_s": 60.0})), RUNTIME)
    assert (await ledger.ask(GetSchedule(name="sweep")))["status"] == "paused"
    await ledger.fact(pause("sweep", paused=False))
    assert (await ledger.ask(GetSchedule(name="sweep")))["status"] == "active"


async def test_a_schedule_made_by_a_program_is_gone_with_its_task(ready):
    await ready.fact(write())
    await ready.write_catalog(catalog("b", ("other", None)), RUNTIME)
    assert (await ready.ask(GetSchedule(name="hourly")))["status"] == "gone"
    await ready.write_catalog(catalog("c", ("review", None)), RUNTIME)
    assert (await ready.ask(GetSchedule(name="hourly")))["status"] == "active"
    await ready.fact(DeleteSchedule(principal=ALICE, name="hourly"))


# --- restarts ---------------------------------------------------------------------------------------


async def test_a_memory_ledger_started_again_knows_what_was_started(clock):
    ledger = MemoryLedger(clock, features=FEATURES)
    await ledger.write_catalog(SAME, RUNTIME)
    await ledger.fact(write(overlap="allow"))
    await pass_time(ledger, clock, HOUR)
    again = ledger.restarted()
    await pass_time(again, clock, timedelta(minutes=30))
    assert await started(again) == ["01 13:00:00"]


async def test_a_time_that_was_due_while_nothing_ran_starts_once_after_the_start(
    opener: Opener, clock: FakeClock
) -> None:
    duck = await opener()
    await duck.write_catalog(SAME, RUNTIME)
    await duck.fact(write(overlap="allow"))
    await duck.close()
    clock.move_to(START_AT + timedelta(hours=2, minutes=10))
    for _ in range(3):
        duck = await opener()
        before = await duck.ask(
            GetSchedule(name="hourly")
        )  # from the table, not from what came since
        await pass_time(duck, clock, timedelta(minutes=1))
        assert await started(duck) == ["01 14:00:00"]
        assert before["payload"] == {"of": "hourly"}
    info = await duck.ask(GetSchedule(name="hourly"))
    assert info["last_due_at"] == "2026-03-01T14:00:00.000000Z"
    assert info["created_at"] == "2026-03-01T12:00:00.000000Z"


async def test_every_state_of_a_schedule_survives_a_restart(
    opener: Opener, clock: FakeClock
) -> None:
    duck = await opener()
    await duck.write_catalog(catalog("a", ("sweep", {"every_s": 60.0}), ("review", None)), RUNTIME)
    await duck.fact(write("kept", every="1d"))
    await duck.fact(write("paused"))
    await duck.fact(write("deleted"))
    await duck.fact(pause("paused"))
    await duck.fact(DeleteSchedule(principal=ALICE, name="deleted"))
    await duck.write_catalog(catalog("b", ("review", None)), RUNTIME)
    before = (await duck.ask(ListSchedules()))["items"]
    assert [(one["name"], one["status"]) for one in before] == [
        ("kept", "active"),
        ("paused", "paused"),
        ("sweep", "gone"),
    ]
    for _ in range(2):
        duck = await opener()
        assert (await duck.ask(ListSchedules()))["items"] == before


async def test_a_runtime_that_begins_with_other_code_starts_nothing_of_the_old(
    opener: Opener, clock: FakeClock
) -> None:
    duck = await opener()
    await duck.write_catalog(catalog("a", ("sweep", {"every_s": 60.0})), RUNTIME)
    await duck.close()
    clock.move_to(START_AT + HOUR)
    duck = await opener()
    await asyncio.sleep(0.05)
    assert await started(duck) == []
    await duck.write_catalog(catalog("b", ("other", None)), RUNTIME)
    await pass_time(duck, clock, HOUR)
    assert await started(duck) == []


async def test_a_ledger_that_comes_back_alone_goes_on_by_itself(
    opener: Opener, clock: FakeClock
) -> None:
    duck = await opener()
    await duck.write_catalog(SAME, RUNTIME)
    await duck.fact(write())
    clock._now += HOUR
    duck = await opener()
    clock.move_to(clock.now() + timedelta(seconds=2))
    async with asyncio.timeout(5):
        while await started(duck) != ["01 13:00:00"]:
            await asyncio.sleep(0.01)


async def test_a_start_that_is_not_stored_is_due_again_and_one_that_is_not(
    opener: Opener, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    duck = await opener()
    await duck.write_catalog(SAME, RUNTIME)
    await duck.fact(write())
    ordinary = Database.commit
    fails = [True, True]

    def commit(self: Database, appends: Appends) -> None:
        if fails:
            fails.pop()
            raise OSError(28, "No space left on device")
        ordinary(self, appends)

    monkeypatch.setattr(Database, "commit", commit)
    clock.move_to(START_AT + HOUR)
    async with asyncio.timeout(10):
        while await started(duck) != ["01 13:00:00"]:
            await asyncio.sleep(0.01)
            clock.move_to(clock.now() + timedelta(seconds=1))
    assert fails == []
    await pass_time(duck, clock, timedelta(minutes=5))
    duck = await opener()
    await pass_time(duck, clock, timedelta(minutes=5))
    assert await started(duck) == ["01 13:00:00"]
