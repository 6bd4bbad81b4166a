"""What a simulation came by: rare branches are counted, and a long run that never reached one fails."""

from __future__ import annotations

from collections import Counter


class Counts:
    """By name, how often it was reached."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()

    def reached(self, name: str) -> None:
        """It was."""
        self.by_name[name] += 1
