"""The span of what a live session's code executes between two waits, where spans are made (`helmr_runtime.tracing`).

Invariants: S-60 (a turn is shown once the entry that ends it is on disk).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from helmr_runtime import tracing
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.state import SessionState
from helmr_runtime.tracing.derived import Derived

if TYPE_CHECKING:
    from helmr_runtime.tracing.otel import Open, Spans

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
    """The turns of one live session.

    Args:
        state: The session's.
        when_durable: Calls when a seq is on disk.
    """

    def __init__(
        self, state: SessionState, when_durable: Callable[[int, Callable[[], None]], None]
    ) -> None:
        self._state = state
        self._when_durable = when_durable
        self._turn: Open | None = None
        self._sent: str | None = None
        self.current: str | None = None
        """What names the turn that goes on; read by the run's own thread."""

    def sent(self, trace: str | None) -> None:
        """A command came, within that trace if any: what goes on because of it belongs there."""
        self._sent = trace

    def applied(self, entry: Entry) -> None:
        """An entry was added."""
        if tracing.spans is None:
            return
        kind, body = entry.kind, entry.body
        if kind in BEGINS or (kind in WAIT_ENDS and body.get("next") == "running"):
            self._begin(tracing.spans, entry)
        elif kind is EntryKind.WAIT_OPENED and not body.get("backoff"):
            self._end(entry, waits=str(body["wait_id"]))
        elif kind in ENDS:
            self._end(entry)

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
            sent=self._sent,
            goes_on=str(last.body["wait_id"]) if last is not None else None,
        )
        self._sent, self.current = None, self._turn.traceparent

    def _end(self, entry: Entry, *, waits: str | None = None) -> None:
        turn, self._turn, self.current = self._turn, None, None
        if turn is None:
            return
        if waits is not None:
            turn.link(self._state.id, Derived("wait", waits), "waits_for")
        failed = (EntryKind.RUN_FAILED, EntryKind.RUN_BLOCKED, EntryKind.RUN_ATTEMPT_FAILED)
        error = entry.kind.value if entry.kind in failed else None
        self._when_durable(entry.seq, lambda: turn.end(error))

    def close(self) -> None:
        """The session leaves this host: whatever was under way is over here."""
        if self._turn is not None:
            self._turn.end("the session left this host")
        self._turn = self.current = None
