"""Simulated operators under the fake clock: the same seed gives the same rows, and the rows are right."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import polars
import pytest
from pydantic import BaseModel

from helmr import TaskContext, step, streams, task, timers, tokens
from helmr.errors import HelmrError, SchemaMismatch, UsageError
from helmr.experiments import (
    Answer,
    Asked,
    Delay,
    Experiment,
    Operator,
    WorkingHours,
    always,
    choose,
    ignore,
    live,
    run,
    sweep,
)
from helmr.experiments.operators import draws


class Order(BaseModel):
    timeout: str = "1h"
    rounds: int = 1


class Decision(BaseModel):
    decision: Literal["approve", "reject"]


decisions = streams.input("decisions", schema=Decision)


@step
async def file(number: int) -> int:
    return number


@task(id="orders")
async def orders(order: Order, ctx: TaskContext) -> dict[str, Any]:
    drawn = ctx.random().random()
    given = []
    for number in range(order.rounds):
        await file(number)
        result = await decisions.wait(timeout=order.timeout, subject=f"Round {number}?")
        given.append(result.value.decision if result.value is not None else None)
    return {"given": given, "drawn": drawn}


@task(id="link", streams=[])
async def link(payload: None) -> str:
    token = await tokens.create(timeout="1d")
    result = await token.wait()
    return str(result.value)


@task(id="sleeper", streams=[])
async def sleeper(payload: None) -> None:
    await timers.sleep("2h")


@task(id="broken", streams=[])
async def broken(payload: None) -> None:
    raise ValueError("no luck")


APPROVE = {"decision": "approve"}


def busy(timeout: str = "1h", rounds: int = 2) -> Experiment:
    return Experiment(
        orders,
        24,
        [
            Operator(
                "ada",
                choose({"approve": 0.7, "reject": 0.3}),
                Delay.lognormal("15m"),
                hours=WorkingHours(
                    "08:00", "11:00", zone="Asia/Tokyo"
                ),  # from the day before, 23:00 UTC
                at_once=2,
            ),
            Operator("bob", choose({"approve": 0.5, "reject": 0.5}), Delay.exponential("40m")),
        ],
        payload=lambda case: Order(timeout=timeout, rounds=1 + case.random.randrange(rounds)),
        gap=Delay.exponential("6m"),
    )


def test_one_seed_gives_the_same_frames_and_another_seed_others() -> None:
    first, again, other = (
        sweep(busy, over={"timeout": ["10m", "2h"]}, seed=seed) for seed in (1, 1, 2)
    )
    assert first.sessions().equals(again.sessions())
    assert first.waits().equals(again.waits())
    assert not first.waits().equals(other.waits())
    assert set(first.waits()["operator"].drop_nulls()) == {"ada", "bob"}
    assert set(first.waits()["status"]) == {"fulfilled", "timed_out"}


@pytest.mark.long  # one process: the test above
def test_one_seed_gives_the_same_rows_in_a_process_with_other_hashes() -> None:
    """Sets and dicts of texts go in another order there."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.experiments.test_experiments import busy\n"
        "from helmr.experiments import run\n"
        "print(run(busy(), seed=4).wait_rows())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": str(hash_seed), "PATH": ""},
            check=True,
            capture_output=True,
            text=True,
            timeout=50,
        ).stdout
        for hash_seed in (1, 2)
    }
    assert len(seen) == 1
    assert "fulfilled" in seen.pop()


def test_ctx_random_is_the_same_for_a_seed() -> None:
    def drawn(seed: int) -> list[float]:
        rows = run(busy(), seed=seed).session_rows()
        return [json.loads(row["result"])["drawn"] for row in rows]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(5)


@pytest.mark.long
def test_settings_of_a_sweep_meet_the_same_people() -> None:
    """Where the timeout makes no difference, nothing differs."""
    waits = sweep(busy, over={"timeout": ["30d", "31d"]}, seed=1).waits()
    parts = [
        waits.filter(polars.col("timeout") == timeout).drop("timeout", "deadline_at")
        for timeout in ("30d", "31d")
    ]
    assert parts[0].equals(parts[1])


