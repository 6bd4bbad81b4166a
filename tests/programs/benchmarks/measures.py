"""What a case measures, and how rounds are summed up. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """One case of one system in one round.

    Attributes:
        operations: How many answers, starts or sessions were done.
        wanted: How many there were to do; more than `operations` if the time was up.
        elapsed_s: From the first to the last.
        server_cpu_s: Of all its server's processes.
        load_cpu_s: Of the load generator; with a system in its own process also of that.
        pss_bytes: What the server's processes hold in the end, shared pages divided.
        acknowledged_s: From each send to its answer.
        visible_s: From each send until its caller saw what the task did.
        extra: What else the case says, by name.
    """

    operations: int
    wanted: int
    elapsed_s: float
    server_cpu_s: float
    load_cpu_s: float
    pss_bytes: int
    acknowledged_s: Sequence[float] = ()
    visible_s: Sequence[float] = ()
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """The medians of a case's rounds; None for what it does not measure."""

    case: str
    size: int
    system: str
    rounds: int
    done: int
    wanted: int
    elapsed_s: float
    rate_per_s: float
    acknowledged_p50_ms: float | None
    acknowledged_p99_ms: float | None
    visible_p50_ms: float | None
    visible_p99_ms: float | None
    server_cpu_ms: float
    load_cpu_ms: float
    pss_mb: float
    extra: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not pass: no value is invented between two."""
    if not values:
        raise ValueError("no values")
    if not 0 < share <= 1:
        raise ValueError(f"{share} is no share of a whole")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def summarize(case: str, size: int, system: str, rounds: Sequence[Measured]) -> Summary:
    """The medians over a case's rounds; percentiles are taken in each round."""

    def middle(values: Sequence[float]) -> float:
        return statistics.median(values)

    def latency(name: str, share: float) -> float | None:
        found = [percentile(values, share) for one in rounds if (values := getattr(one, name))]
        return middle(found) * 1000 if found else None

    def each(total_s: str) -> float:
        return middle([getattr(one, total_s) / max(1, one.operations) for one in rounds]) * 1000

    return Summary(
        case=case,
        size=size,
        system=system,
        rounds=len(rounds),
        done=min(one.operations for one in rounds),
        wanted=max(one.wanted for one in rounds),
        elapsed_s=middle([one.elapsed_s for one in rounds]),
        rate_per_s=middle([one.operations / one.elapsed_s for one in rounds]),
        acknowledged_p50_ms=latency("acknowledged_s", 0.5),
        acknowledged_p99_ms=latency("acknowledged_s", 0.99),
        visible_p50_ms=latency("visible_s", 0.5),
        visible_p99_ms=latency("visible_s", 0.99),
        server_cpu_ms=each("server_cpu_s"),
        load_cpu_ms=each("load_cpu_s"),
        pss_mb=middle([one.pss_bytes for one in rounds]) / 1e6,
        extra={
            name: middle([one.extra[name] for one in rounds if name in one.extra])
            for name in sorted({name for one in rounds for name in one.extra})
        },
    )
