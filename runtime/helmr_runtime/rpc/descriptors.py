"""File descriptors that no forked child keeps open: what they hold must end with this process.

Task code may fork. A child would keep connections of this process open, its port, and the lock of its data directory.
"""

from __future__ import annotations

import os

_held: set[int] = set()


def hold(descriptor: int) -> int:
    """Let a forked child have nothing of it, until `release`; returns it."""
    _held.add(descriptor)
    return descriptor


def release(descriptor: int) -> None:
    """It is about to be closed, or has been: its number may become another file's."""
    _held.discard(descriptor)


def _let_go_in_child() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in _held:
        # Closed, its number would go to another file, which an object of the parent's may close.
        os.dup2(nothing, descriptor, inheritable=False)
    _held.clear()
    os.close(nothing)


os.register_at_fork(after_in_child=_let_go_in_child)
