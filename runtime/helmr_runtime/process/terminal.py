"""The terminal that `up` was started from: it gets our few lines, and a log file gets the rest.

Ray writes to the standard streams of the process that connects to it, whatever it is asked.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from helmr_runtime.process.json_logs import JsonFormatter
from helmr_runtime.process.log_file import LogFileHandler
from helmr_runtime.security import payloads


class Terminal:
    """Standard output and error as they were, while the process's own go to a file."""

    def __init__(self) -> None:
        self._out: int | None = None
        self._error: int | None = None

    def say(self, line: str) -> None:
        """One line to the person."""
        sys.stderr.flush()
        os.write(self._error if self._error is not None else 2, f"helmr: {line}\n".encode())

    def divert(self, path: Path, formatter: JsonFormatter | None = None) -> None:
        """Send what this process logs and prints to a file from now on."""
        self._out, self._error = os.dup(1), os.dup(2)
        log_to(path, formatter)

    def restore(self) -> None:
        """Give the standard streams back."""
        if self._out is None or self._error is None:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        for saved, number in ((self._out, 1), (self._error, 2)):
            os.dup2(saved, number)
            os.close(saved)
        self._out = self._error = None


def log_to(path: Path, formatter: JsonFormatter | None = None) -> None:
    """Send this process's log, and what it prints, to a file; secrets are taken out of the log.

    Args:
        path: The file.
        formatter: Makes its lines; None for text.
    """
    logging.basicConfig(
        level=logging.INFO,
        handlers=[LogFileHandler(path, formatter, takes_output=True)],
        force=True,
    )
    payloads.install()
