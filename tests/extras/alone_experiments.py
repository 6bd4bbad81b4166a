"""What `helmr[experiments]` promises (docs/experiments.md): frames of simulated operators in their time zones."""

from __future__ import annotations

import importlib.util

import polars
from review_tasks import review  # type: ignore[import-not-found]

from helmr.experiments import Delay, Experiment, Operator, WorkingHours, choose, sweep


def reviews(zone: str) -> Experiment:
    """Some sessions with somebody at work there."""
    person = Operator(
        "ada",
        policy=choose({"approve": 0.5, "reject": 0.5}),
        delay=Delay.lognormal("12m"),
        hours=WorkingHours("09:00", "17:00", zone=zone),
        at_once=1,
    )
    return Experiment(
        review, sessions=20, payload="otters", gap=Delay.exponential("10m"), operators=[person]
    )


for heavy in ("ray", "duckdb", "fastapi", "textual"):
    assert importlib.util.find_spec(heavy) is None, heavy
assert importlib.util.find_spec("tzdata") is not None
frame = sweep(reviews, over={"zone": ["Europe/Berlin", "Asia/Tokyo"]}, seed=7).sessions()
assert frame.filter(polars.col("status") == "succeeded").height == 40
assert set(frame["zone"]) == {"Europe/Berlin", "Asia/Tokyo"}
