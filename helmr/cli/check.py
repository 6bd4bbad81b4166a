"""`helmr check`: would this code block runs that have not ended?"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmr import hash_seed
from helmr.cli import extras, printing
from helmr.cli.app import Cli, Json, command
from helmr.cli.exit_codes import ExitCode
from helmr.cli.up import LEDGER_NAME, named_tasks
from helmr.errors import RuntimeNotFound

if TYPE_CHECKING:
    from helmr.models import RunCheck
    from helmr_runtime.catalog import Registry

EXAMPLES = """\
helmr check tasks.py
helmr check billing.tasks --url https://helmr.example --key-file admin.key --json"""

COLUMNS = ("RUN", "SESSION", "TASK", "STATUS", "VERDICT", "WHY")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "check", examples=EXAMPLES)(check)


def check(
    cli: Cli,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASKS…",
            help="Files or dotted modules with tasks; else `[tool.helmr] tasks` of pyproject.toml.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Replay every run that has not ended with this code, and say which it would block; changes nothing.

    The code runs here, up to where each run is, and no step of it. Without a running runtime the data directory is
    read. Ends with 5 if any run does not fit.
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
        with extras.needed("runtime"):
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
