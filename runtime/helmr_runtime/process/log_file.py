"""A process's log file: for its owner alone, and moved aside when it is full, so that two of them hold all it keeps."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from helmr.errors import UsageError
from helmr_runtime.process.json_logs import JsonFormatter
from helmr_runtime.process.session_output import FORMAT, SessionFilter
from helmr_runtime.security.private_files import open_private

BYTES_MAX = 16 * 1024 * 1024
"""Of a file; the one before it has as many."""

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
ASIDE = "-old"
"""At the end of the name of the one before."""


class LogFileHandler(RotatingFileHandler):
    """Writes what is logged to the file, and what is printed if that is to go there too.

    Args:
        path: The file; it is gone on with.
        formatter: Makes its lines; None for text.
        takes_output: Standard output and error of the process go to the file, whatever writes there.
        bytes_max: Its size before it is moved aside.

    Raises:
        UsageError: Something else has been put in its place.
        OSError: It can't be opened.
    """

    def __init__(
        self,
        path: Path,
        formatter: JsonFormatter | None = None,
        *,
        takes_output: bool,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._takes_output = takes_output
        self._aside = path.with_stem(path.stem + ASIDE)
        self._next = path.with_suffix(".next")
        super().__init__(path, maxBytes=bytes_max, backupCount=1, encoding="utf-8")
        self.setFormatter(formatter or logging.Formatter(FORMAT))
        self.addFilter(SessionFilter())

    def _open(self) -> TextIOWrapper:
        return self._stream(open_private(Path(self.baseFilename), FLAGS))

    def _stream(self, descriptor: int) -> TextIOWrapper:
        if self._takes_output:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.close(descriptor)
            descriptor = 2  # its own stream: a test runner may have replaced sys.stderr
        return os.fdopen(
            descriptor,
            "w",
            buffering=1,
            encoding=self.encoding,
            errors="backslashreplace",
            closefd=not self._takes_output,
        )

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        """Move the file aside and begin another; where that can't be, go on with the one that is open.

        The next one is opened first: a process that can open no file keeps its log where it was.
        """
        full = self.stream
        try:
            descriptor = open_private(self._next, FLAGS | os.O_TRUNC)
        except (OSError, UsageError):
            return
        try:
            with suppress(FileNotFoundError):
                os.replace(self.baseFilename, self._aside)
            os.replace(self._next, self.baseFilename)
        except OSError:
            os.close(descriptor)
            self._next.unlink(missing_ok=True)
            return
        self.stream = self._stream(descriptor)
        if full is not None:
            full.close()

    # --- what is printed ----------------------------------------------------------------------------

    def write(self, text: str) -> int:
        """Append text as it is; nothing once logging is shut down."""
        with self._open_stream() as stream:
            return stream.write(text) if stream is not None else 0

    def look(self) -> None:
        """Move the file aside if it is full: for whoever has written to it without logging."""
        with self._open_stream() as stream:
            if stream is not None and stream.seek(0, os.SEEK_END) >= self.maxBytes:
                self.doRollover()

    @contextmanager
    def _open_stream(self) -> Iterator[TextIOWrapper | None]:
        self.acquire()
        try:
            yield self.stream
        finally:
            self.release()


def look() -> None:
    """What was printed may have filled the process's log file."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFileHandler):
            handler.look()
