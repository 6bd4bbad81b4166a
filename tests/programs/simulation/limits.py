"""What holds of limits, by what goes on under them and by what their transcripts say (S-119, S-120)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from unittest import mock

from helmr import Limit
from helmr.steps import Step
from helmr_runtime.core.limits import Ask, Permits
from helmr_runtime.directory.actor import DirectoryActor
from tests.programs.simulation import tasks
from tests.programs.simulation.clock import SimulatedClock
from tests.programs.simulation.code import process_here
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.scheduler import Process

OF_STEPS = {
    one.name: tasks.LIMITS[one.limit]
    for one in vars(tasks).values()
    if isinstance(one, Step) and one.limit is not None
}
"""By the name of a step, its limit."""


@dataclass(slots=True)
class KeyTurn:
    """A key that waits for its turn.

    Attributes:
        asks: Who asks under it; another object when no one has meanwhile, and its place was lost.
        others: How often each other key has begun since.
    """

    asks: Mapping[int, Ask]
    others: Counter[str] = field(default_factory=Counter)


class LimitChecks:
    """The checks, and what they must remember.

    What a host does that a directory has replaced counts no more: its permits have come back (S-97).

    Args:
        counts: Told of what is rare.
        check: Notes what does not hold.
        clock: Tells when what was stamped happened.
    """

    def __init__(
        self, counts: Counts, check: Callable[[bool, str, str], None], clock: SimulatedClock
    ) -> None:
        self._counts = counts
        self._check = check
        self._clock = clock
        self._going: dict[str, dict[object, Process]] = {name: {} for name in tasks.LIMITS}
        self._untried: dict[str, None] = {}
        """Keys of steps that were opened and whose first try has not begun."""
        self._names: dict[str, str] = {}
        """By its key, the name of a step."""
        self._begun: dict[str, list[float]] = {name: [] for name in tasks.LIMITS}
        self._turns: dict[int, tuple[Permits, dict[str, KeyTurn]]] = {}
        """By limit in a directory, by key that is ready."""

    # --- at once ----------------------------------------------------------------------------------

    @contextmanager
    def going(self, limit: Limit, process: Process) -> Iterator[None]:
        """Meanwhile something goes on under a limit in that process."""
        marks, mark = self._going[limit.name], object()
        marks[mark] = process
        for one in [one for one, of in marks.items() if _is_gone(of)]:
            del marks[one]
        if not _is_gone(process) and limit.at_once is not None:
            message = f"{len(marks)} go on under {limit.name}"
            self._check(len(marks) <= limit.at_once, "S-119", message)
            if len(marks) == limit.at_once:
                self._counts.reached(f"limit reached:{limit.name}")
        try:
            yield
        finally:
            marks.pop(mark, None)

    # --- in a time --------------------------------------------------------------------------------

    def opened(self, key: str, name: str, at: datetime) -> None:
        """A step was opened: its first try may begin."""
        if name in OF_STEPS:
            self._names[key] = name
            self._untried[key] = None
            self._begins(OF_STEPS[name], at)

    def tried(self, key: str) -> None:
        """A try of a step begins, the first or another."""
        is_first = key in self._untried
        self._untried.pop(key, None)
        if not is_first and key in self._names and not _is_gone(process_here()):
            self._begins(OF_STEPS[self._names[key]], self._clock.now())

    def _begins(self, limit: Limit, at: datetime) -> None:
        at_s = self._clock.elapsed_at(at)
        if limit.per is None or at_s is None:
            return
        times = self._begun[limit.name]
        insort(times, at_s)
        for first in range(bisect_left(times, at_s - limit.within_s), len(times)):
            count = bisect_left(times, times[first] + limit.within_s) - first
            self._check(count <= limit.per, "S-119", f"{count} began under {limit.name} from {at}")
            if count == limit.per:
                self._counts.reached(f"limit reached:{limit.name}")

    # --- in turn ----------------------------------------------------------------------------------

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Meanwhile directories give permits in turn."""
        grant, leave = Permits.give, Permits.leave

        def give(permits: Permits, now_s: float) -> list[str]:
            turns = self._turns_of(permits)
            given = grant(permits, now_s)
            for ticket in given:
                self._given(permits, turns, permits.held[ticket])
            return given

        def comes_back(permits: Permits, ticket: str) -> None:
            unused = permits.held.get(ticket)
            if unused is not None:
                self._counts.reached("permit left unused")
                for turn in self._turns_of(permits).values():
                    turn.others[unused.key] -= not unused.goes_on
            elif ticket in permits:
                self._counts.reached("queued out of memory")
            leave(permits, ticket)

        with (
            mock.patch.object(Permits, "give", give),
            mock.patch.object(Permits, "leave", comes_back),
        ):
            yield

    def _turns_of(self, permits: Permits) -> dict[str, KeyTurn]:
        _, turns = self._turns.setdefault(id(permits), (permits, {}))
        queue = permits._beginning
        for key in [key for key in turns if key not in queue._ready]:
            del turns[key]
        for key in queue._ready:
            if key not in turns or turns[key].asks is not queue._keys[key]:
                turns[key] = KeyTurn(queue._keys[key])
        return turns

    def _given(self, permits: Permits, turns: dict[str, KeyTurn], ask: Ask | None) -> None:
        assert ask is not None
        name = permits.limit.name
        if ask.goes_on:
            self._counts.reached("goes on before others begin")
            return
        is_last = permits._going_on.first() is None
        self._check(is_last, "S-120", f"{name}: {ask.ticket} begins before what goes on")
        for key, turn in turns.items():
            if key == ask.key:
                turn.others.clear()
                continue
            turn.others[ask.key] += 1
            self._counts.reached("turn of another key")
            message = f"{name}: {ask.key} begins twice while {key} waits"
            self._check(turn.others[ask.key] <= 1, "S-119", message)


def _is_gone(process: Process) -> bool:
    return process.is_dead or bool(process.locals.get("is_replaced"))


def in_use(directory: DirectoryActor) -> dict[str, Any]:
    """By limit, what is held or asked for by that directory's count."""
    limiter = directory._limiter
    limits = limiter.to_json() if limiter is not None else []
    return {
        one["name"]: (one["in_use"], one["waiting"])
        for one in limits
        if one["in_use"] or one["waiting"]
    }
