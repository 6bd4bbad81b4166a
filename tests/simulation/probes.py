"""Branches that are rare and matter: a long run that came by none of one of them has proved less than it seems."""

from __future__ import annotations

from collections import Counter

REACHED: tuple[str, ...] = ()


def unreached(counts: Counter[str]) -> list[str]:
    """Those that were not come by."""
    return [name for name in REACHED if not counts[name]]
