"""The terminal that `up` was started from: it gets our few lines, and a log file gets the rest.

Ray writes to the standard streams of the process that connects to it, whatever it is asked.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from helmr_runtime.process.json_logs import JsonFormatter
from helmr_runtime.process.session_output import FORMAT, SessionFilter
from helmr_runtime.security import redaction
from helmr_runtime.security.private_files import open_private


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
    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # Its own stream: a test runner may have replaced sys.stderr.
    stream = os.fdopen(2, "w", closefd=False, buffering=1)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter or logging.Formatter(FORMAT))
    handler.addFilter(SessionFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    redaction.install()
