"""Bounds in seconds that hold on a busy machine too."""

from __future__ import annotations

import time
from pathlib import Path


class OwnTime:
    """Seconds since it was made, less those in which a thread of this process was ready and had no core.

    So a bound says how long our work takes and not who else works. What several threads lacked at once counts more
    than once; the CPU time that the process used is the least there is.
    """

    def __init__(self) -> None:
        self._began_s, self._used_s = time.perf_counter(), time.process_time()
        self._lacked_s = _lacked_s()

    def seconds(self) -> float:
        """Until now."""
        passed_s = time.perf_counter() - self._began_s
        used_s = time.process_time() - self._used_s
        return max(passed_s - (_lacked_s() - self._lacked_s), used_s)


def _lacked_s() -> float:
    """How long this process's threads have waited for a core; 0 where the kernel does not say."""
    lacked_ns = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            lacked_ns += int(path.read_text().split()[1])
        except (OSError, IndexError):  # the thread has ended
            continue
    return lacked_ns / 1e9
