"""Follow-ups of a live session's entries once they are on disk (S-60): spans, failure logs, ends of chunks.

The log has a line for code that fails: developers see it beside the output of their code. The transcript is
authoritative and holds more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from helmr.wire.safe_text import plain
from helmr_runtime import tracing
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.run import Run
from helmr_runtime.core.state import SessionState
from helmr_runtime.session.emissions import Emissions
from helmr_runtime.tracing.derived import Derived

if TYPE_CHECKING:
    from helmr_runtime.tracing.otel import Open, Spans

log = logging.getLogger("helmr.failures")
# A notebook that sets up no logging does not print each of a thousand sessions.
log.addHandler(logging.NullHandler())

LEVELS = {
    EntryKind.STEP_TRY_FAILED: logging.WARNING,
    EntryKind.STEP_FAILED: logging.WARNING,
    EntryKind.RUN_ATTEMPT_FAILED: logging.WARNING,
    EntryKind.RUN_FAILED: logging.ERROR,
    EntryKind.RUN_BLOCKED: logging.ERROR,
}
"""Log levels of the kinds of entries that are logged."""

CONTINUED = "\n    "
"""Prefix of further lines of an exception's text, so that they do not look like another session's line."""

WITHHELD = "(its message is sealed, as in the transcript)"


def tell(entry: Entry, said: str) -> None:
    """Log the text that `line` made of the entry, under its session's id."""
    log.log(LEVELS[entry.kind], "%s", said, extra={"session": entry.session_id})


def line(run: Run | None, entry: Entry, *, is_sealed: bool) -> str:
    """Return the text, safe for a terminal: what failed, why, and its line of code.

    Args:
        run: Its run.
        entry: An entry of a kind in `LEVELS`.
        is_sealed: Payloads must not reach files, and an exception's text may hold one.
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
            closed = body.get("closed_limit")
            said = f"failed at try {body['try']}" if closed is None else f"finds {closed} closed"
            text = f"{step} {said}, again at {body['retry_at']}: {why}"
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


BEGINS = frozenset({EntryKind.RUN_STARTED, EntryKind.RUN_RESUMED})
WAIT_ENDS = frozenset(
    {EntryKind.WAIT_FULFILLED, EntryKind.WAIT_TIMED_OUT, EntryKind.WAIT_CANCELLED}
)
ENDS = frozenset(
    {
        EntryKind.RUN_SUCCEEDED,
        EntryKind.RUN_FAILED,
        EntryKind.RUN_CANCELLED,
        EntryKind.RUN_BLOCKED,
        EntryKind.RUN_ATTEMPT_FAILED,
        EntryKind.RUN_REWOUND,
    }
)


class Turns:
    """Spans of a live session's code between two waits, if tracing is on."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._turn: Open | None = None
        self.sent: str | None = None
        """The trace of the last command, if any: work that it causes belongs there."""
        self.current: str | None = None
        """The current turn's name; read by the run's own thread."""

    def applied(self, entry: Entry) -> Callable[[], None] | None:
        """Return the calls to make once a new entry is on disk."""
        if tracing.spans is None:
            return None
        kind, body = entry.kind, entry.body
        if kind in BEGINS or (kind in WAIT_ENDS and body.get("next") == "running"):
            self._begin(tracing.spans, entry)
        elif kind is EntryKind.WAIT_OPENED and not body.get("backoff"):
            return self._end(entry, waits=str(body["wait_id"]))
        elif kind in ENDS:
            return self._end(entry)
        return None

    def _begin(self, spans: Spans, entry: Entry) -> None:
        run = self._state.run
        if run is None or self._turn is not None:
            return
        ended = (one for one in reversed(run.journal) if one.kind in WAIT_ENDS)
        last = entry if entry.kind in WAIT_ENDS else next(ended, None)
        self._turn = spans.turn(
            self._state.task,
            self._state.id,
            run.id,
            sent=self.sent,
            goes_on=str(last.body["wait_id"]) if last is not None else None,
        )
        self.sent, self.current = None, self._turn.traceparent

    def _end(self, entry: Entry, *, waits: str | None = None) -> Callable[[], None] | None:
        turn, self._turn, self.current = self._turn, None, None
        if turn is None:
            return None
        if waits is not None:
            turn.link(self._state.id, Derived("wait", waits), "waits_for")
        failed = (EntryKind.RUN_FAILED, EntryKind.RUN_BLOCKED, EntryKind.RUN_ATTEMPT_FAILED)
        error = entry.kind.value if entry.kind in failed else None
        return lambda: turn.end(error)

    def close(self) -> None:
        """End the current spans, since the session leaves this host."""
        if self._turn is not None:
            self._turn.end("the session left this host")
        self._turn = self.current = None


class Telling:
    """Follow-ups of one adoption's entries.

    Args:
        is_sealed: Payloads must not reach files.
    """

    def __init__(self, state: SessionState, emissions: Emissions, *, is_sealed: bool) -> None:
        self._state = state
        self._is_sealed = is_sealed
        self.emissions = emissions
        self.turns = Turns(state)

    def applied(self, entry: Entry) -> list[Callable[[], None]]:
        """Return the calls to make once a new entry is on disk."""
        tellings: list[Callable[[], None]] = []
        if ends := self.emissions.ended_by(entry):
            tellings.append(lambda: self.emissions.tell(ends))
        if entry.kind in LEVELS:
            said = line(self._state.run, entry, is_sealed=self._is_sealed)
            tellings.append(lambda: tell(entry, said))
        if (ended := self.turns.applied(entry)) is not None:
            tellings.append(ended)
        return tellings

    def close(self) -> None:
        """Note that the session is no longer held here."""
        self.emissions.close()
        self.turns.close()
