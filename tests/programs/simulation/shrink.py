"""A failing seed with less in it: commands and faults are left out as long as it still fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.programs.simulation.simulation import Outcome

SHRINK_S = 60.0
"""At most so long."""


def shrink(failed: Outcome, fails: Callable[[list[str]], bool]) -> list[str]:
    """Names of the plan that are enough: halves are left out first, then smaller and smaller pieces.

    Args:
        failed: What came of the seed.
        fails: Whether it fails in the same way when only these happen.
    """
    ends_at = time.monotonic() + SHRINK_S
    kept = failed.planned
    size = max(1, len(kept) // 2)
    while time.monotonic() < ends_at:
        before = len(kept)
        for at in range(len(kept) - size, -size, -size):
            rest = kept[: max(0, at)] + kept[at + size :]
            if time.monotonic() >= ends_at:
                break
            if len(rest) < len(kept) and fails(rest):
                kept = rest
        if size == 1 and len(kept) == before:
            break
        size = max(1, size // 2)
    return kept
