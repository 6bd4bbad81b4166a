"""What the tables lack, by object: the rows of one session, run or wait that are in memory only. Pure.

The tables are written behind. A list waits for them; one object is put together from what they have and what is here.

Invariants: S-53; everyone reads what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from helmr_runtime.ledger.heads import Head
from helmr_runtime.ledger.projection import (
    NewRun,
    NewSession,
    NewWait,
    Projection,
    RunNumbers,
    SendKeyRow,
    SessionNumbers,
    WaitNumbers,
    session_numbers,
)

Fixed = TypeVar("Fixed")
Numbers = TypeVar("Numbers")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[Fixed, Numbers]):
    """The two halves of a row: what never changes, and what does. None: as the table has it."""

    fixed: Fixed | None
    numbers: Numbers | None

    def over(self, row: tuple[Fixed, Numbers] | None) -> tuple[Fixed, Numbers] | None:
        """The whole row, given the table's; None if there is no such object."""
        fixed = self.fixed if self.fixed is not None else row[0] if row is not None else None
        numbers = self.numbers if self.numbers is not None else row[1] if row is not None else None
        return (fixed, numbers) if fixed is not None and numbers is not None else None

    @property
    def whole(self) -> tuple[Fixed, Numbers] | None:
        """The whole row, if none of it must be read."""
        return self.over(None)


KnownSession = Known[NewSession, SessionNumbers]
KnownRun = Known[NewRun, RunNumbers]


@dataclass(frozen=True, slots=True)
class KnownWait(Known[NewWait, WaitNumbers]):
    """A wait's; `assigned` whom it concerns by now, if that is another than its row says."""

    assigned: tuple[str | None] | None = None

    def over(self, row: tuple[NewWait, WaitNumbers] | None) -> tuple[NewWait, WaitNumbers] | None:
        """As `Known.over`."""
        whole = Known.over(self, row)
        if whole is None or self.assigned is None:
            return whole
        return replace(whole[0], assignee=self.assigned[0]), whole[1]


class Unwritten:
    """The projections that are not in the tables yet.

    Args:
        layers: The newest first: the one that is gathered, and the one that is being written, if one is.
        heads: The index's, from which a session's changing half is made.
    """

    def __init__(self, layers: Sequence[Projection], heads: Mapping[str, Head]) -> None:
        self._layers = layers
        self._heads = heads

    def session(self, session_id: str) -> KnownSession:
        """What is known of a session."""
        is_touched = any(session_id in layer.touched for layer in self._layers)
        return Known(
            self._first(lambda layer: layer.new_sessions.get(session_id)),
            session_numbers(self._heads[session_id]) if is_touched else None,
        )

    def run(self, run_id: str) -> KnownRun:
        """What is known of a run."""
        return Known(
            self._first(lambda layer: layer.new_runs.get(run_id)),
            self._first(lambda layer: layer.runs.get(run_id)),
        )

    def wait(self, wait_id: str) -> KnownWait:
        """What is known of a wait."""
        return KnownWait(
            self._first(lambda layer: layer.new_waits.get(wait_id)),
            self._first(lambda layer: layer.waits.get(wait_id)),
            self._first(lambda layer: layer.assigned.get(wait_id)),
        )

    def send_key(self, session_id: str, stream: str, key_hash: str) -> SendKeyRow | None:
        """What an idempotency key was used for, if that is not in the tables yet."""
        return self._first(lambda layer: layer.send_keys.get((session_id, stream, key_hash)))

    def _first(self, look: Callable[[Projection], T | None]) -> T | None:
        return next((found for layer in self._layers if (found := look(layer)) is not None), None)