@pytest.mark.long  # tests/session/test_leaving_memory.py
def test_more_sessions_than_stay_in_memory_come_back_by_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "HOT_MAX", 20)
    many = Experiment(
        orders, 30, [Operator("ada", always(APPROVE), Delay.fixed("5m"))], payload=Order()
    )
    frame = run(many).sessions()
    assert frame["status"].to_list() == ["succeeded"] * 30
    assert frame["waited_s"].to_list() == [300.0] * 30


def test_an_answer_comes_after_the_delay_and_a_deadline_before_it() -> None:
    def one(timeout: str) -> Experiment:
        payload = Order(timeout=timeout)
        return Experiment(orders, 1, [Operator("a", always(APPROVE), Delay.fixed("10m"))], payload)

    waits = sweep(one, over={"timeout": ["9m", "10m", "11m"]}).wait_rows()
    assert [(row["status"], row["waited_s"]) for row in waits] == [
        ("timed_out", 540.0),
        ("timed_out", 600.0),  # at the deadline is too late (S-14)
        ("fulfilled", 600.0),
    ]
    assert [row["answer"] for row in waits] == [None, None, '{"decision":"approve"}']


def test_one_hand_makes_a_queue_oldest_first() -> None:
    queue = Experiment(
        orders, 3, [Operator("ada", always(APPROVE), Delay.fixed("10m"), at_once=1)], Order()
    )
    rows = run(queue).wait_rows()
    assert [row["waited_s"] for row in rows] == [600.0, 1200.0, 1800.0]


def test_a_wait_that_ends_frees_the_hand() -> None:
    slow = Operator("ada", always(APPROVE), Delay.fixed("2h"), at_once=1)
    rows = run(Experiment(orders, 2, [slow], Order(timeout="90m"))).wait_rows()
    assert [(row["status"], row["operator"]) for row in rows] == [
        ("timed_out", "ada"),
        ("timed_out", None),
    ]


def test_what_one_leaves_the_other_takes_and_what_all_leave_times_out() -> None:
    def odd(asked: Asked) -> Any:
        return APPROVE if asked.session % 3 == 1 else None

    def even(asked: Asked) -> Any:
        return Answer(APPROVE) if asked.session % 3 == 0 else None

    people = [Operator("odd", odd), Operator("even", even), Operator("idle", ignore)]
    rows = run(Experiment(orders, 6, people, Order())).wait_rows()
    assert [row["operator"] for row in rows] == ["even", "odd", None] * 2
    assert [row["status"] for row in rows] == ["fulfilled", "fulfilled", "timed_out"] * 2


def test_nobody_works_at_night() -> None:
    """The harness's clock begins on Tuesday, 2030-01-01, at 00:00 UTC: 01:00 in Berlin."""
    hours = WorkingHours("09:00", "17:00", zone="Europe/Berlin")
    ada = Operator("ada", always(APPROVE), Delay.fixed("10m"), hours=hours)
    [row] = run(Experiment(orders, 1, [ada], Order(timeout="1d"))).wait_rows()
    assert row["taken_at"] == datetime(2030, 1, 1, 8, tzinfo=UTC)
    assert row["ended_at"] == datetime(2030, 1, 1, 8, 10, tzinfo=UTC)


def test_tokens_are_answered_too() -> None:
    [row] = run(
        Experiment(link, 1, [Operator("ada", always("yes"), Delay.fixed("1m"))])
    ).session_rows()
    assert (row["status"], row["result"], row["duration_s"]) == ("succeeded", '"yes"', 60.0)


def test_timers_pass_and_are_no_waits_for_people() -> None:
    results = run(Experiment(sleeper, 2, []))
    assert [row["duration_s"] for row in results.session_rows()] == [7200.0] * 2
    assert results.wait_rows() == []
    assert results.waits().is_empty()


def test_a_failed_session_says_why() -> None:
    [row] = run(Experiment(broken, 1, [])).session_rows()
    assert (row["status"], row["error"]) == ("failed", "ValueError: no luck")


def test_until_ends_it_and_says_what_was() -> None:
    experiment = Experiment(orders, 3, [], Order(timeout="3h"), gap=Delay.fixed("1h"), until="90m")
    rows = run(experiment).session_rows()
    assert [row["status"] for row in rows] == ["waiting", "waiting", "not_started"]


