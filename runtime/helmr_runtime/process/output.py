"""Logs and printed output of a runtime's process: attributed to its session, as text or JSON, in a bounded file.

A run's code, its steps and their threads carry the run in their context (`helmr.current`), so each line starts
with the session's id. Threads that they start without that context have no id.

As JSON each line is an object: `time`, `level`, `logger`, `message`, `process`, `session`, `run`, `op`, `wait`,
`trace`, and `exception` if there is one. Ids are those of the code that logs; for a line of the runtime itself, those
in its message or its logging context; else null. `trace` is that of the current span, if the process makes spans.

Only its owner can read a log file. A full one is moved aside, so two files hold all that is kept. The terminal of `up`
gets our few lines, the log file the rest: Ray writes to the standard streams of the process that connects to it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

from helmr.current import current_run, current_step
from helmr.errors import UsageError
from helmr.wire.safe_text import plain
from helmr_runtime import tracing
from helmr_runtime.security import payloads
from helmr_runtime.security.private_files import open_private

SESSION_ID = re.compile(r"\bses_[0-9a-z]{26}\b")
RUN_ID = re.compile(r"\brun_[0-9a-z]{26}\b")
WAIT_ID = re.compile(r"\bwait_[0-9a-z]{26}\b")

PRINT_LOGGER = "print"
"""The logger of what code has printed."""


class JsonFormatter(logging.Formatter):
    """Makes the lines of one process.

    Args:
        process: Its name: a host's, or `helmr-gateway` and the like.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        message = record.getMessage()
        told = self._line(record, message)
        # Anyone who takes secrets out of a traceback has made its text already.
        exception = record.exc_text
        if exception is None and record.exc_info:
            exception = self.formatException(record.exc_info)
        if exception is not None:
            told["exception"] = exception
        return json.dumps(told, ensure_ascii=False)

    def printed(self, line: str) -> str:
        """A line that the calling code has printed now."""
        known = {"msg": line, "levelname": "INFO", "name": PRINT_LOGGER}
        return self.format(logging.makeLogRecord(known))

    def _line(self, record: logging.LogRecord, message: str) -> dict[str, Any]:
        run, step = current_run.get(), current_step.get()
        if run is not None:
            session_id, run_id = run.session.id, run.run.id
        else:
            logged_of = getattr(record, "session", "")
            session_id = _first(SESSION_ID, f"{logged_of} {message}")
            run_id = _first(RUN_ID, message)
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
            "process": self._process,
            "session": session_id,
            "run": run_id,
            "op": step.op if step is not None else None,
            "wait": _first(WAIT_ID, message),
            "trace": _trace_id(),
        }


def _trace_id() -> str | None:
    """The second part of a traceparent."""
    context = tracing.current() if tracing.is_on else None
    return context.split("-")[1] if context is not None else None


def _first(pattern: re.Pattern[str], text: str) -> Any:
    found = pattern.search(text)
    return found[0] if found is not None else None


FORMAT = "%(asctime)s %(levelname)s %(session)s %(name)s: %(message)s"
"""Of a log file; `helmr logs` reads it."""

PRINTED = " | "
"""Between a session's id and what its code has printed."""

NO_SESSION = "-"

PENDING_CHARS_MAX = 8_192
PENDING_SESSIONS_MAX = 1_000
"""What waits for the ends of lines; more is written as it is."""


def current_session() -> str | None:
    """The session whose code calls."""
    run = current_run.get()
    return run.session.id if run is not None else None


class TextOutput(Protocol):
    """A stream that text is written to."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


class SessionFilter(logging.Filter):
    """Says in each record whose code has logged it, or whom the runtime has logged it of: `session`.

    Belongs on handlers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Note it; every record goes on."""
        record.session = current_session() or getattr(record, "session", NO_SESSION)
        return True


class SessionStream:
    """A text stream that writes lines of sessions whole, safe for a terminal, their ids in front; all else as it is.

    Args:
        streams: Where to; the first stands for all when asked what it is.
        formatter: Makes the lines of sessions for the last one, which is a log file.
        written: Called after each write.
    """

    def __init__(
        self,
        *streams: TextOutput,
        formatter: JsonFormatter | None = None,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        self._streams = streams
        self._formatter = formatter
        self._written = written
        self._pending: dict[str, str] = {}
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write, under the calling code's session."""
        session_id = current_session()
        if session_id is None:
            self._put(text)
            self._written()
            return len(text)
        with self._lock:
            whole = self._pending.pop(session_id, "") + text.replace("\r", "\n")
            *lines, rest = whole.split("\n")
            if len(rest) > PENDING_CHARS_MAX or len(self._pending) >= PENDING_SESSIONS_MAX:
                lines, rest = [*lines, *filter(None, [rest])], ""
            if rest:
                self._pending[session_id] = rest
        # Without the lock: a log file that can't be written to prints that, under the session of the code that logs.
        self._put_lines(session_id, lines)
        self._written()
        return len(text)

    def _put_lines(self, session_id: str, lines: list[str]) -> None:
        shown = "".join(f"{session_id}{PRINTED}{plain(line, None)}\n" for line in lines)
        if self._formatter is None:
            self._put(shown)
            return
        for stream in self._streams[:-1]:
            stream.write(shown)
        self._streams[-1].write("".join(f"{self._formatter.printed(line)}\n" for line in lines))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def _put(self, text: str) -> None:
        for stream in self._streams:
            stream.write(text)

    def flush(self) -> None:
        """Flush complete lines; the rest of a line waits for its end."""
        for stream in self._streams:
            stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams[0], name)


def tag_prints(
    *also: TextOutput, formatter: JsonFormatter | None = None, written: Callable[[], None]
) -> None:
    """From now on what sessions print has their ids, and is seen line by line, in a file or a journal as on a terminal.

    It goes to `also` too. `formatter` makes a log file's lines. `written` is called after each write.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    out, error = (
        SessionStream(stream, *also, formatter=formatter, written=written)
        for stream in (sys.stdout, sys.stderr)
    )
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, error)


def json_formatter(process: str, *, is_wanted: bool) -> JsonFormatter | None:
    """Makes the log lines of that process, if they are to be JSON."""
    return JsonFormatter(process) if is_wanted else None


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
        """Move the file aside if it is full: for anyone who has written to it without logging."""
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


def look_at_log_file() -> None:
    """Move the process's log file aside if printed output has filled it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFileHandler):
            handler.look()


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
