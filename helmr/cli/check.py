"""`helmr check` and `helmr session what-if`: what code would do to runs, and would have done to recorded sessions."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr import hash_seed
from helmr.cli import printing
from helmr.cli.app import Cli, ExitCode, Json, command
from helmr.cli.up import LEDGER_NAME, Tasks, named_tasks
from helmr.errors import RuntimeNotFound, TaskNotFound, UsageError
from helmr.version import needed

if TYPE_CHECKING:
    from helmr.models import RunCheck
    from helmr_runtime.catalog import Registry
    from helmr_runtime.core.session_file import RecordedSession


EXAMPLES = """\
helmr check tasks.py
helmr check billing.tasks --url https://helmr.example --key-file admin.key --json"""

COLUMNS = ("RUN", "SESSION", "TASK", "STATUS", "VERDICT", "WHY")


def register_check(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "check", examples=EXAMPLES)(check)


def check(
    cli: Cli,
    tasks: Tasks = None,
    json: Json = False,
) -> None:
    """Replay with this code every run that has not ended, and say which runs it would block; changes nothing.

    The code runs here, up to where each run is, but none of its steps. Without a running runtime, it reads the data
    directory. It ends with 5 if any run does not fit.
    """
    if (place := _data_dir(cli)) is not None:
        hash_seed.start_with_seed(place, makes_one=False)
    with contextlib.redirect_stdout(sys.stderr):  # what the code prints is not the answer
        from helmr_runtime.catalog import load_registry

        registry, _ = load_registry(tuple(named_tasks(tasks)), folder=Path.cwd())
        checks = asyncio.run(_checks(cli, registry))
    if json:
        printing.write_json_list(checks, None)
    else:
        _show(checks)
    if not all(one.fits for one in checks):
        raise typer.Exit(ExitCode.CONFLICT)


async def _checks(cli: Cli, registry: Registry) -> list[RunCheck]:
    from helmr_runtime.launchers.check import RemoteJournals, check_runs

    try:
        client = cli.async_client()
    except RuntimeNotFound:
        data_dir = _stopped(cli)
        if data_dir is None:
            raise
        with needed("runtime"):
            from helmr_runtime.launchers.check import stored_journals
        async with stored_journals(data_dir, printing.note) as journals:
            return await check_runs(journals, registry)
    async with client:
        return await check_runs(RemoteJournals(client), registry)


def _data_dir(cli: Cli) -> Path | None:
    from helmr.client.discovery import nearest_data_dir

    return cli.data_dir or nearest_data_dir(Path.cwd())


def _stopped(cli: Cli) -> Path | None:
    """The data directory that is meant, if it holds sessions."""
    data_dir = _data_dir(cli)
    is_there = data_dir is not None and (data_dir / LEDGER_NAME).is_file()
    return data_dir if is_there else None


def _show(checks: Sequence[RunCheck]) -> None:
    unfit = [one for one in checks if not one.fits]
    if unfit:
        printing.table(COLUMNS, [_row(one) for one in unfit])
    drift = [(one.run_id, line) for one in checks for line in one.drift]
    if drift:
        printing.table(("RUN", "DRIFT"), drift)
    counts = Counter(one.verdict for one in checks)
    told = ", ".join(f"{count} {verdict.value}" for verdict, count in sorted(counts.items()))
    noun = "run has" if len(checks) == 1 else "runs have"
    printing.note(f"{len(checks)} {noun} not ended" + (f": {told}" if told else ""))


def _row(one: RunCheck) -> tuple[object, ...]:
    return one.run_id, one.session_id, one.task, one.status, one.verdict, _why(one)


def _why(one: RunCheck) -> str | None:
    if one.recorded is not None:
        at = f" at {one.place}" if one.place is not None else ""
        text = f"op {one.op}: the journal has {one.recorded}, the code asks for {one.met}{at}"
        return f"{text}{_renamed(one.recorded, one.met or '')}"
    if one.message is not None:
        return f"op {one.op}: {one.message}" if one.op is not None else one.message
    return None


def _renamed(recorded: str, met: str) -> str:
    """What makes the journal fit, should the step only have another name now."""
    kinds = (recorded.partition(" ")[0], met.partition(" ")[0])
    if kinds != ("step", "step"):
        return ""
    return f'; if it was renamed: @step(formerly=["{recorded.partition(" ")[2]}"])'


SUMMARY_COLUMNS = ("THEN", "NOW", "SESSIONS")
CHANGED_COLUMNS = ("SESSION", "THEN", "NOW", "WHY IT IS UNKNOWN")
CHANGED_MAX = 50
"""Sessions that are listed one by one; `--json` has all."""


def register_what_if(app: typer.Typer) -> None:
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

    No step runs: each gives its recorded outcome. Needs no runtime.
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
    _show_what_if(rows)


def _task_of(sessions: list[RecordedSession]) -> str:
    found = sorted({one.task for one in sessions})
    if len(found) != 1:
        raise UsageError(
            f"these are sessions of the tasks {', '.join(found)}", hint="Name files of one task."
        )
    return found[0]


def _show_what_if(rows: list[dict[str, Any]]) -> None:
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
            (row["session_id"], _told(row, "old_"), _told(row, ""), _unknown(row))
            for row in others[:CHANGED_MAX]
        ],
    )
    if len(others) > CHANGED_MAX:
        printing.note(f"{len(others) - CHANGED_MAX} more are not the same: --json has all")


def _unknown(row: dict[str, Any]) -> str | None:
    is_unasked = row["changed"] is None and row["not_asked"] > 0
    return row["problem"] or ("its model was not asked" if is_unasked else None)


def _told(row: dict[str, Any], prefix: str) -> str:
    what = row[f"{prefix}result"] or row[f"{prefix}error"]
    return f"{row[f'{prefix}status']} {what}" if what else str(row[f"{prefix}status"])
