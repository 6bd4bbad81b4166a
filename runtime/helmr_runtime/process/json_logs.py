"""Log lines as JSON objects, each with the ids of what it is about.

Keys, of every line: `time`, `level`, `logger`, `message`, `process`, `session`, `run`, `op`, `wait`, `trace`;
`exception` where there is one. Ids are those of the code that logs; of a line of the runtime itself, those that its
message names, or whose name it was logged in; else null. `trace` is that of the span below which it was logged, where
spans are made.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from helmr.current import current_run, current_step
from helmr_runtime import tracing

SESSION_ID = re.compile(r"\bses_[0-9a-z]{26}\b")
RUN_ID = re.compile(r"\brun_[0-9a-z]{26}\b")
WAIT_ID = re.compile(r"\bwait_[0-9a-z]{26}\b")

PRINTED = "print"
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
        # Whoever takes secrets out of a traceback has made its text already.
        exception = record.exc_text
        if exception is None and record.exc_info:
            exception = self.formatException(record.exc_info)
        if exception is not None:
            told["exception"] = exception
        return json.dumps(told, ensure_ascii=False)

    def printed(self, line: str) -> str:
        """A line that the calling code has printed now."""
        known = {"msg": line, "levelname": "INFO", "name": PRINTED}
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
