"""`replay`: what would have become of recorded sessions with other code, or other answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from helmr.errors import UsageError
from helmr.experiments.progress import Tell
from helmr.experiments.results import frame
from helmr.experiments.what_if import Change, ReplayRow, WhatIf
from helmr.testing.recorded import RecordedRun, Recording, newest_run, read

if TYPE_CHECKING:
    import polars

REPLAY_TYPES = {
    "session": "Int64",
    "session_id": "String",
    "old_status": "String",
    "old_result": "String",
    "old_error": "String",
    "old_duration_s": "Float64",
    "status": "String",
    "result": "String",
    "error": "String",
    "duration_s": "Float64",
    "changed": "Boolean",
    "waits": "Int64",
    "kept": "Int64",
    "asked": "Int64",
    "timed_out": "Int64",
    "problem": "String",
}
"""Columns of `Replays.sessions()`, with polars types."""


class Replays:
    """What became of each session then and now.

    Args:
        rows: A row per session.
    """

    def __init__(self, rows: Iterable[ReplayRow]) -> None:
        self._rows = [asdict(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        changed = sum(row["changed"] is True for row in self._rows)
        return f"<Replays {len(self._rows)} sessions, {changed} changed>"

    def session_rows(self) -> list[dict[str, Any]]:
        """A dict per session, in the order given; needs no extra."""
        return [dict(row) for row in self._rows]

    def sessions(self) -> polars.DataFrame:
        """A row per session: `REPLAY_TYPES`. Results are JSON, spans seconds.

        Raises:
            MissingExtra: polars is not installed.
        """
        return frame(self._rows, REPLAY_TYPES)


def recorded_runs(sessions: Iterable[Recording], task_id: str) -> list[RecordedRun]:
    """The newest runs of these sessions.

    Raises:
        UsageError: One of them has none, or is of another task.
        SessionFileDamaged: A file is not as it was written.
    """
    runs = [newest_run(read(one)) for one in sessions]
    for one in runs:
        if one.session.task != task_id:
            raise UsageError(
                f"{one.session.id} is a session of the task {one.session.task}, not of {task_id}"
            )
    return runs


async def replay_all(runs: Sequence[RecordedRun], change: Change, *, tell: Tell) -> list[ReplayRow]:
    """Replay one after the other."""
    rows = []
    for number, recorded in enumerate(runs):
        rows.append(await WhatIf(number, recorded, change).replay())
        tell(number + 1)
    return rows
