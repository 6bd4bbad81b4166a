"""Branches of a run that wait one after the other: a run has one wait at a time (S-10)."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from helmr.current import DurableRun, require_run

_turns: WeakKeyDictionary[DurableRun, asyncio.Lock] = WeakKeyDictionary()
"""For each run that executes. A lock hands out turns in the order in which they were asked for; a replay repeats it."""


def turn(what: str) -> asyncio.Lock:
    """Held around a wait by branches that may want one at once.

    Args:
        what: Is to be done, for the message of `NotInTask`.
    """
    return _turns.setdefault(require_run(what), asyncio.Lock())
