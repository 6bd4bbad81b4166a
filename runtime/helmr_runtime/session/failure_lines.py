"""What the log says of a session whose code fails: a developer sees it where the code prints, without asking for it.

The transcript has the same and more; it is what counts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from helmr.safe_text import plain
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.run import Run

log = logging.getLogger("helmr.failures")
# A notebook that sets up no logging is not told of each of a thousand sessions.
log.addHandler(logging.NullHandler())

LEVELS = {
    EntryKind.STEP_TRY_FAILED: logging.WARNING,
    EntryKind.STEP_FAILED: logging.WARNING,
    EntryKind.RUN_ATTEMPT_FAILED: logging.WARNING,
    EntryKind.RUN_FAILED: logging.ERROR,
    EntryKind.RUN_BLOCKED: logging.ERROR,
}
"""The kinds of entries that are told, and how loud."""

CONTINUED = "\n    "
"""Further lines of what an exception says: no line of a log file begins with them, as if it were another session's."""

WITHHELD = "(its message is sealed, as in the transcript)"


def tell(entry: Entry, said: str) -> None:
    """Log what `line` has said of it, in its session's name."""
    log.log(LEVELS[entry.kind], "%s", said, extra={"session": entry.session_id})


def line(run: Run | None, entry: Entry, *, is_sealed: bool) -> str:
    """The text, safe for a terminal: what failed, why, and where in its code.

    Args:
        run: Its run.
        entry: Of one of the kinds in `LEVELS`.
        is_sealed: Payloads are not to be read from files, and what an exception says may be one.
    """
    body = entry.body
    if entry.kind is EntryKind.RUN_BLOCKED:
        why = WITHHELD if is_sealed else body["message"]
        return _safe(f"{entry.run_id} is blocked, {body['code']}: {why}")
    error: Mapping[str, Any] = body["error"]
    why = f"{error['type']}: {WITHHELD if is_sealed else error['message']}"
    step = f"{entry.run_id}: step {_name(run, entry)} (op {entry.op})"
    match entry.kind:
        case EntryKind.STEP_TRY_FAILED:
            text = f"{step} failed at try {body['try']}, again at {body['retry_at']}: {why}"
        case EntryKind.STEP_FAILED:
            text = f"{step} failed: {why}"
        case EntryKind.RUN_ATTEMPT_FAILED:
            before = body["next_attempt"] - 1
            text = f"{entry.run_id} failed at attempt {before}, again at {body['retry_at']}: {why}"
        case _:
            text = f"{entry.run_id} failed: {why}"
    where = error.get("traceback") if entry.kind is not EntryKind.STEP_TRY_FAILED else None
    return f"{_safe(text)}\n{plain(where.rstrip(), None)}" if where else _safe(text)


def _safe(text: str) -> str:
    return plain(text, None).replace("\n", CONTINUED)


def _name(run: Run | None, entry: Entry) -> str:
    opened = (
        one.body["name"]
        for one in reversed(run.journal if run is not None else [])
        if one.kind is EntryKind.STEP_STARTED and one.op == entry.op
    )
    return next(opened, "?")
