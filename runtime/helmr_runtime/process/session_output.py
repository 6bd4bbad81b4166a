"""Whose code logs or prints: the session id before each line of it.

A run's code, its steps and their threads have the run in their context (`helmr.current`); what they start without it,
threads of their own above all, is nobody's.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from io import TextIOWrapper
from typing import Any, Protocol, TextIO, cast

from helmr.current import current_run
from helmr.safe_text import plain
from helmr_runtime.process.json_logs import JsonFormatter

FORMAT = "%(asctime)s %(levelname)s %(session)s %(name)s: %(message)s"
"""Of a log file; `helmr logs` reads it."""

PRINTED = " | "
"""Between a session's id and what its code has printed."""

NOBODY = "-"

PENDING_CHARS_MAX = 8_192
PENDING_SESSIONS_MAX = 1_000
"""What waits for the ends of lines; more is written as it is."""


def current_session() -> str | None:
    """The session whose code calls."""
    run = current_run.get()
    return run.session.id if run is not None else None


class Output(Protocol):
    """Where text goes."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


class SessionFilter(logging.Filter):
    """Says in each record whose code has logged it, or whom the runtime has logged it of: `session`.

    Belongs on handlers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Note it; every record goes on."""
        record.session = current_session() or getattr(record, "session", NOBODY)
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
        *streams: Output,
        formatter: JsonFormatter | None = None,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        self._streams = streams
        self._formatter = formatter
        self._written = written
        self._pending: dict[str, str] = {}
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write, in the name of the calling code's session."""
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
        # Without the lock: a log file that can't be written to prints so, in the name of whoever logs.
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
        """Have what was written seen; the rest of a line waits for its end."""
        for stream in self._streams:
            stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams[0], name)


def tag_prints(
    *also: Output, formatter: JsonFormatter | None = None, written: Callable[[], None]
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
