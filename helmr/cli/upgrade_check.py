"""`helmr upgrade-check`: what this version of Helmr would meet here if it started in place of the one that runs.

Like `helmr doctor`, the first half judges and the second half looks. Nothing is written: a ledger of an earlier schema
is read, and the older version can still open it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from helmr import hash_seed
from helmr.cli import doctor
from helmr.cli.app import Cli, Json, command
from helmr.cli.check import checks_of
from helmr.cli.config import built_in_tasks, log_url_of, tasks_of_project
from helmr.cli.doctor import CheckResult, Finding, from_error
from helmr.cli.up import LEDGER_NAME
from helmr.cli.up_options import Tasks
from helmr.errors import HelmrError, RuntimeHeld, RuntimeNotFound
from helmr.version import version
from helmr.wire.durations import spell, spell_bytes

if TYPE_CHECKING:
    from helmr.models import RunCheck
    from helmr_runtime.catalog import Registry


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """Facts that a ledger's file states about itself.

    Attributes:
        entries: Number of entries.
        schema: Its schema version.
        todays_schema: Schema version that this version of Helmr writes.
        writer: The version that opened it last; None before 0.2.0.
        size_bytes: Size of the file.
    """

    entries: int
    schema: int
    todays_schema: int
    writer: str | None
    size_bytes: int

    @property
    def is_migrated(self) -> bool:
        """True if the first start of this version migrates the ledger."""
        return self.schema < self.todays_schema


# --- judging ----------------------------------------------------------------------------------------

BACKUP_HINT = "Take a backup before the start: `helmr backup FILE`. It is the only way back."


def judge_step(before: str | None, own: str) -> Finding:
    """Judge the step from one version to another.

    Args:
        before: The version that runs, or opened the ledger last; None if unknown.
        own: The version of this command.
    """
    if before is None:
        return Finding("version", CheckResult.OK, f"{own}; nothing here says which ran before")
    text = f"from {before} to {own}"
    old, new = _numbers(before), _numbers(own)
    if old > new:
        todo = f"Use {before} or later: an older version refuses the data of a newer one."
        return Finding("version", CheckResult.FAIL, text, todo)
    if old[:1] != new[:1] or new[1:2] > (old[1] + 1,):
        todo = "Read *Changed* in the changelog of each version between: old names go after one."
        return Finding("version", CheckResult.WARN, text, todo)
    return Finding("version", CheckResult.OK, text if before != own else f"{own}, as before")


def _numbers(text: str) -> tuple[int, int, int]:
    """Major, minor and patch; what a release candidate adds counts as nothing."""
    found = [int(one) for one in re.findall(r"\d+", text)[:3]]
    major, minor, patch = (*found, 0, 0, 0)[:3]
    return major, minor, patch


def judge_ledger(found: StoredFacts, migration_s: float) -> Finding:
    """Judge the ledger: this version opens it as it is, or migrates it in about `migration_s` seconds."""
    text = f"{found.entries:,} entries, schema {found.schema}"
    if not found.is_migrated:
        return Finding("ledger", CheckResult.OK, f"{text}: opens as it is")
    text = f"{text}: the first start migrates it to {found.todays_schema}, in about {spell(max(1, round(migration_s)))}"
    return Finding("ledger", CheckResult.WARN, text, BACKUP_HINT)


def judge_held(before: str | None, own: str) -> Finding:
    """Judge a ledger that a runtime of the version `before` has open. A patch version changes no schema."""
    text = "the runtime has it open"
    if before is not None and _numbers(before)[:2] == _numbers(own)[:2]:
        return Finding("ledger", CheckResult.OK, f"{text}; {own} opens it as it is")
    todo = f"{BACKUP_HINT} Stopped (`helmr down`), this command reads it too."
    return Finding("ledger", CheckResult.WARN, f"{text}: its schema was not read", todo)


def judge_room(free: int, needed: float) -> Finding:
    """Judge the free disk, in bytes: a migration writes a second file."""
    text = f"{spell_bytes(free)} free, the migration needs {spell_bytes(int(needed))}"
    if free < needed:
        return Finding("room", CheckResult.FAIL, text, "Make room before the start.")
    return Finding("room", CheckResult.OK, text)


def why_unread(stored: StoredFacts | None, store: str | None) -> str | None:
    """Explain why stored runs can't be replayed; None if they can.

    Args:
        stored: Facts of the ledger's file; None if there is none, or a runtime has it open.
        store: The store that holds the commits in place of the data directory, if no runtime answers for it.
    """
    if store is not None:
        return f"the commits are in {store}, and no runtime runs"
    if stored is not None and stored.is_migrated:
        return "to open the ledger would migrate it"
    return None


def judge_runs(checks: Sequence[RunCheck]) -> Finding:
    """Judge the runs that have not ended, as this code would resume them."""
    counts = Counter(one.verdict for one in checks)
    told = ", ".join(f"{count} {verdict.value}" for verdict, count in sorted(counts.items()))
    if not checks:
        return Finding("runs", CheckResult.OK, "none that has not ended")
    if all(one.fits for one in checks):
        return Finding("runs", CheckResult.OK, told)
    return Finding("runs", CheckResult.FAIL, told, "`helmr check` says of each run what differs.")


def judge_warnings(told: Sequence[str]) -> Iterator[Finding]:
    """Judge the deprecation warnings that importing the tasks raised, in any package."""
    for one in dict.fromkeys(told):
        yield Finding("deprecated", CheckResult.WARN, one, "Use the name of today before it goes.")
    if not told:
        yield Finding("deprecated", CheckResult.OK, "importing the tasks warns of nothing")


# --- looking ----------------------------------------------------------------------------------------

EXAMPLES = """\
helmr upgrade-check tasks.py
helmr upgrade-check billing.tasks --data-dir /var/lib/helmr --json"""


def register_upgrade_check(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "upgrade-check", examples=EXAMPLES)(upgrade_check)


def upgrade_check(cli: Cli, tasks: Tasks = None, json: Json = False) -> None:
    """Say before an upgrade what this version would meet here: data, helmr.toml, code, runs that wait; changes nothing.

    Run it with the new version, installed beside the old one, while that runs or after it was stopped. It ends with 5
    if something fails.
    """
    hash_seed.start_with_seed(doctor.meant_data_dir(cli), makes_one=False)
    doctor.show(list(look(cli, tasks)), json)


def look(cli: Cli, tasks: list[str] | None) -> Iterator[Finding]:
    """Run every check, in the order in which one needs another."""
    data_dir = doctor.meant_data_dir(cli)
    running = _running(cli)
    store = _store(data_dir)
    stored: StoredFacts | None = None
    ledger = Finding("ledger", CheckResult.OK, f"none in {data_dir}")
    if store is not None:
        text = f"commits are in {store}, and are read at the start"
        ledger = Finding("ledger", CheckResult.OK, text)
    elif not doctor.missing_modules() and (data_dir / LEDGER_NAME).is_file():
        try:
            stored, ledger = _stored(data_dir, running)
        except HelmrError as error:
            ledger = from_error("ledger", error)
    before = stored.writer if running is None and stored is not None else running
    yield judge_step(before, version())
    yield from doctor.look_at_installation(data_dir)
    yield ledger
    if stored is not None and stored.is_migrated:
        from helmr_runtime.ledger.log.carry_over import ROOM

        yield judge_room(shutil.disk_usage(data_dir).free, ROOM * stored.size_bytes)
    if not doctor.missing_modules():
        unread = why_unread(stored, store if running is None else None)
        yield from _code(cli, tasks, data_dir, unread)


def _running(cli: Cli) -> str | None:
    """The version of the runtime that is meant; None if there is none that answers."""
    try:
        with cli.client() as client:
            return client.health().version
    except HelmrError:
        return None


def _store(data_dir: Path) -> str | None:
    """Name the store that holds the commits; None for the data directory, or if helmr.toml can't be read."""
    with suppress(HelmrError):  # told as a fault of helmr.toml
        if log_url_of(None, data_dir) is not None:
            return "the store that [log] names"
    if doctor.missing_modules():
        return None
    from helmr_runtime.ledger.log.snapshots import store_of

    return store_of(data_dir / LEDGER_NAME)  # `helmr up --log` says it on the command line only


