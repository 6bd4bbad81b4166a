"""Checks code against runs (`helmr check`) and sessions (`helmr session what-if`, `helmr experiment`)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from helmr import hash_seed
from helmr.cli import printing
from helmr.cli.app import Cli, ExitCode, Json, command
from helmr.cli.config import built_in_tasks, named_tasks
from helmr.cli.up import LEDGER_NAME
from helmr.cli.up_options import Tasks
from helmr.errors import BadDefinition, HelmrError, RuntimeNotFound, TaskNotFound, UsageError
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

        named = named_tasks(tasks, also=built_in_tasks(None, place or hash_seed.DATA_DIR))
        registry, _ = load_registry(tuple(named), folder=Path.cwd())
        checks = asyncio.run(checks_of(cli, registry))
    if json:
        printing.write_json_list(checks, None)
    else:
        _show(checks)
    if not all(one.fits for one in checks):
        raise typer.Exit(ExitCode.CONFLICT)


async def checks_of(cli: Cli, registry: Registry) -> list[RunCheck]:
    """Dry-run a resume with this code for each run of the runtime, or of the stopped data directory.

    Raises:
        RuntimeNotFound: There is neither.
        UsageError: The data directory's ledger is of an earlier schema; to open it would migrate it.
    """
    from helmr_runtime.launchers.check import RemoteJournals, check_runs

    try:
        client = cli.async_client()
    except RuntimeNotFound:
        data_dir = _stopped(cli)
        if data_dir is None:
            raise
        with needed("local"):
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
    """Return the hint that makes the journal fit a step that was only renamed; empty if no hint applies."""
    kinds = (recorded.partition(" ")[0], met.partition(" ")[0])
    if kinds != ("step", "step"):
        return ""
    before, now = recorded.partition(" ")[2], met.partition(" ")[2]
    agent, of_agent, rest = before.partition("__")
    if of_agent and rest == now.partition("__")[2]:
        return f'; if the agent was renamed: HelmrDurability(name="{agent}")'
    if before.startswith("node."):
        return f'; if it was renamed: durable(…, formerly=["{before}"])'
    if before.startswith("tool.") or before.endswith("model.request") or ".call_tool:" in before:
        return "; an adapter names this step for agent and tool: keep their names until the run has ended"
    return f'; if it was renamed: @step(formerly=["{before}"])'


SUMMARY_COLUMNS = ("THEN", "NOW", "SESSIONS")
CHANGED_COLUMNS = ("SESSION", "THEN", "NOW", "WHY IT IS UNKNOWN")
CHANGED_MAX = 50
"""Sessions that are listed one by one; `--json` has all."""


Runs = Literal["newest", "all"]


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
    runs: Annotated[
        Runs, typer.Option("--runs", help="Of each session the newest run, or a row for each run.")
    ] = "newest",
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
        results = replay(sessions, task=known.task, runs=runs)
    rows = results.session_rows()
    if json:
        left_out = {"left_out": results.left_out}
        printing.write_json({"items": rows, "next_cursor": None, **left_out})
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


EXPERIMENT_EXAMPLES = """\
helmr experiment evals.py
helmr experiment evals.py new_prompt --rows questions
helmr experiment evals.py --rows steps --json"""


class RowsOf(StrEnum):
    """The subject of each row."""

    SESSIONS = "sessions"
    STEPS = "steps"
    QUESTIONS = "questions"
    AGREEMENT = "agreement"
    WAITS = "waits"


def register_experiment(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "experiment", examples=EXPERIMENT_EXAMPLES, finds_runtime=False)(experiment)


def experiment(
    cli: Cli,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file or dotted module.")],
    function: Annotated[
        str, typer.Argument(metavar="FUNCTION", help="Takes nothing and gives the results.")
    ] = "experiment",
    rows: Annotated[
        RowsOf | None,
        typer.Option("--rows", help="Print these rows instead of the summary."),
    ] = None,
    json: Json = False,
) -> None:
    """Call a function that runs an experiment or replays recorded sessions, and print what it gives.

    The function takes nothing, and gives the results of `run`, `sweep` or `replay`, or an Experiment, which is run.
    """
    with redirect_stdout(sys.stderr):  # what the code prints is not the answer
        results = _results(file, function)
    found = _rows_of(results, rows or RowsOf.SESSIONS)
    stopped = getattr(results, "stopped", None)
    if json:
        items = [{name: _plain(value) for name, value in row.items()} for row in found]
        more = {}
        if hasattr(results, "spent"):
            more = {"stopped": stopped, "spent": results.spent, "left_out": results.left_out}
        printing.write_json({"items": items, "next_cursor": None, **more})
        return
    if rows is not None:
        columns = list(found[0]) if found else []
        printing.table([name.upper() for name in columns], [list(row.values()) for row in found])
    elif hasattr(results, "agreement_rows"):
        _show_what_if(found)
        compared = [row for row in results.agreement_rows() if row["compared"]]
        if compared:
            printing.write("")
            printing.table(AGREEMENT_COLUMNS, [_agreement(row) for row in compared])
        if results.spent:
            printing.note(f"The answers of models cost {results.spent:.4g}.")
    else:
        _show_simulated(found)
    if stopped is not None:
        printing.note(stopped[0].upper() + stopped[1:] + ".")


AGREEMENT_COLUMNS = ("STREAM", "PEOPLE DECIDED", "COMPARED", "AGREED", "SHARE")


def _agreement(row: dict[str, Any]) -> tuple[object, ...]:
    numbers = (row["answered_then"], row["compared"], row["agreed"])
    return row["stream"], *numbers, f"{row['share']:.0%}"


def _results(file: str, function: str) -> Any:
    """Call the file's function and return its results.

    Raises:
        BadDefinition: The file can't be imported.
        UsageError: It has no such function, or that gives something else.
    """
    from helmr.experiments import Experiment, Results, run
    from helmr.experiments.replays import Replays
    from helmr_runtime.catalog import load_module

    try:
        module = load_module(file, folder=Path.cwd())
    except HelmrError:
        raise
    except (Exception, SystemExit) as error:  # the user's code: whatever it raises is its own
        raise BadDefinition(f"{file} can't be imported: {type(error).__name__}: {error}") from error
    made = getattr(module, function, None)
    if not callable(made):
        raise UsageError(
            f"{file} has no function {function}",
            hint="Name one that takes nothing: helmr experiment FILE FUNCTION.",
        )
    try:
        inspect.signature(made).bind()
    except TypeError as error:
        raise UsageError(f"{function} of {file} takes arguments: {error}") from error
    given = made()
    if isinstance(given, Experiment):
        given = run(given)
    if not isinstance(given, Results | Replays):
        raise UsageError(
            f"{function} of {file} gives {type(given).__name__}, not the results of an experiment",
            hint="Return what run(), sweep() or replay() gives, not its frame.",
        )
    return given


def _rows_of(results: Any, rows: RowsOf) -> list[dict[str, Any]]:
    names = {RowsOf.SESSIONS: "session", RowsOf.STEPS: "step", RowsOf.QUESTIONS: "question"}
    names |= {RowsOf.WAITS: "wait", RowsOf.AGREEMENT: "agreement"}
    read = getattr(results, f"{names[rows]}_rows", None)
    if read is None:
        there = ", ".join(one for one in RowsOf if hasattr(results, f"{names[one]}_rows"))
        raise UsageError(f"these results have no {rows}", hint=f"They have {there}.")
    found: list[dict[str, Any]] = read()
    return found


def _show_simulated(rows: Sequence[dict[str, Any]]) -> None:
    """Count the sessions of each setting by their outcome."""
    settings = list(rows[0])[: list(rows[0]).index("session")] if rows else []
    counts = Counter((*(row[name] for name in settings), _told(row, "")) for row in rows)
    columns = [*(name.upper() for name in settings), "CAME TO", "SESSIONS"]
    printing.table(columns, [(*key, count) for key, count in counts.items()])


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
