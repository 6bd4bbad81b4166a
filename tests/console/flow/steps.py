"""Steps of the walk through every screen of the console: the kernel's stand in `walk.py`, a feature's in its folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.console.flow.bench import Bench


@dataclass(frozen=True)
class Step:
    """Keys by Textual's names, the screen they lead to, and what then stands on it at any size."""

    keys: tuple[str, ...]
    screen: str
    sees: str


@dataclass(frozen=True, kw_only=True)
class FeatureWalk:
    """`WALK` of `tests/features/NAME/walk.py`: how a feature's screens are reached.

    `tests/console/flow/test_hostile.py` fails for a screen that stands neither in `steps` nor in `elsewhere`.

    Attributes:
        steps: Each as keys, separated by spaces, screen and text, as in `Step`; from the System area, and back to it.
        fill: Makes things for its lists, which say the given words.
        elsewhere: Screens that other tests walk through.
    """

    steps: tuple[tuple[str, str, str], ...]
    fill: Callable[[Bench, str], Awaitable[None]] | None = None
    elsewhere: frozenset[str] = frozenset()