def test_an_answer_that_does_not_fit_ends_the_experiment() -> None:
    with pytest.raises(SchemaMismatch, match="decision"):
        run(Experiment(orders, 1, [Operator("ada", always({"decision": "maybe"}))], Order()))


def test_a_payload_that_does_not_fit_ends_the_experiment() -> None:
    with pytest.raises(SchemaMismatch, match="rounds"):
        run(Experiment(orders, 1, [], {"rounds": "many"}))


async def answers_later(asked: Asked) -> Any:
    """No policy."""


BAD: list[tuple[Any, str]] = [
    (lambda: Experiment(orders, 0, []), "sessions must be"),
    (lambda: Experiment(orders, True, []), "sessions must be"),
    (lambda: Experiment(7, 1, []), "neither a task nor an id"),  # type: ignore[arg-type]
    (lambda: Experiment(orders, 1, ["ada"]), "sequence of Operator"),  # type: ignore[list-item]
    (lambda: Experiment(orders, 1, Operator("a", ignore)), "sequence of Operator"),  # type: ignore[arg-type]
    (lambda: Experiment(orders, 1, [], also=[print]), "sequence of tasks"),  # type: ignore[list-item]
    (lambda: Experiment(orders, 1, [], until="soon"), "soon"),
    (lambda: Experiment(orders, 1, [], gap="1m"), "gap is not a Delay"),  # type: ignore[arg-type]
    (lambda: Experiment(orders, 1, [Operator("a", ignore)] * 2), "two operators are called a"),
    (lambda: Operator("", ignore), "name"),
    (lambda: Operator("a\x1bb", ignore), "name"),
    (lambda: Operator("a", {"x": 1}), "policy of a is not a function"),  # type: ignore[arg-type]
    (lambda: Operator("a", answers_later), "policy of a is an `async def`"),
    (lambda: Operator("a", ignore, "5m"), "delay of a is not a Delay"),  # type: ignore[arg-type]
    (lambda: Operator("a", ignore, at_once=0), "at_once of a"),
    (lambda: choose({}), "weights > 0"),
    (lambda: choose({"a": -1}), "weights > 0"),
    (lambda: choose({"a": float("inf"), "b": 1}), "weights > 0"),
    (lambda: Delay.uniform("2m", "1m"), "longer than"),
    (lambda: Delay.lognormal("2m", spread=0.5), "spread"),
    (lambda: Delay.exponential(0), "duration"),
    (lambda: Delay.like([]), "no measured delay"),
    (lambda: WorkingHours("9", "17:00"), "is not a time of day"),
    (lambda: WorkingHours("25:00", "26:00"), "is not a time of day"),
    (lambda: WorkingHours("17:00", "09:00"), "not after they begin"),
    (lambda: WorkingHours(days=("fun",)), "fun"),
    (lambda: WorkingHours(days=()), "are missing"),
    (lambda: WorkingHours(zone="Atlantis/Centre"), "no time zone 'Atlantis/Centre'"),
    (lambda: run(Experiment("orders", 1, [])), "only a task's id"),
    (lambda: run(Experiment(orders, 1, [], Order()), seed="x"), "the seed"),  # type: ignore[arg-type]
    (lambda: run(Experiment(orders, 1, [], Order()), client=7), "does not make clients"),  # type: ignore[arg-type]
    (lambda: sweep(busy, over={}), "combinations"),
    (lambda: sweep(busy, over={"timeout": []}), "one or more values"),
    (lambda: sweep(busy, over={"timeout": "1h"}), "not over a list"),
    (lambda: sweep(busy, over={"timeout": ["1h", 5]}), "of one type"),
    (lambda: sweep(busy, over={"timeout": ["1h", "1h"]}), "twice"),
    (lambda: sweep(busy, over={"status": ["1h"]}), "can't be called status"),
    (lambda: sweep(lambda x: None, over={"x": [1]}), "not an Experiment"),  # type: ignore[arg-type, return-value]
    (lambda: Delay(lambda u: -1.0).sample_s(draws(1)), "not a number of seconds"),
    (lambda: Delay(lambda u: float("nan")).sample_s(draws(1)), "not a number of seconds"),
    (lambda: Delay(lambda u: "1h").sample_s(draws(1)), "not a number of seconds"),  # type: ignore[arg-type, return-value]
    (lambda: run(Experiment(orders, 2, [], Order(), Delay(lambda u: 1e12))), "after year 9999"),
    (lambda: run(Experiment(orders, 1, [Operator("a", always(object()))], Order())), "not JSON"),
]


