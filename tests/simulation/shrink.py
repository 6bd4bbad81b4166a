"""A failing seed with less in it: commands and faults are left out as long as it still fails in the same way."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from tests.simulation.simulation import Outcome, plan, simulate

SHRINK_S = 60.0
"""At most so long."""


def shrink(
    failed: Outcome,
    steps: int,
    left_out: list[str],
    forked: Callable[[Callable[[], Outcome]], Outcome],
    bug: str | None,
) -> list[str]:
    """Names of the plan without which the seed still fails: halves first, then smaller and smaller pieces."""
    from tests.simulation.planted import planted

    ends_at = time.monotonic() + SHRINK_S

    def fails(without: list[str]) -> bool:
        def work() -> Outcome:
            with planted(bug):
                return simulate(failed.seed, steps=steps, without=without)

        again = forked(work)
        return again.failure is not None and again.rule == failed.rule

    names = [one.name for one in plan(failed.seed, failed.at_s) if one.name not in left_out]
    size = len(names) // 2
    while size and time.monotonic() < ends_at:
        for at in range(0, len(names), size):
            piece = names[at : at + size]
            if time.monotonic() >= ends_at:
                break
            if piece and fails([*left_out, *piece]):
                left_out = [*left_out, *piece]
        names = [name for name in names if name not in left_out]
        size = size // 2 if size > 1 else 0
    print(f"it takes {len(names)} of the plan: {' '.join(names)}")
    return sorted(left_out, key=lambda name: (name[0], int(re.sub(r"\D", "", name))))
