"""Chance that is the same every time: random numbers named by what they decide, and delays drawn from them.

A draw depends on the seed and on its name (operator, session, wait) alone, never on the order in which things
happen: a second run, another event loop or one more operator change nothing about it. Two settings of a sweep that
share a seed meet the same people (common random numbers), so that their difference is the setting's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded by name
from statistics import NormalDist
from typing import Any

from helmr.durations import Duration, seconds, spell
from helmr.errors import UsageError

_NORMAL = NormalDist()
_EDGE = 1e-12
"""Keeps draws off 0 and 1, where the inverses end."""


def draws(seed: int, *name: str | int) -> Random:
    """The random numbers of one name under a seed."""
    text = "\x1f".join((str(seed), *map(str, name)))
    return Random(hashlib.sha256(text.encode()).digest())


@dataclass(frozen=True)
class Delay:
    """How long something takes, drawn anew each time.

    Args:
        quantile: Seconds for a number between 0 and 1: the inverse of the distribution function.
        name: What it is called in messages.
    """

    quantile: Callable[[float], float]
    name: str = "delay"

    def sample_s(self, random: Random) -> float:
        """Draw one, in seconds, ≥ 0. Takes exactly one number from `random`.

        Raises:
            UsageError: The quantile function gave what is no time.
        """
        value: Any = self.quantile(min(max(random.random(), _EDGE), 1 - _EDGE))
        if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise UsageError(f"{self.name} drew {value!r}, which is not a number of seconds >= 0")
        return float(value)

    @classmethod
    def fixed(cls, duration: Duration) -> Delay:
        """Always the same; 0 is at once."""
        value_s = seconds(duration, allow_zero=True)
        return cls(lambda u: value_s, f"fixed {spell(value_s)}")

    @classmethod
    def uniform(cls, shortest: Duration, longest: Duration) -> Delay:
        """Anything between the two, equally likely."""
        low_s, high_s = seconds(shortest, allow_zero=True), seconds(longest)
        if low_s > high_s:
            raise UsageError(f"shortest {spell(low_s)} is longer than longest {spell(high_s)}")
        return cls(
            lambda u: low_s + u * (high_s - low_s), f"uniform {spell(low_s)} to {spell(high_s)}"
        )

    @classmethod
    def exponential(cls, mean: Duration) -> Delay:
        """Without memory: mostly short, sometimes long. Also the gaps of arrivals at random times."""
        mean_s = seconds(mean)
        return cls(lambda u: -mean_s * math.log1p(-u), f"exponential, mean {spell(mean_s)}")

    @classmethod
    def lognormal(cls, median: Duration, *, spread: float = 2.0) -> Delay:
        """What people's reaction times look like: a long tail to the right.

        Args:
            median: Half are shorter.
            spread: Two thirds lie within `median / spread` and `median * spread`; ≥ 1.
        """
        median_s = seconds(median)
        if not (math.isfinite(spread) and spread >= 1):
            raise UsageError(f"spread must be a number >= 1, not {spread!r}")
        sigma = math.log(spread)
        return cls(
            lambda u: median_s * math.exp(sigma * _NORMAL.inv_cdf(u)),
            f"lognormal, median {spell(median_s)}",
        )

    @classmethod
    def like(cls, measured: Sequence[Duration]) -> Delay:
        """One of the measured ones, equally likely: say, the wait times that a query over the ledger gave."""
        values_s = sorted(seconds(one, allow_zero=True) for one in measured)
        if not values_s:
            raise UsageError("there is no measured delay to draw from")
        return cls(
            lambda u: values_s[min(int(u * len(values_s)), len(values_s) - 1)],
            f"one of {len(values_s)} measured",
        )


NO_DELAY = Delay.fixed(0)
