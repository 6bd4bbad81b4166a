"""The cursors of the threads that read an open database."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

logger = logging.getLogger(__name__)

Connection = duckdb.DuckDBPyConnection

CLOSE_TIMEOUT_S = 5.0
"""How long closing waits for an interrupted query or read to leave the engine."""
INTERRUPT_EVERY_S = 0.05


class Cursors:
    """The cursors of reading threads, and which are at work: the engine closes nothing that is busy."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._cursors: set[Connection] = set()
        self._changed = threading.Condition()
        self.busy_count = 0
        self._is_closing = False

    @contextmanager
    def cursor(self, make: Callable[[], Connection]) -> Iterator[Connection]:
        """This thread's cursor, made if it has none that is open."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closing)
            self.busy_count += 1
        try:
            cursor: Connection | None = getattr(self._mine, "cursor", None)
            if cursor is None or cursor not in self._cursors:
                cursor = self._mine.cursor = make()
                self._cursors.add(cursor)
            yield cursor
        finally:
            with self._changed:
                self.busy_count -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """End what reads, and close every cursor. One that can't be interrupted in time is left to its thread."""
        with self._changed:
            self._is_closing = True
            gives_up_at_s = time.monotonic() + CLOSE_TIMEOUT_S
            has_left = not self.busy_count
            while not has_left and time.monotonic() < gives_up_at_s:
                # Again and again: what is interrupted before it has begun in the engine is not.
                for cursor in tuple(self._cursors):
                    cursor.interrupt()
                has_left = self._changed.wait_for(lambda: not self.busy_count, INTERRUPT_EVERY_S)
            cursors, self._cursors = self._cursors, set()
            if has_left:
                for cursor in cursors:
                    cursor.close()
            else:
                logger.warning("a read that can't be interrupted still holds the ledger's file")
            self._is_closing = False
            self._changed.notify_all()