def _stored(data_dir: Path, before: str | None) -> tuple[StoredFacts | None, Finding]:
    from helmr_runtime.ledger.log.carry_over import ENTRIES_A_SECOND
    from helmr_runtime.ledger.log.stored import stored_ledger
    from helmr_runtime.ledger.tables.schema import SCHEMA, written_by

    path = data_dir / LEDGER_NAME
    try:
        with stored_ledger(path) as one:
            entries, size_bytes = one.count(), path.stat().st_size
            found = StoredFacts(entries, one.schema, SCHEMA, written_by(one.file), size_bytes)
    except RuntimeHeld:
        return None, judge_held(before, version())
    return found, judge_ledger(found, found.entries / ENTRIES_A_SECOND)


def _code(
    cli: Cli, tasks: list[str] | None, data_dir: Path, unread: str | None
) -> Iterator[Finding]:
    """Check the tasks for deprecations, and against waiting runs unless those can't be read."""
    try:
        named = tasks or tasks_of_project(Path.cwd())
        named = [*named, *built_in_tasks(None, data_dir)]
        if not named:
            text = "no tasks are named, so waiting runs were not replayed"
            todo = "Name them: `helmr upgrade-check tasks.py`."
            yield Finding("runs", CheckResult.WARN, text, todo)
            return
        with redirect_stdout(sys.stderr):  # what the code prints is not the answer
            registry, told = _loaded(named)
            yield from judge_warnings(told)
            if unread is not None:
                todo = "Run this command while the older version runs."
                yield Finding("runs", CheckResult.WARN, f"not replayed: {unread}", todo)
                return
            yield judge_runs(asyncio.run(checks_of(cli, registry)))
    except RuntimeNotFound:
        yield Finding("runs", CheckResult.OK, "none: nothing is stored here")
    except HelmrError as error:
        yield from_error("runs", error)


def _loaded(named: Sequence[str]) -> tuple[Registry, list[str]]:
    """The tasks, and what their import warned of as deprecated."""
    from helmr_runtime.catalog import load_registry

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registry, _ = load_registry(tuple(dict.fromkeys(named)), folder=Path.cwd())
    kinds = (DeprecationWarning, FutureWarning)  # PendingDeprecationWarning: not yet
    return registry, [str(one.message) for one in caught if issubclass(one.category, kinds)]
