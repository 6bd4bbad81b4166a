"""What happened in a seed, event by event: a digest that its runs share, and lines for whoever compares them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TextIO

from helmr_runtime.core.entries import Entry

if TYPE_CHECKING:
    from asyncio import events

    from tests.programs.simulation.scheduler import Lane

KEPT_BLOCKS = 200
"""Blocks of memory that an unsettled machine holds at a time."""

SLEEPS_S = 0.0005
"""Longest real time by which it is late now and then."""


class History:
    """The turns that were given and the entries that were stored, in their order.

    Args:
        lines: Where each is written as a line; None for nowhere.
        is_unsettled: The machine is busy meanwhile: real time passes, and objects are at other addresses each time.
            Nothing of that may be part of a history.
    """

    def __init__(self, lines: TextIO | None = None, *, is_unsettled: bool = False) -> None:
        self._digest = blake2b(digest_size=12)
        self._lines = lines
        self._machine = SystemRandom() if is_unsettled else None
        self._blocks: deque[list[object]] = deque(maxlen=KEPT_BLOCKS)

    @property
    def digest(self) -> str:
        """Of all that has happened."""
        return self._digest.hexdigest()

    def turn(self, lane: Lane, handle: events.Handle) -> None:
        """A lane runs this."""
        if self._machine is not None:
            self._disturb(self._machine)
        now_s, of = lane.scheduler.now_s, lane.process.name
        self._note(f"{lane.scheduler.steps} {now_s!r} {of} {lane.name} {_name(handle)}")

    def stored(self, entries: Sequence[Entry]) -> None:
        """The ledger has these."""
        for one in entries:
            self._note(f"{one.session_id} {one.seq} {one.kind.value} {one.hash.hex()}")

    def _note(self, line: str) -> None:
        self._digest.update(line.encode())
        if self._lines is not None:
            self._lines.write(line + "\n")

    def _disturb(self, machine: SystemRandom) -> None:
        draw = machine.getrandbits(16)
        self._blocks.append([object() for _ in range(draw % 7)])
        if draw < 200:
            time.sleep(machine.random() * SLEEPS_S)


def _name(handle: events.Handle) -> str:
    call: Any = handle._callback  # type: ignore[attr-defined]
    owner = getattr(call, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return f"{hash(owner)} {getattr(owner.get_coro(), '__qualname__', '')}"
    return f"{type(owner).__name__} {getattr(call, '__qualname__', type(call).__name__)}"
