"""`helmr prune`: remove old sessions that have ended from the ledger."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from helmr.cli import bulk, printing
from helmr.cli.app import Cli, Json, command
from helmr.cli.toolbox import keys_of, locked, nearest, stopped_data_dir
from helmr.cli.up import LEDGER_NAME
from helmr.errors import RuntimeNotFound, UsageError
from helmr.models import BulkVerb, PruneReceipt
from helmr.version import needed
from helmr.wire import durations

BETWEEN_PAGES_S = 0.05
"""Pause in which other commits can run, in seconds."""


def register_pruning(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "prune", examples=EXAMPLES)(prune)


EXAMPLES = """\
helmr prune --older-than 90d --dry-run
helmr prune --older-than 90d --reason "kept for a quarter"
helmr prune --filter 'task:crawl status:closed quiet>7d' --preview"""


def prune(
    cli: Cli,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            help="How long ago a session's last entry was written, as in `90d`; at least a day.",
        ),
    ] = None,
    archive: Annotated[
        bool,
        typer.Option(
            "--archive/--no-archive",
            help="First write them to Parquet files in the data directory's folder `pruned`.",
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing; say how many would go.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="What the ledger's entry says.")
    ] = None,
    filter_: bulk.Words = None,
    batch: bulk.Batch = None,
    preview: bulk.Preview = False,
    yes: bulk.Yes = False,
    undo_for: bulk.UndoFor = None,
    json: Json = False,
) -> None:
    """Remove old sessions that have ended from a runtime's or a data directory's ledger; needs the role admin.

    With --filter or --batch, those that it finds in a runtime and that ended a day ago, each shown first. Parents and
    children go together. docs/toolbox.md says which old sessions stay.
    """
    if filter_ is not None or batch is not None:
        if older_than is not None or dry_run or not archive:
            raise UsageError(
                "--older-than, --dry-run and --no-archive do not go with --filter and --batch",
                hint="Say the age in the filter, quiet>90d, and look with --preview.",
            )
        said = bulk.BulkWords(
            every=True, words=filter_, batch=batch, preview=preview, yes=yes, undo_for=undo_for
        )
        with cli.client(is_patient=True) as client:
            raise typer.Exit(bulk.do(cli, client, BulkVerb.PRUNE, said, json=json, reason=reason))
    if preview or yes or undo_for is not None:
        raise UsageError("--preview, --yes and --undo-for go with --filter", hint="Say --filter.")
    if older_than is None:
        raise UsageError("nothing says what to prune", hint="Give --older-than, or --filter.")
    age_s = durations.seconds(older_than)
    sessions = entries = 0
    archives: list[str] = []
    for page in _pages(cli, age_s, archive=archive, dry_run=dry_run, reason=reason):
        sessions += page.sessions
        entries += page.entries
        archives += [page.archive] if page.archive is not None else []
    found = {"sessions": sessions, "entries": entries, "archives": archives}
    if json:
        printing.write_json({**found, "dry_run": dry_run})
        return
    printing.fields([("sessions", sessions), ("entries", entries), ("archives", len(archives))])
    if dry_run:
        printing.note("helmr: nothing was removed")


def _pages(
    cli: Cli, age_s: float, *, archive: bool, dry_run: bool, reason: str | None
) -> Iterator[PruneReceipt]:
    """Prune page by page, through the runtime or in its stopped data directory.

    Raises:
        UsageError: `--data-dir` names another runtime than HELMR_URL does, and what is removed stays removed.
    """
    if cli.url is None and cli.data_dir is not None and "HELMR_URL" in os.environ:
        from helmr.client.discovery import with_process

        meant = with_process(cli.endpoint()).data_dir
        if meant is None or Path(meant).resolve() != cli.data_dir.resolve():
            raise UsageError(
                f"--data-dir {cli.data_dir} and HELMR_URL name two runtimes",
                hint="Unset HELMR_URL to prune that directory; or leave --data-dir out.",
            )
    try:
        client = cli.client()
    except RuntimeNotFound:
        if nearest(cli) is None:
            raise
        yield from _stored(cli, age_s, archive=archive, dry_run=dry_run, reason=reason)
        return
    with client:
        while True:
            page = client.prune(age_s, archive=archive, dry_run=dry_run, reason=reason)
            yield page
            if page.is_last:
                return
            time.sleep(BETWEEN_PAGES_S)


def _stored(
    cli: Cli, age_s: float, *, archive: bool, dry_run: bool, reason: str | None
) -> list[PruneReceipt]:
    with needed("local"):
        from helmr_runtime.clock import SystemClock
        from helmr_runtime.core.commands import Prune
        from helmr_runtime.core.entries import Principal
        from helmr_runtime.ledger.tools.prune import prune_stored

    wanted = Prune(
        principal=Principal("runtime", name="helmr prune"),
        age_s=age_s,
        is_archived=archive,
        is_dry_run=dry_run,
        reason=reason,
    )
    data_dir = stopped_data_dir(cli)
    keys = keys_of(None, data_dir)

    async def pages() -> list[PruneReceipt]:
        found = prune_stored(data_dir / LEDGER_NAME, keys, SystemClock(), wanted)
        return [
            PruneReceipt(
                sessions=page.sessions,
                entries=page.entries,
                is_last=page.is_last,
                archive=page.archive,
            )
            async for page in found
        ]

    with locked(data_dir):
        return asyncio.run(pages())
