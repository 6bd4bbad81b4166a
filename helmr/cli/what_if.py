"""`helmr session what-if`: what would have become of recorded sessions with this code."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, Json, command
from helmr.errors import TaskNotFound, UsageError

if TYPE_CHECKING:
    from helmr_runtime.core.session_file import RecordedSession

SUMMARY_COLUMNS = ("THEN", "NOW", "SESSIONS")
CHANGED_COLUMNS = ("SESSION", "THEN", "NOW", "WHY IT IS UNKNOWN")
CHANGED_MAX = 50
"""Sessions that are listed one by one; `--json` has all."""


def register(app: typer.Typer) -> None:
    """Add the command to the group `session`."""
    command(app, "what-if", examples="helmr session what-if october/*.jsonl --tasks tasks.py")(
        what_if
    )


def what_if(
    cli: Cli,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Session files of one task."),
    ],
    tasks: Annotated[
        list[str],
        typer.Option(
            "--tasks", metavar="TASKS", help="A file or dotted module with tasks; may be repeated."
        ),
    ],
    json: Json = False,
) -> None:
    """Replay recorded sessions with this code and the answers that they got: what would have become of each?

    Nothing acts: steps give what was recorded. Needs no runtime.
    """
    from helmr.experiments import replay
    from helmr.testing.recorded import read
    from helmr_runtime.catalog import load_registry

    sessions = [read(file) for file in files]
    task_id = _task_of(sessions)
    with redirect_stdout(sys.stderr):  # what the code prints is not the answer
        registry, _ = load_registry(tuple(tasks), folder=Path.cwd())
        known = registry.tasks.get(task_id)
        if known is None:
            there = ", ".join(sorted(registry.tasks))
            raise TaskNotFound(f"no task {task_id} is in {', '.join(tasks)}; there are: {there}")
        rows = replay(sessions, task=known.task).session_rows()
    if json:
        printing.write_json({"items": rows, "next_cursor": None})
        return
    _show(rows)


def _task_of(sessions: list[RecordedSession]) -> str:
    found = sorted({one.task for one in sessions})
    if len(found) != 1:
        raise UsageError(
            f"these are sessions of the tasks {', '.join(found)}", hint="Name files of one task."
        )
    return found[0]


def _show(rows: list[dict[str, Any]]) -> None:
    pairs = [(_told(row, "old_"), _told(row, "")) for row in rows]
    counts = Counter(pairs)
    printing.table(SUMMARY_COLUMNS, [(*pair, counts[pair]) for pair in sorted(counts)])
    others = [row for row in rows if row["changed"] is not False]
    if not others:
        return
    printing.write("")
    printing.table(
        CHANGED_COLUMNS,
        [
            (row["session_id"], _told(row, "old_"), _told(row, ""), row["problem"])
            for row in others[:CHANGED_MAX]
        ],
    )
    if len(others) > CHANGED_MAX:
        printing.note(f"{len(others) - CHANGED_MAX} more are not the same: --json has all")


def _told(row: dict[str, Any], prefix: str) -> str:
    what = row[f"{prefix}result"] or row[f"{prefix}error"]
    return f"{row[f'{prefix}status']} {what}" if what else str(row[f"{prefix}status"])
