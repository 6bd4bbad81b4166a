"""Whose code logs or prints: the session id before each line of it.

A run's code, its steps and their threads have the run in their context (`helmr.current`); what they start without it,
threads of their own above all, is nobody's.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from typing import Any, TextIO, cast

from helmr.current import current_run
from helmr.safe_text import plain

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


class SessionFilter(logging.Filter):
    """Says in each record whose code has logged it: `session`. Belongs on handlers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Note it; every record goes on."""
        record.session = current_session() or NOBODY
        return True


class SessionStream:
    """A text stream that writes lines of sessions whole, safe for a terminal, their ids in front; all else as it is.

    Args:
        streams: Where to; the first stands for all when asked what it is.
    """

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams
        self._pending: dict[str, str] = {}
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write, in the name of the calling code's session."""
        session_id = current_session()
        if session_id is None:
            self._put(text)
            return len(text)
        with self._lock:
            whole = self._pending.pop(session_id, "") + text.replace("\r", "\n")
            *lines, rest = whole.split("\n")
            if len(rest) > PENDING_CHARS_MAX or len(self._pending) >= PENDING_SESSIONS_MAX:
                lines, rest = [*lines, *filter(None, [rest])], ""
            if rest:
                self._pending[session_id] = rest
            self._put("".join(f"{session_id}{PRINTED}{plain(line, None)}\n" for line in lines))
        return len(text)

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


def tag_prints(*also: TextIO) -> None:
    """From now on what sessions print has their ids; it goes to `also` too."""
    sys.stdout = cast(TextIO, SessionStream(sys.stdout, *also))
    sys.stderr = cast(TextIO, SessionStream(sys.stderr, *also))
