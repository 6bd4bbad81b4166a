"""Experiments: many sessions, simulated operators who answer them, one row per session.

```python
from helmr.experiments import Delay, Experiment, Operator, choose, sweep


def reviews(timeout: str) -> Experiment:
    return Experiment(
        task=review,
        sessions=300,
        payload={"timeout": timeout},
        operators=[
            Operator("ada", choose({"approve": 0.8, "reject": 0.2}), Delay.lognormal("20m"))
        ],
    )


frame = sweep(reviews, over={"timeout": ["10m", "1h", "8h"]}, seed=7).sessions()
```

`replay` asks of recorded sessions what would have become of them with other code or other answers.

Without a client it runs under the clock of `helmr.testing`: days pass in seconds, and one seed always gives the same
rows. With `client=AsyncClient` the same experiment runs against a live runtime, in real time. Light to import: the
harness and the frames come when they are needed (extra `experiments`).
"""

from helmr.experiments.direction import Budget, Price
from helmr.experiments.operators import (
    Answer,
    Asked,
    Delay,
    Operator,
    Policy,
    WorkingHours,
    always,
    choose,
    ignore,
)
from helmr.experiments.results import Results
from helmr.experiments.running import replay, run, sweep
from helmr.experiments.simulation import Case, Experiment

__all__ = [
    "Answer",
    "Asked",
    "Budget",
    "Case",
    "Delay",
    "Experiment",
    "Operator",
    "Policy",
    "Price",
    "Results",
    "WorkingHours",
    "always",
    "choose",
    "ignore",
    "replay",
    "run",
    "sweep",
]
