"""Experiments that tests of the command line call."""

from __future__ import annotations

from pathlib import Path

from helmr import streams, task
from helmr.examples.publish_review import Decision, publish_review
from helmr.experiments import Experiment, Operator, Results, always, replay, sweep
from helmr.experiments.replays import Replays

RECORDED = Path(__file__).parents[1] / "examples" / "recorded"

go = streams.input("go", schema=bool)


@task(id="asks")
async def asks(timeout: str) -> bool | None:
    return (await go.wait(timeout=timeout, subject="Go?")).value


def experiment() -> Replays:
    print("what the code prints is not the answer")  # noqa: T201 - the test looks where it goes
    return replay(
        sorted(RECORDED.glob("publish_review_*.jsonl")),
        task=publish_review,
        answers="compare",
        operators=[Operator("rule", always(Decision(decision="approve")))],
        agree=lambda person, proposed: bool(person["decision"] == proposed["decision"]),
    )


def asked(timeout: str = "1h") -> Experiment:
    return Experiment(
        task=asks, sessions=2, payload=timeout, operators=[Operator("ana", always(True))]
    )


def swept() -> Results:
    return sweep(asked, over={"timeout": ["1h", "2h"]})


def stopped() -> Replays:
    return Replays([], stopped="stopped after 0 of 3 sessions: 1 sessions have asked", spent=0.25)


def frame() -> int:
    return 3


def with_argument(count: int) -> int:
    return count