@pytest.mark.parametrize(
    ("make", "says"), BAD, ids=[f"{number}-{says}" for number, (_, says) in enumerate(BAD)]
)
def test_bad_parameters_are_one_clear_error(make: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()


def test_sweeps_take_anything_under_a_label() -> None:
    def staffed(people: list[Operator], share: float) -> Experiment:
        return Experiment(orders, 2, people, Order())

    one = Operator("ada", always(APPROVE))
    frame = sweep(
        staffed, over={"people": {"none": [], "ada": [one]}, "share": [0.5, 1.5]}
    ).sessions()
    assert frame.columns[:3] == ["people", "share", "session"]
    assert frame["people"].to_list() == ["none"] * 4 + ["ada"] * 4
    assert frame["share"].to_list() == [0.5, 0.5, 1.5, 1.5] * 2
    assert frame["answered"].to_list() == [0] * 4 + [1] * 4


@pytest.mark.allows_blocking
async def test_it_runs_where_a_loop_runs_already() -> None:
    assert len(run(Experiment(sleeper, 1, []))) == 1


def test_an_error_of_a_policy_reaches_the_caller() -> None:
    def faulty(asked: Asked) -> Any:
        raise LookupError(asked.subject)

    with pytest.raises(LookupError, match="Round 0"):
        run(Experiment(orders, 1, [Operator("ada", faulty)], Order()))


# --- chance and hours -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delay", "median_s"),
    [
        (Delay.fixed("5m"), 300),
        (Delay.uniform("2m", "4m"), 180),
        (Delay.exponential("10m"), 415.9),
        (Delay.lognormal("7m", spread=3), 420),
        (Delay.like(["1m", "2m", "3m"]), 120),
    ],
    ids=lambda value: value.name if isinstance(value, Delay) else "",
)
def test_delays_have_the_median_they_say(delay: Delay, median_s: float) -> None:
    drawn = sorted(delay.sample_s(draws(1, number)) for number in range(2001))
    assert drawn[1000] == pytest.approx(median_s, rel=0.12)
    assert drawn[0] >= 0


def test_a_spread_holds_two_thirds() -> None:
    delay = Delay.lognormal("10m", spread=2)
    drawn = [delay.sample_s(draws(1, number)) for number in range(2000)]
    assert sum(300 <= one <= 1200 for one in drawn) / 2000 == pytest.approx(0.683, abs=0.03)


def test_working_time_goes_over_nights_weekends_and_time_changes() -> None:
    berlin = WorkingHours("09:00", "17:00", zone="Europe/Berlin")
    friday = datetime(2030, 3, 29, 15, 30, tzinfo=UTC)  # 16:30 on the wall
    assert berlin.after(friday, 600) == friday + timedelta(minutes=10)
    # Half an hour on Friday, the other half on Monday, when summer time has begun: 09:30 is 07:30 UTC.
    assert berlin.after(friday, 3600) == datetime(2030, 4, 1, 7, 30, tzinfo=UTC)
    assert not berlin.is_open(datetime(2030, 3, 30, 12, tzinfo=UTC))
    assert berlin.next_open(datetime(2030, 3, 30, 12, tzinfo=UTC)) == datetime(
        2030, 4, 1, 7, tzinfo=UTC
    )


def test_hours_may_end_at_midnight() -> None:
    late = WorkingHours("22:00", "24:00", days=("tue",))
    assert late.after(datetime(2030, 1, 1, 23, tzinfo=UTC), 7200) == datetime(
        2030, 1, 8, 23, tzinfo=UTC
    )


def test_the_package_is_light() -> None:
    code = (
        "import sys, helmr.experiments\n"
        "assert not {'runtime', 'polars', 'httpx', 'helmr.testing'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_polars_the_rows_are_there_and_frames_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = run(Experiment(sleeper, 1, []))
    monkeypatch.setitem(sys.modules, "polars", None)
    assert len(results.session_rows()) == 1
    with pytest.raises(HelmrError, match=r"needs? polars"):
        results.sessions()
