"""What reading one input may take: processor time and memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_MAX = 2.0
"""Of the thread's processor time, while allocations are traced, which makes all of it some times slower."""
BYTES_MAX = 64 * 1024 * 1024
BYTES_PER_BYTE_MAX = 200
"""An empty list in JSON is two bytes, and 56 in memory, beside its place in another."""


class OutOfBounds(AssertionError):
    """Reading an input took too much time or memory."""


@contextmanager
def bounded(size_bytes: int) -> Iterator[None]:
    """Fails if what is done here takes more than an input of so many bytes may."""
    tracemalloc.start()
    began = time.thread_time()
    try:
        yield
    finally:
        took_s = time.thread_time() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    if took_s > SECONDS_MAX:
        raise OutOfBounds(f"{size_bytes} bytes took {took_s:.1f} s to read")
    if peak > BYTES_MAX + BYTES_PER_BYTE_MAX * size_bytes:
        raise OutOfBounds(f"{size_bytes} bytes took {peak} bytes of memory to read")
