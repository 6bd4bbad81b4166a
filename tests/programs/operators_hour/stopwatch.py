"""Where an operator's time goes: each second belongs to one stage, and to the kind of wait that it was for."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class Stage(StrEnum):
    """What the operator is at."""

    FINDS = "finds it in the list"
    OPENS = "opens it"
    FILLS = "fills it"
    MAY_SEND = "until it may be sent"
    SENDS = "sends it"
    IDLE = "nothing can be answered"
    OTHERS = "others act"


NOT_HANDLING = (Stage.IDLE, Stage.OTHERS)
"""Not the operator's: nothing was there to be answered, or the script itself asked, answered and restarted."""


class Stopwatch:
    """Seconds by stage and kind.

    Args:
        now_s: A clock that goes only forward.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._stage: Stage | None = None
        self._since_s = 0.0
        self._kind = ""
        self.spent: dict[tuple[str, Stage], float] = defaultdict(float)
        """What came before the first wait, and was for none, has no kind."""
        self._unassigned: dict[Stage, float] = defaultdict(float)

    def goes_on(self, stage: Stage | None) -> None:
        """From now on this; None: the hour is over."""
        now_s = self._now_s()
        if self._stage is not None:
            self._unassigned[self._stage] += now_s - self._since_s
        self._stage, self._since_s = stage, now_s
        if stage is None:
            self._assign("")

    def is_for(self, kind: str) -> None:
        """All since the wait before was for one of this kind."""
        self.goes_on(self._stage)
        self._assign(kind)

    def _assign(self, kind: str) -> None:
        for stage, spent_s in self._unassigned.items():
            self.spent[kind, stage] += spent_s
        self._unassigned.clear()

    @contextmanager
    def aside(self, stage: Stage) -> Iterator[None]:
        """Meanwhile this; then what was before."""
        before = self._stage
        self.goes_on(stage)
        try:
            yield
        finally:
            self.goes_on(before)

    def by_kind(self) -> dict[str, dict[str, float]]:
        """Seconds by stage, by kind."""
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for (kind, stage), spent_s in self.spent.items():
            found[kind][stage.value] = spent_s
        return dict(found)

    def by_stage(self) -> dict[str, float]:
        """Seconds by stage, of all kinds."""
        found: dict[str, float] = defaultdict(float)
        for (_, stage), spent_s in self.spent.items():
            found[stage.value] += spent_s
        return dict(found)

    def handling_s(self) -> float:
        """All but what is not the operator's."""
        return sum(s for (_, stage), s in self.spent.items() if stage not in NOT_HANDLING)
