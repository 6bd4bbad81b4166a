"""Two tenants under one limit: the small one is not kept waiting by the large one (S-119).

Under `at_once` alone the small one's sessions are timed twice: with nothing else to do, and behind all of the large
one's. With `per` too, what each began is counted in every ten seconds in which both had sessions that waited.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helmr.hash_seed import VARIABLE as SEED
from tests.programs.limits.counting import Call, Provider
from tests.stack.live import LiveRuntime, until

TASKS = Path(__file__).with_name("limit_tasks.py")
STARTERS = 4
TIMES_ALONE = 2.5
"""So much longer the small tenant may take beside the large one."""
SLICE_S = 10.0
SHARE_MIN = 0.4
"""Of two tenants each has a half; a slice's ends cut it by a call or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """What is run; without `per` the limit is `at_once` alone."""

    large: int
    small: int
    at_once: int
    per: int | None = None
    within_s: float = 60.0
    hold_s: float = 0.5
    in_process: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long the small tenant's sessions took, from the first start to the end of the last call."""

    alone_s: float
    beside_s: float
    begun_before: int
    """Calls of the large tenant that had begun when the small one's first session was started."""

    def is_fine(self) -> bool:
        """The small one was not kept waiting."""
        return self.beside_s <= TIMES_ALONE * self.alone_s


def shares(calls: Iterable[Call], from_s: float, slice_s: float = SLICE_S) -> list[tuple[int, int]]:
    """What small and large began, in each whole slice from then until the small one's last beginning."""
    began = sorted((one.began_s, one.name.startswith("small")) for one in calls)
    until_s = max((at_s for at_s, is_small in began if is_small), default=from_s)
    found: list[tuple[int, int]] = []
    while from_s + slice_s <= until_s:
        within = [is_small for at_s, is_small in began if from_s <= at_s < from_s + slice_s]
        found.append((sum(within), len(within) - sum(within)))
        from_s += slice_s
    return found


def is_fair(found: Sequence[tuple[int, int]]) -> bool:
    """Whether each had its share of every slice, and there was one."""
    least = (min(pair) / (sum(pair) or 1) for pair in found)
    return bool(found) and all(share >= SHARE_MIN for share in least)


class TenantsRun:
    """The runtime, the provider and what was started.

    Args:
        plan: What is run.
        folder: For everything it leaves.
    """

    def __init__(self, plan: Tenants, folder: Path) -> None:
        self.plan = plan
        self.provider = Provider(plan.hold_s)
        said = {
            "at_once": plan.at_once,
            "per": plan.per,
            "within_s": plan.within_s if plan.per is not None else None,
            "port": self.provider.port,
        }
        self._live = LiveRuntime(
            folder,
            tasks=TASKS,
            hosts=1 if plan.in_process else 2,
            sessions_per_host=100,
            in_process=plan.in_process,
            environ={"HELMR_LIMITS_PROGRAM": json.dumps(said), SEED: "1"},
        )

    def times(self) -> Times:
        """Under `at_once` alone: the small one alone, and then behind the large one."""
        plan = self.plan
        within_s = 120.0 + 3 * plan.large / plan.at_once * plan.hold_s
        self._live.start()
        try:
            alone_s = self._small("alone", within_s)
            self._begin("large", plan.large)
            before = self._count("large")
            assert before + plan.at_once < plan.large, "the large one has nothing left to wait for"
            beside_s = self._small("beside", within_s)
        finally:
            self.stop()
        return Times(alone_s=alone_s, beside_s=beside_s, begun_before=before)

    def begun(self) -> list[tuple[int, int]]:
        """With `per`: what small and large began in each slice in which both waited."""
        plan = self.plan
        assert plan.per is not None
        within_s = 120.0 + 3 * (plan.large + plan.small) / plan.per * plan.within_s
        self._live.start()
        try:
            self._begin("large", plan.large)
            self._begin("small", plan.small)
            from_s = time.time()
            until(
                lambda: self._count("small") >= plan.small, within_s=within_s, what="all of small"
            )
            assert self._count("large") < plan.large, "the large one had nothing left to wait for"
        finally:
            self.stop()
        return shares(self.provider.calls, from_s)

    def stop(self) -> None:
        """End runtime and provider; what waits then is not waited for."""
        self._live.stop()
        self.provider.stop()

    def _small(self, name: str, within_s: float) -> float:
        """How long the small one's sessions take."""
        began_s = time.time()
        self._begin("small", self.plan.small, name)
        wanted = f"small {name}"
        until(lambda: self._count(wanted) >= self.plan.small, within_s=within_s, what=wanted)
        ended = [one.ended_s for one in list(self.provider.calls) if one.name.startswith(wanted)]
        return max(ended) - began_s

    def _begin(self, tenant: str, count: int, name: str = "") -> None:
        def begin(number: int) -> Any:
            said = {"name": f"{tenant} {name} {number}", "tenant": tenant}
            return self._live.begin("calls", said)

        with ThreadPoolExecutor(STARTERS) as pool:
            list(pool.map(begin, range(count)))

    def _count(self, name: str) -> int:
        return sum(one.name.startswith(name) for one in list(self.provider.calls))
