"""Simulated operators feel escalations: reminders ask again, assignments call, defaults answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from helmr import escalation, streams, task
from helmr.errors import UsageError
from helmr.experiments import Asked, Case, Delay, Experiment, Operator, always, ignore, run, sweep

answers = streams.input("answers", schema=str)

ESCALATIONS: dict[str, list[escalation.EscalationStep]] = {
    "none": [],
    "remind": [escalation.remind("1h")],
    "call": [escalation.remind("1h"), escalation.assign("2h", to="lead")],
    "default": [escalation.default("3h", "nobody")],
}


@task(id="asks")
async def asks(name: str) -> str:
    found = await answers.wait(timeout="1d", assignee="mia", escalation=ESCALATIONS[name])
    return found.value if found.value is not None else "timed out"


def constant(value: str) -> Callable[[Case], str]:
    return lambda case: value


def forgets(asked: Asked) -> Any:
    """Overlooks what nobody reminded of."""
    return "reminded" if asked.reminders else None


def team(*, mia: Any) -> list[Operator]:
    lead = Operator(
        "lead", lambda asked: f"for {asked.assignee}", Delay.fixed("5m"), takes="assigned"
    )
    return [Operator("mia", mia, Delay.fixed("10m")), lead]


def waits_of(name: str, mia: Any, *, sessions: int = 3) -> list[dict[str, Any]]:
    experiment = Experiment(
        task=asks, sessions=sessions, payload=constant(name), operators=team(mia=mia)
    )
    found = run(experiment, seed=1)
    return [
        {**wait, "result": session["result"]}
        for wait, session in zip(found.wait_rows(), found.session_rows(), strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "mia", "result", "operator", "after", "reminders"),
    [
        ("none", forgets, '"timed out"', None, timedelta(days=1), 0),
        ("remind", forgets, '"reminded"', "mia", timedelta(hours=1, minutes=10), 1),
        ("call", ignore, '"for lead"', "lead", timedelta(hours=2, minutes=5), 1),
        ("default", ignore, '"nobody"', None, timedelta(hours=3), 0),
        ("call", always("at once"), '"at once"', "mia", timedelta(minutes=10), 0),
    ],
)
def test_an_escalation_is_felt(
    name: str, mia: Any, result: str, operator: str | None, after: timedelta, reminders: int
) -> None:
    rows = waits_of(name, mia)
    assert len(rows) == 3
    for row in rows:
        assert (row["result"], row["operator"], row["reminders"]) == (result, operator, reminders)
        assert row["waited_s"] == after.total_seconds()
        assert row["by_default"] == (name == "default")
        assert row["assignee"] == ("lead" if operator == "lead" else "mia")


def test_who_has_a_wait_in_hand_loses_it_to_a_default_only() -> None:
    """Four hours for an answer: the escalation steps pass over who is at it, the default does not wait."""
    slow = [Operator("mia", always("mia's"), Delay.fixed("4h"))]
    found = {}
    for name in ESCALATIONS:
        one = Experiment(task=asks, sessions=1, payload=constant(name), operators=slow)
        (row,) = run(one, seed=1).wait_rows()
        found[name] = (row["operator"], row["answer"], row["by_default"])
    kept = ("mia", '"mia\'s"', False)
    assert found == {"none": kept, "remind": kept, "call": kept, "default": ("mia", None, True)}


@pytest.mark.parametrize("sessions", [20, pytest.param(230, marks=pytest.mark.long)])
def test_many_escalate_and_the_same_seed_gives_the_same_rows(sessions: int) -> None:
    """Of 230 some are parked, which are run too."""

    def experiment(name: str) -> Experiment:
        return Experiment(
            task=asks,
            sessions=sessions,
            payload=constant(name),
            gap=Delay.fixed("1s"),
            operators=team(
                mia=lambda asked: forgets(asked) if asked.random.random() < 0.9 else None
            ),
        )

    first, again = (
        sweep(experiment, over={"name": ["call"]}, seed=3).wait_rows() for _ in range(2)
    )
    assert first == again
    assert {row["operator"] for row in first} == {"mia", "lead"}
    assert all(row["reminders"] == 1 for row in first)


def test_takes_is_any_or_assigned() -> None:
    with pytest.raises(UsageError, match="takes of mia"):
        Operator("mia", ignore, takes="mine")  # type: ignore[arg-type]
